//! Access: bearer tokens, the role of each, and the set of them that a running server accepts.
//!
//! A server knows only the SHA-256 digests of tokens. A token has 256 random bits, so that no salt and no slow hash is
//! needed: nobody can try them all. Looking a digest up in a hash table may take a time that depends on the digest, which
//! reveals nothing about the token.

mod credential;
mod file;
mod gate;
mod keyring;
mod role;
mod token;
mod watch;

pub use self::credential::{Credential, Expiry};
pub use self::file::ReadError;
pub use self::gate::{Access, AccessError, Caller, Denial};
pub use self::keyring::{BadLines, Keyring};
pub use self::role::Role;
pub use self::token::{Digest, Token};
pub use self::watch::watch;
