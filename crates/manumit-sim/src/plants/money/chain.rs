//! Money hops over accounts of nominees.

use crate::draw::{AT_HOME, EVENING};
use crate::life::{external, own, purchase, tx};
use crate::people::Customer;
use crate::plants::{Planter, Variant};
use crate::record::Transaction;

impl Planter<'_> {
    /// Sums that others received hop over one to three accounts, whole and within hours. Stealthy: each waits for more than a
    /// day, or keeps more. Look-alike: rents of a flat share, treasurers of groups, an escrow account, relatives.
    pub(super) fn nominees(&mut self, variant: Variant) {
        if variant.innocent() {
            return self.forwards_for_others();
        }
        let hidden = variant.stealthy();
        let slow = hidden && self.draw.chance(50);
        let feeders: Vec<Customer> = (0..self.draw.count(1, 3)).map(|_| self.person()).collect();
        let link = self.person();
        let plant = self.begin("pass-through-chain", &link.account, variant);
        let mut hops = vec![link];
        for _ in 0..self.draw.count(0, 2) {
            hops.push(self.person());
        }
        let (rounds, gap) = (self.draw.count(5, 12), self.draw.count(1, 4));
        let rounds = rounds.min(self.last_day().saturating_sub(8) / gap).max(5);
        let first = self.first_day(rounds * gap + 6);
        let largest = self.draw.int(500, 4_000);
        for round in 0..rounds {
            let day = (first + round * gap).min(self.last_day());
            let hours = if self.draw.chance(60) { &EVENING } else { &AT_HOME };
            let seconds = self.draw.time(hours);
            let mut sum = self.draw.skewed(250, largest) * 100;
            let mut last = tx(self.calendar, day, seconds, "transfer", "mobile", sum);
            let Some(feeder) = feeders.get(round as usize % feeders.len().max(1)) else { continue };
            last.debtor = external(&format!("TAKINGS{plant}-{}", self.draw.index(4)), "H. T.");
            last.creditor = own(feeder);
            self.put(plant, last.clone());
            let mut from = feeder;
            let behind = external(&format!("PRINCIPAL{plant}"), "A. Z.");
            for to in hops.iter().map(Some).chain([None]) {
                // A nominee keeps five per cent at most, and is told to be quick.
                let keeps = if hidden && !slow { self.draw.int(60, 130) } else { self.draw.int(5, 45) };
                let hours = if slow { self.draw.int(25, 44) } else { self.draw.int(0, 5) };
                sum = sum * (1_000 - keeps) / 1_000;
                let mut hop = self.after(&last, hours, "transfer", "mobile", sum);
                hop.debtor = own(from);
                hop.creditor = to.map_or_else(|| behind.clone(), own);
                self.put(plant, hop.clone());
                last = hop;
                from = to.unwrap_or(from);
            }
        }
        // Some buy a little from such an account.
        for hop in &hops {
            if self.draw.chance(30) {
                for _ in 0..self.draw.count(1, 5) {
                    let day = (first + self.draw.count(0, rounds * gap)).min(self.last_day());
                    purchase(&mut self.draw, hop, self.calendar, day, self.out);
                }
            }
        }
    }

    fn forwards_for_others(&mut self) {
        let kind = self.draw.index(4);
        let mut main = self.neighbour();
        if kind == 2 {
            (main.product, main.lives) = ("client money", false);
            self.keep(&main);
        }
        let plant = self.begin("pass-through-chain", &main.account, Variant::LookAlike);
        // Rents month by month, collections for a trip, a notary's escrow account, relatives of one household.
        let (rounds, gap) = [(3, 28), (2, 21), (8, 4), (4, 14)][kind];
        let rounds = rounds.min(self.last_day().saturating_sub(6) / gap).max(1);
        let first = self.first_day(rounds * gap + 3);
        let feeders: Vec<Customer> = (0..if kind == 3 { 1 } else { self.draw.count(2, 3) })
            .map(|_| {
                let mut feeder = self.person();
                if kind == 3 {
                    feeder.household.clone_from(&main.household);
                    self.keep(&feeder);
                }
                feeder
            })
            .collect();
        for round in 0..rounds {
            let day = first + round * gap;
            let (mut sum, mut last) = (0, Transaction::default());
            for (number, feeder) in feeders.iter().enumerate() {
                let amount = self.draw.int(280, 650) * 100;
                let mut credit = tx(
                    self.calendar,
                    day.min(self.last_day()),
                    self.draw.time(&AT_HOME),
                    "transfer",
                    "online",
                    amount,
                );
                credit.debtor = external(&format!("PARENTS{plant}-{number}"), "Eltern");
                credit.creditor = own(feeder);
                let hours = self.draw.int(1, 20);
                let mut on = self.after(&credit, hours, "transfer", "mobile", amount);
                (on.debtor, on.creditor) = (own(feeder), own(&main));
                sum += amount;
                if on.time > last.time {
                    last = on.clone();
                }
                self.put(plant, credit);
                self.put(plant, on);
            }
            let hours = self.draw.int(2, 40);
            let mut paid = self.after(&last, hours, "transfer", "online", sum);
            paid.debtor = own(&main);
            paid.creditor = external(
                &format!("FINAL{plant}"),
                ["Hausverwaltung", "Reisebus Krause", "Käufer", "Familie"][kind],
            );
            self.put(plant, paid);
        }
        for feeder in &feeders {
            for day in (first..(first + rounds * gap).min(self.last_day())).step_by(2) {
                purchase(&mut self.draw, feeder, self.calendar, day, self.out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Options, simulate};

    #[test]
    fn nominees_pass_on_nineteen_parts_of_twenty() {
        let options = Options {
            seed: 8,
            customers: 24,
            days: 90,
            networks: 10,
            stealthy: 0,
            look_alikes: 0,
            typologies: Vec::new(),
        };
        let simulation = simulate(&options);
        for plant in simulation.bank.planted().iter().filter(|p| p.typology == "pass-through-chain") {
            for member in plant.members.iter().filter(|m| m.starts_with("MANU")) {
                let (mut came, mut left) = (0, 0);
                for (number, ..) in &plant.transactions {
                    let t = &simulation.transactions[*number as usize - 1];
                    let is =
                        |side: &Option<(String, String)>| side.as_ref().is_some_and(|(a, _)| a == member);
                    came += if is(&t.creditor) { t.amount } else { 0 };
                    left += if is(&t.debtor) { t.amount } else { 0 };
                }
                assert!(came > 0 && left <= came && left * 100 >= came * 95, "{member}: {left} of {came}");
            }
        }
    }
}
