//! The columns that both stores read, in the order in which each reads them.

/// The columns of an item.
macro_rules! item_columns {
    () => {
        "id, name, description, category, location, unit, quantity, reserved, reorder_level, price_amount, \
         price_currency, attributes, version, created_at, updated_at"
    };
}
pub(super) use item_columns;

/// The columns of a reservation.
macro_rules! reservation_columns {
    () => {
        "id, item_id, quantity, state, reference, created_at, expires_at, closed_at"
    };
}
pub(super) use reservation_columns;
