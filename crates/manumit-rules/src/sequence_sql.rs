//! A sequence as the SQL that it means: one common table expression an anchor, each joined to the rows after it.

use std::fmt::Write as _;

use crate::frame::{interval, row_order};
use crate::ir::{FeatureKind, Indicator, Quantity, Sequence, Step};

/// The rows that complete the sequence, with all columns, the features of `inner` and those of steps: what stands behind
/// FROM. `inner`: `SELECT *, <windows> FROM … WHERE …`.
pub(crate) fn completed(indicator: &Indicator, sequence: &Sequence, inner: &str) -> String {
    let key = &indicator.key;
    let steps = &sequence.steps;
    // Every expression becomes a column of the rows, so that joins need no rewriting of names.
    let mut rows = String::from("SELECT *");
    for (i, step) in steps.iter().enumerate() {
        let filter = step.filter.as_deref().unwrap_or("true");
        let _ = write!(rows, ",\n    coalesce(({filter}), false) AS step_is_{i}");
    }
    for (c, expression) in compared(steps).iter().enumerate() {
        let _ = write!(rows, ",\n    {expression} AS step_compared_{c}");
    }
    for (f, value) in values(indicator) {
        let _ = write!(rows, ",\n    {value} AS step_value_{f}");
    }
    let _ = write!(
        rows,
        ",\n    row_number() OVER (PARTITION BY {key} ORDER BY {}) AS step_row\n  FROM (\n  {inner}\n  )",
        row_order(indicator.over)
    );
    let anchors: Vec<usize> = (0..steps.len()).filter(|&i| steps[i].is_anchor()).collect();
    let mut out = format!("WITH step_rows AS (\n  {rows}\n)");
    for (position, &i) in anchors.iter().enumerate() {
        let _ = write!(out, ",\nm{i} AS (\n  {}\n)", anchor(key, sequence, &anchors, position));
    }
    let _ = write!(out, "\n{}", chosen(indicator, steps, &anchors));
    out
}

/// Values of steps that features take: (index of the feature, SQL).
fn values(indicator: &Indicator) -> impl Iterator<Item = (usize, &str)> {
    indicator.features.iter().enumerate().filter_map(|(f, feature)| match &feature.kind {
        FeatureKind::Step(value) => value.value.as_deref().map(|sql| (f, sql)),
        _ => None,
    })
}

/// What steps compare, each expression once: two columns of one value among the keys of a join are more than Ballista can
/// keep apart behind a shuffle.
fn compared(steps: &[Step]) -> Vec<&str> {
    let mut all: Vec<&str> = Vec::new();
    for expression in steps.iter().flat_map(|step| &step.compared).flat_map(|c| [&c.own, &c.other]) {
        if !all.contains(&expression.as_str()) {
            all.push(expression);
        }
    }
    all
}

/// `AND r.step_compared_2 >= s0.step_compared_0 …` for a row under the alias `row`.
fn comparisons(steps: &[Step], i: usize, row: &str) -> String {
    let all = compared(steps);
    let column = |expression: &str| all.iter().position(|known| *known == expression).unwrap_or_default();
    let mut out = String::new();
    for compared in &steps[i].compared {
        let _ = write!(
            out,
            " AND {row}.step_compared_{} {} s{}.step_compared_{}",
            column(&compared.own),
            compared.operator.sql(),
            compared.step,
            column(&compared.other)
        );
    }
    out
}

/// The rows that can stand for the anchors so far.
fn anchor(key: &str, sequence: &Sequence, anchors: &[usize], position: usize) -> String {
    let (steps, i) = (&sequence.steps, anchors[position]);
    let step = &steps[i];
    let least = match step.quantity {
        Quantity::AtLeast(n) => n,
        _ => 1,
    };
    let Some(&before) = position.checked_sub(1).and_then(|p| anchors.get(p)) else {
        if !step.counted {
            return format!(
                "SELECT r.{key} AS step_key, r.step_row AS r{i} FROM step_rows AS r WHERE r.step_is_{i}"
            );
        }
        let span = step.within_micros.unwrap_or(sequence.within_micros);
        return format!(
            "SELECT r.{key} AS step_key, r.step_row AS r{i}, count(*) AS n{i}\n  FROM step_rows AS r JOIN step_rows AS x ON x.{key} = r.{key} \
             AND x.event_time >= r.event_time - INTERVAL '{}' AND x.event_time <= r.event_time\n  WHERE r.step_is_{i} AND x.step_is_{i}\n  \
             GROUP BY r.{key}, r.step_row HAVING count(*) >= {least}",
            interval(span)
        );
    };
    let mut kept = vec!["m.step_key".to_string()];
    for &a in &anchors[..position] {
        kept.push(format!("m.r{a}"));
        if steps[a].counted {
            kept.push(format!("m.n{a}"));
        }
    }
    kept.push(format!("r.step_row AS r{i}"));
    let mut from = format!("m{before} AS m");
    for &a in &anchors[..position] {
        let _ =
            write!(from, "\n  JOIN step_rows AS s{a} ON s{a}.{key} = m.step_key AND s{a}.step_row = m.r{a}");
    }
    let _ = write!(
        from,
        "\n  JOIN step_rows AS r ON r.{key} = m.step_key AND r.event_time > s{before}.event_time \
         AND r.event_time <= s{}.event_time + INTERVAL '{}'",
        anchors[0],
        interval(sequence.within_micros)
    );
    if let Some(within) = step.within_micros {
        let _ = write!(from, " AND r.event_time <= s{before}.event_time + INTERVAL '{}'", interval(within));
    }
    let mut filter = format!("r.step_is_{i}{}", comparisons(steps, i, "r"));
    for not in (before + 1..i).filter(|&n| steps[n].quantity == Quantity::Not) {
        let _ = write!(
            filter,
            "\n    AND NOT EXISTS (SELECT 1 FROM step_rows AS x WHERE x.{key} = m.step_key AND x.step_is_{not} \
             AND x.event_time > s{before}.event_time AND x.event_time < r.event_time{})",
            comparisons(steps, not, "x")
        );
    }
    if !step.counted {
        return format!("SELECT {}\n  FROM {from}\n  WHERE {filter}", kept.join(", "));
    }
    let _ = write!(
        from,
        "\n  JOIN step_rows AS x ON x.{key} = m.step_key AND x.event_time > s{before}.event_time AND x.event_time <= r.event_time"
    );
    let _ = write!(filter, "\n    AND x.step_is_{i}{}", comparisons(steps, i, "x"));
    let groups: Vec<String> = kept.iter().map(|k| k.split(" AS ").next().unwrap_or(k).to_string()).collect();
    format!(
        "SELECT {}, count(*) AS n{i}\n  FROM {from}\n  WHERE {filter}\n  GROUP BY {} HAVING count(*) >= {least}",
        kept.join(", "),
        groups.join(", ")
    )
}

/// Of the ways to complete the sequence at a row the latest, with the values of its steps.
fn chosen(indicator: &Indicator, steps: &[Step], anchors: &[usize]) -> String {
    let key = &indicator.key;
    let last = anchors.last().copied().unwrap_or(0);
    let mut select = String::from("SELECT r.*");
    for (f, feature) in indicator.features.iter().enumerate() {
        let FeatureKind::Step(value) = &feature.kind else { continue };
        let step = value.step;
        let alias = if step == last { "r".to_string() } else { format!("s{step}") };
        let sql = match (&value.value, steps[step].quantity) {
            (Some(_), _) => format!("{alias}.step_value_{f}"),
            (None, Quantity::AtLeast(_)) => format!("m.n{step}"),
            (None, _) => format!("CAST(CASE WHEN {alias}.step_row IS NULL THEN 0 ELSE 1 END AS BIGINT)"),
        };
        let _ = write!(select, ", {sql} AS {}", feature.name);
    }
    let mut from =
        format!("m{last} AS m\n    JOIN step_rows AS r ON r.{key} = m.step_key AND r.step_row = m.r{last}");
    let mut order: Vec<String> = Vec::new();
    for &a in anchors.iter().rev().skip(1) {
        let _ = write!(
            from,
            "\n    JOIN step_rows AS s{a} ON s{a}.{key} = m.step_key AND s{a}.step_row = m.r{a}"
        );
        order.push(format!("m.r{a} DESC"));
    }
    for o in (0..steps.len()).filter(|&o| steps[o].quantity == Quantity::Optional) {
        let before = anchors.iter().copied().filter(|&a| a < o).max().unwrap_or(0);
        let after = anchors.iter().copied().find(|&a| a > o).unwrap_or(last);
        let after = if after == last { "r".to_string() } else { format!("s{after}") };
        let _ = write!(
            from,
            "\n    LEFT JOIN step_rows AS s{o} ON s{o}.{key} = m.step_key AND s{o}.step_is_{o} \
             AND s{o}.event_time > s{before}.event_time AND s{o}.event_time < {after}.event_time{}",
            comparisons(steps, o, &format!("s{o}"))
        );
        order.push(format!("s{o}.step_row DESC"));
    }
    format!(
        "SELECT * FROM (\n  {select}, row_number() OVER (PARTITION BY m.step_key, m.r{last} ORDER BY {}) AS step_choice\n  FROM {from}\n) WHERE step_choice = 1",
        order.join(", ")
    )
}
