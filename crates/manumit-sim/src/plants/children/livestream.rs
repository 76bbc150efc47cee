//! Who pays for live-streamed abuse, and who supports somebody far away.

use crate::draw::{AT_HOME, OFFICE};
use crate::plants::children::{FAR, FAR_NAMES};
use crate::plants::{Planter, Variant};

impl Planter<'_> {
    /// Sessions in the evening, paid to a few people of one town. Stealthy: larger and rarer sums, by day, or one payment an
    /// evening and few a month. Look-alike: migrants, partners, pupils of tutors, sponsors of children.
    pub(super) fn stream_buyer(&mut self, variant: Variant) {
        if variant.innocent() {
            return self.supporter();
        }
        let hidden = variant.stealthy();
        let mut buyer = self.neighbour();
        self.of_age(&mut buyer, 24, 68);
        let plant = self.begin("livestream-buyer", &buyer.customer, variant);
        let (town, signs) = (FAR[self.draw.index(FAR.len())], self.signs(hidden));
        let (payees, weeks) = (self.draw.count(1, 5), self.draw.count(4, 9).min(self.last_day() / 7 - 1));
        let first = self.first_day(weeks * 7);
        let (larger, each_week) = (self.draw.chance(50), self.draw.count(2, 4));
        let mut session = 0;
        for week in 0..weeks {
            for _ in 0..if hidden { 1 } else { self.draw.count(2, each_week) } {
                let day = (first + week * 7 + self.draw.count(0, 6)).min(self.last_day());
                let mut seconds = if hidden && larger || self.draw.chance(12) {
                    self.draw.time(&OFFICE)
                } else {
                    self.late_evening()
                };
                // Often one more is asked for while it goes on (FINTRAC-2025-N01).
                let again = !hidden && (session == 0 || self.draw.chance(40));
                for _ in 0..=u32::from(again) {
                    let mut amount = self.draw.skewed(2, 36) * 500;
                    if signs.growing {
                        amount = (amount * (6 + i64::from(week)) / 6).min(20_000);
                    }
                    if hidden && larger {
                        amount = self.draw.int(42, 90) * 500;
                    }
                    let payee = self.draw.index(payees as usize);
                    let name = FAR_NAMES[(payee + plant as usize) % FAR_NAMES.len()];
                    let to = format!("STREAM{plant}-{payee}");
                    let mut paid = self.sent_far((day, seconds), amount, &buyer, (&to, name), town.country);
                    if signs.handles && (session == 0 || self.draw.chance(35)) {
                        paid.memo = ["for @sweet.jen_x", "live show", "private session", "video show 2"]
                            [self.draw.index(4)]
                        .into();
                    } else if signs.reasons && self.draw.chance(60) {
                        paid.memo = ["school", "medicine", "allowance", "uniform"][self.draw.index(4)].into();
                    }
                    self.put(plant, paid);
                    seconds += self.draw.int(600, 5_400);
                }
                if signs.sites && (session < 2 || self.draw.chance(30)) {
                    self.on_a_site(plant, day, &buyer);
                }
                session += 1;
            }
        }
        if signs.tools {
            let day = first + self.draw.count(0, 20);
            self.a_tool(plant, day, &buyer);
        }
        if signs.gift_cards {
            let from = first + self.draw.count(0, 7);
            for k in 0..self.draw.count(4, 7) {
                let amount = self.draw.int(2, 10) * 500;
                self.bought_online(plant, from + k * 2, &buyer, ("5947", "Giftbarn"), amount);
            }
        }
    }

    /// Somebody who has good reasons to send small sums far away.
    fn supporter(&mut self) {
        let mut person = self.neighbour();
        self.of_age(&mut person, 22, 66);
        let town = FAR[self.draw.index(FAR.len())];
        let kind = self.draw.index(4);
        if kind == 0 {
            // Who has come from there; some have become citizens, and some of the second generation were born here.
            let origin = self.draw.index(10);
            person.nationality = if origin < 5 { town.country } else { "DE" };
            person.born_in = if origin < 8 { town.country } else { "DE" };
            self.keep(&person);
        }
        let plant = self.begin("livestream-buyer", &person.customer, Variant::LookAlike);
        let span = 56.min(self.last_day().saturating_sub(4));
        let first = self.first_day(span);
        // Whom, how often a month, least and most in steps of 5 euros, and what for.
        let (payees, monthly, low, high, hours, memos): (u32, u32, i64, i64, _, [&str; 3]) = match kind {
            0 => (3, 6, 6, 40, &AT_HOME, ["family support", "school", ""]),
            1 => (1, 5, 6, 40, &AT_HOME, ["", "for you", "medicine"]),
            2 => (1, 8, 3, 5, &AT_HOME, ["lesson", "Spanisch", "4 lessons"]),
            _ => (2, 2, 7, 7, &OFFICE, ["Patenschaft", "Patenkind", "Patenschaft"]),
        };
        for k in 0..(monthly * span / 30).max(2) {
            let day = (first + k * 30 / monthly + self.draw.count(0, 3)).min(self.last_day());
            let seconds = self.draw.time(hours);
            for payee in 0..payees {
                if kind != 3 && payee > 0 && !self.draw.chance(20) {
                    continue;
                }
                let name = if kind == 3 { "Kinderhilfe Stiftung" } else { FAR_NAMES[payee as usize + 2] };
                let (amount, to) = (self.draw.int(low, high) * 500, format!("FAR{plant}-{payee}"));
                let mut paid = self.sent_far((day, seconds), amount, &person, (&to, name), town.country);
                paid.memo = memos[self.draw.index(3)].into();
                self.put(plant, paid);
            }
        }
        // Lawful things that many buy, and that alone mean nothing.
        if self.draw.chance(20) {
            self.a_tool(plant, first + 3, &person);
        }
        if self.draw.chance(8) {
            self.on_a_site(plant, first + 5, &person);
            self.on_a_site(plant, first + 12, &person);
        }
    }
}
