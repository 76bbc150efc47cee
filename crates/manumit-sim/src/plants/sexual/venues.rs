//! Shops that are fronts, and venues whose clients pay three people.
//!
//! # Source
//! Sales at night, dearer than by day, without staff costs, flats and payouts of processors: FINTRAC (2016, 2021) and
//! AUSTRAC (2022). Door fee, service and tip to three people within minutes: FinCEN's notice of 2026, read in summaries.
//! Counts and prices are priors of our own.

use crate::draw::{EVENING, NIGHT, OFFICE, SHOPPING};
use crate::life::{external, own};
use crate::people::Customer;
use crate::plants::{Planter, Variant};

impl Planter<'_> {
    /// A card sale of a shop of this bank.
    fn sale(
        &mut self,
        plant: u32,
        shop: &Customer,
        day: u32,
        hours: &[u32; 24],
        mcc: &'static str,
        sold: (i64, u32),
    ) {
        let client = self.draw.count(0, 400);
        let from = self.stranger("CARD", plant, client);
        let mut sale = self.payment(day, hours, "card", sold.0, from, own(shop));
        sale.channel = "pos";
        sale.mcc = mcc;
        sale.merchant.clone_from(&shop.name);
        sale.merchant_id = format!("M-{}-{}", shop.account, sold.1);
        sale.place = crate::people::home(shop.city);
        self.put(plant, sale);
    }

    /// A shop of personal services that sells at night. Stealthy: sales of the night are posted by day, and a wage is
    /// paid for the look of it. Look-alikes: hotel spas, barbers that close late, salons, clinics.
    pub(super) fn front(&mut self, variant: Variant) {
        if variant.innocent() {
            return self.open_late();
        }
        let (name, industry, mcc) = [
            ("Orchidee Massage", "massage", "7297"),
            ("Lotus Spa", "spa", "7298"),
            ("Studio Bella", "beauty salon", "7230"),
        ][self.draw.index(3)];
        let shop = self.firm(name, industry);
        let plant = self.begin("massage-spa-front", &shop.account, variant);
        let last = self.last_day();
        // Three or more of five signs.
        let mut signs = [false; 5];
        let most = self.draw.count(3, 5) as usize;
        self.draw.choose(5, most).into_iter().for_each(|sign| signs[sign] = true);
        let [no_staff, dearer, flats, processor, numbers] = signs;
        let (sales, at_night) = (self.draw.count(70, 320), self.draw.count(32, 65));
        for _ in 0..sales {
            let (day, late) = (self.draw.count(1, last), self.draw.chance(at_night));
            let amount = if late && dearer { self.sum(90, 260, 10) } else { self.sum(35, 90, 5) };
            let hours = if late && !variant.stealthy() { &NIGHT } else { &SHOPPING };
            let number = if numbers && !variant.stealthy() { self.draw.count(0, 2) } else { 0 };
            self.sale(plant, &shop, day, hours, mcc, (amount, number));
        }
        let staff = if variant.stealthy() { 1 } else { u32::from(!no_staff) * 2 };
        let rents = if flats { self.draw.count(3, 5) } else { 1 };
        self.expenses(plant, &shop, staff, rents, staff > 0);
        if processor {
            let name = ["Velvetpay", "Darkroom Billing"][self.draw.index(2)];
            for k in 0..self.draw.count(4, 12) {
                let (amount, payer) = (self.sum(150, 1_800, 1), external(&format!("PROCESSOR-{name}"), name));
                self.send(plant, 4 + k * 7, amount, payer, own(&shop));
            }
        }
    }

    /// Supplies each week, wages, rents and taxes each month.
    fn expenses(&mut self, plant: u32, shop: &Customer, staff: u32, rents: u32, taxed: bool) {
        for week in 0..self.last_day() / 7 {
            let (amount, to) = (self.sum(25, 190, 1), self.stranger("SUPPLIER", plant, week % 3));
            self.send(plant, 2 + week * 7, amount, own(shop), to);
        }
        for (month, wage_day) in self.calendar.monthly(27).into_iter().enumerate() {
            for k in 0..staff {
                let (amount, to) = (self.sum(1_300, 2_100, 10), self.stranger("STAFF", plant, k));
                let mut wage = self.payment(wage_day, &OFFICE, "transfer", amount, own(shop), to);
                wage.purpose = "SALA";
                wage.memo = "Lohn".into();
                self.put(plant, wage);
            }
            if taxed {
                let amount = self.sum(180, 900, 1);
                let office = external("TAX-OFFICE", "Sample Tax Office");
                let mut tax = self.payment(wage_day, &OFFICE, "transfer", amount, own(shop), office);
                tax.purpose = "TAXS";
                self.put(plant, tax);
            }
            for k in 0..rents {
                let (amount, to) = (500 + i64::from(k) * 140, self.stranger("LANDLORD", plant, k));
                let day = 2 + month as u32 * 30;
                let mut rent = self.payment(day, &OFFICE, "transfer", amount * 100, own(shop), to);
                rent.memo = if k == 0 { "Miete Laden".into() } else { format!("Miete Wohnung {k}") };
                self.put(plant, rent);
            }
        }
    }

    fn open_late(&mut self) {
        let kind = self.draw.index(5);
        let (name, industry, mcc) = [
            ("Hotel Therme Spa", "hotel", "7298"),
            ("Barbier am Bahnhof", "barber", "7230"),
            ("Nagelstudio", "nail salon", "7298"),
            ("Physiopraxis", "clinic", "7298"),
            ("Tattoo und Piercing", "personal services", "7299"),
        ][kind];
        let shop = self.firm(name, industry);
        let plant = self.begin("massage-spa-front", &shop.account, Variant::LookAlike);
        let at_night = [30, 28, 2, 4, 18][kind];
        let (last, shops) = (self.last_day(), u32::from(self.draw.chance(25)));
        for _ in 0..self.draw.count(80, 300) {
            let (day, late) = (self.draw.count(1, last), self.draw.chance(at_night));
            let amount = if late { self.sum(25, 110, 5) } else { self.sum(20, 95, 5) };
            let number = self.draw.count(0, shops);
            self.sale(plant, &shop, day, if late { &NIGHT } else { &SHOPPING }, mcc, (amount, number));
        }
        // Who works alone pays no wages, and some pay their taxes from another bank.
        let staff = if self.draw.chance(35) { 0 } else { self.draw.count(1, 4) };
        let taxed = self.draw.chance(80);
        self.expenses(plant, &shop, staff, 1, taxed);
    }

    /// Door fee, service, tip: three payments within minutes. Stealthy: half an hour apart, or the tip in cash, and those
    /// who are paid change by the week. Look-alikes: friends who settle a journey, clients of a salon who tip.
    pub(super) fn door_fee(&mut self, variant: Variant) {
        if variant.innocent() {
            return self.settle_up();
        }
        let (worker, door, service) = (self.person(), self.person(), self.person());
        let plant = self.begin("triple-p2p-venue", &worker.account, variant);
        let span = self.draw.count(20, 45);
        let first = self.first_day(span);
        let fee = self.sum(30, 60, 10);
        let vague = self.draw.count(35, 80);
        for _ in 0..(self.draw.count(3, 6) * span).div_ceil(7) {
            let payer = self.neighbour();
            let day = first + self.draw.count(0, span - 1);
            let hours = if self.draw.chance(75) { &EVENING } else { &SHOPPING };
            let worth = self.sum(100, 240, 20).max(fee * 2);
            let tip = self.sum(20, 60, 10).min(worth / 2);
            // Mostly in one order; now and then somebody tips first.
            let mut steps = [(&door, fee), (&service, worth), (&worker, tip)];
            if self.draw.chance(12) {
                self.draw.shuffle(&mut steps);
            }
            let mut last = self.payment(day, hours, "p2p", steps[0].1, own(&payer), own(steps[0].0));
            let vague_now = self.draw.chance(vague);
            for (k, (to, amount)) in steps.into_iter().enumerate() {
                if variant.stealthy() && k == 2 && self.draw.chance(50) {
                    break;
                }
                let mut paid = last.clone();
                if k > 0 {
                    let gap =
                        if variant.stealthy() { self.draw.int(700, 2_400) } else { self.draw.int(20, 230) };
                    paid.time = last.time + gap;
                    paid.offset = self.calendar.offset(paid.time);
                }
                (paid.creditor, paid.amount) = (own(to), amount);
                if vague_now && !variant.stealthy() {
                    paid.memo = ["wellness", "relax", "Personal care", "Entspannung", "thx"]
                        [self.draw.index(5)]
                    .into();
                }
                last = paid.clone();
                self.put(plant, paid);
            }
        }
        let taker = self.neighbour();
        for week in 1..=span / 7 {
            let amount = self.sum(150, 700, 10);
            self.send(plant, first + week * 7, amount, own(&worker), own(&taker));
        }
    }

    fn settle_up(&mut self) {
        let payee = self.neighbour();
        let plant = self.begin("triple-p2p-venue", &payee.account, Variant::LookAlike);
        let salon = self.draw.chance(60);
        let (first, second) = if salon {
            (self.firm("Salon Schnittpunkt", "beauty salon"), self.neighbour())
        } else {
            (self.neighbour(), self.neighbour())
        };
        let day = self.first_day(20);
        for k in 0..self.draw.count(4, 9) {
            let guest = self.neighbour();
            let (hours, on, amounts) = if salon {
                (&SHOPPING, day + k * 2, [self.sum(45, 140, 5), self.sum(4, 12, 2), self.sum(2, 6, 1)])
            } else {
                // Flat, train and food of a journey: everybody the same.
                (&EVENING, day + self.draw.count(0, 6), [24_000, 8_500, 6_200])
            };
            let mut last = self.payment(on, hours, "p2p", amounts[0], own(&guest), own(&first));
            last.memo = if salon { "Haare".into() } else { "Hütte".into() };
            self.put(plant, last.clone());
            // Some settle at once, others when they think of it.
            let at_once = self.draw.chance(if salon { 50 } else { 35 });
            for (to, amount, memo) in [(&second, amounts[1], "Trinkgeld"), (&payee, amounts[2], "Essen")] {
                let gap = if at_once { self.draw.int(30, 200) } else { self.draw.int(900, 90_000) };
                last.time += gap;
                last.offset = self.calendar.offset(last.time);
                (last.creditor, last.amount) = (own(to), amount);
                last.memo = memo.into();
                self.put(plant, last.clone());
            }
        }
    }
}
