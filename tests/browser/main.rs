//! Promises of the pages, in Chromium.

#[path = "../common/mod.rs"]
mod common;
mod page;
mod swagger_ui;
