//! Ordinary life: wages, rent, cards, cash, payments among friends, remittances, shops.
//!
//! # Source
//! Frequencies follow the consumer payment diaries of the Atlanta Fed (2023, 2024): about 46 payments a month, of which
//! a third each by card of either kind and a sixth in cash; remittances of about USD 200 (World Bank). The hours are
//! assumptions.

use crate::calendar::{Calendar, HOUR};
use crate::draw::{AT_HOME, CASH, Draw, MEALS, OFFICE, SHOPPING, TRAVEL};
use crate::people::{CITIES, Customer, Place, home};
use crate::populations;
use crate::record::Transaction;

/// (mcc, name, least and most cents, weight)
const SHOPS: [(&str, &str, i64, i64, i64); 9] = [
    ("5411", "Supermarkt", 400, 9_000, 40),
    ("5462", "Bäckerei", 150, 1_500, 18),
    ("5912", "Apotheke", 400, 5_000, 5),
    ("4111", "Nahverkehr", 290, 900, 8),
    ("5651", "Modehaus", 1_500, 15_000, 4),
    ("5541", "Tankstelle", 2_000, 9_000, 6),
    ("5812", "Restaurant", 1_200, 8_000, 8),
    ("5814", "Imbiss", 500, 2_000, 8),
    ("5816", "Pixelplay Games", 499, 5_000, 3),
];

pub(crate) fn own(customer: &Customer) -> Option<(String, String)> {
    Some((customer.account.clone(), customer.name.clone()))
}

pub(crate) fn external(id: &str, name: &str) -> Option<(String, String)> {
    Some((format!("EXT-{id}"), name.to_string()))
}

/// What stays as it is in somebody's life. Drawn once, so that each day can be lived by itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Habits {
    student: bool,
    /// Cents a month.
    income: i64,
    /// Day of the month.
    payday: u32,
    /// Where the family is that is supported.
    abroad: Option<&'static str>,
    /// Day and town of a trip.
    trip: Option<(u32, usize)>,
    /// First day and place of a week's holiday.
    holiday: Option<(u32, usize)>,
}

/// Where holidays are spent: place, currency, cents of it for one euro, and how far local time is ahead of that at home, in hours.
const HOLIDAYS: [(Place, &str, i64, i64); 4] = [
    (Place { city: "London", country: "GB", latitude: 51.5074, longitude: -0.1278 }, "GBP", 86, -1),
    (Place { city: "Kraków", country: "PL", latitude: 50.0647, longitude: 19.945 }, "PLN", 426, 0),
    (Place { city: "Antalya", country: "TR", latitude: 36.8969, longitude: 30.7133 }, "TRY", 4_780, 2),
    (Place { city: "New York", country: "US", latitude: 40.7128, longitude: -74.006 }, "USD", 109, -6),
];

/// Currencies of the bank's transactions beside its own: code and cents of it for one euro, which moves a little from month to month.
pub(crate) fn currencies() -> impl Iterator<Item = (&'static str, i64)> {
    HOLIDAYS.iter().map(|(_, currency, cents, _)| (*currency, *cents))
}

impl Habits {
    pub(crate) fn draw(seed: u64, number: usize, me: &Customer, calendar: &Calendar) -> Habits {
        let mut draw = Draw::new(seed, 1000 + number as u64);
        let student = me.born_on.is_some_and(|b| (calendar.date(0) - b).num_days() < 22 * 365);
        let income = if student { 45_000 } else { draw.skewed(170_000, 650_000) };
        let payday = draw.count(25, 28);
        let abroad = draw.chance(12).then(|| ["RO", "PL", "TR", "PH", "SY", "VN"][draw.index(6)]);
        let last = calendar.days().saturating_sub(4);
        let trip = draw.chance(20).then(|| (draw.count(3, last), draw.index(CITIES.len())));
        let week = calendar.days().saturating_sub(9);
        let holiday = draw.chance(15).then(|| (draw.count(1, week), draw.index(HOLIDAYS.len())));
        Habits { student, income, payday, abroad, trip, holiday }
    }
}

/// The bank around one day.
pub(crate) struct World<'a> {
    pub seed: u64,
    /// All customers.
    pub people: &'a [Customer],
    /// Of each customer.
    pub habits: &'a [Habits],
    /// How many of them, from the first on, are there whatever is planted: friends, employers and clients are among them.
    pub ordinary: usize,
    pub calendar: &'a Calendar,
}

impl World<'_> {
    /// What one customer does on one day. It depends on nothing but the options, the customer and the day.
    pub(crate) fn live(&self, number: usize, day: u32, out: &mut Vec<Transaction>) {
        let (Some(me), Some(habits)) = (self.people.get(number), self.habits.get(number)) else { return };
        if !me.lives {
            return;
        }
        let mut draw = Draw::new(self.seed, (u64::from(day) + 1) << 32 | number as u64);
        if !me.business {
            self.person(&mut draw, number, me, habits, day, out);
        } else if !me.npo && !me.msb {
            self.business(&mut draw, me, day, out);
        }
        self.belonging(&mut draw, number, me, day, out);
    }

    fn person(
        &self,
        draw: &mut Draw,
        number: usize,
        me: &Customer,
        habits: &Habits,
        day: u32,
        out: &mut Vec<Transaction>,
    ) {
        let calendar = self.calendar;
        // Crews and those who live from what they earn themselves get no wage of an employer.
        let earns = [populations::CREW, populations::SEX_WORKER, populations::DRIVER, populations::TRADER];
        if calendar.runs(habits.payday, day) && !earns.contains(&me.population) {
            out.push(self.wage(draw, number, me, habits, day));
        }
        let bills: [(&str, u32, i64); 4] = [
            ("Vermieter", 3, habits.income * 3 / 10),
            ("Stadtwerke", 5, 9_500),
            ("Telefon", 12, 3_500),
            ("Versicherung", 15, 6_000),
        ];
        for (name, of_month, amount) in
            bills.iter().skip(usize::from(habits.student && number.is_multiple_of(2)))
        {
            if calendar.runs(*of_month, day) {
                let mut bill = tx(calendar, day, 6 * HOUR, "direct_debit", "batch", *amount);
                bill.debtor = own(me);
                bill.creditor = external(&format!("BILL{}{}", name, number % 97), name);
                bill.memo = format!("{name} {}", calendar.month(day));
                if draw.permille(3) {
                    // Not enough was there: it goes back two days later.
                    bill.mark = draw.mark();
                    let mut back = bill.clone();
                    (back.entry, back.mark, back.of) = ("reversal", 0, bill.mark);
                    std::mem::swap(&mut back.debtor, &mut back.creditor);
                    back.time += 2 * 24 * HOUR;
                    back.offset = calendar.offset(back.time);
                    out.push(back);
                }
                out.push(bill);
            }
        }
        if let Some((on, place)) = habits.holiday
            && (on..on + 7).contains(&day)
        {
            holiday(draw, me, place, calendar, day, out);
            return;
        }
        for _ in 0..i64::from(draw.chance(70)) + i64::from(draw.chance(25)) {
            purchase(draw, me, calendar, day, out);
        }
        if draw.permille(110) {
            let mut cash = tx(calendar, day, draw.time(&CASH), "cash_out", "atm", draw.int(2, 20) * 1_000);
            cash.debtor = own(me);
            cash.place = home(me.city);
            cash.terminal = format!("ATM-{}-{}", me.city, draw.int(1, 40));
            out.push(cash);
        }
        if draw.permille(12) {
            let mut cash = tx(calendar, day, draw.time(&CASH), "cash_in", "atm", draw.int(2, 30) * 1_000);
            cash.creditor = own(me);
            cash.place = home(me.city);
            cash.terminal = format!("ATM-{}-{}", me.city, draw.int(1, 40));
            cash.depositor.clone_from(&me.customer);
            out.push(cash);
        }
        if draw.permille(95)
            && let Some(friend) = self.friend(draw, number)
        {
            let mut gift = tx(calendar, day, draw.time(&AT_HOME), "p2p", "mobile", draw.price(500, 9_000));
            gift.debtor = own(me);
            gift.creditor = own(friend);
            gift.memo = ["Pizza", "Kino", "Danke!", "Geschenk", "🎉", "Benzin"][draw.index(6)].into();
            out.push(gift);
        }
        if let Some(country) = habits.abroad
            && draw.permille(22)
        {
            let mut remittance =
                tx(calendar, day, draw.time(&AT_HOME), "wire", "online", draw.int(5, 40) * 1_000);
            remittance.debtor = own(me);
            remittance.creditor = external(&format!("FAMILY{number}"), &format!("{} Familie", me.surname));
            remittance.creditor_country = country;
            remittance.memo = "family support".into();
            out.push(remittance);
        }
        // A trip now and then: train, hotel and a meal in another town.
        if let Some((on, city)) = habits.trip
            && on == day
        {
            for (mcc, name, amount) in
                [("4112", "Bahn", 6_900), ("7011", "Hotel", 19_900), ("5812", "Restaurant", 4_200)]
            {
                let mut trip = tx(calendar, day, draw.time(&TRAVEL), "card", "pos", amount);
                trip.debtor = own(me);
                trip.mcc = mcc;
                trip.merchant = format!("{name} {}", CITIES[city].0);
                trip.place = home(city);
                out.push(trip);
            }
        }
    }

    fn wage(&self, draw: &mut Draw, number: usize, me: &Customer, habits: &Habits, day: u32) -> Transaction {
        let mut wage = tx(self.calendar, day, draw.time(&OFFICE), "transfer", "batch", habits.income);
        wage.creditor = own(me);
        if habits.student {
            wage.debtor = external(&format!("PARENT{number}"), &format!("Eltern {}", me.surname));
            wage.memo = "Unterhalt".into();
            return wage;
        }
        if me.population == populations::PENSIONER {
            (wage.purpose, wage.memo) = ("PENS", "Rente".into());
            wage.debtor = external("PENSION", "Rentenversicherung");
            return wage;
        }
        wage.purpose = "SALA";
        wage.memo = format!("Gehalt {}", self.calendar.month(day));
        // Employers are businesses of this bank, or of another.
        let employer = &self.people[(number * 7 + 11) % (self.ordinary / 12) * 12 + 11];
        wage.debtor = if number.is_multiple_of(3) && employer.business {
            own(employer)
        } else {
            external(&format!("EMPLOYER{}", number % 180), "Arbeitgeber AG")
        };
        wage
    }

    /// One of a few that stay the same.
    fn friend(&self, draw: &mut Draw, number: usize) -> Option<&Customer> {
        let friend = |k: usize| &self.people[(number + k * k * 37 + 1) % self.ordinary];
        let friends: Vec<&Customer> = (1..5).map(friend).filter(|friend| !friend.business).collect();
        friends.get(draw.index(friends.len())).copied()
    }

    fn business(&self, draw: &mut Draw, me: &Customer, day: u32, out: &mut Vec<Transaction>) {
        let calendar = self.calendar;
        if calendar.weekday(day) == 6 {
            return;
        }
        for _ in 0..draw.int(0, 3) {
            let client = &self.people[draw.index(self.ordinary)];
            let mut invoice =
                tx(calendar, day, draw.time(&OFFICE), "transfer", "online", draw.price(2_000, 60_000));
            invoice.debtor = if client.business || draw.chance(70) {
                external(&format!("CLIENT{}", draw.int(0, 400)), "Kunde")
            } else {
                own(client)
            };
            invoice.creditor = own(me);
            invoice.memo = format!("Rechnung {}", draw.int(1000, 9999));
            out.push(invoice);
        }
        if draw.chance(30) {
            let mut takings =
                tx(calendar, day, draw.time(&OFFICE), "cash_in", "branch", draw.int(20, 150) * 1_000);
            takings.creditor = own(me);
            takings.place = home(me.city);
            takings.depositor.clone_from(&me.customer);
            out.push(takings);
        }
        if draw.chance(40) {
            let mut supplies =
                tx(calendar, day, draw.time(&OFFICE), "transfer", "online", draw.price(5_000, 90_000));
            supplies.debtor = own(me);
            supplies.creditor = external(&format!("SUPPLIER{}", draw.int(0, 60)), "Großhandel");
            out.push(supplies);
        }
    }
}

/// Meals, shops and cash of one day abroad, in local currency and time.
fn holiday(
    draw: &mut Draw,
    me: &Customer,
    place: usize,
    calendar: &Calendar,
    day: u32,
    out: &mut Vec<Transaction>,
) {
    let (place, currency, cents, ahead) = HOLIDAYS[place % HOLIDAYS.len()];
    for _ in 0..draw.int(1, 3) {
        let (mcc, name, most) =
            [("5812", "Restaurant", 6_000), ("5947", "Souvenirs", 3_000), ("5411", "Market", 4_000)]
                [draw.index(3)];
        let local = draw.time(&MEALS);
        let amount = draw.price(800, most) * cents / 100;
        let mut bought = tx(calendar, day, (local - ahead * HOUR).max(0), "card", "pos", amount);
        bought.offset += i32::try_from(ahead * HOUR).unwrap_or_default();
        (bought.debtor, bought.mcc, bought.currency) = (own(me), mcc, currency);
        bought.merchant = format!("{name} {}", place.city);
        bought.place = Some(place);
        out.push(bought);
    }
    if draw.chance(15) {
        let mut cash = tx(calendar, day, 12 * HOUR, "cash_out", "atm", 10_000 * cents / 100);
        cash.offset += i32::try_from(ahead * HOUR).unwrap_or_default();
        (cash.debtor, cash.currency, cash.place) = (own(me), currency, Some(place));
        out.push(cash);
    }
}

pub(crate) fn purchase(
    draw: &mut Draw,
    me: &Customer,
    calendar: &Calendar,
    day: u32,
    out: &mut Vec<Transaction>,
) {
    let mut left = draw.int(0, 99);
    let mut shop = SHOPS[0];
    for candidate in SHOPS {
        if left < candidate.4 {
            shop = candidate;
            break;
        }
        left -= candidate.4;
    }
    let hours = if shop.0.starts_with("581") { &MEALS } else { &SHOPPING };
    let mut bought = tx(calendar, day, draw.time(hours), "card", "pos", draw.price(shop.2, shop.3));
    bought.debtor = own(me);
    bought.mcc = shop.0;
    bought.merchant = format!("{} {}", shop.1, me.city_name());
    bought.place = home(me.city);
    if draw.permille(8) {
        // Some things go back.
        bought.mark = draw.mark();
        let mut refund = bought.clone();
        (refund.mark, refund.of) = (0, bought.mark);
        refund.time += draw.int(1, 6) * 24 * HOUR;
        refund.offset = calendar.offset(refund.time);
        refund.creditor = refund.debtor.take();
        refund.kind = "refund";
        out.push(refund);
    }
    out.push(bought);
}

/// A transaction at a time of a day, both sides still open.
pub(crate) fn tx(
    calendar: &Calendar,
    day: u32,
    seconds: i64,
    kind: &'static str,
    channel: &'static str,
    amount: i64,
) -> Transaction {
    let time = calendar.at(day, seconds);
    Transaction {
        time,
        offset: calendar.offset(time),
        kind,
        channel,
        amount: amount.max(1),
        ..Transaction::default()
    }
}
