//! `/inventory/{id}/movements` and `/movements`: goods that came or went.

use poem_openapi::param::Path;
use poem_openapi::registry::{MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::{ApiResponse, OpenApi};
use serde_json::Value;

use super::changes::Changes;
use super::http::access::{Guarded, Writes};
use super::http::conditional::{self, EntityTags};
use super::http::idempotency::{Key, Target};
use super::http::params::parameters;
use super::http::payload::{Json, JsonBody, OptionalBody};
use super::http::problem::kinds::{AlreadyReversed, BatchRefused, InsufficientStock, NotReversible, TooMuchStock};
use super::http::problem::{Kind, Problem, Refused};
use super::items::ItemView;
use super::ledger::EntryView;
use super::openapi::Tag;
use super::openapi::object::object;
use super::openapi::schema::{Read, Schema, read_array};
use crate::config::BasePath;
use crate::domain::{
    Barcode, Delta, Entry, Event, Invalid, ItemId, ItemName, Move, Movement, Note, Position, Quantity, Reason,
    Reference, Refusal, Reverse, StockChange,
};
use crate::files::columns::{Column, Required};
use crate::files::errors::{Errors, FieldError, Pointer};
use crate::files::rows::ReadRow;
use crate::store::{self, ImportMode, ItemMovement, LedgerRecord, MoveAll, RowContent, Written};

object! {
    /// Change of the stock of an item: relative, or to a counted quantity.
    reads NewMovement {
        /// Change of the stock; negative if goods leave.
        delta: Option<Delta>,
        /// Counted quantity: the new stock, whatever the previous one was.
        counted: Option<Quantity>,
        /// Why.
        reason: Reason,
        /// Note on the movement.
        note: Option<Note>,
        /// Identifier elsewhere, such as an order number.
        reference: Option<Reference>,
    }
    example { "delta": -2, "reason": "sold", "reference": "order-4711" }
}

object! {
    /// Ledger entry of a movement, and the item after it.
    writes MovedItem {
        /// The ledger's entry.
        entry: EntryView,
        /// The item after the movement. In the response to a repeated request it is the current item; it is absent if
        /// the item was deleted.
        item: Option<ItemView>,
    }
    example {
        "entry": {
            "position": 2, "item_id": "widget-1", "event": "moved", "delta": -2, "quantity": 8, "reserved": 0,
            "version": 2, "reason": "sold", "reference": "order-4711", "at": "2026-01-02T03:04:05.678Z"
        },
        "item": {
            "id": "widget-1", "name": "Widget", "quantity": 8, "reserved": 0, "available": 8, "low_stock": false,
            "attributes": {}, "version": 2, "etag": "\"2\"", "created_at": "2026-01-02T03:04:05.678Z",
            "updated_at": "2026-01-02T03:04:05.678Z"
        }
    }
}

object! {
    /// A movement of one item: either a change of its stock, or a counted quantity.
    reads row NewItemMovement {
        /// The item, by its id.
        item_id: Option<ItemId>,
        /// The item, by one of its barcodes.
        barcode: Option<Barcode>,
        /// Change of the stock; negative if goods leave.
        delta: Option<Delta>,
        /// Counted quantity: the new stock, whatever the previous one was.
        counted: Option<Quantity>,
        /// Why.
        reason: Reason,
        /// Note on the movement.
        note: Option<Note>,
        /// Identifier elsewhere, such as an order number.
        reference: Option<Reference>,
    }
    ignores {}
    example { "item_id": "widget-1", "delta": -2, "reason": "sold", "reference": "order-4711" }
}

impl NewItemMovement {
    /// Returns the movement, or everything that is wrong with it, each with its JSON Pointer.
    fn into_movement(self) -> Result<ItemMovement, Vec<(&'static str, Invalid)>> {
        let Self { item_id, barcode, delta, counted, reason, note, reference } = self;
        match (item_name(item_id, barcode), stock_change(delta, counted)) {
            (Ok(item), Ok(change)) => Ok(ItemMovement { item, movement: Movement { change, reason, note, reference } }),
            (item, change) => Err(item.err().into_iter().chain(change.err()).collect()),
        }
    }
}

impl ReadRow for NewItemMovement {
    fn columns() -> Vec<Column> {
        Self::columns()
    }

    fn read(value: Value, errors: &mut Errors) -> Option<Self> {
        Read::read(value, Pointer::Root, errors)
    }

    fn required(_mode: ImportMode) -> Required {
        Required { groups: &[&["item_id", "barcode"], &["delta", "counted"], &["reason"]], because: String::new() }
    }

    fn into_content(self, _mode: ImportMode) -> Result<RowContent, Vec<(&'static str, Invalid)>> {
        self.into_movement().map(|movement| RowContent::Movement(Box::new(movement)))
    }
}

/// Movements that belong together: 1 to 1,000 of them.
#[derive(Clone, Debug)]
pub struct Batch(Vec<NewItemMovement>);

impl Batch {
    const MAX: usize = 1_000;
}

impl Schema for Batch {
    fn schema_ref() -> MetaSchemaRef {
        let bounds = MetaSchema { min_items: Some(1), max_items: Some(Self::MAX), ..MetaSchema::ANY };
        Vec::<NewItemMovement>::schema_ref().merge(bounds)
    }

    fn register(registry: &mut Registry) {
        NewItemMovement::register(registry);
    }
}

impl Read for Batch {
    fn read(value: Value, pointer: Pointer<'_>, errors: &mut Errors) -> Option<Self> {
        read_array(value, pointer, (1, Self::MAX), "movements", errors).map(Self)
    }
}

object! {
    /// Movements that belong together.
    reads NewMovements {
        /// The movements, in the order in which they are carried out.
        movements: Batch,
    }
    example {
        "movements": [
            { "item_id": "widget-1", "delta": -2, "reason": "transferred", "reference": "van-7" },
            { "item_id": "widget-2", "delta": 2, "reason": "transferred", "reference": "van-7" }
        ]
    }
}

object! {
    /// Ledger entries of the movements.
    writes MovedItems {
        /// The ledger's entries, in the order of the movements.
        entries: Vec<EntryView>,
    }
    example {
        "entries": [{
            "position": 2, "item_id": "widget-1", "event": "moved", "delta": -2, "quantity": 8, "reserved": 0,
            "version": 2, "reason": "sold", "reference": "order-4711", "at": "2026-01-02T03:04:05.678Z"
        }]
    }
}

parameters! {
    MoveStock {
        /// Move stock only of an item in one of these versions, otherwise return 412.
        header if_match "If-Match": EntityTags,
        /// A unique key that you choose, so that a repeated request is not carried out twice: for 24 hours, the same
        /// request under the same key gets the same ledger entry, with the current item.
        header idempotency_key "Idempotency-Key": Key,
    }
}

object! {
    /// Note on a reversal.
    reads NewReversal {
        /// The reason why the movement was wrong.
        note: Option<Note>,
        /// Identifier elsewhere, such as an order number.
        reference: Option<Reference>,
    }
    example { "note": "wrong item scanned" }
}

parameters! {
    ReverseMovement {
        /// A unique key that you choose, so that a repeated request is not carried out twice: for 24 hours, the same
        /// request under the same key gets the same ledger entry, with the current item.
        header idempotency_key "Idempotency-Key": Key,
    }
}

parameters! {
    MoveStockOfMany {
        /// Return the outcome without changing anything.
        query dry_run: bool,
        /// A unique key that you choose, so that a repeated request is not carried out twice: for 24 hours, the same
        /// request under the same key gets the first response.
        header idempotency_key "Idempotency-Key": Key,
    }
}

/// Responses of `POST /movements`.
#[derive(ApiResponse)]
pub enum CreateMovementsResponse {
    /// The movements are in the ledger.
    #[oai(status = 201)]
    Created(
        Json<MovedItems>,
        /// `true` if the request was carried out before, under the same `Idempotency-Key`, and this is its first
        /// response.
        #[oai(header = "Idempotent-Replayed")]
        Option<String>,
    ),
    /// With `dry_run=true`: the ledger entries that the movements would have. Nothing was changed.
    #[oai(status = 200)]
    Tried(Json<MovedItems>),
}

/// Responses of `POST /inventory/{id}/movements`.
#[derive(ApiResponse)]
pub enum CreateMovementResponse {
    /// The movement is in the ledger.
    #[oai(status = 201)]
    Created(
        Json<MovedItem>,
        /// URL of the ledger entry.
        #[oai(header = "Location")]
        String,
        /// The entity tag of `item`; absent with it.
        #[oai(header = "ETag")]
        Option<String>,
        /// `true` if the request was carried out before, under the same `Idempotency-Key`, and not again.
        #[oai(header = "Idempotent-Replayed")]
        Option<String>,
    ),
}

/// The calls that move stock.
pub struct Movements {
    /// Where the movements are read that are reversed.
    pub store: Guarded,
    /// Where it is moved.
    pub changes: Changes,
    /// Prefix of every path.
    pub base_path: BasePath,
}

#[OpenApi(tag = "Tag::Inventory")]
impl Movements {
    /// Move stock
    ///
    /// Records that goods came or went (`delta`), or a counted quantity (`counted`). Concurrent movements by `delta`
    /// all count; none can take more than is available.
    #[oai(path = "/inventory/:id/movements", method = "post", operation_id = "moveStock")]
    async fn create(
        &self,
        caller: Writes,
        parameters: MoveStock,
        /// The item's id.
        id: Path<ItemId>,
        target: Target,
        body: JsonBody<NewMovement>,
    ) -> Result<CreateMovementResponse, Refused<(InsufficientStock, TooMuchStock)>> {
        let JsonBody { value: new, bytes, .. } = body;
        let change = stock_change(new.delta, new.counted)
            .map_err(|wrong| Problem::with_errors(Kind::InvalidBody, member_error(Pointer::Root, wrong)))?;
        let movement = Movement { change, reason: new.reason, note: new.note, reference: new.reference };
        let precondition = conditional::precondition(parameters.if_match, None, false);
        let operation = Move { id: id.0, movement, precondition };
        let idempotency = target.keyed(&caller, parameters.idempotency_key, &bytes);
        Ok(self.moved(self.changes.make(&caller, operation, idempotency).await?))
    }

    /// Reverse a movement
    ///
    /// Moves the same quantity in the opposite direction, for the same reason, and links the new ledger entry to the
    /// old one by `reverses`. A movement can be reversed once, and its reversal too. The rules of stock apply.
    #[oai(path = "/ledger/:position/reverse", method = "post", operation_id = "reverseMovement")]
    async fn reverse(
        &self,
        caller: Writes,
        parameters: ReverseMovement,
        /// The position of the movement in the ledger.
        position: Path<Position>,
        target: Target,
        body: OptionalBody<NewReversal>,
    ) -> Result<CreateMovementResponse, Refused<(AlreadyReversed, NotReversible, InsufficientStock, TooMuchStock)>>
    {
        let idempotency = target.keyed(&caller, parameters.idempotency_key, body.bytes());
        let new = body.0.map(|body| body.value);
        let (note, reference) = new.map_or((None, None), |new| (new.note, new.reference));
        let missing = || Problem::new(Kind::NotFound, "The ledger has no entry at this position yet.");
        // It never changes, so that it need not be read again with the change.
        let LedgerRecord { position, entry } = self.store.open(&caller).entry(position.0).await?.ok_or_else(missing)?;
        let Entry { item_id: id, event: Event::Moved, delta, reason: Some(reason), at, .. } = entry else {
            return Err(Problem::from(Refusal::NotReversible).into());
        };
        let delta = Delta::new(delta).map_err(|_| Problem::from(Refusal::NotReversible))?;
        let operation = Reverse { id, position, delta, at, reason, note, reference };
        Ok(self.moved(self.changes.make(&caller, operation, idempotency).await?))
    }

    /// Move stock of many items
    ///
    /// Carries out up to 1,000 movements in order: all of them or, if any is refused, none. The problem names each
    /// refused movement by its index.
    #[oai(path = "/movements", method = "post", operation_id = "moveStockOfMany")]
    async fn create_all(
        &self,
        caller: Writes,
        parameters: MoveStockOfMany,
        target: Target,
        body: JsonBody<NewMovements>,
    ) -> Result<CreateMovementsResponse, Refused<BatchRefused>> {
        let JsonBody { value: NewMovements { movements: Batch(new) }, bytes, .. } = body;
        let (mut movements, mut errors) = (Vec::with_capacity(new.len()), Errors::default());
        let list = Pointer::Root.member("movements");
        for (index, new) in new.into_iter().enumerate() {
            match new.into_movement() {
                Ok(movement) => movements.push(movement),
                Err(wrong) => {
                    wrong.into_iter().for_each(|wrong| errors.add(|| member_error(list.element(index), wrong)));
                }
            }
        }
        if !errors.is_empty() {
            return Err(Problem::with_errors(Kind::InvalidBody, errors).into());
        }
        let dry_run = parameters.dry_run.unwrap_or_default();
        let idempotency = target.keyed(&caller, parameters.idempotency_key, &bytes);
        let Written { outcome: records, replayed } =
            self.changes.make(&caller, MoveAll { movements, dry_run }, idempotency).await?;
        let moved = Json(MovedItems { entries: records.into_iter().map(EntryView::from).collect() });
        Ok(if dry_run {
            CreateMovementsResponse::Tried(moved)
        } else {
            CreateMovementsResponse::Created(moved, replayed.then(|| "true".to_owned()))
        })
    }
}

impl Movements {
    /// The answer to a movement that is in the ledger.
    fn moved(&self, written: Written<store::Moved>) -> CreateMovementResponse {
        let Written { outcome: store::Moved { record, item }, replayed } = written;
        let location = format!("{}/ledger/{}", self.base_path, record.position.get());
        let etag = item.as_ref().map(|item| conditional::etag(item.version));
        let moved = MovedItem { entry: record.into(), item: item.map(ItemView::from) };
        CreateMovementResponse::Created(Json(moved), location, etag, replayed.then(|| "true".to_owned()))
    }
}

/// Returns one of the two names of an item, or the pointer to the member that is wrong.
fn item_name(item_id: Option<ItemId>, barcode: Option<Barcode>) -> Result<ItemName, (&'static str, Invalid)> {
    match (item_id, barcode) {
        (Some(id), None) => Ok(ItemName::Id(id)),
        (None, Some(barcode)) => Ok(ItemName::Barcode(barcode)),
        (None, None) => Err(("/item_id", Invalid::new("required", "must be there, or barcode in its place"))),
        (Some(_), Some(_)) => Err(("/barcode", Invalid::new("conflict", "must not be there beside item_id"))),
    }
}

/// Returns one of the two ways to say what became of the stock, or the pointer to the member that is wrong.
fn stock_change(delta: Option<Delta>, counted: Option<Quantity>) -> Result<StockChange, (&'static str, Invalid)> {
    match (delta, counted) {
        (Some(delta), None) => Ok(StockChange::By(delta)),
        (None, Some(counted)) => Ok(StockChange::To(counted)),
        (None, None) => Err(("/delta", Invalid::new("required", "must be there, or counted in its place"))),
        (Some(_), Some(_)) => Err(("/counted", Invalid::new("conflict", "must not be there beside delta"))),
    }
}

/// An error of a member of the object at a pointer.
fn member_error(object: Pointer<'_>, (pointer, invalid): (&'static str, Invalid)) -> FieldError {
    FieldError::new(object.member(&pointer[1..]).location(), invalid)
}
