//! `/summary`: totals of all items.

use poem_openapi::{ApiResponse, OpenApi};

use super::http::access::{Guarded, Reads};
use super::http::payload::Json;
use super::http::problem::Refused;
use super::http::problem::kinds::{Busy, QueryTimeout};
use super::openapi::Tag;
use super::openapi::object::object;
use crate::domain::{self, Currency};

object! {
    /// Exact totals of all items, from one snapshot.
    writes Summary {
        /// Number of items.
        items: u64,
        /// Stock of all items, each in its own unit, as a decimal number in a string: it can exceed the range in which
        /// JSON numbers are exact.
        units: String,
        /// Number of items with low stock.
        low_stock: u64,
        /// Value of the stock of items with a price, in each currency, in the order of the currency codes.
        stock_value: Vec<StockValue>,
    }
    example {
        "items": 3, "units": "130", "low_stock": 1, "stock_value": [{ "amount": "1537.50", "currency": "EUR" }]
    }
}

object! {
    /// A sum of money.
    writes StockValue {
        /// Amount as a decimal number in a string, exact to the last digit.
        amount: String,
        /// An ISO 4217 currency code.
        currency: Currency,
    }
    example { "amount": "1537.50", "currency": "EUR" }
}

impl From<domain::Summary> for Summary {
    fn from(summary: domain::Summary) -> Self {
        let domain::Summary { items, units, low_stock, stock_value } = summary;
        let value = |(currency, total): (_, domain::Total)| StockValue { amount: total.to_string(), currency };
        Self { items, units: units.to_string(), low_stock, stock_value: stock_value.into_iter().map(value).collect() }
    }
}

/// Responses of `GET /summary`.
#[derive(ApiResponse)]
pub enum SummaryResponse {
    /// The summary.
    #[oai(status = 200)]
    Ok(Json<Summary>),
}

/// The call that sums up.
pub struct Summaries {
    /// Where the items are kept.
    pub store: Guarded,
}

#[OpenApi(tag = "Tag::Inventory")]
impl Summaries {
    /// Sum up the inventory
    ///
    /// Returns exact totals of all items, their stock and its value, in a consistent snapshot. Items without a price
    /// add nothing to the value; currencies are not converted.
    #[oai(path = "/summary", method = "get", operation_id = "getSummary")]
    async fn get(&self, caller: Reads) -> Result<SummaryResponse, Refused<(Busy, QueryTimeout)>> {
        Ok(SummaryResponse::Ok(Json(self.store.open(&caller).summary().await?.into())))
    }
}
