//! Transactions of an alert as canonical rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use manumit_model::Alert;
use manumit_model::alert::EvidenceTransaction;
use manumit_model::schema;
use serde_json::Value;

/// The transactions, in the order listed.
///
/// # Errors
/// Names the transaction, the column and the value that the column does not take.
pub(crate) fn transactions(alert: &Alert) -> Result<RecordBatch, String> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let mut columns: Vec<ArrayRef> = Vec::new();
    for column in schema::TRANSACTIONS {
        let values: Vec<Option<String>> = alert.transactions.iter().map(|t| value(t, column.name)).collect();
        let read = |values: &[Option<String>]| {
            let text: ArrayRef = Arc::new(StringArray::from(values.to_vec()));
            cast_with_options(&text, &column.kind.data_type(), &strict)
        };
        match read(&values) {
            Ok(array) => columns.push(array),
            Err(error) => {
                let at = values.iter().position(|value| read(std::slice::from_ref(value)).is_err());
                let id = at.map_or("", |at| alert.transactions[at].tx_id.as_str());
                let text = at.and_then(|at| values[at].as_deref()).unwrap_or_default();
                let kind = column.kind.words();
                return Err(format!(
                    "`{}` of transaction {id} is `{text}`, which is not a {kind}: {error}",
                    column.name
                ));
            }
        }
    }
    RecordBatch::try_new(schema::transactions(), columns)
        .map_err(|error| format!("a transaction lacks a column that each must have: {error}"))
}

fn value(transaction: &EvidenceTransaction, column: &str) -> Option<String> {
    match column {
        "tx_id" => Some(transaction.tx_id.clone()),
        "event_time" => Some(transaction.at.utc.clone()),
        "amount" => Some(transaction.amount.clone()),
        "currency" => Some(transaction.currency.clone()),
        "amount_base" => transaction.amount_base.clone(),
        _ => match transaction.fields.get(column)? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        },
    }
}
