//! The simulated bank, day by day: what is held in memory are its customers, what is planted, and one day.

use std::collections::HashMap;

use crate::Options;
use crate::calendar::Calendar;
use crate::life::{Habits, World};
use crate::people::{self, Customer};
use crate::plants::{self, Planted};
use crate::record::Transaction;

/// A simulated bank.
pub struct Bank {
    options: Options,
    calendar: Calendar,
    customers: Vec<Customer>,
    /// Of each customer.
    habits: Vec<Habits>,
    ordinary: usize,
    planted: Vec<Planted>,
    /// What is planted and did not happen yet, the latest first.
    coming: Vec<Transaction>,
    /// What a day before set off for later.
    set_off: Vec<Transaction>,
    day: u32,
    count: u64,
    /// Numbers of marked transactions that are not referred to yet.
    marked: HashMap<u64, u64>,
    /// Customer by account.
    accounts: HashMap<String, usize>,
}

impl Bank {
    /// A bank before its first day.
    pub fn new(options: &Options) -> Bank {
        let calendar = Calendar::new(options.days.max(40));
        let ordinary = options.customers.max(24);
        let mut customers = people::customers(options.seed, ordinary, &calendar);
        let mut coming = Vec::new();
        let planted = plants::plant(options, &calendar, &mut customers, &mut coming);
        // The order of creation decides between rows of one second: sort keeps it, and the last is taken first.
        coming.sort_by_key(|transaction| transaction.time);
        coming.reverse();
        let numbered = customers.iter().enumerate();
        let habits = numbered.map(|(number, me)| Habits::draw(options.seed, number, me, &calendar)).collect();
        let accounts = customers.iter().enumerate().map(|(number, c)| (c.account.clone(), number)).collect();
        Bank {
            options: options.clone(),
            calendar,
            customers,
            habits,
            ordinary: ordinary as usize,
            planted,
            coming,
            set_off: Vec::new(),
            day: 0,
            count: 0,
            marked: HashMap::new(),
            accounts,
        }
    }

    /// Holders, each with one account.
    pub fn customers(&self) -> &[Customer] {
        &self.customers
    }

    /// Networks and look-alikes, with their transactions so far.
    pub fn planted(&self) -> &[Planted] {
        &self.planted
    }

    /// Transactions so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The local day on which the simulation begins.
    pub(crate) fn first_day(&self) -> chrono::NaiveDate {
        self.calendar.date(0)
    }

    /// The transactions of the next day, in order of time; `None` after the last one.
    pub fn day(&mut self) -> Option<Vec<Transaction>> {
        if self.day > self.calendar.days() {
            return None;
        }
        // After the last day comes what is left over, however late.
        let rest = self.day == self.calendar.days();
        let mut today = std::mem::take(&mut self.set_off);
        if !rest {
            self.live(&mut today);
        }
        let end = if rest { i64::MAX } else { self.calendar.at(self.day + 1, 0) };
        let (mut today, later): (Vec<_>, Vec<_>) = today.into_iter().partition(|t| t.time < end);
        self.set_off = later;
        while self.coming.last().is_some_and(|next| next.time < end) {
            today.extend(self.coming.pop());
        }
        today.sort_by_key(|transaction| transaction.time);
        for transaction in &mut today {
            self.count += 1;
            transaction.number = self.count;
            if transaction.mark > 0 {
                self.marked.insert(transaction.mark, self.count);
            }
            if transaction.of > 0 {
                transaction.original = self.marked.remove(&transaction.of).unwrap_or_default();
            }
            complete(transaction, &self.customers, &self.accounts);
            if let Some(plant) =
                (transaction.plant as usize).checked_sub(1).and_then(|at| self.planted.get_mut(at))
            {
                plant.transactions.push((transaction.number, transaction.time, transaction.amount));
                join(plant, transaction, &self.customers, &self.accounts);
            }
        }
        self.day += 1;
        Some(today)
    }

    fn live(&self, out: &mut Vec<Transaction>) {
        let world = World {
            seed: self.options.seed,
            people: &self.customers,
            habits: &self.habits,
            ordinary: self.ordinary,
            calendar: &self.calendar,
        };
        (0..self.customers.len()).for_each(|number| world.live(number, self.day, out));
    }
}

/// Fills in what follows from the rest: the device of who gave the order, the number of a merchant.
fn complete(transaction: &mut Transaction, people: &[Customer], accounts: &HashMap<String, usize>) {
    if transaction.device.is_empty()
        && matches!(transaction.channel, "online" | "mobile")
        && let Some(me) = transaction.debtor.as_ref().and_then(|(account, _)| accounts.get(account))
    {
        transaction.device.clone_from(&people[*me].device);
    }
    if transaction.merchant_id.is_empty() && !transaction.merchant.is_empty() {
        transaction.merchant_id = format!("M-{}", transaction.merchant);
    }
}

/// Those of this bank whose accounts a planted transaction touches belong to the network.
fn join(
    plant: &mut Planted,
    transaction: &Transaction,
    people: &[Customer],
    accounts: &HashMap<String, usize>,
) {
    for (account, _) in [&transaction.debtor, &transaction.creditor].into_iter().flatten() {
        if let Some(&number) = accounts.get(account) {
            plant.members.extend([account.clone(), people[number].customer.clone()]);
        }
    }
    if !transaction.device.is_empty() {
        plant.members.insert(transaction.device.clone());
    }
}
