//! The access of an operation: a role in its handler's signature.
//!
//! A handler takes [`Reads`], [`Writes`] or [`Administers`]. The document says which, and the router refuses a request
//! without that role before it looks at anything else of it. The store is [`Guarded`]: a handler that takes none of the
//! three cannot reach it, so that forgetting the role does not compile.

use std::sync::Arc;

use poem::http::{HeaderValue, header};
use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaSecurityScheme, Registry};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};

use super::client::{Client, ClientAddress};
use super::problem::{Kind, Problem};
use super::rate::RateLimit;
use super::trace;
use crate::access::{Access, Caller, Role};
use crate::config::Settings;
use crate::domain::Actor;
use crate::store::Store;

/// The name of the security scheme in the document.
pub const SCHEME: &str = "bearer";

/// A caller whose token, if one is demanded, was found good for the operation.
#[derive(Clone, Debug)]
pub struct Admission {
    caller: Caller,
    client: Client,
    access: Arc<Access>,
}

/// Decides which requests are admitted.
pub struct AdmissionControl {
    access: Arc<Access>,
    rate_limit: Option<RateLimit>,
}

impl AdmissionControl {
    /// Admission by tokens, and by the rate limit of the settings.
    pub fn new(access: Arc<Access>, settings: &Settings) -> Self {
        Self { access, rate_limit: settings.rate_limit.map(RateLimit::new) }
    }

    /// Refuses a request whose token, if one is demanded, does not have the role, or whose client sends too many.
    pub fn admit(&self, request: &Request, role: Role) -> Result<Admission, Problem> {
        let mut lines = request.headers().get_all(header::AUTHORIZATION).iter();
        let line = match (lines.next(), lines.next()) {
            (_, Some(_)) => return Err(unauthorized("The header Authorization must be sent only once.")),
            (line, None) => line.map(HeaderValue::as_bytes),
        };
        let caller = self.access.identify(line).map_err(|denied| unauthorized(&denied.to_string()))?;
        if let Some(actor) = &caller.actor {
            trace::set_actor(actor);
        }
        let client = Client::new(caller.actor.as_ref(), ClientAddress::of_request(request));
        if let Some(rate_limit) = &self.rate_limit {
            rate_limit.check(&client)?;
        }
        let admission = Admission { caller, client, access: Arc::clone(&self.access) };
        admission.require(role)?;
        Ok(admission)
    }
}

impl Admission {
    /// The client, as limits distinguish it from others.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The sender of the request.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The name of the sender's token; `None` where no token is demanded.
    pub fn actor(&self) -> Option<&Actor> {
        self.caller.actor.as_ref()
    }

    /// Refuses a sender without a role.
    pub fn require(&self, role: Role) -> Result<(), Problem> {
        if self.caller.role < role {
            let detail = format!("This call needs the role {role}; the token has the role {}.", self.caller.role);
            return Err(Problem::new(Kind::Forbidden, detail));
        }
        Ok(())
    }

    /// Returns whether the sender still has access. A response without an end checks from time to time.
    pub fn still_holds(&self) -> bool {
        self.access.still_admits(&self.caller)
    }
}

fn unauthorized(detail: &str) -> Problem {
    // RFC 6750, section 3.
    Problem::new(Kind::Unauthorized, detail).with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
}

/// An extractor that demands a role.
pub trait Admitted {
    /// The admission of the caller.
    fn admission(&self) -> &Admission;
}

/// An extractor for a role that may change the inventory.
pub trait MayWrite: Admitted {}

macro_rules! extractors {
    ($($(#[$doc:meta])* $name:ident: $role:ident,)*) => {$(
        $(#[$doc])*
        pub struct $name(Admission);

        impl Admitted for $name {
            fn admission(&self) -> &Admission {
                &self.0
            }
        }

        impl<'a> ApiExtractor<'a> for $name {
            const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];

            type ParamType = ();
            type ParamRawType = ();

            fn register(registry: &mut Registry) {
                registry.create_security_scheme(
                    SCHEME,
                    MetaSecurityScheme {
                        ty: "http",
                        description: Some(
                            "A token that `stockroom token new` made. A server that demands none ignores it.",
                        ),
                        name: None,
                        key_in: None,
                        scheme: Some("bearer"),
                        bearer_format: None,
                        flows: None,
                        openid_connect_url: None,
                    },
                );
            }

            /// Returns the role, which `spec` turns into a requirement of [`SCHEME`].
            fn security_schemes() -> Vec<&'static str> {
                vec![Role::$role.as_str()]
            }

            async fn from_request(
                request: &'a Request,
                _body: &mut RequestBody,
                _options: ExtractParamOptions<()>,
            ) -> poem::Result<Self> {
                Ok(Self(request.data::<Admission>().expect("the router admits before it calls a handler").clone()))
            }
        }
    )*};
}

extractors! {
    /// The role `read`.
    Reads: Read,
    /// The role `write`.
    Writes: Write,
    /// The role `admin`.
    Administers: Admin,
}

impl MayWrite for Writes {}
impl MayWrite for Administers {}

/// A store that only an admitted caller reaches.
#[derive(Clone)]
pub struct Guarded(Arc<dyn Store>);

impl Guarded {
    /// Guards a store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self(store)
    }

    /// The store, for a caller with any role.
    pub fn open(&self, _caller: &impl Admitted) -> &Arc<dyn Store> {
        &self.0
    }
}
