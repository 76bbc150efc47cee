//! Planted networks of the shipped typologies, and people who look like them but are not.
//!
//! # Source
//! The networks follow the published indicators that the typologies cite; counts and amounts are drawn above their
//! thresholds. Look-alikes follow the false positives that each typology names.

use chrono::TimeDelta;

use crate::calendar::{Calendar, HOUR};
use crate::draw::{Draw, EVENING, NIGHT, OFFICE, SHOPPING};
use crate::life::{external, own, purchase, tx};
use crate::people::{CITIES, Customer, customer};
use crate::record::Transaction;

/// A network that was put into the bank, or a look-alike.
#[derive(Debug, Clone)]
pub struct Planted {
    /// Typology it belongs to, or looks like.
    pub typology: &'static str,
    /// Account or customer that an alert should be about.
    pub subject: String,
    /// Innocent: an alert about it is a false one.
    pub look_alike: bool,
    /// Its transactions.
    pub tx_ids: Vec<String>,
}

/// Account and name.
type Party = Option<(String, String)>;

/// What planting adds to the bank.
pub(crate) struct Planter<'a> {
    pub draw: Draw,
    pub calendar: &'a Calendar,
    pub people: &'a mut Vec<Customer>,
    pub out: &'a mut Vec<Transaction>,
    pub planted: Vec<Planted>,
    /// Those of `people`, by number, who lead an ordinary life beside what is planted.
    pub living: Vec<usize>,
}

impl Planter<'_> {
    /// A new person of the bank.
    fn person(&mut self) -> Customer {
        let mut number = self.people.len() as u32;
        // Every twelfth number is a business: skip it.
        if number % 12 == 11 {
            let filler = customer(&mut self.draw, number, self.calendar);
            self.people.push(filler);
            number += 1;
        }
        let mut person = customer(&mut self.draw, number, self.calendar);
        person.household = format!("HP{number:05}");
        if matches!(person.occupation, "lorry driver" | "sales representative" | "musician") {
            person.occupation = "cleaner";
        }
        self.people.push(person.clone());
        person
    }

    /// A new person who lives from the account, as other customers do.
    fn neighbour(&mut self) -> Customer {
        let person = self.person();
        self.living.push(self.people.len() - 1);
        person
    }

    fn keep(&mut self, changed: &Customer) {
        if let Some(known) = self.people.iter_mut().find(|p| p.customer == changed.customer) {
            *known = changed.clone();
        }
    }

    fn begin(&mut self, typology: &'static str, subject: &str, look_alike: bool) -> u32 {
        let subject = subject.to_string();
        self.planted.push(Planted { typology, subject, look_alike, tx_ids: Vec::new() });
        self.planted.len() as u32
    }

    fn put(&mut self, plant: u32, mut transaction: Transaction) {
        transaction.plant = plant;
        self.out.push(transaction);
    }

    fn last_day(&self) -> u32 {
        self.calendar.days().saturating_sub(1)
    }

    /// A payment `hours` after another one.
    fn after(
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

    /// One network of each typology, or of its look-alikes.
    pub(crate) fn all(&mut self, networks: u32) {
        for _ in 0..networks {
            self.controlled(false);
            self.circuit(false);
            self.price_band(false);
            self.wage_sweep(false);
            self.funnel(false);
            self.facilitator(false);
            self.frightened(false);
            self.mule(false);
            self.collector(false);
            self.spreader(false);
            self.relay(false);
        }
        for _ in 0..networks * 5 {
            self.controlled(true);
            self.circuit(true);
            self.price_band(true);
            self.wage_sweep(true);
            self.funnel(true);
            self.facilitator(true);
            self.frightened(true);
            self.mule(true);
            self.collector(true);
            self.spreader(true);
            self.relay(true);
        }
    }

    /// Clients pay, a controller takes it all. Look-alike: a second account that its owner sweeps, with some shopping.
    fn controlled(&mut self, innocent: bool) {
        let (person, controller) = (self.person(), self.neighbour());
        let plant = self.begin("depleted-controlled-account", &person.account, innocent);
        let first = self.draw.count(2, 20);
        for k in 0..self.draw.count(14, 24) {
            let day = (first + k * 2 + self.draw.count(0, 1)).min(self.last_day());
            let hours = if innocent { &SHOPPING } else { &NIGHT };
            let seconds = self.draw.time(hours);
            let amount = self.draw.int(6, 25) * 1_000;
            let mut paid = tx(self.calendar, day, seconds, "p2p", "mobile", amount);
            paid.debtor = external(&format!("CLIENT-D{plant}-{}", k % 11), "M. K.");
            paid.creditor = own(&person);
            let mut swept =
                self.after(&paid, 3, "p2p", "mobile", amount * if innocent { 60 } else { 97 } / 100);
            swept.debtor = own(&person);
            swept.creditor = own(&controller);
            self.put(plant, paid);
            self.put(plant, swept);
            if innocent {
                purchase(&mut self.draw, &person, self.calendar, day, self.out);
            }
        }
    }

    /// Cities, hotels, cash. Look-alike: a sales representative who pays hotels and meals by card.
    fn circuit(&mut self, innocent: bool) {
        let mut person = if innocent { self.neighbour() } else { self.person() };
        if innocent {
            person.occupation = "sales representative";
            self.keep(&person);
        }
        let plant = self.begin("circuit-travel-cash", &person.customer, innocent);
        let mut day = self.draw.count(3, self.last_day().saturating_sub(24).max(4));
        let stops: Vec<usize> =
            self.draw.choose(CITIES.len(), 6).into_iter().filter(|c| *c != person.city).take(4).collect();
        for city in stops {
            let card = |planter: &mut Self, mcc, name: &str, seconds, amount| {
                let mut bought = tx(planter.calendar, day, seconds, "card", "pos", amount);
                bought.debtor = own(&person);
                bought.mcc = mcc;
                bought.merchant = format!("{name} {}", CITIES[city].0);
                bought.city = Some(city);
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
                    cash.city = Some(city);
                    cash.depositor = person.customer.clone();
                    self.put(plant, cash);
                }
            }
            day = (day + self.draw.count(3, 5)).min(self.last_day());
        }
    }

    /// Clients by transfer in the evening. Look-alike: a tutor with weekly pupils by day.
    fn price_band(&mut self, innocent: bool) {
        let person = if innocent { self.neighbour() } else { self.person() };
        let controller = self.neighbour();
        let plant = self.begin("price-band-fan-in", &person.account, innocent);
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

    /// Wages of several workers go to one account. Look-alike: a couple's household account.
    fn wage_sweep(&mut self, innocent: bool) {
        let mut controller = self.neighbour();
        let plant = self.begin("wage-sweep-to-controller", &controller.account, innocent);
        let workers = if innocent { 1 } else { self.draw.count(3, 6) };
        let firm = external(&format!("FIRM{plant}"), "Reinigung Nord GmbH");
        for _ in 0..workers {
            let mut worker = self.person();
            if innocent {
                worker.household.clone_from(&controller.household);
                worker.surname.clone_from(&controller.surname);
                self.keep(&worker);
                controller.household.clone_from(&worker.household);
            }
            for day in self.calendar.monthly(27) {
                let amount = self.draw.int(1_100, 1_900) * 100;
                let seconds = 8 * HOUR + self.draw.int(0, 3600);
                let mut wage = tx(self.calendar, day, seconds, "transfer", "batch", amount);
                wage.debtor.clone_from(&firm);
                wage.creditor = own(&worker);
                wage.purpose = "SALA";
                wage.memo = "Lohn".into();
                let hours = self.draw.int(1, 5);
                let share = self.draw.int(86, 97);
                let mut swept = self.after(&wage, hours, "transfer", "mobile", amount * share / 100);
                swept.debtor = own(&worker);
                swept.creditor = own(&controller);
                self.put(plant, wage);
                self.put(plant, swept);
                if innocent {
                    let last = self.last_day();
                    for k in 1..8 {
                        purchase(&mut self.draw, &controller, self.calendar, (day + k).min(last), self.out);
                    }
                }
            }
        }
    }

    /// Cash in several cities, out elsewhere. Look-alike: a registered club with groups in several cities.
    fn funnel(&mut self, innocent: bool) {
        let mut person = self.person();
        if innocent {
            person.npo = true;
            self.keep(&person);
        }
        let plant = self.begin("funnel-across-cities", &person.account, innocent);
        let first = self.draw.count(1, self.last_day().saturating_sub(16).max(2));
        let stops: Vec<usize> =
            self.draw.choose(CITIES.len(), 6).into_iter().filter(|c| *c != person.city).take(4).collect();
        for k in 0..self.draw.count(8, 12) as usize {
            let day = (first + k as u32).min(self.last_day());
            let seconds = self.draw.time(&OFFICE);
            let amount = self.draw.int(40, 180) * 1_000;
            let mut cash = tx(self.calendar, day, seconds, "cash_in", "branch", amount);
            cash.creditor = own(&person);
            cash.city = Some(stops[k % stops.len()]);
            cash.depositor = format!("person {} {}", plant, k % 4);
            let mut out = self.after(&cash, 6, "cash_out", "atm", amount * 9 / 10);
            out.debtor = own(&person);
            out.city = Some(person.city);
            self.put(plant, cash);
            self.put(plant, out);
        }
    }

    /// Small credits from abroad, cashed at once. Look-alike: a freelancer who keeps what clients abroad pay.
    fn facilitator(&mut self, innocent: bool) {
        let person = self.neighbour();
        let plant = self.begin("ocse-facilitator", &person.account, innocent);
        let first = self.draw.count(1, self.last_day().saturating_sub(26).max(2));
        for k in 0..self.draw.count(12, 18) {
            let day = (first + k + self.draw.count(0, 1)).min(self.last_day());
            let seconds = self.draw.time(if innocent { &OFFICE } else { &NIGHT });
            let amount = if innocent { self.draw.int(90, 600) * 100 } else { self.draw.int(25, 95) * 100 };
            let mut credit = tx(self.calendar, day, seconds, "wire", "online", amount);
            credit.debtor = external(
                &format!("ABROAD{plant}-{}", k % 6),
                ["P. Turner", "M. Reed", "S. Clarke"][k as usize % 3],
            );
            credit.debtor_country = ["GB", "US", "AU", "SE"][k as usize % 4];
            credit.creditor = own(&person);
            if !innocent {
                let mut out = self.after(&credit, 2, "cash_out", "atm", amount * 95 / 100);
                out.debtor = own(&person);
                out.city = Some(person.city);
                self.put(plant, out);
            }
            self.put(plant, credit);
        }
    }

    /// A blackmailed young payer. Look-alike: somebody who pays a friend for tickets, twice.
    fn frightened(&mut self, innocent: bool) {
        let mut person = self.neighbour();
        let age = if innocent { self.draw.int(30, 60) } else { self.draw.int(15, 22) };
        person.born_on = Some(self.calendar.date(0) - TimeDelta::days(age * 365 + 100));
        self.keep(&person);
        let plant = self.begin("sextortion-victim-burst", &person.account, innocent);
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
    fn mule(&mut self, innocent: bool) {
        let mut person = if innocent { self.neighbour() } else { self.person() };
        if !innocent {
            person.opened_on = self.calendar.date(0) - TimeDelta::days(20);
            self.keep(&person);
        }
        let plant = self.begin("sextortion-mule", &person.account, innocent);
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

    /// Money between accounts of this and other banks by transfer.
    fn send(&mut self, plant: u32, day: u32, amount: i64, from: Party, to: Party) {
        let seconds = self.draw.time(&OFFICE);
        let mut sent = tx(self.calendar, day.min(self.last_day()), seconds, "transfer", "online", amount);
        sent.debtor = from;
        sent.creditor = to;
        self.put(plant, sent);
    }

    /// Many pay one account, which sends it on. Look-alike: who collects for a present and buys it by card.
    fn collector(&mut self, innocent: bool) {
        let person = if innocent { self.neighbour() } else { self.person() };
        let plant = self.begin("fan-in-fast-out", &person.account, innocent);
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
    fn spreader(&mut self, innocent: bool) {
        let person = if innocent { self.neighbour() } else { self.person() };
        let plant = self.begin("fan-out-burst", &person.account, innocent);
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
    fn relay(&mut self, innocent: bool) {
        let person = if innocent { self.neighbour() } else { self.person() };
        let plant = self.begin("pass-through-account", &person.account, innocent);
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
