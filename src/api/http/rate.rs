//! The rate limit of each client.

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::{Clock, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use poem::http::{HeaderValue, header};

use super::client::Client;
use super::problem::{Kind, Problem};
use crate::config::Rate;

/// The most clients that are counted one by one, each in some 100 bytes. Beyond that, clients without a token share one limit.
const MAX_CLIENTS: usize = 50_000;

/// A limit on the requests of each client (GCRA): a client that was silent can send as many as the limit's count at once,
/// and then one whenever its share of the time has passed.
pub struct RateLimit {
    rate: Rate,
    clients: RateLimiter<Option<Client>, HashMapStateStore<Option<Client>>, DefaultClock>,
    clock: DefaultClock,
    /// The last time at which silent clients were forgotten.
    forgotten: Mutex<Option<Instant>>,
}

impl RateLimit {
    /// The limit of a setting.
    pub fn new(rate: Rate) -> Self {
        let one = rate.per / rate.count.get();
        let quota = Quota::with_period(one).expect("a rate has a period").allow_burst(rate.count);
        let clock = DefaultClock::default();
        Self {
            rate,
            clients: RateLimiter::new(quota, HashMapStateStore::default(), clock.clone()),
            clock,
            forgotten: Mutex::new(None),
        }
    }

    /// Counts a request of a client, or refuses it.
    pub fn check(&self, client: &Client) -> Result<(), Problem> {
        let mut key = Some(client.clone());
        if self.clients.len() >= MAX_CLIENTS {
            self.forget_silent_clients();
            if self.clients.len() >= MAX_CLIENTS && matches!(client, Client::Address(_)) {
                key = None;
            }
        }
        self.clients.check_key(&key).map_err(|refused| {
            let wait = refused.wait_time_from(self.clock.now());
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            let Rate { count, per } = self.rate;
            let unit = match per.as_secs() {
                1 => "second",
                60 => "minute",
                _ => "hour",
            };
            let plural = if count == NonZeroU32::MIN { "" } else { "s" };
            let detail = format!("A client can send {count} request{plural} per {unit} here.");
            Problem::new(Kind::TooManyRequests, detail).with_header(header::RETRY_AFTER, HeaderValue::from(seconds))
        })
    }

    /// Forgets the clients that have their whole limit again, at most once a second: it looks at all of them.
    fn forget_silent_clients(&self) {
        let mut last = self.forgotten.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= Duration::from_secs(1)) {
            self.clients.retain_recent();
            *last = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn client(number: u32) -> Client {
        Client::Address(Ipv4Addr::from_bits(number).into())
    }

    #[test]
    fn each_client_has_a_limit_of_its_own() {
        let limit = RateLimit::new("2/h".parse().unwrap());
        assert!(limit.check(&client(1)).is_ok() && limit.check(&client(1)).is_ok());
        let refused = limit.check(&client(1)).unwrap_err();
        assert_eq!(refused.kind(), Kind::TooManyRequests);
        assert!(limit.check(&client(2)).is_ok() && limit.check(&Client::Local).is_ok());
    }

    #[test]
    fn the_table_of_clients_is_bounded() {
        let limit = RateLimit::new("1/h".parse().unwrap());
        let refused = (0..MAX_CLIENTS as u32 + 100).filter(|number| limit.check(&client(*number)).is_err()).count();
        assert!(limit.clients.len() <= MAX_CLIENTS + 1, "{}", limit.clients.len());
        assert_eq!(refused, 99, "the last ones share one limit");
    }
}
