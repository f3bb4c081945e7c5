//! `/inventory`: the items.

use std::sync::Arc;

use poem_openapi::param::Path;
use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use poem_openapi::{ApiResponse, OpenApi};

use super::Tag;
use super::changes::Changes;
use super::conditional::{self, EntityTags, NoneThere};
use super::errors::{FieldError, Place};
use super::idempotency::{Key, Target};
use super::page::{CursorText, Limit, Listing, MAX_PAGE_BYTES};
use super::params::{Checked, Header, Parameter, Query, SentQuery};
use super::payload::{Json, JsonBody, MergePatch};
use super::problem::{Kind, Problem};
use super::schema::{Schema, inline, object};
use crate::config::BasePath;
use crate::domain::{
    Attributes, Create, Delete, Description, Details, Invalid, Item, ItemId, ItemPatch, Label, Member, Name, Patch,
    Precondition, Quantity, Replace, Timestamp, UnitPrice, UnitPricePatch, Version,
};
use crate::store::{After, ItemFilter, ItemList, ItemQuery, Operation, SearchText, Sort, SortKey, Store, Written};

object! {
    /// An item as it stands in the inventory. Members without a value are left out.
    writes ItemView {
        /// What names the item, in the inventory and in its URL.
        id: ItemId,
        /// What the item is called.
        name: Name,
        /// A longer text about it.
        description: Option<Description>,
        /// What kind of thing it is.
        category: Option<Label>,
        /// Where it is kept.
        location: Option<Label>,
        /// What one of its quantity is, such as `piece` or `g`.
        unit: Option<Label>,
        /// How much of it there is, in its smallest unit.
        quantity: Quantity,
        /// How much of that open reservations hold.
        reserved: Quantity,
        /// How much of it can be sold or reserved: `quantity` less `reserved`.
        available: Quantity,
        /// At which availability, or below, the stock counts as low.
        reorder_level: Option<Quantity>,
        /// Whether as much or less is available as `reorder_level` says; never without one.
        low_stock: bool,
        /// What one unit costs.
        unit_price: Option<UnitPrice>,
        /// Fields of your own: any JSON object of at most 16 KiB. Its numbers are kept exactly, or refused.
        attributes: Attributes,
        /// How often the item has changed.
        version: Version,
        /// Its entity tag in this version, as `If-Match` and `If-None-Match` take it.
        etag: String,
        /// When the item was created (RFC 3339, UTC).
        created_at: Timestamp,
        /// When the item last changed (RFC 3339, UTC).
        updated_at: Timestamp,
    }
    example {
        "id": "widget-1", "name": "Widget", "quantity": 10, "reserved": 0, "available": 10, "reorder_level": 5,
        "low_stock": false, "unit_price": { "amount": "12.50", "currency": "EUR" }, "attributes": { "colour": "red" },
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
        let Details { name, description, category, location, unit, reorder_level, unit_price, attributes } = details;
        Self {
            id,
            name,
            description,
            category,
            location,
            unit,
            quantity,
            reserved,
            available,
            reorder_level,
            low_stock,
            unit_price,
            attributes,
            version,
            etag: conditional::etag(version),
            created_at,
            updated_at,
        }
    }
}

object! {
    /// An item to put into the inventory.
    reads NewItem {
        /// What names the item; a UUID of version 7 if absent.
        id: Option<ItemId>,
        /// What the item is called.
        name: Name,
        /// A longer text about it.
        description: Option<Description>,
        /// What kind of thing it is.
        category: Option<Label>,
        /// Where it is kept.
        location: Option<Label>,
        /// What one of its quantity is, such as `piece` or `g`.
        unit: Option<Label>,
        /// How much of it there is, in its smallest unit.
        quantity: Option<Quantity> = 0,
        /// At which availability, or below, the stock counts as low.
        reorder_level: Option<Quantity>,
        /// What one unit costs.
        unit_price: Option<UnitPrice>,
        /// Fields of your own: any JSON object of at most 16 KiB. Its numbers are kept exactly, or refused.
        attributes: Option<Attributes> = {},
    }
    example {
        "id": "widget-1", "name": "Widget", "quantity": 10, "reorder_level": 5,
        "unit_price": { "amount": "12.50", "currency": "EUR" }, "attributes": { "colour": "red" }
    }
}

object! {
    /// What an item is to be from now on. What is absent is taken away, but for `quantity`: without it the stock stays.
    /// Read-only members may be sent and say nothing, so that an item can be sent back as it was read.
    reads ItemReplacement {
        /// The item's id, if it is to be repeated; the same as in the path.
        id: Option<ItemId>,
        /// What the item is called.
        name: Name,
        /// A longer text about it.
        description: Option<Description>,
        /// What kind of thing it is.
        category: Option<Label>,
        /// Where it is kept.
        location: Option<Label>,
        /// What one of its quantity is, such as `piece` or `g`.
        unit: Option<Label>,
        /// How much of it there is, in its smallest unit; the stock stays as it is if absent.
        quantity: Option<Quantity>,
        /// At which availability, or below, the stock counts as low.
        reorder_level: Option<Quantity>,
        /// What one unit costs.
        unit_price: Option<UnitPrice>,
        /// Fields of your own: any JSON object of at most 16 KiB. Its numbers are kept exactly, or refused.
        attributes: Option<Attributes> = {},
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

impl ItemReplacement {
    /// Its id, what is said of it, and its stock.
    pub fn into_parts(self) -> (Option<ItemId>, Details, Option<Quantity>) {
        let Self { id, name, description, category, location, unit, quantity, reorder_level, unit_price, attributes } =
            self;
        let attributes = attributes.unwrap_or_default();
        let details = Details { name, description, category, location, unit, reorder_level, unit_price, attributes };
        (id, details, quantity)
    }
}

object! {
    /// Which fields of an item are to change, as a JSON Merge Patch (RFC 7396): what is absent stays, `null` takes away.
    reads ItemChanges {
        /// What the item is called.
        name: Option<Name>,
        /// A longer text about it.
        description: Member<Description>,
        /// What kind of thing it is.
        category: Member<Label>,
        /// Where it is kept.
        location: Member<Label>,
        /// What one of its quantity is, such as `piece` or `g`.
        unit: Member<Label>,
        /// How much of it there is, in its smallest unit.
        quantity: Option<Quantity>,
        /// At which availability, or below, the stock counts as low.
        reorder_level: Member<Quantity>,
        /// What one unit costs.
        unit_price: Member<UnitPricePatch>,
        /// Fields of your own, merged into those that are there.
        attributes: Member<serde_json::Map<String, serde_json::Value>>,
    }
    example { "quantity": 12, "category": "Fasteners", "attributes": { "colour": null } }
}

object! {
    /// A page of items.
    writes ItemPage {
        /// The items, in the order of the list.
        items: Vec<ItemView>,
        /// What to send as `cursor` for the next page; absent on the last one.
        next_cursor: Option<String>,
        /// How many items meet the filters in all; there if `count=true` asked for it.
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

/// What `POST /inventory` answers.
#[derive(ApiResponse)]
pub enum Created {
    /// The item is in the inventory.
    #[oai(status = 201)]
    Created(
        Json<ItemView>,
        /// Where the item is.
        #[oai(header = "Location")]
        String,
        /// The item's entity tag.
        #[oai(header = "ETag")]
        String,
        /// `true` if the request was carried out before, under the same `Idempotency-Key`, and this is the answer of
        /// then.
        #[oai(header = "Idempotent-Replayed")]
        Option<String>,
    ),
}

/// What `GET /inventory/{id}` answers.
#[derive(ApiResponse)]
#[expect(clippy::large_enum_variant, reason = "the large one is the usual one, and it lives for a moment")]
pub enum Found {
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

/// What `PUT /inventory/{id}` answers.
#[derive(ApiResponse)]
pub enum Replaced {
    /// The item as it is now.
    #[oai(status = 200)]
    Ok(
        Json<ItemView>,
        /// The item's entity tag.
        #[oai(header = "ETag")]
        String,
    ),
    /// The item was not there and is now, as `If-None-Match: *` demanded.
    #[oai(status = 201)]
    Created(
        Json<ItemView>,
        /// Where the item is.
        #[oai(header = "Location")]
        String,
        /// The item's entity tag.
        #[oai(header = "ETag")]
        String,
    ),
}

/// What `PATCH /inventory/{id}` answers.
#[derive(ApiResponse)]
pub enum Patched {
    /// The item as it is now.
    #[oai(status = 200)]
    Ok(
        Json<ItemView>,
        /// The item's entity tag.
        #[oai(header = "ETag")]
        String,
    ),
}

/// What `DELETE /inventory/{id}` answers.
#[derive(ApiResponse)]
pub enum Deleted {
    /// The item is gone.
    #[oai(status = 204)]
    Gone,
}

/// What `GET /inventory` answers.
#[derive(ApiResponse)]
pub enum Listed {
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
    pub store: Arc<dyn Store>,
    /// What stands before every path.
    pub base_path: BasePath,
    /// Where they are changed.
    pub changes: Changes,
    /// Whether a change must come with `If-Match`, or `If-None-Match` where that is taken.
    pub require_if_match: bool,
}

impl Items {
    fn location(&self, id: &ItemId) -> String {
        format!("{}/inventory/{}", self.base_path, id.as_str())
    }

    async fn write<O: Operation>(&self, operation: O) -> Result<O::Outcome, Problem> {
        Ok(self.changes.make(operation, None).await?.outcome)
    }
}

#[OpenApi(tag = "Tag::Inventory")]
impl Items {
    /// List items
    ///
    /// Answers a page of the items that meet every filter. An item that is there all the time and keeps its place in
    /// the order is on exactly one page, whatever is created or deleted while the pages are read.
    #[oai(path = "/inventory", method = "get", operation_id = "listItems")]
    #[expect(clippy::too_many_arguments, reason = "each is a parameter of the call")]
    async fn list(
        &self,
        /// Only items with this text in their id, name or description, in whatever case.
        q: Query<SearchText>,
        /// Only items of this category.
        category: Query<Label>,
        /// Only items at this location.
        location: Query<Label>,
        /// Only items with low stock, or only items without.
        low_stock: Query<bool>,
        /// Only items that changed at this moment or later (RFC 3339); a date alone is its midnight in UTC. To follow
        /// changes one after the other, read the ledger.
        updated_since: Query<Timestamp>,
        /// In which order; with `-` from the last to the first. Items that are alike in it stand in the order of their
        /// ids.
        sort: Query<Order>,
        /// The most items on the page; a page of very large items, of more than 256 KiB, ends earlier.
        limit: Query<Limit>,
        /// Where the page begins: the `next_cursor` of the page before, with the same filters and order.
        cursor: Query<CursorText>,
        /// Whether to count all items that meet the filters.
        count: Query<bool>,
        _checked: Checked,
        sent: SentQuery,
    ) -> Result<Listed, Problem> {
        let filter = ItemFilter {
            category: category.0,
            location: location.0,
            low_stock: low_stock.0,
            updated_since: updated_since.0,
            text: q.0,
        };
        let Order { name, sort } = sort.0.unwrap_or_default();
        let listing = Listing { order: name, filter: &filter };
        let fits = |after: &After| sort.key.accepts(&after.key);
        let after = cursor.0.as_ref().map(|cursor| listing.place(cursor, fits)).transpose()?;
        let limit = limit.0.unwrap_or_default().get();
        let (count, max_bytes) = (count.0.unwrap_or_default(), MAX_PAGE_BYTES);
        let query = ItemQuery { filter: filter.clone(), sort, after, limit, max_bytes, count };
        let ItemList { items, more, total } = self.store.items(query).await?;
        let next_cursor = items
            .last()
            .filter(|_| more)
            .map(|last| listing.cursor(&After { key: sort.key.of(last), id: last.id.clone() }));
        let link = next_cursor
            .as_ref()
            .map(|next| format!("<{}/inventory?{}>; rel=\"next\"", self.base_path, sent.with("cursor", next)));
        let items = items.into_iter().map(ItemView::from).collect();
        Ok(Listed::Ok(Json(ItemPage { items, next_cursor, total }), link))
    }

    /// Create an item
    ///
    /// Puts a new item into the inventory. Once the answer is there, the item is on stable storage.
    #[oai(path = "/inventory", method = "post", operation_id = "createItem")]
    async fn create(
        &self,
        /// A name of your own for this request, so that it can be sent again without being carried out again: for 24
        /// hours, the same request under the same key gets the first answer.
        #[oai(name = "Idempotency-Key")]
        idempotency_key: Header<Key>,
        _checked: Checked,
        target: Target,
        body: JsonBody<NewItem>,
    ) -> Result<Created, Problem> {
        let JsonBody { value: new, bytes, .. } = body;
        let create = Create {
            id: new.id.unwrap_or_else(ItemId::generate),
            details: Details {
                name: new.name,
                description: new.description,
                category: new.category,
                location: new.location,
                unit: new.unit,
                reorder_level: new.reorder_level,
                unit_price: new.unit_price,
                attributes: new.attributes.unwrap_or_default(),
            },
            quantity: new.quantity.unwrap_or_default(),
            precondition: Precondition::None,
        };
        let idempotency = target.keyed(idempotency_key.0, &bytes);
        let Written { outcome: item, replayed } = self.changes.make(create, idempotency).await?;
        let (location, etag) = (self.location(&item.id), conditional::etag(item.version));
        Ok(Created::Created(Json(item.into()), location, etag, replayed.then(|| "true".to_owned())))
    }

    /// Get an item
    ///
    /// Answers the item as it stands, with its entity tag.
    #[oai(path = "/inventory/:id", method = "get", operation_id = "getItem")]
    async fn get(
        &self,
        /// The item's id.
        id: Path<ItemId>,
        /// Answer 304, without the item, if it is still in one of these versions.
        #[oai(name = "If-None-Match")]
        if_none_match: Header<EntityTags>,
        _checked: Checked,
    ) -> Result<Found, Problem> {
        let item = self.store.item(&id.0).await?.ok_or(crate::domain::Refusal::NotFound)?;
        let etag = conditional::etag(item.version);
        if if_none_match.0.is_some_and(|tags| tags.match_weakly(item.version)) {
            return Ok(Found::NotModified(etag));
        }
        Ok(Found::Ok(Json(item.into()), etag))
    }

    /// Replace an item
    ///
    /// Sets all writable fields of an item anew: what the body leaves out is taken away, except `quantity`, without
    /// which the stock stays. A replacement that changes nothing keeps the version.
    #[oai(path = "/inventory/:id", method = "put", operation_id = "replaceItem")]
    async fn replace(
        &self,
        /// The item's id.
        id: Path<ItemId>,
        /// Replace only an item in one of these versions, else answer 412.
        #[oai(name = "If-Match")]
        if_match: Header<EntityTags>,
        /// With `*`: create the item, and answer 412 if it is there already.
        #[oai(name = "If-None-Match")]
        if_none_match: Header<NoneThere>,
        _checked: Checked,
        body: JsonBody<ItemReplacement>,
    ) -> Result<Replaced, Problem> {
        let (Path(id), (repeated, details, quantity)) = (id, body.value.into_parts());
        if repeated.is_some_and(|repeated| repeated != id) {
            let differs = Invalid::new("mismatch", "must be the id in the path, or be left out; an id cannot change");
            let error = FieldError::new(Place::Pointer("/id".to_owned()), differs);
            return Err(Problem::with_errors(Kind::InvalidBody, error));
        }
        let precondition = conditional::precondition(if_match.0, if_none_match.0, self.require_if_match);
        if precondition == Precondition::Absent {
            let quantity = quantity.unwrap_or_default();
            let item = self.write(Create { id, details, quantity, precondition }).await?;
            let (location, etag) = (self.location(&item.id), conditional::etag(item.version));
            return Ok(Replaced::Created(Json(item.into()), location, etag));
        }
        let item = self.write(Replace { id, details, quantity, precondition }).await?;
        let etag = conditional::etag(item.version);
        Ok(Replaced::Ok(Json(item.into()), etag))
    }

    /// Change an item
    ///
    /// Changes the fields that the merge patch names and leaves all others as they are (RFC 7396): `null` takes a field
    /// away, arrays are replaced whole, `attributes` are merged. Read-only fields are refused. A patch that changes
    /// nothing keeps the version.
    #[oai(path = "/inventory/:id", method = "patch", operation_id = "patchItem")]
    async fn patch(
        &self,
        /// The item's id.
        id: Path<ItemId>,
        /// Change only an item in one of these versions, else answer 412.
        #[oai(name = "If-Match")]
        if_match: Header<EntityTags>,
        _checked: Checked,
        body: MergePatch<ItemChanges>,
    ) -> Result<Patched, Problem> {
        let changes = body.value;
        let patch = ItemPatch {
            name: changes.name,
            description: changes.description,
            category: changes.category,
            location: changes.location,
            unit: changes.unit,
            quantity: changes.quantity,
            reorder_level: changes.reorder_level,
            unit_price: changes.unit_price,
            attributes: changes.attributes,
        };
        let precondition = conditional::precondition(if_match.0, None, self.require_if_match);
        let item = self.write(Patch { id: id.0, patch: Box::new(patch), precondition }).await?;
        let etag = conditional::etag(item.version);
        Ok(Patched::Ok(Json(item.into()), etag))
    }

    /// Delete an item
    ///
    /// Takes an item out of the inventory, with all its stock. Its ledger stays.
    #[oai(path = "/inventory/:id", method = "delete", operation_id = "deleteItem")]
    async fn delete(
        &self,
        /// The item's id.
        id: Path<ItemId>,
        /// Delete only an item in one of these versions, else answer 412.
        #[oai(name = "If-Match")]
        if_match: Header<EntityTags>,
        _checked: Checked,
    ) -> Result<Deleted, Problem> {
        let precondition = conditional::precondition(if_match.0, None, self.require_if_match);
        self.write(Delete { id: id.0, precondition }).await?;
        Ok(Deleted::Gone)
    }
}
