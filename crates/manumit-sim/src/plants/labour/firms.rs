//! Firms behind which people are made to work.

use crate::calendar::HOUR;
use crate::draw::{EVENING, OFFICE, SHOPPING};
use crate::life::{external, own, tx};
use crate::people::{CITIES, Customer, home};
use crate::plants::payday::{NAMES, live_from, machine, wage, way};
use crate::plants::{Party, Planter, Variant};

/// Name, industry.
const TRADES: [(&str, &str); 6] = [
    ("Glanz Gebäudeservice GmbH", "cleaning"),
    ("Erntehelfer Marsch KG", "agriculture"),
    ("Rohbau Lindner GmbH", "construction"),
    ("Handwäsche City", "car wash"),
    ("Kurier Direkt GmbH", "parcel delivery"),
    ("Zerlegung Heide GmbH", "meat processing"),
];

/// Name, industry.
const SHOPS: [(&str, &str); 6] = [
    ("Lotus Massage", "massage"),
    ("Nails & More", "nail salon"),
    ("Bar Rubin", "bar"),
    ("Spa Oase", "spa"),
    ("Shisha Bar Nil", "bar"),
    ("Autopflege Stern", "car wash"),
];

impl Planter<'_> {
    /// A firm of much work takes in money and pays neither wages nor tax, but cash, beds and food. Hidden: some tax for
    /// show, subcontractors for show, wages for show, or cash by many small sums through a card. Look-alikes: firms with
    /// wages and tax, with a payroll bureau, with all accounts but one elsewhere, and start-ups.
    pub(super) fn no_payroll(&mut self, variant: Variant) {
        let hidden = way(self, variant, 3);
        let innocent = variant.innocent();
        let kind = self.draw.index(5);
        let trade = TRADES[self.draw.index(TRADES.len())];
        let mut firm = self.firm(trade.0, trade.1);
        if innocent && kind == 3 {
            firm.opened_on = self.calendar.date(0) - chrono::TimeDelta::days(self.draw.int(10, 60));
            self.keep(&firm);
        }
        let plant = self.begin("payroll-gap-employer", &firm.account, variant);
        let last = self.last_day();
        // Cents that come in in a month: five workers or thirty; one who works alone has less.
        let month = match (innocent, kind) {
            (true, 4) => self.draw.int(70, 130) * 10_000,
            _ => 2_400_000 + self.draw.skewed(0, 7_500_000),
        };
        self.invoices(plant, &firm, month, 0);
        let terminal = machine(self, &firm);
        let cash_share = if innocent { self.draw.int(3, 12) } else { self.draw.int(25, 60) };
        let supply_share = self.draw.int(6, 22);
        let (crew, visa) = (self.draw.chance(60), self.draw.chance(40));
        for day in 3..=last {
            let weekday = self.calendar.weekday(day);
            if weekday == 4 || weekday == 3 && cash_share > 40 {
                // Pay in the hand, by the week: cash machines give some notes at a time.
                let mut left = month * cash_share / 100 / if cash_share > 40 { 9 } else { 4 };
                let mut seconds = self.draw.time(&OFFICE);
                while left >= 5_000 {
                    let amount = left.min(self.draw.int(15, 40) * 10_000);
                    let mut cash =
                        tx(self.calendar, day, seconds, "cash_out", "atm", amount - amount % 1_000);
                    cash.debtor = own(&firm);
                    cash.place = home(firm.city);
                    cash.terminal.clone_from(&terminal);
                    self.put(plant, cash);
                    left -= amount;
                    seconds += self.draw.int(60, 1_500);
                }
            }
            if weekday == 1 {
                let amount = month * supply_share / 400;
                let supplier = external(&format!("SUPPLY{}", self.draw.int(0, 9)), "Baustoffe Großhandel");
                self.send(plant, day, amount, own(&firm), supplier);
            }
            if crew && weekday < 6 && (!innocent || kind != 4) {
                if self.draw.chance(35) {
                    self.firm_card(plant, &firm, day, "7011", "Monteurzimmer", (4_000, 22_000));
                }
                if self.draw.chance(45) {
                    self.firm_card(plant, &firm, day, "5411", "Großmarkt", (3_000, 16_000));
                }
            }
            if weekday == 2 && self.draw.chance(70) {
                self.firm_card(plant, &firm, day, "5541", "Tankstelle", (4_000, 14_000));
            }
            if !innocent && visa && self.draw.permille(60) {
                let agent = ["Bright Path Recruiting", "Sample Visa Centre"][self.draw.index(2)];
                let amount = self.draw.int(12, 60) * 1_000;
                self.send(plant, day, amount, own(&firm), external("AGENT", agent));
            }
        }
        let crew: Vec<Customer> = match (innocent, hidden, kind) {
            (true, _, 0) => (0..self.draw.count(4, 9)).map(|_| self.person()).collect(),
            (_, Some(2), _) => (0..3).map(|_| self.person()).collect(),
            _ => Vec::new(),
        };
        for day in self.calendar.monthly(15) {
            let tax = external("FINANZAMT", "Finanzamt");
            let sent: Option<(Party, i64, &str)> = match (innocent, kind, hidden) {
                (true, 0, _) => Some((tax, month * 19 / 100, "TAXS")),
                (true, 1, _) => Some((external("PAYROLL", "Payslip Bureau Sample"), month * 55 / 100, "")),
                (true, 2, _) => {
                    Some((external(&format!("OWNBANK{plant}"), &firm.name), month * 70 / 100, ""))
                }
                (true, 3, _) => Some((external("LEASING", "Leasing"), month * 10 / 100, "")),
                // Alone: tax, and what the owner lives on.
                (true, _, _) => Some((tax, month * 12 / 100, "TAXS")),
                (_, _, Some(0)) => Some((tax, month * 2 / 100, "TAXS")),
                (_, _, Some(1)) => Some((external("SUBCON", "Subunternehmen Trans"), month * 45 / 100, "")),
                _ => None,
            };
            if let Some((to, amount, purpose)) = sent {
                let mut paid = tx(self.calendar, day, 9 * HOUR, "transfer", "online", amount);
                (paid.debtor, paid.creditor, paid.purpose) = (own(&firm), to, purpose);
                self.put(plant, paid);
            }
            for worker in &crew {
                let amount = if innocent { month * 5 / 100 } else { self.draw.int(80, 130) * 1_000 };
                wage(self, plant, day, &own(&firm), worker, amount);
            }
        }
        if innocent {
            crew.iter().for_each(|worker| live_from(self, worker, 50_000, 1, last));
        }
    }

    /// Puts what clients pay in every month: a few of them, each again and again. Percent of growth a month.
    fn invoices(&mut self, plant: u32, firm: &Customer, month: i64, growth: i64) {
        let clients = self.draw.int(4, 14);
        let each = self.draw.int(8, 22);
        for day in 1..=self.last_day() {
            if self.calendar.weekday(day) > 4 || !self.draw.permille(each as u32 * 45) {
                continue;
            }
            let amount = month / each * self.draw.int(60, 140) / 100;
            let amount = amount * (100 + growth * i64::from(day) / 30) / 100 + self.draw.int(0, 99);
            let seconds = self.draw.time(&OFFICE);
            let mut paid = tx(self.calendar, day, seconds, "transfer", "online", amount);
            paid.debtor =
                external(&format!("ORDER{plant}-{}", self.draw.int(0, clients)), "Auftraggeber GmbH");
            paid.creditor = own(firm);
            paid.memo = format!("Rechnung {}", self.draw.int(1_000, 9_999));
            self.put(plant, paid);
        }
    }

    fn firm_card(
        &mut self,
        plant: u32,
        firm: &Customer,
        day: u32,
        mcc: &'static str,
        name: &str,
        least_and_most: (i64, i64),
    ) {
        let (seconds, amount) =
            (self.draw.time(&SHOPPING), self.draw.price(least_and_most.0, least_and_most.1));
        let mut bought = tx(self.calendar, day, seconds, "card", "pos", amount);
        bought.debtor = own(firm);
        bought.mcc = mcc;
        bought.merchant = format!("{name} {}", CITIES[firm.city].0);
        bought.place = home(firm.city);
        self.put(plant, bought);
    }

    /// A staffing firm, young, turns what clients pay into cash and round sums. Hidden: under another trade, with odd sums,
    /// or with some tax. Look-alikes: a licensed provider, a young agency that pays wages and tax, one that places people.
    pub(super) fn staffing_front(&mut self, variant: Variant) {
        let hidden = way(self, variant, 3);
        let innocent = variant.innocent();
        let kind = self.draw.index(3);
        let industry =
            ["staffing", "temporary help", "employment agency", "labour provider"][self.draw.index(4)];
        let industry = if hidden == Some(0) { "services" } else { industry };
        let mut firm = self.firm("Personal Express UG", industry);
        firm.opened_on = self.calendar.date(0) - chrono::TimeDelta::days(self.draw.int(20, 420));
        firm.labour_licence = innocent && kind == 0;
        self.keep(&firm);
        let plant = self.begin("labour-provider-front", &firm.account, variant);
        let last = self.last_day();
        let growth = self.draw.int(0, 150);
        let month = if innocent && kind == 2 {
            self.draw.int(70, 140) * 10_000
        } else {
            1_200_000 + self.draw.skewed(0, 6_000_000)
        };
        self.invoices(plant, &firm, month, growth);
        let out = self.draw.int(68, 92);
        let in_cash = self.draw.int(20, 80);
        let people: Vec<Party> = self
            .draw
            .choose(NAMES.len(), 7)
            .into_iter()
            .map(|name| external(&format!("HAND{plant}-{name}"), NAMES[name]))
            .collect();
        let terminal = machine(self, &firm);
        for day in (2..=last).filter(|day| self.calendar.weekday(*day) == 4) {
            let week = month * (100 + growth * i64::from(day) / 30) / 430;
            if innocent && kind > 0 {
                continue;
            }
            let (mut cash, mut round) =
                (week * out * in_cash / 10_000, week * out * (100 - in_cash) / 10_000);
            let mut seconds = self.draw.time(&OFFICE);
            while cash >= 20_000 {
                let amount = cash.min(self.draw.int(10, 30) * 10_000);
                let mut drawn = tx(self.calendar, day, seconds, "cash_out", "atm", amount - amount % 1_000);
                drawn.debtor = own(&firm);
                drawn.place = home(firm.city);
                drawn.terminal.clone_from(&terminal);
                self.put(plant, drawn);
                cash -= amount;
                seconds += self.draw.int(60, 2_000);
            }
            while round >= 10_000 {
                let mut amount = round.min(self.draw.int(4, 24) * 10_000);
                amount -= amount % 5_000;
                round -= amount.max(1);
                // A few are paid to the cent; who hides pays all so.
                if hidden == Some(1) || self.draw.chance(12) {
                    amount += self.draw.int(101, 3_900);
                }
                let to = people[self.draw.index(people.len())].clone();
                self.send(plant, day, amount, own(&firm), to);
            }
        }
        if !innocent && self.draw.chance(40) {
            for _ in 0..self.draw.int(6, 14) {
                let day = self.draw.count(1, last);
                let mut fare =
                    tx(self.calendar, day, 11 * HOUR, "card", "online", self.draw.price(4_000, 19_000));
                fare.debtor = own(&firm);
                (fare.mcc, fare.merchant) = ("4131", "Fernbus".into());
                fare.passenger = NAMES[self.draw.index(NAMES.len())].into();
                self.put(plant, fare);
            }
        }
        let staff: Vec<Customer> = if innocent && kind == 1 {
            (0..self.draw.count(3, 8)).map(|_| self.person()).collect()
        } else {
            Vec::new()
        };
        for day in self.calendar.monthly(12) {
            let (tax, owner) =
                (external("FINANZAMT", "Finanzamt"), external(&format!("OWNER{plant}"), "P. Kaiser"));
            let pay = month * 55 / 100 / (staff.len() as i64).max(1);
            for worker in &staff {
                let odd = self.draw.int(0, 9_999);
                wage(self, plant, day, &own(&firm), worker, pay + odd);
            }
            if innocent && kind == 2 {
                // Places people for a fee; the owner draws a salary.
                self.send(plant, day, month * 45 / 100 / 5_000 * 5_000, own(&firm), owner);
            }
            let share = match (innocent, kind, hidden) {
                (true, 1, _) => 22,
                (true, 2, _) => 10,
                (_, _, Some(2)) => 2,
                _ => continue,
            };
            let mut paid = tx(self.calendar, day, 9 * HOUR, "transfer", "online", month * share / 100);
            (paid.debtor, paid.creditor, paid.purpose) = (own(&firm), tax, "TAXS");
            self.put(plant, paid);
        }
        staff.iter().for_each(|worker| live_from(self, worker, 50_000, 1, last));
    }

    /// Shops that share an address or a telephone move money and people among them. Hidden: other addresses and numbers,
    /// little money within, workers in cash. Look-alikes: family chains, groups with a treasury, neighbours in an arcade.
    pub(super) fn shop_ring(&mut self, variant: Variant) {
        let hidden = way(self, variant, 3);
        let innocent = variant.innocent();
        // A family chain with payroll and tax; a declared group; shops of one arcade; a chain that pays tax elsewhere.
        let kind = match self.draw.int(0, 9) {
            0..=3 => 0,
            4..=6 => 1,
            7 | 8 => 2,
            _ => 3,
        };
        let phone = self.draw.chance(50);
        let count = self.draw.count(3, 6) as usize;
        let mut shops: Vec<Customer> = Vec::new();
        for _ in 0..count {
            let (name, industry) = SHOPS[self.draw.index(SHOPS.len())];
            let mut shop = self.firm(name, industry);
            if let Some(first) = shops.first().filter(|_| hidden != Some(0)) {
                if phone && !(innocent && kind == 2) {
                    shop.phone.clone_from(&first.phone);
                } else {
                    shop.address.clone_from(&first.address);
                }
                self.keep(&shop);
            }
            shops.push(shop);
        }
        let Some(first) = shops.first().cloned() else { return };
        let plant = self.begin("storefront-ring", &first.customer, variant);
        let last = self.last_day();
        let workers = if innocent { self.draw.count(1, 5) } else { 3 + self.draw.skewed(0, 7) as u32 };
        let workers: Vec<Customer> =
            (0..workers).map(|_| if innocent { self.person() } else { self.neighbour() }).collect();
        let day_takings = self.draw.int(180, 900) * 100;
        let within = match (innocent, kind, hidden) {
            (true, 2, _) => 0,
            (true, 0, _) => self.draw.int(5, 25),
            (true, _, _) => self.draw.int(20, 45),
            (_, _, Some(1)) => self.draw.int(4, 14),
            _ => self.draw.int(28, 60),
        };
        let pushes = self.draw.int(30, 90) as u32;
        for day in 1..=last {
            for (number, shop) in shops.iter().enumerate() {
                let takings = day_takings * self.draw.int(50, 150) / 100;
                let seconds = 9 * HOUR + self.draw.int(0, 2 * HOUR);
                if day % 2 == number as u32 % 2 {
                    let mut cash =
                        tx(self.calendar, day, seconds, "cash_in", "branch", takings - takings % 500);
                    cash.creditor = own(shop);
                    cash.place = home(shop.city);
                    cash.depositor.clone_from(&shop.customer);
                    self.put(plant, cash.clone());
                    if !innocent && self.draw.chance(pushes) {
                        let mut gone = self.after(&cash, 3, "p2p", "mobile", takings * 85 / 100);
                        gone.debtor = own(shop);
                        // To the next shop, or to who is behind them.
                        gone.creditor = if self.draw.chance(55) && hidden != Some(1) {
                            own(&shops[(number + 1) % count])
                        } else {
                            external(&format!("BEHIND{plant}"), "V. Holding")
                        };
                        self.put(plant, gone);
                    }
                }
                if self.draw.chance(30) {
                    let mut client = tx(
                        self.calendar,
                        day,
                        self.draw.time(&EVENING),
                        "p2p",
                        "mobile",
                        self.draw.int(4, 15) * 1_000,
                    );
                    client.debtor = external(&format!("GUEST{}", self.draw.int(0, 999)), "Kunde");
                    client.creditor = own(shop);
                    self.put(plant, client);
                }
                if self.calendar.weekday(day) == 0 && within > 0 {
                    for k in 1..3 {
                        let other = own(&shops[(number + k) % count]);
                        let amount = day_takings * 3 * within / 200 * self.draw.int(80, 120) / 100;
                        let seconds = self.draw.time(&OFFICE);
                        let mut moved = tx(self.calendar, day, seconds, "transfer", "online", amount);
                        (moved.debtor, moved.creditor) = (own(shop), other);
                        if innocent && kind == 1 {
                            moved.purpose = "INTC";
                        }
                        self.put(plant, moved);
                    }
                }
            }
            if self.calendar.weekday(day) == 5 {
                for (number, worker) in workers.iter().enumerate() {
                    // They are sent to where they are needed.
                    let at = if innocent && (kind == 2 || number > 1) {
                        number
                    } else {
                        number + day as usize / 14
                    };
                    let mut paid =
                        tx(self.calendar, day, 20 * HOUR, "transfer", "online", self.draw.int(9, 32) * 1_000);
                    paid.debtor = own(&shops[at % count]);
                    paid.creditor = own(worker);
                    if innocent {
                        paid.purpose = "SALA";
                    }
                    if hidden == Some(2) {
                        paid.kind = "cash_out";
                        paid.channel = "atm";
                        paid.creditor = None;
                    }
                    self.put(plant, paid);
                }
            }
        }
        if innocent && kind < 3 {
            for day in self.calendar.monthly(10) {
                for shop in &shops {
                    let mut tax = tx(self.calendar, day, 9 * HOUR, "transfer", "online", day_takings * 2);
                    (tax.debtor, tax.creditor, tax.purpose) =
                        (own(shop), external("FINANZAMT", "Finanzamt"), "TAXS");
                    self.put(plant, tax);
                }
            }
        }
        if innocent {
            workers.iter().for_each(|worker| live_from(self, worker, 40_000, 1, last));
        }
    }
}
