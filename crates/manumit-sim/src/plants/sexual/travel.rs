//! Circuits of cities, and hotels.
//!
//! # Source
//! Hotels, transport and cash at each stop, at night or before ten: FINTRAC (2016, 2021). 15 to 20 bookings a month: a
//! practitioners' guide (`GT-PP-01`); sums, stays and distances in time are priors of our own.

use chrono::TimeDelta;

use crate::draw::{EVENING, NIGHT, OFFICE, SHOPPING, TRAVEL};
use crate::life::own;
use crate::people::{CITIES, Customer};
use crate::plants::{Planter, Variant};
use crate::record::Transaction;

/// Hours in which cash from the night is paid in.
const LATE_OR_EARLY: [u32; 24] = [6, 5, 4, 3, 2, 1, 1, 4, 6, 5, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 5, 7];

impl Planter<'_> {
    /// A night or more at a hotel, paid by card.
    fn night(
        &mut self,
        who: &Customer,
        day: u32,
        hotel: (usize, u32),
        nights: i64,
        amount: i64,
    ) -> Transaction {
        let name = format!("Hotel {}", hotel.1);
        let mut paid = self.bought(who, day, &TRAVEL, ("7011", &name), hotel.0, amount);
        let from = self.calendar.date(i64::from(day));
        paid.stay = Some((from.to_string(), (from + TimeDelta::days(nights)).to_string()));
        paid
    }

    /// Cities, hotels, cash. Stealthy: private rooms, and cash is paid in at home. Look-alikes: sales staff, traders on
    /// markets, consultants, musicians.
    pub(super) fn circuit(&mut self, variant: Variant) {
        let mut person = if variant.innocent() { self.neighbour() } else { self.person() };
        let trade = self.draw.int(0, 99);
        if variant.innocent() {
            // One in ten sells on markets, and the bank does not know it.
            person.occupation = match trade {
                0..40 => "sales representative",
                40..60 => "market trader",
                60..70 => "cook",
                70..80 => "musician",
                _ => "engineer",
            };
            self.keep(&person);
        }
        let takings = matches!(trade, 40..80);
        let plant = self.begin("circuit-travel-cash", &person.customer, variant);
        let stops = self.draw.count(3, 8);
        let mut day = self.first_day(stops * 4);
        // A circuit of some cities that come again.
        let circuit: Vec<usize> =
            self.draw.choose(CITIES.len(), 7).into_iter().filter(|c| *c != person.city).take(5).collect();
        let nightly = self.draw.chance(60);
        for stop in 0..stops as usize {
            let city = circuit[stop % circuit.len().min(3 + stops as usize / 3)];
            let nights = if variant.innocent() { self.draw.count(1, 3) } else { self.draw.count(2, 5) };
            let fare = if self.draw.chance(70) { ("4112", "Bahn") } else { ("4131", "Fernbus") };
            let amount = self.sum(19, 95, 1);
            let ticket = self.bought(&person, day, &TRAVEL, fare, city, amount);
            self.put(plant, ticket);
            let (hotel, price) = (self.draw.count(1, 9), self.sum(55, 140, 1));
            for night in 0..nights {
                if variant.stealthy() {
                    // A private room, paid by transfer.
                    if night == 0 {
                        let host = self.stranger("HOST", plant, stop as u32);
                        self.send(plant, day, price * i64::from(nights), own(&person), host);
                    }
                } else if nightly || night == 0 {
                    let (now, count) = if nightly { (1, 1) } else { (i64::from(nights), i64::from(nights)) };
                    let paid = self.night(&person, day + night, (city, hotel), now, price * count);
                    self.put(plant, paid);
                }
                if self.draw.chance(50) {
                    let (ride, at) = (self.sum(8, 35, 1), self.draw.chance(50));
                    let hours = if at { &EVENING } else { &TRAVEL };
                    let ride = self.bought(&person, day + night, hours, ("4121", "Taxi"), city, ride);
                    self.put(plant, ride);
                }
                let pays_in = if variant.innocent() { takings } else { self.draw.chance(65) };
                if pays_in {
                    let amount = self.sum(100, 900, 10);
                    let place = if variant.stealthy() { person.city } else { city };
                    let hours = if variant.innocent() { &SHOPPING } else { &LATE_OR_EARLY };
                    let cash = self.cash_in(&person, day + night, hours, place, amount, "");
                    self.put(plant, cash);
                }
            }
            day = (day + nights + self.draw.count(0, 1)).min(self.last_day());
        }
    }

    /// Rooms that hide who stays and who pays: in the home city, doubled, refunded, held, in round sums. Stealthy: rooms
    /// by an agency, odd sums, one sign only. Look-alikes: building crews, patients' families, people between two homes,
    /// who travels for work on an own card.
    pub(super) fn hotels(&mut self, variant: Variant) {
        if variant.innocent() {
            return self.away_from_home();
        }
        let person = self.neighbour();
        let plant = self.begin("hotel-anomaly", &person.customer, variant);
        let span = self.draw.count(28, 58);
        let first = self.first_day(span);
        let stays = self.draw.count(9, 28);
        let mut signs = [false; 4];
        let most = if variant.stealthy() { 1 } else { self.draw.count(2, 4) as usize };
        self.draw.choose(4, most).into_iter().for_each(|sign| signs[sign] = true);
        let [doubled, round, refunded, held] = signs;
        for k in 0..stays {
            let day = (first + k * span / stays + self.draw.count(0, 1)).min(self.last_day());
            let city = if self.draw.chance(70) { person.city } else { self.draw.index(CITIES.len()) };
            let hotel = (city, self.draw.count(1, 6));
            let amount = if round && self.draw.chance(60) {
                self.sum(50, 200, 50)
            } else {
                self.draw.int(5_501, 15_999)
            };
            if variant.stealthy() && k % 3 > 0 {
                let agency = self.ordered(&person, day, &OFFICE, ("4722", "Stayfinder"), amount);
                self.put(plant, agency);
                continue;
            }
            let mut paid = self.night(&person, day, hotel, 1, amount);
            if doubled && self.draw.chance(30) {
                let mut second = paid.clone();
                second.time += self.draw.int(20, 900);
                self.put(plant, second);
            }
            // Some are held first; in one way of hiding most holds end in cash at the desk.
            if self.draw.chance(if held { 55 } else { 30 }) {
                let mut hold = paid.clone();
                (hold.entry, hold.mark) = ("authorisation", self.draw.mark());
                hold.time -= self.draw.int(600, 30_000);
                hold.offset = self.calendar.offset(hold.time);
                let mark = hold.mark;
                self.put(plant, hold);
                if held && self.draw.chance(80) {
                    continue;
                }
                paid.of = mark;
            } else if refunded && self.draw.chance(35) {
                paid.mark = self.draw.mark();
                let mut refund = paid.clone();
                (refund.mark, refund.of) = (0, paid.mark);
                refund.time += self.draw.int(8, 90) * 3_600;
                refund.offset = self.calendar.offset(refund.time);
                (refund.creditor, refund.kind) = (refund.debtor.take(), "refund");
                self.put(plant, refund);
            }
            self.put(plant, paid);
        }
        if self.draw.chance(60) {
            let day = self.draw.count(first, first + span);
            let amount = self.sum(100, 500, 10);
            let cash = self.cash_in(&person, day, &NIGHT, person.city, amount, "");
            self.put(plant, cash);
        }
    }

    fn away_from_home(&mut self) {
        let person = self.neighbour();
        let plant = self.begin("hotel-anomaly", &person.customer, Variant::LookAlike);
        let span = self.draw.count(24, 50);
        let first = self.first_day(span);
        let kind = self.draw.index(4);
        let city = if kind == 2 { person.city } else { self.draw.index(CITIES.len()) };
        let hotel = (city, self.draw.count(1, 6));
        // A house whose price is round, and one week of it.
        let price = if self.draw.chance(20) { self.sum(50, 100, 50) } else { self.draw.int(4_901, 11_999) };
        let stays = [self.draw.count(8, 18), self.draw.count(10, 20), self.draw.count(6, 14), 6][kind];
        for k in 0..stays {
            let day = (first + k * span / stays).min(self.last_day());
            let amount = if kind == 3 { self.draw.int(8_001, 26_000) } else { price };
            let place = if kind == 3 { (self.draw.index(CITIES.len()), k) } else { hotel };
            let paid = self.night(&person, day, place, 1, amount);
            // A foreman pays for the second room, too.
            if kind == 0 && self.draw.chance(25) {
                let mut second = paid.clone();
                second.time += self.draw.int(20, 400);
                self.put(plant, second);
            }
            // A journey falls through.
            if kind == 3 && k == 2 {
                let mut refund = paid.clone();
                refund.time += 30 * 3_600;
                refund.offset = self.calendar.offset(refund.time);
                (refund.creditor, refund.kind) = (refund.debtor.take(), "refund");
                self.put(plant, refund);
            }
            self.put(plant, paid);
            if kind == 1 && self.draw.chance(50) {
                let amount = self.sum(3, 25, 1);
                let visit = self.bought(&person, day, &SHOPPING, ("5814", "Klinikcafé"), city, amount);
                self.put(plant, visit);
            }
        }
    }
}
