use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The time in which further signals count as the first one: coreutils' `timeout` signals the process and then its group.
const ONE_SIGNAL: Duration = Duration::from_millis(200);

/// Completes at the first SIGTERM or SIGINT. The signals are caught from this call on, not from the first poll. A second one
/// ends the process at once, with 128 and the number of the signal for its exit code, as a shell reports it.
pub fn stop_signal() -> impl Future<Output = ()> {
    let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be caught");
    let mut interrupt = signal(SignalKind::interrupt()).expect("SIGINT can be caught");
    async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tokio::spawn(end_at_next_signal(terminate, interrupt));
    }
}

async fn end_at_next_signal(mut terminate: Signal, mut interrupt: Signal) {
    let same = async {
        loop {
            next(&mut terminate, &mut interrupt).await;
        }
    };
    let _ = tokio::time::timeout(ONE_SIGNAL, same).await;
    let kind = next(&mut terminate, &mut interrupt).await;
    // Without a word: standard error may be what holds the end up.
    std::process::exit(128 + kind.as_raw_value());
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> SignalKind {
    tokio::select! {
        _ = terminate.recv() => SignalKind::terminate(),
        _ = interrupt.recv() => SignalKind::interrupt(),
    }
}
