//! Populations of ordinary life that a rule may mistake for something else: what they do beside what everybody does.
//!
//! # Source
//! The false positives that published typologies warn of: shift workers, drivers of platforms, tour operators, parishes, money
//! transfer shops, seasonal crews, market traders, landlords, rotating savings clubs, freelancers with clients abroad, and sex
//! workers who work legally and on their own account. Their shares and sums are assumptions.

use chrono::TimeDelta;

use crate::calendar::{Calendar, HOUR};
use crate::draw::{AT_HOME, CASH, Draw, EVENING, NIGHT, OFFICE, SHOPPING, TRAVEL};
use crate::life::{World, external, own, tx};
use crate::people::{CITIES, Customer, home};
use crate::record::Transaction;

/// Customers of one block: eleven people and the business that stands last.
const BLOCK: u32 = 12;

pub(crate) const CREW: &str = "seasonal farm crew";
pub(crate) const CLUB: &str = "savings club";
pub(crate) const FLAT: &str = "shared student flat";
pub(crate) const NIGHT_WORKER: &str = "night worker";
pub(crate) const DRIVER: &str = "gig driver";
pub(crate) const TRADER: &str = "market trader";
pub(crate) const FREELANCER: &str = "freelancer with clients abroad";
pub(crate) const TRAVELLER: &str = "travels for work";
pub(crate) const SEX_WORKER: &str = "legal sex worker";
pub(crate) const PENSIONER: &str = "pensioner";
pub(crate) const FARM: &str = "farm";
pub(crate) const PARISH: &str = "parish";
pub(crate) const TRANSFERS: &str = "money transfer shop";
pub(crate) const TOURS: &str = "tour operator";
pub(crate) const VENUE: &str = "bar open at night";
pub(crate) const LANDLORD: &str = "landlord";

/// People by their share among a thousand.
const PEOPLE: [(&str, u32); 6] =
    [(NIGHT_WORKER, 50), (DRIVER, 25), (TRADER, 12), (FREELANCER, 25), (TRAVELLER, 12), (SEX_WORKER, 3)];

/// Businesses by their share among a thousand.
const FIRMS: [(&str, u32, &str, &str); 5] = [
    (PARISH, 40, "Kirchengemeinde", "religious organisation"),
    (TRANSFERS, 15, "Geldtransfer", "money transfer"),
    (TOURS, 25, "Reisen", "tour operator"),
    (VENUE, 30, "Bar", "bar"),
    (LANDLORD, 40, "Hausverwaltung", "property management"),
];

/// Says what somebody belongs to, and changes what follows from it. The first customers of a small bank belong to the crowd.
pub(crate) fn belong(seed: u64, number: u32, me: &mut Customer, calendar: &Calendar) {
    let (block, place) = (number / BLOCK, number % BLOCK);
    let mut of_block = Draw::new(seed, (1 << 40) + u64::from(block));
    let kind = of_block.int(0, 999);
    let mut draw = Draw::new(seed, (1 << 41) + u64::from(number));
    let first = calendar.date(0);
    match kind {
        0..20 if place < 7 => {
            me.population = CREW;
            me.occupation = "farm worker";
            (me.nationality, me.born_in) = ("RO", "RO");
            me.address = format!("Gut Nr. {block}");
            me.household = format!("HF{block:05}");
            // They came together, shortly before the season; each has a phone.
            me.opened_on = first - TimeDelta::days(of_block.int(20, 60) + i64::from(place % 2));
            return;
        }
        0..20 if me.business => {
            (me.population, me.industry) = (FARM, "agriculture");
            me.name = format!("Hof {}", me.name);
            return;
        }
        20..40 if place < 9 => {
            me.population = CLUB;
            return;
        }
        40..60 if place < 4 => {
            me.population = FLAT;
            me.born_on = Some(first - TimeDelta::days(draw.int(19 * 365, 21 * 365)));
            me.address = format!("Studentenhaus {block}");
            me.household = format!("HS{block:05}");
            return;
        }
        _ => {}
    }
    let mut left = draw.int(0, 999) as u32;
    if me.business {
        for (population, share, name, industry) in FIRMS {
            if left < share {
                (me.population, me.industry) = (population, industry);
                me.name = format!("{name} {}", me.name.split(' ').next().unwrap_or_default());
                me.npo = population == PARISH;
                me.msb = population == TRANSFERS;
                return;
            }
            left -= share;
        }
        return;
    }
    let age = me.born_on.map_or(0, |born| (first - born).num_days() / 365);
    if age >= 66 {
        me.population = PENSIONER;
        me.occupation = "pensioner";
        return;
    }
    if age < 22 {
        return;
    }
    for (population, share) in PEOPLE {
        if left < share {
            me.population = population;
            me.occupation = match population {
                NIGHT_WORKER => ["nurse", "baker", "guard"][draw.index(3)],
                DRIVER => "courier",
                TRADER => "market trader",
                FREELANCER => "programmer",
                TRAVELLER => ["sales representative", "musician", "lorry driver"][draw.index(3)],
                _ => "self-employed",
            };
            return;
        }
        left -= share;
    }
}

impl World<'_> {
    /// What one customer does on one day because of what they belong to.
    pub(crate) fn belonging(
        &self,
        draw: &mut Draw,
        number: usize,
        me: &Customer,
        day: u32,
        out: &mut Vec<Transaction>,
    ) {
        match me.population {
            CREW => self.crew(draw, number, me, day, out),
            CLUB => self.club(draw, number, me, day, out),
            FLAT => self.flat(draw, number, me, day, out),
            NIGHT_WORKER => self.shift(draw, me, day, out),
            DRIVER => self.driver(draw, number, me, day, out),
            TRADER => self.trader(draw, me, day, out),
            FREELANCER => self.freelancer(draw, number, me, day, out),
            TRAVELLER => self.traveller(draw, number, me, day, out),
            SEX_WORKER => self.own_account(draw, number, me, day, out),
            PARISH => self.parish(draw, me, day, out),
            TRANSFERS => self.transfers(draw, number, me, day, out),
            TOURS => self.tours(draw, me, day, out),
            VENUE => self.venue(draw, number, me, day, out),
            LANDLORD => self.landlord(draw, number, me, day, out),
            _ => {}
        }
    }

    fn at(
        &self,
        day: u32,
        seconds: i64,
        kind: &'static str,
        channel: &'static str,
        amount: i64,
    ) -> Transaction {
        tx(self.calendar, day, seconds, kind, channel, amount)
    }

    /// One of the ordinary customers, a few steps on.
    fn other(&self, number: usize, steps: usize) -> &Customer {
        &self.people[(number + steps) % self.ordinary]
    }

    /// Paid by the farm on one day, together; half goes home within days, the rest is lived from.
    fn crew(&self, draw: &mut Draw, number: usize, me: &Customer, day: u32, out: &mut Vec<Transaction>) {
        let farm = &self.people[(number / 12 * 12 + 11).min(self.ordinary - 1)];
        if self.calendar.runs(28, day) {
            let mut wage = self.at(day, 7 * HOUR, "transfer", "batch", draw.int(120, 165) * 1_000);
            (wage.debtor, wage.creditor, wage.purpose) = (own(farm), own(me), "SALA");
            wage.memo = "Lohn Ernte".into();
            out.push(wage);
        }
        if (3..6).any(|back| day >= back && self.calendar.runs(28, day - back)) && draw.chance(40) {
            let mut sent = self.at(day, draw.time(&AT_HOME), "wire", "mobile", draw.int(30, 60) * 1_000);
            (sent.debtor, sent.creditor) = (own(me), external(&format!("HOME{number}"), &me.name));
            sent.creditor_country = "RO";
            sent.memo = "acasa".into();
            out.push(sent);
        }
    }

    /// Everybody pays the same each month; each time another one has it all.
    fn club(&self, draw: &mut Draw, number: usize, me: &Customer, day: u32, out: &mut Vec<Transaction>) {
        if !self.calendar.runs(1, day) {
            return;
        }
        let first = number / 12 * 12;
        let turn = first + (day / 28) as usize % 9;
        if number != turn {
            let mut share = self.at(day, draw.time(&AT_HOME), "p2p", "mobile", 20_000);
            (share.debtor, share.creditor) = (own(me), own(&self.people[turn.min(self.ordinary - 1)]));
            share.memo = "Sparkreis".into();
            out.push(share);
        }
    }

    /// One pays the rent for all, the others pay that one.
    fn flat(&self, draw: &mut Draw, number: usize, me: &Customer, day: u32, out: &mut Vec<Transaction>) {
        let host = number / 12 * 12;
        if number != host && self.calendar.runs(1, day) {
            let mut share = self.at(day, draw.time(&AT_HOME), "transfer", "mobile", 30_000);
            (share.debtor, share.creditor, share.purpose) = (own(me), own(&self.people[host]), "RENT");
            share.memo = "Miete WG".into();
            out.push(share);
        }
        if number == host && self.calendar.runs(2, day) {
            let mut rent = self.at(day, 6 * HOUR, "transfer", "batch", 118_000);
            (rent.debtor, rent.creditor, rent.purpose) =
                (own(me), external("STUDENTENWERK", "Studentenwerk"), "RENT");
            out.push(rent);
        }
    }

    /// Pays and draws cash at night, because that is when the shift ends.
    fn shift(&self, draw: &mut Draw, me: &Customer, day: u32, out: &mut Vec<Transaction>) {
        for _ in 0..u32::from(draw.chance(35)) + u32::from(draw.chance(10)) {
            let (mcc, name) = [("5814", "Imbiss"), ("5541", "Tankstelle"), ("4121", "Taxi")][draw.index(3)];
            let mut bought = self.at(day, draw.time(&NIGHT), "card", "pos", draw.price(500, 3_500));
            (bought.debtor, bought.mcc, bought.place) = (own(me), mcc, home(me.city));
            bought.merchant = format!("{name} {}", me.city_name());
            out.push(bought);
        }
        if draw.chance(6) {
            let mut cash = self.at(day, draw.time(&NIGHT), "cash_out", "atm", draw.int(2, 10) * 1_000);
            (cash.debtor, cash.place) = (own(me), home(me.city));
            cash.terminal = format!("ATM-{}-{}", me.city, draw.int(1, 40));
            out.push(cash);
        }
    }

    /// Paid by platforms every week, tipped by riders, and fuel.
    fn driver(&self, draw: &mut Draw, number: usize, me: &Customer, day: u32, out: &mut Vec<Transaction>) {
        if self.calendar.weekday(day) == 1 {
            for platform in ["Ridewell", "Eatsnow"].iter().take(1 + number % 2) {
                let mut paid = self.at(day, 5 * HOUR, "transfer", "batch", draw.int(180, 420) * 100);
                (paid.debtor, paid.creditor) = (external(&format!("PLATFORM-{platform}"), platform), own(me));
                paid.memo = "weekly payout".into();
                out.push(paid);
            }
        }
        for _ in 0..draw.int(0, 2) * i64::from(draw.chance(40)) {
            let mut tip = self.at(day, draw.time(&EVENING), "p2p", "mobile", draw.int(2, 10) * 100);
            tip.debtor = external(&format!("RIDER{}", draw.int(0, 9_999)), "Fahrgast");
            tip.creditor = own(me);
            tip.memo = "Trinkgeld".into();
            out.push(tip);
        }
        if draw.chance(30) {
            let mut fuel = self.at(day, draw.time(&SHOPPING), "card", "pos", draw.price(2_500, 7_000));
            (fuel.debtor, fuel.mcc, fuel.place) = (own(me), "5541", home(me.city));
            fuel.merchant = format!("Tankstelle {}", me.city_name());
            out.push(fuel);
        }
    }

    /// Brings the cash of market days, buys stock.
    fn trader(&self, draw: &mut Draw, me: &Customer, day: u32, out: &mut Vec<Transaction>) {
        if ![2, 5].contains(&self.calendar.weekday(day)) {
            return;
        }
        let mut takings =
            self.at(day, 15 * HOUR + draw.int(0, 2 * HOUR), "cash_in", "atm", draw.int(15, 90) * 1_000);
        (takings.creditor, takings.place) = (own(me), home(me.city));
        takings.depositor.clone_from(&me.customer);
        takings.terminal = format!("ATM-{}-{}", me.city, draw.int(1, 40));
        out.push(takings);
        if draw.chance(70) {
            let mut stock =
                self.at(day, 17 * HOUR + draw.int(0, HOUR), "transfer", "mobile", draw.price(8_000, 45_000));
            (stock.debtor, stock.creditor) = (own(me), external("WHOLESALE", "Großmarkt"));
            out.push(stock);
        }
    }

    /// A few clients in other countries and currencies.
    fn freelancer(
        &self,
        draw: &mut Draw,
        number: usize,
        me: &Customer,
        day: u32,
        out: &mut Vec<Transaction>,
    ) {
        if self.calendar.weekday(day) > 4 || !draw.chance(12) {
            return;
        }
        let (country, currency) = [("US", "USD"), ("GB", "GBP"), ("SE", "EUR")][draw.index(3)];
        let mut paid = self.at(day, draw.time(&OFFICE), "wire", "online", draw.price(20_000, 220_000));
        (paid.debtor, paid.creditor) =
            (external(&format!("ABROAD{}-{country}", number % 50), "Studio Ltd"), own(me));
        (paid.debtor_country, paid.currency) = (country, currency);
        paid.memo = format!("invoice {}", draw.int(100, 999));
        out.push(paid);
    }

    /// Hotels, trains and meals in other towns, all by card.
    fn traveller(&self, draw: &mut Draw, number: usize, me: &Customer, day: u32, out: &mut Vec<Transaction>) {
        // Every second week, three days in one town.
        let (fortnight, of_it) = (day / 14, day % 14);
        let city = (number + fortnight as usize * 3) % CITIES.len();
        if of_it > 2 || city == me.city {
            return;
        }
        let lodging = draw.mark();
        let card = |seconds: i64, mcc: &'static str, name: &str, amount: i64| {
            let mut bought = self.at(day, seconds, "card", "pos", amount);
            (bought.debtor, bought.mcc, bought.place) = (own(me), mcc, home(city));
            bought.merchant = format!("{name} {}", CITIES[city].0);
            bought
        };
        if of_it == 0 {
            out.push(card(8 * HOUR, "4112", "Bahn", 8_900));
            // The hotel asks the card first.
            let mut asked = card(15 * HOUR, "7011", "Hotel", 30_000);
            (asked.entry, asked.mark) = ("authorisation", lodging);
            out.push(asked);
            let mut paid = card(15 * HOUR + 600, "7011", "Hotel", 27_500);
            paid.of = lodging;
            out.push(paid);
        }
        let hour = draw.time(&TRAVEL).max(9 * HOUR);
        out.push(card(hour, "5812", "Restaurant", 2_900));
        if of_it == 2 {
            out.push(card(18 * HOUR, "4112", "Bahn", 8_900));
        }
    }

    /// Regular clients in the evening, an advert each month, an ordinary life from it, and nobody who is paid.
    fn own_account(
        &self,
        draw: &mut Draw,
        number: usize,
        me: &Customer,
        day: u32,
        out: &mut Vec<Transaction>,
    ) {
        if draw.chance(30) {
            let mut paid = self.at(day, draw.time(&EVENING), "p2p", "mobile", draw.int(8, 20) * 1_000);
            paid.debtor = external(&format!("REGULAR{number}-{}", draw.int(0, 14)), "M. B.");
            paid.creditor = own(me);
            out.push(paid);
        }
        if draw.chance(10) {
            let mut cash = self.at(day, draw.time(&CASH), "cash_in", "atm", draw.int(10, 40) * 1_000);
            (cash.creditor, cash.place) = (own(me), home(me.city));
            cash.depositor.clone_from(&me.customer);
            out.push(cash);
        }
        if self.calendar.runs(6, day) {
            let mut advert = self.at(day, 11 * HOUR, "card", "online", 4_900);
            (advert.debtor, advert.mcc) = (own(me), "7311");
            advert.merchant = "Kleinanzeigen Online".into();
            out.push(advert);
        }
    }

    /// The collection on Mondays, standing gifts of members, a gift to a charity.
    fn parish(&self, draw: &mut Draw, me: &Customer, day: u32, out: &mut Vec<Transaction>) {
        if self.calendar.weekday(day) == 0 {
            let mut collection = self.at(day, 10 * HOUR, "cash_in", "branch", draw.int(20, 80) * 1_000);
            (collection.creditor, collection.place) = (own(me), home(me.city));
            collection.depositor = ["Küster", "Kassenwart", "Pfarrer"][draw.index(3)].into();
            collection.memo = "Kollekte".into();
            out.push(collection);
        }
        if self.calendar.runs(4, day) {
            for member in 0..draw.int(15, 25) {
                let mut gift = self.at(day, 6 * HOUR + member, "transfer", "batch", draw.int(1, 5) * 1_000);
                gift.debtor = external(&format!("MEMBER{}-{member}", me.customer), "Gemeindemitglied");
                (gift.creditor, gift.purpose) = (own(me), "CHAR");
                out.push(gift);
            }
        }
        if self.calendar.runs(10, day) {
            let mut given = self.at(day, 10 * HOUR, "transfer", "online", draw.int(200, 400) * 100);
            (given.debtor, given.creditor) = (own(me), external("CHARITY", "Hilfswerk"));
            out.push(given);
        }
    }

    /// Senders bring cash all day; wires go to the countries that they support.
    fn transfers(&self, draw: &mut Draw, number: usize, me: &Customer, day: u32, out: &mut Vec<Transaction>) {
        if self.calendar.weekday(day) == 6 {
            return;
        }
        for _ in 0..draw.int(2, 6) {
            let mut cash = self.at(day, draw.time(&SHOPPING), "cash_in", "branch", draw.int(10, 50) * 1_000);
            (cash.creditor, cash.place) = (own(me), home(me.city));
            cash.depositor = format!("sender {}", draw.int(0, 400));
            out.push(cash);
        }
        let corridors = ["RO", "PL", "TR", "PH", "VN", "SY"];
        for k in 0..2 {
            let mut wire = self.at(day, 19 * HOUR + k * 300, "wire", "online", draw.int(40, 120) * 1_000);
            let country = corridors[(number + k as usize + day as usize) % corridors.len()];
            (wire.debtor, wire.creditor) = (own(me), external(&format!("PAYOUT-{country}"), "Payout agent"));
            wire.creditor_country = country;
            out.push(wire);
        }
    }

    /// Guests pay from everywhere; hotels and airlines are paid, passengers named.
    fn tours(&self, draw: &mut Draw, me: &Customer, day: u32, out: &mut Vec<Transaction>) {
        for _ in 0..draw.int(0, 4) {
            let mut paid =
                self.at(day, draw.time(&AT_HOME), "transfer", "online", draw.price(30_000, 180_000));
            paid.debtor = external(&format!("GUEST{}", draw.int(0, 9_999)), "Reisegast");
            (paid.creditor, paid.memo) = (own(me), format!("Reise {}", draw.int(1_000, 9_999)));
            out.push(paid);
        }
        for _ in 0..draw.int(0, 2) {
            let city = draw.index(CITIES.len());
            let mut room = self.at(day, draw.time(&OFFICE), "card", "online", draw.price(20_000, 120_000));
            (room.debtor, room.mcc, room.place) = (own(me), "7011", home(city));
            room.merchant = format!("Hotel {}", CITIES[city].0);
            out.push(room);
            let mut ticket = self.at(day, draw.time(&OFFICE), "card", "online", draw.price(9_000, 60_000));
            (ticket.debtor, ticket.mcc) = (own(me), "4511");
            ticket.merchant = "Luftlinie".into();
            (ticket.passenger, ticket.route) = (format!("Gast {}", draw.int(0, 9_999)), "BER-PMI".into());
            out.push(ticket);
        }
    }

    /// Card takings of the night come the next day; stock, wages.
    fn venue(&self, draw: &mut Draw, number: usize, me: &Customer, day: u32, out: &mut Vec<Transaction>) {
        let mut takings = self.at(day, 6 * HOUR, "transfer", "batch", draw.int(60, 320) * 1_000);
        (takings.debtor, takings.creditor) = (external("ACQUIRER", "Kartenabrechnung"), own(me));
        takings.memo = "Kartenumsatz".into();
        out.push(takings);
        for _ in 0..draw.int(1, 4) {
            let mut round = self.at(day, draw.time(&NIGHT), "p2p", "mobile", draw.price(1_500, 9_000));
            round.debtor = own(self.other(number, draw.index(self.ordinary)));
            (round.creditor, round.memo) = (own(me), "🍻".into());
            out.push(round);
        }
        if self.calendar.runs(27, day) {
            for staff in 1..5 {
                let mut wage =
                    self.at(day, 8 * HOUR + staff, "transfer", "batch", draw.int(140, 210) * 1_000);
                wage.debtor = own(me);
                wage.creditor = external(&format!("STAFF{number}-{staff}"), "Personal");
                wage.purpose = "SALA";
                out.push(wage);
            }
        }
    }

    /// Many tenants pay at the beginning of the month; loan, repairs.
    fn landlord(&self, draw: &mut Draw, number: usize, me: &Customer, day: u32, out: &mut Vec<Transaction>) {
        if self.calendar.runs(2, day) {
            for tenant in 0..8 + number as i64 % 9 {
                let mut rent = self.at(day, 6 * HOUR + tenant, "transfer", "batch", 55_000 + tenant * 3_500);
                rent.debtor = external(&format!("TENANT{number}-{tenant}"), "Mieter");
                (rent.creditor, rent.purpose) = (own(me), "RENT");
                rent.memo = format!("Miete {}", self.calendar.month(day));
                out.push(rent);
            }
        }
        if self.calendar.runs(5, day) {
            let mut loan = self.at(day, 6 * HOUR, "direct_debit", "batch", 420_000 + draw.int(0, 9) * 100);
            (loan.debtor, loan.creditor) = (own(me), external("LOAN", "Hypothekenbank"));
            out.push(loan);
        }
    }
}
