//! Clients who pay by transfer: to those who work, to a go-between, for adverts and flats.
//!
//! # Source
//! 3 to 12 payers a week, most of them once, prices of 40 to 300, and money that leaves within one to three days are
//! priors of our own; adverts in multiples of 3, 12 and 24 are FINTRAC's (2016), about USD 2,270 a month and person the
//! ILO's (2024).

use crate::draw::{AT_HOME, EVENING, OFFICE, SHOPPING};
use crate::life::{external, own};
use crate::people::Customer;
use crate::plants::{Party, Planter, Variant};
use crate::record::Transaction;

/// What clients are asked, cents.
const PRICES: [i64; 8] = [6_000, 8_000, 10_000, 12_000, 15_000, 20_000, 25_000, 30_000];
/// Payment texts of clients.
const WORDS: [&str; 8] =
    ["outcall", "incall 1h", "100 roses", "GFE", "escort Fr", "roses 🌹", "full service", "outcall hotel"];
/// Payment texts that say nothing.
const VAGUE: [&str; 6] = ["", "", "danke", "wie besprochen", "👍", "Fr 22h"];
/// Names under which people work.
const WORKING_NAMES: [&str; 6] = ["Bella", "Lola", "Jade", "Mia", "Nina", "Coco"];

/// How clients come to one account.
#[derive(Clone, Copy)]
struct Trade {
    /// First day.
    first: u32,
    /// Days.
    span: u32,
    /// Payments in 30 days.
    a_month: u32,
    /// Per cent of them in the evening and at night.
    evening: u32,
    /// Per cent with words of sexual services.
    worded: u32,
    /// Without any text.
    silent: bool,
    /// At even distances, so that no week has many.
    even: bool,
}

impl Planter<'_> {
    /// Payments of clients in order of time, as part of the network.
    fn clients(&mut self, plant: u32, to: &Customer, trade: Trade) -> Vec<Transaction> {
        let points = self.draw.count(3, 4) as usize;
        let prices: Vec<i64> = self.draw.choose(PRICES.len(), points).iter().map(|&k| PRICES[k]).collect();
        let mut payments = Vec::new();
        for k in 0..(trade.a_month * trade.span).div_ceil(30) {
            // Some come again.
            let payer = if k > 3 && self.draw.chance(12) { self.draw.count(0, k - 1) } else { k };
            let from = self.stranger(&format!("CLIENT{}-", to.account), plant, payer);
            let amount = if self.draw.chance(85) {
                prices[self.draw.index(prices.len())]
            } else {
                self.sum(40, 300, 5)
            };
            let hours = if self.draw.chance(trade.evening) { &EVENING } else { &SHOPPING };
            let day = if trade.even {
                trade.first + k * 30 / trade.a_month.max(1) + self.draw.count(0, 1)
            } else {
                trade.first + self.draw.count(0, trade.span.saturating_sub(1))
            };
            let kind = if self.draw.chance(80) { "p2p" } else { "transfer" };
            let mut paid = self.payment(day, hours, kind, amount, from, own(to));
            if self.draw.chance(trade.worded) {
                paid.memo = WORDS[self.draw.index(WORDS.len())].into();
            } else if !trade.silent {
                paid.memo = VAGUE[self.draw.index(VAGUE.len())].into();
            }
            payments.push(paid);
        }
        payments.sort_by_key(|paid| paid.time);
        payments.iter().for_each(|paid| self.put(plant, paid.clone()));
        payments
    }

    /// After one to `most` payments `low` to 95 per cent of them go to one of `to`.
    fn pass_on(
        &mut self,
        plant: u32,
        from: &Customer,
        payments: &[Transaction],
        most: u32,
        low: i64,
        to: &[Party],
    ) {
        let (mut held, mut left) = (0, self.draw.count(1, most));
        for paid in payments {
            (held, left) = (held + paid.amount, left.saturating_sub(1));
            if left == 0 {
                let (hours, share) = (self.draw.int(1, 20), self.draw.int(low, 95));
                let kind = if self.draw.chance(60) { "p2p" } else { "transfer" };
                let amount = held * share / 100 / 500 * 500;
                let mut sent = self.after(paid, hours, kind, "mobile", amount.max(2_000));
                sent.debtor = own(from);
                sent.creditor.clone_from(&to[self.draw.index(to.len())]);
                self.put(plant, sent);
                (held, left) = (0, self.draw.count(1, most));
            }
        }
    }

    /// Who takes what others earned: of this bank or of another.
    fn taker(&mut self, plant: u32, k: u32, holder: &Customer) -> Party {
        if !self.draw.chance(60) {
            return self.stranger("TAKER", plant, k);
        }
        let mut taker = self.neighbour();
        // The bank has thirty surnames: as many namesakes as among them are not found outside.
        if taker.surname == holder.surname {
            (taker.name, taker.surname) = ("Viktor Petrow".into(), "Petrow".into());
            self.keep(&taker);
        }
        own(&taker)
    }

    /// Gives `first` and some others one telephone; each of them gives orders with it now and then.
    fn one_telephone(&mut self, plant: u32, first: &mut Customer, trade: Trade) {
        for _ in 0..self.draw.count(3, 5) {
            let mut other = self.person();
            other.device.clone_from(&first.device);
            self.keep(&other);
            for payment in self.clients(plant, &other, Trade { a_month: 8, ..trade }) {
                let hours = self.draw.int(2, 30);
                let mut sent = self.after(&payment, hours, "p2p", "mobile", payment.amount * 8 / 10);
                sent.debtor = own(&other);
                sent.creditor = self.stranger("TAKER", plant, 9);
                self.put(plant, sent);
            }
        }
    }

    fn trade(&mut self, a_month: (u32, u32)) -> Trade {
        let span = self.draw.count(32, 60);
        Trade {
            first: self.first_day(span),
            span,
            a_month: self.draw.count(a_month.0, a_month.1),
            evening: self.draw.count(70, 95),
            worded: self.draw.count(0, 20),
            silent: false,
            even: false,
        }
    }

    /// Clients by transfer in the evening, and somebody who takes it. Stealthy: fewer, by day, and what is passed on is
    /// drawn in cash. Look-alikes: tutors, hairdressers, therapists, sellers.
    pub(super) fn price_band(&mut self, variant: Variant) {
        if variant.innocent() {
            return self.services_by_the_hour();
        }
        let mut person = self.person();
        let plant = self.begin("price-band-fan-in", &person.account, variant);
        let mut trade = self.trade((18, 50));
        if variant.stealthy() {
            (trade.a_month, trade.evening, trade.worded) = (self.draw.count(10, 20), 40, 0);
            let payments = self.clients(plant, &person, trade);
            for paid in &payments {
                if self.draw.chance(40) {
                    let day = trade.first + self.draw.count(0, trade.span);
                    let cash = self.cash_out(&person, day, person.city, paid.amount / 2_000 * 2_000);
                    self.put(plant, cash);
                }
            }
            return;
        }
        if self.draw.chance(25) {
            self.one_telephone(plant, &mut person, trade);
        }
        let payments = self.clients(plant, &person, trade);
        let taker = self.taker(plant, 0, &person);
        let rounds = self.draw.count(2, 5);
        self.pass_on(plant, &person, &payments, rounds, 60, &[taker]);
        self.shopping(&person, trade.first, trade.span, 15);
    }

    fn services_by_the_hour(&mut self) {
        let person = self.neighbour();
        let plant = self.begin("price-band-fan-in", &person.account, Variant::LookAlike);
        let span = self.draw.count(30, 55);
        let first = self.first_day(span);
        let seller = self.draw.index(4);
        let (people, prices, hours, memo): (u32, &[i64], _, _) = match seller {
            0 => (9, &[4_500, 6_000], &OFFICE, "Nachhilfe"),
            1 => (40, &[3_500, 6_500, 8_500, 9_500], &SHOPPING, "Haare"),
            2 => (14, &[9_500, 12_000], &EVENING, "Sitzung"),
            // Sold to whoever asks, in the evening, for what it is worth.
            _ => (30, &[2_500, 7_500, 4_000, 11_000, 18_500, 3_200], &AT_HOME, ""),
        };
        for k in 0..self.draw.count(20, 45) {
            let day = first + self.draw.count(0, span - 1);
            let payer = if seller == 3 { k } else { self.draw.count(0, people - 1) };
            let amount = prices[self.draw.index(prices.len())];
            let from = self.stranger("PAYER", plant, payer);
            let mut paid = self.payment(day, hours, "p2p", amount, from, own(&person));
            paid.memo = memo.into();
            self.put(plant, paid);
        }
        // A practice room or a parcel shop is paid every week.
        let room = self.stranger("ROOM", plant, 0);
        for week in 0..span / 7 {
            let amount = self.sum(60, 150, 5);
            self.send(plant, first + week * 7, amount, own(&person), room.clone());
        }
    }

    /// Adverts day by day, takings, and somebody who gets them. Stealthy: adverts are few and on sites that nobody knows,
    /// takings go to three people in turn. Look-alikes: who works alone, who sells a household, who advertises a craft.
    pub(super) fn adverts(&mut self, variant: Variant) {
        if variant.innocent() {
            return self.small_advertiser();
        }
        let mut person = self.person();
        let plant = self.begin("ad-spend-cash-loop", &person.account, variant);
        let mut trade = self.trade((12, 40));
        if variant.stealthy() {
            trade.worded = 0;
        }
        let site = ["Pinboard Ads", "Nightlist Classifieds", "Kontaktmarkt", "Citydates"][self.draw.index(4)];
        let a_week = if variant.stealthy() { 15 } else { self.draw.count(55, 160) };
        let unit = [300, 1_200, 2_400][self.draw.index(3)];
        for day in trade.first..trade.first + trade.span {
            // Sites ask the same small sums, for a place on top more of them.
            for _ in 0..u32::from(self.draw.permille(a_week * 6)) + u32::from(self.draw.permille(a_week * 3))
            {
                let advert = if variant.stealthy() {
                    let amount = self.sum(30, 90, 5);
                    self.ordered(&person, day, &AT_HOME, ("5968", "Plusmember"), amount)
                } else {
                    let times = if unit == 300 { self.draw.int(1, 6) } else { 1 };
                    let mcc = if self.draw.chance(85) { "7311" } else { "7273" };
                    self.ordered(&person, day, &AT_HOME, (mcc, site), unit * times)
                };
                self.put(plant, advert);
            }
        }
        let shared = !variant.stealthy() && self.draw.chance(30);
        if shared {
            self.one_telephone(plant, &mut person, trade);
        }
        let mut payments = self.clients(plant, &person, trade);
        for _ in 0..trade.span / 8 {
            let (day, amount) = (trade.first + self.draw.count(0, trade.span - 1), self.sum(60, 600, 10));
            let cash = self.cash_in(&person, day, &EVENING, person.city, amount, "");
            payments.push(cash.clone());
            self.put(plant, cash);
        }
        payments.sort_by_key(|paid| paid.time);
        let takers: Vec<Party> =
            (0..if variant.stealthy() { 3 } else { 1 }).map(|k| self.taker(plant, k, &person)).collect();
        let most = self.draw.count(2, 6);
        self.pass_on(plant, &person, &payments, most, if variant.stealthy() { 45 } else { 65 }, &takers);
        self.shopping(&person, trade.first, trade.span, 20);
    }

    fn small_advertiser(&mut self) {
        let person = self.neighbour();
        let plant = self.begin("ad-spend-cash-loop", &person.account, Variant::LookAlike);
        let trade = self.trade((10, 30));
        let kind = self.draw.index(4);
        let (mcc, site) = [
            ("7311", "Nightlist Classifieds"),
            ("7311", "Pinboard Ads"),
            ("7311", "Lokalanzeiger"),
            ("7273", "Herzblatt Dating"),
        ][kind];
        for k in 0..self.draw.count(12, 40) {
            let day = trade.first + k % trade.span;
            let amount = [300, 490, 990, 1_200, 2_400][self.draw.index(5)];
            let advert = self.ordered(&person, day, &AT_HOME, (mcc, site), amount);
            self.put(plant, advert);
        }
        if kind == 0 {
            // Lawful work of one's own: what comes in is kept, lived from, or put aside with another bank.
            self.clients(plant, &person, trade);
            let aside = external(&format!("SAVINGS{plant}"), &person.name);
            for week in 0..trade.span / 7 {
                let amount = self.sum(100, 400, 10);
                self.send(plant, trade.first + week * 7, amount, own(&person), aside.clone());
            }
            let cleaner = self.stranger("CLEANER", plant, 0);
            for week in 0..trade.span / 14 {
                self.send(plant, trade.first + week * 14 + 2, 6_000, own(&person), cleaner.clone());
            }
            return;
        }
        for k in 0..self.draw.count(6, 25) {
            let day = trade.first + self.draw.count(0, trade.span - 1);
            let (from, amount) = (self.stranger("BUYER", plant, k), self.sum(5, 140, 5));
            let mut paid = self.payment(day, &AT_HOME, "p2p", amount, from, own(&person));
            paid.memo = ["Sofa", "Kleinanzeige", "Kurs", "Essen geteilt"][kind].into();
            self.put(plant, paid);
        }
    }

    /// Clients pay a nominee, who pays those who work and those who hold them. Stealthy: texts are coded, prices odd, and
    /// each of several nominees has few payers. Look-alikes: who organises a trip or lessons, sells, or gives massages.
    pub(super) fn go_between(&mut self, variant: Variant) {
        if variant.innocent() {
            return self.organiser();
        }
        let person = self.person();
        let plant = self.begin("escort-collector", &person.account, variant);
        let mut trade = self.trade((24, 70));
        let texts = self.draw.chance(70);
        (trade.worded, trade.silent) = if texts { (self.draw.count(40, 80), false) } else { (0, true) };
        if variant.stealthy() {
            (trade.a_month, trade.worded, trade.silent) = (self.draw.count(8, 12), 8, false);
            trade.even = true;
        }
        let mut receivers: Vec<Party> = Vec::new();
        for _ in 0..self.draw.count(2, 5) {
            let woman = self.person();
            let hers = Trade { a_month: self.draw.count(14, 30), worded: 10, ..trade };
            self.clients(plant, &woman, hers);
            self.shopping(&woman, trade.first, trade.span, 10);
            receivers.push(own(&woman));
        }
        if self.draw.chance(50) {
            receivers.push(self.taker(plant, 0, &person));
        }
        let named = self.draw.chance(40);
        let payments = self.clients(plant, &person, trade);
        let before = self.out.len();
        let most = self.draw.count(2, 5);
        self.pass_on(plant, &person, &payments, most, if variant.stealthy() { 40 } else { 70 }, &receivers);
        if named {
            for sent in self.out.iter_mut().skip(before) {
                let name = WORKING_NAMES[sent.amount as usize / 100 % WORKING_NAMES.len()];
                sent.creditor_alias = format!("+49 151 555 ({name})");
            }
        }
        self.shopping(&person, trade.first, trade.span, 8);
    }

    fn organiser(&mut self) {
        let person = self.neighbour();
        let plant = self.begin("escort-collector", &person.account, Variant::LookAlike);
        let span = self.draw.count(8, 25);
        let first = self.first_day(span);
        let kind = self.draw.index(4);
        let (prices, memo): (&[i64], _) = match kind {
            0 => (&[18_000], "Klassenfahrt"),
            // A holiday of friends: a bed costs more than a sofa; nobody writes anything.
            1 => (&[15_000, 22_000, 28_000], ""),
            2 => (&[6_500, 8_900, 12_000, 24_000, 7_900, 31_000], "Kleinanzeige"),
            _ => (&[7_000, 9_500], "Massage"),
        };
        let mut total = 0;
        for k in 0..self.draw.count(9, 26) {
            let amount = prices[self.draw.index(prices.len())];
            total += amount;
            let (day, from) = (first + self.draw.count(0, span - 1), self.stranger("GUEST", plant, k));
            let mut paid = self.payment(day, &AT_HOME, "p2p", amount, from, own(&person));
            paid.memo = memo.into();
            self.put(plant, paid);
        }
        let payees = ["Busreisen Nord", "Ferienhaus", "Studio"];
        for (k, name) in payees.iter().enumerate().take(if kind == 2 { 0 } else { 2 + kind / 3 }) {
            let to = external(&format!("PAYEE{plant}-{k}"), name);
            self.send(plant, first + span + k as u32, total * [55, 30, 10][k] / 100, own(&person), to);
        }
    }

    /// Several flats, and the clients who come there. Stealthy: two rents a month from this account, the others in cash.
    /// Look-alikes: parents of students, hosts of holiday flats, who moves house.
    pub(super) fn flats(&mut self, variant: Variant) {
        if variant.innocent() {
            return self.many_rents();
        }
        let person = self.person();
        let plant = self.begin("multi-property-operator", &person.account, variant);
        let flats = self.draw.count(3, 7);
        let mut trade = self.trade((18, 26));
        trade.a_month += flats * self.draw.count(1, 5);
        trade.span = 60;
        trade.first = self.first_day(trade.span);
        if variant.stealthy() {
            (trade.worded, trade.evening) = (0, 45);
        }
        let of_month = self.draw.count(1, 12);
        let paid_here = if variant.stealthy() { 2 } else { flats };
        for flat in 0..paid_here {
            let (rent, landlord) = (self.sum(420, 1_300, 10), self.stranger("LANDLORD", plant, flat));
            for day in self.calendar.monthly(of_month + flat % 3) {
                let mut paid = self.payment(day, &OFFICE, "transfer", rent, own(&person), landlord.clone());
                paid.memo = format!("Miete Wohnung {}", flat + 1);
                paid.purpose = if flat % 2 == 0 { "RENT" } else { "" };
                self.put(plant, paid);
            }
        }
        let payments = self.clients(plant, &person, trade);
        if self.draw.chance(40) && !variant.stealthy() {
            for k in 0..self.draw.count(14, 50) {
                let day = trade.first + k % trade.span;
                let advert = self.ordered(&person, day, &AT_HOME, ("7311", "Nightlist Classifieds"), 1_200);
                self.put(plant, advert);
            }
        }
        for paid in payments.iter().step_by(3) {
            let day = trade.first + self.draw.count(0, trade.span);
            let cash = self.cash_out(&person, day, person.city, paid.amount / 1_000 * 1_000);
            self.put(plant, cash);
        }
        self.shopping(&person, trade.first, trade.span, 25);
    }

    fn many_rents(&mut self) {
        let mut person = self.neighbour();
        let kind = self.draw.index(3);
        if kind == 1 && self.draw.chance(60) {
            person.occupation = "holiday-flat host";
            self.keep(&person);
        }
        let plant = self.begin("multi-property-operator", &person.account, Variant::LookAlike);
        let of_month = self.draw.count(1, 10);
        for flat in 0..3 {
            let (rent, landlord) = (self.sum(320, 900, 10), self.stranger("LANDLORD", plant, flat));
            for (month, day) in self.calendar.monthly(of_month + flat).into_iter().enumerate() {
                // Who moves pays two rents and a deposit in one month, then one rent.
                if kind == 2 && month != 1 && flat > 0 {
                    continue;
                }
                let mut paid = self.payment(day, &OFFICE, "transfer", rent, own(&person), landlord.clone());
                paid.memo = ["Miete", "Warmmiete Zimmer", "Miete und Kaution"][flat as usize].into();
                self.put(plant, paid);
            }
        }
        let first = self.first_day(50);
        let nightly = [self.sum(45, 70, 5), self.sum(60, 95, 5), self.sum(55, 120, 1)];
        for k in 0..if kind == 1 { self.draw.count(12, 30) } else { self.draw.count(2, 8) } {
            let day = first + self.draw.count(0, 50);
            let (from, nights) = (self.stranger("GUEST", plant, k), self.draw.int(1, 6));
            let amount = if kind == 1 { nights * nightly[self.draw.index(3)] } else { self.sum(10, 120, 5) };
            let mut paid = self.payment(day, &AT_HOME, "transfer", amount, from, own(&person));
            paid.memo = if kind == 1 { format!("Buchung {nights} Nächte") } else { "Möbel".into() };
            self.put(plant, paid);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::calendar::DAY;
    use crate::{Options, Variant, simulate};

    #[test]
    fn a_stealthy_go_between_keeps_under_eight_payers_in_two_weeks() {
        let options = Options {
            seed: 5,
            customers: 24,
            days: 90,
            networks: 0,
            stealthy: 3,
            look_alikes: 0,
            typologies: Vec::new(),
        };
        let simulation = simulate(&options);
        let hidden = |p: &&crate::Planted| p.typology == "escort-collector" && p.variant == Variant::Stealthy;
        for plant in simulation.bank.planted().iter().filter(hidden) {
            let mine = |t: &&crate::Transaction| {
                t.creditor.as_ref().is_some_and(|(account, _)| *account == plant.subject)
            };
            let times: Vec<i64> = simulation.transactions.iter().filter(mine).map(|t| t.time).collect();
            let most = times
                .iter()
                .map(|&end| times.iter().filter(|&&time| time <= end && end - time <= 14 * DAY).count());
            assert!(most.max().is_some_and(|most| most < 8), "{times:?}");
        }
    }
}
