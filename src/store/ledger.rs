use super::lanes::SHORT_PAGE;
use crate::domain::{Actor, Entry, FieldChange, Invalid, ItemId, Position, Reason, Reference, Timestamp, Version};

/// An entry in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct LedgerRecord {
    /// Its position.
    pub position: Position,
    pub entry: Entry,
}

impl LedgerRecord {
    /// The bytes of its texts, which bound the size of an answer.
    pub(super) fn text_bytes(&self) -> usize {
        let Entry { item_id, note, reference, changed, .. } = &self.entry;
        let changed = changed.iter().map(FieldChange::text_bytes).sum::<usize>();
        let note = note.as_ref().map_or(0, |note| note.as_str().len());
        item_id.as_str().len() + note + reference.as_ref().map_or(0, |reference| reference.as_str().len()) + changed
    }
}

/// A part of the ledger, oldest entry first. Every condition that is set must hold.
#[derive(Clone, Debug)]
pub struct EntryQuery {
    /// Only entries after this position.
    pub after: Position,
    /// Only movements for this reason.
    pub reason: Option<Reason>,
    /// Only movements and reservations with this reference.
    pub reference: Option<Reference>,
    /// Only changes that this actor made.
    pub actor: Option<Actor>,
    /// Only entries of this moment or later.
    pub since: Option<Timestamp>,
    pub limit: usize,
    /// After how many bytes of text the list ends early.
    pub max_bytes: usize,
}

impl EntryQuery {
    /// Returns whether it walks along one index for a short page.
    pub fn is_look_up(&self) -> bool {
        let Self { reason, reference, actor, since, limit, .. } = self;
        reason.is_none() && reference.is_none() && actor.is_none() && since.is_none() && *limit <= SHORT_PAGE
    }
}

/// A part of the ledger.
#[derive(Clone, Debug, PartialEq)]
pub struct EntryList {
    /// The entries, oldest first.
    pub entries: Vec<LedgerRecord>,
    /// More entries follow.
    pub more: bool,
    /// The last position of the ledger at that moment.
    pub head: Position,
}

/// A part of the ledger of one item, newest entry first.
#[derive(Clone, Debug)]
pub struct HistoryQuery {
    /// The id.
    pub id: ItemId,
    /// Only entries before this version; from the newest on if absent.
    pub before: Option<Version>,
    pub limit: usize,
    /// After how many bytes of text the list ends early.
    pub max_bytes: usize,
}

impl HistoryQuery {
    /// Returns whether it walks along one index for a short page.
    pub(super) fn is_look_up(&self) -> bool {
        self.limit <= SHORT_PAGE
    }
}

/// A part of what happened to one id.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// The entries, newest first.
    pub entries: Vec<LedgerRecord>,
    /// Older entries exist.
    pub more: bool,
}

/// Writes the changed fields of an entry as a column holds them; `None` without any.
pub(super) fn changed_to_json(changed: &[FieldChange]) -> Option<String> {
    (!changed.is_empty()).then(|| serde_json::to_string(changed).expect("changed fields can be written as JSON"))
}

/// Reads what [`changed_to_json`] wrote.
pub(super) fn changed_from_json(json: impl AsRef<str>) -> Result<Vec<FieldChange>, Invalid> {
    serde_json::from_str(json.as_ref()).map_err(|_| Invalid::wrong_type("an array of changed fields"))
}
