//! `Idempotency-Key`: a client's own name for a change, under which it can be sent again without being made again.

use poem::http::{Method, Uri, header};
use poem::{FromRequest, Request, RequestBody};
use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use sha2::{Digest, Sha256};

use super::access::Admitted;
use super::params::Parameter;
use crate::api::openapi::schema::{Schema, inline};
use crate::domain::Invalid;
use crate::store;

/// The header as it was sent: 1 to 255 visible ASCII characters and spaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(String);

impl Schema for Key {
    fn schema_ref() -> MetaSchemaRef {
        inline(MetaSchema {
            min_length: Some(1),
            max_length: Some(255),
            pattern: Some("^[!-~]([ -~]*[!-~])?$".to_owned()),
            example: Some("8e03978e-40d5-43dd-bc93-6894a57f9324".into()),
            ..MetaSchema::new("string")
        })
    }
}

impl Parameter for Key {
    fn parse(text: &str) -> Result<Self, Invalid> {
        match text.len() {
            1..=255 if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) => Ok(Self(text.to_owned())),
            1..=255 => Err(Invalid::new("pattern", "must be made of visible ASCII characters")),
            0 => Err(Invalid::new("too-short", "must have 1 to 255 characters")),
            _ => Err(Invalid::new("too-long", "must have 1 to 255 characters")),
        }
    }
}

/// Identity of a request, apart from its body.
pub struct Target {
    method: Method,
    uri: Uri,
    media_type: String,
}

impl<'a> FromRequest<'a> for Target {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        Ok(Self {
            method: request.method().clone(),
            uri: request.original_uri().clone(),
            media_type: request.header(header::CONTENT_TYPE).unwrap_or_default().to_owned(),
        })
    }
}

impl Target {
    /// The key that the store keeps, for this request with this body.
    pub fn keyed(&self, caller: &impl Admitted, key: Option<Key>, body: &[u8]) -> Option<store::IdempotencyKey> {
        // Most requests have none, and need no digest.
        key.as_ref()?;
        let mut digest = self.digest();
        digest.update(body);
        keyed(caller, key, digest)
    }

    /// A digest of all that makes the request what it is but its body, which is to follow.
    pub fn digest(&self) -> Sha256 {
        let mut digest = Sha256::new();
        let query = self.uri.query().unwrap_or_default();
        for part in [self.method.as_str(), self.uri.path(), query, &self.media_type] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        digest
    }
}

/// The key that the store keeps, for a request with this digest.
pub fn keyed(caller: &impl Admitted, key: Option<Key>, digest: Sha256) -> Option<store::IdempotencyKey> {
    let Key(key) = key?;
    // Without tokens all clients are one.
    let actor = caller.admission().actor().map(|actor| actor.as_str().to_owned()).unwrap_or_default();
    Some(store::IdempotencyKey { actor, key, fingerprint: digest.finalize().into() })
}
