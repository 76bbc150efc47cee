//! Crimes that people are forced to commit.

use crate::calendar::{DAY, HOUR};
use crate::draw::{AT_HOME, MEALS, OFFICE};
use crate::life::{external, own, tx};
use crate::people::{Customer, Place};
use crate::plants::payday::{
    NAMES, belongs, benefit, controller, draw_cash, live_from, machine, pass_on, scrape_by, way,
};
use crate::plants::{Kind, Planter, Variant};

/// What is planted.
pub(crate) const KINDS: &[Kind] = &[
    Kind { typology: "benefit-custodian", plant: |planter, variant| planter.custodian(variant) },
    Kind { typology: "benefit-custodian-device", plant: |planter, variant| planter.custodian_phone(variant) },
    Kind { typology: "scam-compound-release", plant: |planter, variant| planter.held_relative(variant) },
];

impl Planter<'_> {
    /// Benefits of several people come to one account. Hidden: without the names, or drawn slowly, or three people an account.
    /// Look-alikes: carers who pay bills and pocket money, patchwork families, shelters.
    fn custodian(&mut self, variant: Variant) {
        let hidden = way(self, variant, 3);
        let innocent = variant.innocent();
        let kind = self.draw.index(4);
        let mut holder = if innocent { self.neighbour() } else { controller(self) };
        holder.npo = innocent && kind == 3;
        self.keep(&holder);
        let plant = self.begin("benefit-custodian", &holder.customer, variant);
        let size = match (innocent, kind, hidden) {
            (true, 1, _) => self.draw.count(2, 3),
            (true, 3, _) => self.draw.count(8, 16),
            (true, _, _) => self.draw.count(3, 6),
            (_, _, Some(2)) => 3,
            _ => 4 + self.draw.skewed(0, 9) as u32,
        };
        // Most offices pay on one day of the month, some by the person.
        let (one_day, first) = (self.draw.chance(50), self.draw.count(1, 26));
        let names = self.draw.choose(NAMES.len(), size as usize);
        let people: Vec<(usize, i64, u32)> = names
            .into_iter()
            .map(|name| {
                let of_month = if one_day { first } else { (first + self.draw.count(0, 6)).min(28) };
                (name, self.draw.int(35, 95) * 1_000 + self.draw.int(0, 999), of_month)
            })
            .collect();
        let terminal = machine(self, &holder);
        let cash = self.draw.chance(70);
        let last = self.last_day();
        for day in 0..=last {
            let mut sum = 0;
            let mut latest = None;
            for &(name, amount, of_month) in &people {
                if !self.calendar.runs(of_month, day) {
                    continue;
                }
                let mut paid = benefit(self, day, &holder, amount);
                if hidden != Some(0) {
                    paid.ultimate_creditor = NAMES[name].into();
                }
                self.put(plant, paid.clone());
                sum += amount;
                if innocent && kind == 2 {
                    // Pocket money, drawn for them at once.
                    let hours = self.draw.int(6, 30);
                    draw_cash(self, plant, &paid, hours, amount * 25 / 100, &terminal, &holder);
                }
                if innocent && kind != 1 {
                    // Bills, each when it is due.
                    for (to, share) in [("LANDLORD-B", 45), ("DAYCARE", 15)] {
                        let days = self.draw.int(1, 16);
                        let payee = external(&format!("{to}{name}"), "Wohnen und Leben");
                        let mut bill =
                            self.after(&paid, days * 24, "transfer", "online", amount * share / 100);
                        (bill.debtor, bill.creditor) = (own(&holder), payee);
                        self.put(plant, bill);
                    }
                }
                latest = Some(paid);
            }
            let Some(latest) = latest.filter(|_| !innocent) else { continue };
            let mut hours = self.draw.int(4, 14) + if hidden == Some(1) { 40 } else { 0 };
            let mut left = sum * self.draw.int(80, 99) / 100;
            while left >= 3_000 {
                let amount = left.min(self.draw.int(30, 100) * 1_000);
                if cash {
                    draw_cash(self, plant, &latest, hours, amount, &terminal, &holder);
                } else {
                    let behind = external(&format!("BEHIND-B{plant}"), "R. B.");
                    belongs(self, plant, &behind);
                    pass_on(self, plant, &latest, hours, amount, &behind, "");
                }
                left -= amount;
                hours += if hidden == Some(1) { 30 } else { self.draw.int(0, 1) };
            }
        }
    }

    /// Several people's accounts, whose benefits one device sends on. Hidden: a device each, two days later, or two thirds.
    /// Look-alikes: carers who pay rents, a family on one computer, neighbours who are helped.
    fn custodian_phone(&mut self, variant: Variant) {
        let hidden = way(self, variant, 3);
        let innocent = variant.innocent();
        let kind = self.draw.index(3);
        let boss = controller(self);
        let device = format!("DV-B{}", &boss.customer[1..]);
        let plant = self.begin("benefit-custodian-device", &device, variant);
        let size = if innocent { self.draw.count(3, 8) } else { 4 + self.draw.skewed(0, 8) as u32 };
        let people: Vec<(Customer, i64)> = (0..size)
            .map(|_| {
                let mut person = self.person();
                if hidden != Some(0) {
                    person.device.clone_from(&device);
                }
                if innocent && kind == 1 {
                    person.household.clone_from(&boss.household);
                }
                self.keep(&person);
                (person, self.draw.int(38, 95) * 1_000 + self.draw.int(0, 999))
            })
            .collect();
        let (one_day, first) = (self.draw.chance(60), self.draw.count(1, 26));
        let share = self.draw.int(84, 98);
        let two_pockets = self.draw.chance(30);
        let second = external(&format!("POCKET-B{plant}"), "S. T.");
        if !innocent {
            belongs(self, plant, &second);
        }
        // Housing for people in care: of a company, or of a charity.
        let mut home = self.firm("Betreutes Wohnen", "nursing and care");
        home.npo = true;
        self.keep(&home);
        let home =
            if self.draw.chance(50) { own(&home) } else { external("HOUSING", "Wohnungsgesellschaft") };
        let last = self.last_day();
        // When whoever holds the device sits down to it.
        let hour = self.draw.int(8, 20);
        for (number, (person, amount)) in people.iter().enumerate() {
            let of_month = if one_day { first } else { (first + self.draw.count(0, 2)).min(28) };
            for day in self.calendar.monthly(of_month) {
                let paid = benefit(self, day, person, *amount);
                self.put(plant, paid.clone());
                if !innocent && self.draw.chance(5) {
                    continue;
                }
                let pace = self.draw.int(60, 240);
                let mut sent = self.after(&paid, 0, "transfer", "mobile", amount * share / 100);
                sent.time = self.calendar.at(day, hour * HOUR) + number as i64 * pace;
                match hidden {
                    Some(1) => sent.time += 2 * DAY,
                    Some(2) => sent.amount = amount * 65 / 100,
                    _ => {}
                }
                (sent.debtor, sent.creditor) = (own(person), own(&boss));
                if two_pockets && number % 2 == 1 {
                    sent.creditor.clone_from(&second);
                }
                if innocent {
                    let (to, share) = [
                        (external(&format!("RENT-{number}"), "Vermieter"), 55),
                        (own(&boss), 85),
                        (home.clone(), self.draw.int(45, 75)),
                    ][kind]
                        .clone();
                    (sent.creditor, sent.amount) = (to, amount * share / 100);
                    sent.time += self.draw.int(0, 2) * DAY;
                }
                sent.offset = self.calendar.offset(sent.time);
                self.put(plant, sent);
            }
            if innocent {
                live_from(self, person, 0, 1, last);
            } else if self.draw.chance(30) {
                scrape_by(self, person, 1, last);
            }
        }
    }

    /// A family pays to free somebody. Hidden: by way of a third country, in parts over weeks, or without words.
    /// Look-alikes: travellers, students, people with family there, first-time savers in crypto.
    fn held_relative(&mut self, variant: Variant) {
        let hidden = way(self, variant, 3);
        let innocent = variant.innocent();
        let kind = self.draw.index(4);
        let country = ["KH", "MM", "LA"][self.draw.index(3)];
        let mut payer = self.neighbour();
        if innocent && kind == 2 {
            payer.nationality = country;
            payer.born_in = country;
            self.keep(&payer);
        }
        let plant = self.begin("scam-compound-release", &payer.customer, variant);
        // The bank has known the family for a while.
        let day = self.draw.count(33, self.last_day().saturating_sub(9).max(34));
        let sum = self.draw.skewed(220, 1_500) * 1_000;
        if innocent {
            return self.abroad_in_peace(plant, &payer, kind, country, day, sum);
        }
        let crypto = self.draw.chance(30);
        let parts = self.draw.int(1, 4);
        let (was_there, others) = (self.draw.chance(35), self.draw.chance(40) && !crypto);
        let words = self.draw.chance(60) || !was_there && !others;
        let mut payers = vec![payer.clone()];
        if others && hidden != Some(2) {
            payers.extend((0..self.draw.int(1, 2)).map(|_| self.neighbour()));
        }
        let memos = [
            "contract release",
            "Vertrag auflösen",
            "Schulden",
            "Freilassung",
            "passport fee",
            "compensation company",
            "debt of my son",
        ];
        let payee = external(&format!("COMPOUND{plant}"), "Sunrise Development");
        for (number, payer) in payers.iter().enumerate() {
            let begin = if number == 0 { day } else { day.saturating_sub(self.draw.count(0, 20)).max(32) };
            if was_there && hidden != Some(2) {
                // The relative's last days outside, with a card of the family.
                for back in 1..=self.draw.count(2, 4) {
                    let on = begin.saturating_sub(9 + back * 2);
                    self.spent_there(plant, payer, country, on);
                }
            }
            for part in 0..parts {
                let on = if hidden == Some(1) { begin + part as u32 * 9 } else { begin + part as u32 * 2 };
                let seconds = self.draw.time(&AT_HOME);
                let amount = sum / parts * self.draw.int(95, 110) / 100;
                let (kind, channel) = if crypto { ("crypto", "mobile") } else { ("wire", "online") };
                let mut paid = tx(self.calendar, on.min(self.last_day()), seconds, kind, channel, amount);
                paid.debtor = own(payer);
                if crypto {
                    paid.creditor = external("EXCHANGE", "Coin Exchange");
                    (paid.asset, paid.wallet) = ("USDT", format!("T{plant}xRelease"));
                } else {
                    paid.creditor.clone_from(&payee);
                    paid.creditor_country = if hidden == Some(0) { "TH" } else { country };
                }
                if words && hidden != Some(2) && (part == 0 || self.draw.chance(60)) {
                    paid.memo = memos[self.draw.index(memos.len())].into();
                }
                self.put(plant, paid);
            }
            // They ask for more.
            let mut more = tx(
                self.calendar,
                (begin + 16).min(self.last_day()),
                self.draw.time(&AT_HOME),
                "wire",
                "online",
                sum / 3,
            );
            (more.debtor, more.creditor, more.creditor_country) = (own(payer), payee.clone(), country);
            self.put(plant, more);
        }
    }

    fn spent_there(&mut self, plant: u32, payer: &Customer, country: &'static str, day: u32) {
        let (city, latitude, longitude) = match country {
            "KH" => ("Sihanoukville", 10.6253, 103.5234),
            "MM" => ("Myawaddy", 16.6897, 98.5089),
            _ => ("Bokeo", 20.2870, 100.4148),
        };
        let mut bought =
            tx(self.calendar, day, self.draw.time(&MEALS), "card", "pos", self.draw.price(500, 9_000));
        bought.debtor = own(payer);
        (bought.mcc, bought.merchant) = ("5812", format!("Restaurant {city}"));
        bought.place = Some(Place { city, country, latitude, longitude });
        self.put(plant, bought);
    }

    fn abroad_in_peace(
        &mut self,
        plant: u32,
        payer: &Customer,
        kind: usize,
        country: &'static str,
        day: u32,
        sum: i64,
    ) {
        // A tour paid before it begins; a study fee; family; a saver in crypto.
        let memo = ["Rundreise Angkor", "Studiengebühr", "für die Familie", ""][kind];
        for part in 0..2 {
            let seconds = self.draw.time(&OFFICE);
            let (method, channel) = if kind == 3 { ("crypto", "mobile") } else { ("wire", "online") };
            let mut paid = tx(self.calendar, day + part * 3, seconds, method, channel, sum / 2);
            paid.debtor = own(payer);
            paid.creditor = external(&format!("PEACE{plant}"), "Empfänger");
            if kind < 3 {
                paid.creditor_country = country;
            }
            paid.purpose = if kind == 1 { "STDY" } else { "" };
            paid.memo = memo.into();
            self.put(plant, paid);
        }
        if kind == 0 {
            for k in 0..self.draw.count(4, 9) {
                let on = (day + 12 + k).min(self.last_day() + 10);
                self.spent_there(plant, payer, country, on);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::calendar::Calendar;
    use crate::{Options, Planted, Variant, simulate};

    #[test]
    fn families_of_the_held_pay_when_the_bank_has_known_them_for_a_month() {
        let options = Options {
            seed: 5,
            customers: 60,
            days: 90,
            networks: 6,
            stealthy: 0,
            look_alikes: 0,
            typologies: Vec::new(),
        };
        let simulation = simulate(&options);
        let is = |p: &&Planted| p.typology == "scam-compound-release" && p.variant == Variant::Plain;
        let month = Calendar::new(90).at(31, 0);
        let mut paid = 0;
        for plant in simulation.bank.planted().iter().filter(is) {
            for (number, time, _) in &plant.transactions {
                let transaction = &simulation.transactions[*number as usize - 1];
                if matches!(transaction.kind, "wire" | "crypto") {
                    assert!(*time >= month, "{transaction:?}");
                    paid += transaction.amount;
                }
            }
        }
        assert!(paid >= 6 * 200_000, "{paid}");
    }
}
