//! People who are new here, and what is taken from them.

use chrono::TimeDelta;

use crate::calendar::{DAY, HOUR};
use crate::draw::{AT_HOME, OFFICE, SHOPPING};
use crate::life::{external, own, tx};
use crate::people::{Customer, home};
use crate::plants::payday::{
    NAMES, belongs, controller, draw_cash, employer, live_from, machine, pass_on, pay_days, scrape_by, wage,
    way,
};
use crate::plants::{Planter, Variant};

const DOMESTIC: [&str; 5] =
    ["domestic worker", "housekeeper", "nanny", "live-in carer", "cook in a household"];

impl Planter<'_> {
    /// Cards lined up at one machine on pay day. Hidden: at several machines, with breaks, or two draws of a third each.
    /// Look-alikes: the machine at the factory gate, and seasonal workers who are driven to town.
    pub(super) fn machine_herd(&mut self, variant: Variant) {
        let hidden = way(self, variant, 3);
        let innocent = variant.innocent();
        let gate = self.draw.chance(60);
        let workers = match (innocent, gate) {
            (true, true) => self.draw.int(8, 16),
            (true, false) => self.draw.int(4, 9),
            _ => 4 + self.draw.skewed(0, 9),
        };
        let mut crew: Vec<Customer> = (0..workers).map(|_| self.person()).collect();
        let house =
            format!("Unterkunft Hafenstr. {}", crew.first().map_or("1", |worker| &worker.customer[1..]));
        // Mostly they are lodged in one house; so are seasonal workers on a farm.
        if if innocent { !gate } else { self.draw.chance(75) } {
            crew.iter_mut().for_each(|worker| worker.address.clone_from(&house));
        }
        let city = crew.first().map_or(0, |worker| worker.city);
        for worker in &mut crew {
            worker.city = city;
            self.keep(worker);
        }
        let Some(first) = crew.first().cloned() else { return };
        let terminal = machine(self, &first);
        let plant = self.begin("payday-atm-herd", &terminal, variant);
        let (firm, pay) = (employer(self, plant), pay_days(self));
        let months: Vec<i64> = crew.iter().map(|_| self.draw.int(1_250, 2_000) * 100).collect();
        // Straight after pay, or after work the next day.
        let late = self.draw.chance(20);
        let on_cash: Vec<bool> = crew.iter().map(|_| self.draw.chance(25)).collect();
        for &day in &pay.days {
            let hour = if late { 18 + 24 } else { self.draw.int(10, 13) };
            let mut at = self.calendar.at(day, hour * HOUR) + self.draw.int(0, HOUR);
            let mut order: Vec<usize> = (0..crew.len()).collect();
            self.draw.shuffle(&mut order);
            for (turn, number) in order.into_iter().enumerate() {
                let (Some(worker), Some(month)) = (crew.get(number), months.get(number)) else { continue };
                let amount = month / pay.parts * self.draw.int(92, 108) / 100 + self.draw.int(0, 99);
                let seconds = 4 * HOUR + self.draw.int(0, 3 * HOUR);
                let mut paid = tx(self.calendar, day, seconds, "transfer", "batch", amount);
                (paid.debtor, paid.creditor, paid.purpose) = (firm.clone(), own(worker), "SALA");
                self.put(plant, paid);
                if !innocent && workers > 5 && self.draw.chance(8) {
                    continue;
                }
                let share = match (innocent, hidden) {
                    (true, _) if gate && on_cash.get(number) != Some(&true) => self.draw.int(8, 45),
                    (true, _) => self.draw.int(50, 98),
                    (_, Some(2)) => 38,
                    _ => self.draw.int(86, 100),
                };
                at += match (innocent, hidden) {
                    (true, _) if gate => self.draw.int(40, 900),
                    (true, _) => self.draw.int(30, 150),
                    (_, Some(1)) => self.draw.int(400, 1_500),
                    _ => self.draw.int(25, 90),
                };
                for again in 0..if hidden == Some(2) { 2 } else { 1 } {
                    let notes = amount * share / 100;
                    let mut cash = tx(self.calendar, day, 0, "cash_out", "atm", notes - notes % 1_000);
                    cash.time = at + again * 4 * HOUR;
                    cash.offset = self.calendar.offset(cash.time);
                    cash.debtor = own(worker);
                    cash.place = home(city);
                    cash.terminal.clone_from(&terminal);
                    if hidden == Some(0) {
                        cash.terminal = format!("{terminal}{}", ["", "1", "2", "3"][turn % 4]);
                    }
                    self.put(plant, cash);
                }
            }
        }
        let last = self.last_day();
        for worker in &crew {
            if innocent && gate {
                live_from(self, worker, 45_000, 1, last);
            } else if innocent {
                // In town they buy for the week.
                for day in (1..=last).filter(|day| self.calendar.weekday(*day) == 4) {
                    if self.draw.chance(60) {
                        let (seconds, amount) = (self.draw.time(&SHOPPING), self.draw.price(1_500, 9_000));
                        let mut food = tx(self.calendar, day, seconds, "card", "pos", amount);
                        food.debtor = own(worker);
                        (food.mcc, food.merchant) = ("5411", "Supermarkt".into());
                        food.place = home(city);
                        self.put(0, food);
                    }
                }
            } else if self.draw.chance(30) {
                scrape_by(self, worker, 1, last);
            }
        }
    }

    /// Tickets for newcomers, and their first wages. Hidden: an accomplice buys the tickets, a third of the wage, or cash.
    /// Look-alikes: employers who prepay and take nothing, families, trainers, friends.
    pub(super) fn debt_recruiter(&mut self, variant: Variant) {
        let hidden = way(self, variant, 3);
        let innocent = variant.innocent();
        let kind = self.draw.index(4);
        let buyer = if innocent { self.neighbour() } else { controller(self) };
        let accomplice = self.person();
        let plant = self.begin("recruitment-debt-sequence", &buyer.account, variant);
        let count = match (innocent, kind) {
            (true, 2) => self.draw.count(6, 14),
            (true, 3) => 2,
            _ => 2 + self.draw.skewed(0, 7) as u32,
        };
        let named = self.draw.chance(80);
        let start = self.draw.count(1, 12);
        let mut newcomers = Vec::new();
        for number in 0..count {
            // Without names, they came all on one day.
            let arrives = if named { start + self.draw.count(0, 14) } else { start };
            let mut newcomer = self.person();
            newcomer.opened_on = self.calendar.date(i64::from(arrives + self.draw.count(1, 9)));
            let called = NAMES[(number as usize * 3 + start as usize) % NAMES.len()];
            newcomer.name = called.to_string();
            newcomer.surname = called.rsplit(' ').next().unwrap_or_default().to_string();
            if innocent && kind == 1 {
                newcomer.surname.clone_from(&buyer.surname);
                newcomer.household.clone_from(&buyer.household);
            }
            self.keep(&newcomer);
            for _ in 0..if named { 1 } else { self.draw.int(1, 2).max(4 / i64::from(count) + 1) } {
                let (seconds, amount) = (self.draw.time(&AT_HOME), self.draw.price(6_000, 38_000));
                let (mcc, merchant) =
                    [("4511", "Himmel Air"), ("4131", "Fernbus"), ("4722", "Reisebüro Ost")]
                        [self.draw.index(3)];
                let day = arrives.saturating_sub(u32::from(named) * 3);
                let mut fare = tx(self.calendar, day, seconds, "card", "online", amount);
                fare.debtor = own(if hidden == Some(0) { &accomplice } else { &buyer });
                (fare.mcc, fare.merchant) = (mcc, merchant.into());
                if named {
                    fare.passenger.clone_from(&newcomer.name);
                    fare.route = ["BUH-FRA", "SOF-BER", "HAN-FRA", "TBS-MUC"][self.draw.index(4)].into();
                }
                self.put(plant, fare);
            }
            newcomers.push((newcomer, arrives));
        }
        if !innocent && self.draw.chance(50) {
            for _ in 0..self.draw.count(2, 4) {
                let office = ["Bright Path Recruiting", "Sample Visa Centre", "Sample Medical Test Centre"]
                    [self.draw.index(3)];
                let (day, amount) = (start + self.draw.count(0, 9), self.draw.int(8, 40) * 1_000);
                self.send(plant, day, amount, own(&buyer), external("OFFICE", office));
            }
        }
        let (firm, pay) = (employer(self, plant), pay_days(self));
        let last = self.last_day();
        let share = self.draw.int(55, 92);
        for (number, (newcomer, arrives)) in newcomers.iter().enumerate() {
            if innocent && kind == 2 {
                // A team: nobody of them works here.
                continue;
            }
            let month = self.draw.int(1_300, 2_000) * 100;
            for (round, &day) in pay.days.iter().filter(|day| **day > arrives + 12).enumerate() {
                let amount = month / pay.parts * self.draw.int(92, 108) / 100;
                let paid = wage(self, plant, day, &firm, newcomer, amount);
                let share = match (innocent, kind, hidden) {
                    (true, 0, _) => 0,
                    (true, 1, _) => self.draw.int(40, 80),
                    // A friend pays back the ticket.
                    (true, _, _) => {
                        if number == 0 && round == 0 {
                            20
                        } else {
                            0
                        }
                    }
                    (_, _, Some(1)) => self.draw.int(30, 45),
                    // After some months the debt is said to be smaller.
                    _ => {
                        if round * 2 > pay.parts as usize * 4 {
                            share * 8 / 10
                        } else {
                            share
                        }
                    }
                };
                if share == 0 {
                    continue;
                }
                let (hours, part) = (self.draw.skewed(1, 44), amount * (share + self.draw.int(-3, 3)) / 100);
                if hidden == Some(2) {
                    let terminal = machine(self, newcomer);
                    draw_cash(self, plant, &paid, hours, part, &terminal, newcomer);
                } else {
                    let memo = ["Reise", "", "Schulden", "Flug"][self.draw.index(4)];
                    pass_on(self, plant, &paid, hours, part, &own(&buyer), memo);
                }
            }
            if innocent || self.draw.chance(30) {
                live_from(self, newcomer, 0, arrives + 12, last);
            } else if self.draw.chance(60) {
                scrape_by(self, newcomer, arrives + 12, last);
            }
        }
    }

    /// A live-in worker whose pay goes to an agency or lender. Hidden: to somebody without a name for it, or half of it.
    /// Look-alikes: a loan taken freely, a lawful fee of one month, family support.
    pub(super) fn bonded_helper(&mut self, variant: Variant) {
        let hidden = way(self, variant, 3);
        let innocent = variant.innocent();
        let kind = self.draw.index(3);
        let mut helper = self.person();
        helper.occupation = DOMESTIC[self.draw.index(DOMESTIC.len())];
        helper.opened_on = self.calendar.date(0) - TimeDelta::days(self.draw.int(2, 150));
        self.keep(&helper);
        let plant = self.begin("servitude-debt-capture", &helper.account, variant);
        let household = external(&format!("HOUSEHOLD{plant}"), "Familie Arnold");
        let month = self.draw.int(550, 1_150) * 100;
        let of_month = self.draw.count(1, 26);
        let share = self.draw.int(62, 92);
        let (both, lender) = (self.draw.chance(40), self.draw.index(2));
        let home_too = self.draw.chance(35);
        let lenders = [
            external(&format!("LENDER{plant}"), "Quick Coin Lending"),
            external(&format!("AGENCY{plant}"), "Home Helper Placement Sample"),
        ];
        if !innocent {
            lenders.iter().for_each(|lender| belongs(self, plant, lender));
        }
        let (unnamed, family) =
            (external(&format!("PRIVATE{plant}"), "C. L."), external(&format!("HOMETOWN{plant}"), "Familie"));
        let last = self.last_day();
        for (round, day) in self.calendar.monthly(of_month).into_iter().enumerate() {
            let paid = wage(self, plant, day, &household, &helper, month);
            let memo = ["placement fee", "Vermittlung Rate", "loan", "training fee", ""][self.draw.index(5)];
            let share = match (innocent, kind, hidden) {
                (true, 0, _) => self.draw.int(20, 45),
                (true, 1, _) => {
                    if round == 0 {
                        80
                    } else {
                        0
                    }
                }
                (true, _, _) => 0,
                (_, _, Some(1)) => self.draw.int(40, 55),
                _ => share + self.draw.int(-2, 2),
            };
            let hours = self.draw.skewed(2, 70);
            let parts = if both { 2 } else { 1 };
            for part in 0..parts {
                if share > 0 {
                    let to = if hidden == Some(0) { &unnamed } else { &lenders[(part + lender) % 2] };
                    let mut sent = self.after(
                        &paid,
                        hours + part as i64,
                        "transfer",
                        "mobile",
                        month * share / 100 / parts as i64,
                    );
                    (sent.debtor, sent.creditor, sent.memo) = (own(&helper), to.clone(), memo.into());
                    if hidden.is_none() && self.draw.chance(30) {
                        sent.purpose = ["LOAR", "FEES"][self.draw.index(2)];
                    }
                    self.put(plant, sent);
                }
            }
            if hidden == Some(2) {
                // Groceries for the household, by her card.
                for k in 0..4 {
                    let seconds = self.draw.time(&SHOPPING);
                    let mut food = tx(
                        self.calendar,
                        (day + 3 + k * 6).min(last),
                        seconds,
                        "card",
                        "pos",
                        self.draw.price(900, 3_500),
                    );
                    food.debtor = own(&helper);
                    (food.mcc, food.merchant) = ("5411", "Supermarkt".into());
                    self.put(0, food);
                }
            }
            // What is left: sent home, and some cash.
            let left = month * (100 - share) / 100;
            if home_too || innocent && kind == 2 {
                let seconds = self.draw.time(&OFFICE) + 2 * DAY;
                let mut remitted = tx(self.calendar, day, seconds, "wire", "online", left * 6 / 10);
                (remitted.debtor, remitted.creditor) = (own(&helper), family.clone());
                remitted.creditor_country = "PH";
                self.put(plant, remitted);
            }
            for k in 0..self.draw.int(1, 3) {
                let terminal = machine(self, &helper);
                draw_cash(self, plant, &paid, 80 + k * 100, left / 10, &terminal, &helper);
            }
        }
        if innocent {
            live_from(self, &helper, 0, 1, last);
        }
    }
}
