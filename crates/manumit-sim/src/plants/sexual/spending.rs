//! What takings are spent on: prepaid cards, gift cards and crypto, bets and luxury, and what several people need.
//!
//! # Source
//! Loads of several cards by one person, gift cards, crypto and conversion: FINTRAC (2021), FinCEN (2020). Rides, top-ups
//! and meals: AUSTRAC (2022). Counts, sums and distances in time are priors of our own.

use crate::calendar::HOUR;
use crate::draw::{AT_HOME, EVENING, MEALS, NIGHT, OFFICE, SHOPPING, TRAVEL};
use crate::life::{external, own};
use crate::people::{CITIES, Customer};
use crate::plants::{Party, Planter, Variant};
use crate::record::Transaction;

/// Merchant code and name.
type Shop = (&'static str, &'static str);
/// Least and most of a purchase, whole units of the currency.
type Price = (i64, i64);

/// What prepaid cards and baskets pay for.
const BED: Shop = ("7011", "Motel");
const RIDE: Shop = ("4121", "Fahrdienst");
const SNACK: Shop = ("5814", "Imbiss");
const PHARMACY: Shop = ("5912", "Apotheke");
const TOP_UP: Shop = ("4814", "Aufladekarte");

impl Planter<'_> {
    /// Money onto a prepaid card.
    fn load(&mut self, plant: u32, day: u32, amount: i64, from: Party, card: &Customer) -> i64 {
        let mut load = self.payment(day, &AT_HOME, "p2p", amount, from, own(card));
        load.prepaid = true;
        load.card_bin = "51677001";
        self.put(plant, load);
        amount
    }

    /// Spending from a prepaid card until it is nearly empty.
    fn spend(&mut self, plant: u32, card: &Customer, day: u32, mut left: i64, shops: &[Shop]) {
        for k in 0..self.draw.count(1, 5) {
            let shop = shops[self.draw.index(shops.len())];
            let amount = if shop.0 == "7011" { self.sum(35, 70, 1) } else { self.sum(4, 25, 1) };
            if amount > left {
                break;
            }
            left -= amount;
            let city = if self.draw.chance(60) { card.city } else { self.draw.index(CITIES.len()) };
            let mut bought = self.bought(card, day + 1 + k / 2, &SHOPPING, shop, city, amount);
            bought.prepaid = true;
            bought.card_bin = "51677001";
            self.put(plant, bought);
        }
    }

    /// Cards of several people that one account fills. Stealthy: two accounts in turn, and the holders load some cash.
    /// Look-alikes: pocket money, carers, a grandparent, an employer who fills cards from a private account.
    pub(super) fn pocket_money(&mut self, variant: Variant) {
        if variant.innocent() {
            return self.allowance();
        }
        let funder = self.neighbour();
        let plant = self.begin("prepaid-dependency", &funder.account, variant);
        let other = self.stranger("FUNDER", plant, 0);
        let span = self.draw.count(35, 80);
        let first = self.first_day(span);
        for _ in 0..self.draw.count(2, 6) {
            let mut card = self.person();
            card.product = "prepaid";
            self.keep(&card);
            let mut shops = vec![BED, SNACK, SNACK, RIDE, PHARMACY];
            if self.draw.chance(40) {
                shops.push(("7311", "Nightlist Classifieds"));
            }
            let every = self.draw.count(4, 9);
            for day in (first..first + span).step_by(every as usize) {
                let amount = self.sum(25, 140, 5);
                let from =
                    if variant.stealthy() && self.draw.chance(45) { other.clone() } else { own(&funder) };
                let on = day + self.draw.count(0, 2);
                let left = self.load(plant, on, amount, from, &card);
                self.spend(plant, &card, day + 2, left, &shops);
            }
            if variant.stealthy() {
                let mut cash = self.cash_in(&card, first + 9, &SHOPPING, card.city, 4_000, "");
                (cash.prepaid, cash.card_bin) = (true, "51677001");
                self.put(plant, cash);
            }
        }
    }

    fn allowance(&mut self) {
        let funder = self.neighbour();
        let plant = self.begin("prepaid-dependency", &funder.account, Variant::LookAlike);
        let span = self.draw.count(35, 80);
        let first = self.first_day(span);
        // A parent of one household, a parent who lives elsewhere, a carer, a grandparent of two who travel.
        let kind = [0, 0, 1, 1, 2, 3][self.draw.index(6)];
        for _ in 0..self.draw.count(1, 3) {
            let mut card = self.person();
            card.product = "prepaid";
            if kind == 0 {
                card.household.clone_from(&funder.household);
            }
            if kind == 0 || (kind == 1 && self.draw.chance(60)) {
                card.surname.clone_from(&funder.surname);
            }
            self.keep(&card);
            let shops: &[_] = match kind {
                2 => &[PHARMACY, SNACK, RIDE],
                3 if self.draw.chance(40) => &[BED, SNACK, SNACK, ("4112", "Bahn")],
                _ => &[SNACK, SNACK, RIDE, ("5816", "Pixelplay Games"), ("5651", "Modehaus")],
            };
            let every = self.draw.count(7, 15);
            for day in (first..first + span).step_by(every as usize) {
                let amount = self.sum(15, 80, 5);
                let left = self.load(plant, day, amount, own(&funder), &card);
                self.spend(plant, &card, day, left, shops);
            }
        }
    }

    /// Crypto at an exchange, or by card.
    fn crypto(&mut self, who: &Customer, after: &Transaction, hours: i64, amount: i64) -> Transaction {
        let name = ["Coinharbour Exchange", "Blockladen"][self.draw.index(2)];
        let by_card = self.draw.chance(40);
        let mut bought = self.after(after, hours, if by_card { "card" } else { "crypto" }, "online", amount);
        bought.debtor = own(who);
        if by_card {
            (bought.mcc, bought.merchant) = ("6051", name.to_string());
        } else {
            bought.creditor = external(&format!("EXCHANGE-{name}"), name);
            bought.asset = "BTC";
            bought.wallet = format!("bc1q{:012x}", self.draw.int(0, 0xffff_ffff_ffff));
        }
        bought
    }

    /// Gift cards in round sums on one day, then crypto.
    fn cycle(&mut self, plant: u32, who: &Customer, day: u32, cards: (u32, i64, i64), stealthy: bool) {
        let (mut total, mut last) = (0, None);
        for _ in 0..cards.0 {
            let shop =
                [("5411", "Supermarkt"), ("5947", "Giftbarn"), ("5499", "Spätkauf"), ("6540", "Paycard")]
                    [self.draw.index(4)];
            let odd = if stealthy { self.draw.int(101, 2_399) } else { 0 };
            let amount = self.sum(cards.1, cards.2, 25) + odd;
            let card = self.bought(who, day, &SHOPPING, shop, who.city, amount);
            total += amount;
            if last.as_ref().is_none_or(|last: &Transaction| last.time < card.time) {
                last = Some(card.clone());
            }
            self.put(plant, card);
        }
        if let Some(last) = last {
            let hours = if stealthy { self.draw.int(80, 150) } else { self.draw.int(1, 50) };
            let share = self.draw.int(60, 100);
            let bought = self.crypto(who, &last, hours, total * share / 100);
            self.put(plant, bought);
        }
    }

    /// Gift cards, crypto, adverts. Stealthy: sums are not round and crypto comes days later. Look-alikes: victims of
    /// gift-card scams, savers in crypto, players.
    pub(super) fn gift_cards(&mut self, variant: Variant) {
        let person = self.neighbour();
        let plant = self.begin("prepaid-crypto-ads", &person.account, variant);
        if variant.innocent() {
            return self.cheated(plant, &person);
        }
        let span = self.draw.count(30, 60);
        let first = self.first_day(span);
        let mut day = first;
        while day < first + span {
            let cards = (self.draw.count(2, 5), 25, [50, 100, 150][self.draw.index(3)]);
            if cards.0 > 2 || cards.2 > 50 {
                self.cycle(plant, &person, day, cards, variant.stealthy());
            } else {
                self.cycle(plant, &person, day, (4, 25, 50), variant.stealthy());
            }
            day += self.draw.count(5, 10);
        }
        let adverts = self.draw.chance(75);
        if adverts {
            let every = self.draw.count(1, 2);
            for day in (first..first + span).step_by(every as usize) {
                let site = ["Nightlist Classifieds", "Pinboard Ads"][self.draw.index(2)];
                let amount = [300, 600, 1_200, 2_400][self.draw.index(4)];
                let advert = self.ordered(&person, day, &AT_HOME, ("7311", site), amount);
                self.put(plant, advert);
            }
        }
        // What it is paid from.
        for k in 0..self.draw.count(8, 24) {
            let (day, from) = (first + self.draw.count(0, span), self.stranger("CLIENT", plant, k));
            let amount = self.sum(50, 250, 10);
            let paid = self.payment(day, &EVENING, "p2p", amount, from, own(&person));
            self.put(plant, paid);
        }
        if !adverts {
            // Credit for adverts is bought with the same small sum again and again.
            for day in (first..first + span).step_by(3) {
                let start = self.ordered(&person, day, &AT_HOME, ("5816", "Pixelplay Games"), 499);
                let small = self.crypto(&person, &start, 1, 2_500);
                self.put(plant, small);
            }
        }
    }

    fn cheated(&mut self, plant: u32, person: &Customer) {
        let first = self.first_day(30);
        match self.draw.index(3) {
            // One or two afternoons on the telephone with somebody who says he is from the bank.
            0 => {
                for k in 0..self.draw.count(1, 2) {
                    self.cycle(plant, person, first + k * 2, (5, 100, 200), false);
                }
            }
            // A savings plan, and presents now and then.
            1 => {
                for week in 0..5 {
                    let start = self.bought(person, first + week * 7, &SHOPPING, PHARMACY, person.city, 899);
                    let saved = self.crypto(person, &start, 2, 5_000);
                    self.put(plant, saved);
                    if self.draw.chance(30) {
                        let day = first + week * 7 + 3;
                        let card =
                            self.bought(person, day, &SHOPPING, ("5947", "Giftbarn"), person.city, 2_500);
                        self.put(plant, card);
                    }
                }
            }
            // Who plays buys credit in round sums, and a little crypto.
            _ => {
                for k in 0..self.draw.count(5, 10) {
                    let amount = self.sum(25, 50, 25);
                    let card = self.ordered(person, first + k * 3, &AT_HOME, ("5947", "Giftbarn"), amount);
                    if self.draw.chance(40) {
                        let small = self.crypto(person, &card, 30, 5_000);
                        self.put(plant, small);
                    }
                    self.put(plant, card);
                    let friend = self.stranger("FRIEND", plant, k % 4);
                    let amount = self.sum(5, 40, 1);
                    let share = self.payment(first + k * 3, &EVENING, "p2p", amount, friend, own(person));
                    self.put(plant, share);
                }
            }
        }
    }

    /// Takings that go into bets, crypto, shares or luxury. Stealthy: half of it, after a week, and mixed with pay. Look-alikes: a
    /// betting pool, who buys crypto for friends, a reseller who plays.
    pub(super) fn conversion(&mut self, variant: Variant) {
        if variant.innocent() {
            return self.pool();
        }
        let mut person = if variant.stealthy() { self.neighbour() } else { self.person() };
        person.declared_income = self.sum(9_000, 24_000, 100);
        self.keep(&person);
        let plant = self.begin("proceeds-conversion", &person.account, variant);
        let weeks = self.draw.count(4, 8);
        let first = self.first_day(weeks * 7);
        let way = self.draw.index(4);
        // Once a week, or every few days.
        let rounds = self.draw.count(1, 3);
        let (returns, worded) = (way == 0 && self.draw.chance(75), self.draw.chance(40));
        let luxury = !(returns || worded) || self.draw.chance(30);
        for week in 0..weeks {
            let mut taken = 0;
            for k in 0..self.draw.count(6, 13) {
                let (day, amount) = (first + week * 7 + self.draw.count(0, 6), self.sum(60, 300, 10));
                let again = self.draw.chance(15);
                let from = self.stranger("CLIENT", plant, if again { k } else { week * 20 + k });
                let mut paid = self.payment(day, &EVENING, "p2p", amount, from, own(&person));
                if worded && self.draw.chance(35) {
                    paid.memo = ["roses", "outcall", "incall", "gfe"][self.draw.index(4)].into();
                }
                taken += amount;
                self.put(plant, paid);
            }
            let delay = if variant.stealthy() { self.draw.count(5, 8) } else { 0 };
            for round in 0..rounds {
                let day = first + week * 7 + (round + 1) * 7 / rounds + delay;
                let share = if variant.stealthy() { self.draw.int(35, 50) } else { self.draw.int(70, 95) };
                let amount = taken * share / 100 / i64::from(rounds);
                self.convert(plant, &person, day, amount, way, returns);
            }
        }
        if luxury {
            for k in 0..self.draw.count(2, 4) {
                let amount = self.sum(2_800, 6_500, 50);
                let shop = [("5944", "Juwelier"), ("5511", "Autohaus")][self.draw.index(2)];
                let bought = self.bought(&person, first + 8 + k * 9, &SHOPPING, shop, person.city, amount);
                self.put(plant, bought);
            }
        }
        self.shopping(&person, first, weeks * 7, 15);
    }

    /// Turns a sum into bets, crypto, shares or prepaid credit.
    fn convert(&mut self, plant: u32, who: &Customer, day: u32, amount: i64, way: usize, returns: bool) {
        let amount = amount / 500 * 500 + 500;
        let (mcc, name) = [
            ("7995", "Royal Spin Casino"),
            ("6051", "Coinharbour Exchange"),
            ("6211", "Tradeflow Broker"),
            ("6540", "Paycard"),
        ][way];
        let staked = self.ordered(who, day, if way == 0 { &NIGHT } else { &AT_HOME }, (mcc, name), amount);
        if returns {
            // Hardly anything is played.
            let (hours, share) = (self.draw.int(6, 40), self.draw.int(80, 97));
            let mut back = self.after(&staked, hours, "card", "online", amount * share / 100);
            back.creditor = own(who);
            (back.mcc, back.merchant) = (mcc, name.to_string());
            self.put(plant, back);
        }
        self.put(plant, staked);
    }

    fn pool(&mut self) {
        let person = self.neighbour();
        let plant = self.begin("proceeds-conversion", &person.account, Variant::LookAlike);
        let weeks = self.draw.count(4, 8);
        let first = self.first_day(weeks * 7);
        // A pool, crypto for friends, a seller who plays.
        let kind = self.draw.index(3);
        // One in ten who play stops early and has the money back.
        let returns = kind == 2 && self.draw.chance(10);
        for week in 0..weeks {
            let mut taken = 0;
            for k in 0..self.draw.count(5, 9) {
                let payer = if kind == 2 { week * 20 + k } else { k + week % 2 };
                let amount = if kind == 0 { 1_000 } else { self.sum(20, 120, 5) };
                let day = first + week * 7 + self.draw.count(0, if kind == 2 { 6 } else { 2 });
                let from = self.stranger("PAYER", plant, payer);
                let mut paid = self.payment(day, &AT_HOME, "p2p", amount, from, own(&person));
                paid.memo = ["Tippgemeinschaft", "wie immer", "Schuhe Gr. 42"][kind].into();
                taken += amount;
                self.put(plant, paid);
            }
            let share = if kind == 2 { self.draw.int(20, 90) } else { 98 };
            let way = usize::from(kind == 1);
            self.convert(plant, &person, first + week * 7 + 5, taken * share / 100, way, returns);
        }
    }

    /// Beds, rides, meals and the like for several people. Stealthy: two cards in turn, beds in cash. Look-alikes: large
    /// families, patients' families, people without a kitchen, coaches.
    pub(super) fn upkeep(&mut self, variant: Variant) {
        if variant.innocent() {
            return self.large_family();
        }
        let mut person = if self.draw.chance(50) { self.neighbour() } else { self.person() };
        let by_others = self.draw.chance(70) || person.lives;
        if !by_others {
            person.declared_income = self.sum(6_000, 12_000, 100);
            self.keep(&person);
        }
        let plant = self.begin("victim-upkeep-basket", &person.customer, variant);
        let span = self.draw.count(32, 65);
        let first = self.first_day(span);
        let people = self.draw.count(2, 5);
        let half = if variant.stealthy() { 2 } else { 1 };
        // Kind of spending, times in 30 days for each of them, least and most of a purchase.
        let kinds: [(Shop, (u32, u32), Price); 8] = [
            (BED, (2, 5), (45, 110)),
            (RIDE, (6, 11), (7, 32)),
            (SNACK, (8, 14), (8, 38)),
            (TOP_UP, (3, 6), (10, 30)),
            (PHARMACY, (3, 4), (6, 48)),
            (("7230", "Nagelstudio"), (1, 3), (25, 80)),
            (("5621", "Damenmode"), (1, 3), (20, 110)),
            (("7523", "Parkhaus"), (4, 7), (3, 18)),
        ];
        let without = self.draw.index(kinds.len());
        for (kind, (shop, times, sums)) in kinds.into_iter().enumerate() {
            if kind == without && self.draw.chance(60) || kind == 0 && variant.stealthy() {
                continue;
            }
            let a_month = people * self.draw.count(times.0, times.1) / half;
            for _ in 0..(a_month * span).div_ceil(30) {
                let day = first + self.draw.count(0, span - 1);
                let hours = match kind {
                    0 => &TRAVEL,
                    1 => &EVENING,
                    2 => &MEALS,
                    _ => &SHOPPING,
                };
                let amount = self.sum(sums.0, sums.1, 1) - 1;
                let bought = self.bought(&person, day, hours, shop, person.city, amount);
                self.put(plant, bought);
            }
        }
        for k in 0..(self.draw.count(18, 34) * span).div_ceil(30) {
            let day = first + self.draw.count(0, span - 1);
            let amount = self.sum(60, 260, 10) * i64::from(people) / 2;
            if !by_others || self.draw.chance(25) {
                let depositor = if by_others { format!("person {plant} {}", k % 3) } else { String::new() };
                let cash = self.cash_in(&person, day, &EVENING, person.city, amount, &depositor);
                self.put(plant, cash);
            } else {
                let from = self.stranger("CLIENT", plant, k);
                let paid = self.payment(day, &EVENING, "p2p", amount, from, own(&person));
                self.put(plant, paid);
            }
        }
    }

    fn large_family(&mut self) {
        let mut person = self.neighbour();
        let kind = self.draw.index(4);
        if kind == 3 && self.draw.chance(70) {
            person.occupation = "coach";
        }
        if kind < 2 && self.draw.chance(50) {
            person.declared_income = self.sum(28_000, 80_000, 1_000);
        }
        self.keep(&person);
        let plant = self.begin("victim-upkeep-basket", &person.customer, Variant::LookAlike);
        let span = self.draw.count(30, 60);
        let first = self.first_day(span);
        let shops: &[(Shop, u32, Price)] = match kind {
            // Parents of four.
            0 => &[
                (SNACK, 14, (12, 60)),
                (TOP_UP, 8, (10, 20)),
                (PHARMACY, 9, (5, 60)),
                (("5621", "Damenmode"), 7, (15, 90)),
                (("7523", "Parkhaus"), 13, (2, 14)),
            ],
            // By the bed of somebody ill in another city.
            1 => &[
                (BED, 10, (70, 110)),
                (RIDE, 17, (8, 22)),
                (SNACK, 30, (6, 16)),
                (PHARMACY, 7, (5, 40)),
                (("7523", "Parkhaus"), 14, (4, 20)),
            ],
            // No kitchen, no car.
            2 => &[(SNACK, 45, (6, 19)), (RIDE, 20, (8, 25)), (PHARMACY, 3, (5, 25)), (TOP_UP, 4, (10, 20))],
            // A team on the road, of whose parents some pay back.
            _ => &[
                (BED, 6, (150, 420)),
                (SNACK, 18, (40, 140)),
                (PHARMACY, 6, (5, 30)),
                (("7523", "Parkhaus"), 12, (4, 15)),
            ],
        };
        for (shop, a_month, sums) in shops {
            for _ in 0..a_month * span / 30 {
                let (day, amount) = (first + self.draw.count(0, span - 1), self.sum(sums.0, sums.1, 1) - 1);
                let bought = self.bought(&person, day, &SHOPPING, *shop, person.city, amount);
                self.put(plant, bought);
            }
        }
        // Relatives help, other parents pay their share.
        for k in 0..if kind == 2 { 2 } else { self.draw.count(2, 12) } {
            let (day, from) = (first + self.draw.count(0, span - 1), self.stranger("RELATIVE", plant, k));
            let amount = self.sum(20, 150, 5);
            let mut paid = self.payment(day, &OFFICE, "p2p", amount, from, own(&person));
            paid.memo = ["Kinder", "für euch", "Essen", "Fahrt"][kind].into();
            paid.time += HOUR;
            self.put(plant, paid);
        }
    }
}
