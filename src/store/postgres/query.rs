//! Queries that are put together from what is asked.

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, RowStream};

use super::error::Failure;

/// The conditions of a query and their values. Nothing that a client sent is ever in the text.
#[derive(Default)]
pub struct Query {
    conditions: Vec<String>,
    values: Vec<(Box<dyn ToSql + Send + Sync>, Type)>,
}

impl Query {
    /// Adds a text, and returns its placeholder.
    pub fn text(&mut self, text: impl Into<String>) -> String {
        self.value(text.into(), Type::TEXT)
    }

    /// Adds a number, and returns its placeholder.
    pub fn number(&mut self, number: i64) -> String {
        self.value(number, Type::INT8)
    }

    /// Adds a truth value, and returns its placeholder.
    pub fn flag(&mut self, flag: bool) -> String {
        self.value(flag, Type::BOOL)
    }

    fn value(&mut self, value: impl ToSql + Send + Sync + 'static, kind: Type) -> String {
        self.values.push((Box::new(value), kind));
        format!("${}", self.values.len())
    }

    /// Adds a condition that must hold as well.
    pub fn require(&mut self, condition: String) {
        self.conditions.push(condition);
    }

    /// The conditions, as a clause of their own.
    pub fn clause(&self) -> String {
        match self.conditions.is_empty() {
            true => String::new(),
            false => format!(" WHERE {}", self.conditions.join(" AND ")),
        }
    }

    /// Returns the values and their types, for a statement that is prepared.
    pub fn typed_values(&self) -> (Vec<Type>, Vec<&(dyn ToSql + Sync)>) {
        self.values.iter().map(|(value, kind)| (kind.clone(), &**value as &(dyn ToSql + Sync))).unzip()
    }

    /// Asks in one round trip. The plan is made for these very values: what is best depends on them.
    pub async fn ask(self, client: &Client, sql: &str) -> Result<RowStream, Failure> {
        Ok(client.query_typed_raw(sql, self.values).await?)
    }
}
