//! The columns of a CSV file: each member of an item is one, or several.

use crate::domain::{Attributes, Description, ItemId, Label, Name, Quantity, Timestamp, UnitPrice, Version};

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
}

/// The form of the texts in a column, and the value that they have in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A string that is never taken for a formula.
    Plain,
    /// A string, [guarded](csv::guarded).
    Text,
    /// An integer.
    Integer,
    /// Any value, as JSON.
    Json,
    /// A string that is this member of an object.
    Part(&'static str),
    /// Read-only; ignored when it is read.
    Ignored,
}

/// A value that stands in columns of a CSV file.
pub trait Cells {
    /// The number of its columns.
    const COUNT: usize = 1;

    /// Adds the columns of the member `name`.
    fn columns(name: &'static str, columns: &mut Vec<Column>);

    /// Adds the text in each of its columns.
    fn cells(&self, cells: &mut Vec<String>);
}

impl<T: Cells> Cells for Option<T> {
    const COUNT: usize = T::COUNT;

    fn columns(name: &'static str, columns: &mut Vec<Column>) {
        T::columns(name, columns);
    }

    fn cells(&self, cells: &mut Vec<String>) {
        match self {
            Some(value) => value.cells(cells),
            None => cells.extend(std::iter::repeat_n(String::new(), T::COUNT)),
        }
    }
}

macro_rules! one_column {
    ($($type:ty: $form:ident, $text:expr;)*) => {
        $(
            impl Cells for $type {
                fn columns(name: &'static str, columns: &mut Vec<Column>) {
                    columns.push(Column { name: name.to_owned(), member: name, form: Form::$form });
                }

                fn cells(&self, cells: &mut Vec<String>) {
                    let text: fn(&Self) -> String = $text;
                    cells.push(text(self));
                }
            }
        )*
    };
}

one_column! {
    ItemId: Plain, |id| id.as_str().to_owned();
    Name: Text, |name| csv::guarded(name.as_str());
    Description: Text, |description| csv::guarded(description.as_str());
    Label: Text, |label| csv::guarded(label.as_str());
    Quantity: Integer, |quantity| quantity.get().to_string();
    Version: Integer, |version| version.get().to_string();
    bool: Plain, bool::to_string;
    String: Plain, String::clone;
    Timestamp: Plain, Timestamp::to_string;
    Attributes: Json, Attributes::to_json;
}

impl Cells for UnitPrice {
    const COUNT: usize = 2;

    fn columns(name: &'static str, columns: &mut Vec<Column>) {
        for part in ["amount", "currency"] {
            columns.push(Column { name: format!("{name}_{part}"), member: name, form: Form::Part(part) });
        }
    }

    fn cells(&self, cells: &mut Vec<String>) {
        cells.push(self.amount.as_str().to_owned());
        cells.push(self.currency.as_str().to_owned());
    }
}
