//! Smuggling of people.
//!
//! # Source
//! Payments of families to accounts near a crossing, kept under USD 3,000 and gone within days: FinCEN (2014, 2023); fees
//! leg by leg: FinCEN (2023), FATF (2022); boats, vans and tickets: FIAU (2024). Wires of USD 1,000 to 1,700 to border
//! towns: an affidavit that ACAMS Today quotes. Counts are priors of our own.

use crate::draw::{AT_HOME, EVENING, OFFICE, SHOPPING, TRAVEL};
use crate::life::{external, own};
use crate::people::{CITIES, Customer, home};
use crate::plants::{Kind, Party, Planter, Variant};

/// What is planted.
pub(crate) const KINDS: &[Kind] = &[
    Kind { typology: "border-funnel", plant: |planter, variant| planter.border(variant) },
    Kind { typology: "smuggling-fee-relay", plant: |planter, variant| planter.journey(variant) },
    Kind { typology: "smuggling-logistics", plant: |planter, variant| planter.gear(variant) },
];

/// Where the last stage of the route begins among places: a border.
const BORDER: usize = CITIES.len() + 4;
/// Payment texts of families.
const WORDS: [&str; 8] = ["", "", "", "family", "for the guide", "passport", "visa", "Grenze"];

impl Planter<'_> {
    /// Money of somebody in `city`: a wire or cash at a branch there, or a transfer of a customer who lives there.
    fn paid_afar(&mut self, plant: u32, day: u32, city: usize, amount: i64, to: &Customer, texts: &[&str]) {
        let k = self.out.len() as u32;
        let mut paid = match self.draw.int(0, 9) {
            0..3 => {
                let mut sender = self.neighbour();
                sender.city = city;
                self.keep(&sender);
                self.payment(day, &AT_HOME, "transfer", amount, own(&sender), own(to))
            }
            3..5 => self.cash_in(to, day, &OFFICE, city, amount, &format!("relative {plant} {k}")),
            _ => {
                let sender = self.stranger("RELATIVE", plant, k);
                self.payment(day, &OFFICE, "wire", amount, sender, own(to))
            }
        };
        paid.place = if paid.kind == "transfer" { None } else { home(city) };
        if paid.kind != "cash_in" {
            paid.memo = texts[self.draw.index(texts.len())].into();
        }
        self.put(plant, paid);
    }

    /// What came in leaves: cash at the border, or a wire abroad.
    fn leaves(&mut self, plant: u32, from: &Customer, day: u32, amount: i64) {
        let mut left = if self.draw.chance(50) {
            self.cash_out(from, day, from.city, amount)
        } else {
            let to = self.stranger("ONWARD", plant, day % 3);
            let mut wire = self.payment(day, &OFFICE, "wire", amount, own(from), to);
            wire.creditor_country = "TR";
            wire
        };
        left.amount = left.amount.max(1_000);
        self.put(plant, left);
    }

    /// Families of many places pay somebody at a border. Stealthy: three accounts in turn, each of few payers, and the
    /// money stays some days. Look-alikes: who lets a flat there, a church's volunteer, a wedding, a money service.
    fn border(&mut self, variant: Variant) {
        let mut person = if variant.innocent() { self.neighbour() } else { self.person() };
        person.city = BORDER + self.draw.index(2);
        let kind = self.draw.index(5);
        (person.msb, person.npo) = if variant.innocent() { (kind == 0, kind == 1) } else { (false, false) };
        self.keep(&person);
        let plant = self.begin("border-funnel", &person.account, variant);
        let span = self.draw.count(18, 50);
        let first = self.first_day(span);
        let cities = self.draw.count(4, 9) as usize;
        let places = self.draw.choose(CITIES.len(), cities);
        let payments = match variant {
            Variant::Plain => self.draw.count(11, 16) * span.div_ceil(25),
            Variant::Stealthy => (self.draw.count(4, 6) * span / 30).max(3),
            Variant::LookAlike => self.draw.count(6, 18),
        };
        let mut by_day: Vec<i64> = vec![0; span as usize + 1];
        let texts: &[&str] = match (variant.innocent(), kind) {
            (false, _) => &WORDS,
            (true, 0 | 1) => &["", "family", "visa", "Spende", "help"],
            (true, 4) => &["", "alles Gute", "zur Hochzeit"],
            (true, _) => &["", "Ferienwohnung", "Buchung", "Anzahlung Haus"],
        };
        for k in 0..payments {
            let on = match variant {
                Variant::Stealthy => k * span / payments,
                _ => self.draw.count(0, span),
            };
            let amount = if !variant.innocent() {
                self.sum(350, 2_700, 50)
            } else if kind == 4 {
                self.sum(50, 400, 50)
            } else {
                self.sum(150, 900, 10)
            };
            let city = places[self.draw.index(places.len())];
            self.paid_afar(plant, first + on, city, amount, &person, texts);
            by_day[on as usize] += amount;
        }
        // Money services, charities and one in three of those who let a flat for its owner pass it on.
        let passes = !variant.innocent() || kind < 2 || (kind == 2 && self.draw.chance(33));
        let (mut held, mut next) = (0, self.draw.count(1, 3));
        for (on, taken) in (0..).zip(by_day) {
            (held, next) = (held + taken, next.saturating_sub(1));
            if held > 0 && next == 0 && passes {
                let wait = if variant.stealthy() { self.draw.count(4, 7) } else { self.draw.count(0, 1) };
                let amount = held * self.draw.int(80, 97) / 100 / 1_000 * 1_000;
                self.leaves(plant, &person, first + on + wait, amount);
                (held, next) = (0, self.draw.count(1, 3));
            }
        }
        if !variant.innocent() {
            self.shopping(&person, first, span, 6);
        }
    }

    /// Families pay the legs of a journey. Stealthy: one takes all legs of most, or the first leg is paid in cash.
    /// Look-alikes: one family that travels, students who move to one landlord, a holiday on a route.
    fn journey(&mut self, variant: Variant) {
        if variant.innocent() {
            return self.lawful_journey();
        }
        let stage = |stage: usize, of: usize| CITIES.len() + stage * 2 + of;
        let mut last = self.person();
        last.city = stage(2, self.draw.index(2));
        self.keep(&last);
        let plant = self.begin("smuggling-fee-relay", &last.account, variant);
        let first = self.first_day(70);
        let helpers: Vec<(Customer, Party)> = (0..4)
            .map(|k| {
                // Of this bank, or of another whose place the payment names.
                let mut helper = self.person();
                helper.city = stage(k / 2, k % 2);
                self.keep(&helper);
                let party = if self.draw.chance(40) {
                    own(&helper)
                } else {
                    self.stranger("HELPER", plant, k as u32)
                };
                (helper, party)
            })
            .collect();
        let passing = self.draw.chance(85);
        for k in 0..self.draw.count(6, 14) {
            let family = self.neighbour();
            let mut day = first + self.draw.count(0, 30);
            let fee = self.sum(400, 1_600, 50);
            let memo = WORDS[self.draw.index(WORDS.len())];
            for leg in 0..3_usize {
                let (helper, party) = &helpers[(leg * 2 + k as usize % 2).min(3)];
                let (city, to) =
                    if leg == 2 { (last.city, own(&last)) } else { (helper.city, party.clone()) };
                // The last leg is mostly the dearest.
                let times = [self.draw.int(70, 110), self.draw.int(80, 150), self.draw.int(110, 260)][leg];
                let amount = fee * times / 100 / 1_000 * 1_000;
                if variant.stealthy() && leg == 0 && self.draw.chance(70) {
                    let drawn = self.cash_out(&family, day, family.city, amount);
                    self.put(plant, drawn);
                } else {
                    let kind = if leg == 2 || self.draw.chance(60) { "transfer" } else { "wire" };
                    let mut paid = self.payment(day, &AT_HOME, kind, amount, own(&family), to);
                    paid.place = home(city);
                    paid.memo = memo.into();
                    if leg == 2 && passing && !variant.stealthy() {
                        let hours = self.draw.int(1, 22);
                        let mut on = self.after(&paid, hours, "wire", "online", amount * 9 / 10);
                        on.debtor = own(&last);
                        on.creditor = self.stranger("ONWARD", plant, k % 3);
                        self.put(plant, on);
                    }
                    self.put(plant, paid);
                }
                day += self.draw.count(3, 14);
            }
        }
    }

    fn lawful_journey(&mut self) {
        let mut host = self.neighbour();
        host.city = BORDER + self.draw.index(2);
        self.keep(&host);
        let plant = self.begin("smuggling-fee-relay", &host.account, Variant::LookAlike);
        let first = self.first_day(60);
        // A family that pays guest houses on its way, students of one course, pilgrims.
        let kind = self.draw.index(3);
        let groups = [self.draw.count(1, 2), self.draw.count(3, 7), self.draw.count(4, 10)][kind];
        for k in 0..groups {
            let payer = self.neighbour();
            let mut day = first + self.draw.count(0, 20);
            for leg in 0..3_usize {
                let amount = [(180, 600), (250, 900), (350, 700)][leg];
                let (amount, place) =
                    (self.sum(amount.0, amount.1, 10), CITIES.len() + leg * 2 + k as usize % 2);
                let (to, place) = match leg {
                    2 => (own(&host), host.city),
                    _ => (external(&format!("STAY{plant}-{leg}-{}", k % 3), "Gästehaus"), place),
                };
                let mut paid = self.payment(day, &AT_HOME, "transfer", amount, own(&payer), to);
                paid.place = home(place);
                paid.memo = ["Übernachtung", "Kurs und Zimmer", "Pilgerweg"][kind].into();
                self.put(plant, paid);
                day += self.draw.count(2, 14);
            }
        }
        let landlord = self.stranger("OWNER", plant, 0);
        for day in self.calendar.monthly(5) {
            self.send(plant, day, 60_000, own(&host), landlord.clone());
        }
    }

    /// Boats, vans, tickets and phone cards, with money of others. Stealthy: second-hand from people, vans in other names.
    /// Look-alikes: sailors, a club's journey, youth work, tour guides.
    fn gear(&mut self, variant: Variant) {
        let mut person = if variant.innocent() { self.neighbour() } else { self.person() };
        let kind = self.draw.index(4);
        if variant.innocent() && kind == 0 {
            person.occupation = "tour operator";
        }
        if variant.innocent() && kind == 1 {
            person.npo = true;
        }
        self.keep(&person);
        let plant = self.begin("smuggling-logistics", &person.account, variant);
        let span = self.draw.count(20, 55);
        let first = self.first_day(span);
        let mut groups = [false; 4];
        let most = match variant {
            Variant::LookAlike => 1 + usize::from(self.draw.chance(60)),
            _ => self.draw.count(2, 4) as usize,
        };
        self.draw.choose(4, most).into_iter().for_each(|group| groups[group] = true);
        let at_border =
            !variant.innocent() && self.draw.chance(65) || variant.innocent() && self.draw.chance(15);
        let place = if at_border { BORDER + self.draw.index(2) } else { person.city };
        let spent = self.basket(plant, &person, variant, groups, (first, span, place));
        self.funds(plant, &person, variant, spent, (first, span));
    }

    /// Buys of each group; the sum.
    fn basket(
        &mut self,
        plant: u32,
        who: &Customer,
        variant: Variant,
        groups: [bool; 4],
        (first, span, place): (u32, u32, usize),
    ) -> i64 {
        let mut spent = 0;
        let [boats, vans, tickets, phones] = groups;
        let mut buy = |planter: &mut Self, shop: (&'static str, &str), low, high| {
            let day = first + planter.draw.count(0, span);
            let (amount, city) =
                (planter.sum(low, high, 1), if planter.draw.chance(75) { place } else { who.city });
            spent += amount;
            planter.bought(who, day, &SHOPPING, shop, city, amount)
        };
        let innocent = variant.innocent();
        if boats {
            for k in 0..self.draw.count(2, if innocent { 4 } else { 7 }) {
                let shop = [("5551", "Bootshaus"), ("5941", "Tideline Outboards")][k as usize % 2];
                let mut bought = buy(self, shop, 280, if innocent { 900 } else { 3_400 });
                if shop.0 == "5941" {
                    bought.merchant = shop.1.into();
                }
                if variant.stealthy() {
                    // Second-hand, from people.
                    (bought.mcc, bought.merchant, bought.kind) = ("", String::new(), "transfer");
                    bought.channel = "online";
                    bought.creditor = self.stranger("SELLER", plant, k);
                }
                self.put(plant, bought);
            }
        }
        if vans {
            for _ in 0..if variant.stealthy() { 2 } else { self.draw.count(3, 8) } {
                let bought = buy(self, ("7512", "Transporterverleih"), 75, 320);
                self.put(plant, bought);
            }
        }
        if tickets {
            for k in 0..self.draw.count(6, 16) {
                let shop = [("4131", "Fernbus"), ("4112", "Bahn"), ("4411", "Fähre")][k as usize % 3];
                let mut bought = buy(self, shop, 25, 140);
                let other = self.stranger("", plant, k + 3).map_or(String::new(), |(_, name)| name);
                bought.passenger = format!("Passenger {k} {other}");
                bought.route = "Hamburg-Sample Crossing".into();
                self.put(plant, bought);
            }
        }
        if phones {
            for _ in 0..if innocent { self.draw.count(4, 12) } else { self.draw.count(22, 45) } {
                let bought = buy(self, ("4814", "Aufladekarte"), 10, 25);
                self.put(plant, bought);
            }
        }
        spent
    }

    /// Money of several people, or cash that others bring, for what was spent.
    fn funds(&mut self, plant: u32, who: &Customer, variant: Variant, spent: i64, (first, span): (u32, u32)) {
        let payers = self.draw.count(6, 14);
        let others = self.draw.chance(if variant.innocent() { 10 } else { 45 });
        for k in 0..payers {
            let day = first.saturating_sub(3) + self.draw.count(0, span / 2);
            let share =
                (spent * self.draw.int(90, 140) / 100 / i64::from(payers)).max(20_000) / 1_000 * 1_000;
            if others && k % 2 == 0 || variant.stealthy() {
                let depositor =
                    if variant.stealthy() { String::new() } else { format!("visitor {plant} {}", k % 5) };
                let cash = self.cash_in(who, day.max(1), &TRAVEL, who.city, share, &depositor);
                self.put(plant, cash);
            } else {
                let from = self.stranger("PAYER", plant, k);
                let mut paid = self.payment(day.max(1), &EVENING, "p2p", share, from, own(who));
                paid.memo = if variant.innocent() {
                    ["Tour", "Vereinsfahrt", "Segeln", "Freizeit"][k as usize % 4].into()
                } else {
                    WORDS[self.draw.index(WORDS.len())].into()
                };
                self.put(plant, paid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use crate::calendar::DAY;
    use crate::people::ROUTE;
    use crate::{Options, Simulation, Transaction, Variant, simulate};

    fn small() -> Simulation {
        simulate(&Options {
            seed: 9,
            customers: 24,
            days: 90,
            networks: 2,
            stealthy: 3,
            look_alikes: 0,
            typologies: Vec::new(),
        })
    }

    /// The transactions of the networks of one typology and variant.
    fn of<'a>(all: &'a Simulation, typology: &str, variant: Variant) -> Vec<(&'a str, Vec<&'a Transaction>)> {
        let planted = all.bank.planted().iter().filter(|p| p.typology == typology && p.variant == variant);
        let rows = |numbers: &[(u64, i64, i64)]| {
            numbers.iter().map(|t| &all.transactions[t.0 as usize - 1]).collect::<Vec<_>>()
        };
        planted.map(|p| (p.subject.as_str(), rows(&p.transactions))).collect()
    }

    #[test]
    fn families_pay_the_legs_of_a_journey_in_the_order_of_the_route() {
        let all = small();
        for (subject, rows) in of(&all, "smuggling-fee-relay", Variant::Plain) {
            let mut legs: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
            for t in rows.iter().filter(|t| t.place.is_some()) {
                let stage = ROUTE.iter().position(|(city, ..)| t.place.is_some_and(|p| p.city == *city));
                let payer = t.debtor.as_ref().map_or("", |(account, _)| account);
                legs.entry(payer).or_default().extend(stage.map(|city| city / 2));
            }
            assert!(legs.len() >= 6, "{subject}");
            assert!(legs.values().all(|stages| *stages == [0, 1, 2]), "{legs:?}");
        }
    }

    #[test]
    fn a_hidden_account_at_the_border_has_under_eight_senders_in_thirty_days() {
        let all = small();
        for (subject, rows) in of(&all, "border-funnel", Variant::Stealthy) {
            let paid = |t: &&&Transaction| t.creditor.as_ref().is_some_and(|(account, _)| account == subject);
            let sender =
                |t: &Transaction| t.debtor.clone().map_or(t.depositor.clone(), |(account, _)| account);
            let credits: Vec<_> = rows.iter().filter(paid).collect();
            let most = credits.iter().map(|last| {
                let within = credits.iter().filter(|t| (0..=30 * DAY).contains(&(last.time - t.time)));
                within.map(|t| sender(t)).collect::<BTreeSet<_>>().len()
            });
            assert!(most.max().is_some_and(|most| most < 8), "{subject}");
        }
    }
}
