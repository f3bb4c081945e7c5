/// Declares a set of things that each have a name, by which they are stored, sent and shown.
macro_rules! named {
    (
        $(#[$about:meta])*
        pub enum $type:ident {
            $($(#[doc = $doc:literal])* $variant:ident = $name:literal,)*
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize, serde::Serialize)]
        pub enum $type {
            $($(#[doc = $doc])* #[serde(rename = $name)] $variant,)*
        }

        impl $type {
            /// All of them.
            pub const ALL: &[$type] = &[$($type::$variant,)*];

            /// The name, as it is stored, sent and shown.
            pub fn as_str(self) -> &'static str {
                match self {
                    $($type::$variant => $name,)*
                }
            }

            /// The one with this name.
            pub fn parse(name: impl AsRef<str>) -> Result<Self, $crate::domain::Invalid> {
                match name.as_ref() {
                    $($name => Ok($type::$variant),)*
                    _ => Err($crate::domain::Invalid::new(
                        "enum",
                        format!("must be one of {}", [$($name,)*].join(", ")),
                    )),
                }
            }
        }
    };
}
pub(super) use named;
