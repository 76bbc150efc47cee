//! Exploitation of children: those who pay for it, and those who are paid.

mod contact;
mod facilitator;
mod livestream;
mod material;

use crate::calendar::HOUR;
use crate::life::{external, own, tx};
use crate::people::{Customer, Place};
use crate::plants::{Kind, Party, Planter};
use crate::record::Transaction;
use chrono::TimeDelta;

/// What is planted.
pub(crate) const KINDS: &[Kind] = &[
    Kind { typology: "livestream-buyer", plant: |planter, variant| planter.stream_buyer(variant) },
    Kind { typology: "contact-offender", plant: |planter, variant| planter.traveller_abroad(variant) },
    Kind { typology: "contact-offender-local", plant: |planter, variant| planter.lurer(variant) },
    Kind { typology: "ocse-facilitator", plant: |planter, variant| planter.facilitator(variant) },
    Kind { typology: "csam-micro-subscription", plant: |planter, variant| planter.subscriber(variant) },
    Kind { typology: "csam-penny-messages", plant: |planter, variant| planter.penny_writer(variant) },
];

const fn place(city: &'static str, country: &'static str, latitude: f64, longitude: f64) -> Place {
    Place { city, country, latitude, longitude }
}

/// Towns of the countries that FINTRAC-2025-N01 names, capitals and others.
const FAR: [Place; 9] = [
    place("Manila", "PH", 14.5995, 120.9842),
    place("Cebu City", "PH", 10.3157, 123.8854),
    place("Angeles", "PH", 15.145, 120.5887),
    place("Bangkok", "TH", 13.7563, 100.5018),
    place("Pattaya", "TH", 12.9236, 100.8825),
    place("Medellín", "CO", 6.2442, -75.5812),
    place("Cartagena", "CO", 10.391, -75.4794),
    place("Santo Domingo", "DO", 18.4861, -69.9312),
    place("Tijuana", "MX", 32.5149, -117.0382),
];

/// Names of payees there; none holds a surname of this bank's customers.
const FAR_NAMES: [&str; 8] = [
    "Jenny Villanueva",
    "Rosa Dimaculangan",
    "Ana Bautista",
    "Nok Srisai",
    "Somchai P.",
    "Luz Rojas",
    "Yesenia Peralta",
    "Carlos Medina",
];

/// Signs beside the payments of somebody who pays for abuse (FINTRAC-2025-C09, -C11 to -C13, -C16, AUSTRAC-CSE-02, -05). One
/// of the first two is always there; who shows neither is planted as a stealthy one.
#[derive(Debug, Clone, Copy)]
struct Signs {
    /// Purchases on webcam and adult sites.
    sites: bool,
    /// A social handle or a show in payment texts.
    handles: bool,
    /// Reasons such as school fees.
    reasons: bool,
    /// Software that hides traffic or records.
    tools: bool,
    gift_cards: bool,
    growing: bool,
}

impl Planter<'_> {
    /// What is seen beside the payments; nothing of somebody who is careful.
    fn signs(&mut self, careful: bool) -> Signs {
        let draw = &mut self.draw;
        if careful {
            let growing = draw.chance(30);
            return Signs {
                sites: false,
                handles: false,
                reasons: false,
                tools: false,
                gift_cards: false,
                growing,
            };
        }
        let sites = draw.chance(65);
        Signs {
            sites,
            handles: !sites || draw.chance(40),
            reasons: draw.chance(40),
            tools: draw.chance(35),
            gift_cards: draw.chance(25),
            growing: draw.chance(35),
        }
    }

    /// Makes somebody so many years old on the first day; the age is drawn.
    fn of_age(&mut self, person: &mut Customer, least: i64, most: i64) {
        let days = self.draw.int(least * 365 + least / 4 + 30, most * 365 + most / 4 + 330);
        person.born_on = Some(self.calendar.date(0) - TimeDelta::days(days));
        self.keep(person);
    }

    /// A purchase by card at home or online.
    fn bought_online(
        &mut self,
        plant: u32,
        day: u32,
        me: &Customer,
        shop: (&'static str, &str),
        amount: i64,
    ) {
        let seconds = 18 * HOUR + self.draw.int(0, 5 * HOUR);
        let mut bought = tx(self.calendar, day.min(self.last_day()), seconds, "card", "online", amount);
        bought.debtor = own(me);
        bought.mcc = shop.0;
        bought.merchant = shop.1.to_string();
        self.put(plant, bought);
    }

    /// A webcam or adult site: on the bank's list, or known by its merchant category only.
    fn on_a_site(&mut self, plant: u32, day: u32, me: &Customer) {
        let shop = [("5967", "Lanternroom Cams"), ("4816", "Velvet Pages"), ("5967", "NV*PrivateRooms")];
        let (shop, amount) = (shop[self.draw.index(3)], self.draw.price(999, 9_900));
        self.bought_online(plant, day, me, shop, amount);
    }

    /// Software that hides or records.
    fn a_tool(&mut self, plant: u32, day: u32, me: &Customer) {
        let name = ["Quietline Tunnel", "Screenjar Recorder", "Wipewell"][self.draw.index(3)];
        let amount = self.draw.price(499, 5_900);
        self.bought_online(plant, day, me, ("5734", name), amount);
    }

    /// Money sent to somebody far away; who it is follows from `name`.
    fn sent_far(
        &mut self,
        (day, seconds): (u32, i64),
        amount: i64,
        me: &Customer,
        (payee, name): (&str, &str),
        country: &'static str,
    ) -> Transaction {
        let kind = if self.draw.chance(60) { "p2p" } else { "wire" };
        let mut paid = tx(self.calendar, day.min(self.last_day()), seconds, kind, "mobile", amount);
        paid.debtor = own(me);
        paid.creditor = external(payee, name);
        paid.creditor_country = country;
        paid
    }

    /// Money from person to person at home.
    fn handed(&mut self, day: u32, seconds: i64, amount: i64, from: Party, to: Party) -> Transaction {
        let mut paid = tx(self.calendar, day.min(self.last_day()), seconds, "p2p", "mobile", amount);
        paid.debtor = from;
        paid.creditor = to;
        paid
    }

    /// Evening or night, as a second of the day; may lie after midnight.
    fn late_evening(&mut self) -> i64 {
        19 * HOUR + self.draw.int(0, 7 * HOUR)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Options, Variant, simulate};

    #[test]
    fn who_pays_for_abuse_shows_a_strong_sign_unless_careful() {
        let options = Options {
            seed: 12,
            customers: 24,
            days: 90,
            networks: 12,
            stealthy: 12,
            look_alikes: 0,
            typologies: Vec::new(),
        };
        let simulation = simulate(&options);
        let buyers = |p: &&crate::Planted| matches!(p.typology, "livestream-buyer" | "contact-offender");
        for plant in simulation.bank.planted().iter().filter(buyers) {
            let mine = plant.transactions.iter().map(|t| &simulation.transactions[t.0 as usize - 1]);
            let sites = mine.clone().filter(|t| matches!(t.mcc, "5967" | "4816")).count();
            let texts = mine.filter(|t| {
                ["@", "show", "webcam", "pics", "session"].iter().any(|word| t.memo.contains(word))
            });
            let shown = sites >= 2 || texts.count() >= 1;
            assert_eq!(shown, plant.variant == Variant::Plain, "{plant:?}");
        }
    }

    #[test]
    fn forty_days_have_room_for_all_that_is_planted() {
        for seed in 0..12 {
            let options = Options {
                seed,
                customers: 24,
                days: 40,
                networks: 3,
                stealthy: 3,
                look_alikes: 4,
                typologies: Vec::new(),
            };
            for plant in simulate(&options).bank.planted() {
                assert!(plant.transactions.len() >= 2, "{seed}: {plant:?}");
            }
        }
    }
}
