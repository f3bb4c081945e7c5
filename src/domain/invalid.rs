/// Why a value cannot be what it is meant to be.
///
/// `detail` says what is allowed and never repeats the value: it may be a secret that ended up in the wrong
/// field, and the answer may be logged by others.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Invalid {
    /// A stable word for programs, such as `too-long`.
    pub code: &'static str,
    /// A sentence for people: what a valid value is.
    pub detail: String,
}

impl Invalid {
    /// A reason from its stable code and its sentence.
    pub fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }

    /// The value is of another JSON type than the `expected` one (which is named with its article).
    pub fn wrong_type(expected: &str) -> Self {
        Self::new("type", format!("must be {expected}"))
    }
}
