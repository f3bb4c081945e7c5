//! The table of folded texts that `q` searches (`item_search`).

use deadpool_postgres::ClientWrapper;

use super::error::Failure;
use super::query::Query;
use super::rows::value;
use crate::store::search::{Condition, FoldedTexts, SearchText};

/// Puts texts of items into the table, in place of those that were there. Parameters: [`Columns`].
pub const PUT: &str = "
    INSERT INTO item_search (id, id_start, name_start, text)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])
    ON CONFLICT (id) DO UPDATE SET name_start = excluded.name_start, text = excluded.text";

/// Takes the texts of items out of the table.
pub const DELETE: &str = "DELETE FROM item_search WHERE id = ANY ($1::text[])";

/// The items whose texts are folded at once: their descriptions take 16 kB each at most.
const FILLED_AT_ONCE: i64 = 500;

/// Rows of the table, column by column.
#[derive(Default)]
pub struct Columns {
    pub ids: Vec<String>,
    pub id_starts: Vec<String>,
    pub name_starts: Vec<String>,
    pub texts: Vec<String>,
}

impl Columns {
    /// Adds the texts of an item.
    pub fn add(&mut self, id: &str, texts: FoldedTexts) {
        self.ids.push(id.to_owned());
        self.id_starts.push(texts.id_start());
        self.name_starts.push(texts.name_start());
        self.texts.push(texts.joined());
    }
}

/// Puts the texts of all items into the table, in the transaction that is open.
pub async fn fill(connection: &ClientWrapper) -> Result<(), Failure> {
    let select = "SELECT id, name, description FROM item WHERE id > $1 ORDER BY id LIMIT $2";
    let (select, put) = (connection.prepare(select).await?, connection.prepare(PUT).await?);
    let mut last = String::new();
    loop {
        let rows = connection.query(&select, &[&last, &FILLED_AT_ONCE]).await?;
        let mut columns = Columns::default();
        for row in &rows {
            let (id, name, description): (&str, &str, Option<&str>) = (value(row, 0)?, value(row, 1)?, value(row, 2)?);
            columns.add(id, FoldedTexts::new(id, name, description));
        }
        let Columns { ids, id_starts, name_starts, texts } = columns;
        connection.execute(&put, &[&ids, &id_starts, &name_starts, &texts]).await?;
        match ids.last() {
            Some(id) => last.clone_from(id),
            None => return Ok(()),
        }
    }
}

/// Returns the condition on an item that it is found.
pub fn condition(text: &SearchText, asked: &mut Query) -> String {
    match text.wanted() {
        Condition::Nothing => "false".to_owned(),
        Condition::Start(start) => {
            let pattern = asked.text(format!("{}%", literal(start)));
            format!("id IN (SELECT id FROM item_search WHERE id_start LIKE {pattern} OR name_start LIKE {pattern})")
        }
        Condition::Part(part) => {
            let pattern = asked.text(format!("%{}%", literal(part)));
            format!("id IN (SELECT id FROM item_search WHERE text LIKE {pattern})")
        }
    }
}

/// Returns the pattern of `LIKE` for a text and nothing else.
fn literal(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}
