//! `/categories` and `/locations`: the values by which items are filed, with what each has.

use poem_openapi::{ApiResponse, OpenApi};

use super::http::access::{Guarded, Reads};
use super::http::page::{CursorText, Limit, Listing};
use super::http::params::{SentQuery, parameters};
use super::http::payload::Json;
use super::http::problem::kinds::{Busy, QueryTimeout};
use super::http::problem::{Problem, Refused};
use super::openapi::Tag;
use super::openapi::object::object;
use crate::config::BasePath;
use crate::domain::Label;
use crate::store::{LabelField, LabelList, LabelQuery, LabelTotal};

object! {
    /// A category or a location, with its items.
    writes LabelView {
        /// The category or location, as items have it.
        name: Label,
        /// The number of its items.
        items: u64,
        /// Their total stock, as a decimal number in a string: it can exceed the range in which JSON numbers are exact.
        units: String,
        /// The number of its items with low stock.
        low_stock: u64,
    }
    example { "name": "Fasteners", "items": 12, "units": "3400", "low_stock": 1 }
}

object! {
    /// A page of categories or locations, in the order of their names.
    writes LabelPage {
        /// The categories or locations.
        values: Vec<LabelView>,
        /// Value of `cursor` for the next page; absent on the last one.
        next_cursor: Option<String>,
    }
    example { "values": [{ "name": "Fasteners", "items": 12, "units": "3400", "low_stock": 1 }] }
}

impl From<LabelTotal> for LabelView {
    fn from(LabelTotal { label, items, units, low_stock }: LabelTotal) -> Self {
        Self { name: label, items, units: units.to_string(), low_stock }
    }
}

parameters! {
    ListLabels {
        /// Maximum number of values on the page.
        query limit: Limit,
        /// The `next_cursor` of the previous page.
        query cursor: CursorText,
    }
}

/// The answer to `GET /categories` and `GET /locations`.
#[derive(ApiResponse)]
pub enum ListLabelsResponse {
    /// A page of values.
    #[oai(status = 200)]
    Ok(
        Json<LabelPage>,
        /// The URL of the next page, with `rel="next"` (RFC 8288); absent on the last one.
        #[oai(header = "Link")]
        Option<String>,
    ),
}

/// The operations on categories and locations.
pub struct Labels {
    /// The store of the items.
    pub store: Guarded,
    /// The prefix of every path.
    pub base_path: BasePath,
}

impl Labels {
    async fn list(
        &self,
        caller: &Reads,
        (field, path): (LabelField, &str),
        parameters: ListLabels,
        sent: &SentQuery,
    ) -> Result<ListLabelsResponse, Problem> {
        let ListLabels { limit, cursor } = parameters;
        let listing = Listing { order: field.column(), filter: &() };
        let after =
            cursor.map(|cursor| listing.position(&cursor, |name: &String| Label::parse(name).is_ok())).transpose()?;
        let query = LabelQuery {
            field,
            after: after.and_then(|name| Label::parse(name).ok()),
            limit: limit.unwrap_or_default().get(),
        };
        let LabelList { labels, more } = self.store.open(caller).labels(query).await?;
        let next_cursor = labels.last().filter(|_| more).map(|last| listing.cursor(&last.label));
        let link = next_cursor
            .as_ref()
            .map(|next| format!("<{}{path}?{}>; rel=\"next\"", self.base_path, sent.with("cursor", next)));
        let values = labels.into_iter().map(LabelView::from).collect();
        Ok(ListLabelsResponse::Ok(Json(LabelPage { values, next_cursor }), link))
    }
}

#[OpenApi(tag = "Tag::Inventory")]
impl Labels {
    /// List categories
    ///
    /// Returns the categories that items have, in the order of their names, each with its items and their stock.
    #[oai(path = "/categories", method = "get", operation_id = "listCategories")]
    async fn categories(
        &self,
        caller: Reads,
        parameters: ListLabels,
        sent: SentQuery,
    ) -> Result<ListLabelsResponse, Refused<(Busy, QueryTimeout)>> {
        Ok(self.list(&caller, (LabelField::Category, "/categories"), parameters, &sent).await?)
    }

    /// List locations
    ///
    /// Returns the locations that items have, in the order of their names, each with its items and their stock.
    #[oai(path = "/locations", method = "get", operation_id = "listLocations")]
    async fn locations(
        &self,
        caller: Reads,
        parameters: ListLabels,
        sent: SentQuery,
    ) -> Result<ListLabelsResponse, Refused<(Busy, QueryTimeout)>> {
        Ok(self.list(&caller, (LabelField::Location, "/locations"), parameters, &sent).await?)
    }
}
