//! Messages to systemd, which waits for them under `Type=notify`. Without `NOTIFY_SOCKET` nothing is sent.

use sd_notify::NotifyState;

/// Tells systemd that the service serves.
pub fn ready() {
    notify(NotifyState::Ready);
}

/// Tells systemd that the service is about to end.
pub fn stopping() {
    notify(NotifyState::Stopping);
}

fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "cannot notify systemd");
    }
}
