//! Two answers to an indicator that do not come from the engine: its own SQL in DataFusion's window operators, and the
//! plain definition, a join of each row with the rows that its windows count.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Float64Type};
use manumit_rules::frame::{Extent, Frame};
use manumit_rules::ir::{FeatureKind, Function, Indicator, RuleSet, Table, WindowAggregate};
use manumit_sql::Sql;

use crate::oracle::cell;

/// One hit: what tells it from others, and its values.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    pub indicator: usize,
    pub tx_id: String,
    pub direction: String,
    pub subject: String,
    pub time: i64,
    /// Name and value of each feature.
    pub values: Vec<(String, Value)>,
}

/// A feature's value: text is exact, a float is not.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Text(String),
    Float(f64),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => f.write_str(text),
            Value::Float(number) => write!(f, "{number:.6}"),
        }
    }
}

impl fmt::Display for Hit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "indicator {} {} {} at {} {}:",
            self.indicator, self.tx_id, self.direction, self.time, self.subject
        )?;
        self.values.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
    }
}

impl Value {
    fn equals(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Float(a), Value::Float(b)) => (a - b).abs() <= 1e-9 * b.abs().max(1.0),
            (a, b) => a == b,
        }
    }
}

/// Hits in a batch of the engine or of a query; `subject` is the column of the subject.
pub fn hits(rules: &RuleSet, indicator: usize, batch: &RecordBatch, subject: &str, out: &mut Vec<Hit>) {
    let column =
        |name: &str| batch.column_by_name(name).unwrap_or_else(|| panic!("no column {name}")).as_ref();
    let times = arrow::compute::cast(column("event_time"), &DataType::Int64).unwrap();
    let times = times.as_primitive::<arrow::datatypes::Int64Type>().clone();
    for row in 0..batch.num_rows() {
        let value = |name: &str| {
            let array = column(name);
            match array.data_type() {
                DataType::Float64 if array.is_valid(row) => {
                    Value::Float(array.as_primitive::<Float64Type>().value(row))
                }
                _ => Value::Text(cell(array, row)),
            }
        };
        let over = rules.indicators[indicator].over;
        out.push(Hit {
            indicator,
            tx_id: cell(column("tx_id"), row),
            direction: if over == Table::Entries { cell(column("direction"), row) } else { String::new() },
            subject: cell(column(subject), row),
            time: times.value(row),
            values: rules.indicators[indicator]
                .features
                .iter()
                .map(|f| (f.name.clone(), value(&f.name)))
                .collect(),
        });
    }
}

/// An order for sets of hits; equal hits stay beside each other, so that one told twice shows. A keyed query may give several
/// hits that differ in their values only.
pub fn sort(hits: &mut [Hit]) {
    hits.sort_by_cached_key(|h| {
        let values: Vec<String> = h.values.iter().map(|(_, value)| value.to_string()).collect();
        (h.indicator, h.time, h.tx_id.clone(), h.direction.clone(), h.subject.clone(), values)
    });
}

/// What differs between two sorted sets of hits, if anything; features whose names begin with one of `leave_out` are not
/// compared.
pub fn difference(rules: &RuleSet, ours: &[Hit], theirs: &[Hit], leave_out: &[char]) -> Option<String> {
    let key = |h: &Hit| (h.indicator, h.time, h.tx_id.clone(), h.direction.clone(), h.subject.clone());
    let mut told = Vec::new();
    let (mut a, mut b) = (0, 0);
    while (a < ours.len() || b < theirs.len()) && told.len() < 12 {
        let order = match (ours.get(a), theirs.get(b)) {
            (Some(x), Some(y)) => key(x).cmp(&key(y)),
            (Some(_), None) => std::cmp::Ordering::Less,
            _ => std::cmp::Ordering::Greater,
        };
        match order {
            std::cmp::Ordering::Less => {
                told.push(format!("too much: {}", ours[a]));
                a += 1;
            }
            std::cmp::Ordering::Greater => {
                told.push(format!("missing:  {}", theirs[b]));
                b += 1;
            }
            std::cmp::Ordering::Equal => {
                let same = ours[a]
                    .values
                    .iter()
                    .zip(&theirs[b].values)
                    .all(|((name, x), (_, y))| name.starts_with(leave_out) || x.equals(y));
                if !same {
                    told.push(format!("ours:     {}\n  theirs:   {}", ours[a], theirs[b]));
                }
                a += 1;
                b += 1;
            }
        }
    }
    let names = |i: usize| rules.indicators.get(i).map_or("?", |i| i.meta.id.as_str());
    (!told.is_empty()).then(|| {
        let ids: Vec<String> = (0..rules.indicators.len()).map(|i| format!("{i} = {}", names(i))).collect();
        format!("{} hits against {} ({}):\n  {}", ours.len(), theirs.len(), ids.join(", "), told.join("\n  "))
    })
}

/// DataFusion knows all windows of the indicator.
pub fn has_window_sql(indicator: &Indicator) -> bool {
    !windows(indicator)
        .any(|(_, aggregate)| aggregate.frame.excludes_row && rows_of(&aggregate.frame).is_none())
}

/// How many rows a window of rows has, by its words (`10 rows`); `None` for windows of time.
fn rows_of(frame: &Frame) -> Option<i64> {
    frame.to_string().split_once(" rows")?.0.parse().ok()
}

fn windows(indicator: &Indicator) -> impl Iterator<Item = (&str, &WindowAggregate)> {
    indicator.features.iter().filter_map(|feature| match &feature.kind {
        FeatureKind::Window(aggregate) => Some((feature.name.as_str(), aggregate)),
        _ => None,
    })
}

/// Runs a query for the hits of one indicator.
pub async fn answer(rules: &RuleSet, sql: &Sql, indicator: usize, query: &str) -> Result<Vec<Hit>, String> {
    let batches = sql.query(query).await.map_err(|e| format!("{e}\n{query}"))?;
    let mut out = Vec::new();
    for batch in batches {
        hits(rules, indicator, &batch, "subject", &mut out);
    }
    sort(&mut out);
    Ok(out)
}

/// The rows and ticks of a keyed query's hits, as a query for `id, event_time` over a table that is made for it.
pub fn hit_rows(sql: &Sql, indicator: usize, hits: &[Hit]) -> String {
    let ids: StringArray = hits.iter().map(|hit| Some(format!("{}{}", hit.tx_id, hit.direction))).collect();
    let times: TimestampMicrosecondArray = hits.iter().map(|hit| Some(hit.time)).collect();
    let columns: [(&str, ArrayRef); 2] =
        [("id", Arc::new(ids)), ("event_time", Arc::new(times.with_timezone("UTC")))];
    let name = format!("hits_{indicator}");
    sql.session().deregister_table(&name).unwrap();
    sql.register(&name, RecordBatch::try_from_iter(columns).unwrap()).unwrap();
    format!("SELECT id, event_time FROM {name}")
}

/// The indicator told anew, without windows: each row joined with the rows that count for it, one join a feature.
pub fn plain_sql(indicator: &Indicator) -> String {
    let (table, key) = (indicator.over.name(), &indicator.key);
    let id = crate::oracle::row_id(indicator.over);
    let filter = indicator.row_filter.as_ref().map_or(String::new(), |f| format!(" AND ({f})"));
    let rows = format!("SELECT *, {id} AS row_id FROM {table} WHERE {key} IS NOT NULL{filter}");
    let side = if indicator.over == Table::Entries { "direction DESC" } else { "tx_id" };
    let mut from = format!("({rows}) AS base");
    let mut select = "base.*".to_string();
    for (name, aggregate) in windows(indicator) {
        from += &format!(
            " JOIN ({}) AS q_{name} ON q_{name}.own_id = base.row_id",
            feature(&rows, key, side, aggregate)
        );
        select += &format!(", q_{name}.value AS {name}");
    }
    let mut inner = format!("SELECT {select} FROM {from}");
    for f in &indicator.features {
        if let FeatureKind::Derived(sql) = &f.kind {
            inner = format!("SELECT *, {sql} AS {} FROM ({inner})", f.name);
        }
    }
    let direction = if indicator.over == Table::Entries { "direction, " } else { "" };
    let names: String = indicator.features.iter().map(|f| format!(", {}", f.name)).collect();
    format!(
        "SELECT tx_id, event_time, {direction}{key} AS subject{names} FROM ({inner}) WHERE ({}) AND {} IS NOT NULL",
        indicator.condition, indicator.about
    )
}

/// `own_id, value` of every row.
fn feature(rows: &str, key: &str, side: &str, aggregate: &WindowAggregate) -> String {
    let frame = aggregate.frame;
    let period = if let Extent::Calendar(period, zone) = frame.extent {
        format!("CAST(date_trunc('{}', event_time AT TIME ZONE '{zone}') AS VARCHAR)", period.name())
    } else {
        "''".to_string()
    };
    let one = |argument: &Option<String>| argument.clone().unwrap_or_else(|| "1".into());
    let (argument, weight) = (one(&aggregate.argument), one(&aggregate.weight));
    let counted = aggregate.filter.as_ref().map_or("true".to_string(), |f| format!("coalesce(({f}), false)"));
    let begins = if let Some(count) = rows_of(&frame) {
        // So many rows back from the row itself, or from the one before it.
        format!("x.place > r.place - {} AND x.place <= r.place", count + i64::from(frame.excludes_row))
    } else if let Extent::Rolling(micros) = frame.extent {
        format!("x.at {} r.at - {micros}", if frame.excludes_start { ">" } else { ">=" })
    } else {
        "x.period = r.period".into()
    };
    let ends = format!("x.at {} r.at", if frame.excludes_end { "<" } else { "<=" });
    let other = if frame.excludes_row { " AND x.row_id <> r.row_id" } else { "" };
    let call = match aggregate.function {
        Function::Count if aggregate.argument.is_none() => "count(x.row_id)".to_string(),
        Function::Count => "count(x.argument)".into(),
        Function::CountDistinct => "count(DISTINCT x.argument)".into(),
        Function::Sum => "sum(x.argument)".into(),
        Function::Avg => "avg(x.argument)".into(),
        Function::Min => "min(x.argument)".into(),
        Function::Max => "max(x.argument)".into(),
        Function::Stddev => "stddev(x.argument)".into(),
        Function::FirstValue => {
            "earliest_by(x.argument, x.event_time, concat(x.feed, chr(31), x.tx_id))".into()
        }
        Function::LastValue => "latest_by(x.argument, x.event_time, concat(x.feed, chr(31), x.tx_id))".into(),
        Function::TopShare if aggregate.weight.is_none() => "top_share(x.argument)".into(),
        Function::TopShare => "top_share(x.argument, x.weight)".into(),
    };
    let table = format!(
        "SELECT row_id, tx_id, feed, event_time, {key} AS k, CAST(event_time AS BIGINT) AS at, {period} AS period, \
         row_number() OVER (PARTITION BY {key} ORDER BY event_time, feed, tx_id, {side}) AS place, \
         ({argument}) AS argument, ({weight}) AS weight, {counted} AS counted FROM ({rows})"
    );
    format!(
        "SELECT r.row_id AS own_id, {call} FILTER (WHERE x.counted) AS value FROM ({table}) AS r LEFT JOIN ({table}) AS x \
         ON x.k = r.k AND {begins} AND {ends}{other} GROUP BY r.row_id"
    )
}
