//! Transactions into entries: one row a side, as one account sees it.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, UInt32Array, new_null_array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{interleave, take};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use manumit_model::schema::ENTRY_SIDES;

/// Rows of a table, narrowed to the columns that rules use, with the transaction each came from.
pub struct TableRows {
    /// The rows.
    pub batch: RecordBatch,
    /// Row of the transaction batch.
    pub tx: Vec<u32>,
}

/// A column of the batch, or NULLs where the feed does not send it.
fn column(batch: &RecordBatch, name: &str, data_type: &DataType) -> ArrayRef {
    match batch.column_by_name(name) {
        Some(array) if array.data_type() == data_type => array.clone(),
        _ => new_null_array(data_type, batch.num_rows()),
    }
}

/// The transactions themselves, narrowed to `schema`; a column that the feed does not send is NULL.
///
/// # Errors
/// [`ArrowError`] when the columns do not fit together.
pub fn transactions(batch: &RecordBatch, schema: &SchemaRef) -> Result<TableRows, ArrowError> {
    let columns: Vec<_> = schema.fields().iter().map(|f| column(batch, f.name(), f.data_type())).collect();
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let narrow = RecordBatch::try_new_with_options(schema.clone(), columns, &options)?;
    Ok(TableRows { batch: narrow, tx: (0..batch.num_rows() as u32).collect() })
}

/// One side of all transactions of a batch: the columns are those of the batch, under an entry's names.
pub(crate) struct Side {
    /// A row a transaction.
    pub batch: RecordBatch,
    /// Transactions of which this side is an entry.
    pub exists: BooleanBuffer,
}

/// Names of the columns that differ from side to side.
pub(crate) fn differs(column: &str) -> bool {
    column == "direction" || ENTRY_SIDES.iter().any(|(name, _, _)| *name == column)
}

/// What a direction is called, debtor's side first.
const DIRECTIONS: [&str; 2] = ["out", "in"];

/// The debtor's side and the creditor's, narrowed to `schema`: what [`entries`] gives, without moving any value.
///
/// # Errors
/// [`ArrowError`] when the columns do not fit together.
pub(crate) fn sides(batch: &RecordBatch, schema: &SchemaRef) -> Result<[Side; 2], ArrowError> {
    let rows = batch.num_rows();
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
    let mut own: [Vec<ArrayRef>; 2] = [Vec::new(), Vec::new()];
    for field in schema.fields() {
        let (name, data_type) = (field.name(), field.data_type());
        if name == "direction" {
            for (columns, word) in own.iter_mut().zip(DIRECTIONS) {
                columns.push(Arc::new(StringArray::from_iter_values(std::iter::repeat_n(word, rows))));
            }
        } else if let Some((_, out, inward)) = ENTRY_SIDES.iter().find(|(side, _, _)| side == name) {
            own[0].push(column(batch, out, data_type));
            own[1].push(column(batch, inward, data_type));
        } else {
            let shared = column(batch, name, data_type);
            own.iter_mut().for_each(|columns| columns.push(shared.clone()));
        }
    }
    let [out, inward] = own;
    let side = |columns, account, external| -> Result<Side, ArrowError> {
        let batch_of_side = RecordBatch::try_new_with_options(schema.clone(), columns, &options)?;
        Ok(Side { batch: batch_of_side, exists: exists(batch, account, external) })
    };
    Ok([
        side(out, "debtor_account", "debtor_external")?,
        side(inward, "creditor_account", "creditor_external")?,
    ])
}

/// Rows whose account is known and not marked external.
fn exists(batch: &RecordBatch, account: &str, external: &str) -> BooleanBuffer {
    let rows = batch.num_rows();
    let Some(account) = batch.column_by_name(account) else { return BooleanBuffer::new_unset(rows) };
    let known = account.nulls().map_or_else(|| BooleanBuffer::new_set(rows), |nulls| nulls.inner().clone());
    let Some(external) = batch.column_by_name(external).and_then(|c| c.as_boolean_opt()) else {
        return known;
    };
    let foreign = match external.nulls() {
        None => external.values().clone(),
        Some(nulls) => external.values() & nulls.inner(),
    };
    &known & &!&foreign
}

/// Up to two entries a transaction, the debtor's before the creditor's, narrowed to `schema`.
///
/// A side gives an entry when its account is known and not marked external.
///
/// # Errors
/// [`ArrowError`] when the columns do not fit together.
pub fn entries(batch: &RecordBatch, schema: &SchemaRef) -> Result<TableRows, ArrowError> {
    let sides = [("debtor_account", "debtor_external"), ("creditor_account", "creditor_external")]
        .map(|(account, external)| (batch.column_by_name(account), batch.column_by_name(external)));
    let mut tx: Vec<u32> = Vec::with_capacity(batch.num_rows() * 2);
    let mut side: Vec<usize> = Vec::with_capacity(batch.num_rows() * 2);
    for row in 0..batch.num_rows() {
        for (index, (account, external)) in sides.iter().enumerate() {
            let known = account.is_some_and(|a| a.is_valid(row));
            let foreign = external.is_some_and(|e| e.is_valid(row) && e.as_boolean().value(row));
            if known && !foreign {
                tx.push(row as u32);
                side.push(index);
            }
        }
    }
    let indices = UInt32Array::from(tx.clone());
    let pairs: Vec<(usize, usize)> = side.iter().zip(&tx).map(|(&s, &row)| (s, row as usize)).collect();
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let array = if field.name() == "direction" {
            let words: StringArray = side.iter().map(|&s| Some(DIRECTIONS[s])).collect();
            Arc::new(words) as ArrayRef
        } else if let Some((_, out, inward)) = ENTRY_SIDES.iter().find(|(name, _, _)| name == field.name()) {
            let out = column(batch, out, field.data_type());
            let inward = column(batch, inward, field.data_type());
            if pairs.is_empty() {
                new_null_array(field.data_type(), 0)
            } else {
                interleave(&[out.as_ref(), inward.as_ref()], &pairs)?
            }
        } else {
            match batch.column_by_name(field.name()) {
                Some(array) if array.data_type() == field.data_type() => {
                    take(array.as_ref(), &indices, None)?
                }
                _ => new_null_array(field.data_type(), tx.len()),
            }
        };
        columns.push(array);
    }
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(tx.len()));
    Ok(TableRows { batch: RecordBatch::try_new_with_options(schema.clone(), columns, &options)?, tx })
}

#[cfg(test)]
mod tests {
    use arrow::array::BooleanArray;
    use manumit_model::schema;

    use super::*;

    fn narrow(names: &[&str]) -> SchemaRef {
        let full = schema::entries();
        let places: Vec<usize> = names.iter().map(|n| full.index_of(n).unwrap()).collect();
        Arc::new(full.project(&places).unwrap())
    }

    fn text(values: &[Option<&str>]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    fn batch() -> RecordBatch {
        RecordBatch::try_from_iter([
            ("tx_id", text(&[Some("transfer"), Some("cash-in"), Some("to-hub"), Some("nobody")])),
            ("debtor_account", text(&[Some("A"), None, Some("A"), None])),
            ("creditor_account", text(&[Some("B"), Some("B"), Some("HUB"), None])),
            ("creditor_external", Arc::new(BooleanArray::from(vec![None, None, Some(true), None]))),
            ("creditor_name", text(&[Some("Bo"), Some("Bo"), None, None])),
        ])
        .unwrap()
    }

    #[test]
    fn each_known_side_that_is_ours_sees_its_own_entry() {
        let schema = narrow(&["direction", "account", "counterparty", "tx_id"]);
        let rows = entries(&batch(), &schema).unwrap();
        let table = arrow::util::pretty::pretty_format_batches(&[rows.batch]).unwrap().to_string();
        let wanted = [
            "| out       | A       | B            | transfer |",
            "| in        | B       | A            | transfer |",
            "| in        | B       |              | cash-in  |",
            "| out       | A       | HUB          | to-hub   |",
        ];
        assert_eq!(table.lines().skip(3).take(4).collect::<Vec<_>>(), wanted, "{table}");
        assert_eq!(rows.tx, [0, 0, 1, 2]);
    }

    #[test]
    fn sides_hold_the_same_entries_where_they_stand() {
        let schema = narrow(&["direction", "account", "counterparty", "counterparty_name", "tx_id"]);
        let together = entries(&batch(), &schema).unwrap();
        let sides = sides(&batch(), &schema).unwrap();
        let mut rows = together.tx.iter().enumerate();
        for row in 0..batch().num_rows() {
            for side in sides.iter().filter(|side| side.exists.value(row)) {
                let (at, &tx) = rows.next().unwrap();
                assert_eq!(tx as usize, row);
                assert_eq!(side.batch.slice(row, 1), together.batch.slice(at, 1));
            }
        }
        assert!(rows.next().is_none());
    }

    #[test]
    fn what_the_feed_does_not_send_is_null() {
        let schema = narrow(&["account", "counterparty_name", "device_id"]);
        let rows = entries(&batch(), &schema).unwrap().batch;
        assert_eq!(rows.column(2).null_count(), rows.num_rows());
        assert_eq!(
            rows.column(1).as_string::<i32>().iter().collect::<Vec<_>>(),
            [Some("Bo"), None, None, None]
        );
    }
}
