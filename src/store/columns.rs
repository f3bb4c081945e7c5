//! The columns of each table, once for both stores. Statements are made from these lists, and rows are read by the
//! positions in them, so that the two cannot differ.

/// Declares a table: a module with its columns' positions, and the lists of them that statements are made of.
///
/// ```ignore
/// table! { item: id text, quantity bigint }
/// // item::LIST == "id, quantity", item::quantity == 1, item::TYPES == ["text", "bigint"]
/// ```
macro_rules! table {
    ($(#[$doc:meta])* $table:ident: $first:ident $first_type:ident $(, $column:ident $type:ident)* $(,)?) => {
        $(#[$doc])*
        #[allow(non_upper_case_globals, non_camel_case_types, dead_code, reason = "named as the columns are")]
        pub mod $table {
            enum Position { $first $(, $column)* }
            pub const $first: usize = Position::$first as usize;
            $(pub const $column: usize = Position::$column as usize;)*

            /// The columns, as a statement names them.
            pub const LIST: &str = concat!(stringify!($first) $(, ", ", stringify!($column))*);
            /// The columns in order.
            pub const COLUMNS: &[&str] = &[stringify!($first) $(, stringify!($column))*];
            /// The types that PostgreSQL has for them, in order.
            pub const TYPES: &[&str] = &[stringify!($first_type) $(, stringify!($type))*];
        }
    };
}

table! {
    /// The table of items.
    item: id text, name text, description text, category text, location text, unit text, quantity bigint,
    reserved bigint, reorder_level bigint, price_amount text, price_currency text, barcodes text, attributes text, version bigint,
    created_at bigint, updated_at bigint,
}

table! {
    /// The ledger.
    ledger: position bigint, item_id text, event text, delta bigint, quantity bigint, reserved bigint, version bigint,
    reason text, note text, reference text, reservation_id text, actor text, changed text, reverses bigint, at bigint,
}

table! {
    /// The table of reservations.
    reservation: id text, item_id text, quantity bigint, state text, reference text, created_at bigint,
    expires_at bigint, closed_at bigint,
}
