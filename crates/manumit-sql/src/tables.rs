//! Reference data as tables, for those who ask questions about them.
//!
//! Rows are ordered by key and time of validity; `valid_from` and `valid_to` are NULL where a row is valid without bound.

use std::sync::Arc;

use crate::reference::{JOINT, Reference, Table, Validity, kind_type};
use datafusion::arrow::array::{
    ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array, new_null_array,
};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;

/// A column that is filled row by row.
fn text(values: impl Iterator<Item = Option<String>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

fn instants(values: impl Iterator<Item = i64>) -> ArrayRef {
    let open = |time: i64| (time != i64::MIN && time != i64::MAX).then_some(time);
    Arc::new(values.map(open).collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> Result<RecordBatch, ArrowError> {
    let fields: Vec<Field> =
        columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
}

/// Names and columns of the reference tables, in the order of [`Reference::batches`].
pub fn tables() -> Vec<(&'static str, SchemaRef)> {
    // Columns follow from constants; only rows could fail to fit together.
    let all = Reference::default().batches().unwrap_or_default();
    all.into_iter().map(|(name, rows)| (name, rows.schema())).collect()
}

impl Reference {
    /// All reference tables as they are now, by name.
    ///
    /// # Errors
    /// As [`Reference::table`].
    pub fn batches(&self) -> Result<Vec<(&'static str, RecordBatch)>, ArrowError> {
        let mut all = Vec::new();
        for table in Table::ALL {
            all.push((table.name(), self.table(table)?));
        }
        all.push(("lists", self.lists_table()?));
        all.push(("mcc_groups", self.mcc_groups_table()?));
        Ok(all)
    }

    /// All rows of a table: its keys, `valid_from`, `valid_to`, then its other columns.
    ///
    /// # Errors
    /// [`ArrowError`] when the columns do not fit together: a bug.
    pub fn table(&self, table: Table) -> Result<RecordBatch, ArrowError> {
        let rows = self.rows_of(table);
        let mut all: Vec<(&str, Validity, u32)> = rows
            .into_iter()
            .flat_map(|rows| rows.index.iter())
            .flat_map(|(key, versions)| versions.iter().map(|(validity, row)| (&**key, *validity, *row)))
            .collect();
        all.sort_unstable();
        let mut columns: Vec<(&str, ArrayRef)> = Vec::new();
        for (place, name) in table.keys().iter().enumerate() {
            let part =
                |key: &str| key.split(JOINT).nth(place).filter(|part| !part.is_empty()).map(String::from);
            columns.push((name, text(all.iter().map(|(key, ..)| part(key)))));
        }
        columns.push(("valid_from", instants(all.iter().map(|(_, validity, _)| validity.from))));
        columns.push(("valid_to", instants(all.iter().map(|(_, validity, _)| validity.to))));
        let order: UInt32Array = all.iter().map(|(.., row)| Some(*row)).collect();
        for (place, (name, kind)) in table.columns().iter().enumerate() {
            let values = match rows.and_then(|rows| rows.columns.get(place)) {
                Some(values) => take(values.as_ref(), &order, None)?,
                None => new_null_array(&kind_type(table, *kind), all.len()),
            };
            columns.push((name, values));
        }
        batch(columns)
    }

    /// All lists: `list`, `value` (lower case), `valid_from`, `valid_to`.
    ///
    /// # Errors
    /// As [`Reference::table`].
    pub fn lists_table(&self) -> Result<RecordBatch, ArrowError> {
        let mut all: Vec<(&str, &str, Validity)> = Vec::new();
        for (list, values) in self.lists() {
            for (value, versions) in values {
                all.extend(versions.iter().map(|validity| (list.as_str(), &**value, *validity)));
            }
        }
        all.sort_unstable();
        batch(vec![
            ("list", text(all.iter().map(|(list, ..)| Some(list.to_string())))),
            ("value", text(all.iter().map(|(_, value, _)| Some(value.to_string())))),
            ("valid_from", instants(all.iter().map(|(.., validity)| validity.from))),
            ("valid_to", instants(all.iter().map(|(.., validity)| validity.to))),
        ])
    }

    /// All groups of merchant category codes: `mcc_group`, `mcc`.
    ///
    /// # Errors
    /// As [`Reference::table`].
    pub fn mcc_groups_table(&self) -> Result<RecordBatch, ArrowError> {
        let all: Vec<(&String, &String)> = self
            .mcc_groups()
            .iter()
            .flat_map(|(group, codes)| codes.iter().map(move |code| (group, code)))
            .collect();
        batch(vec![
            ("mcc_group", text(all.iter().map(|(group, _)| Some((*group).clone())))),
            ("mcc", text(all.iter().map(|(_, code)| Some((*code).clone())))),
        ])
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::DataType;
    use datafusion::arrow::util::pretty::pretty_format_batches;
    use manumit_model::schema::instant_type;

    use super::*;

    fn rows(columns: &[(&str, &[&str])]) -> RecordBatch {
        let column = |values: &[&str]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
        RecordBatch::try_from_iter(columns.iter().map(|(name, values)| (*name, column(values)))).unwrap()
    }

    #[test]
    fn rows_come_with_their_validity_and_in_order() {
        let mut reference = Reference::default();
        let places =
            rows(&[("city", &["Oslo", "Bergen"]), ("country", &["NO", "NO"]), ("latitude", &["59.9", ""])]);
        reference.add_rows(Table::Places, &places).unwrap();
        let accounts = rows(&[
            ("account", &["B", "A", "A"]),
            ("customer", &["c", "b", "a"]),
            ("valid_from", &["", "2026-02-01", ""]),
            ("valid_to", &["", "", "2026-02-01"]),
        ]);
        reference.add_rows(Table::Accounts, &accounts).unwrap();
        let table = reference.table(Table::Accounts).unwrap().project(&[0, 1, 2, 3]).unwrap();
        let shown = pretty_format_batches(&[table]).unwrap().to_string();
        let wanted = [
            "| A       |                      | 2026-02-01T00:00:00Z | a        |",
            "| A       | 2026-02-01T00:00:00Z |                      | b        |",
            "| B       |                      |                      | c        |",
        ];
        assert_eq!(shown.lines().skip(3).take(3).collect::<Vec<_>>(), wanted, "{shown}");
        let places = reference.table(Table::Places).unwrap().project(&[0, 1, 4]).unwrap();
        let shown = pretty_format_batches(&[places]).unwrap().to_string();
        let wanted = ["| bergen | no      |          |", "| oslo   | no      | 59.9     |"];
        assert_eq!(shown.lines().skip(3).take(2).collect::<Vec<_>>(), wanted, "{shown}");
        let empty = reference.table(Table::FxRates).unwrap();
        assert_eq!(empty.num_rows(), 0);
        assert_eq!(empty.schema().field(3).data_type(), &DataType::Decimal128(20, 10));
    }

    #[test]
    fn lists_and_groups_are_tables_too() {
        let mut reference = Reference::default();
        reference.add_list_csv("shops", "value,valid_from\nBeta,\nAlpha,2026-01-01\n").unwrap();
        reference.add_mcc_groups_csv("group,mcc\nlodging,7011\nlodging,3501\n").unwrap();
        let lists = reference.lists_table().unwrap();
        assert_eq!(lists.schema().field(2).data_type(), &instant_type());
        let shown = pretty_format_batches(&[lists]).unwrap().to_string();
        assert!(shown.contains("| shops | alpha | 2026-01-01T00:00:00Z |"), "{shown}");
        let groups = pretty_format_batches(&[reference.mcc_groups_table().unwrap()]).unwrap().to_string();
        assert_eq!(groups.lines().nth(3), Some("| lodging   | 3501 |"), "{groups}");
    }
}
