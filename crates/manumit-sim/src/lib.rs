//! The demo bank: a seeded, deterministic simulation of customers, their ordinary life, and planted networks.
//!
//! All names, accounts and people are invented. There is no clock: the same options give the same bytes for ever.

mod bank;
mod calendar;
mod draw;
mod life;
mod people;
mod plants;
mod populations;
mod record;
mod tables;

pub use bank::Bank;
pub use people::Customer;
pub use plants::{Planted, Variant, plantable};
pub use record::Transaction;

/// What to simulate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Seed of all randomness.
    pub seed: u64,
    /// Ordinary customers; those of networks come on top.
    pub customers: u32,
    /// Days from 1 January 2026 on.
    pub days: u32,
    /// Networks of each typology, as the published indicators describe them.
    pub networks: u32,
    /// Networks of each typology that stay under the default thresholds.
    pub stealthy: u32,
    /// People of each typology who only look like it.
    pub look_alikes: u32,
    /// Only of these typologies; of all when empty.
    pub typologies: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            seed: 7,
            customers: 5000,
            days: 90,
            networks: 4,
            stealthy: 0,
            look_alikes: 20,
            typologies: Vec::new(),
        }
    }
}

/// A whole simulation at once, for banks that fit into memory.
pub struct Simulation {
    /// In order of time.
    pub transactions: Vec<Transaction>,
    /// The bank after its last day.
    pub bank: Bank,
}

/// Simulates the bank from its first day to its last.
pub fn simulate(options: &Options) -> Simulation {
    let mut bank = Bank::new(options);
    let mut transactions = Vec::new();
    while let Some(day) = bank.day() {
        transactions.extend(day);
    }
    Simulation { transactions, bank }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Options = Options {
        seed: 3,
        customers: 120,
        days: 90,
        networks: 1,
        stealthy: 0,
        look_alikes: 5,
        typologies: Vec::new(),
    };

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
        assert!(simulation.transactions.iter().zip(1..).all(|(t, number)| t.number == number));
        let planted = simulation.bank.planted();
        assert!(planted.len() >= 66 && planted.len().is_multiple_of(6), "{}", planted.len());
        for plant in planted {
            assert!(plant.transactions.len() >= 2, "{plant:?}");
            assert!(plant.transactions.windows(2).all(|pair| pair[0] < pair[1]), "{plant:?}");
        }
    }

    #[test]
    fn one_more_network_leaves_the_others_as_they_are() {
        let facts = |options: &Options| -> Vec<Vec<(i64, i64)>> {
            let simulation = simulate(options);
            let plain = simulation.bank.planted().iter().filter(|p| p.variant == Variant::Plain);
            plain.map(|p| p.transactions.iter().map(|t| (t.1, t.2)).collect()).collect()
        };
        let (one, two) = (facts(&SMALL), facts(&Options { networks: 2, ..SMALL }));
        assert!(one.iter().all(|network| two.contains(network)));
    }

    #[test]
    fn workers_of_a_wage_sweep_pass_on_most_of_their_pay() {
        let simulation = simulate(&SMALL);
        let plant = simulation
            .bank
            .planted()
            .iter()
            .find(|p| p.typology == "wage-sweep-to-controller" && p.variant == Variant::Plain)
            .unwrap();
        let mine: Vec<&Transaction> =
            plant.transactions.iter().map(|t| &simulation.transactions[t.0 as usize - 1]).collect();
        let to_subject =
            |t: &&&Transaction| t.creditor.as_ref().is_some_and(|(account, _)| *account == plant.subject);
        let swept: i64 = mine.iter().filter(to_subject).map(|t| t.amount).sum();
        let wages: i64 = mine.iter().filter(|t| t.purpose == "SALA").map(|t| t.amount).sum();
        assert!(swept * 100 >= wages * 80, "{swept} of {wages}");
    }
}
