use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};

use crate::store::{Outcome, Store, Task, Write, Written};

/// How often reservations are looked for whose time is up.
const PERIOD: Duration = Duration::from_secs(1);

/// Lets reservations expire for ever, also those whose items nobody touches.
pub async fn run(store: Arc<dyn Store>) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // What cannot be written now is still due at the next tick; the store has logged why.
        while let Ok(Written { outcome: Outcome::Expired { more: true }, .. }) = store.write(expire()).await {}
    }
}

fn expire() -> Write {
    Write { task: Task::Expire, deadline: Instant::now() + PERIOD, idempotency: None }
}
