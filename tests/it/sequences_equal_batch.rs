//! Sequences on random rows with many ties, NULLs and disorder: the stream's hits, with the values of their steps,
//! against DataFusion's answer to the SQL that each rule means.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use manumit_engine::{Engine, Options, Step};
use manumit_rules::ir::RuleSet;
use manumit_rules::{Sources, load};
use manumit_sql::Sql;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::oracle::batch_answer;
use crate::stream_equals_batch::{Row, indicator, row, stream, transactions};

fn written() -> Vec<(PathBuf, String)> {
    vec![
        indicator(
            "cash-in-then-sent",
            r#"
            explain = "{got} in, {amount_base} out"
            within = "40 seconds"
            [[step]]
            name = "cash_in"
            when = "direction = 'in' AND method = 'cash'"
            [[step]]
            name = "sent"
            when = "direction = 'out' AND amount_base BETWEEN $least * cash_in.amount_base AND 1.1 * cash_in.amount_base"
            within = "20 seconds"
            [features]
            got = "cash_in.amount_base"
            got_at = "cash_in.event_time"
            half = "0.5 * cash_in.amount_base"
            [params.least]
            value = 0.5
            unit = "share"
            source = "test"
            "#,
        ),
        indicator(
            "back-to-the-same-without-cash",
            r#"
            where = "entry_type = 'booking'"
            explain = "{there} and back"
            within = "1 minutes"
            [[step]]
            name = "there"
            when = "direction = 'out'"
            [[step]]
            name = "cash"
            when = "method = 'cash' AND amount_base > there.amount_base"
            not = true
            [[step]]
            name = "back"
            when = "direction = 'in' AND counterparty = there.counterparty"
            [features]
            there = "there.counterparty"
            "#,
        ),
        indicator(
            "perhaps-a-gift",
            r#"
            when = "gifts = 0 OR gift_amount > 1"
            explain = "{gifts} gifts"
            within = "30 seconds"
            [[step]]
            name = "one"
            when = "direction = 'in'"
            [[step]]
            name = "gift"
            when = "memo = 'gift' AND city = one.city"
            optional = true
            [[step]]
            name = "other"
            when = "city <> one.city"
            optional = true
            [[step]]
            name = "two"
            when = "direction = 'out' AND city = one.city"
            [features]
            gifts = "gift.count"
            gift_amount = "gift.amount_base"
            other_city = "other.city"
            "#,
        ),
        indicator(
            "several-then-one",
            r#"
            explain = "{times} times"
            within = "50 seconds"
            [[step]]
            name = "small"
            when = "direction = 'in' AND amount_base < 4"
            at_least = 3
            within = "15 seconds"
            [[step]]
            name = "large"
            when = "direction = 'out' AND amount_base > small.amount_base"
            [features]
            times = "small.count"
            last_city = "small.city"
            "#,
        ),
        indicator(
            "several-in-between",
            r#"
            when = "tests >= 2 AND (recent >= 3 OR held IS NULL)"
            explain = "{tests} tests"
            within = "1 minutes"
            [[step]]
            name = "opening"
            when = "method = 'cash'"
            [[step]]
            name = "test_charge"
            when = "method = 'transfer' AND amount_base < opening.amount_base AND city = opening.city"
            at_least = 2
            within = "30 seconds"
            [[step]]
            name = "refund"
            when = "entry_type = 'refund'"
            not = true
            [[step]]
            name = "closing"
            when = "direction = 'out'"
            within = "10 seconds"
            [features]
            tests = "test_charge.count"
            openings = "opening.count"
            recent = "count(*) OVER 20 seconds"
            held = "max(amount_base) FILTER (WHERE direction = 'in') OVER 10 seconds"
            twice = "tests * 2"
            "#,
        ),
        indicator(
            "several-at-last",
            r#"
            explain = "{times} times"
            within = "1 minutes"
            [[step]]
            name = "first"
            when = "memo = 'club'"
            [[step]]
            name = "more"
            when = "counterparty <> first.counterparty"
            at_least = 3
            [features]
            times = "more.count"
            "#,
        ),
        indicator(
            "four-steps",
            r#"
            about = "counterparty"
            when = "amount_base <= most"
            explain = "{most}"
            within = "1 minutes"
            [[step]]
            name = "a"
            when = "direction = 'in'"
            [[step]]
            name = "b"
            when = "amount_base > a.amount_base"
            within = "30 seconds"
            [[step]]
            name = "c"
            when = "amount_base > b.amount_base AND a.city = city"
            [[step]]
            name = "d"
            when = "direction = 'out' AND counterparty = b.counterparty AND 2 * c.amount_base >= amount_base"
            within = "25 seconds"
            [features]
            most = "c.amount_base"
            b_at = "b.event_time"
            "#,
        ),
        // Another key, and numbers that 64 bits do not hold.
        indicator(
            "large-numbers",
            r#"
            explain = "{n}"
            within = "20 seconds"
            [[step]]
            name = "less"
            when = "amount_base >= 0"
            [[step]]
            name = "more"
            when = "amount_base * 1000000000000000.0001 > less.amount_base * 1000000000000000.0001 AND amount_base / 3 < less.amount_base"
            [features]
            n = "less.amount_base * 1000000000000000.0001"
            third = "less.amount_base / 3"
            "#,
        ),
        (
            PathBuf::from("rules/indicators/of-a-city.toml"),
            indicator(
                "of-a-city",
                r#"
                explain = "{who}"
                within = "15 seconds"
                [[step]]
                name = "first"
                when = "direction = 'in'"
                [[step]]
                name = "second"
                when = "account = first.counterparty AND is_night(local_time) = is_night(first.local_time)"
                [features]
                who = "first.account"
                "#,
            )
            .1
            .replace("subject = \"account\"", "subject = \"city\""),
        ),
    ]
}

fn rules(files: Vec<(PathBuf, String)>, sql: &Sql) -> Arc<RuleSet> {
    Arc::new(load(&Sources::from_files(files), sql).unwrap_or_else(|faults| panic!("{faults}")))
}

/// Rows crowded into fewer or more seconds: ties are the rule.
fn rows(most: usize) -> impl Strategy<Value = Vec<Row>> {
    (prop_oneof![Just(8_i64), Just(30), Just(120)], prop::collection::vec(row(), 1..most)).prop_map(
        |(seconds, mut rows)| {
            for row in &mut rows {
                row.second %= seconds;
            }
            rows
        },
    )
}

/// A sequence of random steps.
fn random_sequence() -> impl Strategy<Value = String> {
    let filter = prop_oneof![
        Just("direction = 'in'"),
        Just("direction = 'out'"),
        Just("method = 'cash'"),
        Just("city = 'x'"),
        Just("memo = 'gift' AND direction = 'in'"),
        Just("amount_base > 4"),
        Just("true"),
    ];
    let compared = prop_oneof![
        Just("city = {}.city"),
        Just("counterparty <> {}.counterparty"),
        Just("amount_base >= 0.5 * {}.amount_base"),
        Just("{}.amount_base > amount_base"),
        Just("amount_base BETWEEN 0.5 * {}.amount_base AND 1.1 * {}.amount_base"),
        Just("counterparty = {}.counterparty AND event_time <= {}.event_time + INTERVAL '10 seconds'"),
    ];
    let step = (
        filter,
        prop::option::of((compared, any::<prop::sample::Index>())),
        0_u8..6,
        prop::option::weighted(0.3, 1_u8..40),
    );
    (prop::collection::vec(step, 2..6), 5_u8..60).prop_map(|(steps, within)| {
        let mut text = format!("explain = \"steps\"\nwithin = \"{within} seconds\"\n");
        let mut features = String::from("[features]\n");
        let mut anchors = Vec::new();
        let last = steps.len() - 1;
        for (n, (filter, compared, kind, step_within)) in steps.into_iter().enumerate() {
            let mut when = filter.to_string();
            if let Some((compared, index)) = compared.filter(|_| !anchors.is_empty()) {
                let anchor: &usize = index.get(&anchors);
                when += &format!(" AND {}", compared.replace("{}", &format!("s{anchor}")));
            }
            let _ = writeln!(text, "[[step]]\nname = \"s{n}\"\nwhen = \"{when}\"");
            let inner = n > 0 && n < last;
            match kind {
                0 if inner => text += "optional = true\n",
                1 if inner => text += "not = true\n",
                _ => {
                    if kind == 2 {
                        text += "at_least = 2\n";
                    }
                    match step_within {
                        Some(seconds) if n > 0 || kind == 2 => {
                            let _ = writeln!(text, "within = \"{seconds} seconds\"");
                        }
                        None if n == 0 && kind == 2 => text += "within = \"9 seconds\"\n",
                        _ => {}
                    }
                    anchors.push(n);
                }
            }
            if kind != 1 || !inner {
                let _ = writeln!(features, "a{n} = \"s{n}.amount_base\"\nt{n} = \"s{n}.event_time\"");
            }
            // Counted steps take another way, in SQL and in the search.
            if kind == 0 || kind == 2 || kind == 3 {
                let _ = writeln!(features, "n{n} = \"s{n}.count\"");
            }
        }
        text + &features
    })
}

fn cases(cases: u32) -> TestRunner {
    TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() })
}

#[test]
fn written_sequences_hit_where_their_sql_does_on_any_threads_and_batches() {
    let sql = Sql::new();
    let rules = rules(written(), &sql);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let seen: RefCell<BTreeMap<String, usize>> = RefCell::default();
    let run = |rows: Vec<Row>| {
        let wanted = runtime.block_on(batch_answer(&rules, &sql, &transactions(&rows, 0)));
        for (threads, size) in [(1, rows.len()), (1, 7), (2, 50), (3, 1)] {
            let (hits, _) = stream(&rules, &sql, &rows, threads, size);
            prop_assert_eq!(&hits, &wanted, "{} threads, batches of {}", threads, size);
        }
        for line in &wanted {
            let id = line.split(':').next().unwrap().to_string();
            *seen.borrow_mut().entry(id).or_default() += 1;
        }
        Ok(())
    };
    cases(24).run(&rows(160), run).unwrap_or_else(|error| panic!("{error}"));
    println!("{seen:?}");
    assert_eq!(seen.borrow().len(), written().len(), "each of them hits somewhere: {seen:?}");
}

#[test]
fn random_sequences_hit_where_their_sql_does() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let seen = Cell::new((0, 0));
    let run = |(sequences, rows): (Vec<String>, Vec<Row>)| {
        let sql = Sql::new();
        let files = sequences.iter().enumerate();
        let files = files.map(|(n, text)| indicator(&format!("random-{n}"), text)).collect();
        let rules = rules(files, &sql);
        let wanted = runtime.block_on(batch_answer(&rules, &sql, &transactions(&rows, 0)));
        let (hits, _) = stream(&rules, &sql, &rows, 2, 9);
        prop_assert_eq!(&hits, &wanted, "{}", sequences.join("\n"));
        let (cases, all) = seen.get();
        seen.set((cases + usize::from(!hits.is_empty()), all + hits.len()));
        Ok(())
    };
    let strategy = (prop::collection::vec(random_sequence(), 1..5), rows(120));
    cases(40).run(&strategy, run).unwrap_or_else(|error| panic!("{error}"));
    println!("{seen:?}");
    assert!(seen.get().0 >= 20 && seen.get().1 >= 200, "(cases with hits, hits): {seen:?}");
}

/// One account pays in and out: (second, pays in, amount).
fn story(steps: &[(i64, bool, i64)]) -> Vec<Row> {
    let one = |&(second, inward, amount): &(i64, bool, i64)| Row::payment(second, inward, amount);
    steps.iter().map(one).collect()
}

/// Runs the story of account A0; gives hits of A0 as `tx_id features`, and what the steps counted.
fn told(text: &str, story: &[Row], options: Options) -> (Vec<String>, u64, u64) {
    let sql = Sql::new();
    let rules = rules(vec![indicator("told", text)], &sql);
    let batch = transactions(story, 0);
    let columns: Vec<String> = batch.schema().fields().iter().map(|f| f.name().clone()).collect();
    let mut engine =
        Engine::new(rules.clone(), &sql, &columns, Options { keep_hits: true, ..options }).unwrap();
    let partition = engine.add_partition("bank", 0);
    assert!(engine.push(partition, batch).unwrap().is_none());
    engine.end(partition);
    let Step { hits, steps_dropped, sequences_given_up, .. } = engine.step().unwrap();
    let mut out = Vec::new();
    for found in hits {
        crate::oracle::lines(&rules, found.indicator, &found.rows, "account", &mut out);
    }
    out.sort();
    let prefix = |line: &str| line.trim_start_matches("told: ").to_string();
    let own = out.iter().filter(|line| line.contains(" A0 ") || line.ends_with(" A0"));
    (own.map(|line| prefix(line)).collect(), steps_dropped, sequences_given_up)
}

const IN_THEN_OUT: &str = r#"
explain = "{got}"
within = "10 seconds"
[[step]]
name = "received"
when = "direction = 'in'"
[[step]]
name = "sent"
when = "direction = 'out' AND amount_base BETWEEN 0.5 * received.amount_base AND 1.1 * received.amount_base"
[features]
got = "received.amount_base"
"#;

#[test]
fn the_latest_way_that_fits_is_taken_and_equal_times_are_not_after_one_another() {
    let rows = story(&[
        (0, true, 100),
        (2, true, 300),
        // 50 of 100: the later 300 does not fit.
        (4, false, 50),
        // At the time of the sending itself: not before it.
        (6, true, 200),
        (6, false, 200),
        // 10 seconds after the 200 at 6, both ends in; the 100 is too long ago.
        (16, false, 220),
        (17, false, 100),
    ]);
    let (hits, dropped, given_up) = told(IN_THEN_OUT, &rows, Options::default());
    assert_eq!(hits, ["t00002 out A0 1.0000", "t00004 out A0 3.0000", "t00005 out A0 2.0000"]);
    assert_eq!((dropped, given_up), (0, 0));
}

#[test]
fn beyond_its_bounds_a_sequence_is_missed_and_counted() {
    let mut steps = vec![(0, true, 100)];
    steps.extend((1..6).map(|second| (second, true, 900)));
    steps.push((7, false, 100));
    let rows = story(&steps);
    let found = |max_step_rows: usize, max_step_trials: u64| {
        let (hits, dropped, given_up) =
            told(IN_THEN_OUT, &rows, Options { max_step_rows, max_step_trials, ..Options::default() });
        (hits.len(), dropped, given_up)
    };
    // Seven rows are kept, six are looked at: the bounds that are just wide enough, and the next ones. The other side
    // of the payments is another account, whose rows are bounded alike.
    assert_eq!(found(7, 6), (1, 0, 0));
    assert_eq!(found(6, 6).0, 0);
    assert!(found(6, 6).1 > 0);
    assert_eq!(found(7, 5), (0, 0, 1));
}

#[test]
fn an_alert_names_the_rows_of_the_steps_and_of_the_latest_rows_and_no_others() {
    let typology = |gate: &str| {
        format!(
            "id = \"named\"\nversion = 1\nstatus = \"draft\"\ntitle = \"Named\"\nseverity = \"low\"\nexploitation = [\"any\"]\n\
             references = [\"test\"]\nfalse_positives = [\"none\"]\nfiu_keywords = []\nsubject = \"account\"\nsummary = \"Rows.\"\n\
             within = \"20 seconds\"\ngate = \"{gate}\"\ngate_points = 80\n"
        )
    };
    let evidence = |text: &str| -> Vec<String> {
        let sql = Sql::new();
        let path = PathBuf::from("rules/typologies/test/named/typology.toml");
        let rules = rules(vec![indicator("gate", text), (path, typology("gate"))], &sql);
        // Not named: the 9 that is no step, the row too early, the one too late.
        let rows = story(&[
            (0, true, 100),
            (5, true, 110),
            (6, false, 900),
            (7, true, 120),
            (8, true, 130),
            (9, true, 900),
            (12, false, 125),
        ]);
        let (_, alerts) = stream(&rules, &sql, &rows, 2, 3);
        let alert = alerts.iter().find(|alert| alert.subject.key == "A0").unwrap();
        alert.transactions.iter().map(|t| t.tx_id.clone()).collect()
    };
    let sequence = r#"
        explain = "{n}"
        within = "10 seconds"
        when = "direction = 'out'"
        [[step]]
        name = "small"
        when = "direction = 'in' AND amount_base < 2"
        at_least = 3
        within = "4 seconds"
        [[step]]
        name = "last"
        when = "amount_base > small.amount_base - 1 AND amount_base < 2"
        [features]
        n = "small.count"
    "#;
    // 130 at 8 is the step's row; with it count the rows of the 4 seconds before, 4 seconds ago included.
    assert_eq!(evidence(sequence), ["t00001", "t00003", "t00004", "t00006"]);
    let latest = r#"
        explain = "{n}"
        where = "amount_base < 2"
        when = "direction = 'out' AND n = 2"
        [features]
        n = "count(*) FILTER (WHERE direction = 'in') OVER 3 rows"
    "#;
    assert_eq!(evidence(latest), ["t00003", "t00004", "t00006"]);
}
