//! A keyed query at one tick as one SELECT over the whole table: what it means, and what a batch engine is asked.

use std::fmt::Write as _;

use crate::frame::interval;
use crate::ir::{Indicator, Keyed, RuleSet, Table};

/// An instant as a literal that DataFusion reads exactly.
pub(crate) fn instant(micros: i64) -> String {
    format!("arrow_cast({micros}, 'Timestamp(Microsecond, Some(\"UTC\"))')")
}

/// The query at the tick: `tx_id, event_time, [direction,] subject, <features>` of every answer. `tick` is SQL for an
/// instant. `hits` are queries that give `tx_id, event_time, subject` of the indicators in `hits_of`.
pub(crate) fn at_tick(indicator: &Indicator, keyed: &Keyed, tick: &str, hits: &[(String, String)]) -> String {
    let (table, key) = (indicator.over.name(), &indicator.key);
    let (lookback, every) = (interval(keyed.lookback_micros), interval(keyed.every_micros));
    let direction = if indicator.over == Table::Entries { ", direction" } else { "" };
    let mut out = format!(
        "WITH tick_rows AS (\n  SELECT * FROM {table}\n  WHERE {key} IS NOT NULL AND event_time >= {tick} - INTERVAL '{lookback}' \
         AND event_time < {tick}\n),\ntick_latest AS (\n  SELECT * FROM (\n    SELECT *, row_number() OVER (PARTITION BY {key} \
         ORDER BY event_time DESC, feed DESC, tx_id DESC{direction}) AS tick_place FROM tick_rows\n  )\n  \
         WHERE tick_place = 1 AND event_time >= {tick} - INTERVAL '{every}'\n)"
    );
    // Before the table's own name is taken by the rows of the tick: these hits look at the whole table.
    if !hits.is_empty() {
        let all: Vec<String> = hits
            .iter()
            .map(|(id, sql)| {
                format!("SELECT '{id}' AS indicator, CAST(subject AS VARCHAR) AS subject, event_time, tx_id FROM (\n{sql}\n)")
            })
            .collect();
        let _ = write!(
            out,
            ",\nhits AS (\n  SELECT * FROM (\n{}\n  ) WHERE event_time >= {tick} - INTERVAL '{lookback}' AND event_time < {tick} \
             AND subject IN (SELECT {key} FROM tick_latest)\n)",
            all.join("\nUNION ALL\n")
        );
    }
    let _ = write!(
        out,
        ",\n{table} AS (\n  SELECT * FROM tick_rows WHERE {key} IN (SELECT {key} FROM tick_latest)\n)"
    );
    let mut columns: Vec<&str> = indicator.columns.iter().map(String::as_str).collect();
    columns.extend(["tx_id", key.as_str()]);
    columns.extend((indicator.over == Table::Entries).then_some("direction"));
    columns.sort_unstable();
    columns.dedup();
    columns.retain(|column| *column != "event_time");
    let columns: Vec<String> = columns.iter().map(|column| format!("tick_latest.{column}")).collect();
    let names: Vec<&str> = indicator.features.iter().map(|f| f.name.as_str()).collect();
    let answers: String = names.iter().map(|name| format!(", tick_answer.{name}")).collect();
    let names: String = names.iter().map(|name| format!(", {name}")).collect();
    let _ = write!(
        out,
        ",\ntick_answer AS (\n  {}\n)\nSELECT tx_id, event_time{direction}, {key} AS subject{names}\nFROM (\n  SELECT {}, {tick} AS event_time{answers} \
         FROM tick_answer JOIN tick_latest ON tick_latest.{key} = tick_answer.{key}\n)\nWHERE ({})",
        keyed.query,
        columns.join(", "),
        indicator.condition
    );
    out
}

impl Indicator {
    /// The ticks at which there is something to ask: `tick` (microseconds UTC), ascending; `None` for an indicator that
    /// is answered at every row.
    pub fn ticks_sql(&self) -> Option<String> {
        let keyed = self.keyed.as_ref()?;
        let every = keyed.every_micros;
        Some(format!(
            "SELECT DISTINCT (CAST(event_time AS BIGINT) / {every} + 1) * {every} AS tick FROM {} WHERE {} IS NOT NULL ORDER BY tick",
            self.over.name(),
            self.key
        ))
    }
}

impl RuleSet {
    /// The hits of an indicator as SQL: for keyed SQL those of one tick, for others those of the whole table.
    pub fn hits_sql(&self, indicator: &Indicator, tick: i64) -> String {
        match &indicator.keyed {
            None => indicator.sql.clone(),
            Some(keyed) => at_tick(indicator, keyed, &instant(tick), &self.hits_read(keyed)),
        }
    }

    /// Ids and SQL of the indicators whose hits a keyed query reads.
    fn hits_read(&self, keyed: &Keyed) -> Vec<(String, String)> {
        let of = |id: &String| self.indicators.iter().find(|i| i.meta.id == *id);
        keyed.hits_of.iter().filter_map(of).map(|i| (i.meta.id.clone(), about_sql(i))).collect()
    }
}

/// The hits of an indicator with whom they are about as `subject`.
fn about_sql(indicator: &Indicator) -> String {
    if indicator.about == indicator.key {
        return indicator.sql.clone();
    }
    let direction = if indicator.over == Table::Entries { ", direction" } else { "" };
    format!(
        "SELECT h.tx_id, h.event_time, r.{} AS subject FROM (\n{}\n) AS h JOIN {} AS r ON r.tx_id = h.tx_id AND r.{} = h.subject{}",
        indicator.about,
        indicator.sql,
        indicator.over.name(),
        indicator.key,
        if direction.is_empty() { "" } else { " AND r.direction = h.direction" }
    )
}
