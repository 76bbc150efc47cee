//! Terms against a matcher that compares words one by one, and against what senders do to hide them.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray, TimestampMicrosecondArray};

use super::fold::{Loose, disguised, words};
use super::*;
use crate::Sql;

fn list(rows: &str) -> TermList {
    read(&format!("term,id,kind,language,valid_from,valid_to,source\n{rows}")).unwrap()
}

fn found(index: &Index, text: &str) -> Vec<u32> {
    index.find(text).into_iter().map(|hit| hit.term).collect()
}

fn index_of(list: TermList) -> Index {
    Index::of(&BTreeMap::from([("l".to_string(), list)])).unwrap()
}

/// Numbers that follow from a seed.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % end
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// Words of a text compared with words of a term, one by one.
fn naive(terms: &TermList, text: &str) -> Vec<u32> {
    let loose = Loose::of(text);
    let plain = loose.words();
    let other = disguised(&loose);
    let stands = |term: &Term, text: &str, is_disguised: bool| {
        let wanted = words(&term.term);
        if is_disguised && wanted.replace(' ', "").chars().count() < 4 {
            return false;
        }
        let (wanted, given): (Vec<&str>, Vec<&str>) =
            (wanted.split(' ').collect(), text.split(' ').collect());
        if term.kind == TermKind::Part {
            return format!(" {text} ").contains(&wanted.join(" "));
        }
        (0..given.len()).any(|start| {
            let Some(part) = given.get(start..start + wanted.len()) else { return false };
            let (last, before) = (wanted.len() - 1, &part[..wanted.len() - 1]);
            let ends = if term.kind == TermKind::Stem {
                part[last].starts_with(wanted[last])
            } else {
                part[last] == wanted[last]
            };
            before == &wanted[..last] && ends
        })
    };
    let held = (0_u32..)
        .zip(terms)
        .filter(|(_, term)| stands(term, &plain, false) || other.iter().any(|text| stands(term, text, true)));
    held.map(|(at, _)| at).collect()
}

#[test]
fn the_automaton_finds_what_comparing_word_by_word_finds() {
    let mut seeded = Seeded(20_260_331);
    let syllables = ["es", "cort", "ren", "t", "vi", "sa", "sá", "le", "1", "ma", "full", "a", "о", "ß", "x"];
    let separators = [" ", "  ", "-", ".", " / ", "\u{a0}", "", "\u{200b}", "…", "_"];
    let mut hits = 0;
    for _ in 0..300 {
        let mut rows = String::new();
        for at in 0..6 {
            let mut term = String::new();
            for _ in 0..1 + seeded.below(3) {
                term.push_str(seeded.of(&syllables));
                if seeded.below(5) == 0 {
                    term.push(' ');
                }
            }
            let folded = words(&term);
            let several = folded.contains(' ');
            let open = folded.chars().filter(|c| *c != ' ').count() >= 3;
            let kind = match seeded.below(4) {
                0 if open => "stem",
                1 if open => "part",
                _ if several => "phrase",
                _ => "word",
            };
            // Each in a time of its own, as the same term may come twice.
            rows.push_str(&format!("{term},t{at},{kind},,20{:02}-01-01,20{:02}-01-01,\n", 10 + at, 11 + at));
        }
        let terms = list(&rows);
        let index = index_of(terms.clone());
        for _ in 0..40 {
            let mut text = String::new();
            for _ in 0..1 + seeded.below(7) {
                text.push_str(seeded.of(&syllables));
                text.push_str(seeded.of(&separators));
            }
            let wanted = naive(&terms, &text);
            hits += wanted.len();
            assert_eq!(found(&index, &text), wanted, "`{text}` with\n{rows}");
        }
    }
    assert!(hits > 1_000, "only {hits} terms were there to be found");
}

/// A text that says the term, in one of the ways that senders use to hide it.
fn hidden(term: &str, seeded: &mut Seeded) -> String {
    let alike = [
        ('a', 'а'),
        ('e', 'е'),
        ('o', 'о'),
        ('c', 'с'),
        ('p', 'р'),
        ('i', 'і'),
        ('s', 'ѕ'),
        ('t', 'τ'),
        ('x', 'х'),
    ];
    let signs = [('a', '4'), ('e', '3'), ('o', '0'), ('i', '1'), ('l', '1'), ('s', '5'), ('t', '7')];
    let way = seeded.below(7);
    let at = seeded.below(term.len());
    let letters = term.chars().enumerate().map(|(place, c)| match way {
        0 => alike.iter().find(|(plain, _)| *plain == c).map_or(c, |(_, other)| *other).to_string(),
        1 => char::from_u32(u32::from(c) + 0xfee0).filter(|_| c != ' ').unwrap_or(c).to_string(),
        2 if place == at => format!("{c}\u{200d}"),
        3 if "aeiou".contains(c) => format!("{c}\u{301}"),
        4 if place == at && c != ' ' => {
            signs.iter().find(|(plain, _)| *plain == c).map_or(c, |(_, sign)| *sign).to_string()
        }
        5 => c.to_uppercase().collect(),
        6 if c == ' ' => " -- ".to_string(),
        _ => c.to_string(),
    });
    letters.collect()
}

#[test]
fn a_hidden_term_is_found_and_one_within_a_longer_word_is_not() {
    let mut seeded = Seeded(7);
    let terms = ["escort", "outcall", "passport", "full service", "massage extra", "debt"];
    let rows: Vec<String> =
        terms.iter().enumerate().map(|(at, term)| format!("{term},t{at},,en,,,\n")).collect();
    let index = index_of(list(&rows.concat()));
    for _ in 0..4_000 {
        let which = seeded.below(terms.len());
        let text = hidden(terms[which], &mut seeded);
        let around =
            seeded.of(&[("", ""), ("for ", " thanks"), ("«", "»"), ("🍕", "🍕"), ("12 ", "."), ("(", ")!")]);
        let text = format!("{}{text}{}", around.0, around.1);
        assert!(found(&index, &text).contains(&(which as u32)), "`{}` in `{text}`", terms[which]);
        let (before, after) = seeded.of(&[("pre", ""), ("", "ing"), ("un", "s"), ("х", ""), ("", "é")]);
        let longer = format!("{before}{}{after}", terms[which]);
        assert!(!found(&index, &longer).contains(&(which as u32)), "`{}` in `{longer}`", terms[which]);
    }
}

#[test]
fn kinds_say_where_a_term_may_stand() {
    let rows = "spa,w,word,,,,\nlösch,s,stem,de,,,\ngeld,p,part,,,,\n🍕,e,emoji,,,,\n🇵🇭,f,emoji,,,,\n代孕,h,word,zh,,,\n비자,k,word,ko,,,\nviza,v,,,,,\n";
    let index = index_of(list(rows));
    let ids = ["w", "s", "p", "e", "f", "h", "k", "v"];
    for (text, wanted) in [
        ("spa day", &["w"][..]),
        ("space", &[]),
        ("spas", &[]),
        ("s p a", &[]),
        ("5pa", &[]),
        ("bitte löschen", &["s"]),
        ("bitte loeschen", &["s"]),
        ("auslöschen", &[]),
        ("Schulgeldzahlung", &["p"]),
        ("two🍕\u{fe0f}please", &["e"]),
        ("👨\u{200d}🍕", &[]),
        ("to 🇵🇭", &["f"]),
        ("🇺🇵🇭🇺", &[]),
        ("找代孕妈妈", &["h"]),
        ("비자를", &["k"]),
        ("관광비자", &[]),
    ] {
        let names: Vec<&str> = found(&index, text).into_iter().map(|at| ids[at as usize]).collect();
        assert_eq!(names, wanted, "{text}");
    }
}

#[test]
fn faults_name_the_line_the_value_and_the_mend() {
    let fault = |rows: &str| {
        read(&format!("term,id,kind,language,valid_from,valid_to\n{rows}")).unwrap_err().to_string()
    };
    for (rows, wanted) in [
        ("x,a,,,,\n...,b,,,,\n", "line 3: `...` has no letter, digit or emoji to look for"),
        ("x,,,,,\n", "line 2: `x` has no `id`; write a short name such as `svc-01`"),
        ("x,a,,,,\ny,a,,,,\n", "line 3: the id `a` is that of line 2, too"),
        ("x,a,wort,,,\n", "line 2: `wort` is no kind of term; did you mean `word`?"),
        (
            "full service,a,word,,,\n",
            "line 2: `full service` is more than one word (`full service`); write `phrase`",
        ),
        ("ab,a,stem,,,\n", "line 2: `ab` is too short for a stem"),
        ("🍕,a,word,,,\n", "line 2: `🍕` holds an emoji; write `emoji`"),
        ("pizza,a,emoji,,,\n", "line 2: `pizza` holds no emoji"),
        ("x,a,,English,,\n", "line 2: `English` is no language"),
        ("x,a,,,soon,\n", "line 2: `soon` is no date"),
        (
            "x,a,,,2026-02-01,2026-01-01\n",
            "line 2: `valid_to` (2026-01-01) is not after `valid_from` (2026-02-01)",
        ),
        (
            "Visa,a,,,,2026-01-01\nvisa,b,,,2026-01-01,\nvísа,c,,,2026-05-01,\n",
            "line 4: `vísа` says the same as line 3",
        ),
    ] {
        let words = fault(rows);
        assert!(words.starts_with(wanted), "{words}");
    }
}

#[test]
fn the_first_term_that_was_valid_is_told_and_lists_do_not_mix() {
    let sql = Sql::new();
    sql.reference().update(|reference| {
        let a = "term,id,valid_from,valid_to\nvisa,old,,2026-01-01\nvisa,new,2026-01-01,\nfee,fee,,\n";
        reference.add_list_csv("a", a).unwrap();
        reference.add_list_csv("b", "term,id\nvisa fee,both\n").unwrap();
    });
    let texts: ArrayRef =
        Arc::new(StringArray::from(vec![Some("Visa fee"), Some("fee"), None, Some("none")]));
    let times = TimestampMicrosecondArray::from(vec![1_767_225_600_000_000; 4]).with_timezone("UTC");
    let batch = RecordBatch::try_from_iter([("t", texts), ("i", Arc::new(times) as ArrayRef)]).unwrap();
    let before = "i - INTERVAL '1 second'";
    let old = format!("mentions(t, 'a', {before}) AND term_found(t, 'a', {before}) = 'old'");
    let asked = [
        "mentions(t, 'a', i)",
        "term_found(t, 'a', i)",
        "mentions(t, 'b', i)",
        "term_found(t, 'b', i)",
        &old,
    ];
    let texts: Vec<String> = asked.iter().map(|asked| format!("CAST({asked} AS VARCHAR)")).collect();
    let expression = format!("concat_ws('|', {})", texts.join(", "));
    let compiled = sql.compile(&batch.schema(), &expression).unwrap();
    let ask = || -> Vec<String> {
        let values = compiled.evaluate(&batch).unwrap();
        values.as_string::<i32>().iter().map(|value| value.unwrap_or("").to_string()).collect()
    };
    assert_eq!(ask(), ["true|new|true|both|true", "true|fee|false|false", "", "false|false|false"]);
    // A list that is replaced counts from the next evaluation on.
    sql.reference().update(|reference| reference.add_list_csv("a", "term,id\nnone,x\n")).unwrap();
    assert_eq!(ask(), ["false|true|both|false", "false|false|false", "", "true|x|false|false"]);
    let unknown = sql.compile(&batch.schema(), "mentions(t, 'c', i)").unwrap().evaluate(&batch).unwrap_err();
    assert!(unknown.to_string().contains("there is no list of terms `c`"), "{unknown}");
}
