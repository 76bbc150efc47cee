//! Sextortion.

use chrono::TimeDelta;

use crate::calendar::HOUR;
use crate::draw::EVENING;
use crate::life::{external, own, tx};
use crate::plants::{Kind, Planter, Variant};

/// What is planted.
pub(crate) const KINDS: &[Kind] = &[
    Kind { typology: "sextortion-victim-burst", plant: |planter, variant| planter.frightened(variant) },
    Kind { typology: "sextortion-mule", plant: |planter, variant| planter.mule(variant) },
];

impl Planter<'_> {
    /// A blackmailed young payer. Look-alike: somebody who pays a friend for tickets, twice.
    fn frightened(&mut self, variant: Variant) {
        let innocent = variant.innocent();
        let mut person = self.neighbour();
        let age = if innocent { self.draw.int(30, 60) } else { self.draw.int(15, 22) };
        person.born_on = Some(self.calendar.date(0) - TimeDelta::days(age * 365 + 100));
        self.keep(&person);
        let plant = self.begin("sextortion-victim-burst", &person.account, variant);
        let day = self.draw.count(5, self.last_day().saturating_sub(2).max(6));
        let payee = external(&format!("PAYEE{plant}"), "J. D.");
        let start = if innocent { 14 * HOUR } else { 21 * HOUR + self.draw.int(0, 4 * HOUR) };
        for k in 0..if innocent { 2 } else { self.draw.int(4, 7) } {
            let seconds = start + k * self.draw.int(600, 2_400);
            let amount = self.draw.int(30, 200) * 100;
            let mut paid = tx(self.calendar, day, seconds, "p2p", "mobile", amount);
            paid.debtor = own(&person);
            paid.creditor.clone_from(&payee);
            paid.memo = if innocent {
                "Tickets".into()
            } else {
                ["", "please stop", "bitte lösch es", ""][k as usize % 4].into()
            };
            self.put(plant, paid);
        }
    }

    /// The account that collects from blackmailed payers. Look-alike: a parent who collects for a class trip.
    fn mule(&mut self, variant: Variant) {
        let innocent = variant.innocent();
        let mut person = if innocent { self.neighbour() } else { self.person() };
        if !innocent {
            person.opened_on = self.calendar.date(0) - TimeDelta::days(20);
            self.keep(&person);
        }
        let plant = self.begin("sextortion-mule", &person.account, variant);
        let first = self.draw.count(1, 45.min(self.last_day().saturating_sub(8).max(2)));
        for k in 0..self.draw.count(9, 14) {
            let mut payer = self.neighbour();
            let age = if innocent { self.draw.int(32, 55) } else { self.draw.int(14, 19) };
            payer.born_on = Some(self.calendar.date(0) - TimeDelta::days(age * 365 + 50));
            self.keep(&payer);
            let day = (first + self.draw.count(0, 4)).min(self.last_day());
            let amount = if innocent { 8_000 } else { self.draw.int(30, 180) * 100 };
            let seconds = self.draw.time(&EVENING);
            let mut paid = tx(self.calendar, day, seconds, "p2p", "mobile", amount);
            paid.debtor = own(&payer);
            paid.creditor = own(&person);
            if innocent {
                paid.memo = "Klassenfahrt".into();
            } else {
                let mut out = self.after(
                    &paid,
                    5,
                    if k % 2 == 0 { "wire" } else { "card" },
                    "online",
                    amount * 95 / 100,
                );
                out.debtor = own(&person);
                if k % 2 == 0 {
                    out.creditor = external(&format!("EXIT{plant}"), "Y. K.");
                    out.creditor_country = "CI";
                } else {
                    out.mcc = "6051";
                    out.merchant = "Coin Kiosk".into();
                }
                self.put(plant, out);
            }
            self.put(plant, paid);
        }
        if innocent {
            let day = (first + 12).min(self.last_day());
            let mut bill = tx(self.calendar, day, 10 * HOUR, "transfer", "online", 70_000);
            bill.debtor = own(&person);
            bill.creditor = external("HOSTEL", "Jugendherberge");
            self.put(plant, bill);
        }
    }
}
