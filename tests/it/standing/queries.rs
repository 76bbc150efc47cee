//! Random keyed queries, answered at ticks: the SELECT and the front matter that an author would write. Whatever depends
//! on the order of rows orders them to the last, so that there is one answer.

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::rules::{Feature, Indicator, Kind, about_kind, aggregate, length, row_condition, when};

/// Share of cases with a keyed query.
pub const SHARE: f64 = 0.4;

const MINUTE: i64 = 60_000_000;

/// What stands beside the condition.
#[derive(Debug, Clone)]
pub struct Query {
    /// Column of the subject.
    pub key: &'static str,
    pub every_micros: i64,
    pub lookback_micros: i64,
    /// The indicator whose hits it reads.
    pub hits_of: Option<String>,
    pub sql: String,
}

impl Query {
    /// What the indicator's file says of it.
    pub fn front(&self) -> String {
        let (every, lookback) = (length(self.every_micros, 1), length(self.lookback_micros, 1));
        let hits = self.hits_of.iter().map(|id| format!("hits_of = [\"{id}\"]\n"));
        format!(
            "key = \"{}\"\nevery = \"{every}\"\nlookback = \"{lookback}\"\n{}",
            self.key,
            hits.collect::<String>()
        )
    }
}

/// A keyed query; it may read hits of the `others`.
pub fn indicator(rng: &mut ChaCha8Rng, number: usize, unit: i64, others: &[Indicator]) -> Indicator {
    let over = if rng.random_bool(0.8) { "entries" } else { "transactions" };
    let (subject, key) = match over {
        "entries" => *[
            ("account", "account"),
            ("account", "account"),
            ("account", "counterparty"),
            ("customer", "customer"),
            ("device", "device_id"),
        ]
        .choose(rng)
        .unwrap(),
        _ => *[("device", "device_id"), ("merchant", "merchant_id")].choose(rng).unwrap(),
    };
    let (every_micros, lookback_micros) = ticks(rng, unit);
    // Windows that DataFusion cannot say are answered for the whole table by the plain definition only.
    let readable: Vec<&Indicator> = others
        .iter()
        .filter(|i| about_kind(i) == subject && i.steps.is_none() && i.keyed.is_none())
        .filter(|i| !i.features.iter().any(|f| f.sql.contains("current row")))
        .collect();
    let mut draft = Draft { rng, over, key, unit, features: Vec::new() };
    let mut hits_of = None;
    let sql = match draft.rng.random_range(0..12) {
        0 => draft.grouped(),
        1 => draft.finer_groups(),
        2 => draft.nested(),
        3 => draft.running(),
        4 => draft.joined_with_itself(),
        5 | 6 => draft.row_by_row(),
        7 => draft.looked_up(),
        8 => draft.sub_queries(),
        9 => draft.united(),
        _ => match readable.choose(draft.rng) {
            Some(other) => {
                hits_of = Some(other.id.clone());
                draft.after_hits(&other.id)
            }
            None => draft.grouped(),
        },
    };
    let features = draft.features;
    let when = if rng.random_bool(0.4) { when(rng, over, &features) } else { "amount >= 0".into() };
    let uses_param = when.contains("$p") || sql.contains("$p");
    Indicator {
        id: format!("drawn-{number:02}"),
        over,
        subject,
        about: None,
        row_filter: None,
        steps: None,
        param: uses_param.then(|| *[0, 3, 10, 25].choose(rng).unwrap()),
        when,
        features,
        keyed: Some(Query { key, every_micros, lookback_micros, hits_of, sql }),
    }
}

/// Time between ticks, and how far each looks back. Ticks divide the week, so that rows moved by weeks meet the same ones;
/// rows stand exactly on them, and exactly on the end of the look-back.
fn ticks(rng: &mut ChaCha8Rng, unit: i64) -> (i64, i64) {
    let every = if unit >= MINUTE {
        unit * [6, 7, 8, 12, 14, 24, 28].choose(rng).unwrap()
    } else {
        MINUTE * [1, 1, 2, 60].choose(rng).unwrap()
    };
    assert_eq!(7 * 24 * 60 * MINUTE % every, 0);
    (every, every + unit * [0, 0, 1, 2, 5, 13, 40].choose(rng).unwrap())
}

/// A query as it comes about.
struct Draft<'r> {
    rng: &'r mut ChaCha8Rng,
    over: &'static str,
    key: &'static str,
    unit: i64,
    features: Vec<Feature>,
}

impl Draft<'_> {
    /// `sql AS name`, a column of the answer.
    fn column(&mut self, sql: &str, kind: Kind) -> String {
        let letter = if kind == Kind::Time { 'e' } else { 'f' };
        let name = format!("{letter}{:02}", self.features.len());
        self.features.push(Feature { name: name.clone(), sql: String::new(), kind });
        format!("{sql} AS {name}")
    }

    /// One to three aggregates over rows of the table.
    fn aggregates(&mut self) -> String {
        let columns: Vec<String> = (0..self.rng.random_range(1..=3))
            .map(|_| {
                let (call, kind) = self.call();
                let filter = self.maybe(0.4, " FILTER (WHERE ", ")");
                self.column(&format!("{call}{filter}"), kind)
            })
            .collect();
        columns.join(", ")
    }

    /// An aggregate whose value does not depend on the order of rows.
    fn call(&mut self) -> (String, Kind) {
        loop {
            let (call, kind) = aggregate(self.rng, self.over);
            if !["first_value", "last_value", "stddev"].iter().any(|name| call.starts_with(name)) {
                return (call, kind);
            }
        }
    }

    fn maybe(&mut self, probability: f64, before: &str, after: &str) -> String {
        if !self.rng.random_bool(probability) {
            return String::new();
        }
        loop {
            // Of two conditions that exclude each other DataFusion makes no rows at all, and the loader refuses that.
            let condition = row_condition(self.rng, self.over);
            if !condition.contains(") AND (") {
                return format!("{before}{condition}{after}");
            }
        }
    }

    /// `FROM …`, some of the rows.
    fn rows(&mut self) -> String {
        let (over, some) = (self.over, self.maybe(0.4, " WHERE ", ""));
        format!("FROM {over}{some}")
    }

    fn having(&mut self) -> &'static str {
        const ALL: [&str; 6] = [
            "",
            "",
            " HAVING count(*) >= 2",
            " HAVING sum(amount_base) >= $p",
            " HAVING count(DISTINCT city) < 3",
            " HAVING max(amount_base) > 2 * min(amount_base) OR count(*) = 1",
        ];
        ALL.choose(self.rng).unwrap()
    }

    fn span(&mut self) -> String {
        length(self.unit, *[1, 2, 3, 5, 8, 13].choose(self.rng).unwrap())
    }

    /// Parts of time that divide the week, so that rows moved by weeks fall into the same ones.
    fn part(&mut self) -> String {
        length(self.unit, *[1, 2, 3, 4, 6, 8, 12].choose(self.rng).unwrap())
    }

    /// All columns that tell two rows of a key apart, in an order of time.
    fn order(&self) -> &'static str {
        if self.over == "entries" { "event_time, tx_id, direction" } else { "event_time, tx_id" }
    }

    fn other(&self) -> &'static str {
        match (self.over, self.key) {
            ("entries", "counterparty") => "account",
            ("entries", _) => "counterparty",
            _ => "creditor_account",
        }
    }

    fn grouped(&mut self) -> String {
        let (key, aggregates, rows, having) = (self.key, self.aggregates(), self.rows(), self.having());
        format!("SELECT {key}, {aggregates} {rows} GROUP BY {key}{having}")
    }

    /// Several answers about one key.
    fn finer_groups(&mut self) -> String {
        let (key, rows) = (self.key, self.rows());
        let (part, kind) = [
            ("city".to_string(), Kind::Text),
            ("method".into(), Kind::Text),
            ("amount_base > 3".into(), Kind::Flag),
            (format!("date_bin(INTERVAL '{}', event_time)", self.part()), Kind::Time),
        ]
        .choose(self.rng)
        .unwrap()
        .clone();
        let named = self.column(&part, kind);
        if self.rng.random_bool(0.3) {
            return format!("SELECT DISTINCT {key}, {named} {rows}");
        }
        let (aggregates, having) = (self.aggregates(), self.having());
        format!("SELECT {key}, {named}, {aggregates} {rows} GROUP BY {key}, {part}{having}")
    }

    /// Aggregates of aggregates.
    fn nested(&mut self) -> String {
        let (key, rows, span) = (self.key, self.rows(), self.part());
        let part = [format!("date_bin(INTERVAL '{span}', event_time)"), "coalesce(city, '')".into()]
            .choose(self.rng)
            .unwrap()
            .clone();
        let few = ["n >= 2", "total > 5", "most = total"].choose(self.rng).unwrap();
        let columns = [
            self.column("count(*)", Kind::Count),
            self.column(&format!("count(*) FILTER (WHERE {few}) / count(*)"), Kind::Share),
            self.column("max(total)", Kind::Amount),
            self.column("max(n)", Kind::Count),
        ];
        let filter = ["", " WHERE n > 1", " WHERE total IS NOT NULL"].choose(self.rng).unwrap();
        format!(
            "WITH parts AS (SELECT {key}, {part} AS part, count(*) AS n, sum(amount_base) AS total, max(amount_base) AS most \
             {rows} GROUP BY {key}, {part}) SELECT {key}, {} FROM parts{filter} GROUP BY {key}",
            columns.join(", ")
        )
    }

    /// Running sums and neighbours over aggregates.
    fn running(&mut self) -> String {
        let (key, rows, span) = (self.key, self.rows(), self.part());
        let columns = [
            self.column("count(*) FILTER (WHERE balance >= before)", Kind::Count),
            self.column("min(balance)", Kind::Amount),
            self.column("max(change - before)", Kind::Amount),
        ];
        format!(
            "WITH parts AS (SELECT {key}, date_bin(INTERVAL '{span}', event_time) AS part, sum(amount_base) AS change {rows} \
             GROUP BY {key}, date_bin(INTERVAL '{span}', event_time)), run AS (SELECT {key}, change, \
             sum(change) OVER (PARTITION BY {key} ORDER BY part) AS balance, lag(change) OVER (PARTITION BY {key} ORDER BY part) AS before \
             FROM parts) SELECT {key}, {} FROM run GROUP BY {key} HAVING count(*) >= 2",
            columns.join(", ")
        )
    }

    fn joined_with_itself(&mut self) -> String {
        let (key, other, over, span) = (self.key, self.other(), self.over, self.span());
        let (left, right) = (self.maybe(0.5, " WHERE ", ""), self.maybe(0.5, " WHERE ", ""));
        let same =
            if self.rng.random_bool(0.5) { format!(" AND b.{other} = a.{other}") } else { String::new() };
        let at_least = if self.rng.random_bool(0.5) { ">" } else { ">=" };
        let join = if self.rng.random_bool(0.3) { "LEFT JOIN" } else { "JOIN" };
        let columns = [
            self.column("count(*)", Kind::Count),
            self.column("count(DISTINCT b.tx_id)", Kind::Count),
            self.column("max(b.amount_base - a.amount_base)", Kind::Amount),
        ];
        format!(
            "SELECT a.{key}, {} FROM (SELECT * FROM {over}{left}) a {join} (SELECT * FROM {over}{right}) b ON b.{key} = a.{key}{same} \
             AND b.event_time {at_least} a.event_time AND b.event_time <= a.event_time + INTERVAL '{span}' GROUP BY a.{key}",
            columns.join(", ")
        )
    }

    /// An answer for each row, of the latest few or of all.
    fn row_by_row(&mut self) -> String {
        let (key, rows, span, order) = (self.key, self.rows(), self.span(), self.order());
        let keyed = format!("PARTITION BY {key}");
        let ordered = format!("{keyed} ORDER BY {order}");
        let all = [
            (format!("lag(amount_base) OVER ({ordered})"), Kind::Amount),
            (format!("amount_base - lag(amount_base, 2) OVER ({ordered})"), Kind::Amount),
            (format!("lead(city) OVER ({ordered})"), Kind::Text),
            (format!("first_value(memo) OVER ({ordered})"), Kind::Text),
            (format!("event_time - lag(event_time) OVER ({ordered}) > INTERVAL '{span}'"), Kind::Flag),
            (format!("row_number() OVER ({ordered})"), Kind::Count),
            (format!("ntile(3) OVER ({ordered})"), Kind::Count),
            (format!("rank() OVER ({keyed} ORDER BY amount DESC)"), Kind::Count),
            (format!("dense_rank() OVER ({keyed} ORDER BY amount_base)"), Kind::Count),
            (format!("percent_rank() OVER ({keyed} ORDER BY amount)"), Kind::Number),
            (format!("cume_dist() OVER ({keyed} ORDER BY amount)"), Kind::Number),
            (
                format!("sum(amount_base) OVER ({ordered} ROWS BETWEEN 2 PRECEDING AND CURRENT ROW)"),
                Kind::Amount,
            ),
            (
                format!(
                    "count(*) OVER ({keyed} ORDER BY event_time RANGE BETWEEN INTERVAL '{span}' PRECEDING AND CURRENT ROW)"
                ),
                Kind::Count,
            ),
            (format!("max(amount_base) OVER ({keyed})"), Kind::Amount),
        ];
        let columns: Vec<String> = (0..self.rng.random_range(2..=4))
            .map(|_| {
                let (sql, kind) = all.choose(self.rng).unwrap();
                self.column(sql, *kind)
            })
            .collect();
        let latest = if self.over == "entries" {
            "event_time DESC, tx_id DESC, direction"
        } else {
            "event_time DESC, tx_id DESC"
        };
        let qualify = match self.rng.random_range(0..4) {
            0 => String::new(),
            1 => format!(" QUALIFY count(*) OVER ({keyed}) >= 3"),
            _ => format!(
                " QUALIFY row_number() OVER ({keyed} ORDER BY {latest}) <= {}",
                self.rng.random_range(1..=3)
            ),
        };
        format!("SELECT {key}, {} {rows}{qualify}", columns.join(", "))
    }

    /// Reference tables as of the row.
    fn looked_up(&mut self) -> String {
        let (key, over) = (self.key, self.over);
        let account = if over == "entries" { "account" } else { "debtor_account" };
        let as_of = "e.event_time >= coalesce(l.valid_from, e.event_time) \
                     AND e.event_time < coalesce(l.valid_to, e.event_time + INTERVAL '1 second')";
        let on = [
            format!("lists l ON l.list = 'gifts' AND l.value = e.memo AND {as_of}"),
            format!("accounts l ON l.account = e.{account} AND {as_of}"),
            "mcc_groups l ON l.mcc = e.mcc".into(),
        ];
        let on = on.choose(self.rng).unwrap();
        let join = if self.rng.random_bool(0.4) { "LEFT JOIN" } else { "JOIN" };
        let rows = self.maybe(0.4, " WHERE ", "");
        let columns = [
            self.column("count(*)", Kind::Count),
            self.column("max(e.amount_base)", Kind::Amount),
            self.column("max(e.city)", Kind::Text),
        ];
        format!(
            "SELECT e.{key}, {} FROM (SELECT * FROM {over}{rows}) e {join} {on} GROUP BY e.{key}",
            columns.join(", ")
        )
    }

    fn sub_queries(&mut self) -> String {
        let (key, over) = (self.key, self.over);
        let exists = |not: &str| {
            format!(
                "{not}EXISTS (SELECT 1 FROM {over} r WHERE r.{key} = e.{key} AND r.city = e.city AND r.event_time < e.event_time)"
            )
        };
        let inner = self.maybe(0.7, " AND (", ")");
        let all = [
            format!("e.amount_base > (SELECT avg(x.amount_base) FROM {over} x WHERE x.{key} = e.{key})"),
            format!(
                "e.amount >= (SELECT max(x.amount) FROM {over} x WHERE x.{key} = e.{key} AND x.method = 'cash')"
            ),
            exists(""),
            exists("NOT "),
            format!("e.tx_id IN (SELECT tx_id FROM {over} x WHERE x.{key} = e.{key}{inner})"),
        ];
        let conditions: Vec<&str> = all.choose_multiple(self.rng, 2).map(String::as_str).collect();
        let columns = [self.column("count(*)", Kind::Count), self.column("sum(e.amount_base)", Kind::Amount)];
        format!(
            "SELECT e.{key}, {} FROM {over} e WHERE {} GROUP BY e.{key}",
            columns.join(", "),
            conditions.join(" AND ")
        )
    }

    fn united(&mut self) -> String {
        let (key, first, second) = (self.key, self.rows(), self.rows());
        let all = if self.rng.random_bool(0.7) { "UNION ALL" } else { "UNION" };
        let columns = [self.column("count(*)", Kind::Count), self.column("sum(amount_base)", Kind::Amount)];
        format!(
            "SELECT {key}, {} {first} GROUP BY {key} {all} SELECT {key}, -count(*), min(amount_base) {second} GROUP BY {key}",
            columns.join(", ")
        )
    }

    fn after_hits(&mut self, id: &str) -> String {
        let (key, over) = (self.key, self.over);
        let rows = self.maybe(0.4, " WHERE ", "");
        // Hits after the row, too: only the tick bounds them.
        let hit = [
            "h.event_time < e.event_time",
            "h.event_time <= e.event_time",
            "h.event_time >= e.event_time",
            "h.tx_id = e.tx_id",
        ];
        let hit = hit.choose(self.rng).unwrap();
        let columns = [
            self.column("count(DISTINCT e.tx_id)", Kind::Count),
            self.column("count(*)", Kind::Count),
            self.column("max(h.event_time)", Kind::Time),
        ];
        format!(
            "SELECT e.{key}, {} FROM (SELECT * FROM {over}{rows}) e JOIN hits h ON h.subject = e.{key} AND {hit} \
             WHERE h.indicator = '{id}' GROUP BY e.{key}",
            columns.join(", ")
        )
    }
}
