//! The index of trigrams that `q` searches (`item_search`), and the comparison of its candidates in Rust.

use rusqlite::functions::FunctionFlags;
use rusqlite::types::Value;
use rusqlite::{Connection, params};

use crate::store::search::{FoldedTexts, SearchText, Wanted, contain, start_trigram, trigrams};

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

/// Returns the condition on an item that it is found, and its values.
pub fn condition(text: &SearchText) -> (&'static str, Vec<Value>) {
    const CANDIDATES: &str = "row IN (SELECT rowid FROM item_search WHERE item_search MATCH ?)";
    const FOUND: &str = "row IN (SELECT rowid FROM item_search WHERE item_search MATCH ?) \
                         AND contains_folded(?, id, name, description)";
    match text.wanted() {
        Wanted::Nothing => ("false", Vec::new()),
        Wanted::Start(start) => (CANDIDATES, vec![all_of(&[&start_trigram(start)])]),
        Wanted::Part(part) => match trigrams(part)[..] {
            [whole] if whole == part => (CANDIDATES, vec![all_of(&[whole])]),
            ref some => (FOUND, vec![all_of(some), Value::Text(part.to_owned())]),
        },
    }
}

/// Returns the FTS5 query for what has all of these trigrams.
fn all_of(trigrams: &[&str]) -> Value {
    let strings: Vec<_> = trigrams.iter().map(|trigram| format!("\"{}\"", trigram.replace('"', "\"\""))).collect();
    Value::Text(strings.join(" AND "))
}
