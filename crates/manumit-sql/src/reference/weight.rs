//! What reference tables take in memory, and rows that are refused when that is all they may take.
//!
//! Bytes are reckoned, row by row, from what stands in memory and from what a hash table and an allocator take for it at worst, so that the
//! sum never jumps when a table doubles, and is never less than it should be. A row that another one has replaced (same key and
//! `valid_from`) is forgotten when such rows are many, or room is wanted.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use datafusion::arrow::compute::{filter, take};
use datafusion::arrow::datatypes::DataType;
use hashbrown::HashMap;

use super::{Checked, JOINT, Reference, ReferenceError, Rows, Table};

/// Of an entry of a hash table by text whose values have 24 bytes: where it has just doubled, 16 of 7 places are empty.
const OF_ENTRY: u64 = (16 + 24 + 1) * 16 / 7;

/// Of one time at which a key is valid, in a list that has room for twice as many.
pub(super) const OF_VERSION: u64 = 48;

/// Of a link, in a list that has room for twice as many.
pub(super) const OF_HOLDING: u64 = 48;

/// Of a span of time in which a customer's group stays as it is: the span, its list, and who was looked at.
pub(super) const OF_SPAN: u64 = 136;

/// Rows that were replaced are not forgotten one by one.
const FEW: u64 = 1 << 20;

/// What an allocator gives for so many bytes.
fn given(bytes: usize) -> u64 {
    (bytes as u64 + 8).next_multiple_of(16).max(32)
}

/// Bytes of a name that has a number: it stands in a table and in a list, and has a list of its own.
pub(super) fn of_name(name: &str) -> u64 {
    (16 + 8 + 1) * 16 / 7 + 2 * (16 + 24 + 4) + 2 * given(name.len())
}

/// Bytes of a key without its rows.
pub(super) fn of_key(table: Table, key: &str) -> u64 {
    let searched = table.searched_by().and_then(|part| key.split(JOINT).nth(part));
    // The list of a value's keys, as if it were its only one.
    let searched = searched.map_or(0, |part| OF_ENTRY + given(part.len()) + 64 + given(key.len()));
    OF_ENTRY + given(key.len()) + searched
}

/// Bytes that links take of a row at most.
fn of_links(table: Table, key: &str) -> u64 {
    match table {
        Table::Contacts | Table::Devices => 2 * of_name(key) + 2 * OF_HOLDING,
        _ => 0,
    }
}

/// Bytes of a row of columns.
pub(super) fn of_row(columns: &[ArrayRef], row: usize) -> u64 {
    let cell = |column: &ArrayRef| match column.data_type() {
        DataType::Utf8 => 4 + column.as_string::<i32>().value_length(row) as u64,
        other => other.primitive_width().unwrap_or(1) as u64,
    };
    columns.iter().map(cell).sum::<u64>() + columns.len() as u64 / 8 + 1
}

/// The same of all rows.
pub(super) fn of_rows(columns: &[ArrayRef], rows: usize) -> Vec<u64> {
    (0..rows).map(|row| of_row(columns, row)).collect()
}

/// Adds to a list that mostly has one item: a list of its own accord would make room for four.
pub(super) fn push<T>(list: &mut Vec<T>, item: T) {
    if list.len() == list.capacity() {
        list.reserve_exact(list.len().max(1));
    }
    list.push(item);
}

impl Rows {
    /// Forgets rows that others have replaced, when they take more than those that count.
    pub(super) fn forget_replaced(&mut self) -> Result<(), ReferenceError> {
        if self.replaced > FEW.max(self.bytes - self.replaced) { self.compact() } else { Ok(()) }
    }

    fn compact(&mut self) -> Result<(), ReferenceError> {
        let mut live: Vec<u32> = self.index.values().flatten().map(|(_, row)| *row).collect();
        live.sort_unstable();
        let rows = UInt32Array::from(live.clone());
        let columns = self.columns.iter().map(|column| take(column.as_ref(), &rows, None));
        let columns: Result<Vec<ArrayRef>, _> = columns.collect();
        self.columns = columns.map_err(|error| ReferenceError { line: 1, message: error.to_string() })?;
        for (_, row) in self.index.values_mut().flatten() {
            // It is one of them.
            *row = live.binary_search(row).unwrap_or_default() as u32;
        }
        self.count = live.len() as u32;
        self.bytes -= self.replaced;
        self.replaced = 0;
        Ok(())
    }
}

impl Reference {
    /// Bytes that tables take in memory, with what was worked out about groups; lists are not among them.
    pub fn bytes(&self) -> u64 {
        self.bytes_of_rows() + self.links.remembered_bytes()
    }

    /// Bytes that rows of tables take in memory.
    pub fn bytes_of_rows(&self) -> u64 {
        self.tables.values().map(|rows| rows.bytes).sum::<u64>() + self.links.bytes()
    }

    /// As [`Reference::add_rows`], as long as all tables take no more than `most` bytes ([`Reference::bytes_of_rows`]). Gives the places of
    /// the rows that were refused: those that are new, or longer than the ones they replace, and have no room.
    ///
    /// # Errors
    /// [`ReferenceError`] names the row and the value that does not fit its column; then none was taken.
    pub fn add_rows_within(
        &mut self,
        table: Table,
        rows: &RecordBatch,
        most: u64,
    ) -> Result<Vec<usize>, ReferenceError> {
        let checked = Checked::of(table, rows)?;
        let weights = of_rows(&checked.columns, checked.taken.len());
        let whole =
            |(key, weight): (&str, u64)| of_key(table, key) + of_links(table, key) + OF_VERSION + weight;
        let keys = checked.taken.iter().map(|(key, _)| key.as_str());
        let wanted: u64 = keys.zip(weights.iter().copied()).map(whole).sum();
        if self.bytes_of_rows().saturating_add(wanted) <= most {
            self.put(table, checked)?;
            return Ok(Vec::new());
        }
        self.compact()?;
        let mut room = most.saturating_sub(self.bytes_of_rows());
        let known = self.tables.get(table.name());
        // What rows before take of these that replace them, as they will be replaced, too.
        let mut replaced: HashMap<(&str, i64), u64> = HashMap::new();
        let mut refused = Vec::new();
        for (row, ((key, validity), weight)) in checked.taken.iter().zip(&weights).enumerate() {
            let versions = known.and_then(|rows| rows.index.get(key.as_str()));
            let same = versions.into_iter().flatten().find(|(other, _)| other.from == validity.from);
            let before = replaced.get(&(key.as_str(), validity.from)).copied();
            let before = before.or_else(|| {
                let (_, row) = same?;
                known.map(|rows| of_row(&rows.columns, *row as usize))
            });
            let (gives, takes) = match (before, versions) {
                (Some(before), _) => (before, *weight),
                (None, Some(_)) => (0, OF_VERSION + of_links(table, key) + weight),
                (None, None) => (0, whole((key, *weight))),
            };
            if takes > room.saturating_add(gives) {
                refused.push(row);
                continue;
            }
            room = room.saturating_add(gives) - takes;
            replaced.insert((key, validity.from), *weight);
        }
        drop(replaced);
        let kept = BooleanArray::from_iter(
            (0..checked.taken.len()).map(|row| Some(refused.binary_search(&row).is_err())),
        );
        let columns = checked.columns.iter().map(|column| filter(column.as_ref(), &kept));
        let columns: Result<Vec<ArrayRef>, _> = columns.collect();
        let columns = columns.map_err(|error| ReferenceError { line: 1, message: error.to_string() })?;
        let taken = checked.taken.into_iter().zip(kept.iter());
        let taken = taken.filter(|(_, kept)| *kept == Some(true)).map(|(row, _)| row).collect();
        self.put(table, Checked { columns, taken })?;
        if self.bytes_of_rows() > most {
            self.compact()?;
        }
        Ok(refused)
    }

    /// Forgets all rows that others have replaced.
    fn compact(&mut self) -> Result<(), ReferenceError> {
        for rows in self.tables.values_mut().filter(|rows| rows.replaced > 0) {
            Arc::make_mut(rows).compact()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::StringArray;

    use super::*;

    fn accounts(keys: impl Iterator<Item = (usize, String)>) -> RecordBatch {
        let (keys, customers): (Vec<String>, Vec<String>) =
            keys.map(|(key, customer)| (format!("account-{key:08}"), customer)).unzip();
        RecordBatch::try_from_iter([
            ("account", Arc::new(StringArray::from(keys)) as ArrayRef),
            ("customer", Arc::new(StringArray::from(customers)) as ArrayRef),
        ])
        .unwrap()
    }

    #[test]
    fn rows_that_have_no_room_are_refused_and_known_ones_are_still_replaced() {
        let mut reference = Reference::default();
        let most = 200_000;
        let first = accounts((0..2_000).map(|n| (n, format!("c{n:05}"))));
        let refused = reference.add_rows_within(Table::Accounts, &first, most).unwrap();
        let kept = 2_000 - refused.len();
        assert!(kept > 400 && refused.len() > 400, "{kept} kept");
        assert_eq!(refused, (kept..2_000).collect::<Vec<_>>(), "the first ones have the room");
        assert!(reference.bytes_of_rows() <= most && reference.bytes_of_rows() > most * 9 / 10);
        assert_eq!(reference.customer_of("account-00000001", 0), Some("c00001"));
        assert_eq!(reference.customer_of(&format!("account-{kept:08}"), 0), None);
        // Again and again: what is replaced gives its room back, and nothing else is lost.
        for round in 0..50 {
            let next = accounts((0..kept).map(|n| (n, format!("{:06}", n + round))));
            assert!(reference.add_rows_within(Table::Accounts, &next, most).unwrap().is_empty());
            assert!(reference.bytes_of_rows() <= most, "round {round}");
            assert_eq!(
                reference.customer_of("account-00000003", 0),
                Some(format!("{:06}", 3 + round).as_str())
            );
        }
        assert_eq!(reference.rows(Table::Accounts), kept);
        // One that is much longer than what it replaces has none either.
        let long = accounts(std::iter::once((3, "c".repeat(100_000))));
        assert_eq!(reference.add_rows_within(Table::Accounts, &long, most).unwrap(), [0]);
        assert_eq!(reference.customer_of("account-00000003", 0), Some("000052"));
    }

    #[test]
    fn a_table_that_is_replaced_over_and_over_does_not_grow() {
        let mut reference = Reference::default();
        let mut most = 0;
        for round in 0..60 {
            let rows = accounts((0..10_000).map(|n| (n, format!("customer-{round:08}-{n:08}"))));
            reference.add_rows(Table::Accounts, &rows).unwrap();
            most = most.max(reference.bytes());
        }
        let mut once = Reference::default();
        let rows = accounts((0..10_000).map(|n| (n, format!("customer-{:08}-{n:08}", 59))));
        once.add_rows(Table::Accounts, &rows).unwrap();
        assert!(most < 3 * once.bytes(), "{most} bytes, {} without what was replaced", once.bytes());
        assert_eq!(reference.digest(), once.digest());
    }

    #[test]
    fn what_is_reckoned_is_not_less_than_what_columns_and_tables_hold() {
        let mut reference = Reference::default();
        let contacts = |n: usize| {
            let text = |of: &dyn Fn(usize) -> String| Arc::new(StringArray::from_iter_values((0..n).map(of)));
            RecordBatch::try_from_iter([
                ("customer", text(&|n| format!("customer-{:06}", n / 2)) as ArrayRef),
                ("kind", text(&|_| "phone".into()) as ArrayRef),
                ("value", text(&|n| format!("+4930{n:08}")) as ArrayRef),
            ])
            .unwrap()
        };
        reference.add_rows(Table::Contacts, &contacts(20_000)).unwrap();
        reference.add_rows(Table::Accounts, &accounts((0..20_000).map(|n| (n, format!("c{n}"))))).unwrap();
        for table in [Table::Contacts, Table::Accounts] {
            let rows = reference.rows_of(table).unwrap();
            let columns: usize = rows.columns.iter().map(|column| column.get_array_memory_size()).sum();
            let index = rows.index.allocation_size() + rows.by.allocation_size();
            let keys: usize = rows.index.keys().map(|key| key.len()).sum();
            let lists: usize = rows.index.values().map(|list| list.capacity() * 24).sum();
            let by: usize = rows.by.values().flatten().map(|key| 16 + key.len()).sum();
            let least = (columns + index + keys + lists + by) as u64;
            assert!(
                rows.bytes >= least && rows.bytes < 3 * least,
                "{}: {} for {least}",
                table.name(),
                rows.bytes
            );
        }
        assert!(reference.links.bytes() > 20_000 * 150, "{}", reference.links.bytes());
    }
}
