//! The one macro for enums that are SQL enums too.

/// Declares an enum that is a SQL enum, a JSON string and a Rust type, with one
/// spelling of each value.
///
/// ```text
/// sql_enum! {
///     /// What it is.
///     pub enum Colour: ColourSql = "colour" { Red = "red", Blue = "blue" }
/// }
/// ```
///
/// expands to `Colour` (copy, ordered, serde as the given strings, in the
/// OpenAPI document as an enum, `Display`, `ALL`), with diesel's `ToSql` and
/// `FromSql` for PostgreSQL's type `colour`, which [`crate::sql_types`] names
/// `ColourSql`.
macro_rules! sql_enum {
    (
        $(#[$meta:meta])*
        pub enum $name:ident: $sql:ident {
            $($(#[$vmeta:meta])* $variant:ident = $text:literal),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
            serde::Serialize, serde::Deserialize, schemars::JsonSchema,
            diesel::expression::AsExpression, diesel::deserialize::FromSqlRow,
        )]
        #[diesel(sql_type = crate::sql_types::$sql)]
        pub enum $name {
            $($(#[$vmeta])* #[serde(rename = $text)] $variant),+
        }

        impl $name {
            /// Every value, in the order of the SQL enum.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The value as SQL and JSON spell it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $text),+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl diesel::serialize::ToSql<
            crate::sql_types::$sql,
            diesel::pg::Pg,
        > for $name {
            fn to_sql<'b>(
                &'b self,
                out: &mut diesel::serialize::Output<'b, '_, diesel::pg::Pg>,
            ) -> diesel::serialize::Result {
                use std::io::Write;
                out.write_all(self.as_str().as_bytes())?;
                Ok(diesel::serialize::IsNull::No)
            }
        }

        impl diesel::deserialize::FromSql<
            crate::sql_types::$sql,
            diesel::pg::Pg,
        > for $name {
            fn from_sql(
                bytes: diesel::pg::PgValue<'_>,
            ) -> diesel::deserialize::Result<Self> {
                match bytes.as_bytes() {
                    $(b if b == $text.as_bytes() => Ok($name::$variant),)+
                    other => Err(format!(
                        "{:?} is no {}",
                        String::from_utf8_lossy(other),
                        stringify!($name),
                    ).into()),
                }
            }
        }
    };
}
