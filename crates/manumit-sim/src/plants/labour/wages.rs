//! Wages that others take.

use crate::calendar::HOUR;
use crate::draw::OFFICE;
use crate::life::{external, own, tx};
use crate::plants::payday::{
    NAMES, belongs, controller, draw_cash, employer, live_from, machine, pass_on, pay_days, scrape_by, wage,
    way,
};
use crate::plants::{Party, Planter, Variant};

/// What controllers have written on payments to them.
const COVERS: [&str; 7] =
    ["", "Miete", "Unterkunft und Fahrt", "Darlehen", "", "Rückzahlung", "wie besprochen"];

impl Planter<'_> {
    /// Wages of several workers go to one account. Hidden: in parts, without purpose code, to a new account each time, with
    /// a third left, or as cash. Look-alikes: families who pool their pay, savings clubs, friends who repay.
    pub(super) fn wage_sweep(&mut self, variant: Variant) {
        if variant.innocent() {
            return self.pooled_pay(variant);
        }
        let hidden = way(self, variant, 5);
        let boss = controller(self);
        let plant = self.begin("wage-sweep-to-controller", &boss.account, variant);
        let (firm, pay) = (employer(self, plant), pay_days(self));
        let workers = 3 + self.draw.skewed(0, 11);
        let (one_phone, together) = (self.draw.chance(30), self.draw.chance(50));
        let mut pockets: Vec<Party> = vec![own(&boss)];
        if hidden == Some(2) {
            pockets.extend((0..4).map(|k| external(&format!("POCKET{plant}-{k}"), NAMES[k])));
        }
        pockets.iter().for_each(|pocket| belongs(self, plant, pocket));
        for k in 0..workers {
            let mut worker = self.person();
            if one_phone {
                worker.device.clone_from(&boss.device);
            }
            if together {
                worker.address = format!("Werkstr. {plant}");
            }
            self.keep(&worker);
            let month = self.draw.int(1_300, 2_200) * 100;
            // The first of them are there from the beginning; others come later.
            let from = if k > 3 && self.draw.chance(25) { pay.days.len() / 3 } else { 0 };
            for (round, &day) in pay.days.iter().enumerate().skip(from) {
                let amount = month / pay.parts * self.draw.int(90, 110) / 100 + self.draw.int(0, 99);
                let mut paid =
                    tx(self.calendar, day, 8 * HOUR + self.draw.int(0, 7_200), "transfer", "batch", amount);
                paid.debtor.clone_from(&firm);
                paid.creditor = own(&worker);
                paid.purpose = if hidden == Some(1) { "" } else { "SALA" };
                paid.memo = "Lohn".into();
                self.put(plant, paid.clone());
                let hours = self.draw.skewed(0, 40);
                let share = self.draw.int(80, 98);
                let memo = COVERS[self.draw.index(COVERS.len())];
                let pocket = pockets[round % pockets.len()].clone();
                match hidden {
                    Some(0) => {
                        for part in 0..2 {
                            pass_on(
                                self,
                                plant,
                                &paid,
                                hours + part * 5,
                                amount * share / 200,
                                &pocket,
                                memo,
                            );
                        }
                    }
                    Some(3) => {
                        let share = self.draw.int(60, 75);
                        pass_on(self, plant, &paid, hours, amount * share / 100, &pocket, memo);
                    }
                    Some(4) => {
                        let terminal = machine(self, &worker);
                        draw_cash(self, plant, &paid, hours, amount * share / 100, &terminal, &worker);
                        let mut lodged = self.after(&paid, hours + 4, "cash_in", "atm", amount * share / 100);
                        lodged.creditor = own(&boss);
                        lodged.depositor.clone_from(&boss.customer);
                        self.put(plant, lodged);
                    }
                    // Now and then the boss leaves something, once they have learnt.
                    _ if round > 1 && self.draw.chance(8) => {
                        pass_on(self, plant, &paid, hours, amount * 7 / 10, &pocket, memo);
                    }
                    _ => pass_on(self, plant, &paid, hours, amount * share / 100, &pocket, memo),
                }
            }
            if self.draw.chance(40) {
                let last = self.last_day();
                scrape_by(self, &worker, 3, last);
            }
        }
    }

    fn pooled_pay(&mut self, variant: Variant) {
        let kind = self.draw.index(4);
        let mut keeper = self.neighbour();
        let plant = self.begin("wage-sweep-to-controller", &keeper.account, variant);
        let (firm, pay) = (employer(self, plant), pay_days(self));
        let last = self.last_day();
        // A couple; a family with grown-up children; a savings club; friends who repay a loan.
        let family = self.draw.int(2, 4);
        let (earners, shares) = [(1, (85, 97)), (family, (75, 95)), (6, (20, 45)), (2, (10, 40))][kind];
        let mut names = Vec::new();
        for _ in 0..earners {
            let mut earner = self.person();
            if kind < 2 {
                earner.household.clone_from(&keeper.household);
                earner.address.clone_from(&keeper.address);
                // Not every couple shares a name.
                if self.draw.chance(70) {
                    earner.surname.clone_from(&keeper.surname);
                }
                self.keep(&earner);
                keeper.household.clone_from(&earner.household);
            }
            names.push(earner);
        }
        let members = names.len();
        for (number, earner) in names.iter().enumerate() {
            let month = self.draw.int(1_500, 3_200) * 100;
            for (round, &day) in pay.days.iter().enumerate() {
                let paid = wage(self, plant, day, &firm, earner, month / pay.parts);
                let (low, high) = shares;
                let (share, hours) = (self.draw.int(low, high), self.draw.int(1, 30));
                // In a savings club somebody else has the pot each time.
                let to = if kind == 2 && round % (members + 1) != 0 {
                    own(&names[(number + round) % members])
                } else {
                    own(&keeper)
                };
                if kind == 3 && round > 2 || to == own(earner) {
                    continue;
                }
                let memo = ["Haushalt", "Haushalt", "Sparrunde", "Danke fürs Leihen"][kind];
                pass_on(self, plant, &paid, hours, month / pay.parts * share / 100, &to, memo);
            }
            if kind > 1 {
                live_from(self, earner, 55_000, 1, last);
            }
        }
    }

    /// An employer pays the wages of several people to one account. Hidden: without names, with names one at a time, without
    /// purpose code, or to two accounts in turn. Look-alikes: pooled accounts, relatives of other names, and parents.
    pub(super) fn one_pay_account(&mut self, variant: Variant) {
        let hidden = way(self, variant, 4);
        let innocent = variant.innocent();
        // An account meant for it; a family of other names; parents of apprentices.
        let kind = self.draw.index(3);
        let mut holder = if innocent { self.neighbour() } else { controller(self) };
        if innocent && kind == 0 {
            holder.product =
                ["payroll card pool", "for benefit of", "employer of record"][self.draw.index(3)];
            self.keep(&holder);
        }
        let plant = self.begin("payroll-to-one-account", &holder.account, variant);
        let (firm, pay) = (employer(self, plant), pay_days(self));
        let size = match (innocent, kind) {
            (true, 0) => self.draw.count(5, 20),
            (true, 1) => self.draw.count(2, 3),
            (true, _) => self.draw.count(1, 2),
            _ => 3 + self.draw.skewed(0, 9) as u32,
        };
        let crew = self.draw.choose(NAMES.len(), size as usize + 1);
        let (final_payee, thrifty) = (self.draw.chance(40), self.draw.chance(30));
        let second = external(&format!("SECOND{plant}"), &holder.name);
        let months: Vec<i64> = crew.iter().map(|_| self.draw.int(1_200, 2_000) * 100).collect();
        for (round, &day) in pay.days.iter().enumerate() {
            let mut sum = 0;
            let mut first = None;
            // Some go, others come: the last two of the list take turns.
            let turn = usize::from(!innocent && size > 3 && round % 2 == 1);
            let there = (0..size as usize).map(|at| if at + 1 == size as usize { at + turn } else { at });
            for (number, at) in there.enumerate() {
                let (Some(&name), Some(month)) = (crew.get(at), months.get(at)) else { continue };
                let amount = month / pay.parts * self.draw.int(85, 110) / 100 + self.draw.int(0, 99);
                let on = match hidden {
                    Some(1) => day + number as u32 * 28 / size.max(1),
                    _ => day + u32::from(self.draw.chance(10)),
                };
                let mut paid = tx(
                    self.calendar,
                    on.min(self.last_day()),
                    7 * HOUR + self.draw.int(0, 3_600),
                    "transfer",
                    "batch",
                    amount,
                );
                paid.debtor.clone_from(&firm);
                paid.creditor =
                    if hidden == Some(3) && round % 2 == 1 { second.clone() } else { own(&holder) };
                if hidden != Some(0) {
                    if final_payee {
                        paid.ultimate_creditor = NAMES[name].to_string();
                    } else if let Some((_, called)) = paid.creditor.as_mut() {
                        *called = NAMES[name].to_string();
                    }
                }
                paid.purpose = if hidden == Some(2) { "" } else { "SALA" };
                paid.memo = format!("Lohn {}", self.calendar.month(day));
                sum += amount;
                self.put(plant, paid.clone());
                first.get_or_insert(paid);
            }
            let Some(first) = first else { continue };
            if innocent && kind == 1 && thrifty {
                // What is not needed goes to savings elsewhere the next day.
                let savings = external(&format!("SAVINGS{plant}"), &holder.name);
                pass_on(self, plant, &first, 22, sum * 3 / 4, &savings, "Sparen");
            }
            if innocent && kind > 0 || hidden == Some(3) && round % 2 == 1 {
                continue;
            }
            // Cash at machines, and the rest to somebody else.
            let terminal = machine(self, &holder);
            let mut left = sum * self.draw.int(80, 97) / 100;
            let mut hours = self.draw.int(1, 8);
            for _ in 0..self.draw.int(0, 4) {
                let amount = self.draw.int(40, 100) * 1_000;
                if left > amount {
                    draw_cash(self, plant, &first, hours, amount, &terminal, &holder);
                    left -= amount;
                    hours += self.draw.int(0, 3);
                }
            }
            let onward = external(&format!("ONWARD-W{plant}"), "M. Service");
            belongs(self, plant, &onward);
            let mut sent = self.after(&first, hours, "transfer", "mobile", left);
            sent.debtor = own(&holder);
            sent.creditor = onward;
            self.put(plant, sent);
        }
    }

    /// Workers give back a part of their pay. Hidden: to the owner, in small parts, weeks later, or in cash. Look-alikes:
    /// staff housing and purchases, advances paid back, a wage paid by mistake, a family business.
    pub(super) fn pay_back(&mut self, variant: Variant) {
        let hidden = way(self, variant, 4);
        let innocent = variant.innocent();
        let kind = self.draw.index(4);
        let trade = [
            ("Gebäudereinigung Blank GmbH", "cleaning"),
            ("Gemüsehof Vogt KG", "agriculture"),
            ("Wäscherei Perl GmbH", "laundry"),
            ("Ausbau Kern GmbH", "construction"),
        ][self.draw.index(4)];
        let firm = self.firm(trade.0, trade.1);
        let owner = self.person();
        let plant = self.begin("wage-return-loop", &firm.account, variant);
        let pay = pay_days(self);
        let workers = if innocent { self.draw.int(2, 9) } else { 3 + self.draw.skewed(0, 12) };
        let cut = self.draw.int(32, 60);
        let fares = self.draw.chance(70);
        let last = self.last_day();
        for number in 0..workers {
            let mut worker = self.person();
            if innocent && kind == 3 && number == 0 {
                worker.household.clone_from(&firm.household);
                self.keep(&worker);
            }
            let month = self.draw.int(1_250, 2_300) * 100;
            for (round, &day) in pay.days.iter().enumerate() {
                let amount = month / pay.parts * self.draw.int(92, 108) / 100;
                let paid = wage(self, plant, day, &own(&firm), &worker, amount);
                if innocent {
                    let (share, memo) = match kind {
                        // A room of the firm, and what is bought there.
                        0 => (self.draw.int(14, 27), ["Miete Zimmer", "Personalkauf"][self.draw.index(2)]),
                        // One had an advance.
                        1 if number == 0 && round < 3 => (self.draw.int(30, 45), "Vorschuss zurück"),
                        2 if number == 0 && round == 1 => (100, "Überzahlung, doppelt"),
                        3 if number == 0 => (self.draw.int(40, 60), "Einlage"),
                        _ => continue,
                    };
                    let hours = self.draw.int(4, 150);
                    pass_on(self, plant, &paid, hours, amount * share / 100, &own(&firm), memo);
                    continue;
                }
                if self.draw.chance(12) {
                    continue;
                }
                let memo = if fares {
                    ["Transport", "Schulden", "Unterkunft", "Uniform", "Visum", "", "Vermittlung"]
                        [self.draw.index(7)]
                } else {
                    ["", "Rückzahlung", "Unterkunft", "Strafe", "wie besprochen"][self.draw.index(5)]
                };
                let back = amount * (cut + self.draw.int(-3, 8)) / 100;
                let hours = self.draw.skewed(2, 200);
                match hidden {
                    Some(0) => pass_on(self, plant, &paid, hours, back, &own(&owner), memo),
                    Some(1) => {
                        for part in 0..3 {
                            pass_on(self, plant, &paid, 20 + part * 50, back / 3, &own(&firm), memo);
                        }
                    }
                    Some(2) => pass_on(self, plant, &paid, 250 + hours, back, &own(&firm), memo),
                    Some(_) => {
                        let terminal = machine(self, &worker);
                        draw_cash(self, plant, &paid, hours, back, &terminal, &worker);
                    }
                    None => pass_on(self, plant, &paid, hours, back, &own(&firm), memo),
                }
            }
            if innocent {
                live_from(self, &worker, 45_000, 1, last);
            } else if self.draw.chance(60) {
                scrape_by(self, &worker, 1, last);
            }
        }
        // What the firm lives on.
        for day in (0..=last).filter(|day| day % 5 == 2) {
            let seconds = self.draw.time(&OFFICE);
            let amount = workers * self.draw.int(300, 700) * 100;
            let mut invoice = tx(self.calendar, day, seconds, "transfer", "online", amount);
            invoice.debtor = external(&format!("CLIENT-B{plant}-{}", day % 4), "Auftraggeber");
            invoice.creditor = own(&firm);
            invoice.memo = format!("Rechnung {}", 1_000 + day);
            self.put(0, invoice);
        }
    }
}
