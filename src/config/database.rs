use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::PostgresUrl;

/// Which store keeps the inventory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Database {
    /// The embedded store, in this file.
    Sqlite(PathBuf),
    /// A PostgreSQL database, which several servers may share.
    Postgres(Box<PostgresUrl>),
}

impl FromStr for Database {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() != text || text.contains(|c: char| c.is_control()) {
            // As from the line feed at the end of a secret's file.
            return Err("must have no blanks at its ends and no control characters".to_owned());
        }
        match text.strip_prefix("sqlite:") {
            Some(path) => sqlite_path(path).map(Database::Sqlite),
            None if text.starts_with("postgres://") || text.starts_with("postgresql://") => {
                text.parse().map(|url| Database::Postgres(Box::new(url)))
            }
            None => {
                Err("must be sqlite:PATH, such as sqlite:stockroom.db, or postgres://USER:PASSWORD@HOST:PORT/DATABASE"
                    .to_owned())
            }
        }
    }
}

/// The file that `sqlite:PATH` or `sqlite:///PATH` names. Other forms of other programs would each make an empty
/// database under an odd name.
fn sqlite_path(text: &str) -> Result<PathBuf, String> {
    if text.starts_with(char::is_whitespace) {
        return Err("must have no blanks at the ends of its path".to_owned());
    }
    if text == ":memory:" {
        return Err("must name a file: what is only in memory would be lost".to_owned());
    }
    let path = match text.strip_prefix("//") {
        Some(rest) if rest.starts_with('/') => rest,
        Some(rest) => return Err(format!("must be sqlite:{rest}, or sqlite:///PATH for an absolute path")),
        None => text,
    };
    if let Some((path, _options)) = path.split_once('?') {
        return Err(format!("takes no options: write sqlite:{path}"));
    }
    match path.strip_prefix("file:") {
        Some(file) => Err(format!("takes no file: URL: write sqlite:{file}")),
        None if path.is_empty() => Err("must name a file, such as sqlite:stockroom.db".to_owned()),
        None => Ok(path.into()),
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Database::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Database::Postgres(url) => url.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sqlite_database_is_a_path_and_nothing_else() {
        for (text, path) in [
            ("sqlite:stockroom.db", "stockroom.db"),
            ("sqlite:a b/c.db", "a b/c.db"),
            ("sqlite:/data/stockroom.db", "/data/stockroom.db"),
            ("sqlite:///data/stockroom.db", "/data/stockroom.db"),
        ] {
            assert_eq!(text.parse::<Database>().unwrap(), Database::Sqlite(path.into()), "{text}");
        }
        for (text, remedy) in [
            ("sqlite://stockroom.db", "must be sqlite:stockroom.db"),
            ("sqlite:data.db?mode=rwc", "write sqlite:data.db"),
            ("sqlite:///data.db?mode=ro", "write sqlite:/data.db"),
            ("sqlite:file:data.db", "write sqlite:data.db"),
            ("sqlite:data.db\n", "no blanks"),
            ("sqlite: data.db", "no blanks"),
            ("sqlite:da\tta.db", "no control characters"),
            ("postgres://user@host/database\n", "no control characters"),
            ("sqlite:", "must name a file"),
            ("sqlite://", "sqlite:///PATH"),
            ("sqlite::memory:", "would be lost"),
        ] {
            let refused = text.parse::<Database>().unwrap_err();
            assert!(refused.contains(remedy), "{text:?}: {refused}");
        }
    }
}
