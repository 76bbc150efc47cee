//! Ordinary life: wages, rent, cards, cash, payments among friends, remittances, shops.
//!
//! # Source
//! Frequencies follow the consumer payment diaries of the Atlanta Fed (2023, 2024): about 46 payments a month, of which
//! a third each by card of either kind and a sixth in cash; remittances of about USD 200 (World Bank). The hours are
//! assumptions.

use crate::calendar::{Calendar, HOUR};
use crate::draw::{AT_HOME, CASH, Draw, MEALS, OFFICE, SHOPPING, TRAVEL};
use crate::people::{CITIES, Customer};
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

/// Everything that ordinary customers do.
pub(crate) fn live(seed: u64, people: &[Customer], calendar: &Calendar, out: &mut Vec<Transaction>) {
    for (number, customer) in people.iter().enumerate() {
        let mut draw = Draw::new(seed, 1000 + number as u64);
        if customer.business {
            business(&mut draw, customer, people, calendar, out);
        } else {
            person(&mut draw, number, customer, people, calendar, out);
        }
    }
}

/// The ordinary life of some people: those who were planted but live from their account.
pub(crate) fn live_beside(
    seed: u64,
    people: &[Customer],
    living: &[usize],
    calendar: &Calendar,
    out: &mut Vec<Transaction>,
) {
    for &number in living {
        let mut draw = Draw::new(seed, 1000 + number as u64);
        person(&mut draw, number, &people[number], people, calendar, out);
    }
}

fn person(
    draw: &mut Draw,
    number: usize,
    me: &Customer,
    people: &[Customer],
    calendar: &Calendar,
    out: &mut Vec<Transaction>,
) {
    let student = me.born_on.is_some_and(|b| (calendar.date(0) - b).num_days() < 22 * 365);
    let income = if student { 45_000 } else { draw.skewed(170_000, 650_000) };
    // Bills and monthly income. Employers are businesses of this bank or of another.
    let employer = people[(number * 7 + 11) % (people.len() / 12) * 12 + 11].clone();
    let payday = draw.count(25, 28);
    for day in calendar.monthly(payday) {
        let mut wage = tx(calendar, day, draw.time(&OFFICE), "transfer", "batch", income);
        wage.creditor = own(me);
        if student {
            wage.debtor = external(&format!("PARENT{number}"), &format!("Eltern {}", me.surname));
            wage.memo = "Unterhalt".into();
        } else {
            wage.purpose = "SALA";
            wage.memo = format!("Gehalt {}", calendar.month(day));
            wage.debtor = if number.is_multiple_of(3) && employer.business {
                own(&employer)
            } else {
                external(&format!("EMPLOYER{}", number % 180), "Arbeitgeber AG")
            };
        }
        out.push(wage);
    }
    let bills: [(&str, u32, i64); 4] = [
        ("Vermieter", 3, income * 3 / 10),
        ("Stadtwerke", 5, 9_500),
        ("Telefon", 12, 3_500),
        ("Versicherung", 15, 6_000),
    ];
    for (name, of_month, amount) in bills.iter().skip(usize::from(student && number.is_multiple_of(2))) {
        for day in calendar.monthly(*of_month) {
            let mut bill = tx(calendar, day, 6 * HOUR, "direct_debit", "batch", *amount);
            bill.debtor = own(me);
            bill.creditor = external(&format!("BILL{}{}", name, number % 97), name);
            bill.memo = format!("{name} {}", calendar.month(day));
            out.push(bill);
        }
    }
    let friends: Vec<&Customer> =
        (1..5).map(|k| &people[(number + k * k * 37 + 1) % people.len()]).filter(|f| !f.business).collect();
    let abroad = draw.chance(12).then(|| ["RO", "PL", "TR", "PH", "SY", "VN"][draw.index(6)]);
    for day in 0..calendar.days() {
        for _ in 0..i64::from(draw.chance(70)) + i64::from(draw.chance(25)) {
            purchase(draw, me, calendar, day, out);
        }
        if draw.permille(110) {
            let mut cash = tx(calendar, day, draw.time(&CASH), "cash_out", "atm", draw.int(2, 20) * 1_000);
            cash.debtor = own(me);
            cash.city = Some(me.city);
            out.push(cash);
        }
        if draw.permille(12) {
            let mut cash = tx(calendar, day, draw.time(&CASH), "cash_in", "atm", draw.int(2, 30) * 1_000);
            cash.creditor = own(me);
            cash.city = Some(me.city);
            cash.depositor = me.customer.clone();
            out.push(cash);
        }
        if draw.permille(95) && !friends.is_empty() {
            let friend = friends[draw.index(friends.len())];
            let mut gift = tx(calendar, day, draw.time(&AT_HOME), "p2p", "mobile", draw.price(500, 9_000));
            gift.debtor = own(me);
            gift.creditor = own(friend);
            gift.memo = ["Pizza", "Kino", "Danke!", "Geschenk", "🎉", "Benzin"][draw.index(6)].into();
            out.push(gift);
        }
        if let Some(country) = abroad
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
    }
    // A trip now and then: one or two towns, train and hotel.
    for _ in 0..u32::from(draw.chance(20)) {
        let day = draw.count(3, calendar.days().saturating_sub(4));
        let city = draw.index(CITIES.len());
        for (mcc, name, amount) in
            [("4112", "Bahn", 6_900), ("7011", "Hotel", 19_900), ("5812", "Restaurant", 4_200)]
        {
            let mut trip = tx(calendar, day, draw.time(&TRAVEL), "card", "pos", amount);
            trip.debtor = own(me);
            trip.mcc = mcc;
            trip.merchant = format!("{name} {}", CITIES[city].0);
            trip.city = Some(city);
            out.push(trip);
        }
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
    bought.merchant = format!("{} {}", shop.1, CITIES[me.city].0);
    bought.city = Some(me.city);
    if draw.permille(8) {
        // Some things go back.
        let mut refund = bought.clone();
        refund.time += draw.int(1, 6) * 24 * HOUR;
        refund.offset = calendar.offset(refund.time);
        refund.creditor = refund.debtor.take();
        refund.kind = "refund";
        out.push(refund);
    }
    out.push(bought);
}

fn business(
    draw: &mut Draw,
    me: &Customer,
    people: &[Customer],
    calendar: &Calendar,
    out: &mut Vec<Transaction>,
) {
    for day in (0..calendar.days()).filter(|&day| calendar.weekday(day) < 6) {
        for _ in 0..draw.int(0, 3) {
            let client = &people[draw.index(people.len())];
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
            takings.city = Some(me.city);
            takings.depositor = me.customer.clone();
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
