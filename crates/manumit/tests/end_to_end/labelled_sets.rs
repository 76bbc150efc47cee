//! Labelled sets of other origin, mapped by the feed files of the pack alone: what newcomers bring first.
//!
//! Two sets of different shapes are made up here: one from bank to bank, without ids, with two columns of one name, dates and
//! times apart and currencies by name; one of mobile money, with hours for times. Fan-ins, fan-outs, funnels, structured cash
//! and mules are planted among ordinary people, and must be found by what the pack says about money flows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::program::{finish, lines, manumit};

const HOURS: i64 = 60 * 24;

/// What a payment is, whatever a set calls it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Transfer,
    CashIn,
    CashOut,
    Shop,
}

struct Payment {
    minute: i64,
    way: Way,
    /// Whom it is about: the payer; who pays in cash, or draws it.
    from: u32,
    to: u32,
    cents: i64,
    /// The case that it belongs to.
    case: Option<usize>,
}

/// A planted case: its kind and the account in its middle.
struct Case {
    kind: &'static str,
    middle: u32,
}

/// A made-up world: payments in order of time, and the cases among them.
struct World {
    rng: ChaCha8Rng,
    payments: Vec<Payment>,
    cases: Vec<Case>,
    people: u32,
}

impl World {
    fn new(seed: u64) -> World {
        let mut world = World {
            rng: ChaCha8Rng::seed_from_u64(seed),
            payments: Vec::new(),
            cases: Vec::new(),
            people: 300,
        };
        world.daily_life();
        for kind in ["fan_in", "fan_out", "funnel", "structuring", "mule"] {
            for _ in 0..3 {
                world.plant(kind);
            }
        }
        world.payments.sort_by_key(|payment| (payment.minute, payment.from, payment.to));
        world
    }

    fn pay(&mut self, hour: i64, way: Way, from: u32, to: u32, cents: i64, case: Option<usize>) {
        let minute = hour * 60 + self.rng.random_range(0..60);
        self.payments.push(Payment { minute, way, from, to, cents, case });
    }

    /// A wage a month, rent, shopping, cash, and a friend now and then.
    fn daily_life(&mut self) {
        for person in 0..self.people {
            let (employer, landlord) = (10_000 + person % 12, 20_000 + person % 40);
            for month in 0..2 {
                let day = month * 30 + self.rng.random_range(0..3);
                let wage = self.rng.random_range(180_000..320_000);
                self.pay(day * 24 + 9, Way::Transfer, employer, person, wage, None);
                self.pay((day + 2) * 24 + 10, Way::Transfer, person, landlord, wage / 3, None);
            }
            for day in 0..HOURS / 24 {
                let hour = day * 24 + self.rng.random_range(8..21);
                let cents = self.rng.random_range(500..9_000);
                match self.rng.random_range(0..40) {
                    0 => {
                        let cents = 5_000 * self.rng_of(1, 5);
                        self.pay(hour, Way::CashOut, person, 0, cents, None);
                    }
                    1 => {
                        let friend = (person + self.rng.random_range(1..4)) % self.people;
                        self.pay(hour, Way::Transfer, person, friend, cents, None);
                    }
                    2..=15 => self.pay(hour, Way::Shop, person, 30_000 + person % 25, cents, None),
                    _ => {}
                }
            }
        }
    }

    fn rng_of(&mut self, low: i64, high: i64) -> i64 {
        self.rng.random_range(low..=high)
    }

    /// Somebody with a past of two weeks at least, whose case is in the weeks behind that.
    fn plant(&mut self, kind: &'static str) {
        let case = Some(self.cases.len());
        let middle = self.cases.len() as u32 * 17 + 3;
        self.cases.push(Case { kind, middle });
        let begin = self.rng_of(33, 45) * 24;
        let other = |n: i64| 40_000 + middle * 100 + n as u32;
        match kind {
            "fan_in" => {
                for n in 0..self.rng_of(9, 12) {
                    let (hour, cents) = (begin + n * 10, self.rng_of(20_000, 90_000));
                    self.pay(hour, Way::Transfer, other(n), middle, cents, case);
                }
            }
            "fan_out" => {
                for n in 0..self.rng_of(9, 12) {
                    let (hour, cents) = (begin + n * 5, self.rng_of(20_000, 90_000));
                    self.pay(hour, Way::Transfer, middle, other(n), cents, case);
                }
            }
            // Every day three pay in, and in the evening nearly all of it goes to one.
            "funnel" => {
                for day in 0..4 {
                    let mut sum = 0;
                    for n in 0..3 {
                        let cents = self.rng_of(20_000, 60_000);
                        sum += cents;
                        self.pay(
                            begin + day * 24 + 9 + n,
                            Way::Transfer,
                            other(day * 3 + n),
                            middle,
                            cents,
                            case,
                        );
                    }
                    self.pay(begin + day * 24 + 18, Way::Transfer, middle, other(99), sum * 97 / 100, case);
                }
            }
            "structuring" => {
                for n in 0..5 {
                    let (hour, cents) = (begin + n * 26, self.rng_of(860_000, 995_000));
                    self.pay(hour, Way::CashIn, middle, 0, cents, case);
                }
            }
            "mule" => {
                for n in 0..4 {
                    let cents = self.rng_of(40_000, 90_000);
                    self.pay(begin + n * 50, Way::Transfer, other(n), middle, cents, case);
                    self.pay(begin + n * 50 + 2, Way::CashOut, middle, 0, cents * 95 / 100, case);
                }
            }
            other => panic!("no such kind: {other}"),
        }
    }

    fn amount(cents: i64) -> String {
        format!("{}.{:02}", cents / 100, cents % 100)
    }

    /// From bank to bank: date and time apart, two columns of one name, no id.
    fn bank_to_bank(&self) -> String {
        let mut text = String::from(
            "Date,Time,From Bank,Account,To Bank,Account,Amount Received,Receiving Currency,Amount Paid,Payment Currency,\
             Payment Format,Is Laundering\n",
        );
        let account = |number: u32| (1 + number % 7, number);
        for payment in &self.payments {
            let (day, minute) = (payment.minute / 1_440, payment.minute % 1_440);
            let date =
                if day < 31 { format!("2025/01/{:02}", day + 1) } else { format!("2025/02/{:02}", day - 30) };
            let date = if day >= 59 { format!("2025/03/{:02}", day - 58) } else { date };
            // Cash goes over a till of the bank.
            let (from, to, format) = match payment.way {
                Way::Transfer => {
                    (payment.from, payment.to, if payment.cents % 2 == 0 { "Wire" } else { "ACH" })
                }
                Way::CashIn => (90_000, payment.from, "Cash"),
                Way::CashOut => (payment.from, 90_000, "Cash"),
                Way::Shop => (payment.from, payment.to, "Credit Card"),
            };
            let ((from_bank, from), (to_bank, to)) = (account(from), account(to));
            let amount = World::amount(payment.cents);
            writeln!(
                text,
                "{date},{:02}:{:02},{from_bank:03},{from:08X},{to_bank:03},{to:08X},{amount},Euro,{amount},Euro,{format},{}",
                minute / 60,
                minute % 60,
                u8::from(payment.case.is_some())
            )
            .unwrap();
        }
        text
    }

    /// Mobile money: hours since the beginning, balances that nobody needs, no id.
    fn mobile_money(&self) -> String {
        let mut text = String::from(
            "step,type,amount,nameOrig,oldbalanceOrg,newbalanceOrig,nameDest,oldbalanceDest,newbalanceDest,isFraud,isFlaggedFraud\n",
        );
        for payment in &self.payments {
            let (kind, to) = match payment.way {
                Way::Transfer => ("TRANSFER", format!("C{}", payment.to)),
                Way::CashIn => ("CASH_IN", "C900001".to_string()),
                Way::CashOut => ("CASH_OUT", "C900002".to_string()),
                Way::Shop => ("PAYMENT", format!("M{}", payment.to)),
            };
            writeln!(
                text,
                "{},{kind},{},C{},0.0,0.0,{to},0.0,0.0,{},0",
                payment.minute / 60,
                World::amount(payment.cents),
                payment.from,
                u8::from(payment.case.is_some())
            )
            .unwrap();
        }
        text
    }
}

/// Typologies that may find a kind: what they say is what was planted.
fn finders(kind: &str) -> &'static [&'static str] {
    match kind {
        "fan_in" => &["fan-in-unlike-before"],
        "fan_out" => &["fan-out-unlike-before", "fan-out-burst"],
        "funnel" => &["fan-in-fast-out"],
        "structuring" => &["structured-cash"],
        "mule" => &["cash-out-mule"],
        other => panic!("no such kind: {other}"),
    }
}

/// Typologies by account, of alerts when they were opened.
fn alerted(path: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let mut by_account: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for alert in lines(path).iter().filter(|alert| alert["revision"] == 1) {
        let text = |pointer: &str| alert.pointer(pointer).and_then(Value::as_str).unwrap().to_string();
        by_account.entry(text("/subject/key")).or_default().insert(text("/typology/id"));
    }
    by_account
}

/// Runs the built-in pack over a set; says what is missed and who is alerted besides.
fn run(set: &str, feed: &str, world: &World, name: impl Fn(u32) -> String) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("set.csv"), set).unwrap();
    let arguments = ["run", "--feed", feed, "--from", "set.csv", "--alerts", "alerts.jsonl"];
    let told = finish(manumit(folder.path(), &arguments, &[]));
    assert!(told.contains(" 0 to dead letters"), "{told}");
    assert!(told.contains(&format!("{} records read", world.payments.len())), "{told}");

    let mut alerted = alerted(&folder.path().join("alerts.jsonl"));
    // Somebody who took part, without being in the middle, is found by right as well.
    for case in world.payments.iter().filter(|payment| payment.case.is_some()) {
        for party in [case.from, case.to].into_iter().filter(|party| *party >= 40_000) {
            alerted.remove(&name(party));
        }
    }
    for case in &world.cases {
        let found = alerted.remove(&name(case.middle)).unwrap_or_default();
        let right = finders(case.kind);
        assert!(
            right.iter().any(|id| found.contains(*id)),
            "{}: {found:?}, wanted one of {right:?}",
            case.kind
        );
    }
    // Employers, landlords, shops and the till are businesses, which these sets do not say.
    alerted.retain(|account, _| (0..world.people).any(|person| name(person) == *account));
    assert!(alerted.len() <= 3, "{} ordinary people were alerted: {alerted:?}", alerted.len());
    folder
}

#[test]
fn a_set_from_bank_to_bank_needs_a_feed_file_and_nothing_else() {
    let world = World::new(7);
    let name = |number: u32| format!("{:03}-{number:08X}", 1 + number % 7);
    let folder = run(&world.bank_to_bank(), "amlworld", &world, name);

    // Its labels become what `manumit evaluate` reads, by the program's own SQL.
    let truth = concat!(env!("CARGO_MANIFEST_DIR"), "/../../sql/truth/accounts-of-labelled-rows.sql");
    let arguments = ["query", "-", "--table", "payments=set.csv", "--format", "csv", "--out", "truth.csv"];
    let mut query = manumit(folder.path(), &arguments, &[]);
    query.stdin(std::fs::File::open(truth).unwrap());
    finish(query);
    let arguments = [
        "evaluate",
        "--alerts",
        "alerts.jsonl",
        "--truth",
        "truth.csv",
        "--customers",
        "300",
        "--out",
        "evaluation",
    ];
    finish(manumit(folder.path(), &arguments, &[]));
    let evaluation: Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("evaluation/evaluation.json")).unwrap())
            .unwrap();
    // Those in the middle, the till over which cash goes, and the three to whom funnels lead: these are paid by one account, four
    // times, and nothing about them is to be seen.
    let planted = world.cases.len() as u64;
    assert_eq!(evaluation["cases"], planted + 4, "{evaluation:#}");
    assert!(evaluation["found"].as_u64().is_some_and(|found| found >= planted), "{evaluation:#}");
    assert!(evaluation["right"].as_u64() >= Some(planted), "{evaluation:#}");
}

#[test]
fn a_set_of_mobile_money_with_hours_for_times_needs_a_feed_file_and_nothing_else() {
    let world = World::new(11);
    run(&world.mobile_money(), "paysim", &world, |number| format!("C{number}"));
}
