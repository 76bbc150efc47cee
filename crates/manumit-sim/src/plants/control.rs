//! Control of people: their accounts, devices and identities.

use chrono::TimeDelta;

use crate::calendar::{DAY, HOUR};
use crate::draw::{AT_HOME, EVENING, NIGHT, SHOPPING};
use crate::life::{external, own, purchase, tx};
use crate::people::Customer;
use crate::plants::payday::{
    NAMES, belongs, benefit, controller, draw_cash, employer, holds, live_from, machine, pass_on, pay_days,
    scrape_by, wage, way,
};
use crate::plants::{Kind, Party, Planter, Variant};
use crate::record::Transaction;

/// What is planted.
pub(crate) const KINDS: &[Kind] = &[
    Kind { typology: "depleted-controlled-account", plant: |planter, variant| planter.controlled(variant) },
    Kind { typology: "shared-identity-hub", plant: |planter, variant| planter.one_handset(variant) },
    Kind { typology: "coerced-onboarding-takeover", plant: |planter, variant| planter.walked_in(variant) },
    Kind { typology: "shared-device-hub", plant: |planter, variant| planter.one_sitting(variant) },
];

impl Planter<'_> {
    /// Clients pay, a controller takes it all. Hidden: some groceries for show, several beneficiaries, or a sixth left.
    /// Look-alikes: a second account that its owner sweeps, a courier who keeps a household elsewhere, with some shopping.
    fn controlled(&mut self, variant: Variant) {
        let hidden = way(self, variant, 3);
        let innocent = variant.innocent();
        let (person, controller) = (self.person(), self.neighbour());
        let plant = self.begin("depleted-controlled-account", &person.account, variant);
        let first = self.draw.count(2, 20);
        let cash = !innocent && self.draw.chance(25);
        let terminal = machine(self, &person);
        for k in 0..self.draw.count(14, 34) {
            let day = (first + k * 2 + self.draw.count(0, 1)).min(self.last_day());
            let hours = if innocent { &SHOPPING } else { &NIGHT };
            let seconds = self.draw.time(hours);
            let amount = self.draw.int(6, 25) * 1_000;
            let mut paid = tx(self.calendar, day, seconds, "p2p", "mobile", amount);
            paid.debtor = external(&format!("CLIENT-D{plant}-{}", k % 11), "M. K.");
            paid.creditor = own(&person);
            let share = match (innocent, hidden) {
                (true, _) => 60,
                (_, Some(0)) => 85,
                (_, Some(2)) => 83,
                _ => self.draw.int(94, 99),
            };
            self.put(plant, paid.clone());
            if cash {
                draw_cash(self, plant, &paid, 4, amount * share / 100 + 900, &terminal, &person);
            } else {
                let mut swept = self.after(&paid, 3, "p2p", "mobile", amount * share / 100);
                swept.debtor = own(&person);
                swept.creditor = match hidden {
                    Some(1) => {
                        let pocket = external(&format!("POCKET-D{plant}-{}", k % 4), "O. P.");
                        belongs(self, plant, &pocket);
                        pocket
                    }
                    _ => own(&controller),
                };
                self.put(plant, swept);
            }
            if innocent {
                purchase(&mut self.draw, &person, self.calendar, day, self.out);
            } else if hidden == Some(0) {
                let mut food = self.after(&paid, 9, "card", "pos", amount / 10);
                food.debtor = own(&person);
                (food.mcc, food.merchant) = ("5411", "Supermarkt".into());
                self.put(plant, food);
            }
        }
    }

    /// One telephone behind the accounts of several people. Hidden: a handset each, several beneficiaries, or less than half.
    /// Look-alikes: a student house, a carer, a family, a flat whose rent one pays.
    fn one_handset(&mut self, variant: Variant) {
        let hidden = way(self, variant, 3);
        let innocent = variant.innocent();
        let kind = self.draw.index(4);
        let boss = controller(self);
        let device = format!("DV-H{}", &boss.customer[1..]);
        let plant = self.begin("shared-identity-hub", &device, variant);
        // Whose telephone or address they share is one of them, even where nothing is paid to that account.
        holds(self, plant, &boss);
        let size = if innocent { self.draw.count(4, 7) } else { 4 + self.draw.skewed(0, 8) as u32 };
        let (firm, pay) = (employer(self, plant), pay_days(self));
        let clients = self.draw.chance(50);
        let abroad = external(&format!("TOP{plant}"), "Z. G.");
        let pocket = if self.draw.chance(60) { own(&boss) } else { abroad };
        let others: Vec<Party> = (0..6).map(|k| external(&format!("OTHER{plant}-{k}"), NAMES[k])).collect();
        if !innocent {
            others.iter().chain([&pocket]).for_each(|account| belongs(self, plant, account));
        }
        let share = if hidden == Some(2) { 42 } else { self.draw.int(65, 95) };
        let last = self.last_day();
        let hour = self.draw.int(9, 21);
        let mut people: Vec<Customer> = Vec::new();
        for _ in 0..size {
            let mut person = self.person();
            if hidden != Some(0) {
                person.device.clone_from(&device);
            }
            // A carer's clients live each for themselves.
            if !(innocent && kind == 1) {
                person.address.clone_from(&boss.address);
            }
            if !innocent {
                person.phone.clone_from(&boss.phone);
            }
            if innocent && kind == 2 {
                person.household.clone_from(&boss.household);
            }
            self.keep(&person);
            people.push(person);
        }
        for (number, person) in people.iter().enumerate() {
            let month = self.draw.int(1_100, 2_100) * 100;
            let income: Vec<Transaction> = if innocent || !clients {
                pay.days.iter().map(|&day| wage(self, plant, day, &firm, person, month / pay.parts)).collect()
            } else {
                self.guests(plant, person)
            };
            for (round, paid) in income.into_iter().enumerate() {
                // All of them one after the other, in one sitting.
                let day = ((paid.time - self.calendar.at(0, 0)) / DAY) as u32 + 1;
                let mut sent = self.after(&paid, 1, "transfer", "mobile", paid.amount * share / 100);
                sent.time = (self.calendar.at(day, hour * HOUR) + number as i64 * self.draw.int(60, 200))
                    .max(paid.time + 600);
                (sent.debtor, sent.creditor) = (own(person), pocket.clone());
                if hidden == Some(1) {
                    sent.creditor.clone_from(&others[(number + round) % others.len()]);
                }
                if innocent {
                    // Rent of a shared flat; the bills of people in care; a family's household money; rent through one of them.
                    let rent = [
                        (external(&format!("LANDLORD-H{plant}"), "Hausverwaltung"), 28),
                        (others[number % others.len()].clone(), 40),
                        (own(&boss), 50),
                        (own(&boss), 25),
                    ][kind]
                        .clone();
                    (sent.creditor, sent.amount) = (rent.0, paid.amount * rent.1 / 100);
                    sent.time += self.draw.int(0, 3) * DAY + self.draw.int(0, 9) * HOUR;
                }
                sent.offset = self.calendar.offset(sent.time);
                self.put(plant, sent);
                if innocent && self.draw.chance(70) {
                    let shop = external(&format!("SHOPPING{}", self.draw.int(0, 99)), "Versand");
                    let (hours, amount) = (self.draw.int(20, 200), self.draw.price(1_000, 20_000));
                    pass_on(self, plant, &paid, hours, amount, &shop, "Bestellung");
                }
            }
            if innocent {
                live_from(self, person, 0, 1, last);
            } else if self.draw.chance(50) {
                scrape_by(self, person, 1, last);
            }
        }
    }

    /// What clients pay a person, twice a week or so.
    fn guests(&mut self, plant: u32, person: &Customer) -> Vec<Transaction> {
        let mut paid = Vec::new();
        let mut day = self.draw.count(1, 8);
        while day < self.last_day() {
            let (seconds, amount) = (self.draw.time(&EVENING), self.draw.int(8, 30) * 1_000);
            let mut credit = tx(self.calendar, day, seconds, "p2p", "mobile", amount);
            credit.debtor = external(&format!("GUEST-H{}", self.draw.int(0, 9_999)), "Kunde");
            credit.creditor = own(person);
            self.put(plant, credit.clone());
            paid.push(credit);
            day += self.draw.count(2, 6);
        }
        paid
    }

    /// Accounts that people are made to open, run from one device. Hidden: a device each, months later, or in cash.
    /// Look-alikes: a helper of newcomers, first-year students on one computer, a crew whose accounts the employer had opened.
    fn walked_in(&mut self, variant: Variant) {
        let hidden = way(self, variant, 3);
        let innocent = variant.innocent();
        let kind = self.draw.index(3);
        let boss = controller(self);
        let device = format!("DV-O{}", &boss.customer[1..]);
        let plant = self.begin("coerced-onboarding-takeover", &device, variant);
        let size = if innocent { self.draw.count(3, 8) } else { 3 + self.draw.skewed(0, 8) as u32 };
        let pocket =
            if self.draw.chance(60) { own(&boss) } else { external(&format!("COLLECT{plant}"), "D. F.") };
        if !innocent {
            belongs(self, plant, &pocket);
        }
        let (firm, pay) = (employer(self, plant), pay_days(self));
        let start = self.draw.count(1, self.last_day().saturating_sub(50).max(2));
        let apart = self.draw.count(1, 4);
        let (loans, benefits) = (self.draw.chance(35), self.draw.chance(40));
        let share = self.draw.int(75, 98);
        let last = self.last_day();
        let hour = self.draw.int(9, 21);
        for number in 0..size {
            let mut person = self.person();
            // One after the other, within days.
            let opened = start + number * apart / 2;
            person.opened_on = self.calendar.date(i64::from(opened));
            if hidden == Some(1) {
                person.opened_on -= TimeDelta::days(120);
            }
            if hidden != Some(0) && !(innocent && kind == 2) {
                person.device.clone_from(&device);
            }
            self.keep(&person);
            let mut income: Vec<Transaction> = Vec::new();
            if benefits && !innocent {
                let amount = self.draw.int(40, 90) * 1_000;
                for day in (opened + 6..last).step_by(30) {
                    let paid = benefit(self, day, &person, amount);
                    self.put(plant, paid.clone());
                    income.push(paid);
                }
            } else {
                let month = self.draw.int(900, 1_900) * 100;
                for &day in pay.days.iter().filter(|day| **day > opened + 4) {
                    income.push(wage(self, plant, day, &firm, &person, month / pay.parts));
                }
            }
            if loans && !innocent {
                let (day, amount) = (opened + self.draw.count(8, 30), self.draw.int(8, 60) * 10_000);
                let mut loan = tx(self.calendar, day.min(last), 9 * HOUR, "transfer", "batch", amount);
                loan.debtor = external("CREDIT", "Schnellkredit Bank");
                (loan.creditor, loan.purpose) = (own(&person), "LOAN");
                self.put(plant, loan.clone());
                income.push(loan);
            }
            let terminal = machine(self, &person);
            for (round, paid) in income.into_iter().enumerate() {
                if innocent {
                    // To the helper some costs; the students' rent; the hostel of the crew.
                    let (to, amount) = [
                        (own(&boss), if round == 0 { self.draw.int(3, 12) * 1_000 } else { 0 }),
                        (external(&format!("DORM{plant}"), "Wohnheim"), self.draw.int(28, 42) * 1_000),
                        (external(&format!("HOSTEL{plant}"), "Monteurzimmer"), paid.amount / 5),
                    ][kind]
                        .clone();
                    if amount > 0 {
                        let hours = self.draw.int(3, 90);
                        pass_on(self, plant, &paid, hours, amount, &to, "");
                    }
                    continue;
                }
                if hidden == Some(2) {
                    draw_cash(self, plant, &paid, 5, paid.amount * share / 100, &terminal, &person);
                    continue;
                }
                let mut sent = self.after(&paid, 1, "transfer", "mobile", paid.amount * share / 100);
                let day = ((paid.time - self.calendar.at(0, 0)) / DAY) as u32;
                sent.time = (self.calendar.at(day, hour * HOUR) + i64::from(number) * self.draw.int(60, 240))
                    .max(paid.time + 900);
                sent.offset = self.calendar.offset(sent.time);
                (sent.debtor, sent.creditor) = (own(&person), pocket.clone());
                self.put(plant, sent);
            }
            if innocent {
                live_from(self, &person, 0, opened, last);
                let seconds = self.draw.time(&AT_HOME);
                let mut friend = tx(self.calendar, (opened + 20).min(last), seconds, "p2p", "mobile", 2_500);
                (friend.debtor, friend.creditor) = (own(&person), external("FRIEND", "A. A."));
                self.put(plant, friend);
            } else if self.draw.chance(40) {
                scrape_by(self, &person, opened, last);
            }
        }
    }

    /// One device orders on accounts of people whose data share nothing, and what they earn goes to one beneficiary. Hidden: a
    /// device for every two, four beneficiaries, or half in cash. Look-alikes: a student house, a carer, a library, a hostel.
    fn one_sitting(&mut self, variant: Variant) {
        let hidden = way(self, variant, 3);
        let innocent = variant.innocent();
        let kind = self.draw.index(4);
        let boss = controller(self);
        let device = format!("DV-S{}", &boss.customer[1..]);
        let plant = self.begin("shared-device-hub", &device, variant);
        let size = if innocent {
            [(4, 6), (4, 7), (12, 30), (5, 9)].map(|(low, high)| self.draw.count(low, high))[kind]
        } else {
            4 + self.draw.skewed(0, 9) as u32
        };
        let people: Vec<Customer> = (0..size).map(|_| self.person()).collect();
        let (firm, pay) = (employer(self, plant), pay_days(self));
        let abroad = external(&format!("HEAD{plant}"), "R. S.");
        let pocket = if self.draw.chance(50) { own(&boss) } else { abroad };
        let others: Vec<Party> = (0..4).map(|k| external(&format!("HEAD{plant}-{k}"), NAMES[k])).collect();
        if !innocent {
            others.iter().chain([&pocket]).for_each(|account| belongs(self, plant, account));
        }
        let (clients, every) = (!innocent && self.draw.chance(60), self.draw.count(3, 14));
        let (share, hour, last) = (self.draw.int(60, 96), self.draw.int(9, 22), self.last_day());
        for (number, person) in people.iter().enumerate() {
            let month = self.draw.int(1_000, 2_000) * 100;
            let income: Vec<Transaction> = if clients {
                self.guests(plant, person)
            } else {
                pay.days.iter().map(|&day| wage(self, plant, day, &firm, person, month / pay.parts)).collect()
            };
            if innocent {
                self.at_one_computer(plant, kind, number, (person, &device), &income);
                live_from(self, person, 0, 1, last);
                continue;
            }
            let terminal = machine(self, person);
            // What came in since the last sitting goes, account after account.
            let mut waiting = 0;
            let mut income = income.into_iter().peekable();
            for (round, day) in (0..).zip((every..=last).step_by(every as usize)) {
                let sitting = self.calendar.at(day, hour * HOUR) + number as i64 * self.draw.int(50, 150);
                let mut newest = None;
                while let Some(paid) = income.next_if(|paid| paid.time < sitting) {
                    waiting += paid.amount;
                    newest = Some(paid);
                }
                let Some(paid) = newest else { continue };
                let mut amount = waiting * share / 100;
                waiting = 0;
                if hidden == Some(2) {
                    draw_cash(self, plant, &paid, 2, amount * 3 / 5, &terminal, person);
                    amount = amount * 2 / 5;
                }
                let mut sent = self.after(&paid, 1, "transfer", "mobile", amount);
                (sent.time, sent.offset) = (sitting, self.calendar.offset(sitting));
                (sent.debtor, sent.creditor) = (own(person), pocket.clone());
                if hidden == Some(1) {
                    sent.creditor.clone_from(&others[(number + round) % others.len()]);
                }
                sent.device.clone_from(&device);
                if hidden == Some(0) && number >= 2 {
                    sent.device = format!("{device}-{}", number / 2);
                }
                self.put(plant, sent);
            }
            if self.draw.chance(60) {
                scrape_by(self, person, 1, last);
            }
        }
    }

    /// What innocent people order from a device that others use, too.
    fn at_one_computer(
        &mut self,
        plant: u32,
        kind: usize,
        number: usize,
        (person, device): (&Customer, &str),
        income: &[Transaction],
    ) {
        let rent = self.draw.int(280, 460) * 100;
        for (round, paid) in income.iter().enumerate() {
            // Rents of one house; bills of people in care; whatever visitors of a library pay; money for families at home.
            let orders = [
                vec![(external(&format!("LANDLORD-S{plant}"), "Hausverwaltung"), rent)],
                vec![
                    (external(&format!("CARE-S{plant}-{number}"), "Wohnstift"), paid.amount * 45 / 100),
                    (external("APOTHEKE", "Apotheke"), self.draw.price(1_500, 9_000)),
                ],
                vec![(external(&format!("SHOPS{}", self.draw.int(0, 99)), "Versand"), rent / 4)],
                vec![(external(&format!("FAMILY-S{plant}-{number}"), "Familie"), paid.amount * 3 / 10)],
            ];
            let books = external(&format!("BOOKS{}", self.draw.int(0, 40)), "Versand");
            let more = self.draw.chance(60).then(|| (books, self.draw.price(1_200, 16_000)));
            let orders = orders.into_iter().nth(kind).unwrap_or_default();
            // A rent is paid once a month, however often wages come.
            let due = round.is_multiple_of(income.len().div_ceil(3).max(1));
            for (to, amount) in orders.into_iter().filter(|_| due || kind > 1).chain(more) {
                let (hours, channel) = (self.draw.int(3, 90), "online");
                let mut ordered = self.after(paid, hours, "transfer", channel, amount);
                (ordered.debtor, ordered.creditor) = (own(person), to);
                ordered.device = device.to_string();
                self.put(plant, ordered);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use crate::calendar::Calendar;
    use crate::{Customer, Options, Planted, simulate};

    #[test]
    fn an_account_that_somebody_is_made_to_open_is_used_after_its_opening() {
        let options = Options {
            seed: 5,
            customers: 60,
            days: 90,
            networks: 4,
            stealthy: 4,
            look_alikes: 8,
            typologies: Vec::new(),
        };
        let simulation = simulate(&options);
        let calendar = Calendar::new(90);
        let of = |c: &'_ Customer| (c.account.clone(), c.opened_on);
        let opened: HashMap<String, chrono::NaiveDate> = simulation.bank.customers().iter().map(of).collect();
        let is = |plant: &&Planted| plant.typology == "coerced-onboarding-takeover";
        let mut tried = 0;
        for plant in simulation.bank.planted().iter().filter(is) {
            for (number, time, _) in &plant.transactions {
                let transaction = &simulation.transactions[*number as usize - 1];
                for (account, _) in [&transaction.debtor, &transaction.creditor].into_iter().flatten() {
                    if let Some(opened) = opened.get(account) {
                        let day = (*opened - calendar.date(0)).num_days();
                        assert!(*time >= calendar.at(0, 0) + day * 86_400, "{transaction:?} {opened}");
                        tried += 1;
                    }
                }
            }
        }
        assert!(tried > 100, "{tried}");
    }
}
