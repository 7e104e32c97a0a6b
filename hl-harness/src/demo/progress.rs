//! How far a stream has come, on a terminal or in lines.

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{ProgressBar, ProgressStyle};

use super::report::{Report, bytes};
use super::stream::Watch;

/// Shows a stream's progress: a bar on standard error where that is a terminal, four lines of the
/// report where not.
#[derive(Debug)]
pub(super) struct Progress<'r> {
    report: &'r Report,
    bar: Option<ProgressBar>,
    /// Bytes to come, where known.
    total: Option<u64>,
    quarters: AtomicU64,
}

impl<'r> Progress<'r> {
    /// Progress towards `total` bytes.
    #[must_use]
    pub(super) fn new(report: &'r Report, total: Option<u64>) -> Self {
        let bar = (report.talks() && io::stderr().is_terminal()).then(|| {
            let template = match total {
                Some(_) => "   {bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
                None => "   {spinner} {bytes}, {bytes_per_sec}",
            };
            let style = ProgressStyle::with_template(template);
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new);
            bar.with_style(style.progress_chars("=> "))
        });
        Self {
            report,
            bar,
            total,
            quarters: AtomicU64::new(0),
        }
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Watch for Progress<'_> {
    fn consumed(&self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            return;
        }
        let Some(total @ 1..) = self.total else {
            return;
        };
        // A file may have grown since its length was asked for.
        let quarters = (u128::from(done) * 4 / u128::from(total)).min(4) as u64;
        if self.quarters.fetch_max(quarters, Ordering::Relaxed) < quarters {
            let percent = quarters * 25;
            self.report
                .text(format_args!("{percent:>3} %  {}", bytes(done)));
        }
    }
}
