//! The page of a search bench: curves of speed over recall, and tables of figures and costs, in one file that loads
//! nothing.

use std::fmt::Write as _;

use plotters::coord::combinators::IntoLogRange;
use plotters::prelude::*;

use super::figures::{CurvePoint, SearchReport};

type Drawn<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The effort that is a line of its own.
const EXACT: &str = "exact";
const SIZE: (u32, u32) = (860, 460);
const COLOURS: [RGBColor; 6] = [
    RGBColor(31, 90, 166),
    RGBColor(204, 84, 0),
    RGBColor(44, 130, 70),
    RGBColor(150, 60, 150),
    RGBColor(120, 90, 40),
    RGBColor(90, 90, 90),
];
const STYLE: &str = "body{font:15px/1.5 sans-serif;max-width:900px;margin:2em auto;padding:0 1em;color:#222}\
table{border-collapse:collapse;margin:1em 0}td,th{padding:.2em .8em;border-bottom:1px solid #ddd;text-align:right}\
td:first-child,th:first-child{text-align:left}pre{background:#f5f5f5;padding:.6em;white-space:pre-wrap}svg{max-width:100%}";

/// The page as text.
pub(super) fn of(report: &SearchReport, machine: &str) -> Drawn<String> {
    let figures = &report.figures;
    let mut filtered: Vec<&Option<String>> = report.curves.iter().map(|point| &point.filter).collect();
    filtered.dedup();
    filtered.retain(|filter| filter.is_some());
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>akidb bench search</title><style>{STYLE}</style>\n\
         <h1>akidb bench search</h1>\n<p>{} rows of {} dimensions in {} segments, {} queries, k = {}, {} threads, medians of \
         {} rounds. Speeds are searches a second of processor time.</p>\n<pre>{}</pre>\n",
        figures.rows,
        figures.dim,
        figures.segments,
        figures.queries,
        figures.k,
        figures.threads,
        figures.rounds,
        escaped(machine)
    );
    write!(
        html,
        "<h2>Speed over recall</h2>\n{}\n{}\n",
        curves(report, &[&None])?,
        points(report, &[&None])
    )?;
    if !filtered.is_empty() {
        write!(
            html,
            "<h2>Under filters</h2>\n{}\n{}\n",
            curves(report, &filtered)?,
            points(report, &filtered)
        )?;
    }
    write!(html, "<h2>Costs</h2>\n{}\n{}\n", costs(report), parts(report)?)?;
    html.push_str("</html>\n");
    Ok(html)
}

/// One line a filter, and one at the speed of exact search without a filter.
fn curves(report: &SearchReport, filters: &[&Option<String>]) -> Drawn<String> {
    let shown: Vec<&CurvePoint> =
        report.curves.iter().filter(|p| p.effort != EXACT && filters.contains(&&p.filter)).collect();
    let exact = report.figures.exact_scan_cpu_qps.max(0.1);
    let (low, high) =
        shown.iter().fold((exact, exact), |(low, high), p| (low.min(p.cpu_qps), high.max(p.cpu_qps)));
    let least = shown.iter().map(|p| p.recall).fold(0.9, f64::min);
    let left = (least * 20.0).floor() / 20.0;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(76)
            .build_cartesian_2d(left..1.005, (low / 1.6..high * 1.6).log_scale())?;
        chart
            .configure_mesh()
            .x_desc(format!("recall@{}", report.figures.k))
            .y_desc("searches per CPU second")
            .x_label_formatter(&|recall| format!("{recall:.2}"))
            .y_label_formatter(&|qps| format!("{qps:.0}"))
            .light_line_style(WHITE)
            .draw()?;
        chart
            .draw_series(LineSeries::new([(left, exact), (1.0, exact)], BLACK.mix(0.5)))?
            .label("exact search, no filter")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], BLACK.mix(0.5)));
        for (filter, colour) in filters.iter().zip(COLOURS.iter().cycle()) {
            let mut line: Vec<(f64, f64)> =
                shown.iter().filter(|p| &&p.filter == filter).map(|p| (p.recall, p.cpu_qps)).collect();
            line.sort_by(|a, b| a.0.total_cmp(&b.0));
            chart.draw_series(LineSeries::new(line.iter().copied(), colour.stroke_width(2)))?;
            chart
                .draw_series(line.iter().map(|at| Circle::new(*at, 4, colour.filled())))?
                .label(filter.as_deref().unwrap_or("all rows"))
                .legend(|(x, y)| Circle::new((x + 8, y), 4, colour.filled()));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerLeft)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.2))
            .draw()?;
        root.present()?;
    }
    Ok(svg)
}

fn points(report: &SearchReport, filters: &[&Option<String>]) -> String {
    let recall = format!("recall@{}", report.figures.k);
    let header = ["filter", "effort", &recall, "per CPU s", "per wall s"];
    let row = |p: &CurvePoint| {
        vec![
            p.filter.clone().unwrap_or_else(|| "none".to_owned()),
            p.effort.clone(),
            format!("{:.4}", p.recall),
            format!("{:.0}", p.cpu_qps),
            format!("{:.0}", p.wall_qps),
        ]
    };
    table(&header, report.curves.iter().filter(|p| filters.contains(&&p.filter)).map(row))
}

fn costs(report: &SearchReport) -> String {
    let figures = &report.figures;
    let known = |value: Option<u64>| value.map_or_else(|| "not told".to_owned(), |value| value.to_string());
    let rows = [
        ("write, CPU s", format!("{:.2}", figures.ingest_cpu_seconds)),
        ("flush with index, CPU s", format!("{:.2}", figures.build_cpu_seconds)),
        ("flush with index, CPU us a row", format!("{:.1}", figures.build_cpu_us_per_row)),
        ("rows made searchable a CPU s", format!("{:.0}", figures.searchable_rows_per_cpu_second)),
        ("index bytes a row", format!("{:.1}", figures.index_bytes_per_row)),
        ("file over plain f32 and packed payload", format!("{:.3}", figures.file_bytes_over_raw)),
        ("resident memory after searches, MiB", known(figures.rss_mib)),
        ("load before the run", figures.load.to_string()),
    ];
    table(&["cost", "figure"], rows.into_iter().map(|(name, figure)| vec![name.to_owned(), figure]))
}

/// Bytes a row of every part of the files, as bars.
fn parts(report: &SearchReport) -> Drawn<String> {
    let rows = report.figures.rows.max(1) as f64;
    let parts: Vec<(&String, f64)> =
        report.figures.parts.iter().map(|(name, bytes)| (name, *bytes as f64 / rows)).collect();
    let most = parts.iter().map(|(_, bytes)| *bytes).fold(1.0, f64::max);
    let height = 22 * i32::try_from(parts.len()).unwrap_or(0) + 8;
    let mut svg = String::new();
    {
        let size = (SIZE.0, u32::try_from(height).unwrap_or(SIZE.1));
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let text = ("sans-serif", 14).into_font().color(&BLACK);
        for (at, (name, bytes)) in (0..).map(|n: i32| n * 22 + 4).zip(&parts) {
            #[expect(clippy::cast_possible_truncation, reason = "a length in pixels, at most 480")]
            let length = (bytes / most * 480.0) as i32;
            root.draw(&Rectangle::new([(200, at), (200 + length.max(1), at + 16)], COLOURS[0].filled()))?;
            root.draw(&Text::new((*name).clone(), (4, at + 2), text.clone()))?;
            root.draw(&Text::new(format!("{bytes:.1} bytes a row"), (208 + length, at + 2), text.clone()))?;
        }
        root.present()?;
    }
    Ok(svg)
}

fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut html = String::from("<table><tr>");
    header.iter().for_each(|name| html.push_str(&format!("<th>{name}</th>")));
    for row in rows {
        html.push_str("</tr>\n<tr>");
        row.iter().for_each(|cell| html.push_str(&format!("<td>{}</td>", escaped(cell))));
    }
    html.push_str("</tr></table>");
    html
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
