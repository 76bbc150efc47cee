//! Pay days, wages, and living from them: what networks of labour, of forced crime and of control have in common.

use crate::calendar::HOUR;
use crate::draw::SHOPPING;
use crate::life::{external, own, purchase, tx};
use crate::people::{Customer, home};
use crate::plants::{Party, Planter, Variant};
use crate::record::Transaction;

/// Names of people who have no account with this bank, or not yet.
pub(super) const NAMES: [&str; 28] = [
    "Ana Rusu",
    "Ion Munteanu",
    "Vasile Ciobanu",
    "Elena Moldovan",
    "Georgi Petrov",
    "Dimitar Ivanov",
    "Stoyan Kolev",
    "Milena Todorova",
    "Jan Wozniak",
    "Pawel Zielinski",
    "Oleh Bondarenko",
    "Iryna Shevchuk",
    "Gintaras Kazlauskas",
    "Janis Berzins",
    "Arben Hoxha",
    "Blerta Krasniqi",
    "Duc Pham",
    "Hoa Vu",
    "Rajesh Gurung",
    "Sunita Thapa",
    "Imran Chaudhry",
    "Yusuf Diallo",
    "Grace Okafor",
    "Joy Osagie",
    "Rosario Dizon",
    "Jomar Villanueva",
    "Levan Beridze",
    "Nino Kapanadze",
];

/// How an employer pays.
pub(super) struct Pay {
    /// Pay days, in order.
    pub days: Vec<u32>,
    /// Into how many parts a month's pay is cut: 1, 2 or 4.
    pub parts: i64,
}

/// Pay days of an employer: once a month on a day of its own, mostly; every other Friday; or every Friday.
pub(super) fn pay_days(planter: &mut Planter<'_>) -> Pay {
    let (kind, of_month) = (planter.draw.int(0, 9), planter.draw.count(1, 28));
    let fridays = (0..planter.calendar.days()).filter(|day| planter.calendar.weekday(*day) == 4);
    match kind {
        0..=5 => Pay { days: planter.calendar.monthly(of_month), parts: 1 },
        6..=8 => Pay { days: fridays.step_by(2).collect(), parts: 2 },
        _ => Pay { days: fridays.collect(), parts: 4 },
    }
}

/// An employer at another bank.
pub(super) fn employer(planter: &mut Planter<'_>, plant: u32) -> Party {
    let names = [
        "Reinigung Nord GmbH",
        "Frischfleisch Süd KG",
        "Spargelhof Brandt",
        "Paketdienst Ost",
        "Bau Kessler",
    ];
    external(&format!("FIRM{plant}"), names[planter.draw.index(names.len())])
}

/// Puts a wage, paid in the early hours of a pay day, and gives it back.
pub(super) fn wage(
    planter: &mut Planter<'_>,
    plant: u32,
    day: u32,
    payer: &Party,
    worker: &Customer,
    amount: i64,
) -> Transaction {
    let seconds = 4 * HOUR + planter.draw.int(0, 5 * HOUR);
    let mut wage = tx(planter.calendar, day, seconds, "transfer", "batch", amount);
    wage.debtor.clone_from(payer);
    wage.creditor = own(worker);
    wage.purpose = "SALA";
    wage.memo = format!("Lohn {}", planter.calendar.month(day));
    planter.put(plant, wage.clone());
    wage
}

/// A benefit of a person, paid to an account, on its way in the early hours.
pub(super) fn benefit(planter: &mut Planter<'_>, day: u32, to: &Customer, amount: i64) -> Transaction {
    let office = planter.draw.index(2);
    let seconds = 3 * HOUR + planter.draw.int(0, 3 * HOUR);
    let mut paid = tx(planter.calendar, day, seconds, "transfer", "batch", amount);
    paid.debtor = external(["JOBCENTER", "SOZIALAMT"][office], ["Jobcenter", "Sozialamt"][office]);
    paid.creditor = own(to);
    paid.purpose = ["SSBE", "BENE"][office];
    paid
}

/// Puts money that somebody sends on, `hours` after it came in.
pub(super) fn pass_on(
    planter: &mut Planter<'_>,
    plant: u32,
    first: &Transaction,
    hours: i64,
    amount: i64,
    to: &Party,
    memo: &str,
) {
    let mut sent = planter.after(first, hours, "transfer", "mobile", amount);
    sent.debtor.clone_from(&first.creditor);
    sent.creditor.clone_from(to);
    sent.memo = memo.into();
    planter.put(plant, sent);
}

/// Puts cash that is drawn, in notes of 10, `hours` after the money came in.
pub(super) fn draw_cash(
    planter: &mut Planter<'_>,
    plant: u32,
    first: &Transaction,
    hours: i64,
    amount: i64,
    terminal: &str,
    holder: &Customer,
) {
    let mut cash = planter.after(first, hours, "cash_out", "atm", (amount - amount % 1_000).max(1_000));
    cash.debtor = own(holder);
    cash.place = home(holder.city);
    cash.terminal = terminal.to_string();
    planter.put(plant, cash);
}

/// A cash machine in somebody's town.
pub(super) fn machine(planter: &mut Planter<'_>, holder: &Customer) -> String {
    format!("ATM-{}-{}", holder.city, planter.draw.int(1, 40))
}

/// Who lives from an account without income of its own: rent, power and shopping from one day to another.
pub(super) fn live_from(planter: &mut Planter<'_>, me: &Customer, rent: i64, from: u32, to: u32) {
    for day in from..=to.min(planter.last_day()) {
        for (name, of_month, amount) in [("Vermieter", 3, rent), ("Stadtwerke", 5, 8_500)] {
            if planter.calendar.runs(of_month, day) && amount > 0 {
                let mut bill = tx(planter.calendar, day, 6 * HOUR, "direct_debit", "batch", amount);
                bill.debtor = own(me);
                bill.creditor = external(&format!("BILL{name}{}", me.city), name);
                planter.put(0, bill);
            }
        }
        if planter.draw.chance(60) {
            purchase(&mut planter.draw, me, planter.calendar, day, planter.out);
        }
    }
}

/// Groceries of a worker who keeps next to nothing: a few times a month, some euros.
pub(super) fn scrape_by(planter: &mut Planter<'_>, me: &Customer, from: u32, to: u32) {
    let mut day = from + planter.draw.count(1, 12);
    while day <= to.min(planter.last_day()) {
        let (seconds, amount) = (planter.draw.time(&SHOPPING), planter.draw.price(300, 1_800));
        let mut food = tx(planter.calendar, day, seconds, "card", "pos", amount);
        food.debtor = own(me);
        food.mcc = "5411";
        food.merchant = "Discounter".into();
        food.place = home(me.city);
        planter.put(0, food);
        day += planter.draw.count(9, 20);
    }
}

/// A controller: often somebody who lives from the account, too; sometimes an account for this alone.
pub(super) fn controller(planter: &mut Planter<'_>) -> Customer {
    if planter.draw.chance(60) { planter.neighbour() } else { planter.person() }
}

/// An account at another bank is the network's own: an alert about it is right. Innocent people have none.
pub(super) fn belongs(planter: &mut Planter<'_>, plant: u32, account: &Party) {
    let planted = (plant as usize).checked_sub(1).and_then(|at| planter.planted.get_mut(at));
    if let (Some(planted), Some((account, _))) = (planted, account) {
        planted.members.insert(account.clone());
    }
}

/// Somebody of this bank takes part whose account may see none of it: an alert may name this one for all.
pub(super) fn holds(planter: &mut Planter<'_>, plant: u32, who: &Customer) {
    let planted = (plant as usize).checked_sub(1).and_then(|at| planter.planted.get_mut(at));
    if let Some(planted) = planted {
        planted.members.extend([who.account.clone(), who.customer.clone()]);
    }
}

/// Which of `ways` to hide a network takes; none when it does not hide.
pub(super) fn way(planter: &mut Planter<'_>, variant: Variant, ways: usize) -> Option<usize> {
    variant.stealthy().then(|| planter.draw.index(ways))
}
