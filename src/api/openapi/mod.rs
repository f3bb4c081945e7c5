//! The OpenAPI document, and Swagger UI.

pub mod docs;
pub mod document;
pub mod schema;
pub mod spec;
