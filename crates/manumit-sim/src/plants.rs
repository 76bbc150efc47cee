//! Planted networks of the shipped typologies, and people who look like them but are not.
//!
//! # Source
//! The networks follow the published indicators that the typologies cite; counts and amounts are drawn above their
//! thresholds. Look-alikes follow the false positives that each typology names. What stays under the thresholds follows
//! the known evasions that each typology names.

mod children;
mod control;
mod crime;
mod labour;
mod money;
mod payday;
mod sextortion;
mod sexual;
mod smuggling;
mod steps;
mod unlike;

use std::collections::BTreeSet;

use crate::Options;
use crate::calendar::{Calendar, HOUR};
use crate::draw::{Draw, OFFICE};
use crate::life::tx;
use crate::people::{Customer, customer};
use crate::record::Transaction;

/// How something is planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// As the published indicators describe it.
    Plain,
    /// Adapted: it stays under the default thresholds, or splits what they look at.
    Stealthy,
    /// Innocent: somebody who looks like it.
    LookAlike,
}

impl Variant {
    /// An alert about it is a false one.
    pub fn innocent(self) -> bool {
        self == Variant::LookAlike
    }

    /// Stays under thresholds.
    pub(crate) fn stealthy(self) -> bool {
        self == Variant::Stealthy
    }
}

/// A network that was put into the bank, or a look-alike.
#[derive(Debug, Clone)]
pub struct Planted {
    /// Typology it belongs to, or looks like.
    pub typology: &'static str,
    /// Account, customer, device or terminal that an alert should be about.
    pub subject: String,
    /// How.
    pub variant: Variant,
    /// Everybody of this bank who takes part, as accounts, customers and devices; the subject, too.
    pub members: BTreeSet<String>,
    /// Its transactions in order of time: number, Unix seconds, cents.
    pub transactions: Vec<(u64, i64, i64)>,
}

/// What can be planted.
pub(crate) struct Kind {
    pub typology: &'static str,
    pub plant: fn(&mut Planter<'_>, Variant),
}

/// Everything that can be planted.
const KINDS: [&[Kind]; 9] = [
    sexual::KINDS,
    labour::KINDS,
    children::KINDS,
    sextortion::KINDS,
    control::KINDS,
    crime::KINDS,
    smuggling::KINDS,
    money::KINDS,
    unlike::KINDS,
];

/// Typologies of which something can be planted.
pub fn plantable() -> impl Iterator<Item = &'static str> {
    KINDS.iter().copied().flatten().map(|kind| kind.typology)
}

/// Account and name.
pub(crate) type Party = Option<(String, String)>;

/// What planting adds to the bank.
pub(crate) struct Planter<'a> {
    /// A generator of its own for each network: one more of them, or of another kind, leaves the others as they are.
    pub draw: Draw,
    pub calendar: &'a Calendar,
    pub people: &'a mut Vec<Customer>,
    pub out: &'a mut Vec<Transaction>,
    pub planted: Vec<Planted>,
}

/// Plants what the options ask for.
pub(crate) fn plant(
    options: &Options,
    calendar: &Calendar,
    people: &mut Vec<Customer>,
    out: &mut Vec<Transaction>,
) -> Vec<Planted> {
    let mut planter =
        Planter { draw: Draw::new(options.seed, 2), calendar, people, out, planted: Vec::new() };
    let asked =
        |kind: &&Kind| options.typologies.is_empty() || options.typologies.iter().any(|t| t == kind.typology);
    for kind in KINDS.iter().copied().flatten().filter(asked) {
        for (variant, count) in [
            (Variant::Plain, options.networks),
            (Variant::Stealthy, options.stealthy),
            (Variant::LookAlike, options.look_alikes),
        ] {
            for number in 0..count {
                planter.draw = Draw::new(options.seed, stream(kind.typology, variant, number));
                (kind.plant)(&mut planter, variant);
            }
        }
    }
    planter.planted
}

/// The generator of one network: FNV-1a of its typology, and its number. The highest bit keeps it away from those of days.
fn stream(typology: &str, variant: Variant, number: u32) -> u64 {
    let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let name = typology.bytes().fold(0xcbf2_9ce4_8422_2325, hash);
    1 << 63 | (name & 0x7_ffff_ffff) << 28 | (variant as u64) << 26 | u64::from(number) & 0x3ff_ffff
}

impl Planter<'_> {
    /// A new person of the bank, whose account has no other life than what is planted.
    pub(crate) fn person(&mut self) -> Customer {
        let number = self.people.len() as u32;
        let mut person = customer(&mut self.draw, number, false, self.calendar);
        person.household = format!("HP{number:05}");
        person.address = format!("Parkweg {number}");
        person.lives = false;
        if matches!(person.occupation, "lorry driver" | "sales representative" | "musician") {
            person.occupation = "cleaner";
        }
        self.people.push(person.clone());
        person
    }

    /// A new person who lives from the account, as other customers do.
    pub(crate) fn neighbour(&mut self) -> Customer {
        let mut person = self.person();
        person.lives = true;
        self.keep(&person);
        person
    }

    /// A new business, whose account has no other life than what is planted.
    pub(crate) fn firm(&mut self, name: &str, industry: &'static str) -> Customer {
        let number = self.people.len() as u32;
        let mut firm = customer(&mut self.draw, number, true, self.calendar);
        firm.household = format!("HP{number:05}");
        firm.address = format!("Gewerbepark {number}");
        firm.name = name.to_string();
        firm.industry = industry;
        firm.lives = false;
        self.people.push(firm.clone());
        firm
    }

    /// Puts back what was changed about somebody.
    pub(crate) fn keep(&mut self, changed: &Customer) {
        if let Some(known) = self.people.iter_mut().rev().find(|p| p.customer == changed.customer) {
            *known = changed.clone();
        }
    }

    /// Begins a network or look-alike; what is put with the number that comes back belongs to it.
    pub(crate) fn begin(&mut self, typology: &'static str, subject: &str, variant: Variant) -> u32 {
        let (subject, members) = (subject.to_string(), BTreeSet::from([subject.to_string()]));
        self.planted.push(Planted { typology, subject, variant, members, transactions: Vec::new() });
        self.planted.len() as u32
    }

    pub(crate) fn put(&mut self, plant: u32, mut transaction: Transaction) {
        transaction.plant = plant;
        self.out.push(transaction);
    }

    pub(crate) fn last_day(&self) -> u32 {
        self.calendar.days().saturating_sub(1)
    }

    /// A first day that leaves room for `span` days before the last one.
    pub(crate) fn first_day(&mut self, span: u32) -> u32 {
        let latest = self.last_day().saturating_sub(span).max(2);
        self.draw.count(1, latest)
    }

    /// A payment `hours` after another one.
    pub(crate) fn after(
        &mut self,
        first: &Transaction,
        hours: i64,
        kind: &'static str,
        channel: &'static str,
        amount: i64,
    ) -> Transaction {
        let time = first.time + hours * HOUR + self.draw.int(60, 1800);
        Transaction {
            time,
            offset: self.calendar.offset(time),
            kind,
            channel,
            amount: amount.max(1),
            ..Transaction::default()
        }
    }

    /// Money between accounts of this and other banks by transfer.
    pub(crate) fn send(&mut self, plant: u32, day: u32, amount: i64, from: Party, to: Party) {
        let seconds = self.draw.time(&OFFICE);
        let mut sent = tx(self.calendar, day.min(self.last_day()), seconds, "transfer", "online", amount);
        sent.debtor = from;
        sent.creditor = to;
        self.put(plant, sent);
    }
}
