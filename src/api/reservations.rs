//! Reservations: stock that is held for somebody, and what becomes of it.

use poem_openapi::param::Path;
use poem_openapi::{ApiResponse, OpenApi};

use super::changes::Changes;
use super::http::access::{Guarded, MayWrite, Reads, Writes};
use super::http::conditional::{self, EntityTags};
use super::http::idempotency::{Key, Target};
use super::http::page::{CursorText, Limit, Listing};
use super::http::params::{SentQuery, parameters};
use super::http::payload::{Json, JsonBody, OptionalBody};
use super::http::problem::kinds::{
    Busy, ExceedsReservation, InsufficientStock, QueryTimeout, ReservationClosed, ReservationExpired,
};
use super::http::problem::{Kind, Problem, Refused};
use super::openapi::Tag;
use super::openapi::object::object;
use crate::config::BasePath;
use crate::domain::{
    Extend, Fulfil, ItemId, Lifetime, Reference, Release, Reservation, ReservationId, ReservationState, Reserve,
    ReservedQuantity, Timestamp,
};
use crate::store::{IdempotencyKey, Operation, ReservationFilter, ReservationList, ReservationQuery, Written};

object! {
    /// Stock that is held for somebody. Members without a value are left out.
    writes ReservationView {
        /// Identifier of the reservation.
        id: ReservationId,
        /// The item whose stock it holds.
        item_id: ItemId,
        /// The quantity that it holds, without the parts that were fulfilled.
        quantity: ReservedQuantity,
        /// `open` while it holds stock, otherwise the way in which it ended.
        state: ReservationState,
        /// Identifier elsewhere, such as an order number.
        reference: Option<Reference>,
        /// Time of its creation (RFC 3339, UTC).
        created_at: Timestamp,
        /// Time of its expiry (RFC 3339, UTC).
        expires_at: Timestamp,
        /// Time at which it was fulfilled or released, or its expiry was recorded (RFC 3339, UTC).
        closed_at: Option<Timestamp>,
    }
    example {
        "id": "019b7c1e-8f00-7000-8000-0242ac120002", "item_id": "widget-1", "quantity": 2, "state": "open",
        "reference": "order-4711", "created_at": "2026-01-02T03:04:05.678Z", "expires_at": "2026-01-02T03:19:05.678Z"
    }
}

impl From<Reservation> for ReservationView {
    fn from(reservation: Reservation) -> Self {
        let Reservation { id, item_id, quantity, state, reference, created_at, expires_at, closed_at } = reservation;
        Self { id, item_id, quantity, state, reference, created_at, expires_at, closed_at }
    }
}

object! {
    /// Stock to hold for somebody.
    reads NewReservation {
        /// Quantity to reserve.
        quantity: ReservedQuantity,
        /// Duration in seconds: from 1 to 31,536,000, a year.
        expires_in: Lifetime,
        /// Identifier elsewhere, such as an order number.
        reference: Option<Reference>,
    }
    example { "quantity": 2, "expires_in": 900, "reference": "order-4711" }
}

object! {
    /// A page of reservations.
    writes ReservationPage {
        /// The reservations, in the order of their ids, which is about the order of their creation.
        reservations: Vec<ReservationView>,
        /// Value of `cursor` for the next page; absent on the last one.
        next_cursor: Option<String>,
    }
    example {
        "reservations": [{
            "id": "019b7c1e-8f00-7000-8000-0242ac120002", "item_id": "widget-1", "quantity": 2, "state": "open",
            "reference": "order-4711", "created_at": "2026-01-02T03:04:05.678Z",
            "expires_at": "2026-01-02T03:19:05.678Z"
        }]
    }
}

object! {
    /// The part of a reservation that leaves the stock.
    reads Fulfilment {
        /// The quantity that leaves the stock; the whole reservation if absent.
        quantity: Option<ReservedQuantity>,
    }
    example { "quantity": 1 }
}

object! {
    /// A new end of a reservation.
    reads Extension {
        /// The number of seconds from now: from 1 to 31,536,000, a year.
        expires_in: Lifetime,
    }
    example { "expires_in": 900 }
}

parameters! {
    ReserveStock {
        /// Hold stock only of an item in one of these versions, otherwise return 412.
        header if_match "If-Match": EntityTags,
        /// A unique key that you choose, so that a repeated request is not carried out twice: for 24 hours, the same
        /// request under the same key gets the first response.
        header idempotency_key "Idempotency-Key": Key,
    }
}

parameters! {
    ListReservations {
        /// Only reservations of this item.
        query item: ItemId,
        /// Only reservations in this state.
        query state: ReservationState,
        /// Only reservations with this reference.
        query reference: Reference,
        /// Maximum number of reservations on the page.
        query limit: Limit,
        /// The `next_cursor` of the previous page, with the same filters.
        query cursor: CursorText,
    }
}

parameters! {
    CloseReservation {
        /// A unique key that you choose, so that a repeated request is not carried out twice: for 24 hours, the same
        /// request under the same key gets the first response.
        header idempotency_key "Idempotency-Key": Key,
    }
}

/// Responses of `POST /inventory/{id}/reservations`.
#[derive(ApiResponse)]
pub enum CreateReservationResponse {
    /// The stock is held.
    #[oai(status = 201)]
    Created(
        Json<ReservationView>,
        /// URL of the reservation.
        #[oai(header = "Location")]
        String,
        /// `true` if the request was carried out before, under the same `Idempotency-Key`, and this is its first
        /// response.
        #[oai(header = "Idempotent-Replayed")]
        Option<String>,
    ),
}

/// Responses of `GET /reservations`.
#[derive(ApiResponse)]
pub enum ListReservationsResponse {
    /// A page of reservations.
    #[oai(status = 200)]
    Ok(
        Json<ReservationPage>,
        /// The URL of the next page, with `rel="next"` (RFC 8288); absent on the last one.
        #[oai(header = "Link")]
        Option<String>,
    ),
}

/// Responses of `GET /reservations/{id}`.
#[derive(ApiResponse)]
pub enum GetReservationResponse {
    /// The reservation.
    #[oai(status = 200)]
    Ok(Json<ReservationView>),
}

/// The answer to a step of a reservation.
#[derive(ApiResponse)]
pub enum ChangeReservationResponse {
    /// The reservation after the change; also if it was closed in this way before.
    #[oai(status = 200)]
    Ok(
        Json<ReservationView>,
        /// `true` if the request was carried out before, under the same `Idempotency-Key`, and this is its first
        /// response.
        #[oai(header = "Idempotent-Replayed")]
        Option<String>,
    ),
}

/// The calls on reservations.
pub struct Reservations {
    /// Where they are kept.
    pub store: Guarded,
    /// Where they are changed.
    pub changes: Changes,
    /// Prefix of every path.
    pub base_path: BasePath,
}

impl Reservations {
    async fn step<O: Operation<Outcome = Reservation>>(
        &self,
        caller: &impl MayWrite,
        operation: O,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<ChangeReservationResponse, Problem> {
        let Written { outcome, replayed } = self.changes.make(caller, operation, idempotency).await?;
        Ok(ChangeReservationResponse::Ok(Json(outcome.into()), replayed.then(|| "true".to_owned())))
    }
}

#[OpenApi(tag = "Tag::Reservations")]
impl Reservations {
    /// Reserve stock
    ///
    /// Holds a part of an item's stock, which stays in stock and is no longer available to others. It is available
    /// again when the reservation is released or expires.
    #[oai(path = "/inventory/:id/reservations", method = "post", operation_id = "reserveStock")]
    async fn create(
        &self,
        caller: Writes,
        parameters: ReserveStock,
        /// The item's id.
        id: Path<ItemId>,
        target: Target,
        body: JsonBody<NewReservation>,
    ) -> Result<CreateReservationResponse, Refused<InsufficientStock>> {
        let JsonBody { value: NewReservation { quantity, expires_in, reference }, bytes, .. } = body;
        let precondition = conditional::precondition(parameters.if_match, None, false);
        let (item_id, id, lifetime) = (id.0, ReservationId::generate(), expires_in);
        let reserve = Reserve { item_id, id, quantity, lifetime, reference, precondition };
        let idempotency = target.keyed(&caller, parameters.idempotency_key, &bytes);
        let Written { outcome: reservation, replayed } = self.changes.make(&caller, reserve, idempotency).await?;
        let location = format!("{}/reservations/{}", self.base_path, reservation.id.as_str());
        Ok(CreateReservationResponse::Created(Json(reservation.into()), location, replayed.then(|| "true".to_owned())))
    }

    /// List reservations
    ///
    /// Returns a page of the open and closed reservations that match every filter. One that matches throughout is on
    /// exactly one page.
    #[oai(path = "/reservations", method = "get", operation_id = "listReservations")]
    async fn list(
        &self,
        caller: Reads,
        parameters: ListReservations,
        sent: SentQuery,
    ) -> Result<ListReservationsResponse, Refused<(Busy, QueryTimeout)>> {
        let ListReservations { item, state, reference, limit, cursor } = parameters;
        let filter = ReservationFilter { item, state, reference };
        let listing = Listing { order: "reservations", filter: &filter };
        let after = cursor.as_ref().map(|cursor| listing.position(cursor, |_| true)).transpose()?;
        let limit = limit.unwrap_or_default().get();
        let query = ReservationQuery { filter: filter.clone(), after, limit };
        let ReservationList { reservations, more } = self.store.open(&caller).reservations(query).await?;
        let next_cursor = reservations.last().filter(|_| more).map(|last| listing.cursor(&last.id));
        let link = next_cursor
            .as_ref()
            .map(|next| format!("<{}/reservations?{}>; rel=\"next\"", self.base_path, sent.with("cursor", next)));
        let reservations = reservations.into_iter().map(ReservationView::from).collect();
        Ok(ListReservationsResponse::Ok(Json(ReservationPage { reservations, next_cursor }), link))
    }

    /// Get a reservation
    ///
    /// Returns a reservation. Closed reservations are kept for 90 days by default (`--keep-reservations`), their ledger
    /// entries for ever. An expiry is recorded within about a second, and before any other change of the item; until
    /// then the reservation is listed as open.
    #[oai(path = "/reservations/:id", method = "get", operation_id = "getReservation")]
    async fn get(
        &self,
        caller: Reads,
        /// The reservation's id.
        id: Path<ReservationId>,
    ) -> Result<GetReservationResponse, Refused<Busy>> {
        let missing = || Problem::new(Kind::NotFound, "There is no reservation with this id.");
        let reservation = self.store.open(&caller).reservation(&id.0).await?.ok_or_else(missing)?;
        Ok(GetReservationResponse::Ok(Json(reservation.into())))
    }

    /// Fulfil a reservation
    ///
    /// Takes the reserved quantity, or with `quantity` a part of it, out of the stock; the rest stays reserved. Once
    /// nothing is left, the reservation is closed. A repeated call on a closed reservation changes nothing and gets the
    /// same response, as long as the closed reservation is kept, and 404 after that.
    #[oai(path = "/reservations/:id/fulfil", method = "post", operation_id = "fulfilReservation")]
    async fn fulfil(
        &self,
        caller: Writes,
        parameters: CloseReservation,
        /// The reservation's id.
        id: Path<ReservationId>,
        target: Target,
        body: OptionalBody<Fulfilment>,
    ) -> Result<ChangeReservationResponse, Refused<(ReservationExpired, ReservationClosed, ExceedsReservation)>> {
        let idempotency = target.keyed(&caller, parameters.idempotency_key, body.bytes());
        let quantity = body.0.and_then(|body| body.value.quantity);
        Ok(self.step(&caller, Fulfil { id: id.0, quantity }, idempotency).await?)
    }

    /// Extend a reservation
    ///
    /// Sets the end of an open reservation to `expires_in` seconds from now, later or earlier than before.
    #[oai(path = "/reservations/:id/extend", method = "post", operation_id = "extendReservation")]
    async fn extend(
        &self,
        caller: Writes,
        parameters: CloseReservation,
        /// The reservation's id.
        id: Path<ReservationId>,
        target: Target,
        body: JsonBody<Extension>,
    ) -> Result<ChangeReservationResponse, Refused<(ReservationExpired, ReservationClosed)>> {
        let idempotency = target.keyed(&caller, parameters.idempotency_key, &body.bytes);
        Ok(self.step(&caller, Extend { id: id.0, lifetime: body.value.expires_in }, idempotency).await?)
    }

    /// Release a reservation
    ///
    /// Releases the reservation: its quantity is available again. A repeated call changes nothing and gets the same
    /// response, as long as the closed reservation is kept, and 404 after that.
    #[oai(path = "/reservations/:id/release", method = "post", operation_id = "releaseReservation")]
    async fn release(
        &self,
        caller: Writes,
        parameters: CloseReservation,
        /// The reservation's id.
        id: Path<ReservationId>,
        target: Target,
    ) -> Result<ChangeReservationResponse, Refused<(ReservationExpired, ReservationClosed)>> {
        let idempotency = target.keyed(&caller, parameters.idempotency_key, b"");
        Ok(self.step(&caller, Release { id: id.0 }, idempotency).await?)
    }
}
