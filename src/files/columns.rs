//! The columns of a CSV file: each member of an item is one, or several.

use crate::domain::{
    Actor, Attributes, AttributesPatch, Barcode, Barcodes, Delta, Description, Event, ItemId, Label, Member, Name,
    Note, Position, Quantity, Reason, Reference, ReservationId, Timestamp, UnitPrice, UnitPricePatch, Version,
};

use super::csv;

/// A column of a CSV file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name in the header.
    pub name: String,
    /// The member that it is of.
    pub member: &'static str,
    /// The form of its texts.
    pub form: Form,
    /// The meaning of an empty cell.
    pub empty: EmptyCell,
}

impl Column {
    /// Returns the member of the object that the column is of, if it is not of a whole member.
    pub fn part(&self) -> Option<&'static str> {
        match self.form {
            Form::Amount => Some("amount"),
            Form::Part(part) => Some(part),
            _ => None,
        }
    }
}

/// The columns that a file must have.
#[derive(Clone, Debug)]
pub struct Required {
    /// Groups of columns, of each of which one at least must be there.
    pub groups: &'static [&'static [&'static str]],
    /// The end of an error's detail, which says why.
    pub because: String,
}

/// The meaning of an empty cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmptyCell {
    /// The member is not there.
    Absent,
    /// The member is `null`, which clears it.
    Null,
    /// It is refused.
    Refused,
}

/// The form of the texts in a column, and the value that they have in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An id, as [`Form::Plain`].
    Id,
    /// A string that is never taken for a formula, without the blanks around it.
    Plain,
    /// A string, [guarded](csv::guarded).
    Text,
    /// An integer.
    Integer,
    /// Any value, as JSON.
    Json,
    /// An array of strings: one of them as [`Form::Id`], several as a JSON array.
    Barcodes,
    /// A decimal number that is the member `amount` of an object.
    Amount,
    /// A string that is this member of an object, without the blanks around it.
    Part(&'static str),
    /// Read-only; ignored when it is read.
    Ignored,
}

/// A type of member that has columns in a CSV file.
pub trait Columns {
    /// The number of its columns.
    const COUNT: usize = 1;

    /// Adds the columns of the member `name`.
    fn columns(name: &'static str, columns: &mut Vec<Column>);
}

/// A value that is written into columns of a CSV file.
pub trait Cells: Columns {
    /// Adds the text in each of its columns.
    fn cells(&self, cells: &mut Vec<String>);
}

impl<T: Columns> Columns for Option<T> {
    const COUNT: usize = T::COUNT;

    fn columns(name: &'static str, columns: &mut Vec<Column>) {
        T::columns(name, columns);
    }
}

impl<T: Columns> Columns for Member<T> {
    const COUNT: usize = T::COUNT;

    /// An empty cell clears the member. Of several columns the first one decides: a price without an amount is none, and
    /// one without a currency keeps that of the item.
    fn columns(name: &'static str, columns: &mut Vec<Column>) {
        let first = columns.len();
        T::columns(name, columns);
        columns[first].empty = EmptyCell::Null;
    }
}

impl<T: Cells> Cells for Option<T> {
    fn cells(&self, cells: &mut Vec<String>) {
        match self {
            Some(value) => value.cells(cells),
            None => cells.extend(std::iter::repeat_n(String::new(), T::COUNT)),
        }
    }
}

macro_rules! one_column {
    ($($type:ty: $form:ident $empty:ident, $text:expr;)*) => {
        $(
            impl Columns for $type {
                fn columns(name: &'static str, columns: &mut Vec<Column>) {
                    let (form, empty) = (Form::$form, EmptyCell::$empty);
                    columns.push(Column { name: name.to_owned(), member: name, form, empty });
                }
            }

            impl Cells for $type {
                fn cells(&self, cells: &mut Vec<String>) {
                    let text: fn(&Self) -> String = $text;
                    cells.push(text(self));
                }
            }
        )*
    };
}

one_column! {
    ItemId: Id Absent, |id| id.as_str().to_owned();
    Name: Text Refused, |name| csv::guarded(name.as_str());
    Description: Text Absent, |description| csv::guarded(description.as_str());
    Label: Text Absent, |label| csv::guarded(label.as_str());
    Quantity: Integer Absent, |quantity| quantity.get().to_string();
    Version: Integer Absent, |version| version.get().to_string();
    Delta: Integer Absent, |delta| delta.get().to_string();
    Reason: Plain Absent, |reason| reason.as_str().to_owned();
    Note: Text Absent, |note| csv::guarded(note.as_str());
    Reference: Text Absent, |reference| csv::guarded(reference.as_str());
    Position: Integer Absent, |position| position.get().to_string();
    Event: Plain Absent, |event| event.as_str().to_owned();
    i64: Integer Absent, i64::to_string;
    ReservationId: Plain Absent, |id| id.as_str().to_owned();
    Actor: Text Absent, |actor| csv::guarded(actor.as_str());
    bool: Plain Absent, bool::to_string;
    String: Plain Absent, String::clone;
    Timestamp: Plain Absent, Timestamp::to_string;
    Attributes: Json Absent, Attributes::to_json;
    Barcode: Id Absent, |barcode| csv::guarded(barcode.as_str());
    Barcodes: Barcodes Absent, barcodes_cell;
}

/// The text of barcodes in a cell: of a single one its own, of others a JSON array, as of one that looks like an array.
fn barcodes_cell(barcodes: &Barcodes) -> String {
    match barcodes.as_slice() {
        [] => String::new(),
        [barcode] if !barcode.as_str().starts_with('[') => csv::guarded(barcode.as_str()),
        _ => barcodes.to_json(),
    }
}

impl Columns for AttributesPatch {
    fn columns(name: &'static str, columns: &mut Vec<Column>) {
        Attributes::columns(name, columns);
    }
}

impl Columns for UnitPrice {
    const COUNT: usize = 2;

    fn columns(name: &'static str, columns: &mut Vec<Column>) {
        for (part, form) in [("amount", Form::Amount), ("currency", Form::Part("currency"))] {
            columns.push(Column { name: format!("{name}_{part}"), member: name, form, empty: EmptyCell::Absent });
        }
    }
}

impl Columns for UnitPricePatch {
    const COUNT: usize = 2;

    fn columns(name: &'static str, columns: &mut Vec<Column>) {
        UnitPrice::columns(name, columns);
    }
}

impl Cells for UnitPrice {
    fn cells(&self, cells: &mut Vec<String>) {
        cells.push(self.amount.as_str().to_owned());
        cells.push(self.currency.as_str().to_owned());
    }
}
