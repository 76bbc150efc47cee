//! Abuse material: who subscribes to it, and who advertises it with pennies.

use crate::draw::{AT_HOME, EVENING};
use crate::life::{external, own, tx};
use crate::people::Customer;
use crate::plants::{Planter, Variant};
use crate::record::Transaction;

/// The sample entry of the list of watched payees, and the sample of the restricted words.
const WATCHED: &str = "sample-wallet-or-account";
const WORD: &str = "sample-restricted-term";

impl Planter<'_> {
    /// Small sums to a watched payee every week or month, in crypto or with a restricted word. Stealthy: a fresh wallet that
    /// nobody watches yet, a gift card, no rhythm. Look-alike: subscribers to lawful creators, savers in crypto, donors.
    pub(super) fn subscriber(&mut self, variant: Variant) {
        if variant.innocent() {
            return self.lawful_subscriber();
        }
        let hidden = variant.stealthy();
        let mut buyer = self.neighbour();
        self.of_age(&mut buyer, 19, 66);
        let plant = self.begin("csam-micro-subscription", &buyer.account, variant);
        // The latest wallets of a seller are not on any list yet.
        let known = !hidden || self.draw.chance(40);
        let monthly = !hidden && self.last_day() > 66 && self.draw.chance(35);
        let (gap, count) = match (monthly, hidden) {
            (true, _) => (30, 3),
            (_, true) => (16, self.draw.count(3, 5)),
            _ => (7, self.draw.count(4, 11)),
        };
        let count = count.min(1 + self.last_day().saturating_sub(8) / gap).max(2);
        let mut day = self.first_day((count - 1) * gap + 5);
        let (by_word, amount) = (self.draw.chance(30), self.draw.int(5, 38) * 100);
        let topped_up = self.draw.chance(35);
        for k in 0..count {
            let seconds = self.draw.time(&AT_HOME);
            let spread =
                if self.draw.chance(80) { amount } else { (amount + self.draw.int(-3, 3) * 100).max(450) };
            let paid = if by_word {
                let mut paid = self.handed(
                    day,
                    seconds,
                    spread,
                    own(&buyer),
                    external(&format!("SELLER{plant}"), "V. M."),
                );
                if known {
                    paid.memo = format!("{WORD} {}", k + 1);
                }
                paid
            } else {
                let mut paid = self.in_crypto(day, seconds, spread, &buyer, &format!("bc1-{plant}-{k}"));
                if known {
                    paid.cluster = WATCHED.into();
                }
                paid
            };
            self.put(plant, paid);
            if topped_up {
                // Coins for the next payment are bought in small parts (FINTRAC-2025-C18).
                let (seconds, part) = (self.draw.time(&EVENING), self.draw.int(10, 45) * 100);
                let coins = self.in_crypto(day + 1, seconds, part, &buyer, &format!("own-{plant}"));
                self.put(plant, coins);
            }
            day += gap;
            // Seldom to the day; by hand, not by standing order. The month's length does the rest.
            let late = self.draw.count(0, if hidden { 9 } else { 1 });
            day = if self.draw.chance(50) { day + late } else { day.saturating_sub(late) };
        }
    }

    fn in_crypto(&mut self, day: u32, seconds: i64, amount: i64, me: &Customer, wallet: &str) -> Transaction {
        let mut paid = tx(self.calendar, day.min(self.last_day()), seconds, "crypto", "online", amount);
        paid.debtor = own(me);
        (paid.wallet, paid.asset) = (wallet.to_string(), ["BTC", "LTC", "USDT"][self.draw.index(3)]);
        paid
    }

    /// Small sums at a rhythm that concern nobody; one in four once paid a wallet that is watched today.
    fn lawful_subscriber(&mut self) {
        let mut person = self.neighbour();
        self.of_age(&mut person, 19, 60);
        let plant = self.begin("csam-micro-subscription", &person.account, Variant::LookAlike);
        let kind = self.draw.index(3);
        let (gap, amount) = ([30, 7, 14][kind], self.draw.int(5, 35) * 100);
        let count = (self.last_day().saturating_sub(4) / gap).clamp(2, 10);
        let first = self.first_day(count * gap);
        for k in 0..count {
            let (day, seconds) = (first + k * gap, self.draw.time(&AT_HOME));
            let paid = match kind {
                0 | 2 => {
                    let (payee, memo) =
                        if kind == 0 { ("Kanal Waldgeflüster", "Abo") } else { ("Tafel e. V.", "Spende") };
                    let mut paid = self.handed(
                        day,
                        seconds,
                        amount,
                        own(&person),
                        external(&format!("CREATOR{plant}"), payee),
                    );
                    paid.memo = memo.into();
                    paid
                }
                _ => self.in_crypto(day, seconds, amount, &person, &format!("savings-{plant}")),
            };
            self.put(plant, paid);
        }
        if self.draw.chance(25) {
            for _ in 0..self.draw.count(1, 2) {
                let (day, seconds) = (first + self.draw.count(0, 9), self.draw.time(&AT_HOME));
                let mut paid = self.in_crypto(day, seconds, 2_000, &person, &format!("used-{plant}"));
                paid.cluster = WATCHED.into();
                self.put(plant, paid);
            }
        }
    }

    /// Cents with texts to many people. Stealthy: few a week, sums above a euro, words written in another way. Look-alike: a
    /// joker, the treasurer who tries new account numbers, an account that a service checked.
    pub(super) fn penny_writer(&mut self, variant: Variant) {
        let (hidden, innocent) = (variant.stealthy(), variant.innocent());
        // Accounts that were taken over are used for it, too.
        let writer = if innocent || self.draw.chance(50) { self.neighbour() } else { self.person() };
        let plant = self.begin("csam-penny-messages", &writer.account, variant);
        let (people, days) = match (hidden, innocent) {
            (true, _) => (self.draw.count(10, 16), 30),
            (_, true) => (self.draw.count(8, 22), self.draw.count(1, 6)),
            _ => (self.draw.count(12, 45), self.draw.count(1, 9)),
        };
        let days = days.min(self.last_day().saturating_sub(3));
        let first = self.first_day(days);
        let (kind, respelled, often) = (self.draw.index(3), self.draw.chance(50), self.draw.count(35, 100));
        for k in 0..people {
            let (day, seconds) = (first + k * days / people, self.draw.time(&AT_HOME));
            let amount = if hidden && !respelled { self.draw.int(110, 190) } else { self.draw.int(1, 9) };
            let payee = external(&format!("PENNY{plant}-{k}"), "N. B.");
            let mut paid = self.handed(day, seconds, amount, own(&writer), payee);
            paid.memo = match (innocent, kind) {
                (true, 0) => format!("alles gute zum geburtstag nr {k} 🎂"),
                (true, 1) => "Testüberweisung Beitrag 2026".into(),
                (true, _) => format!("Konto bestätigen, Code {:04}", self.draw.int(0, 9_999)),
                _ => {
                    let word = if hidden && respelled { "s4mple-restr1cted" } else { WORD };
                    let word = if self.draw.chance(often) || k < 2 { word } else { "menu" };
                    let at = ["@frag.mich_77", "t.me/frag-mich", "https://kurz.link/x7"][self.draw.index(3)];
                    format!("{word} {at}")
                }
            };
            if innocent && kind == 2 {
                // The service pays in; the holder's own account is one of many that it checks.
                (paid.debtor, paid.creditor) = (external("VERIFIER", "Sample Payment Check"), own(&writer));
            }
            self.put(plant, paid);
        }
    }
}
