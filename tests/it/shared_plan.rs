//! What `explain` says of the one plan of a rule set: that it is so, and how it is said.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use manumit::project::Project;
use manumit::sharing;
use manumit_engine::plan::{Counts, Item, Plan};
use manumit_rules::ir::RuleSet;
use manumit_rules::{Sources, load};
use manumit_sql::Sql;

use crate::standing::{Case, rules};

/// The rule set with some of its indicators only; typologies lose their parts, and may lose all of them.
fn keeping(rules: &RuleSet, keeps: impl Fn(usize) -> bool) -> Arc<RuleSet> {
    let kept: Vec<usize> = (0..rules.indicators.len()).filter(|&i| keeps(i)).collect();
    let mut less = rules.clone();
    less.indicators = kept.iter().map(|&i| rules.indicators[i].clone()).collect();
    for typology in &mut less.typologies {
        for parts in [&mut typology.gate, &mut typology.corroborators] {
            parts.retain(|part| kept.contains(&part.indicator));
            parts.iter_mut().for_each(|part| part.indicator = kept.binary_search(&part.indicator).unwrap());
        }
    }
    Arc::new(less)
}

/// All that a plan says, with indicators by their ids.
fn said(plan: &Plan, rules: &RuleSet) -> Vec<String> {
    let ids = |users: &[usize]| -> String {
        users.iter().map(|&i| rules.indicators[i].meta.id.as_str()).collect::<Vec<_>>().join(" ")
    };
    let mut out = Vec::new();
    for table in &plan.tables {
        let at = table.table.name();
        out.push(format!("{at}: {} / {}", ids(&table.indicators), ids(&table.at_ticks)));
        let mut all = |at: &str, what: &str, items: &[Item]| {
            out.extend(items.iter().map(|item| format!("{at} {what} {} <- {}", item.text, ids(&item.users))));
        };
        all(at, "column", &table.columns);
        all(at, "expression", &table.expressions);
        all(at, "part", &table.parts);
        for space in &table.spaces {
            let at = format!("{at} {} of {}", space.key, ids(&space.indicators));
            all(&at, "filter", &space.filters);
            all(&at, "timed", &space.timed);
            all(&at, "steps", &space.steps);
            all(&at, "argument", &space.arguments);
            all(&at, "frame", &space.frames);
            all(&at, "feature", &space.features);
        }
        for space in &table.spaces {
            let latest: Vec<String> = space
                .latest
                .iter()
                .map(|list| {
                    let before = list.before.iter().map(|&(i, rows)| format!("{} {rows}", ids(&[i])));
                    format!("{} <- {}", list.rows, before.collect::<Vec<_>>().join(" "))
                })
                .collect();
            out.push(format!(
                "{} {latest:?} {:?} {:?} {:?}",
                space.key,
                space.windows_micros(),
                space.steps_micros(),
                space.counts()
            ));
        }
    }
    out.sort();
    out
}

/// Compiles the rules without each of the indicators, and each alone, and compares with what the whole plan promised.
fn holds_what_it_promises(rules: RuleSet, sql: &Sql, seed: &str) {
    let rules = Arc::new(rules);
    let plan = Plan::of(&rules, sql).unwrap();
    let mut unshared = Counts::default();
    for index in 0..rules.indicators.len() {
        let id = &rules.indicators[index].meta.id;
        let less = keeping(&rules, |i| i != index);
        let compiled = Plan::of(&less, sql).unwrap();
        let promised = plan.without(&[index]);
        assert_eq!(said(&promised, &rules), said(&compiled, &less), "{seed}: without {id}");
        assert_eq!(promised.counts(), compiled.counts(), "{seed}: without {id}");
        let alone = Plan::of(&keeping(&rules, |i| i == index), sql).unwrap();
        unshared = unshared.and(alone.counts());
    }
    assert_eq!(plan.counts_unshared(), unshared, "{seed}");
}

#[test]
fn without_an_indicator_of_the_pack_a_plan_has_what_explain_promised() {
    let project = Project::at(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")));
    let sql = Sql::new();
    let rules = project.rules(&sql).unwrap();
    holds_what_it_promises(rules, &sql, "pack");
}

#[test]
fn without_an_indicator_that_was_drawn_a_plan_has_what_explain_promised() {
    for seed in 0..25 {
        let case = Case::draw(seed);
        let sql = Sql::new();
        let rules = rules::loaded(&case.indicators, &case.typologies, &sql).unwrap();
        holds_what_it_promises(rules, &sql, &format!("seed {seed}"));
    }
}

fn indicator(id: &str, body: &str) -> (PathBuf, String) {
    let text = format!(
        "id = \"{id}\"\nversion = 1\nstatus = \"draft\"\ntitle = \"Drawn\"\nseverity = \"low\"\nexploitation = [\"any\"]\n\
         references = [\"test\"]\nfalse_positives = [\"none\"]\nexplain = \"a row\"\n{body}"
    );
    (PathBuf::from(format!("rules/indicators/{id}.toml")), text)
}

/// Two that share much, one that shares little, one that keeps nothing, and one over another key.
fn small() -> (RuleSet, Sql) {
    let files = vec![
        indicator(
            "many-payers",
            "subject = \"account\"\nwhere = \"entry_type = 'booking'\"\n\
             when = \"direction = 'in' AND payers >= 5 AND inflow >= 1000 AND inflow > 2 * amount_base\"\n[features]\n\
             payers = \"count(DISTINCT counterparty) FILTER (WHERE direction = 'in') OVER 7 days\"\n\
             inflow = \"sum(amount_base) FILTER (WHERE direction = 'in') OVER 7 days\"\n",
        ),
        indicator(
            "out-at-once",
            "subject = \"account\"\nwhere = \"entry_type = 'booking'\"\n\
             when = \"direction = 'out' AND amount_base > 0.8 * inflow\"\n[features]\n\
             inflow = \"sum(amount_base) FILTER (WHERE direction = 'in') OVER 7 days\"\n\
             latest = \"last_value(city) OVER 30 days\"\n",
        ),
        indicator(
            "cash-then-abroad",
            "subject = \"account\"\nwithin = \"2 days\"\n[[step]]\nname = \"cash\"\nwhen = \"method = 'cash'\"\n\
             [[step]]\nname = \"abroad\"\nwhen = \"direction = 'out' AND amount_base > cash.amount_base\"\n",
        ),
        indicator("memo-word", "subject = \"account\"\nwhen = \"direction = 'in' AND memo = 'club'\"\n"),
        indicator(
            "busy-device",
            "subject = \"device\"\nwhen = \"rows >= 10\"\n[features]\nrows = \"count(*) OVER 10 rows\"\n",
        ),
        (
            PathBuf::from("rules/typologies/test/collector/typology.toml"),
            "id = \"collector\"\nversion = 1\nstatus = \"draft\"\ntitle = \"Collector\"\nseverity = \"low\"\n\
             exploitation = [\"any\"]\nreferences = [\"test\"]\nfalse_positives = [\"none\"]\nfiu_keywords = []\n\
             summary = \"Money comes and goes.\"\nsubject = \"account\"\nwithin = \"14 days\"\ngate = \"many-payers\"\n\
             alert_at = 60\nopen_for = \"14 days\"\nrevise_every = \"1 days\"\n[[corroborator]]\nindicator = \"memo-word\"\n\
             points = 15\n[[corroborator]]\nindicator = \"out-at-once\"\npoints = 15\n"
                .into(),
        ),
    ];
    let sql = Sql::new();
    let rules = load(&Sources::from_files(files), &sql).unwrap_or_else(|faults| panic!("{faults}"));
    (rules, sql)
}

#[test]
fn the_one_plan_is_told_from_tables_to_typologies() {
    let (mut rules, sql) = small();
    rules.hash = "of the rules".into();
    let rules = Arc::new(rules);
    insta::assert_snapshot!(sharing::of_all(&rules, &Plan::of(&rules, &sql).unwrap()));
}

#[test]
fn an_indicator_is_told_with_what_it_shares_with_whom_and_what_would_go_without_it() {
    let (rules, sql) = small();
    let rules = Arc::new(rules);
    let plan = Plan::of(&rules, &sql).unwrap();
    let told: Vec<String> = (0..rules.indicators.len())
        .map(|i| format!("== {}{}", rules.indicators[i].meta.id, sharing::of_indicator(&rules, &plan, i)))
        .collect();
    let typology = sharing::of_typology(&rules, &plan, &rules.typologies[0]);
    insta::assert_snapshot!(format!("{}\n== collector{typology}", told.join("\n")));
}
