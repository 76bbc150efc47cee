//! Who is paid by several buyers abroad, and people whom others abroad pay for honest things.

use crate::draw::{CASH, NIGHT, OFFICE};
use crate::life::{external, own, tx};
use crate::people::home;
use crate::plants::{Planter, Variant};

const BUYERS: [&str; 6] = ["P. Turner", "M. Reed", "S. Clarke", "L. Berg", "T. Novak", "J. White"];
const WEALTHY: [&str; 6] = ["GB", "US", "AU", "SE", "CA", "NL"];

impl Planter<'_> {
    /// Small credits from abroad, cashed at once. Stealthy: a few a month on an account, or all through one money service, or
    /// the cash rests for days. Look-alike: freelancers, sellers, families with several emigrants.
    pub(super) fn facilitator(&mut self, variant: Variant) {
        if variant.innocent() {
            return self.paid_from_abroad();
        }
        let hidden = variant.stealthy();
        let way = self.draw.index(3);
        let person = if self.draw.chance(50) { self.neighbour() } else { self.person() };
        let plant = self.begin("ocse-facilitator", &person.account, variant);
        let span = self.draw.count(20, 45).min(self.last_day() - 6);
        let first = self.first_day(span + 2);
        let (buyers, most) = (self.draw.count(4, 11), self.draw.count(10, 26) * span / 30);
        let credits = if hidden && way == 0 { span * 6 / 30 } else { most.max(9) };
        for k in 0..credits {
            let day = first + k * span / credits + self.draw.count(0, 1);
            let hours = if self.draw.chance(75) { &NIGHT } else { &OFFICE };
            let seconds = self.draw.time(hours);
            // AMLC-01: PHP 1,000 to 3,000, which is about 15 to 50 euros; here a little more.
            let amount = self.draw.skewed(15, 125) * 100;
            let buyer = if k < buyers { k } else { self.draw.count(0, buyers - 1) };
            let mut credit = tx(self.calendar, day, seconds, "wire", "online", amount);
            credit.debtor = if hidden && way == 1 {
                external("MONEYSERVICE", "Remit Express")
            } else {
                external(&format!("ABROAD{plant}-{buyer}"), BUYERS[buyer as usize % 6])
            };
            credit.debtor_country = WEALTHY[buyer as usize % 6];
            credit.creditor = own(&person);
            let rests = if hidden && way == 2 { self.draw.int(30, 70) } else { self.draw.int(0, 9) };
            // Nearly always cash; now and then a friend's account.
            let (kind, channel) = if self.draw.chance(88) { ("cash_out", "atm") } else { ("p2p", "mobile") };
            let share = self.draw.int(80, 99);
            let mut out = self.after(&credit, rests, kind, channel, amount * share / 100);
            out.debtor = own(&person);
            if kind == "cash_out" {
                out.place = home(person.city);
            } else {
                out.creditor = external(&format!("FRIEND{plant}"), "G. L.");
            }
            self.put(plant, out);
            self.put(plant, credit);
        }
    }

    fn paid_from_abroad(&mut self) {
        let person = self.neighbour();
        let plant = self.begin("ocse-facilitator", &person.account, Variant::LookAlike);
        let span = 50.min(self.last_day() - 4);
        let first = self.first_day(span);
        // A freelancer, somebody who sells used things, and a family whose emigrants send something each month.
        let kind = self.draw.index(3);
        let (senders, monthly, low, high) = [(4, 5, 90, 600), (40, 12, 8, 70), (4, 5, 50, 150)][kind];
        for k in 0..monthly * span / 30 {
            let (day, seconds) = (first + k * 30 / monthly, self.draw.time(&OFFICE));
            let (sender, amount) = (self.draw.index(senders), self.draw.int(low, high) * 100);
            let mut credit = tx(self.calendar, day.min(self.last_day()), seconds, "wire", "online", amount);
            credit.debtor = external(&format!("OVERSEAS{plant}-{sender}"), BUYERS[sender % 6]);
            credit.debtor_country = WEALTHY[sender % 6];
            credit.creditor = own(&person);
            credit.memo = [format!("invoice {k}"), "order".into(), String::new()][kind].clone();
            self.put(plant, credit);
            // Families that live on cash draw much of it, though not by the hour.
            if kind == 2 && self.draw.chance(70) {
                let (later, seconds) = (day + self.draw.count(0, 3), self.draw.time(&CASH));
                let drawn = self.draw.int(2, 15) * 1_000;
                let mut cash =
                    tx(self.calendar, later.min(self.last_day()), seconds, "cash_out", "atm", drawn);
                (cash.debtor, cash.place) = (own(&person), home(person.city));
                self.put(plant, cash);
            }
        }
    }
}
