//! Reservations: how they stand in their table, and each way to look for them by an index.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, named_params, params, params_from_iter};

use super::rows::{corrupt, optional, page, required, timestamp};
use crate::domain::{ItemId, Portion, Reference, Reservation, ReservationId, ReservationState, Timestamp};
use crate::store::columns::reservation_columns;
use crate::store::{ReservationFilter, ReservationList, ReservationQuery};

/// The reservation with this id.
pub fn reservation(connection: &Connection, id: &ReservationId) -> rusqlite::Result<Option<Reservation>> {
    connection
        .prepare_cached(concat!("SELECT ", reservation_columns!(), " FROM reservation WHERE id = ?1"))?
        .query_row([id.as_str()], from_row)
        .optional()
}

/// The open reservations of an item whose time is up at `now`, the earliest first.
pub fn due_of(connection: &Connection, id: &ItemId, now: Timestamp) -> rusqlite::Result<Vec<Reservation>> {
    connection
        .prepare_cached(concat!(
            "SELECT ",
            reservation_columns!(),
            " FROM reservation WHERE state = 'open' AND item_id = ?1 AND expires_at <= ?2 ORDER BY expires_at, id"
        ))?
        .query_map(params![id.as_str(), now.unix_milliseconds()], from_row)?
        .collect()
}

/// At most `limit` of all open reservations whose time is up at `now`, the earliest first.
pub fn due(connection: &Connection, now: Timestamp, limit: usize) -> rusqlite::Result<Vec<Reservation>> {
    connection
        .prepare_cached(concat!(
            "SELECT ",
            reservation_columns!(),
            " FROM reservation WHERE state = 'open' AND expires_at <= ?1 ORDER BY expires_at LIMIT ?2"
        ))?
        .query_map(params![now.unix_milliseconds(), limit as i64], from_row)?
        .collect()
}

/// Writes a reservation down, or how far it has come.
pub fn put(connection: &Connection, reservation: &Reservation) -> rusqlite::Result<()> {
    let Reservation { id, item_id, quantity, state, reference, created_at, expires_at, closed_at } = reservation;
    connection
        .prepare_cached(
            "INSERT INTO reservation (id, item_id, quantity, state, reference, created_at, expires_at, closed_at)
             VALUES (:id, :item_id, :quantity, :state, :reference, :created_at, :expires_at, :closed_at)
             ON CONFLICT (id) DO UPDATE SET state = excluded.state, closed_at = excluded.closed_at",
        )?
        .execute(named_params! {
            ":id": id.as_str(),
            ":item_id": item_id.as_str(),
            ":quantity": quantity.get(),
            ":state": state.as_str(),
            ":reference": reference.as_ref().map(Reference::as_str),
            ":created_at": created_at.unix_milliseconds(),
            ":expires_at": expires_at.unix_milliseconds(),
            ":closed_at": closed_at.map(Timestamp::unix_milliseconds),
        })?;
    Ok(())
}

/// A part of the list of reservations.
pub fn list(connection: &Connection, query: &ReservationQuery) -> rusqlite::Result<ReservationList> {
    let (sql, values) = select(query);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let (reservations, more) = page(&mut rows, query.limit, usize::MAX, from_row)?;
    Ok(ReservationList { reservations, more })
}

fn select(query: &ReservationQuery) -> (String, Vec<Value>) {
    let ReservationQuery { filter: ReservationFilter { item, state, reference }, after, limit } = query;
    let conditions = [
        ("item_id = ?", item.as_ref().map(ItemId::as_str)),
        ("state = ?", state.map(ReservationState::as_str)),
        ("reference = ?", reference.as_ref().map(Reference::as_str)),
        ("id > ?", after.as_ref().map(ReservationId::as_str)),
    ];
    let (conditions, mut values): (Vec<_>, Vec<_>) = conditions
        .into_iter()
        .filter_map(|(condition, value)| Some((condition, Value::Text(value?.to_owned()))))
        .unzip();
    let filter = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    // One more tells whether there is more.
    values.push(Value::Integer(*limit as i64 + 1));
    (format!(concat!("SELECT ", reservation_columns!(), " FROM reservation{} ORDER BY id LIMIT ?"), filter), values)
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Reservation> {
    Ok(Reservation {
        id: required(row, 0, ReservationId::parse)?,
        item_id: required(row, 1, ItemId::parse)?,
        quantity: Portion::new(row.get(2)?).map_err(|error| corrupt(2, error))?,
        state: required(row, 3, ReservationState::parse)?,
        reference: optional(row, 4, Reference::parse)?,
        created_at: timestamp(row, 5)?,
        expires_at: timestamp(row, 6)?,
        closed_at: row.get::<_, Option<i64>>(7)?.map(|_| timestamp(row, 7)).transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::plan;
    use super::*;

    #[test]
    fn every_way_to_list_reservations_is_carried_by_an_index() {
        let any = ReservationFilter::default;
        let item = Some(ItemId::parse("a").unwrap());
        let reference = Some(Reference::parse("order-1").unwrap());
        for (filter, index) in [
            (any(), "autoindex_reservation"),
            (ReservationFilter { item, ..any() }, "reservation_of_item"),
            (ReservationFilter { state: Some(ReservationState::Open), ..any() }, "reservation_by_state"),
            (ReservationFilter { reference, ..any() }, "reservation_by_reference"),
        ] {
            for after in [None, Some(ReservationId::generate())] {
                let (sql, values) = select(&ReservationQuery { filter: filter.clone(), after, limit: 50 });
                let plan = plan(&sql, values);
                assert!(plan.contains(index) && !plan.contains("TEMP B-TREE"), "{plan}");
            }
        }
    }
}
