//! Exploitation of children.

use crate::draw::{NIGHT, OFFICE};
use crate::life::{external, own, tx};
use crate::people::home;
use crate::plants::{Kind, Planter, Variant};

/// What is planted.
pub(crate) const KINDS: &[Kind] =
    &[Kind { typology: "ocse-facilitator", plant: |planter, variant| planter.facilitator(variant) }];

impl Planter<'_> {
    /// Small credits from abroad, cashed at once. Look-alike: a freelancer who keeps what clients abroad pay.
    fn facilitator(&mut self, variant: Variant) {
        let innocent = variant.innocent();
        let person = self.neighbour();
        let plant = self.begin("ocse-facilitator", &person.account, variant);
        let first = self.draw.count(1, self.last_day().saturating_sub(26).max(2));
        for k in 0..self.draw.count(12, 18) {
            let day = (first + k + self.draw.count(0, 1)).min(self.last_day());
            let seconds = self.draw.time(if innocent { &OFFICE } else { &NIGHT });
            let amount = if innocent { self.draw.int(90, 600) * 100 } else { self.draw.int(25, 95) * 100 };
            let mut credit = tx(self.calendar, day, seconds, "wire", "online", amount);
            credit.debtor = external(
                &format!("ABROAD{plant}-{}", k % 6),
                ["P. Turner", "M. Reed", "S. Clarke"][k as usize % 3],
            );
            credit.debtor_country = ["GB", "US", "AU", "SE"][k as usize % 4];
            credit.creditor = own(&person);
            if !innocent {
                let mut out = self.after(&credit, 2, "cash_out", "atm", amount * 95 / 100);
                out.debtor = own(&person);
                out.place = home(person.city);
                self.put(plant, out);
            }
            self.put(plant, credit);
        }
    }
}
