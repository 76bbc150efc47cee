//! A booked transaction, and its JSON as the demo bank sends it.

use chrono::{DateTime, FixedOffset, SecondsFormat};
use serde::Serialize;

use crate::people::Place;

/// One booked transaction. What is empty is not sent.
#[derive(Debug, Clone, Default)]
pub struct Transaction {
    /// Number in order of time, from 1.
    pub number: u64,
    /// When it happened, Unix seconds.
    pub time: i64,
    /// Local time minus UTC, seconds.
    pub(crate) offset: i32,
    /// `card`, `transfer`, `p2p`, `cash_in`, `cash_out`, `wire`, `direct_debit`, `crypto`, `prepaid`, `refund` (of a card).
    pub kind: &'static str,
    /// `authorisation` or `reversal`; empty for a booking.
    pub(crate) entry: &'static str,
    pub(crate) channel: &'static str,
    /// Amount in cents, never negative.
    pub amount: i64,
    /// ISO 4217; empty for EUR.
    pub(crate) currency: &'static str,
    /// (account, name) of who pays; ids that begin with `EXT-` are with other banks.
    pub debtor: Option<(String, String)>,
    /// (account, name) of who is paid.
    pub creditor: Option<(String, String)>,
    pub(crate) debtor_country: &'static str,
    pub(crate) creditor_country: &'static str,
    /// E-mail, phone or handle of who is paid.
    pub(crate) creditor_alias: String,
    /// E-mail, phone or handle of who pays.
    pub(crate) debtor_alias: String,
    /// Who is finally paid, such as the workers of a payroll bureau's order.
    pub(crate) ultimate_creditor: String,
    pub(crate) mcc: &'static str,
    pub(crate) merchant: String,
    /// As the acquirer numbers it; follows from the name when empty.
    pub(crate) merchant_id: String,
    /// Cash machine or card terminal.
    pub(crate) terminal: String,
    pub(crate) place: Option<Place>,
    /// Device that gave the order. An order from a customer's phone or browser comes from the customer's own when empty.
    pub(crate) device: String,
    /// `authorised_user`, `third_party`, `staff`; empty for the holder or unknown.
    pub(crate) initiator: &'static str,
    /// Issuing programme of the card.
    pub(crate) card_bin: &'static str,
    pub(crate) prepaid: bool,
    /// Passenger of a ticket.
    pub(crate) passenger: String,
    /// Route of a ticket, origin-destination.
    pub(crate) route: String,
    /// First and last day of a stay, as `2026-03-01`.
    pub(crate) stay: Option<(String, String)>,
    pub(crate) wallet: String,
    pub(crate) asset: &'static str,
    /// Cluster of the wallet, as a provider of chain analysis names it.
    pub(crate) cluster: String,
    /// Set on what a later transaction refers to: a number of its own ([`crate::draw::Draw::mark`]).
    pub(crate) mark: u64,
    /// The mark of the transaction that this one refunds, reverses or clears.
    pub(crate) of: u64,
    /// Number of that transaction, once it is known.
    pub(crate) original: u64,
    pub(crate) memo: String,
    /// Who brought the cash: customer id, or a name.
    pub(crate) depositor: String,
    pub(crate) purpose: &'static str,
    /// Number of the planted network, from 1; 0 for ordinary life.
    pub(crate) plant: u32,
}

#[derive(Serialize)]
struct Record<'a> {
    id: String,
    booked: String,
    amount: String,
    currency: &'a str,
    kind: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    entry: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    original: Option<String>,
    channel: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    debtor: Option<Party<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    creditor: Option<Party<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    final_payee: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    merchant: Option<Merchant<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    terminal: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<Position>,
    #[serde(skip_serializing_if = "str::is_empty")]
    device: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    ordered_by: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    card: Option<Card<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ticket: Option<Ticket<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stay: Option<Stay<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    crypto: Option<Crypto<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    memo: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    depositor: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    purpose: &'a str,
}

#[derive(Serialize)]
struct Party<'a> {
    iban: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    country: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    alias: &'a str,
}

#[derive(Serialize)]
struct Merchant<'a> {
    mcc: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    name: &'a str,
}

#[derive(Serialize)]
struct Position {
    city: &'static str,
    country: &'static str,
    lat: f64,
    lon: f64,
}

#[derive(Serialize)]
struct Card<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    bin: &'a str,
    prepaid: bool,
}

#[derive(Serialize)]
struct Ticket<'a> {
    passenger: &'a str,
    route: &'a str,
}

#[derive(Serialize)]
struct Stay<'a> {
    from: &'a str,
    to: &'a str,
}

#[derive(Serialize)]
struct Crypto<'a> {
    wallet: &'a str,
    asset: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    cluster: &'a str,
}

fn party<'a>(side: &'a Option<(String, String)>, country: &'static str, alias: &'a str) -> Option<Party<'a>> {
    side.as_ref().map(|(iban, name)| Party { iban, name, country, alias })
}

fn id(number: u64) -> String {
    format!("T{number:08}")
}

impl Transaction {
    /// The id in the record, such as `T00000001`.
    pub fn id(&self) -> String {
        id(self.number)
    }

    /// The account that Kafka messages are keyed by: the paying one, else the paid one.
    pub fn key(&self) -> &str {
        self.debtor.as_ref().or(self.creditor.as_ref()).map_or("", |(account, _)| account)
    }

    /// Appends the record as one line of JSON.
    ///
    /// # Errors
    /// Only when memory runs out.
    pub fn write_json(&self, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        let booked = DateTime::from_timestamp(self.time, 0).zip(FixedOffset::east_opt(self.offset));
        let record = Record {
            id: self.id(),
            booked: booked.map_or(String::new(), |(time, zone)| {
                time.with_timezone(&zone).to_rfc3339_opts(SecondsFormat::Secs, false)
            }),
            amount: format!("{}.{:02}", self.amount / 100, self.amount % 100),
            currency: if self.currency.is_empty() { "EUR" } else { self.currency },
            kind: self.kind,
            entry: self.entry,
            original: (self.original > 0).then(|| id(self.original)),
            channel: self.channel,
            debtor: party(&self.debtor, self.debtor_country, &self.debtor_alias),
            creditor: party(&self.creditor, self.creditor_country, &self.creditor_alias),
            final_payee: &self.ultimate_creditor,
            merchant: (!self.mcc.is_empty()).then_some(Merchant {
                mcc: self.mcc,
                id: &self.merchant_id,
                name: &self.merchant,
            }),
            terminal: &self.terminal,
            place: self.place.map(|Place { city, country, latitude, longitude }| Position {
                city,
                country,
                lat: latitude,
                lon: longitude,
            }),
            device: &self.device,
            ordered_by: self.initiator,
            card: (self.prepaid || !self.card_bin.is_empty())
                .then_some(Card { bin: self.card_bin, prepaid: self.prepaid }),
            ticket: (!self.passenger.is_empty() || !self.route.is_empty())
                .then_some(Ticket { passenger: &self.passenger, route: &self.route }),
            stay: self.stay.as_ref().map(|(from, to)| Stay { from, to }),
            crypto: (!self.asset.is_empty()).then_some(Crypto {
                wallet: &self.wallet,
                asset: self.asset,
                cluster: &self.cluster,
            }),
            memo: &self.memo,
            depositor: &self.depositor,
            purpose: self.purpose,
        };
        serde_json::to_writer(&mut *out, &record)?;
        out.push(b'\n');
        Ok(())
    }
}
