use std::fmt;
use std::str::FromStr;

/// The role of a token. Each one includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Read everything
    Read,
    /// Also create and change items, move stock, and make and close reservations
    Write,
    /// Also delete items and import them
    Admin,
}

impl Role {
    /// All roles, the least one first.
    pub const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Admin];

    /// The name of the role.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Read => "read",
            Role::Write => "write",
            Role::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let role = Self::ALL.into_iter().find(|role| role.as_str() == text);
        role.ok_or("the role must be one of read, write, admin")
    }
}
