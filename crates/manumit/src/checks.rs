//! What users check before anything runs: rules, feeds, configuration.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::bail;
use manumit_engine::plan::Plan;
use manumit_feed::Feed;
use manumit_rules::ir::RuleSet;
use manumit_sql::Sql;
use manumit_sql::reference::Table;

use crate::config::Config;
use crate::pipeline::Input;
use crate::project::Project;
use crate::reference::load_reference;
use crate::sharing;

/// Headings of the README beside a typology.
const HEADINGS: [&str; 9] = [
    "What it finds",
    "Why it matters",
    "Sources",
    "What it looks like",
    "Known false positives, and what is excluded",
    "Known misses and evasion",
    "What an analyst should check",
    "Evidence so far",
    "Changes",
];

/// What keeps no run from starting, and whoever releases rules should know: typologies that nobody can read up on or that no case holds, and
/// indicators that run for nothing.
fn unfinished(project: &Project, rules: &RuleSet) -> Vec<String> {
    let mut lines = Vec::new();
    // What is built in has its own tests.
    let Some(root) = project.folder() else { return lines };
    for typology in rules.typologies.iter().filter(|typology| typology.meta.status != "draft") {
        let id = &typology.meta.id;
        let beside = |name: &str| root.join(typology.meta.file.with_file_name(name));
        match std::fs::read_to_string(beside("README.md")) {
            Ok(text) => {
                let there = |heading: &&str| text.lines().any(|line| line.trim() == format!("## {heading}"));
                let missing: Vec<&str> = HEADINGS.into_iter().filter(|heading| !there(heading)).collect();
                if !missing.is_empty() {
                    lines
                        .push(format!("the README.md of `{id}` lacks the headings: {}", missing.join(" · ")));
                }
            }
            Err(_) => {
                lines.push(format!("`{id}` has no README.md that says what it finds and what it misses"))
            }
        }
        if !beside("cases.toml").exists() {
            lines.push(format!("`{id}` has no cases.toml: nothing holds it (rules/CASES.md)"));
        }
    }
    let parts =
        rules.typologies.iter().flat_map(|typology| typology.gate.iter().chain(&typology.corroborators));
    let mut used: BTreeSet<&str> =
        parts.filter_map(|part| rules.indicators.get(part.indicator)).map(|i| i.meta.id.as_str()).collect();
    used.extend(
        rules.indicators.iter().filter_map(|i| i.keyed.as_ref()).flat_map(|k| &k.hits_of).map(String::as_str),
    );
    let idle = rules.indicators.iter().map(|i| i.meta.id.as_str()).filter(|id| !used.contains(id));
    lines.extend(idle.map(|id| {
        format!("no typology uses the indicator `{id}`, and it runs all the same: retire it if nobody reads its hits")
    }));
    lines
}

/// Checks all rules, feeds, reference tables and the configuration.
///
/// # Errors
/// Everything that would keep a run from starting, rendered with place and mend.
pub fn check(project: &Project, config: &Config) -> anyhow::Result<String> {
    let mut out = String::new();
    let mut faults = Vec::new();
    let sql = Sql::new();
    let mut about_groups = false;
    let horizon = config.duplicates.horizon_micros();
    let plan = config.archive.plan();
    match project.rules(&sql) {
        Ok(rules) => {
            let mut config = config.clone();
            // Files that cannot be read are told below.
            let files = crate::reference::bytes_of_files(&config).unwrap_or(0);
            let settled = crate::limits::settle(&mut config, crate::limits::DEFAULT_RECORD, files);
            if let Err(error) = settled.and_then(|()| crate::budget::check(&rules, &config)) {
                faults.push(format!("{error:#}"));
            }
            if let Ok(Some(plan)) = &plan
                && let Err(error) = crate::archive::lookback::check(&rules, plan)
            {
                faults.push(format!("{error:#}"));
            }
            let _ = writeln!(
                out,
                "rules: {} indicators, {} typologies{}, rule set {}",
                rules.indicators.len(),
                rules.typologies.len(),
                match rules.retired.len() {
                    0 => String::new(),
                    retired => format!(", {retired} retired"),
                },
                &rules.hash[..12.min(rules.hash.len())]
            );
            match project.sources().and_then(|sources| crate::coverage::check(&rules, &sources)) {
                Ok(lines) => out.extend(lines.into_iter().map(|line| line + "\n")),
                Err(error) => faults.push(format!("{error:#}")),
            }
            out.extend(unfinished(project, &rules).into_iter().map(|line| format!("warning: {line}\n")));
            about_groups = rules.typologies.iter().any(|typology| typology.subject == "group");
            let rules = Arc::new(rules);
            match Plan::of(&rules, &sql) {
                Ok(plan) => {
                    let _ = writeln!(out, "plan: {}", sharing::line(&rules, &plan));
                }
                Err(error) => faults.push(error.to_string()),
            }
        }
        Err(error) => faults.push(format!("{error:#}")),
    }
    for name in project.feed_names() {
        match project.feed(&name, &sql, &[]) {
            Ok(feed) => {
                let _ = writeln!(out, "feed {name}: {} canonical columns", feed.columns().len());
            }
            Err(error) => faults.push(format!("{error:#}")),
        }
    }
    for name in &config.feeds {
        if !project.feed_names().contains(name) && !name.ends_with(".sql") {
            faults.push(format!("manumit.toml names the feed `{name}`, which does not exist"));
        }
    }
    if config.idle().is_none() {
        faults.push(format!("`idle_after` is `{}`; write for example `30 seconds`", config.idle_after));
    }
    if let Err(error) = config.future() {
        faults.push(format!("{error:#}"));
    }
    if let Err(error) = horizon {
        faults.push(format!("{error:#}"));
    }
    if let Err(error) = plan {
        faults.push(format!("{error:#}"));
    }
    if let Err(error) = crate::checkpoint::delivery::check(config, true) {
        faults.push(format!("{error:#}"));
    }
    if !config.kafka.brokers.is_empty()
        && let Err(error) = config.kafka.settings().check()
    {
        faults.push(error.to_string());
    }
    match load_reference(config, &sql) {
        Ok(()) => {
            for table in Table::ALL {
                let rows = sql.reference().get().rows(table);
                if rows > 0 {
                    let _ = writeln!(out, "reference table {}: {rows} rows", table.name());
                }
            }
            let identifiers =
                [Table::Contacts, Table::Devices].map(|table| sql.reference().get().rows(table));
            if about_groups && identifiers == [0, 0] {
                out.push_str(
                    "note: rules about groups raise nothing without `contacts` or `devices` in [reference]; see rules/CONTEXT.md\n",
                );
            }
        }
        Err(error) => faults.push(format!("{error:#}")),
    }
    if faults.is_empty() {
        out.push_str("all good");
        return Ok(out);
    }
    bail!("{}", faults.join("\n\n"))
}

/// The one plan of all rules in words: what is worked out and kept once, and who uses it.
///
/// # Errors
/// When the rules have faults.
pub fn explain_all(project: &Project) -> anyhow::Result<String> {
    let sql = Sql::new();
    let rules = Arc::new(project.rules(&sql)?);
    Ok(sharing::of_all(&rules, &Plan::of(&rules, &sql)?))
}

/// A rule in words, with what it shares with the others, or as SQL; without an id the list of all.
///
/// # Errors
/// When the rules have faults, or there is no such id.
pub fn explain(project: &Project, id: Option<&str>, as_sql: bool) -> anyhow::Result<String> {
    let sql = Sql::new();
    let rules = project.rules(&sql)?;
    let Some(id) = id else {
        let mut out = String::from("Typologies:\n");
        for typology in &rules.typologies {
            let _ = writeln!(out, "  {:<32} {}", typology.meta.id, typology.meta.title);
        }
        out.push_str("\nIndicators:\n");
        for indicator in &rules.indicators {
            let _ = writeln!(out, "  {:<32} {}", indicator.meta.id, indicator.meta.title);
        }
        if !rules.retired.is_empty() {
            out.push_str("\nRetired:\n");
            for retired in &rules.retired {
                let _ = writeln!(out, "  {:<32} {}", retired.id, retired.words());
            }
        }
        return Ok(out);
    };
    let found = if as_sql { manumit_rules::sql_of(&rules, id) } else { manumit_rules::explain(&rules, id) };
    match found {
        Some(text) if as_sql => Ok(text),
        Some(text) => {
            let rules = Arc::new(rules);
            let plan = Plan::of(&rules, &sql)?;
            let shared = match rules.typologies.iter().find(|t| t.meta.id == id) {
                Some(typology) => sharing::of_typology(&rules, &plan, typology),
                None => {
                    let index = rules.indicators.iter().position(|i| i.meta.id == id);
                    index.map_or_else(String::new, |index| sharing::of_indicator(&rules, &plan, index))
                }
            };
            Ok(text + &shared)
        }
        None => bail!("{}", rules.absent(id)),
    }
}

/// Where a run reads: the files named, the feeds' topics when brokers are configured, or the feeds' own paths.
///
/// # Errors
/// When there is nothing to read, or two feeds want the same topic.
pub fn input(feeds: &[Feed], from: &[String], until_end: bool, config: &Config) -> anyhow::Result<Input> {
    if !from.is_empty() {
        if feeds.len() > 1 {
            bail!(
                "--from gives the files of one feed; name the paths of several feeds in their front matter"
            );
        }
        return Ok(Input::Files(vec![(0, from.to_vec())]));
    }
    let topics: Vec<&String> = feeds.iter().flat_map(|f| f.topics()).collect();
    if !topics.is_empty() && !config.kafka.brokers.is_empty() {
        let mut seen = std::collections::BTreeSet::new();
        if let Some(twice) = topics.iter().find(|topic| !seen.insert(topic.as_str())) {
            bail!("two feeds read the topic `{twice}`; a record can have one mapping only");
        }
        return Ok(Input::Kafka { settings: config.kafka.settings(), until_end, source: None });
    }
    let files: Vec<(usize, Vec<String>)> = feeds
        .iter()
        .enumerate()
        .filter(|(_, feed)| !feed.paths().is_empty())
        .map(|(index, feed)| (index, feed.paths().to_vec()))
        .collect();
    if files.is_empty() {
        let help = if topics.is_empty() {
            "give --from FILE, or `topics` or `paths` in the feed's front matter"
        } else {
            "the feed names topics, but no brokers are configured: set `[kafka] brokers` or MANUMIT_KAFKA_BROKERS, or give --from FILE"
        };
        bail!("there is nothing to read: {help}");
    }
    Ok(Input::Files(files))
}
