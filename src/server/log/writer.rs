use std::io::Write;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::Level;

use super::line::{Line, Style};
use crate::metrics::Counter;

/// The most bytes of lines that wait for the reader of the log. Without a reader further lines are lost, and the
/// inventory continues.
const MAX_WAITING: usize = 4 * 1024 * 1024;

/// The time in which the thread lets lines gather before it writes them. To wake it for nearly every line took 7 of the
/// 18 µs of system time of a read.
const PAUSE: Duration = Duration::from_millis(10);

/// The longest wait for the last lines at the end of the process.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Hands lines to a thread that writes them to standard error, so that no request waits for the reader of the log.
pub struct Writer(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// All lines that were lost.
    lost: Counter,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    /// The number of lines that found no room.
    lost: u64,
    /// Set while the thread waits for a first line.
    idle: bool,
    closed: bool,
}

/// Ends the log when it is dropped, after what was logged is written.
pub struct Guard {
    shared: Arc<Shared>,
    ended: Receiver<()>,
}

impl Writer {
    /// Starts the thread.
    pub fn start(style: Style) -> (Self, Guard) {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), lost: Counter::default() });
        let (ends, ended) = channel();
        let of_thread = Arc::clone(&shared);
        let run = move || {
            of_thread.run(style);
            drop(ends);
        };
        std::thread::Builder::new().name("log".to_owned()).spawn(run).expect("a thread can be started");
        (Self(Arc::clone(&shared)), Guard { shared, ended })
    }

    /// Returns the count of the lines that were lost.
    pub fn lost(&self) -> Counter {
        self.0.lost.clone()
    }

    /// Hands over a line.
    pub fn write(&self, line: &str) {
        let mut state = self.0.state();
        if state.waiting.len() + line.len() > MAX_WAITING {
            state.lost += 1;
            self.0.lost.inc();
            return;
        }
        state.waiting.extend_from_slice(line.as_bytes());
        if std::mem::take(&mut state.idle) {
            drop(state);
            self.0.changed.notify_one();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, style: Style) {
        let mut lines = Vec::new();
        loop {
            let mut state = self.state();
            while state.waiting.is_empty() && !state.closed {
                state.idle = true;
                state = self.wait(state);
            }
            state.idle = false;
            if !state.closed {
                let gathered = self.changed.wait_timeout_while(state, PAUSE, |state| !state.closed);
                state = gathered.unwrap_or_else(PoisonError::into_inner).0;
            }
            if state.waiting.is_empty() {
                return;
            }
            std::mem::swap(&mut lines, &mut state.waiting);
            let lost = std::mem::take(&mut state.lost);
            drop(state);
            if lost > 0 {
                let mut line = Line::begin(style, &Level::WARN, module_path!());
                line.text("message", "lines of the log were lost, because nobody read it fast enough");
                line.plain("lost", lost);
                lines.extend_from_slice(line.end().as_bytes());
            }
            // Where standard error is gone nothing can be reported.
            let _ = std::io::stderr().write_all(&lines);
            lines.clear();
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.shared.state().closed = true;
        self.shared.changed.notify_one();
        let _ = self.ended.recv_timeout(FLUSH_TIMEOUT);
    }
}
