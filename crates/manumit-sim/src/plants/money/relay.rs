//! What comes in from some goes out to others.

use crate::draw::AT_HOME;
use crate::life::{external, own, tx};
use crate::plants::{Planter, Variant};

impl Planter<'_> {
    /// What comes in from some goes out to others, again and again. Stealthy: it rests for days, or much is kept. Look-alike: a
    /// flat share, the treasurer of a team, somebody who buys and sells.
    pub(super) fn relay(&mut self, variant: Variant) {
        if variant.innocent() {
            return self.shared_costs();
        }
        let hidden = variant.stealthy();
        let way = self.draw.index(2);
        let person = if self.draw.chance(80) { self.person() } else { self.neighbour() };
        let plant = self.begin("pass-through-account", &person.account, variant);
        let (rounds, gap) = (self.draw.count(4, 10), self.draw.count(1, 4));
        let gap = if hidden && way == 0 { 7 } else { gap };
        let rounds = rounds.min(self.last_day().saturating_sub(8) / gap);
        let first = self.first_day(rounds * gap + 7);
        let (froms, tos) = (self.draw.count(3, 9), self.draw.count(3, 9));
        let (rests, kept) = if hidden && way == 0 { (4, 3) } else { (0, self.draw.int(1, 12)) };
        let kept = if hidden && way == 1 { self.draw.int(24, 40) } else { kept };
        let most = self.draw.int(300, 1_900);
        for round in 0..rounds {
            let day = first + round * gap;
            let (ins, outs) = (self.draw.count(2, 4.min(froms)), self.draw.count(2, 4.min(tos)));
            let mut sum = 0;
            for k in 0..ins {
                let (seconds, amount) = (self.draw.time(&AT_HOME), self.draw.skewed(180, most) * 100);
                let mut paid =
                    tx(self.calendar, day.min(self.last_day()), seconds, "transfer", "mobile", amount);
                paid.debtor = external(&format!("FROM{plant}-{}", (round * 2 + k) % froms), "R. S.");
                paid.creditor = own(&person);
                sum += amount;
                self.put(plant, paid);
            }
            let sum = sum * (100 - kept) / 100;
            for k in 0..outs {
                let later = rests + self.draw.count(1, 2);
                // Uneven parts, which add up.
                let part = sum * (10 + i64::from(k)) / (0..i64::from(outs)).map(|k| 10 + k).sum::<i64>();
                let to = external(&format!("TO{plant}-{}", (round * 2 + k) % tos), "V. W.");
                self.send(plant, day + later, part, own(&person), to);
            }
        }
    }

    fn shared_costs(&mut self) {
        let kind = self.draw.index(3);
        let person = self.neighbour();
        let plant = self.begin("pass-through-account", &person.account, Variant::LookAlike);
        // A flat share month by month, a team at each match, used things bought and sold.
        let (rounds, gap, ins, outs) = [(3, 28, 3, 1), (4, 14, 6, 2), (6, 5, 2, 2)][kind];
        let rounds = rounds.min(self.last_day().saturating_sub(6) / gap);
        let first = self.first_day(rounds * gap + 3);
        for round in 0..rounds {
            let (day, mut sum) = (first + round * gap, 0);
            for k in 0..ins {
                let amount = [self.draw.int(300, 450), 40, self.draw.int(30, 220)][kind] * 100;
                let from =
                    external(&format!("MATE{plant}-{}", k + if kind == 2 { round * 7 } else { 0 }), "W. G.");
                self.send(plant, day, amount, from, own(&person));
                sum += amount;
            }
            let share = [130, 95, self.draw.int(40, 85)][kind];
            for k in 0..outs {
                let names = ["Vermieter", "Hallenbetrieb", "Privatverkauf"];
                let to =
                    external(&format!("COST{plant}-{k}-{}", if kind == 2 { round } else { 0 }), names[kind]);
                let later = day + self.draw.count(1, 2);
                self.send(plant, later, sum * share / 100 / i64::from(outs), own(&person), to);
            }
        }
    }
}
