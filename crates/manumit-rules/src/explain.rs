//! Rules in words.

use std::fmt::Write as _;

use crate::frame::interval;
use crate::ir::{Conjunct, Feature, FeatureKind, Indicator, Part, Piece, RuleSet, Template, Typology};

/// An indicator or typology in words: what it looks for, thresholds with unit and source, points; `None` when there
/// is no such id.
pub fn explain(rules: &RuleSet, id: &str) -> Option<String> {
    let mut out = String::new();
    if let Some(typology) = rules.typologies.iter().find(|t| t.meta.id == id) {
        explain_typology(rules, typology, &mut out);
        return Some(out);
    }
    let indicator = rules.indicators.iter().find(|i| i.meta.id == id)?;
    explain_indicator(indicator, "", &mut out);
    Some(out)
}

/// The SQL that an indicator is, or those of all indicators of a typology.
pub fn sql_of(rules: &RuleSet, id: &str) -> Option<String> {
    if let Some(indicator) = rules.indicators.iter().find(|i| i.meta.id == id && !is_gate_only(rules, id)) {
        return Some(format!("-- {}\n{};\n", indicator.meta.id, indicator.sql));
    }
    let typology = rules.typologies.iter().find(|t| t.meta.id == id)?;
    let mut out = String::new();
    for part in typology.gate.iter().chain(&typology.corroborators) {
        let indicator = &rules.indicators[part.indicator];
        let _ = writeln!(out, "-- {}\n{};\n", indicator.meta.id, indicator.sql);
    }
    Some(out)
}

/// The indicator is the query of the typology of the same id.
fn is_gate_only(rules: &RuleSet, id: &str) -> bool {
    rules.typologies.iter().any(|t| t.meta.id == id)
}

fn explain_typology(rules: &RuleSet, typology: &Typology, out: &mut String) {
    let meta = &typology.meta;
    let _ =
        writeln!(out, "{} (version {}, {}, severity {})", meta.id, meta.version, meta.status, meta.severity);
    let _ = writeln!(out, "{}\n{}\n", meta.title, typology.summary);
    let _ = writeln!(
        out,
        "About each {}; hits within {} count together. Alert from {} points, urgent from {}{}.",
        typology.subject,
        interval(typology.within_micros),
        typology.alert_at,
        typology.urgent_at,
        if typology.always_urgent { " (always urgent)" } else { "" }
    );
    let _ = writeln!(out, "\nGate, {} points, all of:", typology.gate_points);
    for part in &typology.gate {
        explain_part(rules, part, out);
    }
    if !typology.corroborators.is_empty() {
        let _ = writeln!(out, "\nCorroborators:");
        for part in &typology.corroborators {
            explain_part(rules, part, out);
        }
    }
    if !typology.exclusions.is_empty() {
        let _ = writeln!(out, "\nNothing is raised when:");
        for exclusion in &typology.exclusions {
            let _ = writeln!(out, "  - {}    [{}]", exclusion.words, exclusion.sql);
        }
    }
    let _ = writeln!(out, "\nInnocent explanations: {}", meta.false_positives.join("; "));
    let _ = writeln!(out, "References: {}", meta.references.join(", "));
    for keyword in &typology.keywords {
        let place = keyword.place.as_deref().map_or(String::new(), |p| format!(" ({p})"));
        let _ = writeln!(out, "Keyword for {}: {}{place}", keyword.fiu, keyword.keyword);
    }
    let _ = writeln!(out, "Execution: incremental (windows over hits, per {}).", typology.subject);
    let _ = writeln!(out, "File: {}", meta.file.display());
}

fn explain_part(rules: &RuleSet, part: &Part, out: &mut String) {
    let indicator = &rules.indicators[part.indicator];
    let mut head = format!("  * {}", indicator.meta.id);
    if part.points > 0 {
        let _ = write!(head, ", {} points", part.points);
    }
    if part.at_least > 1 {
        let _ = write!(head, ", at least {} hits", part.at_least);
    }
    if part.on_days > 1 {
        let _ = write!(head, ", on at least {} days", part.on_days);
    }
    for different in &part.different {
        let _ = write!(head, ", with at least {} different values of {}", different.at_least, different.text);
    }
    let _ = writeln!(out, "{head}");
    explain_indicator(indicator, "    ", out);
}

fn explain_indicator(indicator: &Indicator, indent: &str, out: &mut String) {
    let meta = &indicator.meta;
    let _ = writeln!(out, "{indent}{}: {} (version {}, {})", meta.id, meta.title, meta.version, meta.status);
    let _ = writeln!(
        out,
        "{indent}Looks at `{}`, for each {}{}{}.",
        indicator.over.name(),
        indicator.subject,
        if indicator.about == indicator.key {
            String::new()
        } else {
            format!(", about its {}", indicator.about)
        },
        indicator.row_filter.as_ref().map_or(String::new(), |f| format!(", rows with {f}"))
    );
    if let Some(keyed) = &indicator.keyed {
        let _ = writeln!(
            out,
            "{indent}Asks every {}, of each {} with a row since the last time, looking back {}:\n{indent}  {}",
            interval(keyed.every_micros),
            indicator.subject,
            interval(keyed.lookback_micros),
            keyed.query
        );
    }
    for line in indicator.sequence.iter().flat_map(crate::sequence::explain) {
        let _ = writeln!(out, "{indent}{line}");
    }
    for feature in &indicator.features {
        let label = feature.label.as_deref().map_or(String::new(), |l| format!(" ({l})"));
        let what = match &feature.kind {
            FeatureKind::Derived(sql) => sql.clone(),
            FeatureKind::Answer => "a column of the query".into(),
            FeatureKind::Step(value) => {
                let step = indicator.sequence.as_ref().and_then(|s| s.steps.get(value.step));
                let step = step.map_or("", |step| step.name.as_str());
                format!("{step}.{}", value.value.as_deref().unwrap_or("count"))
            }
            FeatureKind::Window(a) => {
                let filter = a.filter.as_ref().map_or(String::new(), |f| format!(" where {f}"));
                format!("{}{filter} over {}", a.call(), a.frame)
            }
        };
        let _ = writeln!(out, "{indent}  {}{label} = {what}", feature.name);
    }
    if !indicator.needs.is_empty() {
        let _ = writeln!(out, "{indent}Is looked at only where a feed maps: {}", indicator.needs.join(", "));
    }
    // A sequence without `when` has said all in its steps.
    let conjuncts: Vec<&Conjunct> = indicator.conjuncts.iter().filter(|c| c.sql != "true").collect();
    if !conjuncts.is_empty() {
        let _ = writeln!(out, "{indent}Holds when:");
    }
    for conjunct in conjuncts {
        let mut line = format!("{indent}  - {}", conjunct.text);
        if let Some(c) = conjunct.comparison.as_ref().filter(|c| c.threshold != conjunct.text) {
            let unit = c.unit.as_deref().map_or(String::new(), |unit| format!(" {unit}"));
            let source = c.source.as_deref().map_or(String::new(), |source| format!("; source: {source}"));
            let threshold = c.words.as_ref().unwrap_or(&c.threshold);
            let _ = write!(line, "    [threshold {threshold}{unit}{source}]");
        }
        let _ = writeln!(out, "{line}");
    }
    let _ = writeln!(out, "{indent}Says: {}", words(&indicator.explain));
    let _ = writeln!(out, "{indent}References: {}", meta.references.join(", "));
    execution(indicator, indent, out);
}

/// Class, columns, state and cost.
fn execution(indicator: &Indicator, indent: &str, out: &mut String) {
    let estimate = indicator.estimate();
    let _ = writeln!(out, "{indent}Execution: {}.", estimate.class);
    let _ = writeln!(out, "{indent}  reads: {}", indicator.columns.join(", "));
    let state = match estimate.kept_micros {
        0 => "none".to_string(),
        kept => format!(
            "about {} bytes a row, kept for {}, and {} bytes a key",
            estimate.bytes_per_row,
            interval(kept),
            estimate.bytes_per_key
        ),
    };
    let _ = writeln!(out, "{indent}  state: {state}");
    if let Some(most) = indicator.features.iter().filter_map(rows_of).max() {
        let _ = writeln!(
            out,
            "{indent}         and the latest {most} rows of every key for ever: memory grows with the number of keys"
        );
    }
    let _ = writeln!(out, "{indent}  cost:  {}", estimate.cost);
    if let Some(keyed) = &indicator.keyed {
        let _ = writeln!(out, "{indent}  plan:");
        for line in keyed.plan.lines() {
            let _ = writeln!(out, "{indent}    {line}");
        }
    }
}

/// Rows that a window of rows looks back at.
fn rows_of(feature: &Feature) -> Option<u64> {
    match &feature.kind {
        FeatureKind::Window(aggregate) => {
            aggregate.frame.rows().map(|(before, with_row)| before + u64::from(with_row))
        }
        _ => None,
    }
}

fn words(template: &Template) -> String {
    template
        .0
        .iter()
        .map(|piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Value { name, .. } => format!("{{{name}}}"),
        })
        .collect()
}
