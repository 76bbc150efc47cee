//! Single steps that plants are made of: a payment, a purchase, cash.

use crate::draw::CASH;
use crate::life::{external, own, purchase, tx};
use crate::people::{Customer, home};
use crate::plants::{Party, Planter};
use crate::record::Transaction;

/// Letters of names that are given by their initials.
const INITIALS: [&str; 18] =
    ["A", "B", "C", "D", "E", "F", "G", "H", "J", "K", "L", "M", "N", "P", "R", "S", "T", "W"];

impl Planter<'_> {
    /// Somebody with another bank: number `k` of those called `what` in a network.
    pub(super) fn stranger(&self, what: &str, plant: u32, k: u32) -> Party {
        let initial = |number: u32| INITIALS[number as usize % INITIALS.len()];
        let name = format!("{}. {}.", initial(plant + k * 5), initial(plant * 3 + k * 7 + k / 18));
        external(&format!("{what}{plant}-{k}"), &name)
    }

    /// A payment at an hour by weights: `p2p` from a phone, `transfer` or `wire` from a browser.
    pub(super) fn payment(
        &mut self,
        day: u32,
        hours: &[u32; 24],
        kind: &'static str,
        amount: i64,
        from: Party,
        to: Party,
    ) -> Transaction {
        let seconds = self.draw.time(hours);
        let channel = if kind == "p2p" { "mobile" } else { "online" };
        let mut paid = tx(self.calendar, day.min(self.last_day()), seconds, kind, channel, amount);
        (paid.debtor, paid.creditor) = (from, to);
        paid
    }

    /// A purchase by card at a shop of `city`.
    pub(super) fn bought(
        &mut self,
        who: &Customer,
        day: u32,
        hours: &[u32; 24],
        shop: (&'static str, &str),
        city: usize,
        amount: i64,
    ) -> Transaction {
        let seconds = self.draw.time(hours);
        let mut bought = tx(self.calendar, day.min(self.last_day()), seconds, "card", "pos", amount);
        bought.debtor = own(who);
        bought.mcc = shop.0;
        bought.place = home(city);
        bought.merchant = format!("{} {}", shop.1, bought.place.map_or("", |place| place.city));
        bought
    }

    /// A purchase by card on the net, without a place.
    pub(super) fn ordered(
        &mut self,
        who: &Customer,
        day: u32,
        hours: &[u32; 24],
        shop: (&'static str, &str),
        amount: i64,
    ) -> Transaction {
        let seconds = self.draw.time(hours);
        let mut bought = tx(self.calendar, day.min(self.last_day()), seconds, "card", "online", amount);
        bought.debtor = own(who);
        bought.mcc = shop.0;
        bought.merchant = shop.1.to_string();
        bought
    }

    /// Cash paid in at a machine of `city`, by the holder unless a depositor is named.
    pub(super) fn cash_in(
        &mut self,
        who: &Customer,
        day: u32,
        hours: &[u32; 24],
        city: usize,
        amount: i64,
        depositor: &str,
    ) -> Transaction {
        let seconds = self.draw.time(hours);
        let mut cash = tx(self.calendar, day.min(self.last_day()), seconds, "cash_in", "atm", amount);
        cash.creditor = own(who);
        cash.place = home(city);
        cash.depositor = if depositor.is_empty() { &who.customer } else { depositor }.to_string();
        cash
    }

    /// Cash drawn at a machine of `city`.
    pub(super) fn cash_out(&mut self, who: &Customer, day: u32, city: usize, amount: i64) -> Transaction {
        let seconds = self.draw.time(&CASH);
        let mut cash = tx(self.calendar, day.min(self.last_day()), seconds, "cash_out", "atm", amount);
        cash.debtor = own(who);
        cash.place = home(city);
        cash
    }

    /// Daily needs bought on `percent` of the days from `first` on: ordinary, so no part of a network.
    pub(super) fn shopping(&mut self, who: &Customer, first: u32, span: u32, percent: u32) {
        for day in first..(first + span).min(self.last_day()) {
            if self.draw.chance(percent) {
                purchase(&mut self.draw, who, self.calendar, day, self.out);
            }
        }
    }

    /// A sum between `low` and `high` in steps, all in whole units of the currency; the result in cents.
    pub(super) fn sum(&mut self, low: i64, high: i64, step: i64) -> i64 {
        self.draw.int(low / step, high / step) * step * 100
    }
}
