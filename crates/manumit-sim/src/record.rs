//! A booked transaction, and its JSON as the demo bank sends it.

use chrono::{DateTime, FixedOffset, SecondsFormat};
use serde::Serialize;

use crate::people::CITIES;

/// One booked transaction.
#[derive(Debug, Clone, Default)]
pub struct Transaction {
    /// Number in order of time, from 1.
    pub number: u32,
    /// When it happened, Unix seconds.
    pub time: i64,
    pub(crate) offset: i32,
    /// `card`, `transfer`, `p2p`, `cash_in`, `cash_out`, `wire`, `direct_debit`.
    pub kind: &'static str,
    pub(crate) channel: &'static str,
    /// Amount in cents, never negative.
    pub amount: i64,
    /// (account, name) of who pays; ids that begin with `EXT-` are with other banks.
    pub debtor: Option<(String, String)>,
    /// (account, name) of who is paid.
    pub creditor: Option<(String, String)>,
    pub(crate) debtor_country: &'static str,
    pub(crate) creditor_country: &'static str,
    pub(crate) mcc: &'static str,
    pub(crate) merchant: String,
    pub(crate) city: Option<usize>,
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
    currency: &'static str,
    kind: &'static str,
    channel: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    debtor: Option<Party<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    creditor: Option<Party<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    merchant: Option<Merchant<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<Place>,
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
}

#[derive(Serialize)]
struct Merchant<'a> {
    mcc: &'a str,
    name: &'a str,
}

#[derive(Serialize)]
struct Place {
    city: &'static str,
    country: &'static str,
    lat: f64,
    lon: f64,
}

impl Transaction {
    /// The id in the record, such as `T00000001`.
    pub fn id(&self) -> String {
        format!("T{:08}", self.number)
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
        let zone = FixedOffset::east_opt(self.offset);
        let booked = DateTime::from_timestamp(self.time, 0).zip(zone);
        let party = |side: &'_ Option<(String, String)>,
                     country: &'static str|
         -> Option<(String, String, &'static str)> {
            side.as_ref().map(|(iban, name)| (iban.clone(), name.clone(), country))
        };
        let (debtor, creditor) =
            (party(&self.debtor, self.debtor_country), party(&self.creditor, self.creditor_country));
        fn shown<'a>(side: &'a Option<(String, String, &'static str)>) -> Option<Party<'a>> {
            side.as_ref().map(|(iban, name, country)| Party { iban, name, country })
        }
        let record = Record {
            id: self.id(),
            booked: booked.map_or(String::new(), |(t, z)| {
                t.with_timezone(&z).to_rfc3339_opts(SecondsFormat::Secs, false)
            }),
            amount: format!("{}.{:02}", self.amount / 100, self.amount % 100),
            currency: "EUR",
            kind: self.kind,
            channel: self.channel,
            debtor: shown(&debtor),
            creditor: shown(&creditor),
            merchant: (!self.mcc.is_empty()).then_some(Merchant { mcc: self.mcc, name: &self.merchant }),
            place: self.city.map(|city| {
                let (name, lat, lon, _) = CITIES[city];
                Place { city: name, country: "DE", lat, lon }
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
