//! Where a JSON object is declared: once, for the document and for the reader alike.
//!
//! poem-openapi's own derive stops at the first error, takes numbers for strings and nulls for defaults, and goes
//! through XML and YAML as well. [`object!`] takes its place: the members of a struct, written down once, become its
//! schema and its strict reader, which finds everything that is wrong at once.

use poem_openapi::registry::{MetaSchema, MetaSchemaRef, Registry};
use serde_json::{Map, Value};

use crate::domain::{
    Amount, Attributes, Currency, Delta, Description, Event, Invalid, ItemId, Label, Lifetime, Member, Name, Note,
    Portion, Position, Quantity, Reason, Reference, ReservationId, ReservationState, Timestamp, UnitPrice,
    UnitPricePatch, Version,
};
use crate::files::errors::{Errors, FieldError, Pointer};

/// A type that the document describes.
pub trait Schema {
    /// Whether an object that has a member of this type always has it.
    const REQUIRED: bool = true;

    /// The schema, or a reference to it.
    fn schema_ref() -> MetaSchemaRef;

    /// Puts what the reference leads to into the document.
    fn register(_registry: &mut Registry) {}

    /// Whether an object leaves a member with this value out.
    fn is_absent(&self) -> bool {
        false
    }
}

/// A type that can be read from JSON, strictly.
pub trait Read: Sized {
    /// Reads the value at `pointer`; on `None` it has put everything that is wrong into `errors`.
    fn read(value: Value, pointer: Pointer<'_>, errors: &mut Errors) -> Option<Self>;

    /// What it means that the member at `pointer` is not there.
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
        // On behind one that is wrong: its errors are not all there are.
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

fn names(names: impl Iterator<Item = &'static str>) -> MetaSchemaRef {
    inline(MetaSchema { enum_items: names.map(Into::into).collect(), ..MetaSchema::new("string") })
}

/// Adds what is wrong at `pointer` to `errors`.
pub fn refuse<T>(pointer: Pointer<'_>, invalid: Invalid, errors: &mut Errors) -> Option<T> {
    errors.add(|| FieldError::new(pointer.place(), invalid));
    None
}

/// The members of a JSON object that is being read.
pub struct Members<'a> {
    members: Map<String, Value>,
    pointer: &'a Pointer<'a>,
    errors: &'a mut Errors,
}

impl<'a> Members<'a> {
    /// The members of the object at `pointer`, if it is one.
    pub fn of(value: Value, pointer: &'a Pointer<'a>, errors: &'a mut Errors) -> Option<Self> {
        match value {
            Value::Object(members) => Some(Self { members, pointer, errors }),
            other => refuse(*pointer, wrong_type(&other, "an object"), errors),
        }
    }

    /// Takes out the member `name`.
    pub fn take<T: Read>(&mut self, name: &str) -> Option<T> {
        let pointer = self.pointer.member(name);
        match self.members.remove(name) {
            Some(value) => T::read(value, pointer, self.errors),
            None => T::absent(pointer, self.errors),
        }
    }

    /// Takes out the member `name`, whatever it is.
    pub fn ignore(&mut self, name: &str) {
        self.members.remove(name);
    }

    /// Refuses every member that was not taken.
    pub fn finish(self) {
        for name in self.members.keys() {
            let unknown = Invalid::new("unknown-member", "is not a member that this call takes");
            let _: Option<()> = refuse(self.pointer.member(name), unknown, self.errors);
        }
    }
}

fn wrong_type(value: &Value, expected: &str) -> Invalid {
    match value {
        Value::Null => Invalid::new("null", format!("must be {expected}, not null; leave it out for no value")),
        _ => Invalid::wrong_type(expected),
    }
}

/// Declares a JSON object: `reads` for one that clients send, `writes` for one that they get.
///
/// The doc comments are the descriptions in the document. A member of type `Option` may be absent. `ignores` lists
/// members that a client may send but that say nothing, because they are read-only.
macro_rules! object {
    (
        $(#[doc = $about:literal])*
        reads $name:ident {
            $($(#[doc = $doc:literal])* $member:ident: $type:ty $(= $default:tt)?,)*
        }
        $(ignores { $($(#[doc = $ignored_doc:literal])* $ignored:ident: $ignored_type:ty,)* })?
        example $example:tt
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug)]
        pub struct $name {
            $($(#[doc = $doc])* pub $member: $type,)*
        }

        impl $crate::api::openapi::schema::Read for $name {
            fn read(
                value: serde_json::Value,
                pointer: $crate::files::errors::Pointer<'_>,
                errors: &mut $crate::files::errors::Errors,
            ) -> Option<Self> {
                let mut members = $crate::api::openapi::schema::Members::of(value, &pointer, errors)?;
                $(let $member = members.take::<$type>(stringify!($member));)*
                $($(members.ignore(stringify!($ignored));)*)?
                members.finish();
                Some(Self { $($member: $member?,)* })
            }
        }

        $crate::api::openapi::schema::object! { @schema $name ($($about)*) ($example)
            $(($member, $type, false, ($($doc)*), ($($default)?)))*
            $($(($ignored, $ignored_type, true, ($($ignored_doc)*), ()))*)?
        }
    };
    (
        $(#[doc = $about:literal])*
        writes $name:ident {
            $($(#[doc = $doc:literal])* $member:ident: $type:ty,)*
        }
        example $example:tt
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug)]
        pub struct $name {
            $($(#[doc = $doc])* pub $member: $type,)*
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut members = serializer.serialize_map(None)?;
                $(
                    if !$crate::api::openapi::schema::Schema::is_absent(&self.$member) {
                        serde::ser::SerializeMap::serialize_entry(&mut members, stringify!($member), &self.$member)?;
                    }
                )*
                serde::ser::SerializeMap::end(members)
            }
        }

        $crate::api::openapi::schema::object! { @schema $name ($($about)*) ($example)
            $(($member, $type, false, ($($doc)*), ()))*
        }
    };
    (@schema $name:ident ($($about:literal)*) ($example:tt)
        $(($member:ident, $type:ty, $read_only:literal, ($($doc:literal)*), ($($default:tt)?)))*
    ) => {
        impl $crate::api::openapi::schema::Schema for $name {
            fn schema_ref() -> poem_openapi::registry::MetaSchemaRef {
                poem_openapi::registry::MetaSchemaRef::Reference(stringify!($name).to_owned())
            }

            fn register(registry: &mut poem_openapi::registry::Registry) {
                registry.create_schema::<Self, _>(stringify!($name).to_owned(), |registry| {
                    $(<$type as $crate::api::openapi::schema::Schema>::register(registry);)*
                    let mut schema = poem_openapi::registry::MetaSchema::new("object");
                    schema.description = Some(concat!($($about, "\n"),*).trim_ascii());
                    schema.example = Some(serde_json::json!($example));
                    $(
                        if <$type as $crate::api::openapi::schema::Schema>::REQUIRED && !$read_only {
                            schema.required.push(stringify!($member));
                        }
                        let member = $crate::api::openapi::schema::member_schema::<$type>(
                            concat!($($doc, "\n"),*), $read_only, [$(serde_json::json!($default))?].into_iter().next(),
                        );
                        schema.properties.push((stringify!($member), member));
                    )*
                    schema
                });
            }
        }
    };
}
pub(crate) use object;

/// The schema of a member, with what its own doc comment says of it.
pub fn member_schema<T: Schema>(doc: &'static str, read_only: bool, default: Option<Value>) -> MetaSchemaRef {
    let description = Some(doc.trim_ascii());
    T::schema_ref().merge(MetaSchema { description, read_only, default, ..MetaSchema::ANY })
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

text_schemas! {
    ItemId: Some(ItemId::MAX_CHARS);
    Name: Some(Name::MAX_CHARS);
    Description: Some(Description::MAX_CHARS);
    Label: Some(Label::MAX_CHARS);
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
    Portion: 1, Portion::MAX;
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

impl Schema for Event {
    fn schema_ref() -> MetaSchemaRef {
        names(Event::ALL.iter().map(|event| event.as_str()))
    }
}

impl Schema for ReservationState {
    fn schema_ref() -> MetaSchemaRef {
        names(ReservationState::ALL.iter().map(|state| state.as_str()))
    }
}

impl Schema for ReservationId {
    fn schema_ref() -> MetaSchemaRef {
        let pattern = Some(ReservationId::PATTERN.to_owned());
        inline(MetaSchema { pattern, ..MetaSchema::new_with_format("string", "uuid") })
    }
}

impl Schema for Reason {
    fn schema_ref() -> MetaSchemaRef {
        names(Reason::ALL.iter().map(|reason| reason.as_str()))
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

impl Schema for Attributes {
    fn schema_ref() -> MetaSchemaRef {
        let any = Some(Box::new(MetaSchemaRef::Inline(Box::new(MetaSchema::ANY))));
        inline(MetaSchema { additional_properties: any, ..MetaSchema::new("object") })
    }
}

impl Read for Attributes {
    fn read(value: Value, pointer: Pointer<'_>, errors: &mut Errors) -> Option<Self> {
        match value {
            Value::Object(object) => {
                Attributes::new(object).map_or_else(|invalid| refuse(pointer, invalid, errors), Some)
            }
            other => refuse(pointer, wrong_type(&other, "an object"), errors),
        }
    }
}

impl Schema for Map<String, Value> {
    fn schema_ref() -> MetaSchemaRef {
        Attributes::schema_ref()
    }
}

impl Read for Map<String, Value> {
    fn read(value: Value, pointer: Pointer<'_>, errors: &mut Errors) -> Option<Self> {
        match value {
            Value::Object(patch) => match Attributes::check_patch(&patch) {
                Ok(()) => Some(patch),
                Err(invalid) => refuse(pointer, invalid, errors),
            },
            other => refuse(pointer, wrong_type(&other, "an object"), errors),
        }
    }
}

impl Schema for UnitPrice {
    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Reference("UnitPrice".to_owned())
    }

    fn register(registry: &mut Registry) {
        registry.create_schema::<Self, _>("UnitPrice".to_owned(), |_| MetaSchema {
            description: Some("The price of one unit."),
            required: vec!["amount", "currency"],
            properties: vec![
                (
                    "amount",
                    member_schema::<Amount>("How much, as a decimal number that keeps its digits.", false, None),
                ),
                ("currency", member_schema::<Currency>("An ISO 4217 currency code.", false, None)),
            ],
            example: Some(serde_json::json!({ "amount": "12.50", "currency": "EUR" })),
            ..MetaSchema::new("object")
        });
    }
}

impl Read for UnitPrice {
    fn read(value: Value, pointer: Pointer<'_>, errors: &mut Errors) -> Option<Self> {
        let mut members = Members::of(value, &pointer, errors)?;
        let amount = members.take("amount");
        let currency = members.take("currency");
        members.finish();
        Some(UnitPrice { amount: amount?, currency: currency? })
    }
}

impl Schema for UnitPricePatch {
    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Reference("UnitPricePatch".to_owned())
    }

    fn register(registry: &mut Registry) {
        registry.create_schema::<Self, _>("UnitPricePatch".to_owned(), |_| MetaSchema {
            description: Some("What changes of the price of one unit; an item without a price needs both."),
            properties: vec![
                (
                    "amount",
                    member_schema::<Amount>("How much, as a decimal number that keeps its digits.", false, None),
                ),
                ("currency", member_schema::<Currency>("An ISO 4217 currency code.", false, None)),
            ],
            example: Some(serde_json::json!({ "amount": "12.90" })),
            ..MetaSchema::new("object")
        });
    }
}

impl Read for UnitPricePatch {
    fn read(value: Value, pointer: Pointer<'_>, errors: &mut Errors) -> Option<Self> {
        let mut members = Members::of(value, &pointer, errors)?;
        let amount = members.take("amount");
        let currency = members.take("currency");
        members.finish();
        Some(UnitPricePatch { amount: amount?, currency: currency? })
    }
}
