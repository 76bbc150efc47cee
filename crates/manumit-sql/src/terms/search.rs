//! Terms in a column of texts, looked for once for all lists and rules that ask.
//!
//! Calls are volatile, as lists change, so planning does not share them: each thread remembers the last few columns and what stood in
//! them, as [`crate::lookup`] does. Within a column equal texts are read once.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use datafusion::arrow::array::{Array, ArrayRef, StringArray};
use hashbrown::HashMap;

use super::{Hit, Index};
use crate::reference::Reference;

/// Columns that a thread remembers: payment text, names of both sides, merchant.
const REMEMBERED: usize = 4;

thread_local! {
    static LATEST: RefCell<VecDeque<Search>> = const { RefCell::new(VecDeque::new()) };
}

struct Search {
    /// Weak, as changing the reference data must not copy them for the sake of what is remembered.
    reference: Weak<Reference>,
    texts: ArrayRef,
    found: Arc<Found>,
}

/// What stands in each text of a column.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Per row the place in `hits`; 0 is nothing.
    rows: Vec<u32>,
    hits: Vec<Vec<Hit>>,
}

impl Found {
    fn of(index: &Index, texts: &StringArray) -> Found {
        let mut found = Found { rows: vec![0; texts.len()], hits: vec![Vec::new()] };
        let mut known: HashMap<&str, u32> = HashMap::new();
        for row in 0..texts.len() {
            if texts.is_null(row) || texts.value(row).is_empty() {
                continue;
            }
            let text = texts.value(row);
            found.rows[row] = *known.entry(text).or_insert_with(|| {
                let hits = index.find(text);
                if hits.is_empty() {
                    return 0;
                }
                found.hits.push(hits);
                (found.hits.len() - 1) as u32
            });
        }
        found
    }

    /// Terms in the text of a row, by list and place.
    pub(crate) fn at(&self, row: usize) -> &[Hit] {
        &self.hits[self.rows[row] as usize]
    }
}

/// What stands in each text.
///
/// # Errors
/// As [`Index::of`].
pub(crate) fn search(reference: &Arc<Reference>, texts: &ArrayRef) -> Result<Arc<Found>, String> {
    let same = |search: &Search| {
        std::ptr::addr_eq(Arc::as_ptr(&search.texts), Arc::as_ptr(texts))
            && std::ptr::eq(search.reference.as_ptr(), Arc::as_ptr(reference))
    };
    let known =
        LATEST.with_borrow(|latest| latest.iter().find(|known| same(known)).map(|known| known.found.clone()));
    if let Some(known) = known {
        return Ok(known);
    }
    let index = reference.term_index()?;
    let Some(values) = texts.as_any().downcast_ref::<StringArray>() else {
        return Err("terms are looked for in texts".into());
    };
    let found = Arc::new(Found::of(&index, values));
    LATEST.with_borrow_mut(|latest| {
        latest.truncate(REMEMBERED - 1);
        let reference = Arc::downgrade(reference);
        latest.push_front(Search { reference, texts: texts.clone(), found: found.clone() });
    });
    Ok(found)
}
