//! The types of the API's values: their schemas, and how those that clients send are read.

use poem_openapi::registry::{MetaSchema, MetaSchemaRef, Registry};
use serde_json::Value;

use crate::access::Role;
use crate::domain::{
    Actor, Amount, Attributes, AttributesPatch, Barcode, Barcodes, Currency, Delta, Description, Event, Invalid,
    ItemId, Label, Lifetime, Member, Name, Note, Position, Quantity, Reason, Reference, ReservationId,
    ReservationState, ReservedQuantity, Timestamp, Version,
};
use crate::files::errors::{Errors, FieldError, Pointer};

/// A type that the document describes.
pub trait Schema {
    /// An object with a member of this type always has it.
    const REQUIRED: bool = true;

    /// The schema, or a reference to it.
    fn schema_ref() -> MetaSchemaRef;

    /// Puts what the reference leads to into the document.
    fn register(_registry: &mut Registry) {}

    /// Returns whether an object omits a member with this value.
    fn is_absent(&self) -> bool {
        false
    }
}

/// A type that can be read from JSON, strictly.
pub trait Read: Sized {
    /// True if an object that is sent must have a member of this type.
    const REQUIRED: bool = true;

    /// Reads the value at `pointer`; on `None` it has put everything that is wrong into `errors`.
    fn read(value: Value, pointer: Pointer<'_>, errors: &mut Errors) -> Option<Self>;

    /// Returns the value of an absent member at `pointer`, or reports an error.
    fn absent(pointer: Pointer<'_>, errors: &mut Errors) -> Option<Self> {
        refuse(pointer, Invalid::new("required", "must be there"), errors)
    }
}

impl<T: Schema> Schema for Option<T> {
    const REQUIRED: bool = false;

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl<T: Read> Read for Option<T> {
    const REQUIRED: bool = false;

    fn read(value: Value, pointer: Pointer<'_>, errors: &mut Errors) -> Option<Self> {
        T::read(value, pointer, errors).map(Some)
    }

    fn absent(_pointer: Pointer<'_>, _errors: &mut Errors) -> Option<Self> {
        Some(None)
    }
}

impl<T: Schema> Schema for Member<T> {
    const REQUIRED: bool = false;

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref().merge(MetaSchema { nullable: true, ..MetaSchema::ANY })
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<T: Read> Read for Member<T> {
    const REQUIRED: bool = false;

    fn read(value: Value, pointer: Pointer<'_>, errors: &mut Errors) -> Option<Self> {
        match value {
            Value::Null => Some(Member::Clear),
            value => T::read(value, pointer, errors).map(Member::Set),
        }
    }

    fn absent(_pointer: Pointer<'_>, _errors: &mut Errors) -> Option<Self> {
        Some(Member::Keep)
    }
}

impl<T: Schema> Schema for Vec<T> {
    fn schema_ref() -> MetaSchemaRef {
        let items = Some(Box::new(T::schema_ref()));
        inline(MetaSchema { items, ..MetaSchema::new("array") })
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

/// Reads an array of `min` to `max` elements. Its length is checked before anything is made of an element.
pub fn read_array<T: Read>(
    value: Value,
    pointer: Pointer<'_>,
    (min, max): (usize, usize),
    elements: &str,
    errors: &mut Errors,
) -> Option<Vec<T>> {
    let Value::Array(values) = value else { return refuse(pointer, wrong_type(&value, "an array"), errors) };
    if !(min..=max).contains(&values.len()) {
        return refuse(pointer, Invalid::new("length", format!("must have {min} to {max} {elements}")), errors);
    }
    let count = values.len();
    let mut read = Vec::with_capacity(count);
    for (index, value) in values.into_iter().enumerate() {
        // On after a wrong one, to report the errors of all.
        read.extend(T::read(value, pointer.element(index), errors));
    }
    (read.len() == count).then_some(read)
}

/// A schema in its place.
pub fn inline(schema: MetaSchema) -> MetaSchemaRef {
    MetaSchemaRef::Inline(Box::new(schema))
}

fn integer_from(minimum: i32) -> MetaSchemaRef {
    inline(MetaSchema { minimum: Some(minimum.into()), ..MetaSchema::new_with_format("integer", "int64") })
}

/// Adds what is wrong at `pointer` to `errors`.
pub fn refuse<T>(pointer: Pointer<'_>, invalid: Invalid, errors: &mut Errors) -> Option<T> {
    errors.add(|| FieldError::new(pointer.location(), invalid));
    None
}

/// The error of a JSON value that is not the `expected` type.
pub fn wrong_type(value: &Value, expected: &str) -> Invalid {
    match value {
        Value::Null => Invalid::new("null", format!("must be {expected}, not null; leave it out for no value")),
        _ => Invalid::wrong_type(expected),
    }
}

macro_rules! text_schemas {
    ($($type:ident: $max:expr;)*) => {
        $(
            impl Schema for $type {
                fn schema_ref() -> MetaSchemaRef {
                    inline(MetaSchema {
                        min_length: Some(1),
                        max_length: $max,
                        pattern: Some($type::PATTERN.to_owned()),
                        ..MetaSchema::new("string")
                    })
                }
            }

            impl Read for $type {
                fn read(value: Value, pointer: Pointer<'_>, errors: &mut Errors) -> Option<Self> {
                    match value {
                        Value::String(text) => {
                            $type::parse(text).map_or_else(|invalid| refuse(pointer, invalid, errors), Some)
                        }
                        other => refuse(pointer, wrong_type(&other, "a string"), errors),
                    }
                }
            }
        )*
    };
}

impl Schema for Actor {
    fn schema_ref() -> MetaSchemaRef {
        let (max_length, pattern) = (Some(Actor::MAX_CHARS), Some(Actor::PATTERN.to_owned()));
        inline(MetaSchema { min_length: Some(1), max_length, pattern, ..MetaSchema::new("string") })
    }
}

/// Any JSON value.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(transparent)]
pub struct AnyJson(pub Value);

impl Schema for AnyJson {
    fn schema_ref() -> MetaSchemaRef {
        inline(MetaSchema::ANY)
    }
}

text_schemas! {
    ItemId: Some(ItemId::MAX_CHARS);
    Name: Some(Name::MAX_CHARS);
    Description: Some(Description::MAX_CHARS);
    Label: Some(Label::MAX_CHARS);
    Barcode: Some(Barcode::MAX_CHARS);
    Note: Some(Note::MAX_CHARS);
    Reference: Some(Reference::MAX_CHARS);
    Amount: None;
    Currency: None;
}

macro_rules! integer_schemas {
    ($($type:ident: $minimum:expr, $maximum:expr;)*) => {
        $(
            impl Schema for $type {
                fn schema_ref() -> MetaSchemaRef {
                    inline(MetaSchema {
                        minimum: Some($minimum as f64),
                        maximum: Some($maximum as f64),
                        ..MetaSchema::new_with_format("integer", "int64")
                    })
                }
            }

            impl Read for $type {
                fn read(value: Value, pointer: Pointer<'_>, errors: &mut Errors) -> Option<Self> {
                    read_integer(&value)
                        .and_then($type::new)
                        .map_or_else(|invalid| refuse(pointer, invalid, errors), Some)
                }
            }
        )*
    };
}

integer_schemas! {
    Delta: -Delta::MAX, Delta::MAX;
    Lifetime: 1, Lifetime::MAX;
    ReservedQuantity: 1, ReservedQuantity::MAX;
    Quantity: 0, Quantity::MAX;
}

fn read_integer(value: &Value) -> Result<i64, Invalid> {
    let Value::Number(number) = value else { return Err(wrong_type(value, "an integer")) };
    // JSON knows one kind of number (RFC 8259, section 6): 10.0 and 1e1 are the integer 10.
    match (number.as_i64(), number.as_f64()) {
        (Some(number), _) => Ok(number),
        (None, Some(float)) if float.fract() == 0.0 => Ok(float as i64),
        (None, _) => Err(wrong_type(value, "an integer")),
    }
}

impl Schema for Position {
    fn schema_ref() -> MetaSchemaRef {
        integer_from(0)
    }
}

impl Schema for i64 {
    fn schema_ref() -> MetaSchemaRef {
        inline(MetaSchema::new_with_format("integer", "int64"))
    }
}

/// Enumerations, which have a schema of their own: code that is generated has one type for each.
macro_rules! enumerations {
    ($($(#[doc = $doc:literal])* $type:ident;)*) => {
        $(
            impl Schema for $type {
                fn schema_ref() -> MetaSchemaRef {
                    MetaSchemaRef::Reference(stringify!($type).to_owned())
                }

                fn register(registry: &mut Registry) {
                    registry.create_schema::<Self, _>(stringify!($type).to_owned(), |_| MetaSchema {
                        description: Some(concat!($($doc, "\n"),*).trim_ascii()),
                        enum_items: $type::ALL.iter().map(|value| value.as_str().into()).collect(),
                        ..MetaSchema::new("string")
                    });
                }
            }
        )*
    };
}

enumerations! {
    /// The reason of a movement.
    Reason;
    /// A kind of change of an item.
    Event;
    /// The state of a reservation.
    ReservationState;
    /// The role of a token. Each one includes those before it.
    Role;
}

impl Schema for ReservationId {
    fn schema_ref() -> MetaSchemaRef {
        let pattern = Some(ReservationId::PATTERN.to_owned());
        inline(MetaSchema { pattern, ..MetaSchema::new_with_format("string", "uuid") })
    }
}

impl Read for Reason {
    fn read(value: Value, pointer: Pointer<'_>, errors: &mut Errors) -> Option<Self> {
        match value {
            Value::String(name) => Reason::parse(name).map_or_else(|invalid| refuse(pointer, invalid, errors), Some),
            other => refuse(pointer, wrong_type(&other, "a string"), errors),
        }
    }
}

impl Schema for Version {
    fn schema_ref() -> MetaSchemaRef {
        integer_from(1)
    }
}

impl Read for Version {
    fn read(value: Value, pointer: Pointer<'_>, errors: &mut Errors) -> Option<Self> {
        match read_integer(&value) {
            Ok(number) if number >= 1 => Some(Version::new(number)),
            Ok(_) => refuse(pointer, Invalid::new("out-of-range", "must be 1 or more"), errors),
            Err(invalid) => refuse(pointer, invalid, errors),
        }
    }
}

impl Schema for Timestamp {
    fn schema_ref() -> MetaSchemaRef {
        inline(MetaSchema::new_with_format("string", "date-time"))
    }
}

impl Schema for bool {
    fn schema_ref() -> MetaSchemaRef {
        inline(MetaSchema::new("boolean"))
    }
}

impl Schema for u64 {
    fn schema_ref() -> MetaSchemaRef {
        integer_from(0)
    }
}

impl Schema for String {
    fn schema_ref() -> MetaSchemaRef {
        inline(MetaSchema::new("string"))
    }
}

impl Schema for Barcodes {
    const REQUIRED: bool = false;

    fn schema_ref() -> MetaSchemaRef {
        inline(MetaSchema {
            items: Some(Box::new(Barcode::schema_ref())),
            max_items: Some(Barcodes::MAX),
            unique_items: Some(true),
            ..MetaSchema::new("array")
        })
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl Read for Barcodes {
    const REQUIRED: bool = false;

    fn absent(_pointer: Pointer<'_>, _errors: &mut Errors) -> Option<Self> {
        Some(Barcodes::default())
    }

    fn read(value: Value, pointer: Pointer<'_>, errors: &mut Errors) -> Option<Self> {
        let barcodes = read_array(value, pointer, (0, Barcodes::MAX), "barcodes", errors)?;
        Barcodes::new(barcodes).map_or_else(|invalid| refuse(pointer, invalid, errors), Some)
    }
}

impl Schema for Attributes {
    fn schema_ref() -> MetaSchemaRef {
        let any = Some(Box::new(MetaSchemaRef::Inline(Box::new(MetaSchema::ANY))));
        inline(MetaSchema { additional_properties: any, ..MetaSchema::new("object") })
    }
}

impl Read for Attributes {
    const REQUIRED: bool = false;

    fn absent(_pointer: Pointer<'_>, _errors: &mut Errors) -> Option<Self> {
        Some(Attributes::default())
    }

    fn read(value: Value, pointer: Pointer<'_>, errors: &mut Errors) -> Option<Self> {
        match value {
            Value::Object(object) => {
                Attributes::new(object).map_or_else(|invalid| refuse(pointer, invalid, errors), Some)
            }
            other => refuse(pointer, wrong_type(&other, "an object"), errors),
        }
    }
}

impl Schema for AttributesPatch {
    fn schema_ref() -> MetaSchemaRef {
        Attributes::schema_ref()
    }
}

impl Read for AttributesPatch {
    fn read(value: Value, pointer: Pointer<'_>, errors: &mut Errors) -> Option<Self> {
        match value {
            Value::Object(patch) => match Attributes::check_patch(&patch) {
                Ok(()) => Some(AttributesPatch::Merge(patch)),
                Err(invalid) => refuse(pointer, invalid, errors),
            },
            other => refuse(pointer, wrong_type(&other, "an object"), errors),
        }
    }
}
