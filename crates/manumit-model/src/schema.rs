//! The canonical tables `transactions`, `entries` and `hits`: one definition, from which the Arrow schema, the
//! reference documentation and the JSON Schema are made.
//!
//! A transaction is one payment, card event or cash movement as a feed reports it; an entry is one side of it as
//! one account sees it. Unknown stays NULL and is never guessed.
//!
//! # Source
//! Field needs: the indicator lists of FINTRAC (2016, 2021, 2025), FinCEN (2014, 2020, 2023, 2025, 2026),
//! AUSTRAC (2022) and FATF (2018), as gathered in the project's typology pack; names after ISO 20022.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use serde_json::{Map, Value, json};

use crate::money;

/// What a canonical column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8 text as received.
    Text,
    /// Text out of a fixed set of words.
    Word(&'static [&'static str]),
    /// ISO 4217 code, upper case.
    Currency,
    /// ISO 3166-1 alpha-2 code, upper case.
    Country,
    /// Four-digit merchant category code (ISO 18245).
    Mcc,
    /// Exact amount, `Decimal128(20, 4)`.
    Amount,
    /// Instant, microseconds since 1970-01-01 UTC.
    Instant,
    /// Wall-clock time without zone, microseconds.
    LocalTime,
    /// Calendar day.
    Date,
    /// 32-bit integer.
    Int,
    /// 64-bit integer.
    Long,
    /// Degrees; the only floating-point kind, never used for money.
    Degrees,
    /// True or false.
    Flag,
}

impl Kind {
    /// The Arrow type of the column.
    pub fn data_type(self) -> DataType {
        match self {
            Kind::Text | Kind::Word(_) | Kind::Currency | Kind::Country | Kind::Mcc => DataType::Utf8,
            Kind::Amount => money::data_type(),
            Kind::Instant => instant_type(),
            Kind::LocalTime => DataType::Timestamp(TimeUnit::Microsecond, None),
            Kind::Date => DataType::Date32,
            Kind::Int => DataType::Int32,
            Kind::Long => DataType::Int64,
            Kind::Degrees => DataType::Float64,
            Kind::Flag => DataType::Boolean,
        }
    }

    /// The kind in the words of the documentation.
    pub fn words(self) -> &'static str {
        match self {
            Kind::Text => "text",
            Kind::Word(_) => "word",
            Kind::Currency => "currency (ISO 4217)",
            Kind::Country => "country (ISO 3166-1 alpha-2)",
            Kind::Mcc => "merchant category code (4 digits)",
            Kind::Amount => "amount (exact decimal, 4 places)",
            Kind::Instant => "instant (UTC, microseconds)",
            Kind::LocalTime => "local date and time",
            Kind::Date => "date",
            Kind::Int | Kind::Long => "integer",
            Kind::Degrees => "degrees",
            Kind::Flag => "true/false",
        }
    }
}

/// Arrow type of event times.
pub fn instant_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// One canonical column.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Column name, lower snake case.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// A feed must give it, and give it on every row.
    pub required: bool,
    /// Filled by the engine after mapping; a feed may leave it out.
    pub derived: bool,
    /// What it means, for the reference documentation.
    pub doc: &'static str,
}

const fn col(name: &'static str, kind: Kind, doc: &'static str) -> Column {
    Column { name, kind, required: false, derived: false, doc }
}
const fn req(name: &'static str, kind: Kind, doc: &'static str) -> Column {
    Column { name, kind, required: true, derived: false, doc }
}
const fn der(name: &'static str, kind: Kind, doc: &'static str) -> Column {
    Column { name, kind, required: false, derived: true, doc }
}

/// Words of `entry_type`.
pub const ENTRY_TYPES: &[&str] = &["booking", "authorisation", "reversal", "refund"];
/// Words of `method`.
pub const METHODS: &[&str] = &[
    "cash",
    "card",
    "transfer",
    "p2p",
    "wire",
    "direct_debit",
    "cheque",
    "prepaid",
    "mobile_money",
    "crypto",
    "other",
];
/// Words of `channel`.
pub const CHANNELS: &[&str] =
    &["branch", "atm", "pos", "online", "mobile", "phone", "mail", "agent", "batch", "other"];
/// Words of `initiator`.
pub const INITIATORS: &[&str] = &["holder", "authorised_user", "third_party", "staff", "system"];

use Kind::*;

/// Columns of `transactions`, in order.
pub const TRANSACTIONS: &[Column] = &[
    req("tx_id", Text, "Id of this row in its feed; the same id again is the same transaction."),
    req("event_time", Instant, "When it happened. All windows use this time."),
    der(
        "utc_offset_minutes",
        Int,
        "Local time minus UTC at the place of the event, in minutes. Filled from the feed's time zone when not mapped; NULL when neither is known.",
    ),
    der(
        "local_time",
        LocalTime,
        "Wall-clock time at the place of the event: event_time plus utc_offset_minutes.",
    ),
    col("booking_date", Date, "Day on which the bank booked it."),
    col("value_date", Date, "Value date."),
    der(
        "entry_type",
        Word(ENTRY_TYPES),
        "booking, authorisation, reversal or refund; booking when not mapped. Refunds and reversals are rows of their own in the opposite direction.",
    ),
    col("original_tx_id", Text, "tx_id of the transaction that this row refunds, reverses or clears."),
    col(
        "method",
        Word(METHODS),
        "How the value moved: cash, card, transfer, p2p, wire, direct_debit, cheque, prepaid, mobile_money, crypto, other.",
    ),
    col(
        "channel",
        Word(CHANNELS),
        "Where it was started: branch, atm, pos, online, mobile, phone, mail, agent, batch, other.",
    ),
    req(
        "amount",
        Amount,
        "Amount in `currency`, never negative: the direction is in who is debtor and who is creditor.",
    ),
    req("currency", Currency, "Currency of `amount`."),
    der(
        "amount_base",
        Amount,
        "Amount in the base currency: equal to `amount` in that currency, else converted with fx_rates as of event time; NULL when no rate is known. Rules compare this one.",
    ),
    col("fee_amount", Amount, "Fee charged, in `currency`."),
    col("debtor_account", Text, "Account that pays. NULL for cash paid in."),
    col(
        "debtor_customer",
        Text,
        "Customer of the debtor account. Filled from the accounts table when not mapped.",
    ),
    col("debtor_name", Text, "Name of the payer as sent."),
    col("debtor_alias", Text, "E-mail, phone or handle used for the payer."),
    col("debtor_bank", Text, "Bank of the payer (BIC or national code)."),
    col("debtor_country", Country, "Country of the payer's account."),
    col("debtor_balance", Amount, "Balance of the debtor account after this row."),
    col(
        "debtor_external",
        Flag,
        "True when the debtor account is not ours or is a hub (clearing, outside world): it gets no entry of its own.",
    ),
    col("creditor_account", Text, "Account that is paid. NULL for cash paid out and for card purchases."),
    col(
        "creditor_customer",
        Text,
        "Customer of the creditor account. Filled from the accounts table when not mapped.",
    ),
    col("creditor_name", Text, "Name of the payee as sent."),
    col(
        "creditor_registered_name",
        Text,
        "Name of the payee as registered with its bank, when a payee check returned it.",
    ),
    col("creditor_alias", Text, "E-mail, phone or handle used for the payee."),
    col("creditor_bank", Text, "Bank of the payee (BIC or national code)."),
    col("creditor_country", Country, "Country of the payee's account."),
    col("creditor_balance", Amount, "Balance of the creditor account after this row."),
    col(
        "creditor_external",
        Flag,
        "True when the creditor account is not ours or is a hub: it gets no entry of its own.",
    ),
    col("ultimate_debtor", Text, "Party on whose behalf was paid."),
    col("ultimate_creditor", Text, "Party who finally receives."),
    col(
        "cash_depositor",
        Text,
        "Who stood at the counter or machine with the cash: id or name as recorded. The account holder's own customer id for an own deposit.",
    ),
    col(
        "initiator",
        Word(INITIATORS),
        "Who gave the order: holder, authorised_user, third_party, staff, system.",
    ),
    col("mcc", Mcc, "Merchant category code."),
    col("merchant_id", Text, "Merchant as the acquirer numbers it."),
    col("merchant_name", Text, "Merchant name as received."),
    col("terminal_id", Text, "Terminal or ATM id."),
    col("terminal_owner", Text, "Who runs the ATM: own bank, other bank, white label."),
    col("branch_id", Text, "Branch where it happened."),
    col("city", Text, "City of the event."),
    col("country", Country, "Country of the event."),
    col("latitude", Degrees, "Latitude of the event, WGS 84."),
    col("longitude", Degrees, "Longitude of the event, WGS 84."),
    col("device_id", Text, "Device that gave the order."),
    col("ip", Text, "IP address that gave the order."),
    col("session_id", Text, "Session in which the order was given."),
    col("card_id", Text, "Token of the card, never its number."),
    col("card_bin", Text, "First six to eight digits of the card number: the issuing programme."),
    col("prepaid", Flag, "The card or account is prepaid."),
    col("purpose_code", Text, "ISO 20022 external purpose code, such as SALA or RENT."),
    col("category_purpose", Text, "ISO 20022 category purpose code."),
    col("memo", Text, "Remittance text exactly as received, emoji included."),
    col("batch_id", Text, "Payment batch (a payroll run) the row was part of."),
    col("batch_line", Int, "Line within the batch."),
    col("passenger_name", Text, "Passenger of a ticket (enhanced card data)."),
    col("route", Text, "Route of a ticket, origin-destination."),
    col("travel_date", Date, "Day of travel."),
    col("stay_from", Date, "First night of a lodging stay."),
    col("stay_to", Date, "Last day of a lodging stay."),
    col("wallet_address", Text, "Crypto wallet on the other side."),
    col("asset", Text, "Crypto asset."),
    col("chain_cluster", Text, "Cluster of the wallet, from a chain-analysis provider."),
    col("denomination", Text, "Notes handed in for a cash exchange."),
    der("feed", Text, "Feed that read the row."),
    der("source", Text, "Topic or file it came from."),
    der("source_partition", Int, "Kafka partition; 0 for files."),
    der("source_offset", Long, "Kafka offset, or record number in the file."),
    der(
        "debtor_group",
        Text,
        "Group of customers linked by shared identifiers that the payer belongs to at event time, named by one of its members; NULL where none is known. Filled from contacts and devices by rules/groups.toml when not mapped.",
    ),
    der("creditor_group", Text, "The same of who is paid."),
];

/// Columns that only `entries` has; all columns of `transactions` follow them.
pub const ENTRY_ONLY: &[Column] = &[
    der("direction", Word(&["in", "out"]), "in when the account is credited, out when it is debited."),
    der("account", Text, "The account that sees this entry."),
    der("customer", Text, "Its customer."),
    der("counterparty", Text, "The account on the other side; NULL for cash and card purchases."),
    der("counterparty_customer", Text, "Customer of the other side, when known."),
    der("counterparty_name", Text, "Name of the other side as sent."),
    der("counterparty_alias", Text, "E-mail, phone or handle of the other side."),
    der("counterparty_bank", Text, "Bank of the other side."),
    der("counterparty_country", Country, "Country of the other side's account."),
    der("balance", Amount, "Balance of the account after this row, when the feed sends it."),
    der(
        "customer_group",
        Text,
        "Group that its customer belongs to at event time; NULL when the customer shares no identifier with anybody.",
    ),
    der("counterparty_group", Text, "Group that the other side's customer belongs to at event time."),
];

/// For each column of [`ENTRY_ONLY`] from `account` on: where it comes from for an `out` entry and for an `in` entry.
pub const ENTRY_SIDES: &[(&str, &str, &str)] = &[
    ("account", "debtor_account", "creditor_account"),
    ("customer", "debtor_customer", "creditor_customer"),
    ("counterparty", "creditor_account", "debtor_account"),
    ("counterparty_customer", "creditor_customer", "debtor_customer"),
    ("counterparty_name", "creditor_name", "debtor_name"),
    ("counterparty_alias", "creditor_alias", "debtor_alias"),
    ("counterparty_bank", "creditor_bank", "debtor_bank"),
    ("counterparty_country", "creditor_country", "debtor_country"),
    ("balance", "debtor_balance", "creditor_balance"),
    ("customer_group", "debtor_group", "creditor_group"),
    ("counterparty_group", "creditor_group", "debtor_group"),
];

fn fields(columns: &[Column], required_not_null: bool) -> Vec<Field> {
    columns
        .iter()
        .map(|c| Field::new(c.name, c.kind.data_type(), !(required_not_null && c.required)))
        .collect()
}

/// Arrow schema of `transactions`.
pub fn transactions() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| Arc::new(Schema::new(fields(TRANSACTIONS, true))));
    SCHEMA.clone()
}

/// Arrow schema of `entries`: [`ENTRY_ONLY`] then all of [`TRANSACTIONS`].
pub fn entries() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let mut all = fields(ENTRY_ONLY, false);
        all.extend(fields(TRANSACTIONS, true));
        Arc::new(Schema::new(all))
    });
    SCHEMA.clone()
}

/// The definition of a column of `transactions` or `entries`.
pub fn column(name: &str) -> Option<&'static Column> {
    TRANSACTIONS.iter().chain(ENTRY_ONLY).find(|c| c.name == name)
}

/// Columns of a table by name: `transactions` or `entries`.
pub fn columns_of(table: &str) -> Option<Vec<&'static Column>> {
    match table {
        "transactions" => Some(TRANSACTIONS.iter().collect()),
        "entries" => Some(ENTRY_ONLY.iter().chain(TRANSACTIONS).collect()),
        _ => None,
    }
}

/// The reference documentation of a table, as a Markdown table.
pub fn markdown(columns: &[&Column]) -> String {
    let mut out = String::from("| column | holds | required | meaning |\n| --- | --- | --- | --- |\n");
    for c in columns {
        let need = if c.required {
            "yes"
        } else if c.derived {
            "filled"
        } else {
            ""
        };
        out.push_str(&format!("| `{}` | {} | {} | {} |\n", c.name, c.kind.words(), need, c.doc));
    }
    out
}

/// JSON Schema (draft 2020-12) of one row of a table; amounts are decimal strings.
pub fn json_schema(title: &str, columns: &[&Column]) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for c in columns {
        let mut shape = match c.kind {
            Kind::Text => json!({"type": "string"}),
            Kind::Word(words) => json!({"enum": words}),
            Kind::Currency => json!({"type": "string", "pattern": "^[A-Z]{3}$"}),
            Kind::Country => json!({"type": "string", "pattern": "^[A-Z]{2}$"}),
            Kind::Mcc => json!({"type": "string", "pattern": "^[0-9]{4}$"}),
            Kind::Amount => json!({"type": "string", "pattern": "^-?[0-9]+(\\.[0-9]{1,4})?$"}),
            Kind::Instant => json!({"type": "string", "format": "date-time"}),
            Kind::LocalTime => json!({"type": "string"}),
            Kind::Date => json!({"type": "string", "format": "date"}),
            Kind::Int | Kind::Long => json!({"type": "integer"}),
            Kind::Degrees => json!({"type": "number"}),
            Kind::Flag => json!({"type": "boolean"}),
        };
        shape["description"] = json!(c.doc);
        properties.insert(c.name.to_string(), shape);
        if c.required {
            required.push(c.name);
        }
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_column_is_defined_twice() {
        let mut names: Vec<_> = ENTRY_ONLY.iter().chain(TRANSACTIONS).map(|c| c.name).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn every_side_of_an_entry_names_columns_that_exist() {
        for (entry, out, inward) in ENTRY_SIDES {
            let kind = column(entry).unwrap().kind.data_type();
            assert_eq!(kind, column(out).unwrap().kind.data_type());
            assert_eq!(kind, column(inward).unwrap().kind.data_type());
        }
    }

    #[test]
    fn documentation_and_json_schema_list_every_column() {
        let columns = columns_of("entries").unwrap();
        let text = markdown(&columns);
        let schema = json_schema("entries", &columns);
        for c in columns {
            assert!(text.contains(&format!("| `{}` |", c.name)));
            assert!(schema["properties"][c.name].is_object());
        }
    }
}
