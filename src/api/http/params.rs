//! Parameters of the query and headers: read strictly, with everything that is wrong gathered before the handler runs.

use std::sync::{Arc, Mutex, PoisonError};

use poem::http::HeaderMap;
use poem::{FromRequest, Request, RequestBody};
use poem_openapi::registry::{MetaParamIn, MetaSchema, MetaSchemaRef};
use poem_openapi::types::{ParseError, ParseFromParameter, ParseResult};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};

use super::problem::{Kind, Problem};
use crate::api::openapi::schema::{Schema, inline};
use crate::domain::{
    Invalid, ItemId, Label, Position, Reason, Reference, ReservationId, ReservationState, Timestamp, Version,
};
use crate::files::errors::{Errors, FieldError, Place};
use crate::store::SearchText;

/// A value that a parameter or a header can carry.
pub trait Parameter: Schema + Sized + Send + Sync {
    /// Reads it from its text.
    fn parse(text: &str) -> Result<Self, Invalid>;
}

/// What has been read of a request's parameters, and what is wrong with them.
#[derive(Clone)]
pub struct Inputs(Arc<State>);

struct State {
    query: Vec<(String, String)>,
    errors: Mutex<Errors>,
}

impl Inputs {
    /// Reads a query of the form `name=value&…`, in which only the names in `known` may stand, each once.
    pub fn read(query: &str, known: &[&str]) -> Self {
        let mut pairs: Vec<(String, String)> = Vec::new();
        let mut errors = Errors::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (decode(name), decode(value)) else {
                let shown = decode(name).unwrap_or_default();
                let invalid = || Invalid::new("encoding", "must be percent-encoded UTF-8");
                errors.add(|| FieldError::new(Place::parameter(&shown), invalid()));
                continue;
            };
            if !known.contains(&&*name) {
                errors.add(|| {
                    let detail = match known {
                        [] => "is unknown; this call takes no parameters".to_owned(),
                        known => format!("is unknown; this call takes {}", known.join(", ")),
                    };
                    FieldError::new(Place::parameter(&name), Invalid::new("unknown-parameter", detail))
                });
            } else if pairs.iter().any(|(earlier, _)| *earlier == name) {
                let invalid = || Invalid::new("duplicate-parameter", "must be given only once");
                errors.add(|| FieldError::new(Place::parameter(&name), invalid()));
            } else {
                pairs.push((name, value));
            }
        }
        Self(Arc::new(State { query: pairs, errors: Mutex::new(errors) }))
    }

    /// Refuses the preconditions of a change that it does not look at: left aside in silence, they would let through
    /// what they were sent to prevent.
    pub fn refuse_other_preconditions(&self, headers: &HeaderMap, known: &[&str]) {
        for name in ["If-Match", "If-None-Match"] {
            if headers.contains_key(name) && !known.contains(&name) {
                self.refuse(Place::Header(name), Invalid::new("unsupported", "is no precondition of this call"));
            }
        }
    }

    /// Everything that is wrong so far, as one problem.
    pub fn check(&self) -> Result<(), Problem> {
        let errors = std::mem::take(&mut *self.errors());
        if errors.is_empty() { Ok(()) } else { Err(Problem::with_errors(Kind::InvalidParameter, errors)) }
    }

    fn refuse(&self, place: Place, invalid: Invalid) {
        self.errors().add(|| FieldError::new(place, invalid));
    }

    fn errors(&self) -> std::sync::MutexGuard<'_, Errors> {
        self.0.errors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(request: &Request) -> &Self {
        request.data().expect("the router puts the inputs into each request")
    }
}

/// Undoes the encoding of `application/x-www-form-urlencoded`; `None` if that gives no UTF-8.
fn decode(text: &str) -> Option<String> {
    let spaced = text.replace('+', " ");
    percent_encoding::percent_decode_str(&spaced).decode_utf8().ok().map(|text| text.into_owned())
}

/// An optional parameter of the query. `None` if it is absent, or wrong, which [`Checked`] then tells.
pub struct Query<T>(pub Option<T>);

impl<'a, T: Parameter> ApiExtractor<'a> for Query<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::Parameter];

    type ParamType = ();
    type ParamRawType = ();

    fn param_in() -> Option<MetaParamIn> {
        Some(MetaParamIn::Query)
    }

    fn param_schema_ref() -> Option<MetaSchemaRef> {
        Some(T::schema_ref())
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let inputs = Inputs::of(request);
        let text = inputs.0.query.iter().find(|(name, _)| name == options.name).map(|(_, value)| value);
        Ok(Self(text.and_then(|text| {
            T::parse(text).map_err(|invalid| inputs.refuse(Place::parameter(options.name), invalid)).ok()
        })))
    }
}

/// An optional header. `None` if it is absent, or wrong, which [`Checked`] then tells.
///
/// Several lines of one header count as one, joined by commas (RFC 9110, section 5.3). A value that is not ASCII is
/// wrong, where poem would take it for absent.
pub struct Header<T>(pub Option<T>);

impl<'a, T: Parameter> ApiExtractor<'a> for Header<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::Parameter];

    type ParamType = ();
    type ParamRawType = ();

    fn param_in() -> Option<MetaParamIn> {
        Some(MetaParamIn::Header)
    }

    fn param_schema_ref() -> Option<MetaSchemaRef> {
        Some(T::schema_ref())
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let parsed = joined(request.headers(), options.name).map(|text| text.and_then(|text| T::parse(&text)));
        Ok(Self(parsed.and_then(|parsed| {
            parsed.map_err(|invalid| Inputs::of(request).refuse(Place::Header(options.name), invalid)).ok()
        })))
    }
}

/// All lines of a header as one; an error if one is not ASCII.
pub fn joined(headers: &HeaderMap, name: &str) -> Option<Result<String, Invalid>> {
    let lines: Vec<_> = headers.get_all(name).iter().map(|line| line.to_str()).collect();
    if lines.is_empty() {
        return None;
    }
    let lines: Result<Vec<_>, _> = lines.into_iter().collect();
    Some(lines.map(|lines| lines.join(", ")).map_err(|_| Invalid::new("encoding", "must be ASCII")))
}

/// Says that all parameters before it are right. It stands after them and before the body in every operation that has
/// parameters; an operation without any needs none.
pub struct Checked;

impl<'a> FromRequest<'a> for Checked {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        Inputs::of(request).check()?;
        Ok(Self)
    }
}

/// The query as it was sent, for links to other pages of the same list.
pub struct SentQuery(Vec<(String, String)>);

impl<'a> FromRequest<'a> for SentQuery {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        Ok(Self(Inputs::of(request).0.query.clone()))
    }
}

impl SentQuery {
    /// The same query with another value for one parameter.
    pub fn with(&self, name: &str, value: &str) -> String {
        let others = self.0.iter().filter(|(other, _)| other != name);
        let pairs = others.map(|(name, value)| (&**name, &**value)).chain([(name, value)]);
        let encode = |text| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC);
        pairs.map(|(name, value)| format!("{name}={}", encode(value))).collect::<Vec<_>>().join("&")
    }
}

macro_rules! text_parameters {
    ($($type:ident),*) => {
        $(
            impl Parameter for $type {
                fn parse(text: &str) -> Result<Self, Invalid> {
                    $type::parse(text)
                }
            }
        )*
    };
}

text_parameters!(ItemId, Label, Reason, Reference, SearchText, ReservationState, Timestamp);

impl Schema for SearchText {
    fn schema_ref() -> MetaSchemaRef {
        inline(MetaSchema {
            min_length: Some(SearchText::MIN_CHARS),
            max_length: Some(SearchText::MAX_CHARS),
            pattern: Some(r"^[^\u0000]*$".to_owned()),
            ..MetaSchema::new("string")
        })
    }
}

impl Parameter for bool {
    fn parse(text: &str) -> Result<Self, Invalid> {
        text.parse().map_err(|_| Invalid::wrong_type("true or false"))
    }
}

impl Parameter for Position {
    fn parse(text: &str) -> Result<Self, Invalid> {
        integer(text, 0, i64::MAX).map(Position::new)
    }
}

impl Parameter for Version {
    fn parse(text: &str) -> Result<Self, Invalid> {
        integer(text, 1, i64::MAX).map(Version::new)
    }
}

/// A plain decimal number in a range.
pub fn integer(text: &str, minimum: i64, maximum: i64) -> Result<i64, Invalid> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number| digits && (minimum..=maximum).contains(number));
    number.ok_or_else(|| Invalid::new("out-of-range", format!("must be an integer from {minimum} to {maximum}")))
}

/// How poem's own path parameters are read; a value that can be none is nowhere in the inventory, so it answers 404.
macro_rules! path_parameter {
    ($type:ident, $parse:expr) => {
        impl poem_openapi::types::Type for $type {
            const IS_REQUIRED: bool = true;

            type RawValueType = Self;
            type RawElementValueType = Self;

            fn name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn schema_ref() -> MetaSchemaRef {
                <Self as Schema>::schema_ref()
            }

            fn as_raw_value(&self) -> Option<&Self> {
                Some(self)
            }

            fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
                Box::new(std::iter::once(self))
            }
        }

        impl ParseFromParameter for $type {
            fn parse_from_parameter(value: &str) -> ParseResult<Self> {
                // poem has percent-decoded it.
                $parse(value).map_err(|invalid: Invalid| ParseError::custom(invalid.detail))
            }
        }
    };
}

path_parameter!(ItemId, <ItemId as Parameter>::parse);
path_parameter!(Position, <Position as Parameter>::parse);
path_parameter!(ReservationId, |text: &str| ReservationId::parse(text));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_query_has_no_parameters() {
        for query in ["", "&", "&&"] {
            assert!(Inputs::read(query, &[]).check().is_ok(), "{query}");
        }
    }

    #[test]
    fn unknown_repeated_and_undecodable_parameters_are_all_named() {
        let inputs = Inputs::read("limit=1&x=2&limit=3&q=%ff&q=a+b%21", &["limit", "q"]);
        let codes: Vec<_> = inputs.errors().listed().iter().map(|error| error.code).collect();
        assert_eq!(codes, ["unknown-parameter", "duplicate-parameter", "encoding"]);
        assert_eq!(inputs.0.query, [("limit".to_owned(), "1".to_owned()), ("q".to_owned(), "a b!".to_owned())]);
    }
}
