//! Flows of money that an account has not seen before: gathered, spread, drawn in cash, paid in below a limit.

use crate::draw::{AT_HOME, CASH, OFFICE, SHOPPING};
use crate::life::{external, own, tx};
use crate::people::{CITIES, Customer};
use crate::plants::payday::{draw_cash, machine, way};
use crate::plants::{Kind, Planter, Variant};

/// What is planted.
pub(crate) const KINDS: &[Kind] = &[
    Kind { typology: "fan-in-unlike-before", plant: |planter, variant| planter.gathers(variant) },
    Kind { typology: "fan-out-unlike-before", plant: |planter, variant| planter.hands_out(variant) },
    Kind { typology: "cash-out-mule", plant: |planter, variant| planter.draws_for_others(variant) },
    Kind { typology: "structured-cash", plant: |planter, variant| planter.below_the_limit(variant) },
];

impl Planter<'_> {
    /// Somebody with a past: an account that is lived from, or one that buys a little now and then.
    fn with_a_past(&mut self) -> Customer {
        if self.draw.chance(50) {
            return self.neighbour();
        }
        let person = self.person();
        let (last, share) = (self.last_day(), self.draw.count(15, 60));
        self.shopping(&person, 0, last, share);
        person
    }

    /// A first day that leaves a past before it, and `span` days behind it.
    fn after_a_while(&mut self, span: u32) -> u32 {
        let latest = self.last_day().saturating_sub(span).max(17);
        self.draw.count(17, latest)
    }

    /// Many pay one account within days, and the money lies there. Hidden: fewer a week, one price for all, a text with every payment.
    /// Look-alikes: a wedding, a household that is sold, a treasurer at the beginning of a season, a trip.
    fn gathers(&mut self, variant: Variant) {
        let hidden = way(self, variant, 3);
        let person = if variant.innocent() { self.neighbour() } else { self.with_a_past() };
        let plant = self.begin("fan-in-unlike-before", &person.account, variant);
        if variant.innocent() {
            return self.is_paid_by_many(plant, &person);
        }
        let (senders, mut span) = (self.draw.count(9, 20), self.draw.count(2, 6));
        if hidden == Some(0) {
            span = senders * 7 / 5;
        }
        let first = self.after_a_while(span + 10);
        let (largest, price) = (self.draw.int(350, 1_400), self.draw.int(15, 60) * 1_000);
        let mut sum = 0;
        for k in 0..senders {
            let mut amount = self.draw.skewed(12, largest / 10) * 1_000;
            if self.draw.chance(25) {
                amount += self.draw.int(1, 19) * 50;
            }
            if hidden == Some(1) {
                amount = price;
            }
            let kind = if self.draw.chance(60) { "transfer" } else { "p2p" };
            let from = self.stranger("GIVER", plant, k);
            let mut paid =
                self.payment(first + k * span / senders, &AT_HOME, kind, amount, from, own(&person));
            if hidden == Some(2) || self.draw.chance(20) {
                paid.memo = ["Danke", "wie besprochen", "Rückzahlung", "Rest"][self.draw.index(4)].into();
            }
            sum += amount;
            self.put(plant, paid);
        }
        // Some of it goes on when nobody looks any more, by transfer or as cash.
        let later = first + span + self.draw.count(3, 9);
        if self.draw.chance(50) {
            let share = self.draw.int(40, 90);
            self.send(
                plant,
                later,
                sum * share / 100,
                own(&person),
                external(&format!("UP{plant}"), "B. W."),
            );
        } else {
            let notes = self.sum(200, 1_000, 50);
            let drawn = self.cash_out(&person, later, person.city, notes);
            self.put(plant, drawn);
        }
    }

    fn is_paid_by_many(&mut self, plant: u32, person: &Customer) {
        let kind = self.draw.index(4);
        let (count, span) = [(10, 9), (9, 8), (14, 20), (9, 6)][kind];
        let count = self.draw.count(count, count * 2);
        let first = self.after_a_while(span + 2);
        // Of a trip or a season everybody pays one price, children a half.
        let price = self.draw.int(6, 18) * 2_000;
        for k in 0..count {
            let (amount, memo, texts) = match kind {
                0 => ([50, 50, 100, 100, 150, 200, 300][self.draw.index(7)] * 100, "zur Hochzeit", 70),
                1 => (self.draw.price(1_000, 45_000), "Kleinanzeige", 92),
                2 => (if self.draw.chance(30) { price / 2 } else { price }, "Jahresbeitrag", 85),
                _ => (price, "Hütte", 60),
            };
            let from = self.stranger("KNOWN", plant, k);
            let day = first + self.draw.count(0, span);
            let mut paid = self.payment(day, &AT_HOME, "p2p", amount, from, own(person));
            if self.draw.chance(texts) {
                paid.memo = memo.into();
            }
            self.put(plant, paid);
        }
    }

    /// One account pays many within days what came in as cash or long before. Hidden: the same to all, a payment every other
    /// day, or fewer. Look-alikes: a refund that is shared, a renovation, a wedding's bills, an heir.
    fn hands_out(&mut self, variant: Variant) {
        let hidden = way(self, variant, 3);
        let person = if variant.innocent() { self.neighbour() } else { self.with_a_past() };
        let plant = self.begin("fan-out-unlike-before", &person.account, variant);
        let kind = self.draw.index(4);
        let (mut count, mut span) = (self.draw.count(9, 18), self.draw.count(0, 3));
        match hidden {
            Some(1) => span = count * 2,
            Some(2) => count = self.draw.count(4, 6),
            _ => {}
        }
        if variant.innocent() {
            (count, span) = [(7, 2), (6, 20), (5, 9), (4, 3)][kind];
            count = self.draw.count(count, count + 3);
        }
        let first = self.after_a_while(span + 2);
        let largest = self.draw.int(40, 140);
        let same = self.draw.int(12, 60) * 1_000;
        let mut parts = Vec::new();
        for _ in 0..count {
            let amount = match (variant.innocent(), kind) {
                (true, 1) => self.draw.price(9_000, 380_000),
                (true, 2) => self.draw.price(15_000, 250_000),
                (true, _) => same * if kind == 3 { 8 } else { 1 },
                _ if hidden == Some(0) => same,
                _ => self.draw.skewed(12, largest) * 1_000 + self.draw.int(0, 9) * 100,
            };
            parts.push(amount);
        }
        // Takings lay for a week or two; they came in as cash, or from somebody's account.
        let sum: i64 = parts.iter().sum();
        let before = first.saturating_sub(self.draw.count(6, 13));
        if !variant.innocent() && self.draw.chance(60) {
            let pieces = self.draw.int(1, 4);
            for piece in 0..pieces as u32 {
                let notes = sum / pieces / 1_000 * 1_000 + 1_000;
                let cash = self.cash_in(&person, before + piece, &CASH, person.city, notes, "");
                self.put(plant, cash);
            }
        } else {
            let (name, extra) = if variant.innocent() {
                (["Ferienhaus Agentur", "Bausparkasse", "Sparkonto", "Nachlass"][kind], 100)
            } else {
                ("K. V.", 106)
            };
            let from = external(&format!("STORE{plant}"), name);
            self.send(plant, before, sum * extra / 100, from, own(&person));
        }
        for (k, amount) in (0..).zip(parts) {
            let to = self.stranger("HAND", plant, k);
            self.send(plant, first + k * (span + 1) / count, amount, own(&person), to);
        }
    }

    /// What several transfer is drawn in cash within hours, on several days. Hidden: over days, from two payers only, or half of it in
    /// shops. Look-alikes: flat mates whose landlord wants cash, a student, somebody who cleans for several, a seller of used things.
    fn draws_for_others(&mut self, variant: Variant) {
        let hidden = way(self, variant, 3);
        if variant.innocent() {
            return self.likes_cash();
        }
        let mut person = self.with_a_past();
        if self.draw.chance(40) {
            person.opened_on = self.calendar.date(-self.draw.int(2, 60));
            self.keep(&person);
        }
        let plant = self.begin("cash-out-mule", &person.account, variant);
        let payers = if hidden == Some(1) { 2 } else { self.draw.count(4, 12) };
        let (rounds, gap) = (self.draw.count(3, 9), self.draw.count(1, 4));
        let first = self.first_day(rounds * gap + 4);
        let (largest, terminal) = (self.draw.int(600, 3_000), machine(self, &person));
        let mut payer = 0;
        for round in 0..rounds {
            let mut sum = 0;
            let mut last = None;
            for _ in 0..self.draw.count(1, 3) {
                let amount = self.draw.skewed(180, largest) * 100;
                let from = self.stranger("SENT", plant, payer % payers);
                payer += 1;
                let kind = if self.draw.chance(70) { "transfer" } else { "p2p" };
                let paid = self.payment(first + round * gap, &OFFICE, kind, amount, from, own(&person));
                sum += amount;
                if last.as_ref().is_none_or(|known: &crate::record::Transaction| known.time < paid.time) {
                    last = Some(paid.clone());
                }
                self.put(plant, paid);
            }
            let Some(last) = last else { continue };
            let share = self.draw.int(86, 98);
            let mut left = sum * share / 100;
            if hidden == Some(2) {
                let amount = left / 2;
                let mut bought = self.after(&last, 2, "card", "pos", amount);
                bought.debtor = own(&person);
                (bought.mcc, bought.merchant) = ("5732", "Elektronik Nord".into());
                self.put(plant, bought);
                left -= amount;
            }
            // A machine gives a thousand at a time.
            let mut hours = self.draw.int(0, 9);
            while left >= 2_000 {
                let notes = if hidden == Some(0) { left.min(25_000) } else { left.min(100_000) };
                draw_cash(self, plant, &last, hours, notes, &terminal, &person);
                left -= notes;
                hours += if hidden == Some(0) { 26 } else { 0 };
            }
        }
    }

    fn likes_cash(&mut self) {
        let kind = self.draw.index(4);
        let person = self.neighbour();
        let plant = self.begin("cash-out-mule", &person.account, Variant::LookAlike);
        let terminal = machine(self, &person);
        // Least and most of a payment, payers, days from one to the next, share that is drawn.
        let (low, high, payers, gap, share) =
            [(250, 420, 3, 30, 100), (300, 500, 1, 30, 60), (50, 110, 4, 3, 70), (40, 380, 12, 5, 40)][kind];
        let first = self.draw.count(1, 9);
        let each = self.sum(low, high, 10);
        for (round, day) in (0..).zip((first..self.last_day()).step_by(gap)) {
            let mut sum = 0;
            let mut last = None;
            for k in 0..if kind == 0 { payers } else { 1 } {
                let amount = if kind < 2 { each } else { self.sum(low, high, 5) };
                let from = self.stranger("PAYS", plant, (round + k) % payers);
                let mut paid = self.payment(day + k % 2, &AT_HOME, "transfer", amount, from, own(&person));
                paid.memo = ["Miete", "Unterhalt", "Putzen", "Kleinanzeige"][kind].into();
                sum += amount;
                last = Some(paid.clone());
                self.put(plant, paid);
            }
            if let Some(last) = last
                && (kind < 3 || self.draw.chance(50))
            {
                let hours = self.draw.int(1, 30);
                draw_cash(self, plant, &last, hours, sum * share / 100, &terminal, &person);
            }
        }
    }

    /// Cash just below what would be reported, several times a week. Hidden: well below, over several accounts, or once a week.
    /// Look-alikes: something dear sold in parts, a shop that empties its safe, a market trader's takings, savings of a household.
    fn below_the_limit(&mut self, variant: Variant) {
        let hidden = way(self, variant, 3);
        if variant.innocent() {
            return self.brings_cash();
        }
        let person = if self.draw.chance(60) { self.person() } else { self.neighbour() };
        let plant = self.begin("structured-cash", &person.account, variant);
        let mut accounts = vec![person.clone()];
        if hidden == Some(1) {
            accounts.extend([self.person(), self.person()]);
        }
        let deposits = self.draw.count(4, 12);
        let gap = if hidden == Some(2) { 7 } else { 1 };
        let first = self.first_day(deposits * (gap + 1) + 2);
        let (helpers, onward) = (self.draw.count(0, 4), self.draw.chance(50));
        let towns = self.draw.choose(CITIES.len(), 2);
        let mut day = first;
        for k in 0..deposits {
            let amount = match (hidden, self.draw.int(0, 9)) {
                (Some(0), _) => self.sum(2_500, 6_800, 50),
                (_, 0) => self.sum(5_000, 8_000, 50),
                _ => self.sum(8_200, 9_950, 50),
            };
            let Some(to) = accounts.get(k as usize % accounts.len()).cloned() else { continue };
            let depositor =
                if helpers > 0 { format!("runner {plant} {}", k % helpers) } else { String::new() };
            let city = if self.draw.chance(70) { person.city } else { towns[k as usize % towns.len()] };
            let mut cash = self.cash_in(&to, day, &OFFICE, city, amount, &depositor);
            cash.channel = "branch";
            if onward {
                let (hours, share) = (self.draw.int(2, 40), self.draw.int(80, 99));
                let mut sent = self.after(&cash, hours, "transfer", "online", amount * share / 100);
                sent.debtor = own(&to);
                sent.creditor = external(&format!("ABROAD{plant}"), "Z. Trading");
                self.put(plant, sent);
            }
            self.put(plant, cash);
            day += gap + self.draw.count(0, 1);
        }
    }

    fn brings_cash(&mut self) {
        let kind = self.draw.index(4);
        let person = if kind == 1 { self.firm("Markt am Tor", "retail") } else { self.neighbour() };
        let plant = self.begin("structured-cash", &person.account, Variant::LookAlike);
        let first = self.first_day(24);
        // A car in parts; a safe at a fixed sum; takings of all sizes; what lay in a house, of which some is reported.
        let (deposits, gap) = [(2, 3), (9, 2), (8, 3), (3, 2)][kind];
        let fixed = self.sum(8_000, 9_500, 500);
        for k in 0..deposits {
            let amount = match kind {
                0 | 1 => fixed,
                2 => self.sum(600, 9_800, 10),
                _ if k == 0 => self.sum(10_000, 16_000, 100),
                _ => self.sum(2_000, 9_500, 100),
            };
            let hours = if kind == 2 { &SHOPPING } else { &OFFICE };
            let mut cash = self.cash_in(&person, first + k * gap, hours, person.city, amount, "");
            cash.channel = "branch";
            self.put(plant, cash);
        }
        // Wares and bills are paid of it.
        let seconds = self.draw.time(&OFFICE);
        let day = (first + deposits * gap + 2).min(self.last_day());
        let mut paid = tx(self.calendar, day, seconds, "transfer", "online", fixed / 2);
        (paid.debtor, paid.creditor) = (own(&person), external(&format!("WARES{plant}"), "Großhandel"));
        self.put(plant, paid);
    }
}

#[cfg(test)]
mod tests {
    use crate::{Options, Variant, simulate};

    #[test]
    fn of_what_mules_are_paid_most_is_drawn() {
        let options = Options {
            seed: 6,
            customers: 24,
            days: 90,
            networks: 8,
            stealthy: 0,
            look_alikes: 0,
            typologies: Vec::new(),
        };
        let simulation = simulate(&options);
        let mut tried = 0;
        for plant in simulation.bank.planted().iter().filter(|p| p.typology == "cash-out-mule") {
            let (mut came, mut drawn) = (0, 0);
            for (number, ..) in &plant.transactions {
                let t = &simulation.transactions[*number as usize - 1];
                if t.kind == "cash_out" { drawn += t.amount } else { came += t.amount }
            }
            assert!(drawn <= came && drawn * 100 >= came * 75, "{}: {drawn} of {came}", plant.subject);
            tried += 1;
        }
        assert_eq!(tried, 8);
    }

    #[test]
    fn plain_structurers_never_reach_the_limit() {
        let options = Options {
            seed: 9,
            customers: 24,
            days: 40,
            networks: 8,
            stealthy: 4,
            look_alikes: 4,
            typologies: Vec::new(),
        };
        let simulation = simulate(&options);
        let is = |p: &&crate::Planted| p.typology == "structured-cash" && p.variant != Variant::LookAlike;
        let mut deposits = 0;
        for plant in simulation.bank.planted().iter().filter(is) {
            for (number, ..) in &plant.transactions {
                let t = &simulation.transactions[*number as usize - 1];
                assert!(t.amount < 1_000_000, "{t:?}");
                deposits += usize::from(t.kind == "cash_in");
            }
        }
        assert!(deposits >= 40, "{deposits}");
    }
}
