//! An indicator as the SQL query that it is, and the expressions that it is made of.

use crate::ir::{Feature, FeatureKind, Function, Indicator, Table, WindowAggregate};
use crate::{keyed_sql, sequence_sql};

/// What orders rows of one time, as the engine evaluates them: the feed, then the id. A character below all others keeps
/// the two apart.
const PLACE: &str = "concat(feed, chr(31), tx_id)";

/// One standard SQL query that gives `tx_id, event_time, [direction,] subject, <features>` of every row that hits.
pub(crate) fn query(indicator: &Indicator) -> String {
    if let Some(keyed) = &indicator.keyed {
        return keyed_sql::at_tick(indicator, keyed, "$tick", &[]);
    }
    let table = indicator.over.name();
    let mut inner = String::from("SELECT *");
    for feature in &indicator.features {
        if let FeatureKind::Window(aggregate) = &feature.kind {
            inner.push_str(&format!(
                ",\n    {} AS {}",
                window(aggregate, &indicator.key, indicator.over),
                feature.name
            ));
        }
    }
    inner.push_str(&format!("\n  FROM {table}\n  WHERE {} IS NOT NULL", indicator.key));
    if let Some(filter) = &indicator.row_filter {
        inner.push_str(&format!(" AND ({filter})"));
    }
    if let Some(sequence) = &indicator.sequence {
        inner = sequence_sql::completed(indicator, sequence, &inner);
    }
    for Feature { name, kind, .. } in &indicator.features {
        if let FeatureKind::Derived(sql) = kind {
            inner = format!("SELECT *, {sql} AS {name} FROM (\n  {inner}\n)");
        }
    }
    let mut columns = vec!["tx_id".to_string(), "event_time".to_string()];
    if indicator.over == Table::Entries {
        columns.push("direction".into());
    }
    columns.push(format!("{} AS subject", indicator.key));
    columns.extend(indicator.features.iter().map(|f| f.name.clone()));
    let about = if indicator.about == indicator.key {
        String::new()
    } else {
        format!(" AND {} IS NOT NULL", indicator.about)
    };
    format!("SELECT {}\nFROM (\n  {inner}\n)\nWHERE ({}){about}", columns.join(", "), indicator.condition)
}

fn window(aggregate: &WindowAggregate, key: &str, table: Table) -> String {
    let argument = aggregate.argument.as_deref().unwrap_or("*");
    let call = match aggregate.function {
        // The standard functions of these names know no FILTER.
        Function::FirstValue => format!("earliest_by({argument}, event_time, {PLACE})"),
        Function::LastValue => format!("latest_by({argument}, event_time, {PLACE})"),
        _ => aggregate.call(),
    };
    let filter = aggregate.filter.as_ref().map_or(String::new(), |f| format!(" FILTER (WHERE {f})"));
    format!("{call}{filter} OVER ({})", aggregate.frame.sql(key, table))
}

impl Indicator {
    /// The expressions that decide it, canonical SQL: its condition and row filter, those of its steps, and what its features are made of. A
    /// query that is answered at ticks is none of them.
    pub fn expressions(&self) -> Vec<&str> {
        let mut texts: Vec<&str> = vec![&self.condition];
        texts.extend(self.row_filter.as_deref());
        for step in self.sequence.iter().flat_map(|sequence| &sequence.steps) {
            texts.extend(step.filter.as_deref());
            texts.extend(step.compared.iter().flat_map(|c| [c.own.as_str(), c.other.as_str()]));
        }
        for feature in &self.features {
            match &feature.kind {
                FeatureKind::Window(WindowAggregate { argument, weight, filter, .. }) => {
                    texts.extend([argument, weight, filter].into_iter().flatten().map(String::as_str));
                }
                FeatureKind::Step(value) => texts.extend(value.value.as_deref()),
                FeatureKind::Derived(text) => texts.push(text),
                FeatureKind::Answer => {}
            }
        }
        texts
    }
}
