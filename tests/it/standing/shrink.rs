//! A failing case made smaller, and told so that it can be repeated.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::Case;
use super::rows::line;
use super::rules;

/// Seconds that may be spent on making a case smaller, when nothing else is said.
const PATIENCE: u64 = 60;

/// A panic is a failure like others.
pub fn caught<T>(f: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => result,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()));
            Err(format!("panicked: {}", text.unwrap_or_default()))
        }
    }
}

/// The case made as small as patience allows, with what is wrong; `again` repeats it.
pub fn report<S>(mut case: Case, check: impl Fn(&Case) -> Result<S, String>, again: &str) -> String {
    let fails = |case: &Case| caught(|| check(case)).err();
    let seed = case.seed;
    let original =
        fails(&case).unwrap_or_else(|| "it passes when run again: results depend on chance".into());
    let mut told = original;
    let (began, patience) =
        (Instant::now(), Duration::from_secs(super::setting("MANUMIT_ORACLE_PATIENCE", PATIENCE)));
    loop {
        let before = size(&case);
        for smaller in candidates(&case) {
            if began.elapsed() >= patience {
                break;
            }
            // Each candidate is judged against the case as it is now.
            let Some(smaller) = smaller(&case) else { continue };
            // A rule that no longer loads is another failure.
            if let Some(why) = fails(&smaller).filter(|why| !why.starts_with("the loader refuses")) {
                case = smaller;
                told = why;
            }
        }
        if size(&case) == before || began.elapsed() >= patience {
            break;
        }
    }
    let files = rules::files(&case.indicators, &case.typologies).into_iter();
    let rules: Vec<String> =
        files.map(|(path, text)| format!("# {}\n{}", path.display(), text.trim_end())).collect();
    let partitions: Vec<String> = case
        .partitions
        .iter()
        .enumerate()
        .map(|(p, partition)| {
            format!("p{p}: feed {}, lateness {} us", partition.feed, partition.lateness_micros)
        })
        .collect();
    let rows: Vec<String> = case.rows.iter().map(line).collect();
    format!(
        "seed {seed}: {told}\n\n--- smallest rules found\n{}\n--- {} rows in the order of arrival\n{}\n{}\n\n\
         again: MANUMIT_ORACLE_SEED={seed} MANUMIT_ORACLE_CASES=1 {again}\n",
        rules.join("\n"),
        rows.len(),
        partitions.join("\n"),
        rows.join("\n")
    )
}

fn size(case: &Case) -> usize {
    let files = rules::files(&case.indicators, &[]);
    case.rows.len() + files.iter().map(|(_, text)| text.len()).sum::<usize>() + case.typologies.len()
}

type Smaller = Box<dyn Fn(&Case) -> Option<Case>>;

fn candidates(case: &Case) -> Vec<Smaller> {
    let mut all: Vec<Smaller> = Vec::new();
    for id in case.typologies.iter().map(|t| t.id.clone()) {
        all.push(Box::new(move |case| {
            let mut smaller = case.clone();
            smaller.typologies.retain(|t| t.id != id);
            Some(smaller)
        }));
    }
    for id in case.indicators.iter().map(|i| i.id.clone()) {
        all.push(Box::new(move |case| {
            let read =
                |i: &rules::Indicator| i.keyed.as_ref().is_some_and(|q| q.hits_of.as_ref() == Some(&id));
            let used =
                case.typologies.iter().any(|t| t.uses.contains(&id)) || case.indicators.iter().any(read);
            let mut smaller = case.clone();
            smaller.indicators.retain(|i| i.id != id);
            (!used && !smaller.indicators.is_empty()).then_some(smaller)
        }));
    }
    let mut part = case.rows.len().div_ceil(2);
    while part > 0 {
        for start in (0..case.rows.len()).step_by(part) {
            all.push(Box::new(move |case| {
                let mut smaller = case.clone();
                if start >= smaller.rows.len() {
                    return None;
                }
                let end = (start + part).min(smaller.rows.len());
                smaller.rows.drain(start..end);
                (!smaller.rows.is_empty()).then_some(smaller)
            }));
        }
        part /= 2;
    }
    for (n, indicator) in case.indicators.iter().enumerate() {
        // What a query gives stands in its text.
        let features = if indicator.keyed.is_none() { &indicator.features[..] } else { &[] };
        for name in features.iter().map(|f| f.name.clone()) {
            all.push(Box::new(move |case| {
                let mut smaller = case.clone();
                let indicator = smaller.indicators.get_mut(n)?;
                indicator.features.retain(|f| f.name != name);
                let used = indicator.when.contains(&name)
                    || indicator.features.iter().any(|f| f.sql.contains(&name));
                (!used && !indicator.features.is_empty()).then_some(smaller)
            }));
        }
        all.push(Box::new(move |case| {
            let mut smaller = case.clone();
            let indicator = smaller.indicators.get_mut(n)?;
            indicator.when = "amount >= 0".into();
            if indicator.keyed.as_ref().is_none_or(|query| !query.sql.contains("$p")) {
                indicator.param = None;
            }
            (smaller.indicators[n].when != case.indicators[n].when).then_some(smaller)
        }));
        all.push(Box::new(move |case| {
            let mut smaller = case.clone();
            smaller.indicators.get_mut(n)?.row_filter.take()?;
            Some(smaller)
        }));
    }
    all
}
