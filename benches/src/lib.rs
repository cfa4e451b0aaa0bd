//! What the benches, the command line and the tests share: a real sample, an independent judge, `.npy` files.
#![forbid(unsafe_code)]

mod drill;
mod exact;
mod mixed;
mod npy;
mod report;
mod sample;
mod search;
mod soak;
mod upsert;
mod vectors;
pub mod wal;

pub use drill::{
    DrillError, OutageFigures, OutagePlan, PoisonFigures, PoisonPlan, Trouble, drill_outage, drill_poison,
};
pub use exact::{cosine_f64, exact_top_k_cosine_f64};
pub use mixed::{fill_mixed, mixed_rows};
pub use npy::{MAX_DIM as NPY_MAX_DIM, Npy, NpyError, read_npy};
pub use report::{Contender, bench_dir, interleaved, machine, median, per_mille, timed};
pub use sample::{
    DEMO_QUERIES, SAMPLE_DIM, SAMPLE_ROWS, Sample, SampleQuery, SampleRow, sample, sample_schema, text_of,
};
pub use search::{
    CurvePoint, OpenParquet, RowsFile, SearchBench, SearchError, SearchFigures, SearchReport, SearchSource,
    SourceRow, SourceRows, bench_search, fill_settings,
};
pub use soak::{
    SoakBench, SoakError, SoakFigures, SoakOpened, SoakSample, SoakSearches, SoakWorkload, bench_soak,
    soak_writer,
};
pub use upsert::{UpsertError, UpsertFigures, Upserts, bench_upsert};
pub use vectors::Vectors;
