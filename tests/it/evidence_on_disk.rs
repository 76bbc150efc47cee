//! Transactions that alerts may have to show, beyond the memory that is there for them: on disk nothing changes; without one what is missing is
//! told.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Decimal128Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use manumit_engine::{Engine, Options, StateLimit, StateUse, Step};
use manumit_model::Alert;
use manumit_rules::{Sources, load};
use manumit_sql::Sql;
use manumit_state::Segments;

use crate::stream_equals_batch::{HEAD, indicator};

const DAY: i64 = 86_400_000_000;
const COLUMNS: [&str; 5] = ["tx_id", "event_time", "debtor_account", "creditor_account", "amount_base"];

/// Sixty days, a payment every few minutes between forty accounts; rules that look back a month, one of them over rows, however old.
fn run(options: Options) -> (Vec<Alert>, StateUse, usize) {
    let sql = Sql::new();
    let pays = indicator(
        "pays-often",
        "when = \"direction = 'out' AND paid >= 100000 AND payees >= 12\"\nexplain = \"{paid}\"\n[features]\npaid = \"sum(amount_base) OVER 30 days\"\n\
         payees = \"count(DISTINCT counterparty) OVER 30 days\"\n",
    );
    let typology = format!(
        "id = \"pays-often-and-much\"{HEAD}fiu_keywords = []\nsummary = \"Money goes to many.\"\nwithin = \"20 days\"\n\
         gate = \"pays-often\"\ngate_points = 80\nrevise_every = \"3 days\"\n"
    );
    let typology = (PathBuf::from("rules/typologies/test/pays-often-and-much/typology.toml"), typology);
    let rules = load(&Sources::from_files([pays, typology]), &sql);
    let rules = Arc::new(rules.unwrap_or_else(|faults| panic!("{faults:#?}")));
    let mut engine = Engine::new(rules, &sql, &COLUMNS.map(String::from), options).unwrap();
    let partition = engine.add_partition("bank", 0);
    let (mut all, mut most, mut a_step) = (Step::default(), StateUse::default(), 0);
    for step in 0..120_u64 {
        let rows = step * 200..(step + 1) * 200;
        let text = |name: &str, of: fn(u64) -> u64| {
            StringArray::from_iter_values(rows.clone().map(|n| format!("{name}-{:03}", of(n))))
        };
        let times = rows.clone().map(|n| 20_000 * DAY + n as i64 * (60 * DAY / 24_000));
        let times = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
        let amounts = Decimal128Array::from_iter_values(rows.clone().map(|n| i128::from(n % 977) * 10_000));
        let amounts = amounts.with_precision_and_scale(20, 4).unwrap();
        let batch = RecordBatch::try_from_iter([
            ("tx_id", Arc::new(text("payment", |n| n)) as _),
            ("event_time", Arc::new(times) as _),
            ("debtor_account", Arc::new(text("from", |n| n * 7 % 40)) as _),
            ("creditor_account", Arc::new(text("to", |n| n * 13 % 37)) as _),
            ("amount_base", Arc::new(amounts) as _),
        ])
        .unwrap();
        assert!(engine.push(partition, batch).unwrap().is_none());
        all.append(engine.step().unwrap());
        let now = engine.state_use();
        a_step = a_step.max(now.transactions.saturating_sub(most.transactions) as usize);
        most.transactions = most.transactions.max(now.transactions);
        most.transactions_outside = most.transactions_outside.max(now.transactions_outside);
        most.transactions_forgotten = now.transactions_forgotten;
    }
    engine.end(partition);
    all.append(engine.step().unwrap());
    assert_eq!((all.evaluated, all.rows_refused), (24_000, 0));
    (all.alerts, most, a_step)
}

fn bytes(alerts: &[Alert]) -> Vec<String> {
    alerts.iter().map(|alert| serde_json::to_string(alert).unwrap()).collect()
}

#[test]
fn alerts_are_the_same_to_the_byte_with_most_of_what_they_show_on_disk() {
    let (roomy, all, a_step) = run(Options { threads: 2, ..Options::default() });
    assert!(roomy.len() > 40, "{} alerts", roomy.len());
    assert!(roomy.iter().any(|alert| alert.transactions.len() > 300));
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Segments::create(folder.path(), 2).unwrap());
    let bound = all.transactions as usize / 20;
    let state = Some(StateLimit { memory: 1 << 20, store });
    let (tight, used, _) =
        run(Options { threads: 2, state, most_transactions: Some(bound), ..Options::default() });
    assert_eq!(bytes(&tight), bytes(&roomy));
    assert!(used.transactions as usize <= bound.max(a_step), "{used:?} of {bound}");
    assert!(used.transactions_outside > 100_000 && used.transactions_forgotten == 0, "{used:?}");
}

#[test]
fn without_a_disk_alerts_are_raised_all_the_same_and_say_how_much_they_cannot_show() {
    let (roomy, all, _) = run(Options::default());
    let bound = all.transactions as usize / 20;
    let (tight, used, _) = run(Options { most_transactions: Some(bound), ..Options::default() });
    assert!(used.transactions_forgotten > 5_000, "{used:?}");
    let told = |alerts: &[Alert]| -> Vec<_> {
        alerts
            .iter()
            .map(|a| (a.alert_id.clone(), a.revision, a.score, a.indicators[0].explanation.clone()))
            .collect()
    };
    assert_eq!(told(&tight), told(&roomy));
    for (tight, roomy) in tight.iter().zip(&roomy) {
        let of = |alert: &Alert| alert.transactions.len() as u64 + alert.transactions_omitted;
        let missing = of(roomy) - of(tight);
        let gap = tight.data_gaps.iter().find(|gap| gap.contains("are not shown"));
        assert_eq!(gap.is_some(), missing > 0, "{missing} {gap:?}");
        assert!(
            gap.is_none_or(|gap| gap.starts_with(&format!("{missing} of the transactions"))),
            "{missing} {gap:?}"
        );
    }
    assert!(tight.iter().any(|alert| alert.data_gaps.iter().any(|gap| gap.contains("are not shown"))));
}
