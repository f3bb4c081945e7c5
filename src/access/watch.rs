//! The tokens file, read again while the server runs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::file;
use super::gate::Access;
use super::keyring::Keyring;

/// The time between two readings of the file. Its metadata would not do: an editor, a mounted secret and a restored backup
/// each change another part of it.
const INTERVAL: Duration = Duration::from_millis(500);

/// Polls the file, and hands its credentials to `access` when they change. While the file cannot
/// be used, the credentials that it had last stay.
pub async fn watch(access: Arc<Access>, path: PathBuf, content: String) {
    let mut seen = Seen::new(content);
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let watched = path.clone();
        let reading = tokio::task::spawn_blocking(move || file::content(&watched)).await;
        let Ok(read) = reading else { continue };
        match seen.next(read.map_err(|error| error.to_string())) {
            Some(Ok(keyring)) => {
                let (tokens, expired) = (keyring.len(), keyring.expired());
                access.set(keyring);
                tracing::info!(tokens, expired, path = %path.display(), "the tokens file was read again");
            }
            Some(Err(error)) => {
                tracing::error!(error, path = %path.display(), "cannot use the tokens file; its last tokens stay");
            }
            None => {}
        }
    }
}

/// The readings of the file so far.
struct Seen {
    /// The content whose credentials are in use.
    used: String,
    /// The last reading.
    last: Result<String, String>,
    /// The last reading has been handled.
    settled: bool,
    /// The last reading failed.
    failed: bool,
}

impl Seen {
    fn new(content: String) -> Self {
        Self { used: content.clone(), last: Ok(content), settled: true, failed: false }
    }

    /// Returns what a reading changes. A new content counts once it is read twice: `cat new > tokens` empties the file
    /// first, and an empty file revokes all tokens.
    fn next(&mut self, reading: Result<String, String>) -> Option<Result<Keyring, String>> {
        if reading != self.last {
            self.last = reading;
            self.settled = false;
            return None;
        }
        if std::mem::replace(&mut self.settled, true) {
            return None;
        }
        let parsed = match &self.last {
            Ok(content) if *content == self.used && !self.failed => return None,
            Ok(content) => Keyring::parse(content).map_err(|bad| bad.to_string()),
            Err(error) => Err(error.clone()),
        };
        self.failed = parsed.is_err();
        if let (Ok(_), Ok(content)) = (&parsed, &self.last) {
            self.used.clone_from(content);
        }
        Some(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::token::Token;

    #[test]
    fn a_change_counts_once_it_is_whole_and_a_bad_file_keeps_the_last_tokens() {
        let line = format!("till-1 write {}\n", Token::generate().unwrap().digest());
        let mut seen = Seen::new(line.clone());
        let mut read = |reading: Result<&str, &str>| seen.next(reading.map(str::to_owned).map_err(str::to_owned));
        // As it was.
        assert_eq!(read(Ok(&line)), None);
        // Emptied for a moment, while somebody writes.
        assert_eq!((read(Ok("")), read(Ok(&line)), read(Ok(&line))), (None, None, None));
        // Bad: reported once.
        assert_eq!(read(Ok("till-1 write")), None);
        assert!(matches!(read(Ok("till-1 write")), Some(Err(_))));
        assert_eq!(read(Ok("till-1 write")), None);
        // Away: reported once.
        assert_eq!(
            (read(Err("gone")), read(Err("gone")), read(Err("gone"))),
            (None, Some(Err("gone".to_owned())), None)
        );
        // Back again.
        assert_eq!((read(Ok(&line)), read(Ok(&line))), (None, Some(Ok(Keyring::parse(&line).unwrap()))));
        // Empty for good.
        assert_eq!((read(Ok("")), read(Ok(""))), (None, Some(Ok(Keyring::default()))));
    }
}
