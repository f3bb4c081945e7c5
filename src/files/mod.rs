//! Files of items, CSV and NDJSON: rows in, rows out, and what is wrong with a row.

pub mod columns;
pub mod csv;
pub mod errors;
pub mod import;
pub mod json;
pub mod lines;
pub mod repeats;
pub mod rows;
