use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;

use super::file::{self, ReadError};
use super::keyring::{BadLines, Keyring};
use super::role::Role;
use super::token::{Digest, Token};
use crate::config::{Auth, Settings};
use crate::domain::Actor;

/// The sender of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The name of the token; `None` where no token is demanded.
    pub actor: Option<Actor>,
    /// The role of the token, or the highest one where no token is demanded.
    pub role: Role,
    /// The digest of the token.
    digest: Option<Digest>,
}

impl Caller {
    /// A client of a server that demands no token: everything is allowed.
    pub const ANYONE: Self = Self { actor: None, role: Role::Admin, digest: None };
}

/// The reason why a request has no access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// The request has no token.
    #[error("This server needs a token: send it as Authorization: Bearer TOKEN.")]
    Missing,
    /// The token is not one of the form that `stockroom token new` makes.
    #[error("The token is not whole: a token is stk_ and 49 letters and digits, of which the last six are a checksum.")]
    Malformed,
    /// No credential has this token.
    #[error("The server does not know this token; it may have been revoked.")]
    Unknown,
    /// The token was valid and is not any more.
    #[error("The token has expired.")]
    Expired,
}

/// Settings that cannot be served with.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The tokens file cannot be used.
    #[error("--tokens-file {}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        error: ReadError,
    },
    /// `STOCKROOM_TOKENS` has lines that are no credentials.
    #[error("--tokens (STOCKROOM_TOKENS): {0}")]
    Lines(BadLines),
    /// The settings contradict each other, or leave the server open.
    #[error("{0}")]
    Settings(String),
}

/// Decides who may use the API.
#[derive(Debug)]
pub struct Access {
    auth: Auth,
    /// The credentials of the settings, which stay.
    fixed: Keyring,
    /// All credentials.
    keyring: RwLock<Arc<Keyring>>,
    /// Tokens are required. Once true, it stays so until the process ends.
    demanded: AtomicBool,
}

impl Access {
    /// Reads the tokens of the settings, and refuses settings that would leave the server open unasked.
    ///
    /// Returns the content of the tokens file too, for [`watch`](super::watch) to notice changes of it.
    pub fn new(settings: &Settings) -> Result<(Self, Option<String>), AccessError> {
        let fixed = match &settings.tokens {
            Some(lines) => Keyring::parse(lines).map_err(AccessError::Lines)?,
            None => Keyring::default(),
        };
        let file = settings
            .tokens_file
            .as_ref()
            .map(|path| file::read(path).map_err(|error| AccessError::File { path: path.clone(), error }));
        let (in_file, content) =
            file.transpose()?.map_or((Keyring::default(), None), |(keyring, content)| (keyring, Some(content)));
        let access = Self {
            auth: settings.auth,
            fixed,
            keyring: RwLock::default(),
            demanded: AtomicBool::new(settings.auth == Auth::Tokens),
        };
        access.set(in_file);
        access.check(settings)?;
        Ok((access, content))
    }

    fn check(&self, settings: &Settings) -> Result<(), AccessError> {
        let empty = self.keyring().is_empty();
        let refused = |reason: String| Err(AccessError::Settings(reason));
        match settings.auth {
            Auth::None if settings.tokens.is_some() || settings.tokens_file.is_some() => refused(
                "--auth none (STOCKROOM_AUTH) lets everyone in and so contradicts --tokens-file and STOCKROOM_TOKENS: \
                 leave it out, or leave them out"
                    .to_owned(),
            ),
            Auth::Tokens if empty => refused(
                "--auth tokens (STOCKROOM_AUTH) needs a token: run stockroom token new --name NAME --role admin, and \
                 put the line to keep into --tokens-file or STOCKROOM_TOKENS"
                    .to_owned(),
            ),
            Auth::Auto if empty && !settings.listen.is_local() => refused(format!(
                "without tokens, --listen {listen} would let anyone who reaches it change the inventory: make a token \
                 with stockroom token new --name NAME --role admin and put its line into --tokens-file or \
                 STOCKROOM_TOKENS, or listen on 127.0.0.1 or unix:PATH, or set --auth none (STOCKROOM_AUTH=none) to let \
                 everyone in",
                listen = settings.listen
            )),
            Auth::None | Auth::Tokens | Auth::Auto => Ok(()),
        }
    }

    /// Returns whether requests need a token.
    pub fn demands_tokens(&self) -> bool {
        self.demanded.load(Ordering::Acquire)
    }

    /// Takes the credentials of the tokens file in place of those that were in it before.
    pub fn set(&self, in_file: Keyring) {
        let keyring = Keyring::join(&self.fixed, in_file);
        if !keyring.is_empty() && self.auth == Auth::Auto {
            self.demanded.store(true, Ordering::Release);
        }
        *self.keyring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keyring);
    }

    /// Identifies the sender of a request by its header `Authorization`, if it has one.
    pub fn identify(&self, authorization: Option<&[u8]>) -> Result<Caller, Denial> {
        if !self.demands_tokens() {
            return Ok(Caller::ANYONE);
        }
        let token = bearer(authorization.ok_or(Denial::Missing)?).ok_or(Denial::Missing)?;
        let digest = Token::parse(token).ok_or(Denial::Malformed)?.digest();
        let keyring = self.keyring();
        let credential = keyring.get(&digest).ok_or(Denial::Unknown)?;
        if credential.has_expired(Timestamp::now()) {
            return Err(Denial::Expired);
        }
        Ok(Caller { actor: Some(credential.name.clone()), role: credential.role, digest: Some(digest) })
    }

    /// Returns whether a caller still has the access that it had when its request arrived, for responses without an end.
    pub fn still_admits(&self, caller: &Caller) -> bool {
        match &caller.digest {
            None => !self.demands_tokens(),
            Some(digest) => {
                let keyring = self.keyring();
                keyring.get(digest).is_some_and(|credential| !credential.has_expired(Timestamp::now()))
            }
        }
    }

    fn keyring(&self) -> Arc<Keyring> {
        Arc::clone(&self.keyring.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The token of `Authorization: Bearer TOKEN` (RFC 6750, section 2.1); the scheme's case does not matter (RFC 9110,
/// section 11.1).
fn bearer(authorization: &[u8]) -> Option<&str> {
    let (scheme, token) = std::str::from_utf8(authorization).ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("Bearer").then(|| token.trim())
}
