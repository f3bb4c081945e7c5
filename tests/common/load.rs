//! Many clients that change a few items at random, on purpose the same ones, and remember every answer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::http::{agent, try_send};
use super::{Answer, Server, poll};

/// Number of items that the clients share.
const ITEMS: u64 = 6;

/// A source of numbers that look random and are the same for the same seed (SplitMix64).
pub struct Random(u64);

impl Random {
    /// The numbers of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// A change that a client asks for.
#[derive(Clone, Debug)]
pub struct Change {
    method: &'static str,
    path: String,
    body: String,
    /// Under which it can be sent again, where that is possible.
    key: Option<String>,
    /// The references of the ledger's entries that it is to make, each of which no other change has.
    references: Vec<String>,
}

impl Change {
    /// The id of the item that it deletes.
    fn deletes(&self) -> Option<String> {
        (self.method == "DELETE").then(|| self.path.trim_start_matches("/inventory/").to_owned())
    }
}

/// A change whose success a client has received.
#[derive(Debug)]
pub struct Acknowledged {
    /// `X-Request-Id` of the answer.
    pub request_id: String,
    /// The change.
    pub change: Change,
    /// Body of the answer.
    pub body: Vec<u8>,
    /// Items as the answer shows them: id and version.
    pub shown: Vec<(String, i64)>,
    /// The item that it deleted.
    pub deleted: Option<String>,
}

impl Acknowledged {
    /// Returns whether a server that is sent this change again must return the same answer.
    pub fn is_repeatable(&self) -> bool {
        self.change.key.is_some()
    }

    /// Returns whether another answer repeats this one: that of a movement has the same entry, and the item as it is by
    /// then.
    pub fn is_repeated_by(&self, again: &Acknowledged) -> bool {
        let [first, again] = [&self.body, &again.body].map(|body| serde_json::from_slice::<Value>(body).unwrap());
        match (first.get("entry"), first["item"]["version"] == again["item"]["version"]) {
            (Some(entry), false) => again.get("entry") == Some(entry),
            _ => first == again,
        }
    }
}

/// Responses to clients.
#[derive(Debug, Default)]
pub struct Outcomes {
    /// The changes that were acknowledged, each with its answer.
    pub acknowledged: Vec<Acknowledged>,
    /// The references of changes that were acknowledged.
    pub done: Vec<String>,
    /// The references of changes that were refused.
    pub refused: Vec<String>,
    /// Items as they were shown: id, version, quantity, reserved.
    pub seen: Vec<(String, i64, i64, i64)>,
    /// Changes of which it is not known whether they were made, because the connection broke or the storage was away.
    pub unknown: Vec<Change>,
    /// Requests whose connection broke, and how.
    pub broken: Vec<String>,
    /// Number of answered changes.
    pub answered: usize,
}

impl Outcomes {
    /// Adds the responses to another client.
    pub fn and(mut self, other: Self) -> Self {
        self.acknowledged.extend(other.acknowledged);
        self.done.extend(other.done);
        self.refused.extend(other.refused);
        self.seen.extend(other.seen);
        self.unknown.extend(other.unknown);
        self.broken.extend(other.broken);
        self.answered += other.answered;
        self
    }

    fn note(&mut self, change: Change, answer: &Answer) {
        self.answered += 1;
        match answer.status {
            200 | 201 | 204 => {
                self.done.extend(change.references.iter().cloned());
                let earlier = self.seen.len();
                if !answer.body.is_empty() {
                    self.record(&answer.json());
                }
                self.acknowledged.push(Acknowledged {
                    request_id: answer.header("x-request-id").unwrap().to_owned(),
                    shown: self.seen[earlier..].iter().map(|(id, version, ..)| (id.clone(), *version)).collect(),
                    deleted: change.deletes(),
                    change,
                    body: answer.body.clone(),
                });
            }
            404 | 409 => {
                let problem = answer.json();
                for number in ["quantity", "reserved", "available"] {
                    assert!(problem[number].as_i64().unwrap_or(0) >= 0, "{problem}");
                }
                self.refused.extend(change.references);
            }
            status => panic!("{change:?} was answered {status}: {}", answer.text()),
        }
    }

    /// Notes the items and entries in an answer, none of which may show less than nothing.
    fn record(&mut self, answer: &Value) {
        let entries = answer["entries"].as_array().cloned().unwrap_or_default();
        for shown in [answer, &answer["item"], &answer["entry"]].into_iter().chain(&entries) {
            let Some(version) = shown["version"].as_i64() else { continue };
            let number = |name: &str| shown[name].as_i64().unwrap();
            let (quantity, reserved) = (number("quantity"), number("reserved"));
            let available = shown["available"].as_i64().unwrap_or(quantity - reserved);
            assert!(reserved >= 0 && available >= 0 && available == quantity - reserved, "{shown}");
            let id = shown.get("item_id").unwrap_or(&shown["id"]).as_str().unwrap();
            self.seen.push((id.to_owned(), version, quantity, reserved));
        }
    }

    /// Each change that was acknowledged is in the ledger exactly once, each refused one is not, and each item that
    /// was shown is in the ledger.
    pub fn assert_true(&self, server: &Server) {
        let (mut outcomes, mut versions) = (HashMap::new(), HashMap::new());
        for entry in server.ledger() {
            if let (Some(reference), "moved" | "counted" | "reserved") =
                (entry["reference"].as_str(), entry["event"].as_str().unwrap())
            {
                *outcomes.entry(reference.to_owned()).or_insert(0) += 1;
            }
            let number = |name: &str| entry[name].as_i64().unwrap();
            let id = entry["item_id"].as_str().unwrap().to_owned();
            versions.insert((id, number("version")), (number("quantity"), number("reserved")));
        }
        for reference in &self.done {
            assert_eq!(outcomes.get(reference), Some(&1), "{reference} was acknowledged");
        }
        for reference in &self.refused {
            assert_eq!(outcomes.get(reference), None, "{reference} was refused");
        }
        for (id, version, quantity, reserved) in &self.seen {
            let entry = versions.get(&(id.clone(), *version));
            assert_eq!(entry, Some(&(*quantity, *reserved)), "{id} was shown in version {version}");
        }
    }
}

/// Makes the items, with little stock, so that much is refused.
pub fn prepare(server: &Server) {
    for item in 0..ITEMS {
        let body = json!({ "id": format!("item-{item}"), "name": "Item", "quantity": 100 });
        server.post("/inventory", &body).expect(201);
    }
}

/// Lets `clients` of them make changes until `stop` says so, or each was answered `count`, or their server is gone. `name`
/// makes what they send different from what others do. They share the servers among them.
pub fn run(servers: &[&Server], name: &str, clients: u64, count: usize, stop: &AtomicBool) -> Outcomes {
    let urls: Vec<_> = servers.iter().map(|server| server.url("")).collect();
    run_at(&urls, name, clients, count, stop)
}

/// As [`run`], where servers are reached at these URLs.
pub fn run_at(urls: &[String], name: &str, clients: u64, count: usize, stop: &AtomicBool) -> Outcomes {
    std::thread::scope(|scope| {
        let client = |number: u64| {
            let url = &urls[number as usize % urls.len()];
            scope.spawn(move || Client::new(url, name, number).run(count, stop))
        };
        let clients: Vec<_> = (0..clients).map(client).collect();
        clients.into_iter().map(|client| client.join().unwrap()).fold(Outcomes::default(), Outcomes::and)
    })
}

/// Stops clients when it is dropped, also by a failing test: nobody would wait for their end otherwise.
pub struct StopWhenDropped<'a>(pub &'a AtomicBool);

impl Drop for StopWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends changes again of which it is not known whether they were made.
pub fn send_again(server: &Server, changes: &[Change]) -> Outcomes {
    let (agent, mut outcomes) = (agent(), Outcomes::default());
    for change in changes.iter().filter(|change| change.key.is_some()) {
        let answer = try_send(&agent, &server.url(&change.path), change.method, &headers(change), change.body.as_str());
        outcomes.note(change.clone(), &answer.unwrap());
    }
    outcomes
}

fn headers(change: &Change) -> Vec<(&str, &str)> {
    let media_type = if change.method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let key = change.key.as_deref().map(|key| ("Idempotency-Key", key));
    [("Content-Type", media_type)].into_iter().chain(key).collect()
}

struct Client<'a> {
    /// Where its server is.
    url: &'a str,
    name: String,
    random: Random,
    /// Number of changes that it has requested.
    count: usize,
    /// The paths of the reservations that it made.
    reservations: Vec<String>,
}

impl<'a> Client<'a> {
    fn new(url: &'a str, name: &str, number: u64) -> Self {
        let seed = name.bytes().fold(number, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
        let name = format!("{name}-{number}");
        Self { url, name, random: Random::new(seed), count: 0, reservations: Vec::new() }
    }

    fn run(mut self, count: usize, stop: &AtomicBool) -> Outcomes {
        let (agent, mut outcomes) = (agent(), Outcomes::default());
        while outcomes.answered < count && !stop.load(Ordering::Relaxed) {
            let change = self.next();
            let url = format!("{}{}", self.url, change.path);
            match try_send(&agent, &url, change.method, &headers(&change), change.body.as_str()) {
                Ok(answer) if answer.status == 503 => {
                    outcomes.unknown.push(change);
                    self.wait_until_ready(&agent, stop);
                }
                Ok(answer) => {
                    if answer.status == 201 && change.path.ends_with("/reservations") {
                        self.reservations.push(answer.header("location").unwrap().to_owned());
                    }
                    outcomes.note(change, &answer);
                }
                Err(error) => {
                    outcomes.broken.push(format!("{change:?}: {error}"));
                    outcomes.unknown.push(change);
                    break;
                }
            }
        }
        outcomes
    }

    /// Waits until the server can write again, or is gone.
    fn wait_until_ready(&self, agent: &ureq::Agent, stop: &AtomicBool) {
        poll("the server to be ready again", || {
            let ready = try_send(agent, &format!("{}/readyz", self.url), "GET", &[], "");
            (stop.load(Ordering::Relaxed) || ready.map_or(true, |answer| answer.status == 200)).then_some(())
        });
    }

    fn item(&mut self) -> String {
        format!("item-{}", self.random.below(ITEMS))
    }

    /// From -20 to 20, and not 0.
    fn delta(&mut self) -> i64 {
        let size = 1 + self.random.below(20) as i64;
        if self.random.below(2) == 0 { size } else { -size }
    }

    fn next(&mut self) -> Change {
        self.count += 1;
        let reference = format!("{}-{}", self.name, self.count);
        let id = self.item();
        // A call that takes no body does not read one, and a connection with a body left in it may be closed.
        let text = |body: Value| if body.is_null() { String::new() } else { body.to_string() };
        let post = |path: String, body: Value, references: Vec<String>| {
            let key = Some(reference.clone());
            Change { method: "POST", path, body: text(body), key, references }
        };
        let other = |method, body: Value| {
            let path = format!("/inventory/{id}");
            Change { method, path, body: text(body), key: None, references: Vec::new() }
        };
        match self.random.below(100) {
            0..45 => {
                let body = json!({ "delta": self.delta(), "reason": "sold", "reference": reference });
                post(format!("/inventory/{id}/movements"), body, vec![reference.clone()])
            }
            45..50 => {
                let body = json!({ "counted": self.random.below(200), "reason": "counted", "reference": reference });
                post(format!("/inventory/{id}/movements"), body, vec![reference.clone()])
            }
            50..65 => {
                // A second is the shortest time: some expire under the load.
                let (quantity, expires_in) = (1 + self.random.below(20), 1 + self.random.below(3));
                let body = json!({ "quantity": quantity, "expires_in": expires_in, "reference": reference });
                post(format!("/inventory/{id}/reservations"), body, vec![reference.clone()])
            }
            65..75 if !self.reservations.is_empty() => {
                let which = self.random.below(self.reservations.len() as u64) as usize;
                let step = if self.random.below(2) == 0 { "fulfil" } else { "release" };
                post(format!("{}/{step}", self.reservations[which]), Value::Null, Vec::new())
            }
            65..83 => {
                let references: Vec<_> =
                    (0..2 + self.random.below(4)).map(|index| format!("{reference}-{index}")).collect();
                let movements: Vec<_> = references
                    .iter()
                    .map(|reference| {
                        let (item_id, delta) = (self.item(), self.delta());
                        json!({ "item_id": item_id, "delta": delta, "reason": "transferred", "reference": reference })
                    })
                    .collect();
                post("/movements".to_owned(), json!({ "movements": movements }), references)
            }
            83..90 => other("PATCH", json!({ "quantity": self.random.below(200) })),
            90..93 => other("PUT", json!({ "name": reference, "quantity": self.random.below(200) })),
            93..95 => other("DELETE", Value::Null),
            _ => {
                let body = json!({ "id": id, "name": "Item", "quantity": self.random.below(200) });
                post("/inventory".to_owned(), body, Vec::new())
            }
        }
    }
}
