use std::collections::BTreeSet;

use super::Entry;
use super::names::named;

named! {
    /// A writable field of an item.
    pub enum Field {
        /// Its name.
        Name = "name",
        /// Its description.
        Description = "description",
        /// Its category.
        Category = "category",
        /// Its location.
        Location = "location",
        /// Its unit of measure.
        Unit = "unit",
        /// Its reorder level.
        ReorderLevel = "reorder_level",
        /// Its price.
        UnitPrice = "unit_price",
        /// Its barcodes.
        Barcodes = "barcodes",
        /// Its attributes.
        Attributes = "attributes",
        /// Its stock.
        Quantity = "quantity",
    }
}

impl Entry {
    /// Returns the fields of the item that the change changed.
    pub fn changed_fields(&self) -> BTreeSet<Field> {
        // The first step of a pointer is the field.
        let names = self.changed.iter().filter_map(|change| change.pointer.split('/').nth(1));
        let details = names.map(|name| Field::parse(name).expect("a changed field is one"));
        details.chain((self.delta != 0).then_some(Field::Quantity)).collect()
    }
}
