//! `rules/groups.toml`: which shared identifiers make a group of customers.

use std::collections::BTreeSet;

use manumit_model::Diagnostics;
use manumit_sql::reference::GroupRule;

use crate::document::{Fields, File, Text, parse};

/// Where it stands.
pub(crate) const PATH: &str = "rules/groups.toml";

/// Reads the file; `None` when it has faults.
pub(crate) fn read(file: &File, faults: &mut Diagnostics) -> Option<GroupRule> {
    let before = faults.0.len();
    let document = parse(file, faults)?;
    let mut fields = Fields::new(file, document.get_ref(), document.span(), "the file of groups");
    let strong = kinds(fields.texts("strong", Some("[\"phone\", \"email\", \"device\"]"), faults), faults);
    let weak = kinds(fields.texts("weak", None, faults), faults);
    for (kind, text) in weak.iter().filter(|(kind, _)| strong.iter().any(|(other, _)| other == kind)) {
        let message = format!("`{kind}` is both strong and weak");
        faults.push(
            text.fault("R051", message, "here").help("a strong identifier links by itself; delete one"),
        );
    }
    let kinds_of_weak: BTreeSet<String> = weak.into_iter().map(|(kind, _)| kind).collect();
    let mut number = |key: &'static str, otherwise: u64, least: u64, most: u64, why: String| {
        let place = fields.value(key).map(|value| value.span());
        let given = fields.integer(key, faults).unwrap_or(otherwise);
        if let Some(place) = place
            && !(least..=most).contains(&given)
        {
            let fault = file.fault("R051", format!("`{key}` is {given}")).at(place, "here");
            faults.push(fault.help(why));
        }
        usize::try_from(given).unwrap_or(usize::MAX)
    };
    let all_weak = kinds_of_weak.len().max(1) as u64;
    let weak_needed = number(
        "weak_needed",
        2.min(all_weak),
        1,
        all_weak,
        format!("so many different weak kinds must be shared: 1 to {all_weak}, as many as `weak` names"),
    );
    let max_holders = number(
        "max_holders",
        50,
        2,
        1_000,
        "an identifier of more customers links nobody: write 2 to 1000".into(),
    );
    let max_members =
        number("max_members", 200, 2, 10_000, "what has more members is no group: write 2 to 10000".into());
    fields.finish(faults);
    (faults.0.len() == before).then(|| GroupRule {
        strong: strong.into_iter().map(|(kind, _)| kind).collect(),
        weak: kinds_of_weak,
        weak_needed,
        max_holders,
        max_members,
    })
}

/// Kinds as contacts name them.
fn kinds(texts: Vec<Text>, faults: &mut Diagnostics) -> Vec<(String, Text)> {
    let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    for text in texts.iter().filter(|text| text.value.is_empty() || !text.value.chars().all(known)) {
        let message = format!("`{}` is no kind of identifier", text.value);
        faults.push(text.fault("R051", message, "here").help(
            "write it as the column `kind` of contacts has it, in small letters; `device` is that of devices",
        ));
    }
    texts.into_iter().map(|text| (text.value.clone(), text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Result<GroupRule, String> {
        let mut faults = Diagnostics::default();
        let file = File { path: PATH.into(), text: text.into() };
        read(&file, &mut faults).ok_or_else(|| faults.to_string())
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let rule = told("strong = [\"phone\"]\nweak = [\"address\", \"employer\"]").unwrap();
        assert_eq!((rule.weak_needed, rule.max_holders, rule.max_members), (2, 50, 200));
        assert!(rule.weak.contains("employer") && rule.strong.contains("phone"));
    }

    #[test]
    fn faults_are_told_with_their_place_and_mend() {
        let error = told("weak = []").unwrap_err();
        assert!(error.contains("strong"), "{error}");
        let error = told("strong = [\"phone\"]\nweak = [\"phone\"]").unwrap_err();
        assert!(error.contains("both strong and weak") && error.contains("groups.toml:2"), "{error}");
        let error = told("strong = [\"Phone no\"]").unwrap_err();
        assert!(error.contains("no kind of identifier"), "{error}");
        let error = told("strong = [\"phone\"]\nweak = [\"address\"]\nweak_needed = 2").unwrap_err();
        assert!(error.contains("`weak_needed` is 2"), "{error}");
        let error = told("strong = [\"phone\"]\nmax_holders = 1").unwrap_err();
        assert!(error.contains("`max_holders` is 1"), "{error}");
        let error = told("strong = [\"phone\"]\nmax_holder = 9").unwrap_err();
        assert!(error.contains("max_holders"), "{error}");
    }
}
