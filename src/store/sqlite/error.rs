use rusqlite::ErrorCode;

use crate::store::StoreError;
use crate::store::disk::{DiskError, Fault};

/// Returns the failure of a write.
pub fn failed(error: rusqlite::Error) -> DiskError {
    let kind = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Fault::Full,
        _ => Fault::Broken,
    };
    DiskError::new(kind, error.to_string())
}

/// Returns the failure of a read.
pub fn unavailable(error: rusqlite::Error) -> StoreError {
    failed(error).into_store_error()
}
