//! Sexual exploitation.

use crate::calendar::HOUR;
use crate::draw::{EVENING, OFFICE};
use crate::life::{external, own, tx};
use crate::people::{CITIES, home};
use crate::plants::{Kind, Planter, Variant};

/// What is planted.
pub(crate) const KINDS: &[Kind] = &[
    Kind { typology: "circuit-travel-cash", plant: |planter, variant| planter.circuit(variant) },
    Kind { typology: "price-band-fan-in", plant: |planter, variant| planter.price_band(variant) },
];

impl Planter<'_> {
    /// Cities, hotels, cash. Look-alike: a sales representative who pays hotels and meals by card.
    fn circuit(&mut self, variant: Variant) {
        let innocent = variant.innocent();
        let mut person = if innocent { self.neighbour() } else { self.person() };
        if innocent {
            person.occupation = "sales representative";
            self.keep(&person);
        }
        let plant = self.begin("circuit-travel-cash", &person.customer, variant);
        let mut day = self.draw.count(3, self.last_day().saturating_sub(24).max(4));
        let stops: Vec<usize> =
            self.draw.choose(CITIES.len(), 6).into_iter().filter(|c| *c != person.city).take(4).collect();
        for city in stops {
            let card = |planter: &mut Self, mcc, name: &str, seconds, amount| {
                let mut bought = tx(planter.calendar, day, seconds, "card", "pos", amount);
                bought.debtor = own(&person);
                bought.mcc = mcc;
                bought.merchant = format!("{name} {}", CITIES[city].0);
                bought.place = home(city);
                planter.put(plant, bought);
            };
            let (fare, room) = (self.draw.int(2_000, 9_000), self.draw.int(6_000, 16_000));
            card(self, "4112", "Bahn", 11 * HOUR, fare);
            card(self, "7011", "Hotel", 15 * HOUR, room);
            if !innocent || self.draw.chance(30) {
                for _ in 0..self.draw.int(1, 2) {
                    let seconds = 22 * HOUR + self.draw.int(0, 7 * HOUR);
                    let amount = self.draw.int(10, 60) * 1_000;
                    let mut cash = tx(self.calendar, day, seconds, "cash_in", "atm", amount);
                    cash.creditor = own(&person);
                    cash.place = home(city);
                    cash.depositor = person.customer.clone();
                    self.put(plant, cash);
                }
            }
            day = (day + self.draw.count(3, 5)).min(self.last_day());
        }
    }

    /// Clients by transfer in the evening. Look-alike: a tutor with weekly pupils by day.
    fn price_band(&mut self, variant: Variant) {
        let innocent = variant.innocent();
        let person = if innocent { self.neighbour() } else { self.person() };
        let controller = self.neighbour();
        let plant = self.begin("price-band-fan-in", &person.account, variant);
        let first = self.draw.count(1, self.last_day().saturating_sub(30).max(2));
        let prices = [10_000, 15_000, 20_000];
        for k in 0..self.draw.count(22, 34) {
            let day = (first + self.draw.count(0, 27)).min(self.last_day());
            let seconds = self.draw.time(if innocent { &OFFICE } else { &EVENING });
            let amount = if innocent { 4_500 } else { prices[self.draw.index(3)] };
            let mut paid = tx(self.calendar, day, seconds, "p2p", "mobile", amount);
            let payer = if innocent { k % 7 } else { k };
            paid.debtor = external(&format!("CLIENT-P{plant}-{payer}"), "T. S.");
            paid.creditor = own(&person);
            if !innocent && k % 9 == 4 {
                paid.memo = "outcall".into();
            }
            if !innocent {
                let mut on = self.after(&paid, 4, "transfer", "online", amount * 8 / 10);
                on.debtor = own(&person);
                on.creditor = own(&controller);
                self.put(plant, on);
            }
            self.put(plant, paid);
        }
    }
}
