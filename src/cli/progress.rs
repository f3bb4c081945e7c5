use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often it is drawn anew, at the most.
const PAUSE: Duration = Duration::from_millis(100);

/// How far something has come, in one line on standard error if that is a terminal.
#[derive(Clone)]
pub struct Progress(Option<Arc<Bar>>);

struct Bar {
    what: &'static str,
    total: Option<u64>,
    start: Instant,
    state: Mutex<State>,
}

struct State {
    done: u64,
    drawn: Instant,
}

impl Progress {
    /// Of something that has so many bytes, or any number of them.
    pub fn new(what: &'static str, total: Option<u64>) -> Self {
        let start = Instant::now();
        let state = Mutex::new(State { done: 0, drawn: start });
        Self(std::io::stderr().is_terminal().then(|| Arc::new(Bar { what, total, start, state })))
    }

    /// So many bytes more are done.
    pub fn add(&self, bytes: u64) {
        let Some(bar) = &self.0 else { return };
        let mut state = bar.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.done += bytes;
        if state.drawn.elapsed() >= PAUSE {
            state.drawn = Instant::now();
            show(&line(bar.what, state.done, bar.total, bar.start.elapsed()));
        }
    }

    /// Takes the line away.
    pub fn clear(&self) {
        if self.0.is_some() {
            show("");
        }
    }
}

/// Writes over the line. A terminal that is gone is no reason to stop the work.
fn show(line: &str) {
    let _ = write!(std::io::stderr(), "\r\x1b[K{line}");
}

/// `importing 14 %, 41 s left`, or `exporting 12.5 MB, 7 s`.
fn line(what: &str, done: u64, total: Option<u64>, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    match total {
        Some(total) => {
            let part = if total == 0 { 1.0 } else { done as f64 / total as f64 };
            let left = if part == 0.0 { seconds } else { seconds * (1.0 - part) / part };
            format!("{what} {:.0} %, {left:.0} s left", part * 100.0)
        }
        None => format!("{what} {:.1} MB, {seconds:.0} s", done as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_what_is_done_and_what_is_left() {
        let shown = |done, total| line("importing", done, total, Duration::from_secs(10));
        assert_eq!(shown(22_750_000, Some(91_000_000)), "importing 25 %, 30 s left");
        assert_eq!(shown(91_000_000, Some(91_000_000)), "importing 100 %, 0 s left");
        assert_eq!(shown(0, Some(0)), "importing 100 %, 0 s left");
        assert_eq!(shown(1_250_000, None), "importing 1.2 MB, 10 s");
    }
}
