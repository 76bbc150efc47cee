//! Reference data as tables that queries may join: `accounts`, `customers`, `places`, `fx_rates`, `lists`, `mcc_groups`.
//!
//! Rows carry `valid_from` and `valid_to` (NULL: always), of which the row of a time is chosen by the query:
//! `JOIN accounts a ON a.account = e.account AND e.event_time >= coalesce(a.valid_from, e.event_time) AND …`.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, RecordBatch, RecordBatchOptions, StringArray, TimestampMicrosecondArray, UInt32Array,
    new_null_array,
};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use manumit_model::schema::instant_type;

use super::{JOINT, Reference, Table, Validity, kind_type};

fn schema(texts: &[&str], columns: impl Iterator<Item = (&'static str, DataType)>) -> SchemaRef {
    let mut fields: Vec<Field> = texts.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect();
    fields.extend(columns.map(|(name, data_type)| Field::new(name, data_type, true)));
    fields.extend(["valid_from", "valid_to"].map(|name| Field::new(name, instant_type(), true)));
    Arc::new(Schema::new(fields))
}

/// Names and columns of the reference tables.
pub fn tables() -> Vec<(&'static str, SchemaRef)> {
    let mut all: Vec<_> = Table::ALL
        .iter()
        .map(|&table| {
            let columns = table.columns().iter().map(|(name, kind)| (*name, kind_type(table, *kind)));
            (table.name(), schema(table.keys(), columns))
        })
        .collect();
    all.push(("lists", schema(&["list", "value"], std::iter::empty())));
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    all.push(("mcc_groups", Arc::new(Schema::new(vec![text("group_name"), text("mcc")]))));
    all
}

/// `valid_from` and `valid_to`; an open end is NULL.
fn validity(all: &[Validity]) -> [ArrayRef; 2] {
    let column = |at: fn(&Validity) -> i64, open: i64| -> ArrayRef {
        let times: TimestampMicrosecondArray =
            all.iter().map(|v| Some(at(v)).filter(|time| *time != open)).collect();
        Arc::new(times.with_timezone("UTC"))
    };
    [column(|v| v.from, i64::MIN), column(|v| v.to, i64::MAX)]
}

impl Reference {
    /// The rows of all reference tables as they are now, in the order of [`tables`]; each ordered by key and time.
    ///
    /// # Errors
    /// [`ArrowError`] when columns do not fit together, which would be a bug.
    pub fn batches(&self) -> Result<Vec<(&'static str, RecordBatch)>, ArrowError> {
        let mut all = Vec::new();
        for (name, schema) in tables() {
            let (columns, count) = match Table::ALL.iter().find(|table| table.name() == name) {
                Some(table) => self.rows_of(*table)?,
                None if name == "lists" => self.list_rows(),
                None => self.group_rows(),
            };
            let options = RecordBatchOptions::new().with_row_count(Some(count));
            all.push((name, RecordBatch::try_new_with_options(schema, columns, &options)?));
        }
        Ok(all)
    }

    fn rows_of(&self, table: Table) -> Result<(Vec<ArrayRef>, usize), ArrowError> {
        let known = self.tables.get(table.name());
        let mut versions: Vec<(&str, Validity, u32)> = known
            .iter()
            .flat_map(|rows| &rows.index)
            .flat_map(|(key, versions)| versions.iter().map(move |(validity, row)| (&**key, *validity, *row)))
            .collect();
        versions.sort_unstable();
        let mut columns: Vec<ArrayRef> = Vec::new();
        for part in 0..table.keys().len() {
            let keys: StringArray = versions.iter().map(|(key, _, _)| key.split(JOINT).nth(part)).collect();
            columns.push(Arc::new(keys));
        }
        let rows: UInt32Array = versions.iter().map(|(_, _, row)| Some(*row)).collect();
        for (place, (_, kind)) in table.columns().iter().enumerate() {
            columns.push(match known.and_then(|known| known.columns.get(place)) {
                Some(values) => take(values.as_ref(), &rows, None)?,
                None => new_null_array(&kind_type(table, *kind), versions.len()),
            });
        }
        let validities: Vec<Validity> = versions.iter().map(|(_, validity, _)| *validity).collect();
        columns.extend(validity(&validities));
        Ok((columns, versions.len()))
    }

    fn list_rows(&self) -> (Vec<ArrayRef>, usize) {
        let mut rows: Vec<(&str, &str, Validity)> = Vec::new();
        for (list, values) in &self.lists {
            for (value, versions) in values {
                rows.extend(versions.iter().map(|validity| (list.as_str(), &**value, *validity)));
            }
        }
        rows.sort_unstable();
        let lists: StringArray = rows.iter().map(|row| Some(row.0)).collect();
        let values: StringArray = rows.iter().map(|row| Some(row.1)).collect();
        let validities: Vec<Validity> = rows.iter().map(|row| row.2).collect();
        let mut columns: Vec<ArrayRef> = vec![Arc::new(lists), Arc::new(values)];
        columns.extend(validity(&validities));
        (columns, rows.len())
    }

    fn group_rows(&self) -> (Vec<ArrayRef>, usize) {
        let rows: Vec<(&str, &str)> = self
            .mcc_groups
            .iter()
            .flat_map(|(group, codes)| codes.iter().map(move |mcc| (group.as_str(), mcc.as_str())))
            .collect();
        let groups: StringArray = rows.iter().map(|row| Some(row.0)).collect();
        let codes: StringArray = rows.iter().map(|row| Some(row.1)).collect();
        (vec![Arc::new(groups), Arc::new(codes)], rows.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_has_the_rows_that_were_loaded_with_their_validity() {
        let mut reference = Reference::default();
        let accounts = RecordBatch::try_from_iter([
            ("account", Arc::new(StringArray::from(vec!["B", "A", "A"])) as ArrayRef),
            ("status", Arc::new(StringArray::from(vec!["open", "open", "closed"]))),
            ("valid_from", Arc::new(StringArray::from(vec![None, None, Some("2026-02-01")]))),
        ])
        .unwrap();
        reference.add_rows(Table::Accounts, &accounts).unwrap();
        reference.add_list_csv("watched", "value,valid_from,valid_to,source\nx,,,own\n").unwrap();
        reference.add_mcc_groups_csv("group,mcc\nlodging,7011\n").unwrap();
        let batches = reference.batches().unwrap();
        let rows: Vec<(&str, usize)> = batches.iter().map(|(name, b)| (*name, b.num_rows())).collect();
        let wanted = [
            ("accounts", 3),
            ("customers", 0),
            ("places", 0),
            ("fx_rates", 0),
            ("lists", 1),
            ("mcc_groups", 1),
        ];
        assert_eq!(rows, wanted);
        for ((_, batch), (_, schema)) in batches.iter().zip(tables()) {
            assert_eq!(batch.schema(), schema);
        }
        let accounts = batches[0].1.project(&[0, 5, 11]).unwrap();
        let table = datafusion::arrow::util::pretty::pretty_format_batches(&[accounts]).unwrap().to_string();
        let cells: Vec<&str> = table.lines().skip(3).take(3).collect();
        assert!(
            cells[0].starts_with("| A       | open ") && cells[1].contains("2026-02-01T00:00:00Z"),
            "{table}"
        );
    }
}
