//! Which reference tables there are, what their keys and columns are, and in which form keys compare.

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::Int64Type;
use manumit_model::schema::Kind;

use super::{JOINT, ReferenceError};

/// Columns of `accounts` that rules may use, beside the key `account`.
pub const ACCOUNT_COLUMNS: &[(&str, Kind)] = &[
    ("customer", Kind::Text),
    ("kind", Kind::Text),
    ("opened_on", Kind::Date),
    ("closed_on", Kind::Date),
    ("status", Kind::Text),
    ("currency", Kind::Text),
    ("branch_id", Kind::Text),
    ("city", Kind::Text),
    ("country", Kind::Text),
    ("product", Kind::Text),
];

/// Columns of `customers` that rules may use, beside the key `customer`.
pub const CUSTOMER_COLUMNS: &[(&str, Kind)] = &[
    ("segment", Kind::Text),
    ("born_on", Kind::Date),
    ("country_of_birth", Kind::Text),
    ("nationality", Kind::Text),
    ("occupation", Kind::Text),
    ("employer", Kind::Text),
    ("industry", Kind::Text),
    ("declared_income", Kind::Amount),
    ("household", Kind::Text),
    ("surname", Kind::Text),
    ("address", Kind::Text),
    ("phone", Kind::Text),
    ("city", Kind::Text),
    ("country", Kind::Text),
    ("latitude", Kind::Degrees),
    ("longitude", Kind::Degrees),
    ("registered_msb", Kind::Flag),
    ("registered_npo", Kind::Flag),
    ("licensed_labour_provider", Kind::Flag),
    ("minor", Kind::Flag),
];

/// Columns of `places`, keyed by city and country.
pub const PLACE_COLUMNS: &[(&str, Kind)] =
    &[("latitude", Kind::Degrees), ("longitude", Kind::Degrees), ("border_zone", Kind::Flag)];

/// Columns of `fx_rates`, keyed by currency. A rate is `Decimal128(20, 10)`: base units for one unit.
const FX_COLUMNS: &[(&str, Kind)] = &[("rate", Kind::Text)];

/// Columns of `business_facts` that rules may use, beside the key `customer`: what a business declared.
pub const BUSINESS_COLUMNS: &[(&str, Kind)] = &[
    ("headcount", Kind::Long),
    ("opens_at", Kind::Long),
    ("closes_at", Kind::Long),
    ("founded_on", Kind::Date),
    ("turnover", Kind::Amount),
];

/// Columns of `baselines`, keyed by customer: what `manumit baselines` worked out of its own past (`sql/baselines/`).
pub const BASELINE_COLUMNS: &[(&str, Kind)] = &[
    ("peer_group", Kind::Text),
    ("months", Kind::Long),
    ("inflow_median", Kind::Amount),
    ("outflow_median", Kind::Amount),
    ("inflow_most", Kind::Amount),
    ("outflow_most", Kind::Amount),
    ("counterparties", Kind::Long),
    ("senders", Kind::Long),
    ("receivers", Kind::Long),
    ("hour_from", Kind::Long),
    ("hour_to", Kind::Long),
];

/// Columns of `peers`, keyed by group: what is usual among its members (`sql/baselines/`).
pub const PEER_COLUMNS: &[(&str, Kind)] = &[
    ("members", Kind::Long),
    ("inflow_p50", Kind::Amount),
    ("inflow_p90", Kind::Amount),
    ("inflow_p99", Kind::Amount),
    ("outflow_p50", Kind::Amount),
    ("outflow_p90", Kind::Amount),
    ("outflow_p99", Kind::Amount),
    ("counterparties_p50", Kind::Long),
    ("counterparties_p90", Kind::Long),
    ("counterparties_p99", Kind::Long),
];

/// The reference tables that a bank loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Keyed by `account`.
    Accounts,
    /// Keyed by `customer`.
    Customers,
    /// Keyed by `city` and `country`.
    Places,
    /// Keyed by `currency`.
    FxRates,
    /// Keyed by `customer`, `kind` and `value`: how a customer can be reached, and other identifiers.
    Contacts,
    /// Keyed by `customer` and `device`: who logs in with what.
    Devices,
    /// Keyed by `account` and `customer`: who may act on an account that is another's.
    AuthorisedUsers,
    /// Keyed by `customer` and `related`: households, guardians.
    Relations,
    /// Keyed by `customer`.
    BusinessFacts,
    /// Keyed by `customer`: its own past, as `manumit baselines` worked it out.
    Baselines,
    /// Keyed by `peer_group`: what is usual in it.
    Peers,
}

impl Table {
    /// All of them.
    pub const ALL: [Table; 11] = [
        Table::Accounts,
        Table::Customers,
        Table::Places,
        Table::FxRates,
        Table::Contacts,
        Table::Devices,
        Table::AuthorisedUsers,
        Table::Relations,
        Table::BusinessFacts,
        Table::Baselines,
        Table::Peers,
    ];

    /// Its SQL name.
    pub fn name(self) -> &'static str {
        match self {
            Table::Accounts => "accounts",
            Table::Customers => "customers",
            Table::Places => "places",
            Table::FxRates => "fx_rates",
            Table::Contacts => "contacts",
            Table::Devices => "devices",
            Table::AuthorisedUsers => "authorised_users",
            Table::Relations => "relations",
            Table::BusinessFacts => "business_facts",
            Table::Baselines => "baselines",
            Table::Peers => "peers",
        }
    }

    /// Its key columns.
    pub fn keys(self) -> &'static [&'static str] {
        match self {
            Table::Accounts => &["account"],
            Table::Customers | Table::BusinessFacts | Table::Baselines => &["customer"],
            Table::Peers => &["peer_group"],
            Table::Places => &["city", "country"],
            Table::FxRates => &["currency"],
            Table::Contacts => &["customer", "kind", "value"],
            Table::Devices => &["customer", "device"],
            Table::AuthorisedUsers => &["account", "customer"],
            Table::Relations => &["customer", "related"],
        }
    }

    /// Its other columns.
    pub fn columns(self) -> &'static [(&'static str, Kind)] {
        match self {
            Table::Accounts => ACCOUNT_COLUMNS,
            Table::Customers => CUSTOMER_COLUMNS,
            Table::Places => PLACE_COLUMNS,
            Table::FxRates => FX_COLUMNS,
            Table::Contacts | Table::Devices => &[],
            Table::AuthorisedUsers => &[("role", Kind::Text)],
            Table::Relations => &[("relation", Kind::Text)],
            Table::BusinessFacts => BUSINESS_COLUMNS,
            Table::Baselines => BASELINE_COLUMNS,
            Table::Peers => PEER_COLUMNS,
        }
    }

    /// It tells what surrounds a customer: contacts, devices, and who acts for whom.
    pub fn is_context(self) -> bool {
        matches!(
            self,
            Table::Contacts
                | Table::Devices
                | Table::AuthorisedUsers
                | Table::Relations
                | Table::BusinessFacts
        )
    }

    /// The key column by whose value alone rows are looked for, too.
    pub(crate) fn searched_by(self) -> Option<usize> {
        match self {
            Table::Contacts => Some(0),
            Table::AuthorisedUsers => Some(1),
            _ => None,
        }
    }

    /// A key in the form that compares.
    ///
    /// # Errors
    /// What is wrong with it, naming column and value, and how to mend it.
    pub(crate) fn key(self, mut parts: Vec<String>) -> Result<Vec<String>, String> {
        match self {
            Table::Places => {
                parts.iter_mut().for_each(|part| *part = part.trim().to_lowercase());
                if parts.iter().all(String::is_empty) {
                    return Err("`city` is empty".into());
                }
                return Ok(parts);
            }
            Table::Accounts
            | Table::Customers
            | Table::FxRates
            | Table::BusinessFacts
            | Table::Baselines
            | Table::Peers => {}
            _ => parts.iter_mut().for_each(|part| *part = part.trim().to_string()),
        }
        if let Some(strange) = parts.iter().position(|part| part.contains(JOINT)) {
            return Err(format!("`{}` holds a control character; delete it", self.keys()[strange]));
        }
        if let Some(empty) = parts.iter().position(String::is_empty) {
            return Err(format!("`{}` is empty", self.keys()[empty]));
        }
        if self == Table::Relations && parts[0] == parts[1] {
            return Err(format!("`{}` is related to itself; `related` is the other customer", parts[0]));
        }
        if self == Table::Contacts {
            let kind = parts[1].to_lowercase();
            let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if !kind.chars().all(known) {
                return Err(format!(
                    "`{}` in column `kind` is no kind; write one word of letters, digits and `_`, such as phone",
                    parts[1]
                ));
            }
            parts[2] = identifier(&kind, &parts[2])?;
            parts[1] = kind;
        }
        Ok(parts)
    }
}

/// What a column's values must be beyond its type.
///
/// # Errors
/// [`ReferenceError`] names row, column and value.
pub(super) fn check(table: Table, columns: &[ArrayRef]) -> Result<(), ReferenceError> {
    if table != Table::BusinessFacts {
        return Ok(());
    }
    for ((name, _), column) in table.columns().iter().zip(columns) {
        let most = match *name {
            "headcount" => i64::MAX,
            "opens_at" | "closes_at" => 24,
            _ => continue,
        };
        let values = column.as_primitive::<Int64Type>();
        let wrong = |row: &usize| values.is_valid(*row) && !(0..=most).contains(&values.value(*row));
        if let Some(row) = (0..values.len()).find(wrong) {
            let value = values.value(row);
            let message = match *name {
                "headcount" => format!("`{value}` in column `headcount` is less than nobody"),
                name => format!("`{value}` in column `{name}` is no hour of a day; write 0 to 24"),
            };
            return Err(ReferenceError { line: row + 1, message });
        }
    }
    Ok(())
}

/// An identifier in the form that compares: of a telephone number the digits, with `+` before a country's; of anything
/// else small letters with single spaces.
///
/// # Errors
/// Why it is none of its kind.
fn identifier(kind: &str, value: &str) -> Result<String, String> {
    let plain = value.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    let wrong = |why: &str| Err(format!("`{value}` in column `value` is no {kind}: {why}"));
    match kind {
        "phone" => {
            // The zero in brackets is for callers from within: +49 (0)30 … is +4930…
            let text = plain.replace("(0)", "");
            let digits: String = text.chars().filter(char::is_ascii_digit).collect();
            if digits.len() < 4 {
                return wrong("it has fewer than four digits; leave the row out where no number is known");
            }
            if text.chars().any(char::is_alphabetic) {
                return wrong("it has letters; write digits, such as +49 30 1234567");
            }
            Ok(match digits.strip_prefix("00") {
                Some(abroad) => format!("+{abroad}"),
                None if text.starts_with('+') => format!("+{digits}"),
                None => digits,
            })
        }
        "email" if !plain.contains('@') || plain.contains(' ') => {
            wrong("write it as name@example.org, or leave the row out where none is known")
        }
        _ => Ok(plain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contact(kind: &str, value: &str) -> Result<String, String> {
        let key = Table::Contacts.key(vec!["C".into(), kind.into(), value.into()])?;
        Ok(key[2].clone())
    }

    #[test]
    fn identifiers_compare_however_they_are_written() {
        for same in ["+49 30 123-4567", "0049301234567", "+49 (0)30/1234567"] {
            assert_eq!(contact("phone", same).unwrap(), "+49301234567");
        }
        assert_eq!(contact("Email", " Ann@Example.org ").unwrap(), "ann@example.org");
        assert_eq!(contact("address", "7  Long\tRoad").unwrap(), "7 long road");
    }

    #[test]
    fn what_is_no_identifier_is_named() {
        assert!(contact("phone", "none").unwrap_err().contains("`none` in column `value` is no phone"));
        assert!(contact("phone", "call 12345").unwrap_err().contains("letters"));
        assert!(contact("email", "ann").unwrap_err().contains("name@example.org"));
        assert!(contact("e-mail", "ann").unwrap_err().contains("`e-mail` in column `kind`"));
        assert_eq!(contact("phone", "").unwrap_err(), "`value` is empty");
        let itself = Table::Relations.key(vec!["C".into(), "C".into()]);
        assert!(itself.unwrap_err().contains("related to itself"));
    }
}
