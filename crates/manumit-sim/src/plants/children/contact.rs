//! Who travels to abuse, or lures near home; and holidaymakers, coaches and relatives.

use std::ops::Range;

use crate::calendar::HOUR;
use crate::draw::{AT_HOME, CASH, MEALS, OFFICE, SHOPPING};
use crate::life::{external, own, purchase, tx};
use crate::people::{CITIES, Customer, Place, home};
use crate::plants::children::{FAR, FAR_NAMES};
use crate::plants::{Planter, Variant};

impl Planter<'_> {
    /// Small payments to people abroad, then a trip there. Stealthy: a private flat in place of a hotel, or larger sums, or
    /// none but before another month. Look-alike: tourists with a guide, partners, people who winter there, relatives.
    pub(super) fn traveller_abroad(&mut self, variant: Variant) {
        if variant.innocent() {
            return self.holidaymaker();
        }
        let hidden = variant.stealthy();
        let mut traveller = self.person();
        self.of_age(&mut traveller, 27, 70);
        let plant = self.begin("contact-offender", &traveller.customer, variant);
        let (town, signs) = (FAR[self.draw.index(FAR.len())], self.signs(hidden));
        let (lead, stay) = (self.draw.count(10, 40), self.draw.count(6, 26));
        let first = self.first_day(lead + stay);
        let arrival = (first + lead).min(self.last_day().saturating_sub(5));
        let (private_flat, payees) = (hidden && self.draw.chance(60), self.draw.count(1, 3));
        for k in 0..self.draw.count(4, 13) {
            let day = first + self.draw.count(0, (arrival - first).saturating_sub(1));
            let seconds = self.late_evening();
            let amount =
                if hidden && !private_flat { self.draw.int(42, 100) } else { self.draw.skewed(4, 40) } * 500;
            let payee = k % payees;
            let to = (&*format!("MEET{plant}-{payee}"), FAR_NAMES[(payee + plant) as usize % 8]);
            let mut paid = self.sent_far((day, seconds), amount, &traveller, to, town.country);
            if signs.handles && (k == 0 || self.draw.chance(30)) {
                paid.memo =
                    ["see you soon @lila.88", "webcam", "pics", "private show"][self.draw.index(4)].into();
            } else if signs.reasons {
                paid.memo = ["school", "", "medicine", "for food"][self.draw.index(4)].into();
            }
            self.put(plant, paid);
        }
        if signs.sites {
            for _ in 0..self.draw.count(2, 6) {
                let day = first + self.draw.count(0, (arrival - first).saturating_sub(1));
                self.on_a_site(plant, day, &traveller);
            }
        }
        if signs.tools {
            self.a_tool(plant, first + 2, &traveller);
        }
        let goods = !hidden && self.draw.chance(60);
        self.visit(plant, &traveller, town, arrival..arrival + stay, (!private_flat, goods));
        self.at_home_but(&traveller, arrival..arrival + stay);
    }

    /// A flight, a room, meals and cash there.
    fn visit(
        &mut self,
        plant: u32,
        me: &Customer,
        town: Place,
        days: Range<u32>,
        (hotel, goods): (bool, bool),
    ) {
        let fare = self.draw.int(450, 1_300) * 100;
        let booked = days.start.saturating_sub(self.draw.count(4, 20));
        self.bought_online(plant, booked, me, ("4511", "Fernweh Air"), fare);
        let last = days.end.saturating_sub(1).min(self.last_day());
        let there = |planter: &mut Self, day, seconds, (mcc, name): (&'static str, &str), amount| {
            let mut bought = tx(planter.calendar, day, seconds, "card", "pos", amount);
            bought.debtor = own(me);
            (bought.mcc, bought.merchant, bought.place) = (mcc, format!("{name} {}", town.city), Some(town));
            planter.put(plant, bought);
        };
        if hotel {
            let amount = self.draw.int(25, 70) * 100 * i64::from(last - days.start + 1);
            there(self, days.start, 20 * HOUR, ("7011", "Hotel"), amount);
        }
        for day in days.start..=last {
            if self.draw.chance(45) {
                let (seconds, amount) = (self.draw.time(&MEALS), self.draw.price(500, 4_000));
                there(self, day, seconds, ("5812", "Restaurant"), amount);
            }
            if self.draw.chance(28) {
                let (seconds, amount) = (self.draw.time(&CASH), self.draw.int(5, 25) * 1_000);
                let mut cash = tx(self.calendar, day, seconds, "cash_out", "atm", amount);
                (cash.debtor, cash.place) = (own(me), Some(town));
                self.put(plant, cash);
            }
            if goods && self.draw.chance(15) {
                let (seconds, amount) = (self.draw.time(&SHOPPING), self.draw.price(800, 6_000));
                there(self, day, seconds, ("5945", "Toys"), amount);
            }
        }
    }

    /// Pay, rent and shopping at home, on all days but those of a trip.
    fn at_home_but(&mut self, me: &Customer, away: Range<u32>) {
        let income = self.draw.int(1_900, 4_500) * 100;
        for day in 0..self.calendar.days() {
            if self.calendar.runs(27, day) {
                let mut wage = tx(self.calendar, day, 9 * HOUR, "transfer", "batch", income);
                (wage.debtor, wage.creditor) = (external("EMPLOYER7", "Arbeitgeber AG"), own(me));
                (wage.purpose, wage.memo) = ("SALA", format!("Gehalt {}", self.calendar.month(day)));
                self.out.push(wage);
            }
            if self.calendar.runs(3, day) {
                let mut rent = tx(self.calendar, day, 6 * HOUR, "direct_debit", "batch", income * 3 / 10);
                (rent.debtor, rent.creditor) = (own(me), external("BILLVermieter7", "Vermieter"));
                self.out.push(rent);
            }
            if !away.contains(&day) && self.draw.chance(65) {
                purchase(&mut self.draw, me, self.calendar, day, self.out);
            }
        }
    }

    /// Who paid somebody there before a holiday, and has reason to.
    fn holidaymaker(&mut self) {
        let mut person = self.person();
        self.of_age(&mut person, 24, 72);
        let town = FAR[self.draw.index(FAR.len())];
        let kind = self.draw.index(4);
        if kind == 3 {
            (person.nationality, person.born_in) = ("DE", town.country);
            self.keep(&person);
        }
        let plant = self.begin("contact-offender", &person.customer, Variant::LookAlike);
        // A guide, a partner, a landlord for the winter, the family.
        let (payments, stay, memos) = match kind {
            0 => (self.draw.count(2, 4), self.draw.count(8, 16), ["Anzahlung Tour", "Tauchkurs", "Rest"]),
            1 => (self.draw.count(3, 9), self.draw.count(10, 24), ["for you", "", "miss you"]),
            2 => (self.draw.count(2, 3), self.draw.count(22, 35), ["deposit", "rent", "electricity"]),
            _ => (self.draw.count(3, 8), self.draw.count(14, 28), ["family support", "school", "birthday"]),
        };
        let lead = self.draw.count(12, 40);
        let first = self.first_day(lead + stay);
        let arrival = (first + lead).min(self.last_day().saturating_sub(5));
        for k in 0..payments {
            let day = first + self.draw.count(0, (arrival - first).saturating_sub(1));
            let seconds = self.draw.time(if kind == 1 { &AT_HOME } else { &OFFICE });
            let to = (&*format!("THERE{plant}"), FAR_NAMES[plant as usize % 8]);
            let amount = self.draw.int(8, 40) * 500;
            let mut paid = self.sent_far((day, seconds), amount, &person, to, town.country);
            paid.memo = memos[k as usize % 3].into();
            self.put(plant, paid);
        }
        if self.draw.chance(20) {
            self.a_tool(plant, first + 1, &person);
        }
        let goods = self.draw.chance(if kind == 3 { 70 } else { 15 });
        let hotel = kind != 3 || self.draw.chance(30);
        self.visit(plant, &person, town, arrival..arrival + stay, (hotel, goods));
        self.at_home_but(&person, arrival..arrival + stay);
    }

    /// Small round sums to several minors of the town, a room there, places where young people go. Stealthy: odd or larger
    /// sums, one minor at a time, gifts. Look-alike: coaches, relatives of other names, parents who pay for babysitting.
    pub(super) fn lurer(&mut self, variant: Variant) {
        if variant.innocent() {
            return self.friend_of_the_young();
        }
        let hidden = variant.stealthy();
        let mut adult = self.neighbour();
        self.of_age(&mut adult, 23, 64);
        let plant = self.begin("contact-offender-local", &adult.customer, variant);
        let span = self.draw.count(14, 30);
        let first = self.first_day(span);
        let minors: Vec<Customer> =
            (0..self.draw.count(2, 5)).map(|_| self.young_neighbour(&adult, 12, 16)).collect();
        let mut room = self.draw.chance(70);
        let handles = !hidden && (!room || self.draw.chance(40));
        room &= !hidden || self.draw.chance(40);
        for (number, minor) in minors.iter().enumerate() {
            // One after the other where it is to be hidden: not two within a month.
            let from = if hidden { number as u32 * 33 } else { self.draw.count(0, span / 3) };
            for k in 0..self.draw.count(2, 5) {
                let day = first + from + self.draw.count(0, span / 2);
                if hidden && day > self.last_day() {
                    continue;
                }
                let seconds = self.draw.time(&AT_HOME);
                let amount =
                    if hidden { self.draw.int(11, 97) * 100 + 50 } else { self.draw.skewed(2, 17) * 500 };
                let mut paid = self.handed(day, seconds, amount, own(&adult), own(minor));
                paid.memo = match (handles && (k == 0 || self.draw.chance(30)), self.draw.index(4)) {
                    (true, 0) => "pics".into(),
                    (true, _) => "für dich @kl.jo_12".into(),
                    (_, 1) => "🎁".into(),
                    _ => String::new(),
                };
                self.put(plant, paid);
            }
        }
        if room {
            for _ in 0..self.draw.count(1, 3) {
                let (day, amount) = (first + self.draw.count(span / 3, span), self.draw.int(55, 140) * 100);
                self.near_home(plant, day, &adult, ("7011", "Hotel Garni"), amount);
            }
        }
        if self.draw.chance(50) {
            for _ in 0..self.draw.count(4, 8) {
                let shop = [("7994", "Spielhalle"), ("5945", "Spieleladen"), ("7996", "Freizeitpark")];
                let (day, amount) = (first + self.draw.count(0, span), self.draw.price(500, 5_000));
                let shop = shop[self.draw.index(3)];
                self.near_home(plant, day, &adult, shop, amount);
            }
        }
        if !hidden && self.draw.chance(30) {
            for _ in 0..self.draw.count(2, 4) {
                let day = first + self.draw.count(0, span);
                self.on_a_site(plant, day, &adult);
            }
        }
    }

    /// Somebody young of the same town.
    fn young_neighbour(&mut self, adult: &Customer, least: i64, most: i64) -> Customer {
        let mut minor = self.neighbour();
        minor.city = adult.city;
        if minor.surname == adult.surname {
            (minor.name, minor.surname) = ("Lena Kirsch".into(), "Kirsch".into());
        }
        self.of_age(&mut minor, least, most);
        minor
    }

    /// A purchase by card in the own town in the afternoon.
    fn near_home(&mut self, plant: u32, day: u32, me: &Customer, shop: (&'static str, &str), amount: i64) {
        let seconds = 13 * HOUR + self.draw.int(0, 6 * HOUR);
        let mut bought = tx(self.calendar, day.min(self.last_day()), seconds, "card", "pos", amount);
        bought.debtor = own(me);
        bought.mcc = shop.0;
        bought.merchant = format!("{} {}", shop.1, CITIES[me.city].0);
        bought.place = home(me.city);
        self.put(plant, bought);
    }

    /// Who pays several minors and means well.
    fn friend_of_the_young(&mut self) {
        let mut adult = self.neighbour();
        let kind = self.draw.index(3);
        let (least, most) = [(24, 55), (58, 75), (30, 48)][kind];
        self.of_age(&mut adult, least, most);
        let plant = self.begin("contact-offender-local", &adult.customer, Variant::LookAlike);
        // A coach pays young referees, a grandparent grandchildren of other names, parents those who watch their children.
        let (minors, weeks, memo) = [(4, 6, "Schiri"), (3, 3, "Taschengeld"), (2, 7, "Babysitten")][kind];
        let first = self.first_day(weeks * 7);
        let young: Vec<Customer> =
            (0..self.draw.count(2, minors)).map(|_| self.young_neighbour(&adult, 13, 17)).collect();
        for week in 0..weeks {
            for minor in &young {
                if self.draw.chance(55) || week == 0 {
                    let (day, seconds) = (first + week * 7 + self.draw.count(0, 6), self.draw.time(&AT_HOME));
                    let amount = self.draw.int(2, 10) * 500;
                    let mut paid = self.handed(day, seconds, amount, own(&adult), own(minor));
                    paid.memo = memo.into();
                    self.put(plant, paid);
                }
            }
        }
        if self.draw.chance(if kind == 1 { 60 } else { 30 }) {
            for _ in 0..self.draw.count(3, 6) {
                let (day, amount) = (first + self.draw.count(0, 25), self.draw.price(900, 5_000));
                self.near_home(plant, day, &adult, ("5945", "Spieleladen"), amount);
            }
        }
        // Guests now and then sleep in a hotel near by.
        if self.draw.chance(6) {
            let day = first + self.draw.count(0, 20);
            self.near_home(plant, day, &adult, ("7011", "Hotel am Park"), 11_900);
        }
    }
}
