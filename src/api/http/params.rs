//! Parameters of the query and headers: one struct for each call, read strictly, whose values a handler gets only if all
//! are right.

use std::borrow::Cow;

use poem::http::HeaderMap;
use poem::{FromRequest, Request, RequestBody};
use poem_openapi::registry::{MetaOperationParam, MetaParamIn, MetaSchema, MetaSchemaRef};
use poem_openapi::types::{ParseError, ParseFromParameter, ParseResult};

use super::problem::{Kind, Problem};
use crate::api::openapi::schema::{Schema, inline};
use crate::domain::{
    Actor, Barcode, Invalid, ItemId, Label, Position, Reason, Reference, ReservationId, ReservationState, Timestamp,
    Version,
};
use crate::files::errors::{Errors, FieldError, Location};
use crate::files::rows::Format;
use crate::files::separator::Separator;
use crate::store::{ImportKind, ImportMode, SearchText};

/// A value that a parameter or a header can carry.
pub trait Parameter: Schema + Sized + Send + Sync {
    /// Reads it from its text.
    fn parse(text: &str) -> Result<Self, Invalid>;
}

/// The location of a parameter in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum In {
    /// In the query.
    Query,
    /// In a header.
    Header,
}

/// The description of a parameter.
pub struct ParameterSpec {
    /// Its location.
    pub location: In,
    /// Its name.
    pub name: &'static str,
    /// Its description in the document.
    pub doc: &'static str,
    /// Its schema.
    pub schema: fn() -> MetaSchemaRef,
}

/// The parameters of one call, which [`parameters!`] declares.
pub trait Parameters: Sized {
    /// Their descriptions.
    const DECLARED: &'static [ParameterSpec];

    /// Reads each of them, and puts everything that is wrong into the errors of `sent`.
    fn read(sent: &mut RequestParameters<'_>) -> Self;
}

/// Declares the parameters of a call as a struct, whose doc comments are their descriptions in the document.
///
/// All are optional. A handler gets the struct only if each parameter that was sent is right, so that there is no value
/// in it that nobody checked. It precedes the body, so that no body is read without need.
///
/// ```ignore
/// parameters! {
///     GetItem {
///         /// Answer 304, without the item, if it is still in one of these versions.
///         header if_none_match "If-None-Match": EntityTags,
///     }
/// }
/// ```
macro_rules! parameters {
    ($set:ident { $($(#[doc = $doc:literal])* $location:ident $field:ident $($name:literal)?: $type:ty,)* }) => {
        /// The parameters of the call.
        pub struct $set {
            $($field: Option<$type>,)*
        }

        impl $crate::api::http::params::Parameters for $set {
            const DECLARED: &'static [$crate::api::http::params::ParameterSpec] = &[$(
                $crate::api::http::params::ParameterSpec {
                    location: $crate::api::http::params::parameters!(@location $location),
                    name: $crate::api::http::params::parameters!(@name $field $($name)?),
                    doc: concat!($($doc, "\n"),*).trim_ascii(),
                    schema: <$type as $crate::api::openapi::schema::Schema>::schema_ref,
                },
            )*];

            fn read(sent: &mut $crate::api::http::params::RequestParameters<'_>) -> Self {
                Self {
                    $($field: sent.$location($crate::api::http::params::parameters!(@name $field $($name)?)),)*
                }
            }
        }

        impl<'a> poem_openapi::ApiExtractor<'a> for $set {
            const TYPES: &'static [poem_openapi::ApiExtractorType] = &[poem_openapi::ApiExtractorType::Parameter];

            type ParamType = ();
            type ParamRawType = ();

            fn register(registry: &mut poem_openapi::registry::Registry) {
                $(<$type as $crate::api::openapi::schema::Schema>::register(registry);)*
            }

            fn param_in() -> Option<poem_openapi::registry::MetaParamIn> {
                Some(poem_openapi::registry::MetaParamIn::Query)
            }

            fn param_schema_ref() -> Option<poem_openapi::registry::MetaSchemaRef> {
                Some($crate::api::http::params::pack::<Self>())
            }

            async fn from_request(
                request: &'a poem::Request,
                _body: &mut poem::RequestBody,
                _options: poem_openapi::ExtractParamOptions<()>,
            ) -> poem::Result<Self> {
                Ok($crate::api::http::params::read(request)?)
            }
        }
    };
    (@location query) => { $crate::api::http::params::In::Query };
    (@location header) => { $crate::api::http::params::In::Header };
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $name:literal) => { $name };
}
pub(crate) use parameters;

/// Reads the parameters of a call; the problem names everything that is wrong with them.
pub fn read<P: Parameters>(request: &Request) -> Result<P, Problem> {
    let mut sent = RequestParameters::new(request.uri().query().unwrap_or_default(), request.headers(), P::DECLARED);
    if !request.method().is_safe() {
        sent.refuse_other_preconditions(P::DECLARED);
    }
    let parameters = P::read(&mut sent);
    sent.check().map(|()| parameters)
}

/// Refuses every parameter of a call that takes none.
pub fn read_none(request: &Request) -> Result<(), Problem> {
    let mut sent = RequestParameters::new(request.uri().query().unwrap_or_default(), request.headers(), &[]);
    if !request.method().is_safe() {
        sent.refuse_other_preconditions(&[]);
    }
    sent.check()
}

/// The parameters that a request brings, and what is wrong with them.
pub struct RequestParameters<'a> {
    query: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    headers: &'a HeaderMap,
    errors: Errors,
}

impl<'a> RequestParameters<'a> {
    /// Reads a query of the form `name=value&…`, with `declared` names only, each once.
    fn new(query: &'a str, headers: &'a HeaderMap, declared: &[ParameterSpec]) -> Self {
        let known =
            || declared.iter().filter(|parameter| parameter.location == In::Query).map(|parameter| parameter.name);
        let mut pairs: Vec<(Cow<'a, str>, Cow<'a, str>)> = Vec::new();
        let mut errors = Errors::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (decode(name), decode(value)) else {
                let shown = decode(name).unwrap_or_default();
                let invalid = || Invalid::new("encoding", "must be percent-encoded UTF-8");
                errors.add(|| FieldError::new(Location::parameter(&shown), invalid()));
                continue;
            };
            if !known().any(|known| known == name) {
                errors.add(|| {
                    let known: Vec<_> = known().collect();
                    let detail = match &*known {
                        [] => "is unknown; this call takes no parameters".to_owned(),
                        known => format!("is unknown; this call takes {}", known.join(", ")),
                    };
                    FieldError::new(Location::parameter(&name), Invalid::new("unknown-parameter", detail))
                });
            } else if pairs.iter().any(|(earlier, _)| *earlier == name) {
                let invalid = || Invalid::new("duplicate-parameter", "must be given only once");
                errors.add(|| FieldError::new(Location::parameter(&name), invalid()));
            } else {
                pairs.push((name, value));
            }
        }
        Self { query: pairs, headers, errors }
    }

    /// Refuses the preconditions of a change that are not `declared`: ignored, they would let through what they were sent
    /// to prevent.
    fn refuse_other_preconditions(&mut self, declared: &[ParameterSpec]) {
        for name in ["If-Match", "If-None-Match"] {
            if self.headers.contains_key(name) && !declared.iter().any(|parameter| parameter.name == name) {
                self.refuse(Location::Header(name), Invalid::new("unsupported", "is no precondition of this call"));
            }
        }
    }

    /// Returns the value of a parameter of the query; `None` if it is absent or wrong.
    pub fn query<T: Parameter>(&mut self, name: &'static str) -> Option<T> {
        let (_, text) = self.query.iter().find(|(sent, _)| sent == name)?;
        T::parse(text).map_err(|invalid| self.refuse(Location::parameter(name), invalid)).ok()
    }

    /// Returns the value of a header; `None` if it is absent or wrong.
    ///
    /// Several lines of one header count as one, joined by commas (RFC 9110, section 5.3). A value that is not ASCII is
    /// wrong, where poem would take it for absent.
    pub fn header<T: Parameter>(&mut self, name: &'static str) -> Option<T> {
        let parsed = joined(self.headers, name)?.and_then(|text| T::parse(&text));
        parsed.map_err(|invalid| self.refuse(Location::Header(name), invalid)).ok()
    }

    /// All errors, as one problem.
    fn check(self) -> Result<(), Problem> {
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::with_errors(Kind::InvalidParameter, self.errors)) }
    }

    fn refuse(&mut self, location: Location, invalid: Invalid) {
        self.errors.add(|| FieldError::new(location, invalid));
    }
}

/// Undoes the encoding of `application/x-www-form-urlencoded`; `None` if that gives no UTF-8.
fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('+') {
        return percent_encoding::percent_decode_str(text).decode_utf8().ok();
    }
    let spaced = text.replace('+', " ");
    let decoded = percent_encoding::percent_decode_str(&spaced).decode_utf8().ok()?;
    Some(Cow::Owned(decoded.into_owned()))
}

/// The type of the schema in which [`pack`] packs parameters.
const PACKED: &str = "parameters";

/// Packs the parameters of a call into one schema: poem-openapi knows only one parameter for each argument of a handler.
pub fn pack<P: Parameters>() -> MetaSchemaRef {
    let parameter = |parameter: &ParameterSpec| {
        let schema = Some(Box::new((parameter.schema)()));
        let location = match parameter.location {
            In::Query => "query",
            In::Header => "header",
        };
        let packed = MetaSchema { description: Some(parameter.doc), items: schema, ..MetaSchema::new(location) };
        (parameter.name, inline(packed))
    };
    inline(MetaSchema { properties: P::DECLARED.iter().map(parameter).collect(), ..MetaSchema::new(PACKED) })
}

/// Unpacks what [`pack`] has packed: one parameter for each.
pub fn unpack(parameter: MetaOperationParam) -> Vec<MetaOperationParam> {
    let MetaSchemaRef::Inline(packed) = &parameter.schema else { return vec![parameter] };
    if packed.ty != PACKED {
        return vec![parameter];
    }
    let unpacked = packed.properties.iter().map(|(name, packed)| {
        let packed = packed.unwrap_inline();
        MetaOperationParam {
            name: (*name).to_owned(),
            schema: packed.items.as_deref().expect("a packed parameter has a schema").clone(),
            in_type: if packed.ty == "query" { MetaParamIn::Query } else { MetaParamIn::Header },
            description: packed.description.map(str::to_owned),
            required: false,
            deprecated: false,
            explode: true,
            style: None,
        }
    });
    unpacked.collect()
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

/// The query as it was sent, for links to other pages of the same list.
pub struct SentQuery(String);

impl<'a> FromRequest<'a> for SentQuery {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        Ok(Self(request.uri().query().unwrap_or_default().to_owned()))
    }
}

impl SentQuery {
    /// The same query with another value for one parameter.
    pub fn with(&self, name: &str, value: &str) -> String {
        let sent = self.0.split('&').filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name)?, decode(value)?))
        });
        let others = sent.filter(|(other, _)| !other.is_empty() && other != name);
        let pairs = others.chain([(name.into(), value.into())]).map(|(name, value)| {
            let value = percent_encoding::utf8_percent_encode(&value, percent_encoding::NON_ALPHANUMERIC);
            format!("{name}={value}")
        });
        pairs.collect::<Vec<_>>().join("&")
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

text_parameters!(Actor, Barcode, ItemId, Label, Reason, Reference, SearchText, ReservationState, Separator, Timestamp);

/// The schema of a parameter that is one of a few names.
fn one_of(names: impl IntoIterator<Item = &'static str>, default: Option<&'static str>) -> MetaSchemaRef {
    inline(MetaSchema {
        enum_items: names.into_iter().map(Into::into).collect(),
        default: default.map(Into::into),
        ..MetaSchema::new("string")
    })
}

/// The error of a parameter that is none of a few names.
fn none_of(names: &[&str]) -> Invalid {
    let detail = match names {
        [one, other] => format!("must be {one} or {other}"),
        _ => format!("must be one of {}", names.join(", ")),
    };
    Invalid::new("enum", detail)
}

macro_rules! named_parameters {
    ($($type:ident $(= $default:expr)?;)*) => {
        $(
            impl Schema for $type {
                fn schema_ref() -> MetaSchemaRef {
                    one_of($type::ALL.map($type::as_str), [$($default.as_str())?].into_iter().next())
                }
            }

            impl Parameter for $type {
                fn parse(text: &str) -> Result<Self, Invalid> {
                    let named = $type::ALL.into_iter().find(|value| value.as_str() == text);
                    named.ok_or_else(|| none_of(&$type::ALL.map($type::as_str)))
                }
            }
        )*
    };
}

named_parameters! {
    Format;
    ImportKind = ImportKind::default();
    ImportMode = ImportMode::default();
}

impl Schema for Separator {
    fn schema_ref() -> MetaSchemaRef {
        one_of(Separator::ALL.map(Separator::name), None)
    }
}

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

/// Implements poem's path parameters for a type. No resource has an invalid value, so it is answered with 404.
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

    fn declared(name: &'static str) -> ParameterSpec {
        ParameterSpec { location: In::Query, name, doc: "", schema: <String as Schema>::schema_ref }
    }

    #[test]
    fn an_empty_query_has_no_parameters() {
        let headers = HeaderMap::new();
        for query in ["", "&", "&&"] {
            assert!(RequestParameters::new(query, &headers, &[]).check().is_ok(), "{query}");
        }
    }

    #[test]
    fn unknown_repeated_and_undecodable_parameters_are_all_named() {
        let headers = HeaderMap::new();
        let known = ["limit", "q"].map(declared);
        let sent = RequestParameters::new("limit=1&x=2&limit=3&q=%ff&q=a+b%21", &headers, &known);
        let codes: Vec<_> = sent.errors.listed().iter().map(|error| error.code).collect();
        assert_eq!(codes, ["unknown-parameter", "duplicate-parameter", "encoding"]);
        assert_eq!(sent.query, [("limit".into(), "1".into()), ("q".into(), "a b!".into())]);
    }

    #[test]
    fn a_link_keeps_the_other_parameters_as_they_were_sent() {
        let sent = SentQuery("&limit=2&q=a+b%21&cur%73or=old&low_stock".to_owned());
        assert_eq!(sent.with("cursor", "a/b"), "limit=2&q=a%20b%21&low_stock=&cursor=a%2Fb");
    }
}
