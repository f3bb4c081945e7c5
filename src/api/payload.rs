//! JSON bodies: read strictly and with a limit, written directly.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use poem::http::{HeaderName, HeaderValue, Method, header};
use poem::{IntoResponse, Request, RequestBody, Response};
use poem_openapi::payload::Payload;
use poem_openapi::registry::{MetaMediaType, MetaRequest, MetaSchemaRef, Registry};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::problem::{FieldError, Kind, Place, Problem};
use super::schema::{Read, Schema, member_pointer};
use crate::domain::Invalid;

/// Which media types `PATCH` takes (RFC 5789, section 3.1).
pub const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// The media type of JSON.
const JSON: &str = "application/json";

/// How deeply arrays and objects may be nested in a body.
const MAX_DEPTH: usize = 32;

/// How many times the limit is read and thrown away of a body that is too large, so that a client that sends it all
/// before it listens gets the answer rather than a broken connection.
const DRAIN: usize = 16;

/// The limits on a request's body.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// The most bytes.
    pub max_bytes: usize,
    /// How long it may take to arrive.
    pub timeout: Duration,
}

/// The JSON body of an answer.
pub struct Json<T>(pub T);

impl<T: Schema + Send> Payload for Json<T> {
    const CONTENT_TYPE: &'static str = JSON;

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<T: serde::Serialize + Send> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self.0).expect("what the API answers can be written as JSON");
        body.with_content_type(JSON).into_response()
    }
}

/// The body of a request, in the JSON of the media type `M`.
pub struct Body<T, M> {
    /// What it says.
    pub value: T,
    /// Its bytes.
    pub bytes: Bytes,
    media_type: PhantomData<M>,
}

/// A plain JSON body.
pub type JsonBody<T> = Body<T, PlainJson>;

/// A JSON Merge Patch (RFC 7396).
pub type MergePatch<T> = Body<T, MergePatchJson>;

/// A media type whose grammar is JSON.
pub trait JsonMediaType: Send {
    /// Its name.
    const NAME: &'static str;
}

/// `application/json` (RFC 8259).
pub struct PlainJson;

impl JsonMediaType for PlainJson {
    const NAME: &'static str = JSON;
}

/// `application/merge-patch+json` (RFC 7396).
pub struct MergePatchJson;

impl JsonMediaType for MergePatchJson {
    const NAME: &'static str = "application/merge-patch+json";
}

impl<'a, T: Read + Schema + Send, M: JsonMediaType> ApiExtractor<'a> for Body<T, M> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let content = vec![MetaMediaType { content_type: M::NAME, schema: T::schema_ref() }];
        Some(MetaRequest { description: None, content, required: true })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        check_media_type(request, &[M::NAME])?;
        check_coding(request)?;
        let limits = *request.data::<BodyLimits>().expect("the app puts limits into each request");
        let bytes = read_body(request, body, limits).await?;
        let value = parse(&bytes)?;
        let mut errors = Vec::new();
        match T::read(value, "", &mut errors) {
            Some(value) if errors.is_empty() => Ok(Self { value, bytes, media_type: PhantomData }),
            _ => Err(Problem::with_errors(Kind::InvalidBody, errors).into()),
        }
    }
}

/// Which of the `expected` media types the body has, in UTF-8.
pub fn check_media_type(request: &Request, expected: &[&'static str]) -> Result<&'static str, Problem> {
    let sent = request.header(header::CONTENT_TYPE).unwrap_or_default();
    let (essence, parameters) = sent.split_once(';').unwrap_or((sent, ""));
    let utf8 = parameters.split(';').all(|parameter| {
        parameter
            .trim()
            .to_ascii_lowercase()
            .strip_prefix("charset=")
            .is_none_or(|charset| charset.trim_matches('"') == "utf-8")
    });
    if let Some(found) = expected.iter().find(|expected| essence.trim().eq_ignore_ascii_case(expected) && utf8) {
        return Ok(found);
    }
    let detail = format!(
        "This call reads {} in UTF-8; say so with the header Content-Type: {}.",
        expected.join(" or "),
        expected[0]
    );
    // PATCH has a header of its own for this (RFC 5789, section 3.1).
    let name = if *request.method() == Method::PATCH { ACCEPT_PATCH } else { header::ACCEPT };
    let expected = HeaderValue::from_str(&expected.join(", ")).expect("media types are plain");
    Err(Problem::new(Kind::UnsupportedMediaType, detail).with_header(name, expected))
}

/// Refuses a compressed body.
pub fn check_coding(request: &Request) -> Result<(), Problem> {
    let mut codings = request.headers().get_all(header::CONTENT_ENCODING).iter();
    if codings.all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Ok(());
    }
    // RFC 9110, section 15.5.16.
    Err(Problem::new(Kind::UnsupportedMediaType, "The body is compressed; this call reads it only as it is.")
        .with_header(header::ACCEPT_ENCODING, HeaderValue::from_static("identity")))
}

/// The problem of a body that ends before it is complete, or whose chunks break the grammar.
pub fn cut_short() -> Problem {
    Problem::new(Kind::MalformedRequest, "The body was cut short on its way, or its chunks are framed wrongly.")
        .with_header(header::CONNECTION, HeaderValue::from_static("close"))
}

async fn read_body(request: &Request, body: &mut RequestBody, limits: BodyLimits) -> Result<Bytes, Problem> {
    let BodyLimits { max_bytes, timeout } = limits;
    let too_large = || Problem::new(Kind::BodyTooLarge, format!("The body may have at most {max_bytes} bytes."));
    let announced = request.header(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok()).unwrap_or(0);
    if announced > (max_bytes as u64).saturating_mul(DRAIN as u64) {
        return Err(too_large().with_header(header::CONNECTION, HeaderValue::from_static("close")));
    }
    let mut incoming = body.take().map_err(|_| Problem::internal())?.into_bytes_stream();
    let read = async {
        // What is announced is not believed: memory is taken as bytes arrive.
        let mut bytes = BytesMut::new();
        let mut total = 0usize;
        while let Some(data) = incoming.next().await {
            let data = data.map_err(|_| cut_short())?;
            total = total.saturating_add(data.len());
            if total > max_bytes.saturating_mul(DRAIN) {
                return Err(too_large().with_header(header::CONNECTION, HeaderValue::from_static("close")));
            }
            if total <= max_bytes {
                bytes.extend_from_slice(&data);
            }
        }
        if total > max_bytes { Err(too_large()) } else { Ok(bytes.freeze()) }
    };
    match tokio::time::timeout(timeout, read).await {
        Ok(outcome) => outcome,
        Err(_elapsed) => {
            let detail = format!("The body did not arrive within {} ms.", timeout.as_millis());
            Err(Problem::new(Kind::RequestTimeout, detail)
                .with_header(header::CONNECTION, HeaderValue::from_static("close")))
        }
    }
}

/// Reads a JSON text (RFC 8259), and refuses what other readers tell apart: names that come twice, deep nesting.
pub fn parse(text: &[u8]) -> Result<Value, Problem> {
    read_json(text).map_err(|flaw| match flaw {
        JsonFlaw::Empty => Problem::new(Kind::InvalidJson, "The body is empty; this call takes a JSON object."),
        JsonFlaw::Twice(errors) => Problem::with_errors(Kind::InvalidJson, errors),
        JsonFlaw::Broken { what, line, column } => {
            Problem::new(Kind::InvalidJson, format!("The body {what}, at line {line} column {column}."))
        }
    })
}

/// Why a text is not JSON.
pub enum JsonFlaw {
    /// There is nothing.
    Empty,
    /// Members that are there more than once.
    Twice(Vec<FieldError>),
    /// It cannot be read on.
    Broken {
        /// What it does there.
        what: String,
        /// In which line, from 1.
        line: usize,
        /// At which byte of the line, from 1.
        column: usize,
    },
}

/// As [`parse`], for a text that is no body.
pub fn read_json(text: &[u8]) -> Result<Value, JsonFlaw> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(JsonFlaw::Empty);
    }
    let twice = RefCell::new(Vec::new());
    let too_deep = Cell::new(false);
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let strict = Strict { pointer: String::new(), depth: 0, twice: &twice, too_deep: &too_deep };
    let value = strict.deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
    let twice = twice.into_inner();
    match value {
        Ok(value) if twice.is_empty() => Ok(value),
        Ok(_) => Err(JsonFlaw::Twice(twice)),
        Err(error) => {
            let what = match error.classify() {
                _ if too_deep.get() => format!("is nested more than {MAX_DEPTH} levels deep"),
                serde_json::error::Category::Eof => "ends too early".to_owned(),
                _ => "breaks the grammar of JSON".to_owned(),
            };
            Err(JsonFlaw::Broken { what, line: error.line(), column: error.column() })
        }
    }
}

/// Reads one JSON value and notes what is wrong with it that serde_json lets pass.
struct Strict<'a> {
    pointer: String,
    depth: usize,
    twice: &'a RefCell<Vec<FieldError>>,
    too_deep: &'a Cell<bool>,
}

impl Strict<'_> {
    fn inside<E: serde::de::Error>(&self, pointer: String) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            self.too_deep.set(true);
            return Err(E::custom("too deep"));
        }
        Ok(Self { pointer, depth: self.depth + 1, ..*self })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(element) =
            elements.next_element_seed(self.inside::<A::Error>(format!("{}/{}", self.pointer, array.len()))?)?
        {
            array.push(element);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let pointer = member_pointer(&self.pointer, &name);
            if object.contains_key(&name) {
                let twice = Invalid::new("duplicate-member", "must be there only once");
                self.twice.borrow_mut().push(FieldError::new(Place::Pointer(pointer.clone()), twice));
            }
            object.insert(name, members.next_value_seed(self.inside::<A::Error>(pointer)?)?);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(text: &str) -> String {
        parse(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn plain_json_is_read_as_it_is() {
        let value = parse(br#" {"a": [1, -2, 1.5, "\u00e9", null, true], "b": {}} "#).unwrap();
        assert_eq!(value.to_string(), r#"{"a":[1,-2,1.5,"é",null,true],"b":{}}"#);
    }

    #[test]
    fn what_is_not_json_is_refused_with_its_place() {
        assert!(detail("").contains("empty"));
        assert!(detail(" \n").contains("empty"));
        assert!(detail("{\"a\": ").contains("ends too early, at line 1"));
        assert!(detail("{\n\"a\": nul}").contains("breaks the grammar of JSON, at line 2"));
        assert!(detail("{} {}").contains("grammar"));
        assert!(detail("{'a': 1}").contains("grammar"));
        assert!(detail(r#"{"a": "\ud800"}"#).contains("grammar"));
        assert!(detail("{\"a\": NaN}").contains("grammar"));
        assert!(parse(b"{\"a\": \"\xff\"}").is_err());
        assert!(parse("\u{feff}{}".as_bytes()).is_err());
    }

    #[test]
    fn every_name_that_comes_twice_is_named() {
        let problem = parse(br#"{"a": 1, "a": 2, "b": [{"x/y": 1, "x/y": 1}]}"#).unwrap_err();
        assert_eq!(problem.kind(), Kind::InvalidJson);
        let body = format!("{problem:?}");
        assert!(body.contains("\"/a\"") && body.contains("\"/b/0/x~1y\""), "{body}");
    }

    #[test]
    fn nesting_has_a_limit() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert!(detail(&nested(MAX_DEPTH + 1)).contains("levels deep"));
        assert!(detail(&"[".repeat(100_000)).contains("levels deep"));
    }
}
