//! Where a JSON object is declared: once, for the document and for the reader alike.
//!
//! poem-openapi's own derive stops at the first error, takes numbers for strings and nulls for defaults, and goes
//! through XML and YAML as well. [`object!`] takes its place: the members of a struct, written down once, become its
//! schema and its strict reader, which finds everything that is wrong at once.

use poem_openapi::registry::{MetaSchema, MetaSchemaRef, Registry};
use serde::Serialize;
use serde::ser::SerializeMap;
use serde_json::{Map, Value};

use super::schema::{Read, Schema, refuse, wrong_type};
use crate::domain::Invalid;
use crate::files::errors::{Errors, Pointer};

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

/// A line of an [`object!`] that is read: one member, or those of a fragment.
pub trait ReadLine: Sized {
    /// Takes its members out of those that were sent; on `None` it has put everything that is wrong into their errors.
    fn take(members: &mut Members<'_>, name: &'static str) -> Option<Self>;

    /// Adds its members to the schema of the object.
    fn describe(schema: &mut MetaSchema, name: &'static str, doc: &'static str);

    /// Puts what its members refer to into the document.
    fn register(registry: &mut Registry);
}

impl<T: Read + Schema> ReadLine for T {
    fn take(members: &mut Members<'_>, name: &'static str) -> Option<Self> {
        members.take(name)
    }

    fn describe(schema: &mut MetaSchema, name: &'static str, doc: &'static str) {
        describe_member::<T>(schema, name, doc, <T as Read>::REQUIRED);
    }

    fn register(registry: &mut Registry) {
        <T as Schema>::register(registry);
    }
}

/// A line of an [`object!`] that is written: one member, or those of a fragment.
pub trait WriteLine {
    /// Writes its members, but for those without a value.
    fn write<M: SerializeMap>(&self, members: &mut M, name: &'static str) -> Result<(), M::Error>;

    /// Adds its members to the schema of the object.
    fn describe(schema: &mut MetaSchema, name: &'static str, doc: &'static str);

    /// Puts what its members refer to into the document.
    fn register(registry: &mut Registry);
}

impl<T: Schema + Serialize> WriteLine for T {
    fn write<M: SerializeMap>(&self, members: &mut M, name: &'static str) -> Result<(), M::Error> {
        if self.is_absent() { Ok(()) } else { members.serialize_entry(name, self) }
    }

    fn describe(schema: &mut MetaSchema, name: &'static str, doc: &'static str) {
        describe_member::<T>(schema, name, doc, <T as Schema>::REQUIRED);
    }

    fn register(registry: &mut Registry) {
        <T as Schema>::register(registry);
    }
}

/// Adds a member to the schema of an object.
fn describe_member<T: Schema>(schema: &mut MetaSchema, name: &'static str, doc: &'static str, required: bool) {
    if required {
        schema.required.push(name);
    }
    schema.properties.push((name, member_schema::<T>(doc, false)));
}

/// The schema of a member, with what its own doc comment says of it.
pub fn member_schema<T: Schema>(doc: &'static str, read_only: bool) -> MetaSchemaRef {
    let description = Some(doc.trim_ascii()).filter(|doc| !doc.is_empty());
    T::schema_ref().merge(MetaSchema { description, read_only, ..MetaSchema::ANY })
}

/// Declares JSON objects and fragments of them: `reads` for an object that clients send, `writes` for one that they get.
///
/// The doc comments are the descriptions in the document. A member of type `Option` may be absent. A line `..name: Type`
/// includes the members of a fragment: a struct whose members are described once, for every object that has them.
/// `ignores` lists members that a client may send but that say nothing, because they are read-only. A `row` is also a row
/// of a CSV file, with columns for its members.
///
/// A fragment names the struct that patches it, and for each member the type that it has there. `reads domain` describes
/// a struct that is declared elsewhere.
///
/// ```ignore
/// object! {
///     fragment Details, patched by DetailsPatch {
///         /// The name of the item.
///         name: Name => Option<Name>,
///         /// Its category.
///         category: Option<Label> => Member<Label>,
///     }
/// }
///
/// object! {
///     /// An item to create.
///     reads NewItem {
///         /// Its id; a UUID of version 7 if absent.
///         id: Option<ItemId>,
///         ..details: Details,
///     }
///     example { "id": "widget-1", "name": "Widget" }
/// }
/// ```
macro_rules! object {
    (
        $(#[doc = $about:literal])*
        reads row $name:ident {
            $($(#[doc = $doc:literal])* $(..)? $member:ident: $type:ty,)*
        }
        ignores { $($(#[doc = $ignored_doc:literal])* $ignored:ident: $ignored_type:ty,)* }
        example $example:tt
    ) => {
        $crate::api::openapi::object::object! {
            $(#[doc = $about])*
            reads $name { $($(#[doc = $doc])* $member: $type,)* }
            ignores { $($(#[doc = $ignored_doc])* $ignored: $ignored_type,)* }
            example $example
        }

        impl $name {
            /// The columns of a CSV file of these objects.
            pub fn columns() -> Vec<$crate::files::columns::Column> {
                let mut columns = Vec::new();
                $(<$type as $crate::files::columns::Columns>::columns(stringify!($member), &mut columns);)*
                let writable = columns.len();
                $(<$ignored_type as $crate::files::columns::Columns>::columns(stringify!($ignored), &mut columns);)*
                for column in &mut columns[writable..] {
                    column.form = $crate::files::columns::Form::Ignored;
                }
                columns
            }
        }
    };
    (
        $(#[doc = $about:literal])*
        writes row $name:ident {
            $($(#[doc = $doc:literal])* $(..)? $member:ident: $type:ty,)*
        }
        example $example:tt
    ) => {
        $crate::api::openapi::object::object! {
            $(#[doc = $about])*
            writes $name { $($(#[doc = $doc])* $member: $type,)* }
            example $example
        }

        impl $crate::files::rows::WriteRow for $name {
            fn columns() -> Vec<$crate::files::columns::Column> {
                let mut columns = Vec::new();
                $(<$type as $crate::files::columns::Columns>::columns(stringify!($member), &mut columns);)*
                columns
            }

            fn cells(&self) -> Vec<String> {
                let mut cells = Vec::new();
                $($crate::files::columns::Cells::cells(&self.$member, &mut cells);)*
                cells
            }
        }
    };
    (
        $(#[doc = $about:literal])*
        reads $name:ident {
            $($(#[doc = $doc:literal])* $(..)? $member:ident: $type:ty,)*
        }
        $(ignores { $($(#[doc = $ignored_doc:literal])* $ignored:ident: $ignored_type:ty,)* })?
        example $example:tt
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug)]
        pub struct $name {
            $($(#[doc = $doc])* pub(crate) $member: $type,)*
        }

        $crate::api::openapi::object::object! { @reads $name ($($about)*) ($example)
            ($($member: $type, ($($doc)*);)*) ($($($ignored: $ignored_type, ($($ignored_doc)*);)*)?)
        }
    };
    (
        $(#[doc = $about:literal])*
        reads domain $name:ident {
            $($(#[doc = $doc:literal])* $member:ident: $type:ty,)*
        }
        example $example:tt
    ) => {
        $crate::api::openapi::object::object! { @reads $name ($($about)*) ($example)
            ($($member: $type, ($($doc)*);)*) ()
        }
    };
    (
        $(#[doc = $about:literal])*
        writes $name:ident {
            $($(#[doc = $doc:literal])* $(..)? $member:ident: $type:ty,)*
        }
        example $example:tt
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug)]
        pub struct $name {
            $($(#[doc = $doc])* pub(crate) $member: $type,)*
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut members = serializer.serialize_map(None)?;
                $($crate::api::openapi::object::WriteLine::write(&self.$member, &mut members, stringify!($member))?;)*
                serde::ser::SerializeMap::end(members)
            }
        }

        $crate::api::openapi::object::object! { @schema $name ($($about)*) ($example)
            (WriteLine $($member: $type, ($($doc)*);)*) ()
        }
    };
    (
        fragment $name:ident, patched by $patch:ident {
            $($(#[doc = $doc:literal])* $member:ident: $type:ty => $patch_type:ty,)*
        }
    ) => {
        $crate::api::openapi::object::object! { @read_fragment $name $($member: $type, ($($doc)*);)* }

        impl $crate::api::openapi::object::WriteLine for $name {
            fn write<M: serde::ser::SerializeMap>(&self, members: &mut M, _name: &'static str) -> Result<(), M::Error> {
                $($crate::api::openapi::object::WriteLine::write(&self.$member, members, stringify!($member))?;)*
                Ok(())
            }

            $crate::api::openapi::object::object! { @description WriteLine $($member: $type, ($($doc)*);)* }
        }

        impl $crate::files::columns::Columns for $name {
            fn columns(_name: &'static str, columns: &mut Vec<$crate::files::columns::Column>) {
                $(<$type as $crate::files::columns::Columns>::columns(stringify!($member), columns);)*
            }
        }

        impl $crate::files::columns::Columns for $patch {
            fn columns(_name: &'static str, columns: &mut Vec<$crate::files::columns::Column>) {
                $(<$patch_type as $crate::files::columns::Columns>::columns(stringify!($member), columns);)*
            }
        }

        impl $crate::files::columns::Cells for $name {
            fn cells(&self, cells: &mut Vec<String>) {
                $($crate::files::columns::Cells::cells(&self.$member, cells);)*
            }
        }

        $crate::api::openapi::object::object! { @read_fragment $patch $($member: $patch_type, ($($doc)*);)* }
    };
    (@description $line:ident $($member:ident: $type:ty, ($($doc:literal)*);)*) => {
        fn describe(schema: &mut poem_openapi::registry::MetaSchema, _name: &'static str, _doc: &'static str) {
            $(<$type as $crate::api::openapi::object::$line>::describe(
                schema, stringify!($member), concat!($($doc, "\n"),*),
            );)*
        }

        fn register(registry: &mut poem_openapi::registry::Registry) {
            $(<$type as $crate::api::openapi::object::$line>::register(registry);)*
        }
    };
    (@read_fragment $name:ident $($member:ident: $type:ty, ($($doc:literal)*);)*) => {
        impl $crate::api::openapi::object::ReadLine for $name {
            fn take(
                members: &mut $crate::api::openapi::object::Members<'_>,
                _name: &'static str,
            ) -> Option<Self> {
                $(let $member = <$type as $crate::api::openapi::object::ReadLine>::take(members, stringify!($member));)*
                Some(Self { $($member: $member?,)* })
            }

            $crate::api::openapi::object::object! { @description ReadLine $($member: $type, ($($doc)*);)* }
        }
    };
    (@reads $name:ident ($($about:literal)*) ($example:tt)
        ($($member:ident: $type:ty, ($($doc:literal)*);)*)
        ($($ignored:ident: $ignored_type:ty, ($($ignored_doc:literal)*);)*)
    ) => {
        impl $crate::api::openapi::schema::Read for $name {
            fn read(
                value: serde_json::Value,
                pointer: $crate::files::errors::Pointer<'_>,
                errors: &mut $crate::files::errors::Errors,
            ) -> Option<Self> {
                let mut members = $crate::api::openapi::object::Members::of(value, &pointer, errors)?;
                $(let $member =
                    <$type as $crate::api::openapi::object::ReadLine>::take(&mut members, stringify!($member));)*
                $(members.ignore(stringify!($ignored));)*
                members.finish();
                Some(Self { $($member: $member?,)* })
            }
        }

        $crate::api::openapi::object::object! { @schema $name ($($about)*) ($example)
            (ReadLine $($member: $type, ($($doc)*);)*)
            ($($ignored: $ignored_type, ($($ignored_doc)*);)*)
        }
    };
    (@schema $name:ident ($($about:literal)*) ($example:tt)
        ($line:ident $($member:ident: $type:ty, ($($doc:literal)*);)*)
        ($($ignored:ident: $ignored_type:ty, ($($ignored_doc:literal)*);)*)
    ) => {
        impl $crate::api::openapi::schema::Schema for $name {
            fn schema_ref() -> poem_openapi::registry::MetaSchemaRef {
                poem_openapi::registry::MetaSchemaRef::Reference(stringify!($name).to_owned())
            }

            fn register(registry: &mut poem_openapi::registry::Registry) {
                registry.create_schema::<Self, _>(stringify!($name).to_owned(), |registry| {
                    $(<$type as $crate::api::openapi::object::$line>::register(registry);)*
                    let mut schema = poem_openapi::registry::MetaSchema::new("object");
                    schema.description = Some(concat!($($about, "\n"),*).trim_ascii());
                    schema.example = Some(serde_json::json!($example));
                    $(<$type as $crate::api::openapi::object::$line>::describe(
                        &mut schema, stringify!($member), concat!($($doc, "\n"),*),
                    );)*
                    $(
                        let ignored = $crate::api::openapi::object::member_schema::<$ignored_type>(
                            concat!($($ignored_doc, "\n"),*), true,
                        );
                        schema.properties.push((stringify!($ignored), ignored));
                    )*
                    schema
                });
            }
        }
    };
}
pub(crate) use object;
