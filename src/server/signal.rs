use tokio::signal::unix::{SignalKind, signal};

/// Completes at the first SIGTERM or SIGINT. The signals are caught from this call on, not from the first poll.
pub fn stop_signal() -> impl Future<Output = ()> {
    let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be caught");
    let mut interrupt = signal(SignalKind::interrupt()).expect("SIGINT can be caught");
    async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}
