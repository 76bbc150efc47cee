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
