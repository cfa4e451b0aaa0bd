//! A progress bar on standard error, only where a person watches.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressStyle};

use super::source::Extent;

/// A bar, or nothing at all.
pub(crate) struct Progress(Option<ProgressBar>);

impl Progress {
    /// A bar of this extent; nothing unless standard error is a terminal.
    pub(crate) fn new(extent: Extent, quiet: bool) -> Self {
        if quiet || !io::stderr().is_terminal() {
            return Self(None);
        }
        let (bar, template) = match extent {
            Extent::Rows(rows) => {
                (ProgressBar::new(rows), "{bar:40} {pos}/{len} rows, {per_sec}, {eta} left")
            }
            Extent::Bytes(bytes) => {
                (ProgressBar::new(bytes), "{bar:40} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left")
            }
            Extent::Unknown => (ProgressBar::new_spinner(), "{spinner} {bytes} read, {bytes_per_sec}"),
        };
        let style = ProgressStyle::with_template(template).expect("the templates are well formed");
        Self(Some(bar.with_style(style)))
    }

    /// So much has been done.
    pub(crate) fn at(&self, position: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(position);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
