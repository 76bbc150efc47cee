//! Labour exploitation.

use crate::calendar::HOUR;
use crate::life::{external, own, purchase, tx};
use crate::plants::{Kind, Planter, Variant};

/// What is planted.
pub(crate) const KINDS: &[Kind] =
    &[Kind { typology: "wage-sweep-to-controller", plant: |planter, variant| planter.wage_sweep(variant) }];

impl Planter<'_> {
    /// Wages of several workers go to one account. Look-alike: a couple's household account.
    fn wage_sweep(&mut self, variant: Variant) {
        let innocent = variant.innocent();
        let mut controller = self.neighbour();
        let plant = self.begin("wage-sweep-to-controller", &controller.account, variant);
        let workers = if innocent { 1 } else { self.draw.count(3, 6) };
        let firm = external(&format!("FIRM{plant}"), "Reinigung Nord GmbH");
        for _ in 0..workers {
            let mut worker = self.person();
            if innocent {
                worker.household.clone_from(&controller.household);
                worker.surname.clone_from(&controller.surname);
                self.keep(&worker);
                controller.household.clone_from(&worker.household);
            }
            for day in self.calendar.monthly(27) {
                let amount = self.draw.int(1_100, 1_900) * 100;
                let seconds = 8 * HOUR + self.draw.int(0, 3600);
                let mut wage = tx(self.calendar, day, seconds, "transfer", "batch", amount);
                wage.debtor.clone_from(&firm);
                wage.creditor = own(&worker);
                wage.purpose = "SALA";
                wage.memo = "Lohn".into();
                let hours = self.draw.int(1, 5);
                let share = self.draw.int(86, 97);
                let mut swept = self.after(&wage, hours, "transfer", "mobile", amount * share / 100);
                swept.debtor = own(&worker);
                swept.creditor = own(&controller);
                self.put(plant, wage);
                self.put(plant, swept);
                if innocent {
                    let last = self.last_day();
                    for k in 1..8 {
                        purchase(&mut self.draw, &controller, self.calendar, (day + k).min(last), self.out);
                    }
                }
            }
        }
    }
}
