//! Cash in there, out here.

use crate::draw::{CASH, OFFICE};
use crate::life::{external, own, tx};
use crate::people::{CITIES, home};
use crate::plants::{Planter, Variant};

impl Planter<'_> {
    /// Cash in several cities, out elsewhere within days. Stealthy: one depositor, two cities at a time, or slowly. Look-alike:
    /// a registered club, a choir that is none, a musician, a family.
    pub(super) fn funnel(&mut self, variant: Variant) {
        if variant.innocent() {
            return self.takings_of_many_towns();
        }
        let hidden = variant.stealthy();
        let person = if self.draw.chance(85) { self.person() } else { self.neighbour() };
        let plant = self.begin("funnel-across-cities", &person.account, variant);
        let way = self.draw.index(3);
        let (deposits, cities, people) =
            (self.draw.count(6, 18), self.draw.count(3, 7), self.draw.count(2, 8));
        let span = if hidden && way == 2 { deposits * 4 } else { self.draw.count(5, 18) };
        let first = self.first_day(span + 3);
        let elsewhere: Vec<usize> = (0..CITIES.len()).filter(|city| *city != person.city).collect();
        let order = self.draw.choose(elsewhere.len(), if hidden && way == 1 { 2 } else { cities as usize });
        let stops: Vec<usize> = order.iter().filter_map(|at| elsewhere.get(*at).copied()).collect();
        let mut waiting = 0;
        for k in 0..deposits {
            let day = (first + k * span / deposits).min(self.last_day());
            // Below the report limit by far: 1,000 to 1,700 was usual in published cases.
            let (seconds, amount) = (self.draw.time(&OFFICE), self.draw.skewed(6, 95) * 5_000);
            let mut cash = tx(self.calendar, day, seconds, "cash_in", "branch", amount);
            cash.creditor = own(&person);
            let stop =
                if k < cities { k as usize % stops.len().max(1) } else { self.draw.index(stops.len()) };
            cash.place = stops.get(stop).copied().and_then(home);
            let depositor = if hidden && way == 0 { 0 } else { k % people };
            cash.depositor = format!("person {plant} {depositor}");
            waiting += amount;
            if k + 1 == deposits || self.draw.chance(75) {
                let hours = if self.draw.chance(70) { self.draw.int(1, 20) } else { self.draw.int(20, 60) };
                let share = self.draw.int(82, 98);
                let (kind, channel) =
                    if self.draw.chance(70) { ("cash_out", "atm") } else { ("transfer", "online") };
                let mut out = self.after(&cash, hours, kind, channel, waiting * share / 100);
                out.debtor = own(&person);
                if kind == "cash_out" {
                    out.place = home(person.city);
                } else {
                    out.creditor = external(&format!("BEHIND{plant}"), "D. K.");
                }
                waiting = 0;
                self.put(plant, out);
            }
            self.put(plant, cash);
        }
    }

    /// Cash of several towns that somebody earned or collected.
    fn takings_of_many_towns(&mut self) {
        let kind = self.draw.index(4);
        let mut person = self.neighbour();
        match kind {
            0 => (person.npo, person.lives) = (true, false),
            1 => person.occupation = "musician",
            _ => {}
        }
        self.keep(&person);
        let plant = self.begin("funnel-across-cities", &person.account, Variant::LookAlike);
        // A club's groups; the musician's own concerts; a choir on tour; a family that pays for a party.
        let (deposits, people, low, high) =
            [(9, 4, 40, 180), (7, 0, 15, 60), (6, 3, 10, 50), (4, 3, 10, 40)][kind];
        let first = self.first_day(22);
        let stops = self.draw.choose(CITIES.len(), 4);
        let mut sum = 0;
        for k in 0..deposits {
            let (seconds, amount) = (self.draw.time(&CASH), self.draw.int(low, high) * 1_000);
            let mut cash = tx(self.calendar, first + k * 2, seconds, "cash_in", "branch", amount);
            cash.creditor = own(&person);
            cash.place = stops.get(k as usize % 4).copied().and_then(home);
            cash.depositor =
                if people == 0 { person.customer.clone() } else { format!("helper {plant} {}", k % people) };
            sum += amount;
            self.put(plant, cash);
        }
        // Halls, coaches and caterers are paid later, in one or two sums.
        for _ in 0..self.draw.count(1, 2) {
            let (day, share) = (first + deposits * 2 + self.draw.count(1, 4), self.draw.int(25, 45));
            let to = external(&format!("SUPPLIER-C{plant}"), "Reisebus Krause");
            self.send(plant, day, sum * share / 100, own(&person), to);
        }
    }
}
