//! Files of items, CSV and NDJSON: rows in, rows out, and what is wrong with a row.
//!
//! Nothing here knows of HTTP. The strict JSON reader and the errors of a text are here because both a file and the body of
//! a request need them.

pub mod columns;
pub mod csv;
pub mod dialect;
pub mod errors;
pub mod import;
pub mod input;
pub mod json;
pub mod lines;
pub mod numbers;
pub mod repeats;
pub mod rows;
pub mod separator;
pub mod table;
