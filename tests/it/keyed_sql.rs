//! Keyed SQL on random rows: what is found at ticks against DataFusion's answer to the same query over the whole table.

use std::path::PathBuf;

use manumit_rules::ir::RuleSet;
use manumit_rules::{Sources, load};
use manumit_sql::Sql;
use proptest::prelude::*;

use crate::stream_equals_batch::{HEAD, equal_to_batch, indicator, row};

fn query(id: &str, front: &str, sql: &str) -> [(PathBuf, String); 2] {
    let folder = PathBuf::from(format!("sql/indicators/{id}"));
    [
        (folder.join("indicator.toml"), format!("id = \"{id}\"{HEAD}{front}")),
        (folder.join("query.sql"), sql.to_string()),
    ]
}

/// Nested aggregates, self-joins, reference tables, hits, window functions, sub-queries.
pub fn rules() -> Sources {
    let every = "every = \"1 minute\"\nlookback = \"90 seconds\"\nexplain = \"{n}\"\n";
    let mut files = Vec::new();
    files.extend(query(
        "drained",
        &format!("{every}when = \"share >= 0.5\"\n"),
        "WITH parts AS (
           SELECT account, date_bin(INTERVAL '10 seconds', event_time) AS part,
             sum(amount_base) FILTER (WHERE direction = 'in') AS inflow,
             sum(CASE WHEN direction = 'in' THEN amount_base ELSE -amount_base END) AS change
           FROM entries WHERE entry_type = 'booking' GROUP BY account, date_bin(INTERVAL '10 seconds', event_time)
         ), evenings AS (
           SELECT account, inflow, sum(change) OVER (PARTITION BY account ORDER BY part) AS balance FROM parts
         )
         SELECT account, count(*) AS n, count(*) FILTER (WHERE balance < 0.5 * inflow) / count(*) AS share
         FROM evenings WHERE inflow > 0 GROUP BY account HAVING count(*) >= 2",
    ));
    files.extend(query(
        "returned",
        every,
        "SELECT a.account, count(*) AS n, max(b.amount_base) AS most
         FROM entries a JOIN entries b ON b.account = a.account AND b.counterparty = a.counterparty
           AND b.event_time > a.event_time AND b.event_time <= a.event_time + INTERVAL '20 seconds'
         WHERE a.direction = 'in' AND b.direction = 'out' GROUP BY a.account",
    ));
    files.extend(query(
        "ordered",
        every,
        "SELECT account, n, gap, place FROM (
           SELECT account, amount_base,
             count(*) OVER (PARTITION BY account) AS n,
             event_time - lag(event_time) OVER (PARTITION BY account ORDER BY event_time, tx_id, direction) > INTERVAL '9 seconds' AS gap,
             percent_rank() OVER (PARTITION BY account ORDER BY amount_base) AS place
           FROM entries WHERE amount_base IS NOT NULL
           QUALIFY row_number() OVER (PARTITION BY account ORDER BY event_time DESC, tx_id DESC, direction) <= 2
         ) WHERE place >= 0.5",
    ));
    files.extend(query(
        "after-cash",
        &format!("{every}hits_of = [\"cash-here\"]\n"),
        "SELECT e.account, count(DISTINCT e.tx_id) AS n, max(h.event_time) AS last_cash
         FROM entries e JOIN hits h ON h.subject = e.account AND h.event_time < e.event_time
         WHERE h.indicator = 'cash-here' AND e.direction = 'out' GROUP BY e.account",
    ));
    files.extend(query(
        "on-a-list",
        every,
        "SELECT e.account, count(*) AS n FROM entries e JOIN lists l ON l.list = 'cities' AND l.value = e.city
         WHERE e.amount_base > (SELECT avg(x.amount_base) FROM entries x WHERE x.account = e.account)
           AND NOT EXISTS (SELECT 1 FROM entries r WHERE r.account = e.account AND r.entry_type = 'refund' AND r.tx_id = e.tx_id)
           AND in_list(e.city, 'cities', e.event_time)
         GROUP BY e.account",
    ));
    files.extend(query(
        "by-payee",
        &format!("{every}key = \"counterparty\"\n"),
        "SELECT counterparty, count(DISTINCT account) AS n FROM entries WHERE direction = 'out' GROUP BY counterparty
         UNION ALL SELECT counterparty, -count(*) FROM entries WHERE direction = 'in' GROUP BY counterparty",
    ));
    files.push(indicator(
        "cash-here",
        "when = \"method = 'cash' AND city = 'x'\"\nexplain = \"cash in {city}\"\n",
    ));
    files.push((
        PathBuf::from("rules/lists/cities.csv"),
        "value,valid_from,valid_to,source\nx,,,test\ny,,2026-05-31,test\n".into(),
    ));
    files.push((
        PathBuf::from("rules/typologies/test/mixed/typology.toml"),
        format!(
            "id = \"mixed\"{HEAD}fiu_keywords = []\nsummary = \"Drained.\"\nwithin = \"70 seconds\"\ngate = \"drained\"\nalert_at = 60\n\
             open_for = \"60 seconds\"\nrevise_every = \"10 seconds\"\n[[corroborator]]\nindicator = \"cash-here\"\npoints = 15\n\
             [[corroborator]]\nindicator = \"returned\"\npoints = 20\n[[exclude]]\nwhen = \"memo = 'club'\"\nwords = \"a club\"\n"
        ),
    ));
    Sources::from_files(files)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn what_queries_find_at_ticks_is_datafusions_answer_whatever_the_batches(
        rows in prop::collection::vec(row(), 1..160),
    ) {
        equal_to_batch(&rules(), &rows)?;
    }
}

fn loaded(front: &str, sql: &str) -> Result<RuleSet, String> {
    let mut files = Vec::from(query("tried", front, sql));
    files.push(indicator("cash-here", "when = \"method = 'cash'\"\nexplain = \"cash\"\n"));
    load(&Sources::from_files(files), &Sql::new()).map_err(|faults| faults.to_string())
}

#[test]
fn a_query_that_cannot_be_answered_key_by_key_is_refused_with_the_reason_and_the_way_out() {
    let front = "lookback = \"30 days\"\nevery = \"1 day\"\nexplain = \"{n}\"\n";
    let cases = [
        (
            "no lookback",
            "every = \"1 day\"\nexplain = \"{n}\"\n",
            "SELECT account, count(*) AS n FROM entries GROUP BY account",
        ),
        (
            "no ticks at all",
            "explain = \"{n}\"\n",
            "SELECT account, count(*) AS n FROM entries GROUP BY account",
        ),
        (
            "two years",
            "lookback = \"800 days\"\nevery = \"1 day\"\nexplain = \"{n}\"\n",
            "SELECT account, count(*) AS n FROM entries GROUP BY account",
        ),
        (
            "often",
            "lookback = \"1 days\"\nevery = \"1 second\"\nexplain = \"{n}\"\n",
            "SELECT account, count(*) AS n FROM entries GROUP BY account",
        ),
        ("sum over all", front, "SELECT city, count(*) AS n FROM entries GROUP BY city"),
        (
            "join across keys",
            front,
            "SELECT a.account, count(*) AS n FROM entries a JOIN entries b ON b.city = a.city GROUP BY a.account",
        ),
        ("window over all", front, "SELECT account, rank() OVER (ORDER BY amount_base) AS n FROM entries"),
        (
            "average of everybody",
            front,
            "SELECT account, count(*) AS n FROM entries WHERE amount_base > (SELECT avg(amount_base) FROM entries) GROUP BY account",
        ),
        ("limit", front, "SELECT account, count(*) AS n FROM entries GROUP BY account LIMIT 10"),
        ("distinct", front, "SELECT DISTINCT city AS n FROM entries"),
        (
            "no key in the answer",
            front,
            "SELECT n FROM (SELECT account, count(*) AS n FROM entries GROUP BY account)",
        ),
        (
            "clock",
            front,
            "SELECT account, count(*) AS n FROM entries WHERE event_time > now() - INTERVAL '1 day' GROUP BY account",
        ),
        (
            "reference table kept",
            front,
            "SELECT c.account, count(e.tx_id) AS n FROM accounts c LEFT JOIN entries e ON e.account = c.account GROUP BY c.account",
        ),
        ("only reference rows", front, "SELECT account, 1 AS n FROM accounts"),
        (
            "recursive",
            front,
            "WITH RECURSIVE t AS (SELECT account, 1 AS n FROM entries UNION ALL SELECT account, n + 1 FROM t WHERE n < 3) SELECT account, n FROM t",
        ),
        (
            "order of equals",
            front,
            "SELECT account, row_number() OVER (PARTITION BY account ORDER BY event_time) AS n FROM entries",
        ),
        ("unknown table", front, "SELECT account, count(*) AS n FROM entris GROUP BY account"),
        (
            "unknown column",
            front,
            "SELECT account, count(*) AS n FROM entries WHERE amont_base > 3 GROUP BY account",
        ),
        (
            "unknown parameter",
            front,
            "SELECT account, count(*) AS n FROM entries WHERE amount_base > $least GROUP BY account",
        ),
        (
            "name of a column",
            front,
            "SELECT account, count(*) AS n, max(city) AS city FROM entries GROUP BY account",
        ),
        ("a list", front, "SELECT account, array_agg(city) AS n FROM entries GROUP BY account"),
        ("hits of nobody", front, "SELECT subject AS account, count(*) AS n FROM hits GROUP BY subject"),
        (
            "hits of an unknown one",
            "hits_of = [\"cash-her\"]\nlookback = \"30 days\"\nevery = \"1 day\"\nexplain = \"{n}\"\n",
            "SELECT e.account, count(*) AS n FROM entries e JOIN hits h ON h.subject = e.account GROUP BY e.account",
        ),
        ("not a select", front, "DROP TABLE entries"),
    ];
    let mut all = String::new();
    for (name, front, sql) in cases {
        match loaded(front, sql) {
            Ok(_) => panic!("`{name}` was taken"),
            Err(faults) => all.push_str(&format!("=== {name}\n{faults}\n\n")),
        }
    }
    insta::assert_snapshot!(all);
}

#[test]
fn the_guide_to_any_sql_holds() {
    let front = "lookback = \"30 days\"\nevery = \"1 day\"\nexplain = \"{n}\"\n";
    let as_of = "SELECT e.account, count(*) AS n FROM entries e JOIN accounts a ON a.account = e.account \
        AND e.event_time >= coalesce(a.valid_from, e.event_time) AND e.event_time < coalesce(a.valid_to, e.event_time + INTERVAL '1 second') \
        WHERE a.status = 'open' GROUP BY e.account";
    let rules = loaded(front, as_of).unwrap_or_else(|faults| panic!("{faults}"));
    let tried = rules.indicators.iter().find(|i| i.meta.id == "tried").unwrap();
    assert_eq!(tried.columns, ["account", "event_time"], "only what the query reads is kept");
    let words = manumit_rules::explain(&rules, "tried").unwrap();
    assert!(
        words.contains("keyed SQL")
            && words.contains("reads: account, event_time")
            && words.contains("plan:"),
        "{words}"
    );
}
