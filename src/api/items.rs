//! `/inventory`: the items.

use std::sync::Arc;

use poem_openapi::param::Path;
use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use poem_openapi::{ApiResponse, OpenApi};
use serde_json::Value;

use super::changes::Changes;
use super::http::access::{Administers, Guarded, MayWrite, Reads, Writes};
use super::http::conditional::{self, EntityTags, IfAbsent};
use super::http::idempotency::{Key, Target};
use super::http::page::{CursorText, Limit, Listing, MAX_PAGE_BYTES};
use super::http::params::{Parameter, SentQuery, parameters};
use super::http::payload::{Json, JsonBody, MergePatch};
use super::http::problem::kinds::{BarcodeTaken, Busy, HasReservations, InsufficientStock, ItemExists, QueryTimeout};
use super::http::problem::{Kind, Problem, Refused};
use super::openapi::Tag;
use super::openapi::object::object;
use super::openapi::schema::{Read, Schema, inline, refuse};
use crate::config::BasePath;
use crate::domain::{
    Amount, Attributes, AttributesPatch, Barcode, Barcodes, Create, Currency, Delete, Description, Details,
    DetailsPatch, Invalid, Item, ItemId, ItemPatch, Label, Member, Name, Patch, Precondition, Quantity, Refusal,
    Replace, Timestamp, UnitPrice, UnitPricePatch, Version,
};
use crate::files::columns::{Column, Required};
use crate::files::errors::{Errors, FieldError, Location, Pointer};
use crate::files::rows::ReadRow;
use crate::store::{
    After, ImportMode, ItemFilter, ItemList, ItemQuery, Operation, RowContent, SearchText, Sort, SortKey, Written,
};

object! {
    fragment Details, patched by DetailsPatch {
        /// The name of the item.
        name: Name => Option<Name>,
        /// A longer text about it.
        description: Option<Description> => Member<Description>,
        /// The category that it belongs to.
        category: Option<Label> => Member<Label>,
        /// The location where it is kept.
        location: Option<Label> => Member<Label>,
        /// Unit of measure of its quantity, such as `piece` or `g`.
        unit: Option<Label> => Member<Label>,
        /// The stock is low if `available` is at or below this.
        reorder_level: Option<Quantity> => Member<Quantity>,
        /// The price of one unit.
        unit_price: Option<UnitPrice> => Member<UnitPricePatch>,
        /// Codes on the item or its package, such as an EAN or a SKU: up to 16. A barcode belongs to at most one item.
        barcodes: Barcodes => Member<Barcodes>,
        /// Fields of your own: any JSON object of at most 16 KiB. Its numbers are kept exactly, or refused.
        attributes: Attributes => Member<AttributesPatch>,
    }
}

object! {
    /// The price of one unit.
    reads domain UnitPrice {
        /// A decimal number that keeps its digits.
        amount: Amount,
        /// An ISO 4217 currency code.
        currency: Currency,
    }
    example { "amount": "12.50", "currency": "EUR" }
}

object! {
    /// The members of a price that change; an item without a price needs both.
    reads domain UnitPricePatch {
        /// A decimal number that keeps its digits.
        amount: Option<Amount>,
        /// An ISO 4217 currency code.
        currency: Option<Currency>,
    }
    example { "amount": "12.90" }
}

object! {
    /// An item of the inventory. Members without a value are left out.
    writes row ItemView {
        /// The item's id, also in its URL.
        id: ItemId,
        ..details: Details,
        /// Its stock, in its smallest unit.
        quantity: Quantity,
        /// The part of the quantity that open reservations hold.
        reserved: Quantity,
        /// The part of the quantity that can be sold or reserved: `quantity` less `reserved`.
        available: Quantity,
        /// True if `available` is at or below `reorder_level`; false without a reorder level.
        low_stock: bool,
        /// The number of changes of the item.
        version: Version,
        /// Its entity tag in this version, as `If-Match` and `If-None-Match` take it.
        etag: String,
        /// The time of its creation (RFC 3339, UTC).
        created_at: Timestamp,
        /// The time of its last change (RFC 3339, UTC).
        updated_at: Timestamp,
    }
    example {
        "id": "widget-1", "name": "Widget", "reorder_level": 5, "unit_price": { "amount": "12.50", "currency": "EUR" },
        "attributes": { "colour": "red" }, "quantity": 10, "reserved": 0, "available": 10, "low_stock": false,
        "version": 1, "etag": "\"1\"", "created_at": "2026-01-02T03:04:05.678Z",
        "updated_at": "2026-01-02T03:04:05.678Z"
    }
}

impl From<Arc<Item>> for ItemView {
    fn from(item: Arc<Item>) -> Self {
        Arc::unwrap_or_clone(item).into()
    }
}

impl From<Item> for ItemView {
    fn from(item: Item) -> Self {
        let (available, low_stock) = (item.available(), item.low_stock());
        let Item { id, details, quantity, reserved, version, created_at, updated_at } = item;
        let etag = conditional::etag(version);
        Self { id, details, quantity, reserved, available, low_stock, version, etag, created_at, updated_at }
    }
}

object! {
    /// An item to put into the inventory; without `attributes` it has none.
    reads NewItem {
        /// The item's id; a UUID of version 7 if absent.
        id: Option<ItemId>,
        ..details: Details,
        /// Its stock, in its smallest unit; 0 if absent.
        quantity: Option<Quantity>,
    }
    example {
        "id": "widget-1", "name": "Widget", "quantity": 10, "reorder_level": 5,
        "unit_price": { "amount": "12.50", "currency": "EUR" }, "attributes": { "colour": "red" }
    }
}

object! {
    /// All writable fields of an item. An absent field is removed, except `quantity`: without it the stock stays.
    /// Read-only members are ignored, so that an item can be sent back as it was read.
    reads ItemReplacement {
        /// The item's id; if it is sent, the same as in the path.
        id: Option<ItemId>,
        ..details: Details,
        /// Its stock, in its smallest unit; unchanged if absent.
        quantity: Option<Quantity>,
    }
    ignores {
        /// Read-only.
        reserved: Quantity,
        /// Read-only.
        available: Quantity,
        /// Read-only.
        low_stock: bool,
        /// Read-only.
        version: Version,
        /// Read-only.
        etag: String,
        /// Read-only.
        created_at: Timestamp,
        /// Read-only.
        updated_at: Timestamp,
    }
    example {
        "name": "Widget", "quantity": 12, "reorder_level": 5,
        "unit_price": { "amount": "12.50", "currency": "EUR" }, "attributes": { "colour": "red" }
    }
}

object! {
    /// An item in a file: some of its fields, or all of them, as the mode of the import takes them.
    reads row ItemRow {
        /// The item's id; a UUID of version 7 if absent.
        id: Option<ItemId>,
        ..details: DetailsPatch,
        /// Its stock, in its smallest unit; unchanged if absent.
        quantity: Option<Quantity>,
        /// The version of the item that the row was made of; a row with another one is refused.
        version: Option<Version>,
    }
    ignores {
        /// Read-only.
        reserved: Quantity,
        /// Read-only.
        available: Quantity,
        /// Read-only.
        low_stock: bool,
        /// Read-only.
        etag: String,
        /// Read-only.
        created_at: Timestamp,
        /// Read-only.
        updated_at: Timestamp,
    }
    example { "id": "widget-1", "quantity": 12, "version": 3 }
}

impl ReadRow for ItemRow {
    fn columns() -> Vec<Column> {
        Self::columns()
    }

    fn read(value: Value, errors: &mut Errors) -> Option<Self> {
        let mut row: Self = Read::read(value, Pointer::Root, errors)?;
        // A row has all of the attributes: it is no merge patch of them, or an export would not come back as it was.
        if let Member::Set(AttributesPatch::Merge(object)) = &mut row.details.attributes {
            match Attributes::new(std::mem::take(object)) {
                Ok(attributes) => row.details.attributes = Member::Set(AttributesPatch::Whole(attributes)),
                Err(invalid) => return refuse(Pointer::Root.member("attributes"), invalid, errors),
            }
        }
        Some(row)
    }

    fn required(mode: ImportMode) -> Required {
        let groups: &[&[&str]] = match mode {
            ImportMode::Create | ImportMode::Replace => &[&["name"]],
            ImportMode::Update => &[&["id"]],
            ImportMode::Upsert => &[&["id", "name"]],
        };
        Required { groups, because: format!(" with mode={}", mode.as_str()) }
    }

    fn into_content(self, mode: ImportMode) -> Result<RowContent, Vec<(&'static str, Invalid)>> {
        let mut wrong = Vec::new();
        if mode == ImportMode::Update && self.id.is_none() {
            wrong.push(("/id", Invalid::new("required", "must be there, to say which item to update")));
        }
        if mode.is_whole()
            && let Err(of_whole) = self.details.apply(None)
        {
            wrong.extend(of_whole);
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let patch = Box::new(ItemPatch { details: self.details, quantity: self.quantity });
        Ok(RowContent::Item { id: self.id, version: self.version, patch })
    }
}

object! {
    /// The fields of an item that change, as a JSON Merge Patch (RFC 7396): an absent field stays, `null` removes a field,
    /// `attributes` are merged.
    reads ItemChanges {
        ..details: DetailsPatch,
        /// Its stock, in its smallest unit.
        quantity: Option<Quantity>,
    }
    example { "quantity": 12, "category": "Fasteners", "attributes": { "colour": null } }
}

object! {
    /// A page of items.
    writes ItemPage {
        /// The items, in the order of the list.
        items: Vec<ItemView>,
        /// Value of `cursor` for the next page; absent on the last one.
        next_cursor: Option<String>,
        /// Number of all items that meet the filters; present if `count=true` asked for it.
        total: Option<u64>,
    }
    example {
        "items": [{
            "id": "widget-1", "name": "Widget", "quantity": 10, "reserved": 0, "available": 10, "low_stock": false,
            "attributes": {}, "version": 1, "etag": "\"1\"",
            "created_at": "2026-01-02T03:04:05.678Z", "updated_at": "2026-01-02T03:04:05.678Z"
        }],
        "total": 1
    }
}

/// The order of a list, and the name that it has in the parameter `sort`.
pub struct Order {
    name: &'static str,
    sort: Sort,
}

const ORDERS: [(&str, SortKey, bool); 10] = [
    ("id", SortKey::Id, false),
    ("-id", SortKey::Id, true),
    ("name", SortKey::Name, false),
    ("-name", SortKey::Name, true),
    ("quantity", SortKey::Quantity, false),
    ("-quantity", SortKey::Quantity, true),
    ("created_at", SortKey::CreatedAt, false),
    ("-created_at", SortKey::CreatedAt, true),
    ("updated_at", SortKey::UpdatedAt, false),
    ("-updated_at", SortKey::UpdatedAt, true),
];

impl Default for Order {
    fn default() -> Self {
        let (name, key, descending) = ORDERS[0];
        Self { name, sort: Sort { key, descending } }
    }
}

impl Schema for Order {
    fn schema_ref() -> MetaSchemaRef {
        inline(MetaSchema {
            enum_items: ORDERS.iter().map(|(name, ..)| (*name).into()).collect(),
            default: Some(ORDERS[0].0.into()),
            ..MetaSchema::new("string")
        })
    }
}

impl Parameter for Order {
    fn parse(text: &str) -> Result<Self, Invalid> {
        let order = ORDERS.iter().find(|(name, ..)| *name == text);
        let order = order.map(|&(name, key, descending)| Self { name, sort: Sort { key, descending } });
        order.ok_or_else(|| {
            let names: Vec<_> = ORDERS.iter().map(|(name, ..)| *name).collect();
            Invalid::new("enum", format!("must be one of {}", names.join(", ")))
        })
    }
}

parameters! {
    ListItems {
        /// Only items with this text in their id, name or description; case and accents are ignored. A text of one or
        /// two characters matches the beginning of the id or of the name.
        query q: SearchText,
        /// Only the item with this barcode.
        query barcode: Barcode,
        /// Only items of this category.
        query category: Label,
        /// Only items at this location.
        query location: Label,
        /// Only items with low stock, or only items without.
        query low_stock: bool,
        /// Only items changed at this time or later (RFC 3339); a date alone is its midnight in UTC. To follow each
        /// change, read the ledger.
        query updated_since: Timestamp,
        /// Sort order; with `-` descending. Ties are sorted by id.
        query sort: Order,
        /// Maximum number of items on the page; a page of more than 256 KiB ends earlier.
        query limit: Limit,
        /// The `next_cursor` of the previous page, with the same filters and order.
        query cursor: CursorText,
        /// Count all items that match the filters.
        query count: bool,
    }
}

parameters! {
    CreateItem {
        /// A unique key that you choose, so that a repeated request is not carried out twice: for 24 hours, the same
        /// request under the same key gets the first response.
        header idempotency_key "Idempotency-Key": Key,
    }
}

parameters! {
    GetItem {
        /// Return 304 without the item if it is still in one of these versions.
        header if_none_match "If-None-Match": EntityTags,
    }
}

parameters! {
    ReplaceItem {
        /// Replace the item only in one of these versions, otherwise return 412.
        header if_match "If-Match": EntityTags,
        /// With `*`: create the item, or return 412 if it exists.
        header if_none_match "If-None-Match": IfAbsent,
    }
}

parameters! {
    PatchItem {
        /// Change the item only in one of these versions, otherwise return 412.
        header if_match "If-Match": EntityTags,
    }
}

parameters! {
    DeleteItem {
        /// Delete the item only in one of these versions, otherwise return 412.
        header if_match "If-Match": EntityTags,
    }
}

/// Responses of `POST /inventory`.
#[derive(ApiResponse)]
pub enum CreateItemResponse {
    /// The item is in the inventory.
    #[oai(status = 201)]
    Created(
        Json<ItemView>,
        /// URL of the item.
        #[oai(header = "Location")]
        String,
        /// The item's entity tag.
        #[oai(header = "ETag")]
        String,
        /// `true` if the request was carried out before, under the same `Idempotency-Key`, and this is its first
        /// response.
        #[oai(header = "Idempotent-Replayed")]
        Option<String>,
    ),
}

/// Responses of `GET /inventory/{id}`.
#[derive(ApiResponse)]
#[expect(clippy::large_enum_variant, reason = "the large one is the usual one, and it lives for a moment")]
pub enum GetItemResponse {
    /// The item.
    #[oai(status = 200)]
    Ok(
        Json<ItemView>,
        /// The item's entity tag.
        #[oai(header = "ETag")]
        String,
    ),
    /// The item is still in a version that `If-None-Match` lists.
    #[oai(status = 304)]
    NotModified(
        /// The item's entity tag.
        #[oai(header = "ETag")]
        String,
    ),
}

/// Responses of `PUT /inventory/{id}`.
#[derive(ApiResponse)]
pub enum ReplaceItemResponse {
    /// The item after the change.
    #[oai(status = 200)]
    Ok(
        Json<ItemView>,
        /// The item's entity tag.
        #[oai(header = "ETag")]
        String,
    ),
    /// The item was created, as `If-None-Match: *` demands.
    #[oai(status = 201)]
    Created(
        Json<ItemView>,
        /// URL of the item.
        #[oai(header = "Location")]
        String,
        /// The item's entity tag.
        #[oai(header = "ETag")]
        String,
    ),
}

/// Responses of `PATCH /inventory/{id}`.
#[derive(ApiResponse)]
pub enum PatchItemResponse {
    /// The item after the change.
    #[oai(status = 200)]
    Ok(
        Json<ItemView>,
        /// The item's entity tag.
        #[oai(header = "ETag")]
        String,
    ),
}

/// Responses of `DELETE /inventory/{id}`.
#[derive(ApiResponse)]
pub enum DeleteItemResponse {
    /// The item was deleted.
    #[oai(status = 204)]
    Gone,
}

/// Responses of `GET /inventory`.
#[derive(ApiResponse)]
pub enum ListItemsResponse {
    /// A page of items.
    #[oai(status = 200)]
    Ok(
        Json<ItemPage>,
        /// The URL of the next page, with `rel="next"` (RFC 8288); absent on the last one.
        #[oai(header = "Link")]
        Option<String>,
    ),
}

/// The calls on items.
pub struct Items {
    /// Where they are kept.
    pub store: Guarded,
    /// Prefix of every path.
    pub base_path: BasePath,
    /// Where they are changed.
    pub changes: Changes,
    /// Demand `If-Match` with a change, or `If-None-Match` where that is taken.
    pub require_if_match: bool,
}

impl Items {
    fn location(&self, id: &ItemId) -> String {
        format!("{}/inventory/{}", self.base_path, id.as_str())
    }

    async fn write<O: Operation>(&self, caller: &impl MayWrite, operation: O) -> Result<O::Outcome, Problem> {
        Ok(self.changes.make(caller, operation, None).await?.outcome)
    }
}

#[OpenApi(tag = "Tag::Inventory")]
impl Items {
    /// List items
    ///
    /// Returns a page of the items that match every filter. An item that exists throughout and keeps its sort key is on
    /// exactly one page, whatever is created or deleted while the pages are read.
    #[oai(path = "/inventory", method = "get", operation_id = "listItems")]
    async fn list(
        &self,
        caller: Reads,
        parameters: ListItems,
        sent: SentQuery,
    ) -> Result<ListItemsResponse, Refused<(Busy, QueryTimeout)>> {
        let ListItems { q, barcode, category, location, low_stock, updated_since, sort, limit, cursor, count } =
            parameters;
        let filter = ItemFilter { barcode, category, location, low_stock, updated_since, text: q };
        let Order { name, sort } = sort.unwrap_or_default();
        let listing = Listing { order: name, filter: &filter };
        let fits = |after: &After| sort.key.accepts(&after.key);
        let after = cursor.as_ref().map(|cursor| listing.position(cursor, fits)).transpose()?;
        let limit = limit.unwrap_or_default().get();
        let (count, max_bytes) = (count.unwrap_or_default(), MAX_PAGE_BYTES);
        let query = ItemQuery { filter: filter.clone(), sort, after, limit, max_bytes, count };
        let ItemList { items, more, total } = self.store.open(&caller).items(query).await?;
        let next_cursor = items
            .last()
            .filter(|_| more)
            .map(|last| listing.cursor(&After { key: sort.key.of(last), id: last.id.clone() }));
        let link = next_cursor
            .as_ref()
            .map(|next| format!("<{}/inventory?{}>; rel=\"next\"", self.base_path, sent.with("cursor", next)));
        let items = items.into_iter().map(ItemView::from).collect();
        Ok(ListItemsResponse::Ok(Json(ItemPage { items, next_cursor, total }), link))
    }

    /// Create an item
    ///
    /// Creates an item. When the response arrives, the item is on stable storage.
    #[oai(path = "/inventory", method = "post", operation_id = "createItem")]
    async fn create(
        &self,
        caller: Writes,
        parameters: CreateItem,
        target: Target,
        body: JsonBody<NewItem>,
    ) -> Result<CreateItemResponse, Refused<(ItemExists, BarcodeTaken)>> {
        let JsonBody { value: new, bytes, .. } = body;
        let create = Create {
            id: new.id.unwrap_or_else(ItemId::generate),
            details: new.details,
            quantity: new.quantity.unwrap_or_default(),
            precondition: Precondition::None,
        };
        let idempotency = target.keyed(&caller, parameters.idempotency_key, &bytes);
        let Written { outcome: item, replayed } = self.changes.make(&caller, create, idempotency).await?;
        let (location, etag) = (self.location(&item.id), conditional::etag(item.version));
        Ok(CreateItemResponse::Created(Json(item.into()), location, etag, replayed.then(|| "true".to_owned())))
    }

    /// Get an item
    ///
    /// Returns the item with its entity tag.
    #[oai(path = "/inventory/:id", method = "get", operation_id = "getItem")]
    async fn get(
        &self,
        caller: Reads,
        parameters: GetItem,
        /// The item's id.
        id: Path<ItemId>,
    ) -> Result<GetItemResponse, Refused<Busy>> {
        let item = self.store.open(&caller).item(&id.0).await?.ok_or(Refusal::NotFound)?;
        let etag = conditional::etag(item.version);
        if parameters.if_none_match.is_some_and(|tags| tags.match_weakly(item.version)) {
            return Ok(GetItemResponse::NotModified(etag));
        }
        Ok(GetItemResponse::Ok(Json(item.into()), etag))
    }

    /// Replace an item
    ///
    /// Replaces all writable fields of an item. A field that the body omits is removed, except `quantity`: without it
    /// the stock stays. A replacement that changes nothing keeps the version.
    #[oai(path = "/inventory/:id", method = "put", operation_id = "replaceItem")]
    async fn replace(
        &self,
        caller: Writes,
        parameters: ReplaceItem,
        /// The item's id.
        id: Path<ItemId>,
        body: JsonBody<ItemReplacement>,
    ) -> Result<ReplaceItemResponse, Refused<(InsufficientStock, BarcodeTaken)>> {
        let (Path(id), ItemReplacement { id: repeated, details, quantity }) = (id, body.value);
        if repeated.is_some_and(|repeated| repeated != id) {
            let differs = Invalid::new("mismatch", "must be the id in the path, or be left out; an id cannot change");
            let error = FieldError::new(Location::Pointer("/id".to_owned()), differs);
            return Err(Problem::with_errors(Kind::InvalidBody, error).into());
        }
        let precondition =
            conditional::precondition(parameters.if_match, parameters.if_none_match, self.require_if_match);
        if precondition == Precondition::Absent {
            let quantity = quantity.unwrap_or_default();
            let item = self.write(&caller, Create { id, details, quantity, precondition }).await?;
            let (location, etag) = (self.location(&item.id), conditional::etag(item.version));
            return Ok(ReplaceItemResponse::Created(Json(item.into()), location, etag));
        }
        let item = self.write(&caller, Replace { id, details, quantity, precondition }).await?;
        let etag = conditional::etag(item.version);
        Ok(ReplaceItemResponse::Ok(Json(item.into()), etag))
    }

    /// Change an item
    ///
    /// Changes the fields that the merge patch names and leaves all others as they are (RFC 7396): `null` removes a
    /// field, arrays are replaced as a whole, `attributes` are merged. Read-only fields are refused. A patch that
    /// changes nothing keeps the version.
    #[oai(path = "/inventory/:id", method = "patch", operation_id = "patchItem")]
    async fn patch(
        &self,
        caller: Writes,
        parameters: PatchItem,
        /// The item's id.
        id: Path<ItemId>,
        body: MergePatch<ItemChanges>,
    ) -> Result<PatchItemResponse, Refused<(InsufficientStock, BarcodeTaken)>> {
        let ItemChanges { details, quantity } = body.value;
        let patch = ItemPatch { details, quantity };
        let precondition = conditional::precondition(parameters.if_match, None, self.require_if_match);
        let item = self.write(&caller, Patch { id: id.0, patch: Box::new(patch), precondition }).await?;
        let etag = conditional::etag(item.version);
        Ok(PatchItemResponse::Ok(Json(item.into()), etag))
    }

    /// Delete an item
    ///
    /// Deletes an item with all its stock. Its ledger entries stay.
    #[oai(path = "/inventory/:id", method = "delete", operation_id = "deleteItem")]
    async fn delete(
        &self,
        caller: Administers,
        parameters: DeleteItem,
        /// The item's id.
        id: Path<ItemId>,
    ) -> Result<DeleteItemResponse, Refused<HasReservations>> {
        let precondition = conditional::precondition(parameters.if_match, None, self.require_if_match);
        self.write(&caller, Delete { id: id.0, precondition }).await?;
        Ok(DeleteItemResponse::Gone)
    }
}
