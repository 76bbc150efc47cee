//! Control of people: their accounts, devices and identities.

use crate::draw::{NIGHT, SHOPPING};
use crate::life::{external, own, purchase, tx};
use crate::plants::{Kind, Planter, Variant};

/// What is planted.
pub(crate) const KINDS: &[Kind] = &[Kind {
    typology: "depleted-controlled-account",
    plant: |planter, variant| planter.controlled(variant),
}];

impl Planter<'_> {
    /// Clients pay, a controller takes it all. Look-alike: a second account that its owner sweeps, with some shopping.
    fn controlled(&mut self, variant: Variant) {
        let innocent = variant.innocent();
        let (person, controller) = (self.person(), self.neighbour());
        let plant = self.begin("depleted-controlled-account", &person.account, variant);
        let first = self.draw.count(2, 20);
        for k in 0..self.draw.count(14, 24) {
            let day = (first + k * 2 + self.draw.count(0, 1)).min(self.last_day());
            let hours = if innocent { &SHOPPING } else { &NIGHT };
            let seconds = self.draw.time(hours);
            let amount = self.draw.int(6, 25) * 1_000;
            let mut paid = tx(self.calendar, day, seconds, "p2p", "mobile", amount);
            paid.debtor = external(&format!("CLIENT-D{plant}-{}", k % 11), "M. K.");
            paid.creditor = own(&person);
            let mut swept =
                self.after(&paid, 3, "p2p", "mobile", amount * if innocent { 60 } else { 97 } / 100);
            swept.debtor = own(&person);
            swept.creditor = own(&controller);
            self.put(plant, paid);
            self.put(plant, swept);
            if innocent {
                purchase(&mut self.draw, &person, self.calendar, day, self.out);
            }
        }
    }
}
