use super::{Details, Item};

/// A writable field of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// Its name.
    Name,
    /// Its description.
    Description,
    /// Its category.
    Category,
    /// Its location.
    Location,
    /// Its unit of measure.
    Unit,
    /// Its reorder level.
    ReorderLevel,
    /// Its price.
    UnitPrice,
    /// Its barcodes.
    Barcodes,
    /// Its attributes.
    Attributes,
    /// Its stock.
    Quantity,
}

impl Field {
    /// Returns the name, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Field::Name => "name",
            Field::Description => "description",
            Field::Category => "category",
            Field::Location => "location",
            Field::Unit => "unit",
            Field::ReorderLevel => "reorder_level",
            Field::UnitPrice => "unit_price",
            Field::Barcodes => "barcodes",
            Field::Attributes => "attributes",
            Field::Quantity => "quantity",
        }
    }
}

impl Item {
    /// Returns the fields in which two states of the item differ.
    pub fn changed_fields(&self, other: &Item) -> Vec<Field> {
        // Taken apart, so that a further field of the details is not forgotten here.
        let Details { name, description, category, location, unit, reorder_level, unit_price, barcodes, attributes } =
            &self.details;
        let details = &other.details;
        let fields = [
            (Field::Name, *name != details.name),
            (Field::Description, *description != details.description),
            (Field::Category, *category != details.category),
            (Field::Location, *location != details.location),
            (Field::Unit, *unit != details.unit),
            (Field::ReorderLevel, *reorder_level != details.reorder_level),
            (Field::UnitPrice, *unit_price != details.unit_price),
            (Field::Barcodes, *barcodes != details.barcodes),
            (Field::Attributes, *attributes != details.attributes),
            (Field::Quantity, self.quantity != other.quantity),
        ];
        fields.into_iter().filter_map(|(field, differs)| differs.then_some(field)).collect()
    }
}
