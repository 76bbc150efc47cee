//! Money flows of no one purpose.

use crate::calendar::HOUR;
use crate::draw::OFFICE;
use crate::life::{external, own, purchase, tx};
use crate::people::{CITIES, home};
use crate::plants::{Kind, Planter, Variant};

/// What is planted.
pub(crate) const KINDS: &[Kind] = &[
    Kind { typology: "funnel-across-cities", plant: |planter, variant| planter.funnel(variant) },
    Kind { typology: "fan-in-fast-out", plant: |planter, variant| planter.collector(variant) },
    Kind { typology: "fan-out-burst", plant: |planter, variant| planter.spreader(variant) },
    Kind { typology: "pass-through-account", plant: |planter, variant| planter.relay(variant) },
];

impl Planter<'_> {
    /// Cash in several cities, out elsewhere. Look-alike: a registered club with groups in several cities.
    fn funnel(&mut self, variant: Variant) {
        let innocent = variant.innocent();
        let mut person = self.person();
        if innocent {
            person.npo = true;
            self.keep(&person);
        }
        let plant = self.begin("funnel-across-cities", &person.account, variant);
        let first = self.draw.count(1, self.last_day().saturating_sub(16).max(2));
        let stops: Vec<usize> =
            self.draw.choose(CITIES.len(), 6).into_iter().filter(|c| *c != person.city).take(4).collect();
        for k in 0..self.draw.count(8, 12) as usize {
            let day = (first + k as u32).min(self.last_day());
            let seconds = self.draw.time(&OFFICE);
            let amount = self.draw.int(40, 180) * 1_000;
            let mut cash = tx(self.calendar, day, seconds, "cash_in", "branch", amount);
            cash.creditor = own(&person);
            cash.place = home(stops[k % stops.len()]);
            cash.depositor = format!("person {} {}", plant, k % 4);
            let mut out = self.after(&cash, 6, "cash_out", "atm", amount * 9 / 10);
            out.debtor = own(&person);
            out.place = home(person.city);
            self.put(plant, cash);
            self.put(plant, out);
        }
    }

    /// Many pay one account, which sends it on. Look-alike: who collects for a present and buys it by card.
    fn collector(&mut self, variant: Variant) {
        let innocent = variant.innocent();
        let person = if innocent { self.neighbour() } else { self.person() };
        let plant = self.begin("fan-in-fast-out", &person.account, variant);
        let first = self.draw.count(2, self.last_day().saturating_sub(9).max(3));
        for k in 0..self.draw.count(9, 13) {
            let amount = if innocent { 2_500 } else { self.draw.int(250, 900) * 100 };
            let payer = external(&format!("PAYER-F{plant}-{k}"), "A. B.");
            self.send(plant, first + k / 3, amount, payer, own(&person));
            if !innocent && k % 3 == 2 {
                let onward = external(&format!("ONWARD{plant}"), "L. C.");
                self.send(plant, first + k / 3 + 1, 160_000, own(&person), onward);
            }
        }
        if innocent {
            let day = (first + 5).min(self.last_day());
            purchase(&mut self.draw, &person, self.calendar, day, self.out);
        }
    }

    /// A sum is spread over many accounts. Look-alike: rent and bills after pay day, by direct debit.
    fn spreader(&mut self, variant: Variant) {
        let innocent = variant.innocent();
        let person = if innocent { self.neighbour() } else { self.person() };
        let plant = self.begin("fan-out-burst", &person.account, variant);
        let first = self.draw.count(2, self.last_day().saturating_sub(6).max(3));
        let mut credit = tx(self.calendar, first, 6 * HOUR, "transfer", "batch", 960_000);
        credit.debtor = external(&format!("SOURCE{plant}"), "K. Import");
        credit.creditor = own(&person);
        self.put(plant, credit);
        for k in 0..self.draw.count(9, 12) {
            let to = external(&format!("SPREAD{plant}-{k}"), "N. N.");
            if innocent {
                let day = (first + 1).min(self.last_day());
                let mut bill = tx(self.calendar, day, 6 * HOUR, "direct_debit", "batch", 9_000);
                bill.debtor = own(&person);
                bill.creditor = to;
                self.put(plant, bill);
            } else {
                let amount = self.draw.int(700, 950) * 100;
                self.send(plant, first, amount, own(&person), to);
            }
        }
    }

    /// What comes in from some goes out to others, again and again. Look-alike: a flat share whose rent one pays.
    fn relay(&mut self, variant: Variant) {
        let innocent = variant.innocent();
        let person = if innocent { self.neighbour() } else { self.person() };
        let plant = self.begin("pass-through-account", &person.account, variant);
        let first = self.draw.count(2, self.last_day().saturating_sub(18).max(3));
        for round in 0..if innocent { 2 } else { 5 } {
            let day = first + round * 3;
            let amount = self.draw.int(400, 900) * 100;
            for k in 0..2 {
                let from = external(&format!("FROM{plant}-{}", (round + k) % 4), "R. S.");
                self.send(plant, day, amount, from, own(&person));
            }
            if innocent {
                let landlord = external(&format!("LANDLORD{plant}"), "Vermieter");
                self.send(plant, day + 1, amount * 3, own(&person), landlord);
            } else {
                for k in 0..2 {
                    let to = external(&format!("TO{plant}-{}", (round + k) % 4), "V. W.");
                    self.send(plant, day + 1, amount * 98 / 100, own(&person), to);
                }
            }
        }
    }
}
