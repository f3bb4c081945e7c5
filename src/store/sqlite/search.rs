//! The index of trigrams that `q` searches (`item_search`), and the comparison of its candidates in Rust.

use rusqlite::functions::FunctionFlags;
use rusqlite::types::Value;
use rusqlite::{Connection, params};

use crate::store::search::{Condition, FoldedTexts, SearchText, contain, start_trigram, trigrams};

const PUT: &str = "INSERT OR REPLACE INTO item_search (rowid, id, name, description) VALUES (?1, ?2, ?3, ?4)";

const DELETE: &str = "DELETE FROM item_search WHERE rowid = ?1";

/// Puts the texts of an item into the index, in place of those that were there.
pub fn put(connection: &Connection, row: i64, texts: FoldedTexts) -> rusqlite::Result<()> {
    let (id, name, description) = texts.for_trigrams();
    connection.prepare_cached(PUT)?.execute(params![row, id, name, description])?;
    Ok(())
}

/// Takes the texts of an item out of the index.
pub fn delete(connection: &Connection, row: i64) -> rusqlite::Result<()> {
    connection.prepare_cached(DELETE)?.execute([row])?;
    Ok(())
}

/// Puts the texts of all items into an empty index.
pub fn fill(connection: &Connection) -> rusqlite::Result<()> {
    let mut items = connection.prepare("SELECT row, id, name, description FROM item ORDER BY row")?;
    let mut rows = items.query([])?;
    while let Some(row) = rows.next()? {
        let description = row.get_ref(3)?.as_str_or_null()?;
        let texts = FoldedTexts::new(row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_str()?, description);
        put(connection, row.get(0)?, texts)?;
    }
    Ok(())
}

/// Gives the connection the function `contains_folded`, which [`condition`] calls.
pub fn register(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_DIRECTONLY;
    connection.create_scalar_function(c"contains_folded", 4, flags, |call| {
        let text = |index| Ok::<_, rusqlite::Error>(call.get_raw(index).as_str_or_null()?);
        Ok(contain(call.get_raw(0).as_str()?, [text(1)?, text(2)?, text(3)?]))
    })
}

/// The access path of a list to its items.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AccessPath {
    /// Over the candidates, which are few enough to be sorted afterwards.
    Candidates,
    /// Along the index of the list's order, to the end of the page.
    Order,
}

/// The most candidates that are looked up one by one for a page.
const FEW: i64 = 1_000;

/// Returns the better way to a page of items that are found. Where more than a thousand of a million items are candidates,
/// an index leads to one in fewer than a thousand steps on average, and its end costs less than sorting most of them.
pub fn way(connection: &Connection, text: &SearchText) -> rusqlite::Result<AccessPath> {
    let Some(candidates) = candidates(text) else { return Ok(AccessPath::Candidates) };
    let count = "SELECT count(*) FROM (SELECT 1 FROM item_search WHERE item_search MATCH ?1 LIMIT ?2)";
    let count: i64 = connection.prepare_cached(count)?.query_row(params![candidates, FEW + 1], |row| row.get(0))?;
    Ok(if count > FEW { AccessPath::Order } else { AccessPath::Candidates })
}

/// Returns the condition on an item that it is found, and its values.
pub fn condition(text: &SearchText, way: AccessPath) -> (String, Vec<Value>) {
    let Some(candidates) = candidates(text) else { return ("false".to_owned(), Vec::new()) };
    // The sign keeps SQLite from looking items up by their rows.
    let row = if way == AccessPath::Order { "+row" } else { "row" };
    let condition = format!("{row} IN (SELECT rowid FROM item_search WHERE item_search MATCH ?)");
    match text.wanted() {
        Condition::Part(part) if part.chars().nth(3).is_some() => (
            format!("{condition} AND contains_folded(?, id, name, description)"),
            vec![Value::Text(candidates), Value::Text(part.to_owned())],
        ),
        // A single trigram finds what has it, and nothing else.
        _ => (condition, vec![Value::Text(candidates)]),
    }
}

/// Returns the FTS5 query for all items that can be found, and perhaps others; `None` if there are none.
fn candidates(text: &SearchText) -> Option<String> {
    match text.wanted() {
        Condition::Nothing => None,
        Condition::Start(start) => Some(all_of(&[&start_trigram(start)])),
        Condition::Part(part) => Some(all_of(&trigrams(part))),
    }
}

/// Returns the FTS5 query for what has all of these trigrams.
fn all_of(trigrams: &[&str]) -> String {
    let strings: Vec<_> = trigrams.iter().map(|trigram| format!("\"{}\"", trigram.replace('"', "\"\""))).collect();
    strings.join(" AND ")
}
