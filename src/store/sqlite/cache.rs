//! A bounded, write-through cache of items, which look-ups by id and the writer share. It exists because one process owns
//! the file: nobody else can change an item behind its back.
//!
//! Freshness: a cached item is the one that SQLite would return.
//!
//! - Before a commit, the writer takes the items that it changes out of the cache and marks them as committing. Until the
//!   commit is done, reads of them go to SQLite and cache nothing.
//! - A read that missed caches what it found only if no commit began meanwhile.
//! - After the commit, the new items are put into the cache, before the commit is published or answered.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use crate::domain::{Details, Item, ItemId};
use crate::metrics::CacheMetrics;
use crate::store::machine::Changes;

/// The most items in the cache. An item that is not large takes half a kilobyte, and never more than nine.
const ITEMS: NonZeroUsize = NonZeroUsize::new(4096).expect("more than none");

/// The most bytes of a cached item's description. Larger items are read from SQLite each time.
const DESCRIPTION: usize = 2048;

/// The most bytes of a cached item's attributes as JSON, which in memory take up to twenty times as much.
const ATTRIBUTES: usize = 256;

/// The cache.
pub struct ItemCache {
    state: Mutex<State>,
    metrics: CacheMetrics,
}

struct State {
    items: LruCache<ItemId, Arc<Item>>,
    committing: Committing,
    /// The number of commits that began.
    commits: u64,
}

/// The items that a commit under way changes.
enum Committing {
    Nothing,
    Items(HashSet<ItemId>),
    Everything,
}

/// The result of a look-up.
pub enum Cached {
    /// The item.
    Hit(Arc<Item>),
    /// It must be read from SQLite, and may be cached with this ticket.
    Miss(Ticket),
}

/// The right to cache what a read finds, as long as no commit began since.
pub struct Ticket(Option<u64>);

impl ItemCache {
    /// Returns an empty cache.
    pub fn new() -> Self {
        let state = State { items: LruCache::new(ITEMS), committing: Committing::Nothing, commits: 0 };
        Self { state: Mutex::new(state), metrics: CacheMetrics::default() }
    }

    /// The metrics of the look-ups.
    pub fn metrics(&self) -> &CacheMetrics {
        &self.metrics
    }

    /// Looks up an item.
    pub fn get(&self, id: &ItemId) -> Cached {
        let mut state = self.state();
        if let Some(item) = state.items.get(id) {
            self.metrics.hits.inc();
            return Cached::Hit(Arc::clone(item));
        }
        self.metrics.misses.inc();
        let committing = match &state.committing {
            Committing::Nothing => false,
            Committing::Items(ids) => ids.contains(id),
            Committing::Everything => true,
        };
        Cached::Miss(Ticket((!committing).then_some(state.commits)))
    }

    /// Returns the cached item with this id, if it has this version. The same version of an id is always the same item.
    pub fn version(&self, id: &str, version: i64) -> Option<Arc<Item>> {
        self.state().items.get(id).filter(|item| item.version.get() == version).cloned()
    }

    /// Caches an item that was read after the look-up missed.
    pub fn fill(&self, ticket: Ticket, item: &Arc<Item>) {
        let mut state = self.state();
        if ticket.0 == Some(state.commits) {
            state.put(item);
        }
    }

    /// Takes out the items that a commit is about to change.
    pub fn begin_commit(&self, changes: &Changes) {
        let mut state = self.state();
        state.commits += 1;
        for id in changes.items.keys() {
            state.items.pop(id);
        }
        if !matches!(state.committing, Committing::Everything) {
            state.committing = Committing::Items(changes.items.keys().cloned().collect());
        }
    }

    /// Takes out all items, before a transaction that may change any of them.
    pub fn begin_everything(&self) {
        let mut state = self.state();
        state.commits += 1;
        state.items.clear();
        state.committing = Committing::Everything;
    }

    /// Puts the items in as the commit left them.
    pub fn committed(&self, changes: &Changes) {
        let mut state = self.state();
        state.committing = Committing::Nothing;
        changes.items.values().filter_map(|change| change.item.as_ref()).for_each(|item| state.put(item));
    }

    /// Ends a transaction that changed nothing.
    pub fn rolled_back(&self) {
        self.state().committing = Committing::Nothing;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn put(&mut self, item: &Arc<Item>) {
        if !is_large(&item.details) {
            self.items.put(item.id.clone(), Arc::clone(item));
        }
    }
}

fn is_large(details: &Details) -> bool {
    details.description.as_ref().is_some_and(|description| description.as_str().len() > DESCRIPTION)
        || (!details.attributes.is_empty() && details.attributes.to_json().len() > ATTRIBUTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Name, Now, Position, Quantity, Timestamp, Version};
    use crate::store::machine::ItemChange;

    fn item(version: i64) -> Arc<Item> {
        let moment = Timestamp::from_unix_milliseconds(0).unwrap();
        Arc::new(Item {
            id: ItemId::parse("a").unwrap(),
            details: Details::named(Name::parse("A").unwrap()),
            quantity: Quantity::ZERO,
            reserved: Quantity::ZERO,
            version: Version::new(version),
            created_at: moment,
            updated_at: moment,
        })
    }

    fn changes(version: i64) -> Changes {
        let moment = Timestamp::from_unix_milliseconds(0).unwrap();
        let mut changes = Changes::new(Now { at: moment, wall: moment }, Position::NONE);
        let change = ItemChange { item: Some(item(version)), existed: true, details: false, barcodes: false };
        changes.items.insert(item(version).id.clone(), change);
        changes
    }

    fn version(cache: &ItemCache) -> Option<i64> {
        match cache.get(&item(1).id) {
            Cached::Hit(item) => Some(item.version.get()),
            Cached::Miss(_) => None,
        }
    }

    fn miss(cache: &ItemCache) -> Ticket {
        match cache.get(&item(1).id) {
            Cached::Hit(item) => panic!("{item:?} is cached"),
            Cached::Miss(ticket) => ticket,
        }
    }

    #[test]
    fn a_read_that_a_commit_overtook_caches_nothing() {
        let cache = ItemCache::new();
        let (early, unused) = (miss(&cache), miss(&cache));
        cache.begin_commit(&changes(2));
        cache.fill(early, &item(1));
        assert_eq!(version(&cache), None, "it was read before the commit");
        let during = miss(&cache);
        cache.committed(&changes(2));
        assert_eq!(version(&cache), Some(2));
        cache.fill(during, &item(1));
        cache.fill(unused, &item(1));
        assert_eq!(version(&cache), Some(2), "it was read during the commit or before");
    }

    #[test]
    fn a_commit_that_fails_leaves_nothing_in_the_cache_and_reads_fill_it_again() {
        let cache = ItemCache::new();
        cache.begin_commit(&changes(2));
        cache.rolled_back();
        assert_eq!(version(&cache), None);
        let ticket = miss(&cache);
        cache.fill(ticket, &item(1));
        assert_eq!(version(&cache), Some(1));
        cache.begin_everything();
        let during = miss(&cache);
        cache.begin_commit(&changes(3));
        cache.rolled_back();
        cache.fill(during, &item(1));
        assert_eq!(version(&cache), None);
    }

    #[test]
    fn large_items_are_not_cached() {
        let cache = ItemCache::new();
        let mut large = (*item(1)).clone();
        large.details.attributes =
            crate::domain::Attributes::from_json(&format!("{{\"a\":\"{}\"}}", "b".repeat(300))).unwrap();
        let ticket = miss(&cache);
        cache.fill(ticket, &Arc::new(large));
        assert_eq!(version(&cache), None);
    }
}
