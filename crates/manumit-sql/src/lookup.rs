//! Look-ups of a column's rows in a reference table, which several expressions of a rule set ask for alike.
//!
//! `account.country` and `account.product` of the same rows need the same search for the accounts' rows. Planning does not
//! share them, as such calls are volatile; so each thread remembers the last few searches and what they gave. A search is
//! known again by where its arrays stand in memory: they never change, and being held here, no others take their place.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use datafusion::arrow::array::{ArrayRef, AsArray, UInt32Array};
use datafusion::arrow::datatypes::TimestampMicrosecondType;
use datafusion::arrow::error::ArrowError;

use crate::reference::{Reference, Table};

/// Searches that a thread remembers: accounts and customers of both sides, with room for a few others.
const REMEMBERED: usize = 8;

thread_local! {
    static LATEST: RefCell<VecDeque<Search>> = const { RefCell::new(VecDeque::new()) };
}

/// Rows of a table for some keys at some times.
struct Search {
    /// The state that was searched. Weak: changing it must not copy it for the sake of what is remembered. Its place in
    /// memory is not given to another as long as this is here.
    reference: Weak<Reference>,
    table: Table,
    keys: ArrayRef,
    times: ArrayRef,
    rows: UInt32Array,
    /// Columns asked for so far; look-ups by what another look-up gave are known again by it.
    columns: Vec<(usize, ArrayRef)>,
}

impl Search {
    fn is(&self, reference: &Arc<Reference>, table: Table, keys: &ArrayRef, times: &ArrayRef) -> bool {
        let same = |a: &ArrayRef, b: &ArrayRef| std::ptr::addr_eq(Arc::as_ptr(a), Arc::as_ptr(b));
        self.table == table
            && same(&self.keys, keys)
            && same(&self.times, times)
            && std::ptr::eq(self.reference.as_ptr(), Arc::as_ptr(reference))
    }

    fn new(reference: &Arc<Reference>, table: Table, keys: &ArrayRef, times: &ArrayRef) -> Search {
        let instants = times.as_primitive::<TimestampMicrosecondType>();
        Search {
            reference: Arc::downgrade(reference),
            table,
            keys: keys.clone(),
            times: times.clone(),
            rows: reference.rows_at(table, keys.as_string::<i32>(), instants),
            columns: Vec::new(),
        }
    }

    fn column(&mut self, reference: &Reference, column: usize) -> Result<ArrayRef, ArrowError> {
        if let Some((_, known)) = self.columns.iter().find(|(of, _)| *of == column) {
            return Ok(known.clone());
        }
        let found = reference.column_at(self.table, column, &self.rows)?;
        self.columns.push((column, found.clone()));
        Ok(found)
    }
}

/// A column of a table for each key (text) at each time (microseconds UTC); NULL where nothing is known.
pub(crate) fn lookup(
    reference: &Arc<Reference>,
    table: Table,
    column: usize,
    keys: &ArrayRef,
    times: &ArrayRef,
) -> Result<ArrayRef, ArrowError> {
    LATEST.with_borrow_mut(|latest| {
        let known = latest.iter().position(|search| search.is(reference, table, keys, times));
        let mut search = known
            .and_then(|at| latest.remove(at))
            .unwrap_or_else(|| Search::new(reference, table, keys, times));
        let found = search.column(reference, column);
        latest.truncate(REMEMBERED - 1);
        latest.push_front(search);
        found
    })
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{RecordBatch, StringArray, TimestampMicrosecondArray};

    use super::*;
    use crate::reference::SharedReference;

    fn customers(shared: &SharedReference, customer: &str) {
        let text = |values: Vec<&str>| Arc::new(StringArray::from(values)) as ArrayRef;
        let rows =
            [("account", text(vec!["A"])), ("customer", text(vec![customer])), ("city", text(vec!["X"]))];
        let rows = RecordBatch::try_from_iter(rows).unwrap();
        shared.update(|reference| reference.add_rows(Table::Accounts, &rows)).unwrap();
    }

    fn asked(
        shared: &SharedReference,
        column: usize,
        keys: &ArrayRef,
        times: &ArrayRef,
    ) -> Vec<Option<String>> {
        let found = lookup(&shared.get(), Table::Accounts, column, keys, times).unwrap();
        found.as_string::<i32>().iter().map(|value| value.map(String::from)).collect()
    }

    #[test]
    fn what_is_remembered_is_what_a_new_search_gives() {
        let shared = SharedReference::default();
        let keys: ArrayRef = Arc::new(StringArray::from(vec![Some("A"), Some("B"), None]));
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![Some(0), Some(0), Some(0)]));
        assert_eq!(asked(&shared, 0, &keys, &times), [None, None, None]);
        for customer in ["first", "second", "third"] {
            // Asked again at once, and with as many other searches between that it was forgotten.
            customers(&shared, customer);
            for others in [0, 0, 1, 2 * REMEMBERED] {
                for _ in 0..others {
                    let other: ArrayRef = Arc::new(StringArray::from(vec!["B", "A"]));
                    let then: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![None, Some(0)]));
                    let wanted = [None, Some(customer.to_string())];
                    assert_eq!(asked(&shared, 0, &other, &then), wanted);
                }
                assert_eq!(asked(&shared, 0, &keys, &times), [Some(customer.to_string()), None, None]);
                assert_eq!(asked(&shared, 7, &keys, &times), [Some("X".to_string()), None, None]);
            }
        }
    }

    #[test]
    fn states_are_told_apart_and_not_held() {
        let (one, other) = (SharedReference::default(), SharedReference::default());
        customers(&one, "one");
        customers(&other, "other");
        let keys: ArrayRef = Arc::new(StringArray::from(vec!["A"]));
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![0]));
        for _ in 0..2 {
            assert_eq!(asked(&one, 0, &keys, &times), [Some("one".to_string())]);
            assert_eq!(asked(&other, 0, &keys, &times), [Some("other".to_string())]);
        }
        assert_eq!(Arc::strong_count(&one.get()), 2, "only the shared state and the one just taken");
    }
}
