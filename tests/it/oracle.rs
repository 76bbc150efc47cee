//! DataFusion's batch answer to rules, as lines to compare with what the stream found.

use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::util::display::array_value_to_string;
use manumit_engine::entries;
use manumit_model::schema;
use manumit_rules::ir::RuleSet;
use manumit_sql::Sql;

/// A value so that equal values are equal text.
fn cell(array: &dyn Array, row: usize) -> String {
    if array.is_null(row) {
        return "NULL".into();
    }
    array_value_to_string(array, row).unwrap()
}

/// One line a hit: indicator, tx_id, direction, subject, features.
pub fn lines(rules: &RuleSet, indicator: usize, batch: &RecordBatch, subject: &str, out: &mut Vec<String>) {
    let indicator = &rules.indicators[indicator];
    let names = ["tx_id", "direction", subject].into_iter().map(String::from);
    // DataFusion's sliding stddev drifts when rows leave (equal values may even give NaN), ours is exact:
    // `window_oracle` compares it with a tolerance, and no condition here depends on it.
    let features = indicator.features.iter().map(|f| f.name.clone()).filter(|name| name != "spread");
    let names: Vec<String> = names.chain(features).collect();
    for row in 0..batch.num_rows() {
        let cells: Vec<String> =
            names.iter().map(|name| cell(batch.column_by_name(name).unwrap().as_ref(), row)).collect();
        out.push(format!("{}: {}", indicator.meta.id, cells.join(" ")));
    }
}

/// DataFusion's answer to each indicator's own SQL over all entries at once, sorted.
pub async fn batch_answer(rules: &RuleSet, sql: &Sql, transactions: &RecordBatch) -> Vec<String> {
    let full = entries::entries(transactions, &nullable(&schema::entries())).unwrap().batch;
    sql.register("entries", full).unwrap();
    let mut out = Vec::new();
    for (index, indicator) in rules.indicators.iter().enumerate() {
        for batch in sql.query(&indicator.sql).await.unwrap() {
            lines(rules, index, &batch, "subject", &mut out);
        }
    }
    sql.session().deregister_table("entries").unwrap();
    out.sort();
    out
}

fn nullable(schema: &arrow::datatypes::Schema) -> arrow::datatypes::SchemaRef {
    let fields: Vec<_> = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    Arc::new(arrow::datatypes::Schema::new(fields))
}
