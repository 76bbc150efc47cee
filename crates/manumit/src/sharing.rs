//! The one plan of a rule set in words: what is worked out and kept once, for which indicators, and in which order.

use std::fmt::Write as _;

use manumit_engine::plan::{Counts, IndicatorPlan, Item, LatestPlan, Plan, SpacePlan, TablePlan};
use manumit_rules::KEY_BYTES;
use manumit_rules::frame::interval;
use manumit_rules::ir::{Indicator, RuleSet, Typology};

/// Columns of the terminal that lists of ids fill.
const WIDTH: usize = 120;

/// Lists of ids up to this long stand beside what they use; of longer ones the number.
const FEW: usize = 3;

/// The whole plan: tables, expressions, what is kept, indicators, typologies.
pub fn of_all(rules: &RuleSet, plan: &Plan) -> String {
    let mut out = format!(
        "One plan for all rules: {}, {}, rule set {}.\n{}\n\n{ORDER}",
        many(rules.indicators.len(), "indicator"),
        match rules.typologies.len() {
            1 => "1 typology".into(),
            n => format!("{n} typologies"),
        },
        rules.hash.get(..12).unwrap_or(&rules.hash),
        line(rules, plan),
    );
    for table in &plan.tables {
        table_in_words(rules, table, &mut out);
    }
    indicators_in_words(rules, plan, &mut out);
    typologies_in_words(rules, &mut out);
    out.push_str("\n`manumit explain ID` says of one rule what it shares with whom, and what would be saved without it.\n");
    out
}

/// How much the rules share, in one line.
pub fn line(rules: &RuleSet, plan: &Plan) -> String {
    let (alone, together) = (plan.counts_unshared(), plan.counts());
    let stateful = alone.spaces;
    let at_ticks = match together.at_ticks {
        0 => String::new(),
        n => format!(", {n} answered at ticks"),
    };
    format!(
        "{} write {} expressions and {} features; {} and {} different ones are worked out, each once. Rows are kept for {} in {}{at_ticks}.",
        many(rules.indicators.len(), "indicator"),
        alone.expressions,
        alone.features,
        together.expressions,
        together.features,
        many(stateful, "indicator"),
        many_of(together.spaces, "history", "histories"),
    )
}

const ORDER: &str = "What happens to a row, the cheapest first:
  1. Expressions over the row alone, for a whole batch of rows, and each part that several have in common once for all.
     The cheap parts come first; a dear one is asked at those rows only at which they leave something open.
  2. A row of a kind that is counted goes into the history of its key (an account, a device, …), once for all rules.
  3. Of the rules whose tests of the row hold, those are left out that need more rows than the key has.
  4. The steps of a sequence are looked for; then features are compared with numbers, counts first. The first comparison
     that fails ends it. A feature that several rules use is worked out once.
  5. The other features, and what is left of the condition, for the few rows that are still there.
";

fn table_in_words(rules: &RuleSet, table: &TablePlan, out: &mut String) {
    let _ = writeln!(
        out,
        "\nTABLE {}: read once for {}, {}",
        table.table.name(),
        many(table.indicators.len(), "indicator"),
        many(table.columns.len(), "column")
    );
    let columns: Vec<&str> = table.columns.iter().map(|column| column.text.as_str()).collect();
    wrapped("  columns: ", &columns, out);
    items(rules, "  ", "Expressions over a row, each worked out once", &table.expressions, out);
    let whole: Vec<&str> = table.expressions.iter().map(|expression| expression.text.as_str()).collect();
    let parts: Vec<Item> = table
        .parts
        .iter()
        .filter(|part| part.users.len() > 1 && !whole.contains(&part.text.as_str()))
        .cloned()
        .collect();
    items(rules, "  ", "What they have in common, each part worked out once for all of them", &parts, out);
    for space in &table.spaces {
        space_in_words(rules, table, space, out);
    }
    if !table.at_ticks.is_empty() {
        let _ = writeln!(out, "\n  Asked at ticks, each query once over the rows of all keys that moved:");
        wrapped("    ", &ids(rules, &table.at_ticks), out);
    }
}

fn space_in_words(rules: &RuleSet, table: &TablePlan, space: &SpacePlan, out: &mut String) {
    let name = history(table, space);
    let _ = writeln!(out, "\n  {}: {}", name.to_uppercase(), many(space.indicators.len(), "indicator"));
    wrapped("    for ", &ids(rules, &space.indicators), out);
    if !space.keeps_rows() {
        out.push_str("    Nothing is kept: each row tells alone.\n");
        return;
    }
    let _ = writeln!(out, "    {}", row_in_words(space));
    for line in kept_in_words(rules, space) {
        let _ = writeln!(out, "    {line}");
    }
    items(rules, "    ", "Kinds of rows that are counted, a yes or no of each row kept", &space.filters, out);
    items(rules, "    ", "Values kept of each row", &space.arguments, out);
    items(rules, "    ", "Windows", &space.frames, out);
    items(rules, "    ", "Features, each worked out at most once at a row", &space.features, out);
}

/// `history of each account, over entries`.
fn history(table: &TablePlan, space: &SpacePlan) -> String {
    format!("history of each {}, over {}", space.key, table.table.name())
}

/// What a row and a key take.
fn row_in_words(space: &SpacePlan) -> String {
    format!(
        "A row that is kept takes {} bytes: its time and number, {} and {}; a key about {KEY_BYTES} bytes beside its rows.",
        8 * space.words_a_row(),
        many(space.filters.len(), "yes-or-no mark"),
        many(space.arguments.len(), "value"),
    )
}

/// How long rows are kept, and who asks for so long.
fn kept_in_words(rules: &RuleSet, space: &SpacePlan) -> Vec<String> {
    let longest = |micros: i64, of: &dyn Fn(&manumit_engine::plan::Kept) -> i64| {
        let who: Vec<usize> =
            space.kept.iter().filter(|(_, kept)| of(kept) == micros).map(|(i, _)| *i).collect();
        few(rules, &who)
    };
    let mut out = Vec::new();
    if let Some(micros) = space.windows_micros() {
        let who = longest(micros, &|kept| kept.windows_micros);
        out.push(format!(
            "Rows for windows are kept {}: the longest window and the time in which typologies count its hits ({who}).",
            interval(micros)
        ));
    }
    if let Some(micros) = space.steps_micros() {
        let who = longest(micros, &|kept| kept.steps_micros);
        out.push(format!("Rows for steps of sequences are kept {} ({who}).", interval(micros)));
    }
    for list in &space.latest {
        let who: Vec<usize> = list.before.iter().map(|&(i, _)| i).collect();
        out.push(format!("{} ({}).", latest_in_words(list), few(rules, &who)));
    }
    out
}

fn latest_in_words(list: &LatestPlan) -> String {
    format!("The latest {} with `{}` are kept for ever", many(list.most() as usize, "row"), list.rows)
}

fn indicators_in_words(rules: &RuleSet, plan: &Plan, out: &mut String) {
    out.push_str(
        "\nINDICATORS: features they use, how many of them others use too, and what would go without them\n",
    );
    let wide = rules.indicators.iter().map(|i| i.meta.id.len()).max().unwrap_or(0);
    for (i, indicator) in rules.indicators.iter().enumerate() {
        let id = &indicator.meta.id;
        let Some((_, space)) = plan.place(i) else { continue };
        let Some(space) = space else {
            let _ = writeln!(out, "  {id:wide$}  a query at ticks, shared with nobody");
            continue;
        };
        let (used, shared) = shares(&space.features, i);
        let own = goes(plan, plan.without(&[i]).counts());
        let own = if own.is_empty() { "nothing".into() } else { own.join(", ") };
        let _ = writeln!(
            out,
            "  {id:wide$}  {}, {shared} shared; without it would go: {own}",
            many(used, "feature")
        );
    }
}

fn typologies_in_words(rules: &RuleSet, out: &mut String) {
    out.push_str("\nTYPOLOGIES: indicators, and in brackets how many typologies use each\n");
    for typology in &rules.typologies {
        let name = |part: &manumit_rules::ir::Part| {
            let id = rules.indicators.get(part.indicator).map_or("", |i| i.meta.id.as_str());
            format!("{id} [{}]", typologies_of(rules, part.indicator).len())
        };
        let _ = writeln!(out, "  {}", typology.meta.id);
        let gate: Vec<String> = typology.gate.iter().map(name).collect();
        wrapped("    gate: ", &gate, out);
        if !typology.corroborators.is_empty() {
            let parts: Vec<String> = typology.corroborators.iter().map(name).collect();
            wrapped("    adds points: ", &parts, out);
        }
    }
    let alone: Vec<&str> = (0..rules.indicators.len())
        .filter(|&i| typologies_of(rules, i).is_empty())
        .map(|i| rules.indicators[i].meta.id.as_str())
        .collect();
    if !alone.is_empty() {
        wrapped("  in no typology: ", &alone, out);
    }
}

fn typologies_of(rules: &RuleSet, indicator: usize) -> Vec<&Typology> {
    let uses = |t: &&Typology| t.gate.iter().chain(&t.corroborators).any(|part| part.indicator == indicator);
    rules.typologies.iter().filter(uses).collect()
}

/// What one indicator shares with whom, in which order it is worked out, and what would be saved without it.
pub fn of_indicator(rules: &RuleSet, plan: &Plan, index: usize) -> String {
    let mut out = String::new();
    let (Some(indicator), Some((table, space))) = (rules.indicators.get(index), plan.place(index)) else {
        return out;
    };
    let _ = writeln!(
        out,
        "\nShared with the other rules (all {} run as one plan):",
        many(rules.indicators.len(), "indicator")
    );
    let (columns, columns_shared) = shares(&table.columns, index);
    let _ = writeln!(
        out,
        "  `{}` is read once for it and {}; {columns_shared} of its {} are read for others too.",
        table.table.name(),
        many(table.indicators.len() - 1, "other"),
        many(columns, "column"),
    );
    uses(rules, index, "Expressions over a row, each worked out once for all", &table.expressions, &mut out);
    if let Some(space) = space {
        of_space(rules, table, space, index, &mut out);
    }
    if let Some(own) = plan.indicators.get(index) {
        order(indicator, own, &mut out);
    }
    removed(rules, plan, index, &mut out);
    out
}

fn of_space(rules: &RuleSet, table: &TablePlan, space: &SpacePlan, index: usize, out: &mut String) {
    let others: Vec<usize> = space.indicators.iter().copied().filter(|&i| i != index).collect();
    let uses_it = space.filters.iter().any(|item| item.users.contains(&index));
    if !uses_it {
        out.push_str("  It keeps no rows: each row tells alone.\n");
        return;
    }
    let _ =
        writeln!(out, "  One {}, is kept for it and {}:", history(table, space), many(others.len(), "other"));
    if !others.is_empty() {
        wrapped("      ", &ids(rules, &others), out);
    }
    let _ = writeln!(out, "    {}", row_in_words(space));
    for line in kept_in_words(rules, space) {
        let _ = writeln!(out, "    {line}");
    }
    let parts = [
        ("kinds of rows", &space.filters),
        ("values", &space.arguments),
        ("windows", &space.frames),
        ("features", &space.features),
    ]
    .map(|(name, items)| {
        let (used, shared) = shares(items, index);
        format!("{} {name} (it uses {used}, {} alone)", items.len(), used - shared)
    });
    let _ = writeln!(out, "    In all {}.", parts.join(", "));
    uses(rules, index, "Kinds of rows that are counted", &space.filters, out);
    uses(rules, index, "Values kept of each row", &space.arguments, out);
    uses(rules, index, "Windows", &space.frames, out);
    uses(rules, index, "Features", &space.features, out);
}

/// What an indicator uses of a list, each with the others that use it.
fn uses(rules: &RuleSet, index: usize, title: &str, all: &[Item], out: &mut String) {
    let used: Vec<&Item> = all.iter().filter(|item| item.users.contains(&index)).collect();
    if used.is_empty() {
        return;
    }
    let _ = writeln!(out, "  {title}:");
    for item in used {
        let _ = writeln!(out, "    - {}", item.text);
        let others: Vec<usize> = item.users.iter().copied().filter(|&i| i != index).collect();
        match others.len() {
            0 => out.push_str("        used by no other\n"),
            n => wrapped(&format!("        and {}: ", many(n, "other")), &ids(rules, &others), out),
        }
    }
}

/// The cheapest test first.
fn order(indicator: &Indicator, plan: &IndicatorPlan, out: &mut String) {
    if indicator.keyed.is_some() {
        return;
    }
    let mut steps = vec![match plan.row_tests.as_slice() {
        [] => format!("every row of `{}` is looked at", indicator.over.name()),
        tests => format!("of the row alone, for whole batches: {}", tests.join(" AND ")),
    }];
    if plan.least_rows > 1 {
        steps.push(format!(
            "the {} has {} in its history",
            indicator.key,
            many(plan.least_rows as usize, "row")
        ));
    }
    if let Some(sequence) = &indicator.sequence {
        let others = sequence.steps.len().saturating_sub(1);
        steps.push(match others {
            1 => "the other step is looked for in its history".into(),
            n => format!("the other {n} steps are looked for in its history"),
        });
    }
    for test in &plan.tests {
        let rows = match test.least_rows {
            0 | 1 => String::new(),
            n => format!("    [only if its window has {}]", many(n as usize, "row")),
        };
        steps.push(format!("{}{rows}", test.condition));
    }
    let before = steps.len();
    if !plan.features_after.is_empty() {
        steps.push(format!("worked out now: {}", plan.features_after.join(", ")));
    }
    if !plan.decided_by_tests {
        let rest = indicator.conjuncts.iter().filter(|c| c.uses_feature);
        let rest: Vec<&str> = rest
            .map(|c| c.sql.as_str())
            .filter(|sql| !plan.tests.iter().any(|t| t.condition == *sql))
            .collect();
        steps.push(format!("what is left of the condition: {}", rest.join(" AND ")));
    }
    let _ = writeln!(out, "Order, the cheapest first; what fails ends it:");
    for (number, step) in steps.iter().enumerate() {
        let _ = writeln!(out, "  {}. {step}", number + 1);
    }
    if plan.decided_by_tests && before < steps.len() {
        let _ = writeln!(out, "  Step {} is reached by hits only.", steps.len());
    }
}

/// What would be saved without it.
fn removed(rules: &RuleSet, plan: &Plan, index: usize, out: &mut String) {
    let rest = plan.without(&[index]);
    let goes = goes(plan, rest.counts());
    let mut lines = Vec::new();
    if goes.is_empty() {
        lines.push("nothing but its condition would go: others use all that it uses".to_string());
    } else {
        lines.push(format!("these would go: {}", goes.join(", ")));
    }
    if let Some((_, Some(space))) = plan.place(index) {
        let left = rest
            .tables
            .iter()
            .flat_map(|t| &t.spaces)
            .find(|left| left.indicators.first().is_some_and(|other| space.indicators.contains(other)));
        let words = left.map_or(0, SpacePlan::words_a_row);
        if space.keeps_rows() && words == 0 {
            lines.push(format!("no history of each {} would be kept", space.key));
        } else if space.keeps_rows() {
            let now = space.words_a_row();
            lines.push(match now - words {
                0 => format!("a row kept would take {} bytes as now", 8 * now),
                less => format!(
                    "a row kept would take {} bytes in place of {}: {} less",
                    8 * words,
                    8 * now,
                    8 * less
                ),
            });
        }
        let shorter = |now: Option<i64>, then: Option<i64>, what: &str| match (now, then) {
            (Some(now), Some(then)) if then < now => Some(format!(
                "rows for {what} would be kept {} in place of {}",
                interval(then),
                interval(now)
            )),
            _ => None,
        };
        lines.extend(shorter(space.windows_micros(), left.and_then(SpacePlan::windows_micros), "windows"));
        lines.extend(shorter(space.steps_micros(), left.and_then(SpacePlan::steps_micros), "steps"));
    }
    let _ = writeln!(out, "Without it:");
    for line in lines {
        let _ = writeln!(out, "  {line}");
    }
    let typologies = typologies_of(rules, index);
    if !typologies.is_empty() {
        let names: Vec<&str> = typologies.iter().map(|t| t.meta.id.as_str()).collect();
        wrapped("  it would be missing in: ", &names, out);
    }
}

/// What a smaller plan lacks, as `2 of 88 expressions`.
fn goes(plan: &Plan, rest: Counts) -> Vec<String> {
    let all = plan.counts();
    let less = all.less(rest);
    [
        (less.columns, all.columns, "columns"),
        (less.expressions, all.expressions, "expressions"),
        (less.filters, all.filters, "kinds of rows"),
        (less.arguments, all.arguments, "values"),
        (less.frames, all.frames, "windows"),
        (less.features, all.features, "features"),
        (less.steps, all.steps, "lists of steps"),
        (less.latest, all.latest, "lists of latest rows"),
        (less.spaces, all.spaces, "histories"),
        (less.at_ticks, all.at_ticks, "queries at ticks"),
    ]
    .into_iter()
    .filter(|(less, ..)| *less > 0)
    .map(|(less, all, name)| format!("{less} of {all} {name}"))
    .collect()
}

/// What a typology's indicators share, and what would be saved without those that no other typology uses.
pub fn of_typology(rules: &RuleSet, plan: &Plan, typology: &Typology) -> String {
    let mut out =
        String::from("\nShared with the other rules (`manumit explain INDICATOR` says with which):\n");
    let mut parts: Vec<usize> =
        typology.gate.iter().chain(&typology.corroborators).map(|part| part.indicator).collect();
    parts.sort_unstable();
    parts.dedup();
    let wide = ids(rules, &parts).iter().map(|id| id.len()).max().unwrap_or(0);
    for &i in &parts {
        let id = rules.indicators.get(i).map_or("", |indicator| indicator.meta.id.as_str());
        let what = match plan.place(i) {
            Some((table, Some(space))) => {
                let (expressions, also) = shares(&table.expressions, i);
                let (features, shared) = shares(&space.features, i);
                format!(
                    "{}, {also} shared; {}, {shared} shared",
                    many(expressions, "expression"),
                    many(features, "feature")
                )
            }
            _ => "a query at ticks, shared with nobody".into(),
        };
        let others = typologies_of(rules, i).len().saturating_sub(1);
        let others = match others {
            0 => "used here only".into(),
            1 => "1 other typology uses it".into(),
            n => format!("{n} other typologies use it"),
        };
        let _ = writeln!(out, "  {id:wide$}  {what}; {others}");
    }
    let only: Vec<usize> = parts.into_iter().filter(|&i| typologies_of(rules, i).len() == 1).collect();
    let goes = goes(plan, plan.without(&only).counts());
    let _ = match (only.len(), goes.is_empty()) {
        (0, _) => {
            writeln!(out, "Without it nothing would be saved: other typologies use all of its indicators.")
        }
        (_, true) => writeln!(
            out,
            "Without it and what it alone uses nothing would be saved: others ask for the same."
        ),
        _ => writeln!(out, "Without it and what it alone uses these would go: {}", goes.join(", ")),
    };
    out
}

/// How many of a list an indicator uses, and how many of those others use too.
fn shares(items: &[Item], index: usize) -> (usize, usize) {
    let used = items.iter().filter(|item| item.users.contains(&index));
    used.fold((0, 0), |(all, shared), item| (all + 1, shared + usize::from(item.users.len() > 1)))
}

/// A list, each with how often it is used, and by whom where that is short.
fn items(rules: &RuleSet, indent: &str, title: &str, items: &[Item], out: &mut String) {
    if items.is_empty() {
        return;
    }
    let _ = writeln!(out, "{indent}{title} ({}):", items.len());
    for item in items {
        let times = match item.users.len() {
            1 => "once".to_string(),
            n => format!("{n} times"),
        };
        let who = match item.users.len() {
            n if n <= FEW => format!("    [{}]", ids(rules, &item.users).join(", ")),
            _ => String::new(),
        };
        let _ = writeln!(out, "{indent}  {times:>9}  {}{who}", item.text);
    }
}

fn ids<'a>(rules: &'a RuleSet, indicators: &[usize]) -> Vec<&'a str> {
    indicators.iter().filter_map(|&i| rules.indicators.get(i)).map(|i| i.meta.id.as_str()).collect()
}

/// The first few of them.
fn few(rules: &RuleSet, indicators: &[usize]) -> String {
    let names = ids(rules, indicators);
    match names.len().checked_sub(FEW).filter(|&more| more > 0) {
        None => names.join(", "),
        Some(more) => format!("{} and {}", names[..FEW].join(", "), many(more, "other")),
    }
}

/// A list over as many lines as it takes; the later ones are set in like the first.
fn wrapped<T: AsRef<str>>(head: &str, words: &[T], out: &mut String) {
    let indent = head.chars().take_while(|c| *c == ' ').count() + 4;
    let mut line = head.to_string();
    for (n, word) in words.iter().enumerate() {
        let comma = if n + 1 < words.len() { "," } else { "" };
        if n > 0 && line.chars().count() + word.as_ref().chars().count() + 2 > WIDTH {
            let _ = writeln!(out, "{}", line.trim_end());
            line = " ".repeat(indent);
        }
        let _ = write!(line, "{}{comma} ", word.as_ref());
    }
    let _ = writeln!(out, "{}", line.trim_end());
}

fn many(number: usize, name: &str) -> String {
    many_of(number, name, &format!("{name}s"))
}

fn many_of(number: usize, one: &str, several: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {several}") }
}
