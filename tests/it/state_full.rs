//! Memory for windows is full: what is known stays exact, new keys are refused, counted and told, and taken again when there is room.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{AsArray, Decimal128Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use manumit_engine::{Engine, Options, Step};
use manumit_rules::ir::RuleSet;
use manumit_rules::{Sources, load};
use manumit_sql::Sql;

use crate::stream_equals_batch::{HEAD, indicator};

/// Rows with a text each, for windows of rows.
mod texts {
    use std::sync::Arc;

    use arrow::array::{AsArray, RecordBatch, StringArray, TimestampMicrosecondArray};
    use arrow::datatypes::Int64Type;
    use manumit_engine::{Engine, Options, PartitionId, Step};
    use manumit_rules::{Sources, load};
    use manumit_sql::Sql;

    use super::DAY;
    use crate::stream_equals_batch::indicator;

    const COLUMNS: [&str; 4] = ["tx_id", "event_time", "debtor_account", "memo"];

    /// Counts different memos in the latest three payments of an account.
    struct Bank {
        engine: Engine,
        partition: PartitionId,
    }

    impl Bank {
        fn new(most_state: Option<usize>) -> Bank {
            let sql = Sql::new();
            let sources = Sources::from_files([indicator(
                "memo-after-memo",
                "when = \"direction = 'out' AND memos >= 2\"\nexplain = \"{memos} memos\"\n[features]\n\
                 memos = \"count(DISTINCT memo) OVER 3 rows\"\n",
            )]);
            let rules = Arc::new(load(&sources, &sql).unwrap_or_else(|faults| panic!("{faults:#?}")));
            let options = Options {
                threads: 1,
                keep_hits: true,
                // Transactions count as state, too: here keys are to have it.
                keep_transactions: false,
                most_state,
                ..Options::default()
            };
            let mut engine = Engine::new(rules, &sql, &COLUMNS.map(String::from), options).unwrap();
            let partition = engine.add_partition("bank", 0);
            Bank { engine, partition }
        }

        /// Each of some accounts pays once in a day, with a memo of its own if `new`.
        fn day(&mut self, accounts: std::ops::Range<usize>, day: i64, new: bool) -> Step {
            let text = |of: &dyn Fn(usize) -> String| {
                Arc::new(StringArray::from_iter_values(accounts.clone().map(of))) as _
            };
            let times = accounts.clone().map(|account| (20_000 + day) * DAY + account as i64);
            let times = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
            let memo = if new { day } else { day / 1_000 };
            let rows = RecordBatch::try_from_iter([
                ("tx_id", text(&|account| format!("{day}-{account:06}"))),
                ("event_time", Arc::new(times) as _),
                ("debtor_account", text(&|account| format!("account-{account:06}"))),
                ("memo", text(&|account| format!("{:>100}", format!("{account} on {memo}")))),
            ]);
            assert!(self.engine.push(self.partition, rows.unwrap()).unwrap().is_none());
            self.engine.step().unwrap()
        }
    }

    /// Accounts that used different ones, and how many.
    fn memos(step: &Step) -> Vec<(String, i64)> {
        let of = |hits: &manumit_engine::Hits| {
            let column = |name: &str| hits.rows.column_by_name(name).unwrap();
            let accounts = column("account").as_string::<i32>().iter().flatten().map(String::from);
            accounts.zip(column("memos").as_primitive::<Int64Type>().values().to_vec()).collect::<Vec<_>>()
        };
        step.hits.iter().flat_map(of).collect()
    }

    #[test]
    fn texts_of_windows_of_rows_are_forgotten_with_their_rows_and_no_answer_changes() {
        const ACCOUNTS: usize = 2_000;
        let mut bank = Bank::new(None);
        let mut most = 0;
        for day in 0..100 {
            let found = memos(&bank.day(0..ACCOUNTS, day, true));
            // The last row of a day waits for the next.
            let (all, least) = if day < 1 { (0, 0) } else { (ACCOUNTS - 1, 3.min(day)) };
            assert!(
                found.len() >= all && found.iter().all(|(_, memos)| *memos >= least),
                "day {day}: {}",
                found.len()
            );
            most = most.max(bank.engine.state_use().texts);
        }
        // Of 200,000 texts of 100 letters no more than twice those that the latest rows have, or few.
        assert!(most < 40_000 * 200, "{most} bytes");
        // What was seen once, a hundred days ago, and is in a window still, is the same text.
        let mut bank = Bank::new(None);
        bank.day(0..10, 0, false);
        for day in 1..100 {
            bank.day(10..2_000, day, true);
        }
        for day in 100..103 {
            let mut found = memos(&bank.day(0..10, day, false));
            found.extend(memos(&bank.day(1_999..2_000, day, false)));
            found.retain(|(account, _)| account.as_str() < "account-000010");
            assert!(found.is_empty(), "{found:?}");
        }
    }

    #[test]
    fn texts_of_windows_of_rows_count_as_state_and_when_it_is_taken_new_keys_are_refused() {
        let mut bank = Bank::new(Some(8 << 20));
        let mut refused = 0;
        for (day, start) in (0..40).zip((0..).step_by(2_000)) {
            refused += bank.day(start..start + 2_000, day, true).rows_refused;
        }
        let used = bank.engine.state_use();
        assert!(refused > 10_000 && used.texts > used.of_keys() / 4, "{refused} refused, {used:?}");
        assert!(used.bytes() < (8 << 20) * 5 / 4, "{used:?}");
        // Whoever was there first goes on as before.
        for day in 40..43 {
            let step = bank.day(0..1_000, day, true);
            // The last stranger waited for the next day.
            assert!(step.rows_refused <= u64::from(day == 40), "{}", step.rows_refused);
            assert!(day < 42 || memos(&step).len() >= 999, "{}", memos(&step).len());
        }
    }
}

const DAY: i64 = 86_400_000_000;
const COLUMNS: [&str; 4] = ["tx_id", "event_time", "debtor_account", "amount_base"];

fn rules(sql: &Sql) -> Arc<RuleSet> {
    let typology = format!(
        "id = \"again-and-again\"{HEAD}fiu_keywords = []\nsummary = \"Money goes again.\"\nwithin = \"2 days\"\n\
         gate = \"paid-again\"\ngate_points = 80\n"
    );
    let again = indicator(
        "paid-again",
        "when = \"direction = 'out' AND payments >= 2\"\nexplain = \"{payments} payments\"\n[features]\npayments = \"count(*) OVER 3 days\"\n",
    );
    let sources = Sources::from_files([
        again,
        (PathBuf::from("rules/typologies/test/again-and-again/typology.toml"), typology),
    ]);
    let loaded = load(&sources, sql);
    Arc::new(loaded.unwrap_or_else(|faults| panic!("{faults:#?}")))
}

fn payments(accounts: std::ops::Range<usize>, round: usize, day: i64) -> RecordBatch {
    let ids = StringArray::from_iter_values(accounts.clone().map(|account| format!("{round}-{account:06}")));
    let times = accounts.clone().map(|account| (20_000 + day) * DAY + account as i64);
    let times = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
    let names =
        StringArray::from_iter_values(accounts.clone().map(|account| format!("account-{account:06}")));
    let amounts =
        Decimal128Array::from_iter_values(accounts.map(|_| 50_0000)).with_precision_and_scale(20, 4).unwrap();
    RecordBatch::try_from_iter([
        ("tx_id", Arc::new(ids) as _),
        ("event_time", Arc::new(times) as _),
        ("debtor_account", Arc::new(names) as _),
        ("amount_base", Arc::new(amounts) as _),
    ])
    .unwrap()
}

struct Bank {
    engine: Engine,
    partition: manumit_engine::PartitionId,
}

impl Bank {
    fn new(threads: usize, most_state: Option<usize>) -> Bank {
        let sql = Sql::new();
        let options = Options { threads, keep_hits: true, most_state, ..Options::default() };
        let mut engine = Engine::new(rules(&sql), &sql, &COLUMNS.map(String::from), options).unwrap();
        let partition = engine.add_partition("bank", 0);
        Bank { engine, partition }
    }

    /// Each account pays once, some thousand accounts a step.
    fn round(&mut self, accounts: usize, round: usize, day: i64) -> Step {
        let mut all = Step::default();
        for start in (0..accounts).step_by(5_000) {
            let rows = payments(start..(start + 5_000).min(accounts), round, day);
            assert!(self.engine.push(self.partition, rows).unwrap().is_none());
            all.append(self.engine.step().unwrap());
        }
        all
    }
}

fn accounts(step: &Step) -> BTreeSet<String> {
    let names = |hits: &manumit_engine::Hits| {
        let column = hits.rows.column_by_name("account").unwrap().as_string::<i32>().clone();
        column.iter().flatten().map(str::to_string).collect::<Vec<_>>()
    };
    step.hits.iter().flat_map(names).collect()
}

#[test]
fn keys_that_memory_has_no_room_for_are_refused_and_the_others_stay_exact() {
    const ACCOUNTS: usize = 60_000;
    for threads in [1, 2] {
        let mut roomy = Bank::new(threads, None);
        let mut tight = Bank::new(threads, Some(4 << 20));
        let before = tight.round(ACCOUNTS, 0, 0);
        roomy.round(ACCOUNTS, 0, 0);
        assert!(before.hits.is_empty());
        let refused = before.rows_refused as usize;
        let kept = ACCOUNTS - refused;
        assert!(refused > ACCOUNTS / 4 && kept > ACCOUNTS / 8, "{refused} refused");
        let used = tight.engine.state_use();
        // The last row waits for the watermark to pass it.
        assert!(
            (kept - 1..=kept).contains(&(used.keys as usize)) && used.refused as usize == refused,
            "{used:?}"
        );
        assert!(used.memory as usize + 100 * kept < (4 << 20) * 5 / 4, "{used:?}");

        let (again, all) = (tight.round(ACCOUNTS, 1, 1), roomy.round(ACCOUNTS, 1, 1));
        let (known, everybody) = (accounts(&again), accounts(&all));
        assert!(everybody.len() >= ACCOUNTS - 1 && known.len() >= kept - 1 && known.len() <= kept);
        assert!(known.is_subset(&everybody));
        assert!(again.rows_refused as usize >= refused - 1);
        assert!(!again.alerts.is_empty());
        for alert in &again.alerts {
            assert!(
                alert.data_gaps.iter().any(|gap| gap.contains("memory for windows was full")),
                "{:?}",
                alert.data_gaps
            );
        }
        assert!(all.alerts.iter().all(|alert| !alert.data_gaps.iter().any(|gap| gap.contains("memory"))));

        // When the others have expired there is room again, and what is found is whole.
        for (round, day) in [(2, 10), (3, 11), (4, 12), (5, 20)] {
            tight.round(5_000, round, day);
        }
        let later = tight.round(5_000, 6, 21);
        assert!(accounts(&later).len() >= 4_999, "{}", accounts(&later).len());
        assert_eq!(later.rows_refused, 0);
        assert!(later.alerts.iter().all(|alert| !alert.data_gaps.iter().any(|gap| gap.contains("memory"))));
    }
}
