//! Reservations: each way to look for them by an index.

use deadpool_postgres::Object;

use super::error::Failure;
use super::query::Query;
use super::rows::{page, reservation_from_row};
use crate::domain::{ItemId, Reference, Reservation, ReservationId, ReservationState};
use crate::store::columns::reservation_columns;
use crate::store::{ReservationFilter, ReservationList, ReservationQuery};

/// The reservation with this id.
pub async fn reservation(connection: &Object, id: &ReservationId) -> Result<Option<Reservation>, Failure> {
    const BY_ID: &str = concat!("SELECT ", reservation_columns!(), " FROM reservation WHERE id = $1");
    let statement = connection.prepare_cached(BY_ID).await?;
    connection.query_opt(&statement, &[&id.as_str()]).await?.as_ref().map(reservation_from_row).transpose()
}

/// A part of the list of reservations.
pub async fn list(connection: &Object, query: &ReservationQuery) -> Result<ReservationList, Failure> {
    let mut asked = Query::default();
    let sql = select(query, &mut asked);
    let rows = asked.ask(connection, &sql).await?;
    let (reservations, more) = page(rows, query.limit, usize::MAX, reservation_from_row).await?;
    Ok(ReservationList { reservations, more })
}

fn select(query: &ReservationQuery, asked: &mut Query) -> String {
    let ReservationQuery { filter: ReservationFilter { item, state, reference }, after, limit } = query;
    for (comparison, value) in [
        ("item_id =", item.as_ref().map(ItemId::as_str)),
        ("state =", state.map(ReservationState::as_str)),
        ("reference =", reference.as_ref().map(Reference::as_str)),
        ("id >", after.as_ref().map(ReservationId::as_str)),
    ] {
        if let Some(value) = value {
            let value = asked.text(value);
            asked.require(format!("{comparison} {value}"));
        }
    }
    // One more tells whether there is more.
    let limit = asked.number(*limit as i64 + 1);
    format!(
        concat!("SELECT ", reservation_columns!(), " FROM reservation{} ORDER BY id LIMIT {}"),
        asked.clause(),
        limit
    )
}
