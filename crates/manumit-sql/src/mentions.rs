//! SQL functions that look for terms of lists in texts: `mentions`, `term_found`, `mentions_phone`.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StringArray};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::ColumnarValue;
use hashbrown::HashMap;

use crate::functions::{Text, instants};
use crate::reference::Reference;
use crate::terms::phone::has_phone;
use crate::terms::search::search;
use crate::terms::{Term, TermList};

/// `mentions(text, list, time)`: a term of the list that was valid at that time stands in the text. NULL when the text is unknown.
pub(crate) fn mentions(reference: &Arc<Reference>, args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let found = terms(reference, args, rows, |term| term.is_some())?;
    Ok(Arc::new(found.into_iter().collect::<BooleanArray>()))
}

/// `term_found(text, list, time)`: the id of the term that stands first in the list of those which [`mentions`] finds; NULL when there
/// is none.
pub(crate) fn term_found(
    reference: &Arc<Reference>,
    args: &[ColumnarValue],
    rows: usize,
) -> Result<ArrayRef> {
    let found = terms(reference, args, rows, |term| term.map(|term| term.id.as_str()))?;
    Ok(Arc::new(found.into_iter().map(Option::flatten).collect::<StringArray>()))
}

/// What `give` makes of the first term found in each row, where text, list and time are known.
fn terms<'r, T>(
    reference: &'r Arc<Reference>,
    args: &[ColumnarValue],
    rows: usize,
    give: impl Fn(Option<&'r Term>) -> T,
) -> Result<Vec<Option<T>>> {
    let texts = args[0].to_array(rows)?;
    let lists = Text::of(&args[1]);
    let times = args[2].to_array(rows)?;
    let times = instants(&times);
    let found = search(reference, &texts).map_err(DataFusionError::Execution)?;
    let named = |name: &str| -> Option<(u32, &'r TermList)> { reference.term_list(name) };
    let same = lists.same(named);
    let at = |row: usize| {
        let Some(name) = lists.at(row) else { return Ok(None) };
        if texts.is_null(row) || times.is_null(row) {
            return Ok(None);
        }
        let Some((number, list)) = same.or_else(|| named(name)) else {
            return Err(DataFusionError::Execution(format!("there is no list of terms `{name}`")));
        };
        let time = times.value(row);
        let hits = found.at(row).iter().filter(|hit| hit.list == number);
        let valid = |term: &&Term| term.validity.holds(time);
        Ok(Some(give(hits.filter_map(|hit| list.get(hit.term as usize)).find(valid))))
    };
    (0..rows).map(at).collect()
}

/// `mentions_phone(text)`: a telephone number stands in the text.
pub(crate) fn mentions_phone(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let texts = args[0].to_array(rows)?;
    let texts = texts.as_string::<i32>();
    let mut known: HashMap<&str, bool> = HashMap::new();
    let mut has = |text| *known.entry(text).or_insert_with(|| has_phone(text));
    Ok(Arc::new(texts.iter().map(|text| text.map(&mut has)).collect::<BooleanArray>()))
}
