//! Messages to systemd, which waits for them under `Type=notify`. Without `NOTIFY_SOCKET` nothing is sent.

use sd_notify::NotifyState;

/// Notifies systemd that the service is ready.
pub fn ready() {
    notify(NotifyState::Ready);
}

/// Notifies systemd that the service is stopping.
pub fn stopping() {
    notify(NotifyState::Stopping);
}

fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "cannot notify systemd");
    }
}
