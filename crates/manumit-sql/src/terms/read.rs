//! A list of terms from its file, or what is wrong with it.

use std::collections::BTreeMap;

use super::fold::{is_symbol, words};
use super::{Term, TermKind, TermList};
use crate::reference::{ReferenceError, Validity, csv_records};

/// Letters of a stem or part: shorter ones begin, or stand in, too many words.
const LEAST_OPEN: usize = 3;

/// Reads CSV text with the header `term,id,kind,language,valid_from,valid_to,source`; `kind` to `source` may be left out.
///
/// # Errors
/// [`ReferenceError`] names the line, the value and the mend.
pub(crate) fn read(text: &str) -> Result<TermList, ReferenceError> {
    let mut list = TermList::new();
    // Lines by id, and by what is looked for.
    let mut ids: BTreeMap<String, usize> = BTreeMap::new();
    let mut said: BTreeMap<(String, TermKind), Vec<(usize, Validity)>> = BTreeMap::new();
    for (line, record) in csv_records(text, &["term", "id"])? {
        let fault = |message: String| ReferenceError { line, message };
        let field = |name: &str| record.get(name).map_or("", |value| value.trim());
        let (term, id) = (field("term"), field("id"));
        let folded = words(term);
        if folded.is_empty() {
            return Err(fault(format!(
                "`{term}` has no letter, digit or emoji to look for; write a term or delete the line"
            )));
        }
        if id.is_empty() {
            return Err(fault(format!(
                "`{term}` has no `id`; write a short name such as `svc-01`, by which alerts call it"
            )));
        }
        if let Some(first) = ids.insert(id.to_string(), line) {
            return Err(fault(format!("the id `{id}` is that of line {first}, too; give each term its own")));
        }
        let kind = kind(field("kind"), term, &folded).map_err(fault)?;
        let language = field("language");
        let is_code = (2..=3).contains(&language.len()) && language.bytes().all(|b| b.is_ascii_lowercase());
        if !language.is_empty() && !is_code {
            return Err(fault(format!(
                "`{language}` is no language; write two or three small letters such as `en`, or leave it empty"
            )));
        }
        let validity = Validity::read(field("valid_from"), field("valid_to")).map_err(fault)?;
        if validity.from >= validity.to {
            return Err(fault(format!(
                "`valid_to` ({}) is not after `valid_from` ({}), so the term never counts; mend the dates or delete the line",
                field("valid_to"),
                field("valid_from")
            )));
        }
        let alike = said.entry((folded, kind)).or_default();
        let twice = alike.iter().find(|(_, other)| other.from < validity.to && validity.from < other.to);
        if let Some((first, _)) = twice {
            return Err(fault(format!(
                "`{term}` says the same as line {first}: case, accents, look-alike letters and separators do not count; delete one, or let their times not overlap"
            )));
        }
        alike.push((line, validity));
        list.push(Term { id: id.into(), term: term.into(), kind, language: language.into(), validity });
    }
    Ok(list)
}

fn kind(name: &str, term: &str, folded: &str) -> Result<TermKind, String> {
    let spaces = folded.contains(' ');
    let pictures = folded.chars().any(is_symbol);
    let kind = match name {
        "" if pictures => TermKind::Emoji,
        "" if spaces => TermKind::Phrase,
        "" => TermKind::Word,
        name => match TermKind::named(name) {
            Some(kind) => kind,
            None => {
                let names = TermKind::ALL.map(TermKind::name);
                return Err(match manumit_model::nearest(name, names) {
                    Some(near) => format!("`{name}` is no kind of term; did you mean `{near}`?"),
                    None => format!("`{name}` is no kind of term; write {}", names.join(", ")),
                });
            }
        },
    };
    let letters = folded.chars().filter(|c| *c != ' ').count();
    match kind {
        TermKind::Word if spaces => {
            Err(format!("`{term}` is more than one word (`{folded}`); write `phrase` as its kind"))
        }
        TermKind::Emoji if !pictures => {
            Err(format!("`{term}` holds no emoji; write `word` or `phrase` as its kind"))
        }
        TermKind::Word | TermKind::Phrase | TermKind::Stem | TermKind::Part if pictures => {
            Err(format!("`{term}` holds an emoji; write `emoji` as its kind"))
        }
        TermKind::Stem | TermKind::Part
            if letters < LEAST_OPEN && !folded.chars().any(super::has_no_spaces) =>
        {
            Err(format!(
                "`{term}` is too short for a {}: it would be found in most texts; write `word` as its kind, or {LEAST_OPEN} letters",
                kind.name()
            ))
        }
        kind => Ok(kind),
    }
}
