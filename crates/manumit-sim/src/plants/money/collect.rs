//! Many pay one account.

use crate::draw::{AT_HOME, SHOPPING};
use crate::life::{external, own, tx};
use crate::plants::{Planter, Variant};

impl Planter<'_> {
    /// Many pay one account, which sends it on again and again. Stealthy: fewer a week, or the money rests, or leaves as cash.
    /// Look-alike: collectors for a present or a holiday, a landlord, the treasurer of a group.
    pub(super) fn collector(&mut self, variant: Variant) {
        if variant.innocent() {
            return self.collects_for_others();
        }
        let hidden = variant.stealthy();
        let way = self.draw.index(3);
        let person = if self.draw.chance(75) { self.person() } else { self.neighbour() };
        let plant = self.begin("fan-in-fast-out", &person.account, variant);
        let weeks = self.draw.count(1, 4).min(self.last_day() / 7 - 1);
        let first = self.first_day(weeks * 7 + 2);
        let each_week = if hidden && way == 0 { self.draw.count(3, 5) } else { self.draw.count(8, 16) };
        let (largest, principals) = (self.draw.int(150, 950), if self.draw.chance(70) { 1 } else { 2 });
        // Half of the payers come again.
        let payers = (each_week * weeks).div_ceil(2).max(each_week);
        let mut waiting = 0;
        for k in 0..each_week * weeks {
            let day = (first + k * 7 / each_week).min(self.last_day());
            let (seconds, amount) = (self.draw.time(&AT_HOME), self.draw.skewed(40, largest) * 100);
            let mut paid = tx(self.calendar, day, seconds, "p2p", "mobile", amount);
            paid.debtor = external(&format!("PAYER-F{plant}-{}", k % payers), "A. B.");
            paid.creditor = own(&person);
            waiting += amount;
            if self.draw.chance(45) || k + 1 == each_week * weeks {
                let hours = if hidden && way == 1 { self.draw.int(180, 300) } else { self.draw.int(1, 26) };
                let cash = hidden && way == 2;
                let (kind, channel) = if cash { ("cash_out", "atm") } else { ("transfer", "online") };
                let share = self.draw.int(82, 99);
                let mut out = self.after(&paid, hours, kind, channel, waiting * share / 100);
                out.debtor = own(&person);
                if !cash {
                    let to = self.draw.index(principals);
                    out.creditor = external(&format!("ONWARD{plant}-{to}"), "L. C.");
                }
                waiting = 0;
                self.put(plant, out);
            }
            self.put(plant, paid);
        }
    }

    fn collects_for_others(&mut self) {
        let kind = self.draw.index(4);
        let person = self.neighbour();
        let plant = self.begin("fan-in-fast-out", &person.account, Variant::LookAlike);
        // A present, a holiday of friends, rents of a house, fees of a group: how many, least and most, days, share spent.
        let (count, low, high, days, share) = match kind {
            0 => (self.draw.count(8, 14), 10, 40, 5, 100),
            1 => (self.draw.count(6, 9), 250, 450, 8, 98),
            2 => (self.draw.count(6, 8), 450, 800, 4, 40),
            _ => (self.draw.count(8, 20), 20, 60, 10, self.draw.int(40, 90)),
        };
        let first = self.first_day(days + 5);
        // What is collected has one price; rents differ.
        let price = self.draw.int(low, high) * 100;
        let mut sum = 0;
        for k in 0..count {
            let amount = if kind == 2 { self.draw.int(low, high) * 100 } else { price };
            let (day, seconds) = (first + self.draw.count(0, days), self.draw.time(&AT_HOME));
            let mut paid = tx(self.calendar, day.min(self.last_day()), seconds, "p2p", "mobile", amount);
            paid.debtor = external(&format!("FRIENDS{plant}-{k}"), "C. D.");
            paid.creditor = own(&person);
            paid.memo = ["Geschenk", "Urlaub", "Miete", "Beitrag"][kind].into();
            sum += amount;
            self.put(plant, paid);
        }
        let last = (first + days + self.draw.count(1, 3)).min(self.last_day());
        let seconds = self.draw.time(&SHOPPING);
        let by_card = kind == 0 && self.draw.chance(50);
        let (order, channel) = match kind {
            2 => ("direct_debit", "batch"),
            _ if by_card => ("card", "pos"),
            _ => ("transfer", "online"),
        };
        // A holiday is paid as a deposit and the rest.
        let parts = if kind == 1 { 2 } else { 1 };
        for part in 0..parts {
            let amount = sum * share / 100 / parts;
            let mut spent = tx(self.calendar, last, seconds + part * 1_200, order, channel, amount);
            spent.debtor = own(&person);
            if by_card {
                (spent.mcc, spent.merchant) = ("5732", "Elektronik Nord".into());
            } else {
                let payee = ["Fahrradladen", "Ferienhaus Agentur", "Hausbank", "Turnverband"][kind];
                spent.creditor = external(&format!("PAID{plant}"), payee);
            }
            self.put(plant, spent);
        }
    }
}
