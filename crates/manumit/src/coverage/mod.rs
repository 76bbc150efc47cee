//! The coverage report: from each published red flag to the indicators and typologies that refer to it and the cases that hold them.

mod command;
mod page;

use std::collections::{BTreeMap, BTreeSet};

use manumit_rules::Sources;
use manumit_rules::catalogue::{self, Catalogue, RedFlag, Slip};
use manumit_rules::ir::{Indicator, Part, RuleSet, Typology};
use serde::Serialize;

pub use command::{CoverageArgs, Form, coverage};

/// What the report says, and its JSON.
#[derive(Debug, Serialize)]
pub struct Coverage {
    /// `manumit.coverage/1`: raised when the meaning of a field changes.
    pub format: &'static str,
    /// Version of Manumit.
    pub program: &'static str,
    /// Hash of the rules.
    pub rule_set_hash: String,
    /// The file of the catalogue.
    pub catalogue: &'static str,
    /// Over all red flags.
    pub total: Counts,
    /// By publication, in the catalogue's order.
    pub publications: Vec<Publication>,
    /// By kind of exploitation; kinds without a red flag are left out.
    pub exploitation: Vec<Kind>,
    /// Typologies, by id.
    pub typologies: Vec<TypologyLine>,
    /// Rules that run no more, by kind and id: they cover nothing.
    pub retired: Vec<manumit_rules::Retired>,
    /// All red flags, in the catalogue's order.
    pub red_flags: Vec<FlagLine>,
    /// Red flags that no rule covers and why, by kind of reason, the most frequent first.
    pub reasons: Vec<Reason>,
    /// References of rules that are no ids of the catalogue, with the rules, by reference.
    pub citations: Vec<Citation>,
    /// What should be looked at and keeps nobody from going on.
    pub hints: Vec<String>,
}

/// How red flags stand.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All.
    pub red_flags: usize,
    /// A rule covers them.
    pub covered: usize,
    /// No rule does, and the catalogue says why.
    pub reason: usize,
    /// No rule does, and nothing says why.
    pub neither: usize,
}

impl Counts {
    fn of<'f>(flags: impl Iterator<Item = &'f FlagLine>) -> Counts {
        let mut counts = Counts::default();
        for flag in flags {
            counts.red_flags += 1;
            match flag.status {
                Status::Covered => counts.covered += 1,
                Status::Reason => counts.reason += 1,
                Status::Neither => counts.neither += 1,
            }
        }
        counts
    }
}

/// How a red flag stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// A typology, or an indicator that a typology uses, refers to it.
    Covered,
    /// None does, and the catalogue says why.
    Reason,
    /// None does, and nothing says why.
    Neither,
}

/// One publication.
#[derive(Debug, Serialize)]
pub struct Publication {
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub jurisdiction: String,
    /// Year.
    pub year: u16,
    /// Where it can be read.
    pub url: String,
    /// Its red flags.
    #[serde(flatten)]
    pub counts: Counts,
}

/// One kind of exploitation.
#[derive(Debug, Serialize)]
pub struct Kind {
    /// Its name.
    pub name: String,
    /// Red flags about it.
    #[serde(flatten)]
    pub counts: Counts,
    /// Typologies about it.
    pub typologies: usize,
}

/// One typology.
#[derive(Debug, Serialize)]
pub struct TypologyLine {
    /// Id.
    pub id: String,
    /// Title.
    pub title: String,
    /// Version.
    pub version: u32,
    /// `draft`, `experimental`, `stable` or `deprecated`.
    pub status: String,
    /// Kinds of exploitation.
    pub exploitation: Vec<String>,
    /// Indicators that it uses, by id.
    pub indicators: Vec<String>,
    /// Red flags of the catalogue that it or its indicators refer to, in the catalogue's order.
    pub red_flags: Vec<String>,
    /// Its cases.
    pub cases: Cases,
}

/// What holds a typology: the tables of `cases.toml` beside it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Cases {
    /// Cases that must raise an alert.
    pub raising: usize,
    /// Cases that must not.
    pub quiet: usize,
    /// Cases that raise, changed so that they must not.
    pub near_misses: usize,
}

impl Cases {
    /// All of them.
    pub fn all(self) -> usize {
        self.raising + self.quiet + self.near_misses
    }
}

/// One red flag.
#[derive(Debug, Serialize)]
pub struct FlagLine {
    /// Id.
    pub id: String,
    /// Publication.
    pub publication: String,
    /// Kind of exploitation.
    pub exploitation: String,
    /// What it is seen in.
    pub category: String,
    /// What it says.
    pub red_flag: String,
    /// What a rule about it would have to know.
    pub data: Vec<String>,
    /// What the description was written from.
    pub basis: String,
    /// Line of the catalogue.
    pub line: usize,
    /// How it stands.
    pub status: Status,
    /// Indicators that refer to it and that a typology uses, by id.
    pub indicators: Vec<String>,
    /// Typologies that refer to it, or use an indicator that does, by id.
    pub typologies: Vec<String>,
    /// Cases of these typologies.
    pub cases: usize,
    /// Indicators that refer to it and that no typology uses, by id: they do not cover it.
    pub unused_indicators: Vec<String>,
    /// Why no rule covers it; kept where one does, so that it can be removed.
    pub not_covered: Option<String>,
}

/// Red flags that no rule covers for one kind of reason.
#[derive(Debug, Serialize)]
pub struct Reason {
    /// What stands before the colon.
    pub kind: String,
    /// The red flags, in the catalogue's order.
    pub red_flags: Vec<Uncovered>,
}

/// One of them.
#[derive(Debug, Serialize)]
pub struct Uncovered {
    /// Id.
    pub id: String,
    /// What it says.
    pub red_flag: String,
    /// What stands behind the colon.
    pub why: String,
}

/// A reference that is not of the catalogue.
#[derive(Debug, Serialize)]
pub struct Citation {
    /// As rules write it.
    pub reference: String,
    /// Indicators and typologies that do, by id.
    pub rules: Vec<String>,
}

/// The indicators of a typology, by id, those included whose hits their queries read; its own query is no indicator of another name.
fn used<'r>(rules: &'r RuleSet, typology: &Typology) -> BTreeMap<&'r str, &'r Indicator> {
    let parts = typology.gate.iter().chain(&typology.corroborators);
    let parts: Vec<&Indicator> =
        parts.filter_map(|part: &Part| rules.indicators.get(part.indicator)).collect();
    let read: BTreeSet<&String> =
        parts.iter().filter_map(|part| part.keyed.as_ref()).flat_map(|keyed| &keyed.hits_of).collect();
    let read = rules.indicators.iter().filter(|indicator| read.contains(&indicator.meta.id));
    let all = parts.into_iter().chain(read).map(|indicator| (indicator.meta.id.as_str(), indicator));
    all.filter(|(id, _)| *id != typology.meta.id).collect()
}

/// Counts the tables of the file beside a typology; no file, no cases.
fn cases(typology: &Typology, sources: &Sources, hints: &mut Vec<String>) -> Cases {
    let path = typology.meta.file.with_file_name("cases.toml");
    let Some(text) = sources.get(&path) else { return Cases::default() };
    let table = match text.parse::<toml::Table>() {
        Ok(table) => table,
        Err(fault) => {
            hints.push(format!(
                "{}: the cases cannot be counted, `manumit test` says more: {}",
                path.display(),
                fault.message()
            ));
            return Cases::default();
        }
    };
    let tables = |key: &str| table.get(key).and_then(toml::Value::as_array).map_or(&[][..], Vec::as_slice);
    let raises = |case: &toml::Value| {
        case.get("alert").and_then(toml::Value::as_array).is_some_and(|alerts| !alerts.is_empty())
    };
    let raising = tables("case").iter().filter(|case| raises(case)).count();
    Cases { raising, quiet: tables("case").len() - raising, near_misses: tables("near_miss").len() }
}

/// What rules refer to a red flag.
#[derive(Default)]
struct Referring {
    indicators: BTreeSet<String>,
    typologies: BTreeSet<String>,
}

impl Coverage {
    /// Holds the rules against the catalogue. `sources`: the files that both were read from.
    pub fn of(catalogue: &Catalogue, rules: &RuleSet, sources: &Sources) -> Coverage {
        let mut hints = Vec::new();
        let mut referring: BTreeMap<&str, Referring> = BTreeMap::new();
        let mut typologies = Vec::new();
        let mut in_use: BTreeSet<&str> = BTreeSet::new();
        for typology in &rules.typologies {
            let indicators = used(rules, typology);
            let mut flags: BTreeSet<&str> = BTreeSet::new();
            for reference in &typology.meta.references {
                flags.insert(reference);
                let entry = referring.entry(reference).or_default();
                entry.typologies.insert(typology.meta.id.clone());
            }
            for (id, indicator) in &indicators {
                in_use.insert(id);
                for reference in &indicator.meta.references {
                    flags.insert(reference);
                    let entry = referring.entry(reference).or_default();
                    entry.typologies.insert(typology.meta.id.clone());
                    entry.indicators.insert((*id).to_string());
                }
            }
            typologies.push(TypologyLine {
                id: typology.meta.id.clone(),
                title: typology.meta.title.clone(),
                version: typology.meta.version,
                status: typology.meta.status.clone(),
                exploitation: typology.meta.exploitation.clone(),
                indicators: indicators.keys().map(|id| (*id).to_string()).collect(),
                red_flags: catalogue
                    .flags
                    .iter()
                    .filter(|flag| flags.contains(flag.id.as_str()))
                    .map(|flag| flag.id.clone())
                    .collect(),
                cases: cases(typology, sources, &mut hints),
            });
        }
        let gates: BTreeSet<&str> = rules.typologies.iter().map(|t| t.meta.id.as_str()).collect();
        let mut unused: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for indicator in &rules.indicators {
            let id = indicator.meta.id.as_str();
            if !in_use.contains(id) && !gates.contains(id) {
                for reference in &indicator.meta.references {
                    unused.entry(reference).or_default().push(id.to_string());
                }
            }
        }
        let held: BTreeMap<&str, usize> = typologies.iter().map(|t| (t.id.as_str(), t.cases.all())).collect();
        let red_flags: Vec<FlagLine> = catalogue
            .flags
            .iter()
            .map(|flag| {
                let referring = referring.remove(flag.id.as_str()).unwrap_or_default();
                line(flag, referring, unused.remove(flag.id.as_str()).unwrap_or_default(), &held)
            })
            .collect();
        hints.extend(catalogue.slips(rules, sources).iter().map(Slip::to_string));
        hints.extend(red_flags.iter().filter_map(hint));
        Coverage {
            format: "manumit.coverage/1",
            program: env!("CARGO_PKG_VERSION"),
            rule_set_hash: rules.hash.clone(),
            catalogue: catalogue::FILE,
            total: Counts::of(red_flags.iter()),
            publications: publications(catalogue, &red_flags),
            exploitation: kinds(&red_flags, &typologies),
            reasons: reasons(&red_flags),
            citations: citations(catalogue, rules),
            typologies,
            retired: rules.retired.clone(),
            red_flags,
            hints,
        }
    }

    /// Each red flag that has neither rule nor reason, with its place: a line each.
    pub fn missing(&self) -> Vec<String> {
        let neither = self.red_flags.iter().filter(|flag| flag.status == Status::Neither);
        neither
            .map(|flag| {
                let FlagLine { id, line, red_flag, unused_indicators, .. } = flag;
                let near = match unused_indicators.as_slice() {
                    [] => String::new(),
                    unused => format!("; no typology uses {}, which would cover it", unused.join(", ")),
                };
                format!("{}:{line}: {id} has neither a rule nor a reason: {red_flag}{near}", catalogue::FILE)
            })
            .collect()
    }

    /// The counts in a line.
    pub fn summary(&self) -> String {
        let Counts { red_flags, covered, reason, neither } = self.total;
        let cases: usize = self.typologies.iter().map(|typology| typology.cases.all()).sum();
        let many = |number: usize, one: &str, more: &str| {
            format!("{number} {}", if number == 1 { one } else { more })
        };
        format!(
            "{}: {covered} covered by {} with {}, {reason} with a reason why not, {neither} with neither",
            many(red_flags, "published red flag", "published red flags"),
            many(self.typologies.len(), "typology", "typologies"),
            many(cases, "case", "cases")
        )
    }
}

fn line(
    flag: &RedFlag,
    referring: Referring,
    unused_indicators: Vec<String>,
    held: &BTreeMap<&str, usize>,
) -> FlagLine {
    let status = match (referring.typologies.is_empty(), &flag.not_covered) {
        (false, _) => Status::Covered,
        (true, Some(_)) => Status::Reason,
        (true, None) => Status::Neither,
    };
    FlagLine {
        id: flag.id.clone(),
        publication: flag.publication.clone(),
        exploitation: flag.exploitation.clone(),
        category: flag.category.clone(),
        red_flag: flag.red_flag.clone(),
        data: flag.data.clone(),
        basis: flag.basis.clone(),
        line: flag.line,
        status,
        cases: referring.typologies.iter().filter_map(|id| held.get(id.as_str())).sum(),
        indicators: referring.indicators.into_iter().collect(),
        typologies: referring.typologies.into_iter().collect(),
        unused_indicators,
        not_covered: flag.not_covered.clone(),
    }
}

fn hint(flag: &FlagLine) -> Option<String> {
    let place = format!("{}:{}: {}", catalogue::FILE, flag.line, flag.id);
    match (flag.status, &flag.not_covered) {
        (Status::Covered, Some(_)) => {
            let by = flag.indicators.first().or(flag.typologies.first()).map_or("a rule", String::as_str);
            Some(format!("{place} is covered, by {by}: the reason why it is not can be removed"))
        }
        (Status::Reason, _) if !flag.unused_indicators.is_empty() => {
            Some(format!("{place} is not covered: no typology uses {}", flag.unused_indicators.join(", ")))
        }
        _ => None,
    }
}

fn publications(catalogue: &Catalogue, flags: &[FlagLine]) -> Vec<Publication> {
    let mut seen = BTreeSet::new();
    let first = catalogue.flags.iter().filter(|flag| seen.insert(flag.publication.as_str()));
    first
        .map(|flag| Publication {
            name: flag.publication.clone(),
            jurisdiction: flag.jurisdiction.clone(),
            year: flag.year,
            url: flag.url.clone(),
            counts: Counts::of(flags.iter().filter(|line| line.publication == flag.publication)),
        })
        .collect()
}

fn kinds(flags: &[FlagLine], typologies: &[TypologyLine]) -> Vec<Kind> {
    let kinds = catalogue::exploitation().into_iter().map(|name| Kind {
        name: name.to_string(),
        counts: Counts::of(flags.iter().filter(|flag| flag.exploitation == name)),
        typologies: typologies.iter().filter(|t| t.exploitation.iter().any(|kind| kind == name)).count(),
    });
    kinds.filter(|kind| kind.counts.red_flags > 0).collect()
}

fn reasons(flags: &[FlagLine]) -> Vec<Reason> {
    let mut kinds: BTreeMap<&str, Vec<Uncovered>> = BTreeMap::new();
    for flag in flags.iter().filter(|flag| flag.status == Status::Reason) {
        let reason = flag.not_covered.as_deref().unwrap_or_default();
        let (kind, why) = reason.split_once(": ").unwrap_or((reason, ""));
        let uncovered =
            Uncovered { id: flag.id.clone(), red_flag: flag.red_flag.clone(), why: why.trim().to_string() };
        kinds.entry(kind.trim()).or_default().push(uncovered);
    }
    let mut reasons: Vec<Reason> =
        kinds.into_iter().map(|(kind, red_flags)| Reason { kind: kind.to_string(), red_flags }).collect();
    // Stable: kinds of equal number stay in the order of their names.
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.red_flags.len()));
    reasons
}

fn citations(catalogue: &Catalogue, rules: &RuleSet) -> Vec<Citation> {
    let metas = rules.indicators.iter().map(|i| &i.meta).chain(rules.typologies.iter().map(|t| &t.meta));
    let mut citing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for meta in metas {
        for reference in meta.references.iter().filter(|reference| catalogue.get(reference).is_none()) {
            citing.entry(reference).or_default().insert(&meta.id);
        }
    }
    let text = |text: &str| text.to_string();
    let citation = |(reference, rules): (&str, BTreeSet<&str>)| Citation {
        reference: text(reference),
        rules: rules.into_iter().map(text).collect(),
    };
    citing.into_iter().map(citation).collect()
}

/// What `manumit check` says of the catalogue: a line with the counts, and a warning for each likely slip; nothing where the project has
/// no catalogue.
///
/// # Errors
/// The faults of the catalogue, rendered.
pub(crate) fn check(rules: &RuleSet, sources: &Sources) -> anyhow::Result<Vec<String>> {
    let Some(catalogue) = Catalogue::read(sources).map_err(|faults| anyhow::anyhow!("{faults}"))? else {
        return Ok(Vec::new());
    };
    let coverage = Coverage::of(&catalogue, rules, sources);
    let slips = catalogue.slips(rules, sources);
    let mut lines = vec![coverage.summary()];
    lines.extend(slips.iter().map(|slip| format!("warning: {slip}")));
    Ok(lines)
}
