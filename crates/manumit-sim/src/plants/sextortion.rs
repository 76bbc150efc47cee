//! Sextortion: those who are blackmailed, and the accounts that collect from them.

use chrono::TimeDelta;

use crate::calendar::HOUR;
use crate::draw::{AT_HOME, EVENING};
use crate::life::{external, own, tx};
use crate::people::Customer;
use crate::plants::{Kind, Party, Planter, Variant};
use crate::record::Transaction;

/// What is planted.
pub(crate) const KINDS: &[Kind] = &[
    Kind { typology: "sextortion-victim-burst", plant: |planter, variant| planter.frightened(variant) },
    Kind { typology: "sextortion-mule", plant: |planter, variant| planter.mule(variant) },
];

/// Somebody who lives from the account and is so many years old.
fn aged(planter: &mut Planter<'_>, least: i64, most: i64) -> Customer {
    let mut person = planter.neighbour();
    let days = planter.draw.int(least * 365 + 40, most * 365 + 360);
    person.born_on = Some(planter.calendar.date(0) - TimeDelta::days(days));
    planter.keep(&person);
    person
}

/// Money by phone.
fn by_phone(
    planter: &Planter<'_>,
    day: u32,
    seconds: i64,
    amount: i64,
    from: Party,
    to: Party,
) -> Transaction {
    let day = day.min(planter.last_day());
    let mut paid = tx(planter.calendar, day, seconds, "p2p", "mobile", amount);
    (paid.debtor, paid.creditor) = (from, to);
    paid
}

impl Planter<'_> {
    /// A blackmailed payer: ever more to one stranger within hours. Stealthy: once a day, or to several accounts, or in gift
    /// cards. Look-alike: tickets, a night out or a bet settled with a friend, game credit.
    fn frightened(&mut self, variant: Variant) {
        if variant.innocent() {
            return self.night_out();
        }
        let hidden = variant.stealthy();
        // Mostly teenagers (FATF-2025-07); some are older.
        let person = if self.draw.chance(92) { aged(self, 13, 23) } else { aged(self, 25, 48) };
        let plant = self.begin("sextortion-victim-burst", &person.account, variant);
        let first = self.first_day(9);
        let way = self.draw.index(3);
        let start = 17 * HOUR + self.draw.int(0, 8 * HOUR);
        let mut amount = self.draw.int(2, 20) * 1_000;
        let (payments, pleads, mut at, mut paid_so_far) = (self.draw.count(3, 8), self.draw.chance(45), 0, 0);
        for k in 0..payments {
            let (day, payee) = match (hidden, way) {
                (true, 0) => (first + k, 0),
                (true, _) => (first + k / 3, k % 3),
                // Some are told to pay a second account at the end.
                _ => (first, u32::from(k > 4)),
            };
            let to =
                external(&format!("PAYEE{plant}-{payee}"), ["J. D.", "K. Amani", "O. R."][payee as usize]);
            let mut paid = by_phone(self, day, start + at, amount, own(&person), to);
            if pleads && k > 0 {
                paid.memo =
                    ["please stop", "bitte lösch es", "that is all i have", ""][self.draw.index(4)].into();
            }
            if hidden && way == 2 {
                (paid.kind, paid.channel, paid.creditor) = ("card", "online", None);
                (paid.mcc, paid.merchant) = ("5947", "Giftbarn".into());
            }
            self.put(plant, paid);
            paid_so_far += amount;
            // They ask for more, until nothing is left (about 1,500 in all, FATF-2025-05).
            amount = (amount * self.draw.int(8, 18) / 10 / 500 * 500).clamp(1_000, 50_000);
            if paid_so_far + amount > 150_000 {
                amount = 1_000;
            }
            at += self.draw.int(240, 2_700);
        }
    }

    /// Several payments to a friend in an evening, or to a seller.
    fn night_out(&mut self) {
        let person = if self.draw.chance(70) { aged(self, 16, 24) } else { aged(self, 26, 55) };
        let plant = self.begin("sextortion-victim-burst", &person.account, Variant::LookAlike);
        let first = self.first_day(30);
        let day = first + self.draw.count(20, 28);
        let friend = external(&format!("FRIEND-N{plant}"), "Jonas H.");
        let kind = self.draw.index(4);
        // Friends have paid each other before; somebody met at a festival has not.
        if kind < 2 && self.draw.chance(80) {
            for _ in 0..self.draw.count(1, 3) {
                let (before, seconds) = (first + self.draw.count(0, 17), self.draw.time(&AT_HOME));
                let amount = self.draw.int(10, 30) * 100;
                let mut paid = by_phone(self, before, seconds, amount, own(&person), friend.clone());
                paid.memo = "Döner".into();
                self.put(plant, paid);
            }
        }
        // Drinks, bets, tickets, game credit: how many, least and most, from which hour on.
        let (count, low, high, hour, memo) = match kind {
            0 => (self.draw.count(2, 5), 5, 30, 20, "Getränke"),
            1 => (self.draw.count(2, 4), 5, 40, 18, "Wette 😂"),
            2 => (2, 30, 120, 14, "Tickets"),
            _ => (self.draw.count(3, 6), 10, 50, 19, "Coins"),
        };
        let to = if kind == 3 { external("GAMES", "Pixelplay Games") } else { friend };
        let mut seconds = hour * HOUR + self.draw.int(0, 3 * HOUR);
        for _ in 0..count {
            let amount = self.draw.int(low, high) * 100;
            let mut paid = by_phone(self, day, seconds, amount, own(&person), to.clone());
            paid.memo = memo.into();
            self.put(plant, paid);
            seconds += self.draw.int(900, 4_800);
        }
    }

    /// The account that collects from blackmailed payers. Stealthy: several accounts with few payers each, or cash, or another
    /// account at home. Look-alike: parents, pupils and players who collect, and small sellers.
    fn mule(&mut self, variant: Variant) {
        if variant.innocent() {
            return self.treasurer_for_once();
        }
        let hidden = variant.stealthy();
        let way = self.draw.index(3);
        let payers = self.draw.count(6, 22);
        // A network that hides gives each account few payers.
        let accounts = if hidden && way == 0 { payers.div_ceil(4) } else { 1 };
        let mules: Vec<Customer> = (0..accounts).map(|_| self.mule_account()).collect();
        let Some(head) = mules.first() else { return };
        let plant = self.begin("sextortion-mule", &head.account, variant);
        let days = self.draw.count(2, 10);
        let first = self.first_day(days + 3);
        // How many payers are at this bank, so that their age is known; the others' is not.
        let here = self.draw.count(30, 100);
        let mut waiting = vec![0; mules.len()];
        let mut demands: Vec<(u32, i64, u32)> = (0..payers)
            .map(|payer| (first + self.draw.count(0, days), self.draw.time(&EVENING), payer))
            .collect();
        demands.sort_unstable();
        for (number, (day, seconds, payer)) in demands.into_iter().enumerate() {
            let at = payer as usize % mules.len();
            let Some(mule) = mules.get(at) else { continue };
            let from = if self.draw.chance(here) {
                let young = self.draw.chance(82);
                own(&if young { aged(self, 13, 19) } else { aged(self, 21, 34) })
            } else {
                external(&format!("PAYER-X{plant}-{payer}"), "F. S.")
            };
            let mut last = Transaction::default();
            for again in 0..=i64::from(self.draw.chance(30)) {
                let amount = self.draw.skewed(2, 40) * 500;
                last = by_phone(self, day, seconds + again * 1_900, amount, from.clone(), own(mule));
                waiting[at] += amount;
                self.put(plant, last.clone());
            }
            // Not each alone, but never long: on it goes within hours, less a small reward.
            if number % 3 == 2 || number + 1 == payers as usize || self.draw.chance(40) {
                let (hours, kept) = (self.draw.int(0, 8), self.draw.int(0, 12));
                let amount = waiting[at] * (100 - kept) / 100;
                let exit = self.mule_exit(plant, &last, hours, amount, mule, hidden.then_some(way));
                self.put(plant, exit);
                waiting[at] = 0;
            }
        }
    }

    /// New, or one that slept.
    fn mule_account(&mut self) -> Customer {
        let mut mule = self.person();
        if self.draw.chance(65) {
            mule.opened_on = self.calendar.date(0) - TimeDelta::days(self.draw.int(3, 60));
            self.keep(&mule);
        }
        mule
    }

    /// Abroad, into gift cards or crypto; as cash or to another account at home where it is to be hidden.
    fn mule_exit(
        &mut self,
        plant: u32,
        last: &Transaction,
        hours: i64,
        amount: i64,
        mule: &Customer,
        hidden: Option<usize>,
    ) -> Transaction {
        let mut out = match (hidden, self.draw.index(4)) {
            (Some(1), _) => self.after(last, hours, "cash_out", "atm", amount),
            (Some(2), _) => {
                let mut out = self.after(last, hours, "transfer", "mobile", amount);
                out.creditor = external(&format!("SECOND{plant}"), "B. N.");
                out
            }
            (_, 0 | 1) => {
                let mut out = self.after(last, hours, "wire", "online", amount);
                out.creditor = external(&format!("EXIT{plant}"), "Y. K.");
                out.creditor_country = ["CI", "NG", "PH", "BJ"][self.draw.index(4)];
                out
            }
            (_, 2) => {
                let mut out = self.after(last, hours, "card", "online", amount);
                (out.mcc, out.merchant) = ("6051", "Coinharbour Exchange".into());
                out
            }
            _ => {
                let mut out = self.after(last, hours, "card", "online", amount);
                (out.mcc, out.merchant) = ("6540", "Giftbarn".into());
                out
            }
        };
        out.debtor = own(mule);
        out
    }

    /// Many pay somebody a little, for once, and for good reasons.
    fn treasurer_for_once(&mut self) {
        let kind = self.draw.index(4);
        let person = if kind == 0 { aged(self, 32, 52) } else { aged(self, 16, 23) };
        let plant = self.begin("sextortion-mule", &person.account, Variant::LookAlike);
        let days = self.draw.count(3, 9);
        let first = self.first_day(days + 6);
        // A class trip, pupils who go abroad, players who share a server, somebody who sells clothes.
        let price = [80, 120, 12, 0][kind] * 100 + self.draw.int(0, 6) * 500;
        let mut sum = 0;
        for k in 0..self.draw.count(6, 20) {
            let from = if self.draw.chance(60) {
                own(&if kind == 0 { aged(self, 32, 55) } else { aged(self, 15, 20) })
            } else {
                external(&format!("FAMILY-T{plant}-{k}"), "Familie")
            };
            let amount = if kind == 3 { self.draw.price(800, 4_500) } else { price };
            let (day, seconds) = (first + self.draw.count(0, days), self.draw.time(&AT_HOME));
            let mut paid = by_phone(self, day, seconds, amount, from, own(&person));
            paid.memo = ["Klassenfahrt", "Austausch Lyon", "server", ""][kind].into();
            sum += amount;
            self.put(plant, paid);
        }
        let day = (first + days + self.draw.count(1, 4)).min(self.last_day());
        let mut bill = tx(self.calendar, day, 10 * HOUR, "transfer", "online", sum * 96 / 100);
        bill.debtor = own(&person);
        match kind {
            0 => bill.creditor = external("HOSTEL", "Jugendherberge"),
            1 => {
                bill.creditor = external("AUBERGE", "Auberge de Jeunesse");
                (bill.kind, bill.creditor_country) = ("wire", "FR");
            }
            2 => {
                (bill.kind, bill.channel, bill.mcc) = ("card", "online", "5816");
                bill.merchant = "Pixelplay Games".into();
            }
            _ => {
                bill.amount = sum / 3;
                bill.creditor = external("WARDROBE", "Kleiderkreisel");
            }
        }
        self.put(plant, bill);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use crate::{Options, Variant, simulate};

    #[test]
    fn a_hidden_collector_has_few_payers_or_another_way_out() {
        let options = Options {
            seed: 21,
            customers: 24,
            days: 90,
            networks: 0,
            stealthy: 20,
            look_alikes: 0,
            typologies: Vec::new(),
        };
        let simulation = simulate(&options);
        for plant in simulation.bank.planted().iter().filter(|p| p.typology == "sextortion-mule") {
            assert_eq!(plant.variant, Variant::Stealthy);
            let (mut payers, mut loud): (BTreeMap<_, BTreeSet<_>>, BTreeSet<_>) = Default::default();
            for (number, ..) in &plant.transactions {
                let transaction = &simulation.transactions[*number as usize - 1];
                match transaction.kind {
                    "p2p" => _ = payers.entry(&transaction.creditor).or_default().insert(&transaction.debtor),
                    "wire" | "card" => _ = loud.insert(&transaction.debtor),
                    _ => {}
                }
            }
            for (account, from) in payers {
                assert!(from.len() <= 4 || !loud.contains(account), "{plant:?}");
            }
        }
    }
}
