//! Keyed queries answered anew. Which ticks there are, which keys were touched and which rows are seen is worked out here,
//! row by row, from the definition in `rules/README.md`; of the program only the author's query is taken, with its
//! parameters in place, and asked in DataFusion over these rows.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{cast, concat_batches, filter_record_batch, take_record_batch};
use arrow::datatypes::{DataType, Int64Type};
use manumit_rules::ir::{Indicator, Keyed, RuleSet, Table};
use manumit_sql::Sql;

use super::answers::{Hit, hits, plain_sql, sort};

/// The ticks at which there is something to ask: after each time comes the next multiple of `every`.
pub fn ticks(every_micros: i64, times: impl Iterator<Item = i64>) -> BTreeSet<i64> {
    times.map(|time| (time.div_euclid(every_micros) + 1) * every_micros).collect()
}

/// Rows, with the key of each and its place among all: time, feed, id, and whether it is the receiving side.
struct Rows {
    all: RecordBatch,
    keys: Vec<Option<String>>,
    places: Vec<(i64, String, String, bool)>,
}

impl Rows {
    async fn of(sql: &Sql, query: &str, key: &str) -> Result<Option<Rows>, String> {
        let batches = sql.query(query).await.map_err(|e| format!("{e}\n{query}"))?;
        let Some(first) = batches.first() else { return Ok(None) };
        let all = concat_batches(&first.schema(), &batches).unwrap();
        let text = |name: &str| -> Vec<Option<String>> {
            let Some(column) = all.column_by_name(name) else { return vec![None; all.num_rows()] };
            let column = cast(column, &DataType::Utf8).unwrap();
            column.as_string::<i32>().iter().map(|value| value.map(String::from)).collect()
        };
        let times = cast(all.column_by_name("event_time").unwrap(), &DataType::Int64).unwrap();
        let (feeds, ids, directions) = (text("feed"), text("tx_id"), text("direction"));
        let places = (times.as_primitive::<Int64Type>().values().iter().enumerate())
            .map(|(row, &time)| {
                let known = |values: &[Option<String>]| values[row].clone().unwrap_or_default();
                (time, known(&feeds), known(&ids), known(&directions) == "in")
            })
            .collect();
        Ok(Some(Rows { keys: text(key), places, all }))
    }

    fn times(&self) -> impl Iterator<Item = (i64, &str)> {
        let keyed = self.places.iter().zip(&self.keys);
        keyed.filter_map(|(place, key)| Some((place.0, key.as_deref()?)))
    }

    /// Rows of some keys in `[from, to)`.
    fn some(&self, keys: &BTreeSet<&str>, from: i64, to: i64) -> RecordBatch {
        let mask: BooleanArray = (self.places.iter().zip(&self.keys))
            .map(|((time, ..), key)| {
                let mine = key.as_deref().is_some_and(|key| keys.contains(key));
                Some(mine && from <= *time && *time < to)
            })
            .collect();
        filter_record_batch(&self.all, &mask).unwrap()
    }

    /// The latest row of each key before a time.
    fn latest(&self, keys: &BTreeSet<&str>, before: i64) -> RecordBatch {
        let mut latest: BTreeMap<&str, usize> = BTreeMap::new();
        for (row, key) in self.keys.iter().enumerate().filter(|(row, _)| self.places[*row].0 < before) {
            let Some(key) = key.as_deref().filter(|key| keys.contains(key)) else { continue };
            let known = latest.entry(key).or_insert(row);
            if self.places[*known] < self.places[row] {
                *known = row;
            }
        }
        let rows: UInt32Array = latest.values().map(|&row| Some(row as u32)).collect();
        take_record_batch(&self.all, &rows).unwrap()
    }
}

/// The hits of a keyed query over the tables of the session.
pub async fn plain(rules: &RuleSet, sql: &Sql, index: usize) -> Result<Vec<Hit>, String> {
    let indicator = &rules.indicators[index];
    let Some(keyed) = &indicator.keyed else { return Err("it is not keyed".into()) };
    let (table, key) = (indicator.over.name(), indicator.key.as_str());
    let Some(rows) = Rows::of(sql, &format!("SELECT * FROM {table}"), key).await? else {
        return Ok(Vec::new());
    };
    let read = match hits_read(rules, keyed) {
        Some(query) => Rows::of(sql, &query, "subject").await?,
        None => None,
    };
    let here = sql.scratch();
    for (name, rows) in sql.reference().get().batches().unwrap() {
        here.register(name, rows).unwrap();
    }
    let mut out = Vec::new();
    for tick in ticks(keyed.every_micros, rows.times().map(|(time, _)| time)) {
        let touched: BTreeSet<&str> = rows
            .times()
            .filter(|(time, _)| tick - keyed.every_micros <= *time && *time < tick)
            .map(|(_, key)| key)
            .collect();
        let begin = tick - keyed.lookback_micros;
        let mut tables =
            vec![(table, rows.some(&touched, begin, tick)), ("latest", rows.latest(&touched, tick))];
        tables.extend(read.iter().map(|hits| ("hits", hits.some(&touched, begin, tick))));
        if read.is_none() && !keyed.hits_of.is_empty() {
            tables.push(("hits", RecordBatch::new_empty(manumit_rules::keyed::hits_schema())));
        }
        for (name, rows) in tables {
            here.session().deregister_table(name).unwrap();
            here.register(name, rows).unwrap();
        }
        let query = at_tick(indicator, keyed, tick);
        for batch in here.query(&query).await.map_err(|e| format!("{e}\n{query}"))? {
            hits(rules, index, &batch, "subject", &mut out);
        }
    }
    sort(&mut out);
    Ok(out)
}

/// The answers of the author's query, each with the latest row of its key, where the condition holds.
fn at_tick(indicator: &Indicator, keyed: &Keyed, tick: i64) -> String {
    let key = &indicator.key;
    let direction = if indicator.over == Table::Entries { "direction, " } else { "" };
    let names: String = indicator.features.iter().map(|f| format!(", {}", f.name)).collect();
    format!(
        "WITH answer AS ({}) SELECT tx_id, event_time, {direction}{key} AS subject{names} FROM ( \
         SELECT latest.* EXCEPT (event_time), answer.* EXCEPT ({key}), \
         arrow_cast({tick}, 'Timestamp(Microsecond, Some(\"UTC\"))') AS event_time \
         FROM answer JOIN latest ON latest.{key} = answer.{key}) WHERE ({})",
        keyed.query, indicator.condition
    )
}

/// The table `hits`, of all times.
fn hits_read(rules: &RuleSet, keyed: &Keyed) -> Option<String> {
    let all: Vec<String> = keyed
        .hits_of
        .iter()
        .map(|id| {
            let other = rules.indicators.iter().find(|i| i.meta.id == *id).unwrap();
            let rows = plain_sql(other);
            // A hit's subject is whom it is about.
            format!(
                "SELECT '{id}' AS indicator, CAST({} AS VARCHAR) AS subject, h.event_time, h.tx_id FROM ({rows}) AS h \
                 JOIN {} AS r ON {} = {}",
                if other.about == other.key { "h.subject".to_string() } else { format!("r.{}", other.about) },
                other.over.name(),
                crate::oracle::row_id(other.over).replace("tx_id", "h.tx_id").replace("direction", "h.direction"),
                crate::oracle::row_id(other.over).replace("tx_id", "r.tx_id").replace("direction", "r.direction"),
            )
        })
        .collect();
    (!all.is_empty()).then(|| all.join(" UNION ALL "))
}
