//! Lists of terms that are looked for in texts of payments: words, phrases, stems, emoji, valid in time.
//!
//! All terms of all lists stand in one automaton, so a text is read once however many lists and rules ask. Both sides are compared
//! as [`fold`] has them. `rules/LISTS.md` is the contract.

use std::collections::{BTreeMap, HashMap};

use aho_corasick::AhoCorasick;

use self::fold::{JOINER, Loose, has_no_spaces, is_flag_half, is_korean, is_symbol, is_word};
use crate::reference::Validity;

pub(crate) mod fold;
pub(crate) mod phone;
mod read;
pub(crate) mod search;

pub(crate) use self::read::read;

/// Letters that a term needs to be looked for behind signs and separators: three letters come about by chance in any reference.
const LEAST_DISGUISED: usize = 4;

/// How a term stands in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum TermKind {
    /// One whole word.
    Word,
    /// Words one after another, whatever separates them.
    Phrase,
    /// The beginning of a word.
    Stem,
    /// Anywhere, within words too.
    Part,
    /// Pictures.
    Emoji,
}

impl TermKind {
    pub(crate) const ALL: [TermKind; 5] =
        [TermKind::Word, TermKind::Phrase, TermKind::Stem, TermKind::Part, TermKind::Emoji];

    /// As files name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            TermKind::Word => "word",
            TermKind::Phrase => "phrase",
            TermKind::Stem => "stem",
            TermKind::Part => "part",
            TermKind::Emoji => "emoji",
        }
    }

    pub(crate) fn named(name: &str) -> Option<TermKind> {
        TermKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// One term of a list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Term {
    /// What alerts call it.
    pub(crate) id: String,
    /// As the list has it.
    pub(crate) term: String,
    pub(crate) kind: TermKind,
    /// Two or three small letters, or nothing.
    pub(crate) language: String,
    pub(crate) validity: Validity,
}

impl Term {
    /// Ways in which it is written: in German `ö` is `oe` as well, and Danes, Norwegians and Swedes write `å` as `aa`.
    fn spellings(&self) -> Vec<String> {
        let plain = fold::words(&self.term);
        let also = |c: char| match (self.language.as_str(), c) {
            ("de" | "sv", 'ä' | 'Ä') => Some("ae"),
            ("de" | "sv", 'ö' | 'Ö') | ("da" | "no" | "nb" | "nn", 'ø' | 'Ø') => Some("oe"),
            ("de", 'ü' | 'Ü') => Some("ue"),
            ("da" | "no" | "nb" | "nn" | "sv", 'å' | 'Å') => Some("aa"),
            _ => None,
        };
        let mut other = String::new();
        for c in self.term.chars() {
            match also(c) {
                Some(letters) => other.push_str(letters),
                None => other.push(c),
            }
        }
        let other = fold::words(&other);
        if other == plain { vec![plain] } else { vec![plain, other] }
    }
}

/// Terms in the order of their file.
pub(crate) type TermList = Vec<Term>;

/// A term that stands in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hit {
    /// Number of the list, in order of names.
    pub(crate) list: u32,
    /// Place of the term in its list.
    pub(crate) term: u32,
}

/// All terms of all lists, ready to be looked for.
#[derive(Debug)]
pub(crate) struct Index {
    automaton: Option<AhoCorasick>,
    patterns: Vec<Pattern>,
}

#[derive(Debug)]
struct Pattern {
    /// Long enough to be looked for in disguise, and made of words.
    hides: bool,
    terms: Vec<(Hit, TermKind)>,
}

impl Index {
    /// # Errors
    /// When the terms are more than an automaton holds: some hundred million letters.
    pub(crate) fn of(lists: &BTreeMap<String, TermList>) -> Result<Index, String> {
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut texts: Vec<String> = Vec::new();
        let mut patterns: Vec<Pattern> = Vec::new();
        for (list, terms) in (0_u32..).zip(lists.values()) {
            for (at, term) in (0_u32..).zip(terms) {
                for text in term.spellings().into_iter().filter(|text| !text.is_empty()) {
                    let place = *places.entry(text.clone()).or_insert_with(|| {
                        let letters = text.chars().filter(|c| *c != ' ').count();
                        let hides = letters >= LEAST_DISGUISED && !text.chars().any(is_symbol);
                        patterns.push(Pattern { hides, terms: Vec::new() });
                        texts.push(text);
                        patterns.len() - 1
                    });
                    patterns[place].terms.push((Hit { list, term: at }, term.kind));
                }
            }
        }
        if texts.is_empty() {
            return Ok(Index { automaton: None, patterns });
        }
        let automaton = AhoCorasick::new(&texts).map_err(|error| error.to_string())?;
        Ok(Index { automaton: Some(automaton), patterns })
    }

    /// The terms that stand in a text, each once, by list and place.
    pub(crate) fn find(&self, text: &str) -> Vec<Hit> {
        let Some(automaton) = &self.automaton else { return Vec::new() };
        let mut hits = Vec::new();
        let loose = Loose::of(text);
        self.find_in(automaton, &loose.words(), false, &mut hits);
        for text in fold::disguised(&loose) {
            self.find_in(automaton, &text, true, &mut hits);
        }
        hits.sort_unstable();
        hits.dedup();
        hits
    }

    fn find_in(&self, automaton: &AhoCorasick, text: &str, disguised: bool, hits: &mut Vec<Hit>) {
        for found in automaton.find_overlapping_iter(text) {
            let pattern = &self.patterns[found.pattern().as_usize()];
            if disguised && !pattern.hides {
                continue;
            }
            let (begins, ends) = edges(text, found.start(), found.end());
            for (hit, kind) in &pattern.terms {
                let stands = match kind {
                    TermKind::Part => true,
                    TermKind::Stem => begins,
                    TermKind::Word | TermKind::Phrase | TermKind::Emoji => begins && ends,
                };
                if stands {
                    hits.push(*hit);
                }
            }
        }
    }
}

/// Whether a word, or a picture, begins and ends where a term does.
fn edges(text: &str, start: usize, end: usize) -> (bool, bool) {
    let (before, inner, after) = (&text[..start], &text[start..end], &text[end..]);
    let (Some(first), Some(last)) = (inner.chars().next(), inner.chars().next_back()) else {
        return (false, false);
    };
    let apart = |left: char, right: char| {
        let joined = left == JOINER || right == JOINER;
        let one_word = is_word(left) && is_word(right);
        !joined && (!one_word || has_no_spaces(left) || has_no_spaces(right))
    };
    let halves = before.chars().rev().take_while(|c| is_flag_half(*c)).count();
    // Halves of flags belong together two by two, from the first one on.
    let whole_flag = !is_flag_half(first) || halves % 2 == 0;
    let begins = before.chars().next_back().is_none_or(|left| apart(left, first));
    let ends = after.chars().next().is_none_or(|right| apart(last, right) || is_korean(last));
    (begins && whole_flag, ends)
}

#[cfg(test)]
mod tests;
