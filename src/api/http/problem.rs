//! Every refusal, as problem details (RFC 9457).
//!
//! There is one kind of problem for each thing a client can do about it. A [`Kind`] has a stable name, which is the
//! last part of its `type`, and a page of its own at `/problems/{name}`. Domain and store errors become problems in
//! this file alone, by exhaustive matches: a new variant does not compile until it has a kind.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use poem::http::{HeaderName, HeaderValue, StatusCode, header};
use poem::{IntoResponse, Response};
use poem_openapi::ApiResponse;
use poem_openapi::registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchemaRef, Registry};
use serde::Serialize;

use crate::domain::{Invalid, Refusal};
use crate::files::errors::{Errors, FieldError, ImportError, Location};
use crate::store::{StoreError, WriteError};

/// The longest path that a problem repeats as its `instance`.
const MAX_INSTANCE: usize = 2_048;

/// The media type of a problem.
pub const MEDIA_TYPE: &str = "application/problem+json";

macro_rules! kinds {
    ($($(#[doc = $about:literal])* $kind:ident = $status:ident, $name:literal, $title:literal;)*) => {
        /// Kind of a problem.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind {
            $($(#[doc = $about])* $kind,)*
        }

        impl Kind {
            /// All kinds.
            pub const ALL: &[Kind] = &[$(Kind::$kind,)*];

            /// The status of the answer.
            pub fn status(self) -> StatusCode {
                match self {
                    $(Kind::$kind => StatusCode::$status,)*
                }
            }

            /// The stable name, the last part of the problem's `type`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Kind::$kind => $name,)*
                }
            }

            /// A short summary, the same for every problem of this kind.
            pub fn title(self) -> &'static str {
                match self {
                    $(Kind::$kind => $title,)*
                }
            }

            /// Returns the meaning of the problem, and its remedy for a client.
            pub fn about(self) -> &'static str {
                match self {
                    $(Kind::$kind => concat!($($about),*).trim_ascii(),)*
                }
            }
        }

        /// The kinds as types, for the signatures of handlers.
        pub mod kinds {
            use super::{Kind, Problems};

            $(
                $(#[doc = $about])*
                pub struct $kind;

                impl Problems for $kind {
                    fn kinds() -> Vec<Kind> {
                        vec![Kind::$kind]
                    }
                }
            )*
        }
    };
}

kinds! {
    /// The body is not JSON: it is empty or truncated, has a syntax error, is not UTF-8, repeats a member or is nested
    /// too deeply. Nothing was changed. The detail has the position of the error.
    InvalidJson = BAD_REQUEST, "invalid-json", "The body is not valid JSON";
    /// The request breaks a rule of HTTP/1.1 (RFC 9112): its header `Host` is missing, repeated or malformed, or its
    /// body is truncated or framed wrongly. Nothing was changed. The connection is closed.
    MalformedRequest = BAD_REQUEST, "malformed-request", "The request is malformed";
    /// A query parameter or a header has an invalid value, is unknown or is repeated. Nothing was changed. `errors`
    /// lists each one.
    InvalidParameter = BAD_REQUEST, "invalid-parameter", "A parameter is not valid";
    /// The `cursor` was not made by this service for this list. Start again without a cursor.
    InvalidCursor = BAD_REQUEST, "invalid-cursor", "The cursor is not valid";
    /// The request has no valid token. Nothing was changed. Send `Authorization: Bearer TOKEN` with a token from the
    /// operator of the server; `stockroom token new` makes one.
    Unauthorized = UNAUTHORIZED, "unauthorized", "A token is required";
    /// The token is valid, but its role does not allow this call. Nothing was changed. The detail names the required
    /// role: `read`, `write` or `admin`, each of which includes those before it.
    Forbidden = FORBIDDEN, "forbidden", "The role of the token does not allow this";
    /// A page of another origin sent the request, by its `Origin` or `Sec-Fetch-Site`, and without tokens its user's
    /// intent cannot be verified. Use a page of the same origin or a client that is not a browser, or list the page's
    /// origin in `--cors-origins`.
    CrossSite = FORBIDDEN, "cross-site-request", "Requests from other sites are refused";
    /// There is no such item or reservation, or nothing at all, at this path.
    NotFound = NOT_FOUND, "not-found", "Not found";
    /// The path exists, but not with this method. The header `Allow` lists its methods.
    MethodNotAllowed = METHOD_NOT_ALLOWED, "method-not-allowed", "The path does not have this method";
    /// The operation has none of the media types in the request's `Accept`. Nothing was changed. The detail lists those
    /// it has.
    NotAcceptable = NOT_ACCEPTABLE, "not-acceptable", "No acceptable media type";
    /// The body did not arrive in time. Nothing was changed; send the request again.
    RequestTimeout = REQUEST_TIMEOUT, "request-timeout", "The body did not arrive in time";
    /// An item with this id exists; it was not changed. Replace it with `PUT`, or choose another id.
    ItemExists = CONFLICT, "item-exists", "An item with this id exists";
    /// A barcode belongs to another item, which the detail names. Nothing was changed. Remove it from that item first.
    BarcodeTaken = CONFLICT, "barcode-taken", "The barcode belongs to another item";
    /// The change would leave less stock than open reservations hold, or a negative stock. Nothing was changed. The
    /// members `quantity`, `reserved` and `available` have the numbers.
    InsufficientStock = CONFLICT, "insufficient-stock", "There is not enough stock";
    /// The movement would raise the stock above its maximum of 10^12. Nothing was changed. The member `quantity` is the
    /// stock.
    TooMuchStock = CONFLICT, "too-much-stock", "The stock would be too large";
    /// The movement was reversed before. Nothing was changed. The member `position` is that of the reversal, which can be
    /// reversed in turn.
    AlreadyReversed = CONFLICT, "already-reversed", "The movement is already reversed";
    /// Only movements can be reversed, reversals included, and only while their item exists. Nothing was changed.
    /// Correct any other change by a change of the same kind.
    NotReversible = CONFLICT, "not-reversible", "The entry cannot be reversed";
    /// Open reservations hold some of the item's stock, so that the item cannot be deleted. Nothing was changed. Fulfil or
    /// release them first: `GET /reservations?item={id}&state=open` lists them.
    HasReservations = CONFLICT, "has-reservations", "The item has open reservations";
    /// The reservation holds less than the requested quantity. Nothing was changed. The member `quantity` is the
    /// quantity that it holds.
    ExceedsReservation = CONFLICT, "exceeds-reservation", "The reservation holds less than that";
    /// The reservation expired before it was fulfilled or released: its quantity is available to others. Nothing was
    /// changed. Make a new reservation.
    ReservationExpired = CONFLICT, "reservation-expired", "The reservation has expired";
    /// The reservation was already closed in another way: a fulfilled one cannot be released, nor a released one
    /// fulfilled. Nothing was changed.
    ReservationClosed = CONFLICT, "reservation-closed", "The reservation is closed";
    /// Some movements are refused, and none was carried out. `errors` lists each refused one by its index, with
    /// the name of the problem that it would have alone.
    BatchRefused = CONFLICT, "batch-refused", "Some movements are refused";
    /// Some of the items of an import are refused, and none was imported. `errors` lists the first 100 of them by line,
    /// each with the name of the problem that it would have alone; `error_count` is the number of all. With
    /// `mode=upsert`, existing items are changed rather than refused. A row is `stale` if its item has changed since
    /// the file was made: export again, or leave the column `version` out to import it regardless.
    ImportRefused = CONFLICT, "import-refused", "Some items are refused";
    /// The item does not match `If-Match` or `If-None-Match`: another client changed it. Nothing was changed. Read the
    /// item again before you repeat the change.
    PreconditionFailed = PRECONDITION_FAILED, "precondition-failed", "The precondition failed";
    /// This server requires `If-Match` for changes of items, so that no client overwrites the change of another.
    /// Nothing was changed. Read the item, and send its `ETag` as `If-Match`.
    PreconditionRequired = PRECONDITION_REQUIRED, "precondition-required", "The change needs If-Match";
    /// The feed cannot continue after that event: it belongs to another ledger, or to a state of this one that a
    /// restore from a backup undid. Other changes may follow here. Read the ledger from the start (`after=0`), or
    /// follow from now on (without `Last-Event-ID` and `after`) and reconcile the difference.
    FeedReset = GONE, "feed-reset", "The feed cannot continue from there";
    /// The body is larger than this server accepts. Nothing was changed.
    BodyTooLarge = PAYLOAD_TOO_LARGE, "body-too-large", "The body is too large";
    /// The request's path and query together are longer than 16 KiB. Nothing was changed.
    UriTooLong = URI_TOO_LONG, "uri-too-long", "The request's target is too long";
    /// The operation does not accept the body's media type: the header `Accept` (for `PATCH`, `Accept-Patch`) lists
    /// those it does. Or the body has a `Content-Encoding`, which no operation accepts.
    UnsupportedMediaType = UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The body has the wrong media type";
    /// The request's `Host` is not a name of this server, so that a page of another site may have sent it. Use the
    /// server's address, or list the name in `--hosts` (`STOCKROOM_HOSTS`).
    MisdirectedRequest = MISDIRECTED_REQUEST, "misdirected-request", "The server does not serve this host";
    /// This `Idempotency-Key` was used for another request within the last 24 hours. Nothing was changed. Use a new key
    /// for a new request, and the old one only to repeat the same request.
    IdempotencyKeyReused = UNPROCESSABLE_ENTITY, "idempotency-key-reused", "The key was used for another request";
    /// The server keeps no more idempotency keys for this client (`--max-idempotency-keys`). Nothing was changed. Send
    /// the request again after the seconds in `Retry-After`, when the oldest key is 24 hours old, or without a key.
    TooManyIdempotencyKeys = TOO_MANY_REQUESTS, "too-many-idempotency-keys", "Too many idempotency keys";
    /// The body is JSON, but not valid for this operation. Nothing was changed. `errors` lists every invalid member.
    InvalidBody = UNPROCESSABLE_ENTITY, "invalid-body", "The body is not valid";
    /// The file is not valid. Nothing was imported. `errors` lists the first 100 errors by line and by column or JSON
    /// Pointer; `error_count` is the number of all.
    InvalidImport = UNPROCESSABLE_ENTITY, "invalid-import", "The file cannot be imported";
    /// The header of the CSV file has more than 1,000 columns. Nothing was imported.
    TooManyColumns = UNPROCESSABLE_ENTITY, "too-many-columns", "The file has too many columns";
    /// An unexpected error, which the server's log has under the `request_id`. The change may have been made: read
    /// before you send it again.
    Internal = INTERNAL_SERVER_ERROR, "internal-error", "The server failed";
    /// The body has a transfer coding besides `chunked`. Nothing was changed. Send the body as it is.
    UnsupportedTransferCoding = NOT_IMPLEMENTED, "unsupported-transfer-coding", "The transfer coding is not supported";
    /// The response took too long. The change may have been made: read before you send it again.
    ResponseTimeout = SERVICE_UNAVAILABLE, "response-timeout", "The response took too long";
    /// The change waited too long in the queue and was withdrawn before it began: it was certainly not made. Send it
    /// again after the seconds in `Retry-After`.
    NotDone = SERVICE_UNAVAILABLE, "not-done", "The change was not made";
    /// The queue of changes is full, large bodies of other requests fill their share of the memory, or other lists,
    /// searches and sums use all their slots. Nothing was changed. Send the request again after the seconds in
    /// `Retry-After`.
    Busy = SERVICE_UNAVAILABLE, "busy", "The server is busy";
    /// The list, search or sum exceeded the time limit (`--query-timeout`). Nothing was changed. Narrow the filter,
    /// reduce the page or leave `count` out; or try again after the seconds in `Retry-After`.
    QueryTimeout = SERVICE_UNAVAILABLE, "query-timeout", "The query took too long";
    /// The client exceeded its rate limit (`--rate-limit`). Nothing was changed. Send the request again after the
    /// seconds in `Retry-After`, and fewer of them.
    TooManyRequests = TOO_MANY_REQUESTS, "too-many-requests", "The client sends too many requests";
    /// The ledger has as many followers as this server accepts (`--max-followers`), or half of them are this client's.
    /// Try again after the seconds in `Retry-After`, or read page by page.
    TooManyFollowers = SERVICE_UNAVAILABLE, "too-many-followers", "Too many clients follow the ledger";
    /// The maximum number of exports is running, two exports of this client are, another import is, or uploads fill
    /// their share of the disk. Nothing was started. Send the request again after the seconds in `Retry-After`.
    TooManyTransfers = SERVICE_UNAVAILABLE, "too-many-transfers", "Too many exports or imports are under way";
    /// The storage does not respond. The change may have been made: read before you send it again, after the seconds in
    /// `Retry-After`.
    Unavailable = SERVICE_UNAVAILABLE, "unavailable", "The storage is unavailable";
    /// The server has just started, and waits for its database or migrates it. Nothing was done. Send the request again
    /// after the seconds in `Retry-After`.
    Starting = SERVICE_UNAVAILABLE, "starting", "The server is starting";
    /// The service is about to stop. It still responds, but send further requests to another replica, or later.
    ShuttingDown = SERVICE_UNAVAILABLE, "shutting-down", "The service is shutting down";
    /// The disk is full. Nothing was changed. The operator must free space first.
    StorageFull = INSUFFICIENT_STORAGE, "storage-full", "The storage is full";
}

/// A refusal on its way to the client.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}: {detail}", kind.name())]
pub struct Problem {
    kind: Kind,
    detail: String,
    errors: Errors,
    /// Further members of the document, which are all numbers (RFC 9457, section 3.2).
    numbers: BTreeMap<&'static str, i64>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem of this kind; `detail` says what is wrong with this request, and never repeats what it sent.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let mut headers = Vec::new();
        if kind.status() == StatusCode::SERVICE_UNAVAILABLE {
            headers.push((header::RETRY_AFTER, HeaderValue::from_static("1")));
        }
        Self { kind, detail: detail.into(), errors: Errors::default(), numbers: BTreeMap::new(), headers }
    }

    /// All errors of one request or file at once. `error_count` is their number, `errors` lists the first.
    pub fn with_errors(kind: Kind, errors: impl Into<Errors>) -> Self {
        let errors = errors.into();
        let whole = match kind {
            Kind::InvalidImport | Kind::ImportRefused | Kind::TooManyColumns => "file",
            _ => "request",
        };
        let (count, listed) = (errors.count(), errors.listed().len() as u64);
        let detail = match count {
            1 => format!("The {whole} has one error; see errors."),
            _ if count == listed => format!("The {whole} has {count} errors; see errors."),
            _ => format!("The {whole} has {count} errors; errors lists the first {listed}."),
        };
        let numbers = BTreeMap::from([("error_count", i64::try_from(count).unwrap_or(i64::MAX))]);
        Self { errors, numbers, ..Self::new(kind, detail) }
    }

    /// The same problem, with a header on its answer.
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The problem for an error of poem; an unexpected one is an internal error, and is logged.
    pub fn from_poem(error: poem::Error) -> Self {
        if error.is::<poem::error::NotFoundError>() || error.is::<poem_openapi::error::ParsePathError>() {
            return Self::new(Kind::NotFound, "There is nothing at this path.");
        }
        error.downcast().unwrap_or_else(|error| {
            tracing::error!(error = %error, "an unforeseen error");
            Self::internal()
        })
    }

    /// The server's own fault; what happened is in the log only.
    pub fn internal() -> Self {
        Self::new(Kind::Internal, "The server failed; its log has more under this request_id.")
    }

    /// The response with the problem, for a request to the path `instance`.
    pub fn into_response(self, base_path: &str, instance: &str, request_id: &str) -> Response {
        #[derive(Serialize)]
        struct Body<'a> {
            r#type: String,
            title: &'static str,
            status: u16,
            detail: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            instance: Option<&'a str>,
            request_id: &'a str,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            errors: &'a [FieldError],
            #[serde(flatten)]
            numbers: &'a BTreeMap<&'static str, i64>,
        }
        let body = Body {
            r#type: format!("{base_path}/problems/{}", self.kind.name()),
            title: self.kind.title(),
            status: self.kind.status().as_u16(),
            detail: &self.detail,
            instance: Some(instance).filter(|path| path.len() <= MAX_INSTANCE),
            request_id,
            errors: self.errors.listed(),
            numbers: &self.numbers,
        };
        let body = serde_json::to_vec(&body).expect("a problem can be written as JSON");
        let mut response = body.with_content_type(MEDIA_TYPE).with_status(self.kind.status()).into_response();
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        for (name, value) in self.headers {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl From<Problem> for poem::Error {
    fn from(problem: Problem) -> Self {
        let status = problem.kind.status();
        poem::Error::new(problem, status)
    }
}

/// Problems that a handler declares: one, or a tuple of them.
pub trait Problems {
    /// Their kinds.
    fn kinds() -> Vec<Kind>;
}

macro_rules! tuples {
    ($(($($problems:ident),*))*) => {
        $(
            impl<$($problems: Problems),*> Problems for ($($problems,)*) {
                fn kinds() -> Vec<Kind> {
                    [$($problems::kinds()),*].concat()
                }
            }
        )*
    };
}

tuples! { (A, B) (A, B, C) (A, B, C, D) (A, B, C, D, E) }

impl Problems for () {
    fn kinds() -> Vec<Kind> {
        Vec::new()
    }
}

/// The error of a handler: the problems `P`, which are only its own, or one that comes with what it takes or that every
/// handler has. The document lists them for its operation.
pub struct Refused<P>(Problem, PhantomData<fn() -> P>);

impl<P, E: Into<Problem>> From<E> for Refused<P> {
    fn from(error: E) -> Self {
        Self(error.into(), PhantomData)
    }
}

impl<P> From<Refused<P>> for poem::Error {
    fn from(refused: Refused<P>) -> Self {
        refused.0.into()
    }
}

impl<P: Problems> ApiResponse for Refused<P> {
    fn meta() -> MetaResponses {
        let kinds = [vec![Kind::Unavailable, Kind::Starting], P::kinds()].concat();
        let response = |kind: Kind| MetaResponse {
            description: kind.name(),
            status: Some(kind.status().as_u16()),
            status_range: None,
            content: vec![MetaMediaType {
                content_type: MEDIA_TYPE,
                schema: MetaSchemaRef::Reference("Problem".to_owned()),
            }],
            headers: Vec::new(),
        };
        MetaResponses { responses: kinds.into_iter().map(response).collect() }
    }

    fn register(_registry: &mut Registry) {}
}

impl From<WriteError> for Problem {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Refused(refusal) => refusal.into(),
            WriteError::BatchRefused(refused) => {
                let mut errors = Errors::default();
                for (index, refusal) in refused {
                    errors.add(|| {
                        let pointer = Location::Pointer(format!("/movements/{index}"));
                        FieldError::new(pointer, Invalid::new(refusal.code(), refusal.to_string()))
                    });
                }
                Self::with_errors(Kind::BatchRefused, errors)
            }
            WriteError::ImportRefused(rows) => Self::with_errors(Kind::ImportRefused, Errors::from(rows)),
            WriteError::KeyReused => {
                let used = Invalid::new("used", "must be a key that no other request had");
                let error = FieldError::new(Location::Header("Idempotency-Key"), used);
                Self::with_errors(Kind::IdempotencyKeyReused, error)
            }
            WriteError::TooManyKeys { retry_after } => {
                // The sweep comes within a second after that.
                let seconds = retry_after.as_secs() + 1;
                let detail = "As many idempotency keys are remembered as can be; nothing was changed.";
                Self::new(Kind::TooManyIdempotencyKeys, detail)
                    .with_header(header::RETRY_AFTER, HeaderValue::from(seconds))
            }
            WriteError::Store(error) => error.into(),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        match refusal {
            Refusal::NotFound | Refusal::NoBarcode | Refusal::NoReservation => Self::new(Kind::NotFound, detail),
            Refusal::BarcodeTaken { .. } => {
                let taken = Invalid::new("taken", "must be barcodes that no other item has");
                let errors = FieldError::new(Location::Pointer("/barcodes".to_owned()), taken).into();
                Self { errors, ..Self::new(Kind::BarcodeTaken, detail) }
            }
            Refusal::HasReservations { reserved } => {
                let numbers = BTreeMap::from([("reserved", reserved)]);
                Self { numbers, ..Self::new(Kind::HasReservations, detail) }
            }
            Refusal::ExceedsReservation { quantity } => {
                let numbers = BTreeMap::from([("quantity", quantity)]);
                Self { numbers, ..Self::new(Kind::ExceedsReservation, detail) }
            }
            Refusal::AlreadyReversed { position } => {
                let numbers = BTreeMap::from([("position", position)]);
                Self { numbers, ..Self::new(Kind::AlreadyReversed, detail) }
            }
            Refusal::NotReversible => Self::new(Kind::NotReversible, detail),
            Refusal::ReservationExpired => Self::new(Kind::ReservationExpired, detail),
            Refusal::ReservationClosed { .. } => Self::new(Kind::ReservationClosed, detail),
            Refusal::ItemExists => {
                let taken = Invalid::new("taken", "must be an id that no item has");
                let errors = FieldError::new(Location::Pointer("/id".to_owned()), taken).into();
                Self { errors, ..Self::new(Kind::ItemExists, detail) }
            }
            // A row of a file is refused so, in an import as a whole.
            Refusal::Stale { .. } => Self::new(Kind::ImportRefused, detail),
            Refusal::PreconditionFailed => Self::new(
                Kind::PreconditionFailed,
                "The item is not in the state that If-Match or If-None-Match demands; nothing was changed.",
            ),
            Refusal::PreconditionRequired => Self::new(
                Kind::PreconditionRequired,
                "This server changes items only under If-Match: read the item, and send its ETag along.",
            ),
            Refusal::Invalid(wrong) => {
                let mut errors = Errors::default();
                for (pointer, invalid) in wrong {
                    errors.add(|| FieldError::new(Location::Pointer(pointer.to_owned()), invalid));
                }
                Self::with_errors(Kind::InvalidBody, errors)
            }
            Refusal::InsufficientStock { quantity, reserved, .. } => {
                let available = quantity - reserved;
                let numbers =
                    BTreeMap::from([("quantity", quantity), ("reserved", reserved), ("available", available)]);
                Self { numbers, ..Self::new(Kind::InsufficientStock, detail) }
            }
            Refusal::TooMuchStock { quantity, .. } => {
                Self { numbers: BTreeMap::from([("quantity", quantity)]), ..Self::new(Kind::TooMuchStock, detail) }
            }
        }
    }
}

impl From<ImportError> for Problem {
    fn from(error: ImportError) -> Self {
        match error {
            ImportError::Invalid(errors) => Self::with_errors(Kind::InvalidImport, errors),
            ImportError::TooLarge => {
                Self::new(Kind::BodyTooLarge, "The file has more bytes than it may have when it is unpacked.")
            }
            ImportError::TooManyColumns(errors) => Self::with_errors(Kind::TooManyColumns, errors),
            ImportError::Refused(errors) => Self::with_errors(Kind::ImportRefused, errors),
            ImportError::NotDone(error) => error.into(),
            ImportError::Panicked => Self::internal(),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy => Self::new(Kind::Busy, "Too much else is under way; nothing was changed."),
            StoreError::QueryTimeout => Self::new(Kind::QueryTimeout, "The query took longer than it may here."),
            StoreError::Expired => {
                Self::new(Kind::NotDone, "The change waited too long for its turn and was not made.")
            }
            StoreError::Withdrawn => {
                Self::new(Kind::NotDone, "The server is stopping, or the time is up: the import was rolled back.")
            }
            StoreError::Full => Self::new(Kind::StorageFull, "The disk is full; nothing was changed."),
            StoreError::Panicked => Self::internal(),
            StoreError::Unavailable(cause) => {
                tracing::error!(cause, "the storage is unavailable");
                Self::new(Kind::Unavailable, "The storage does not answer; whether a change was made is not known.")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::domain::ReservationState;

    #[test]
    fn every_kind_of_problem_has_its_own_name_and_a_remedy() {
        let names: HashSet<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), Kind::ALL.len());
        for kind in Kind::ALL {
            assert!(kind.status().is_client_error() || kind.status().is_server_error(), "{kind:?}");
            assert!(kind.about().ends_with('.'), "{kind:?}");
        }
    }

    #[test]
    fn a_refused_row_has_the_name_of_the_problem_that_it_would_have_alone() {
        for refusal in [
            Refusal::NotFound,
            Refusal::NoReservation,
            Refusal::ItemExists,
            Refusal::PreconditionFailed,
            Refusal::PreconditionRequired,
            Refusal::Invalid(Vec::new()),
            Refusal::InsufficientStock { quantity: 1, reserved: 1, wanted: 0 },
            Refusal::TooMuchStock { quantity: 1, wanted: 2 },
            Refusal::ExceedsReservation { quantity: 1 },
            Refusal::AlreadyReversed { position: 2 },
            Refusal::NotReversible,
            Refusal::HasReservations { reserved: 1 },
            Refusal::ReservationExpired,
            Refusal::ReservationClosed { state: ReservationState::Released },
        ] {
            assert_eq!(refusal.code(), Problem::from(refusal.clone()).kind().name());
        }
    }
}
