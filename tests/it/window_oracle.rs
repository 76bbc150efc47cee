//! The windows of the engine against DataFusion's own batch answer of the same SQL.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, AsArray, Decimal128Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type};
use manumit_engine::Rows;
use manumit_engine::ring::{Layout, Ring};
use manumit_engine::window::{Value, WindowFeature, evaluate};
use manumit_rules::frame::Frame;
use manumit_rules::ir::Function;
use manumit_sql::Sql;
use proptest::prelude::*;

const LAYOUT: Layout = Layout { filters: 64, arguments: 1 };
const SECOND: i64 = 1_000_000;

/// (key or NULL, event time in seconds, amount at scale 4 or NULL, direction is `in`, or NULL)
type Row = (Option<u8>, i64, Option<i64>, Option<bool>);

fn table(rows: &[Row]) -> RecordBatch {
    let keys: StringArray = rows.iter().map(|r| r.0.map(|k| format!("A-{k}"))).collect();
    let times: TimestampMicrosecondArray = rows.iter().map(|r| Some(r.1 * SECOND)).collect();
    let amounts: Decimal128Array = rows.iter().map(|r| r.2.map(i128::from)).collect();
    let directions: StringArray = rows.iter().map(|r| r.3.map(|d| if d { "in" } else { "out" })).collect();
    RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from_iter_values(0..rows.len() as i64)) as _),
        ("account", Arc::new(keys) as _),
        ("event_time", Arc::new(times.with_timezone("UTC")) as _),
        ("amount", Arc::new(amounts.with_precision_and_scale(20, 4).unwrap()) as _),
        ("direction", Arc::new(directions) as _),
    ])
    .unwrap()
}

/// Value by row id as DataFusion gives it; NULL keys left out.
async fn batch(rows: &[Row], sql_aggregate: &str, seconds: i64) -> BTreeMap<i64, Value> {
    let sql = Sql::new();
    sql.register("entries", table(rows)).unwrap();
    let query = format!(
        "SELECT id, {sql_aggregate} FILTER (WHERE direction = 'in') OVER (PARTITION BY account ORDER BY event_time \
         RANGE BETWEEN INTERVAL '{seconds} seconds' PRECEDING AND CURRENT ROW) AS v FROM entries WHERE account IS NOT NULL"
    );
    let mut out = BTreeMap::new();
    for part in sql.query(&query).await.unwrap() {
        let ids = part.column(0).as_primitive::<Int64Type>();
        let values = part.column(1);
        for row in 0..part.num_rows() {
            let value = match values.data_type() {
                _ if values.is_null(row) => Value::Null,
                DataType::Decimal128(_, _) => {
                    Value::Integer(values.as_primitive::<Decimal128Type>().value(row))
                }
                DataType::Int64 => Value::Integer(i128::from(values.as_primitive::<Int64Type>().value(row))),
                DataType::Float64 => Value::Float(values.as_primitive::<Float64Type>().value(row)),
                other => panic!("unexpected type {other}"),
            };
            out.insert(ids.value(row), value);
        }
    }
    out
}

/// The same, by the engine's ring: rows in time order, peers inserted before any of them is evaluated.
fn streaming(rows: &[Row], function: Function, star: bool, seconds: i64) -> BTreeMap<i64, Value> {
    let feature = WindowFeature {
        function,
        argument: (!star).then_some(0),
        weight: None,
        filter: 0,
        frame: Frame::rolling(seconds * SECOND),
        latest: None,
        argument_type: DataType::Decimal128(20, 4),
        data_type: if function == Function::Avg { DataType::Decimal128(24, 8) } else { DataType::Int64 },
    };
    let mut order: Vec<usize> = (0..rows.len()).filter(|&i| rows[i].0.is_some()).collect();
    order.sort_by_key(|&i| (rows[i].1, i));
    let mut keys = BTreeMap::new();
    let mut out = BTreeMap::new();
    for peers in order.chunk_by(|&a, &b| rows[a].1 == rows[b].1) {
        for &i in peers {
            let (ring, _) = keys.entry(rows[i].0).or_insert_with(|| (Ring::default(), None));
            let filters: &[usize] = if rows[i].3 == Some(true) { &[0] } else { &[] };
            ring.push(&LAYOUT.row(rows[i].1 * SECOND, 0, filters, &[rows[i].2.map(|amount| amount as u64)]));
        }
        for &i in peers {
            let (ring, accumulator) = keys.get_mut(&rows[i].0).unwrap();
            let value =
                match evaluate(Rows::from(&*ring), LAYOUT, &feature, rows[i].1 * SECOND, None, accumulator) {
                    Value::Bits(bits) => Value::Integer(i128::from(bits as i64)),
                    other => other,
                };
            out.insert(i as i64, value);
        }
    }
    out
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        // DataFusion's sliding deviation drifts as rows leave; of equal values it may make NaN.
        (Value::Float(a), Value::Float(b)) => b.is_nan() || (a - b).abs() <= 1e-4 * b.abs().max(1.0),
        _ => a == b,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Out-of-order rows, ties, NULL keys, NULL amounts, NULL filters, refunds (negative amounts); times from a small
    /// range, so that rows stand exactly on both ends of the window; enough rows a key for accumulators.
    #[test]
    fn every_aggregate_equals_datafusions_batch_answer(
        rows in prop::collection::vec(
            (prop::option::weighted(0.9, 0_u8..3), 0_i64..60, prop::option::weighted(0.9, -50_000_i64..500_000), prop::option::weighted(0.9, any::<bool>())),
            1..400,
        ),
        seconds in 0_i64..70,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let aggregates = [
            (Function::Count, true, "count(*)"),
            (Function::Count, false, "count(amount)"),
            (Function::CountDistinct, false, "count(DISTINCT amount)"),
            (Function::Sum, false, "sum(amount)"),
            (Function::Avg, false, "avg(amount)"),
            (Function::Min, false, "min(amount)"),
            (Function::Max, false, "max(amount)"),
            (Function::Stddev, false, "stddev(amount)"),
        ];
        for (function, star, text) in aggregates {
            let wanted = runtime.block_on(batch(&rows, text, seconds));
            let got = streaming(&rows, function, star, seconds);
            prop_assert_eq!(got.len(), wanted.len());
            for (id, value) in &wanted {
                prop_assert!(same(&got[id], value), "{text} over {seconds} s at row {id}: {:?}, DataFusion {value:?}", got[id]);
            }
        }
    }
}
