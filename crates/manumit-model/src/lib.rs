//! The words of Manumit: canonical schemas, money, positions, dead letters, alerts, diagnostics.
//!
//! Every other crate speaks in these types; this one knows nothing but Arrow and serde. It opens no file,
//! asks no clock and runs no SQL. The canonical schema in [`schema`] is the one place where a column is
//! defined: the Arrow schema, the reference documentation and the JSON Schema are all made from it.

pub mod alert;
pub mod currency;
pub mod dead_letter;
pub mod diagnostic;
pub mod hit;
pub mod money;
pub mod records;
pub mod row;
pub mod schema;

pub use alert::Alert;
pub use dead_letter::{DeadLetter, LateRow, Position, Stage};
pub use diagnostic::{Diagnostic, Diagnostics, nearest};
pub use money::Money;
pub use records::Records;
