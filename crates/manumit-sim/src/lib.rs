//! The demo bank: a seeded, deterministic simulation of customers, their ordinary life, and planted networks.
//!
//! All names, accounts and people are invented. There is no clock: the same options give the same bytes for ever.

mod calendar;
mod draw;
mod life;
mod people;
mod plants;
mod record;

use std::collections::HashMap;
use std::fmt::Write as _;

pub use people::Customer;
pub use plants::Planted;
pub use record::Transaction;

use calendar::Calendar;
use draw::Draw;
use plants::Planter;

/// What to simulate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Seed of all randomness.
    pub seed: u64,
    /// Ordinary customers; those of networks come on top.
    pub customers: u32,
    /// Days from 1 January 2026 on.
    pub days: u32,
    /// Networks of each typology; look-alikes are five times as many.
    pub networks: u32,
}

impl Default for Options {
    fn default() -> Self {
        Options { seed: 7, customers: 5000, days: 90, networks: 4 }
    }
}

/// A simulated bank.
#[derive(Debug)]
pub struct Simulation {
    /// In order of time.
    pub transactions: Vec<Transaction>,
    /// Holders, each with one account.
    pub customers: Vec<Customer>,
    /// Networks and look-alikes.
    pub planted: Vec<Planted>,
}

/// Simulates the bank.
pub fn simulate(options: &Options) -> Simulation {
    let calendar = Calendar::new(options.days.max(40));
    let mut customers = people::customers(options.seed, options.customers.max(24), &calendar);
    let mut transactions = Vec::new();
    life::live(options.seed, &customers, &calendar, &mut transactions);
    let mut planter = Planter {
        draw: Draw::new(options.seed, 2),
        calendar: &calendar,
        people: &mut customers,
        out: &mut transactions,
        planted: Vec::new(),
        living: Vec::new(),
    };
    planter.all(options.networks);
    let Planter { mut planted, living, .. } = planter;
    life::live_beside(options.seed, &customers, &living, &calendar, &mut transactions);
    // The order of creation decides between rows of one second: sort keeps it.
    transactions.sort_by_key(|t| t.time);
    for (number, transaction) in transactions.iter_mut().enumerate() {
        transaction.number = number as u32 + 1;
        if transaction.plant > 0
            && let Some(plant) = planted.get_mut(transaction.plant as usize - 1)
        {
            plant.tx_ids.push(transaction.id());
        }
    }
    Simulation { transactions, customers, planted }
}

impl Simulation {
    /// The reference table `accounts` as CSV.
    pub fn accounts_csv(&self) -> String {
        let mut out = String::from("account,customer,kind,opened_on,currency,city,country\n");
        for c in &self.customers {
            let kind = if c.business { "business" } else { "current" };
            let _ =
                writeln!(out, "{},{},{kind},{},EUR,{},DE", c.account, c.customer, c.opened_on, c.city_name());
        }
        out
    }

    /// What was planted, for `manumit evaluate` and as labels of a backtest: networks are cases, look-alikes are none.
    pub fn truth_csv(&self) -> String {
        let times: HashMap<String, i64> = self.transactions.iter().map(|t| (t.id(), t.time)).collect();
        let mut out = String::from("case,subject,typology,label,population,variant,begins,ends\n");
        for (number, planted) in self.planted.iter().enumerate() {
            let own = || planted.tx_ids.iter().filter_map(|id| times.get(id).copied());
            let instant = |time: Option<i64>| {
                time.and_then(|time| chrono::DateTime::from_timestamp(time, 0))
                    .map_or(String::new(), |time| time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
            };
            let (population, variant) = match planted.look_alike {
                true => (format!("looks like {}", planted.typology), ""),
                false => (String::new(), "plain"),
            };
            let _ = writeln!(
                out,
                "N{:04},{},{},{},{population},{variant},{},{}",
                number + 1,
                planted.subject,
                planted.typology,
                !planted.look_alike,
                instant(own().min()),
                instant(own().max())
            );
        }
        out
    }

    /// The transactions of the planted networks, for `manumit evaluate`.
    pub fn truth_transactions_csv(&self) -> String {
        let mut out = String::from("case,tx_id,at,amount\n");
        for transaction in &self.transactions {
            let planted = (transaction.plant as usize).checked_sub(1).and_then(|at| self.planted.get(at));
            let Some(at) = chrono::DateTime::from_timestamp(transaction.time, 0) else { continue };
            if planted.is_some_and(|planted| !planted.look_alike) {
                let _ = writeln!(
                    out,
                    "N{:04},{},{},{}.{:02}",
                    transaction.plant,
                    transaction.id(),
                    at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
                    transaction.amount / 100,
                    transaction.amount % 100
                );
            }
        }
        out
    }

    /// The reference table `customers` as CSV.
    pub fn customers_csv(&self) -> String {
        let mut out = String::from(
            "customer,segment,born_on,occupation,household,surname,city,country,latitude,longitude,registered_npo,registered_msb\n",
        );
        for c in &self.customers {
            let born = c.born_on.map_or(String::new(), |b| b.to_string());
            let (lat, lon) = c.home();
            let _ = writeln!(
                out,
                "{},{},{born},{},{},{},{},DE,{lat},{lon},{},false",
                c.customer,
                if c.business { "business" } else { "person" },
                c.occupation,
                c.household,
                c.surname,
                c.city_name(),
                c.npo
            );
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Options = Options { seed: 3, customers: 120, days: 90, networks: 1 };

    fn bytes(simulation: &Simulation) -> Vec<u8> {
        let mut out = Vec::new();
        for transaction in &simulation.transactions {
            transaction.write_json(&mut out).unwrap();
        }
        out
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_one_others() {
        let first = bytes(&simulate(&SMALL));
        assert_eq!(first, bytes(&simulate(&SMALL)));
        assert_ne!(first, bytes(&simulate(&Options { seed: 4, ..SMALL })));
    }

    #[test]
    fn rows_are_in_order_and_every_planted_network_has_its_own() {
        let simulation = simulate(&SMALL);
        assert!(simulation.transactions.windows(2).all(|pair| pair[0].time <= pair[1].time));
        assert!(simulation.transactions.iter().all(|t| t.amount > 0));
        assert_eq!(simulation.planted.len(), 11 + 55);
        assert!(simulation.planted.iter().all(|plant| plant.tx_ids.len() >= 2));
    }

    #[test]
    fn workers_of_a_wage_sweep_pass_on_most_of_their_pay() {
        let simulation = simulate(&SMALL);
        let plant = simulation
            .planted
            .iter()
            .find(|p| p.typology == "wage-sweep-to-controller" && !p.look_alike)
            .unwrap();
        let mine: Vec<&Transaction> =
            simulation.transactions.iter().filter(|t| plant.tx_ids.contains(&t.id())).collect();
        let to_subject =
            |t: &&&Transaction| t.creditor.as_ref().is_some_and(|(account, _)| *account == plant.subject);
        let swept: i64 = mine.iter().filter(to_subject).map(|t| t.amount).sum();
        let wages: i64 = mine.iter().filter(|t| t.purpose == "SALA").map(|t| t.amount).sum();
        assert!(swept * 100 >= wages * 80, "{swept} of {wages}");
    }
}
