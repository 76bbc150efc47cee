//! `manumit test`: the cases of typologies, without Kafka and without a feed.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use manumit_cases::{Mutation, Outcome, Suite, Tester, Tried};
use manumit_rules::{Retired, Sources};

use crate::project::Project;

/// Which cases to try.
#[derive(Args, Debug)]
pub struct TestArgs {
    /// Typologies, by id, or files or folders of the project [default: all]
    #[arg(value_name = "TYPOLOGY or PATH")]
    what: Vec<String>,
    /// Change each threshold, comparison and part of the typologies in turn, and tell which changes no case notices
    #[arg(long)]
    mutate: bool,
    /// With --mutate: fail when fewer of a hundred changes are noticed
    #[arg(long, value_name = "PERCENT", requires = "mutate", default_value_t = 0)]
    at_least: u64,
    /// Write the results here, too, as JUnit's XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Seed of the order of rows that come out of order
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Tries the cases; the report, and whether all is as wanted.
///
/// # Errors
/// When rules or cases have faults, or what was asked for is not there.
pub fn test(project: &Project, args: &TestArgs) -> anyhow::Result<(String, bool)> {
    let sources = project.sources()?;
    let tester = Tester::new(&sources).map_err(|faults| anyhow::anyhow!("{faults}\n\nrules refused"))?;
    let suites = manumit_cases::suites(&sources)
        .map_err(|faults| anyhow::anyhow!("{faults}\n\ncases refused: {} faults", faults.0.len()))?;
    let all: Vec<(String, PathBuf)> = tester
        .rules()
        .typologies
        .iter()
        .map(|typology| (typology.meta.id.clone(), typology.meta.file.clone()))
        .collect();
    let chosen = chosen(&all, &tester.rules().retired, &args.what)?;
    let suites: Vec<Suite> = suites.into_iter().filter(|suite| chosen.contains(&suite.typology)).collect();
    if args.mutate {
        return mutated(&sources, &suites, args.at_least);
    }
    let mut out = String::new();
    let outcomes = manumit_cases::try_all(&sources, &suites, args.seed)?;
    let tried: Vec<(Suite, Vec<Tried>)> = suites.into_iter().zip(outcomes).collect();
    let all = !args.what.is_empty();
    for (suite, outcomes) in &tried {
        out.push_str(&manumit_cases::text(suite, outcomes, all));
        if all {
            out.push('\n');
        }
    }
    if !all {
        let _ = writeln!(out, "\neach case of a typology: manumit test ID");
    }
    if let Some(path) = &args.junit {
        std::fs::write(path, manumit_cases::junit(&tried))
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    let untold: Vec<&str> = chosen
        .iter()
        .filter(|id| !tried.iter().any(|(suite, _)| suite.typology == **id))
        .map(String::as_str)
        .collect();
    if !untold.is_empty() {
        let _ = writeln!(out, "without cases: {}; see rules/CASES.md\n", untold.join(", "));
    }
    let retired: Vec<&str> = tester
        .rules()
        .retired
        .iter()
        .filter(|rule| rule.kind == "typology")
        .map(|rule| rule.id.as_str())
        .collect();
    if args.what.is_empty() && !retired.is_empty() {
        let _ = writeln!(out, "retired, and not tried: {}\n", retired.join(", "));
    }
    if tried.is_empty() {
        bail!(
            "there are no cases to try: write cases.toml beside the typology, as rules/CASES.md says{}",
            if args.what.is_empty() { "" } else { "; nothing was tested" }
        );
    }
    let cases: usize = tried.iter().map(|(_, tried)| tried.len()).sum();
    let failed =
        tried.iter().flat_map(|(_, tried)| tried).filter(|one| one.outcome != Outcome::AsWanted).count();
    let _ = write!(
        out,
        "{} typologies, {cases} cases and near misses, each told five ways: {}",
        tried.len(),
        if failed == 0 { "all as wanted".to_string() } else { format!("{failed} NOT as wanted") }
    );
    Ok((out, failed == 0))
}

/// The ids that were asked for, by id, file or folder.
fn chosen(all: &[(String, PathBuf)], retired: &[Retired], what: &[String]) -> anyhow::Result<Vec<String>> {
    if what.is_empty() {
        return Ok(all.iter().map(|(id, _)| id.clone()).collect());
    }
    let mut chosen = Vec::new();
    for asked in what {
        let path = asked.strip_prefix("./").unwrap_or(asked).trim_end_matches('/');
        let path = Path::new(path);
        // A file of cases stands beside the typology that it is about.
        let folder = if path.extension().is_some() { path.parent().unwrap_or(path) } else { path };
        let found: Vec<String> = all
            .iter()
            .filter(|(id, file)| id == asked || (asked.contains('/') && file.starts_with(folder)))
            .map(|(id, _)| id.clone())
            .collect();
        let mut ended = retired.iter().filter(|rule| rule.kind == "typology");
        if found.is_empty()
            && let Some(rule) = ended.find(|rule| rule.id == *asked || rule.file.starts_with(folder))
        {
            bail!("{}; its cases are not tried any more", rule.words());
        }
        if found.is_empty() {
            let near = manumit_model::nearest(asked, all.iter().map(|(id, _)| id.as_str()));
            let help = near.map_or_else(
                || "name a typology by its id, or its folder under rules/typologies".to_string(),
                |near| format!("did you mean `{near}`?"),
            );
            bail!("there is no typology `{asked}`; {help}");
        }
        chosen.extend(found);
    }
    chosen.sort();
    chosen.dedup();
    Ok(chosen)
}

fn mutated(sources: &Sources, suites: &[Suite], at_least: u64) -> anyhow::Result<(String, bool)> {
    if suites.is_empty() {
        bail!("there are no cases to ask; see rules/CASES.md");
    }
    for (suite, tried) in suites.iter().zip(manumit_cases::try_all(sources, suites, 1)?) {
        if tried.iter().any(|one| one.outcome != Outcome::AsWanted) {
            bail!(
                "cases of `{}` do not end as they should even without a change; see `manumit test {}`",
                suite.typology,
                suite.typology
            );
        }
    }
    let all = manumit_cases::mutate(sources, suites).map_err(|faults| anyhow::anyhow!("{faults}"))?;
    let mut out = String::new();
    for suite in suites {
        let own: Vec<&Mutation> = all.iter().filter(|one| one.asked.contains(&suite.typology)).collect();
        let noticed = own.iter().filter(|one| one.noticed_by.is_some()).count();
        let _ = writeln!(out, "{}: {noticed} of {} changes noticed", suite.typology, own.len());
    }
    let missed: Vec<&Mutation> = all.iter().filter(|one| one.noticed_by.is_none()).collect();
    if !missed.is_empty() {
        let _ = writeln!(out, "\nno case notices:");
    }
    for one in &missed {
        let change = &one.change;
        let _ = writeln!(out, "  {}:{}: {}", change.file.display(), change.line, change.words);
    }
    let noticed = all.len() - missed.len();
    // Rounded down: 89.9 is not 90.
    let percent = (noticed * 100).checked_div(all.len()).unwrap_or(100);
    let _ = write!(out, "\n{noticed} of {} changes noticed: {percent} %", all.len());
    let enough = percent as u64 >= at_least;
    if !enough {
        let _ = write!(out, ", fewer than {at_least} %");
    }
    Ok((out, enough))
}
