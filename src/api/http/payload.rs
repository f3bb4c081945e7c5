//! JSON bodies: read strictly and with a limit, written directly.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use poem::http::{HeaderName, HeaderValue, Method, header};
use poem::{IntoResponse, Request, RequestBody, Response};
use poem_openapi::payload::Payload;
use poem_openapi::registry::{MetaMediaType, MetaRequest, MetaSchemaRef, Registry};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::{Kind, Problem};
use crate::api::openapi::schema::{Read, Schema};
use crate::config::Settings;
use crate::files::errors::Pointer;
use crate::files::json::{self, Document, JsonError};

/// Which media types `PATCH` takes (RFC 5789, section 3.1).
pub const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// The media type of JSON.
const JSON: &str = "application/json";

/// The most bytes of a body that is read where it arrives. A longer one may take more than a millisecond, and is read
/// on a thread that no other request waits for.
const MAX_INLINE: usize = 32 * 1024;

/// Multiple of the limit that is read and discarded of a body that is too large, so that a client that sends it all
/// before it listens gets the response rather than a broken connection.
const DRAIN: usize = 16;

/// The bytes of a body that every request may hold in memory. More of it counts against [`LARGE_BODIES`].
const SMALL_BODY: usize = 16 * 1024;

/// The bytes that the large bodies of all requests under way may hold in memory together, or the largest body if that is
/// more: else 1,024 connections, each with a slow body of 1 MiB, would take 1 GiB.
const LARGE_BODIES: usize = 32 * 1024 * 1024;

/// The step in which a large body takes its memory.
const BODY_STEP: usize = 64 * 1024;

/// The limits on a request's body.
#[derive(Clone, Debug)]
pub struct BodyLimits {
    max_bytes: usize,
    timeout: Duration,
    /// The steps that large bodies may still take.
    steps: Arc<Semaphore>,
}

impl BodyLimits {
    /// The limits that the settings give each request of the app.
    pub fn new(settings: &Settings) -> Self {
        let max_bytes = settings.max_body.get() as usize;
        let steps = LARGE_BODIES.max(max_bytes).div_ceil(BODY_STEP);
        Self { max_bytes, timeout: settings.body_timeout.get(), steps: Arc::new(Semaphore::new(steps)) }
    }
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

/// The body of a request, in JSON of one of the media types `M`.
pub struct Body<T, M> {
    pub value: T,
    /// Its bytes.
    pub bytes: Bytes,
    /// Its share of what large bodies may hold.
    _steps: Option<OwnedSemaphorePermit>,
    media_type: PhantomData<M>,
}

/// A plain JSON body.
pub type JsonBody<T> = Body<T, PlainJson>;

/// A JSON Merge Patch (RFC 7396).
pub type MergePatch<T> = Body<T, MergePatchJson>;

/// Media types whose grammar is JSON.
pub trait JsonMediaType: Send {
    /// Their names, the usual one first.
    const NAMES: &'static [&'static str];
}

/// `application/json` (RFC 8259).
pub struct PlainJson;

impl JsonMediaType for PlainJson {
    const NAMES: &'static [&'static str] = &[JSON];
}

/// `application/merge-patch+json` (RFC 7396), and `application/json` for clients that know no other.
pub struct MergePatchJson;

impl JsonMediaType for MergePatchJson {
    const NAMES: &'static [&'static str] = &["application/merge-patch+json", JSON];
}

impl<'a, T: Read + Schema + Send + 'static, M: JsonMediaType> ApiExtractor<'a> for Body<T, M> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let content = M::NAMES.iter().map(|name| MetaMediaType { content_type: name, schema: T::schema_ref() });
        Some(MetaRequest { description: None, content: content.collect(), required: true })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        check_media_type(request, M::NAMES)?;
        check_coding(request)?;
        let limits = request.data::<BodyLimits>().expect("the app puts limits into each request");
        let (bytes, steps) = read_body(request, body, limits).await?;
        let value = if bytes.len() <= MAX_INLINE {
            read(&bytes)
        } else {
            let bytes = bytes.clone();
            tokio::task::spawn_blocking(move || read(&bytes)).await.unwrap_or_else(|_panic| Err(Problem::internal()))
        };
        Ok(Self { value: value?, bytes, _steps: steps, media_type: PhantomData })
    }
}

/// A plain JSON body that may be left out: a request without a body has none.
pub struct OptionalBody<T>(pub Option<JsonBody<T>>);

impl<T> OptionalBody<T> {
    /// The bytes of the body.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_ref().map_or(b"", |body| &body.bytes)
    }
}

impl<'a, T: Read + Schema + Send + 'static> ApiExtractor<'a> for OptionalBody<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        JsonBody::<T>::request_meta().map(|body| MetaRequest { required: false, ..body })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let is_empty = !request.headers().contains_key(header::TRANSFER_ENCODING)
            && request.header(header::CONTENT_LENGTH).is_none_or(|length| length == "0");
        if is_empty {
            return Ok(Self(None));
        }
        JsonBody::from_request(request, body, options).await.map(|body| Self(Some(body)))
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
            .is_none_or(|charset| matches!(charset.trim_matches('"'), "utf-8" | "utf8"))
    });
    if let Some(found) = expected.iter().find(|expected| essence.trim().eq_ignore_ascii_case(expected) && utf8) {
        return Ok(found);
    }
    let detail = format!("This call reads {} in UTF-8; name it in the header Content-Type.", expected.join(" or "));
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

async fn read_body(
    request: &Request,
    body: &mut RequestBody,
    limits: &BodyLimits,
) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Problem> {
    let BodyLimits { max_bytes, timeout, steps } = limits;
    let (max_bytes, timeout) = (*max_bytes, *timeout);
    let too_large = || Problem::new(Kind::BodyTooLarge, format!("The body may have at most {max_bytes} bytes."));
    let announced = request.header(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok()).unwrap_or(0);
    if announced > (max_bytes as u64).saturating_mul(DRAIN as u64) {
        return Err(too_large().with_header(header::CONNECTION, HeaderValue::from_static("close")));
    }
    let mut incoming = body.take().map_err(|_| Problem::internal())?.into_bytes_stream();
    let read = async {
        // An announced length is not trusted: memory is allocated as bytes arrive.
        let mut bytes = BytesMut::new();
        let (mut total, mut allowed, mut taken) = (0usize, SMALL_BODY, None::<OwnedSemaphorePermit>);
        while let Some(data) = incoming.next().await {
            let data = data.map_err(|_| cut_short())?;
            total = total.saturating_add(data.len());
            if total > max_bytes.saturating_mul(DRAIN) {
                return Err(too_large().with_header(header::CONNECTION, HeaderValue::from_static("close")));
            }
            while total <= max_bytes && total > allowed {
                let step = Arc::clone(steps).try_acquire_owned().map_err(|_| {
                    Problem::new(Kind::Busy, "Other requests hold all the memory that large bodies may.")
                        .with_header(header::CONNECTION, HeaderValue::from_static("close"))
                })?;
                match &mut taken {
                    Some(taken) => taken.merge(step),
                    none => *none = Some(step),
                }
                allowed += BODY_STEP;
            }
            if total <= max_bytes {
                bytes.extend_from_slice(&data);
            }
        }
        if total > max_bytes { Err(too_large()) } else { Ok((bytes.freeze(), taken)) }
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

/// Reads a body, and what a call takes of it.
fn read<T: Read>(bytes: &[u8]) -> Result<T, Problem> {
    let Document { value, inexact: mut errors } = json::read(bytes, json::MAX_VALUES).map_err(|flaw| match flaw {
        JsonError::Empty => Problem::new(Kind::InvalidJson, "The body is empty; this call takes a JSON object."),
        JsonError::Duplicates(errors) => Problem::with_errors(Kind::InvalidJson, errors),
        JsonError::TooManyValues(error) => Problem::with_errors(Kind::InvalidBody, error),
        JsonError::Broken { what, line, column } => {
            Problem::new(Kind::InvalidJson, format!("The body {what}, at line {line} column {column}."))
        }
    })?;
    match T::read(value, Pointer::Root, &mut errors) {
        Some(value) if errors.is_empty() => Ok(value),
        _ => Err(Problem::with_errors(Kind::InvalidBody, errors)),
    }
}
