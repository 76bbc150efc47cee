//! A sum is spread over many accounts.

use crate::calendar::HOUR;
use crate::draw::{AT_HOME, OFFICE};
use crate::life::{external, own, tx};
use crate::plants::{Planter, Variant};

impl Planter<'_> {
    /// What came in is spread over many accounts within days. Stealthy: few at a time, or a part as cash. Look-alike: bills
    /// after pay day, a refund shared among friends, presents to grandchildren.
    pub(super) fn spreader(&mut self, variant: Variant) {
        if variant.innocent() {
            return self.pays_many();
        }
        let hidden = variant.stealthy();
        let person = if self.draw.chance(75) { self.person() } else { self.neighbour() };
        let plant = self.begin("fan-out-burst", &person.account, variant);
        let (receivers, days) = (self.draw.count(7, 20), self.draw.count(0, 3));
        let days = if hidden { receivers } else { days };
        let first = self.first_day(days + 3);
        let sum = self.draw.skewed(30, 240) * 10_000;
        let credits = self.draw.count(1, 3);
        for k in 0..credits {
            let seconds = 6 * HOUR + self.draw.int(0, 2 * HOUR);
            let mut credit =
                tx(self.calendar, first, seconds, "transfer", "online", sum / i64::from(credits));
            credit.debtor = external(&format!("SOURCE{plant}-{k}"), "K. Import");
            credit.creditor = own(&person);
            self.put(plant, credit);
        }
        let (share, cash) = (self.draw.int(78, 99), hidden && self.draw.chance(50));
        let each = sum * share / 100 / i64::from(receivers);
        for k in 0..receivers {
            let day = (first + (k * (days + 1)) / receivers).min(self.last_day());
            let amount = each * self.draw.int(70, 130) / 100;
            let to = external(&format!("SPREAD{plant}-{k}"), "N. N.");
            if cash && k % 2 == 0 {
                let seconds = self.draw.time(&OFFICE);
                let mut drawn = tx(self.calendar, day, seconds, "cash_out", "atm", amount);
                drawn.debtor = own(&person);
                self.put(plant, drawn);
            } else {
                self.send(plant, day, amount, own(&person), to);
            }
        }
    }

    fn pays_many(&mut self) {
        let kind = self.draw.index(4);
        let person = if kind == 1 { self.person() } else { self.neighbour() };
        let plant = self.begin("fan-out-burst", &person.account, Variant::LookAlike);
        let first = self.first_day(8);
        // Bills by direct debit; bills by transfer after the wage; a refund for all; presents from savings.
        let (count, income) = match kind {
            0 | 1 => (self.draw.count(6, 11), self.draw.int(1_800, 3_600) * 100),
            2 => (self.draw.count(6, 9), self.draw.int(900, 2_600) * 100),
            _ => (self.draw.count(6, 9), 0),
        };
        if income > 0 {
            let mut credit = tx(self.calendar, first, 8 * HOUR, "transfer", "batch", income);
            credit.creditor = own(&person);
            if kind == 2 {
                credit.debtor = external("AGENCY", "Ferienhaus Agentur");
                credit.memo = "Erstattung".into();
            } else {
                credit.debtor = external("EMPLOYER3", "Arbeitgeber AG");
                (credit.purpose, credit.memo) = ("SALA", "Gehalt".into());
            }
            self.put(plant, credit);
        }
        for k in 0..count {
            let day = (first + self.draw.count(0, 2)).min(self.last_day());
            let seconds = self.draw.time(&AT_HOME).max(9 * HOUR);
            let amount = match kind {
                2 => income * 95 / 100 / i64::from(count),
                3 => 5_000,
                _ if k == 0 => income * 3 / 10,
                _ => self.draw.price(1_500, 16_000),
            };
            let order = if kind == 0 { "direct_debit" } else { "transfer" };
            let mut paid = tx(self.calendar, day, seconds, order, "online", amount);
            paid.debtor = own(&person);
            paid.creditor =
                external(&format!("BILLS{plant}-{k}"), ["Stadtwerke", "Telefon", "Enkel"][k as usize % 3]);
            self.put(plant, paid);
        }
        if kind == 1 {
            // Lives from the account, and has no direct debit.
            for day in first..(first + 8).min(self.last_day()) {
                crate::life::purchase(&mut self.draw, &person, self.calendar, day, self.out);
            }
        }
    }
}
