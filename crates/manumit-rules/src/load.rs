//! All rule files to one rule set, or all their faults.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use manumit_model::Diagnostics;
use manumit_model::alert::RuleText;
use manumit_sql::Sql;
use manumit_sql::reference::GroupRule;
use sha2::{Digest, Sha256};

use crate::document::File;
use crate::ir::{Indicator, Part, RuleSet, Typology};
use crate::sources::Sources;
use crate::typology::Known;
use crate::{groups, indicator, principles, retired, typology};

/// Loads rules, lists and groups of merchant category codes; the latter two become part of the session's reference data.
///
/// # Errors
/// All faults of all files, by file and line.
pub fn load(sources: &Sources, sql: &Sql) -> Result<RuleSet, Diagnostics> {
    let mut faults = Diagnostics::default();
    lists(sources, sql, &mut faults);
    let groups = groups(sources, sql, &mut faults);
    let keywords = match sources.get(Path::new("rules/keywords.toml")) {
        Some(text) => typology::keywords(&file(Path::new("rules/keywords.toml"), text), &mut faults),
        None => BTreeMap::new(),
    };
    let mut indicators: Vec<Indicator> = Vec::new();
    let mut broken = BTreeSet::new();
    let mut retired = Vec::new();
    for (path, text) in sources.iter() {
        let Some((id, query)) = indicator_at(path, sources) else { continue };
        let read = indicator::read(&file(path, text), &id, query.as_ref(), sql, &mut faults);
        match read {
            Some(_)
                if indicators.iter().any(|known| known.meta.id == id)
                    || retired.iter().any(|known: &retired::Read| known.rule.id == id) =>
            {
                faults.push(retired::twice(&file(path, text), "indicator", &id));
            }
            Some(indicator::Read::Runs(read)) => indicators.push(*read),
            Some(indicator::Read::Retired(read)) => retired.push(*read),
            None => {
                broken.insert(id);
            }
        }
    }
    indicators.sort_by(|a, b| a.meta.id.cmp(&b.meta.id));
    let ids = indicators.iter().map(|i| i.meta.id.as_str()).chain(broken.iter().map(String::as_str));
    retired.iter().for_each(|read| retired::replaced(read, ids.clone(), &mut faults));
    let allowed = principles::allowed(sources, &mut faults);
    let mut ended: Vec<retired::Read> = Vec::new();
    let mut typologies: Vec<Typology> = Vec::new();
    let mut gates: Vec<(String, Indicator)> = Vec::new();
    for (path, text) in sources.iter() {
        let Some(id) = typology_at(path) else { continue };
        let beside = path.with_file_name("query.sql");
        let query = sources.get(&beside).map(|text| file(&beside, text));
        let known =
            Known { sql, indicators: &indicators, broken: &broken, retired: &retired, keywords: &keywords };
        let read = typology::read(&file(path, text), &id, query.as_ref(), &known, &mut faults);
        if typologies.iter().any(|t| t.meta.id == id) || ended.iter().any(|read| read.rule.id == id) {
            faults.push(retired::twice(&file(path, text), "typology", &id));
            continue;
        }
        ended.extend(read.retired);
        if let Some(typology) = &read.typology {
            let file = file(path, text);
            principles::check(typology, &indicators, read.gate.as_ref(), &allowed, &file, &mut faults);
        }
        if let Some(gate) = read.gate {
            if indicators.iter().any(|known| known.meta.id == id) {
                let message = format!("`{id}` is the id of an indicator as well");
                faults.push(file(path, text).fault("R006", message).help("give one of them another id"));
            }
            gates.push((id, gate));
        }
        typologies.extend(read.typology);
    }
    let ids = typologies.iter().map(|t| t.meta.id.as_str());
    ended.iter().for_each(|read| retired::replaced(read, ids.clone(), &mut faults));
    retired.extend(ended);
    let queries = indicators.iter().chain(gates.iter().map(|(_, gate)| gate));
    hits_read(queries, &indicators, &broken, &retired, sources, &mut faults);
    if sources.get(Path::new(groups::PATH)).is_none() {
        for indicator in
            indicators.iter().chain(gates.iter().map(|(_, gate)| gate)).filter(|i| asks_groups(i))
        {
            let path = &indicator.meta.file;
            let text = sources.get(path).cloned().unwrap_or_default();
            let message =
                format!("`{}` asks for groups, and there is no {}", indicator.meta.id, groups::PATH);
            let help = "write that file: which identifiers link customers, for example strong = [\"phone\", \"device\"]";
            faults.push(file(path, &text).fault("R051", message).help(help));
        }
    }
    if !faults.is_empty() {
        faults.0.sort_by(|a, b| (&a.file, a.line_column()).cmp(&(&b.file, b.line_column())));
        return Err(faults);
    }
    let mut rules = assemble(indicators, gates, typologies, groups.as_ref());
    rules.retired = retired.into_iter().map(|read| read.rule).collect();
    rules.retired.sort_by(|a, b| (a.kind, &a.id).cmp(&(b.kind, &b.id)));
    rules.texts = texts(&rules, sources);
    Ok(rules)
}

/// The files of each typology: its own, those of its indicators and of whose hits they read, and the keywords.
fn texts(rules: &RuleSet, sources: &Sources) -> BTreeMap<String, Vec<RuleText>> {
    let of = |typology: &Typology| -> Vec<RuleText> {
        let parts = typology.gate.iter().chain(&typology.corroborators);
        let parts: Vec<&Indicator> = parts.map(|part| &rules.indicators[part.indicator]).collect();
        let read: Vec<&String> =
            parts.iter().filter_map(|part| part.keyed.as_ref()).flat_map(|keyed| &keyed.hits_of).collect();
        let read = rules.indicators.iter().filter(|indicator| read.contains(&&indicator.meta.id));
        let metas = parts.iter().copied().chain(read).map(|indicator| &indicator.meta);
        let mut files = BTreeSet::new();
        for meta in metas.chain([&typology.meta]) {
            files.insert(meta.file.clone());
            // The query of a file of another name is another rule's.
            if meta.file.extension().is_some_and(|kind| kind == "toml")
                && !meta.file.starts_with("rules/indicators")
            {
                files.insert(meta.file.with_file_name("query.sql"));
            }
            if meta.file.extension().is_some_and(|kind| kind == "sql") {
                files.extend(["indicator.toml", "typology.toml"].map(|name| meta.file.with_file_name(name)));
            }
        }
        if !typology.meta.fiu_keywords.is_empty() {
            files.insert("rules/keywords.toml".into());
        }
        if parts.iter().any(|indicator| asks_groups(indicator)) {
            files.insert(groups::PATH.into());
        }
        let texts = files.iter().filter_map(|path| {
            let text = sources.get(path)?.to_string();
            let sha256 = manumit_model::alert::sha256(text.as_bytes());
            Some(RuleText { file: path.to_string_lossy().replace('\\', "/"), sha256, text })
        });
        texts.collect()
    };
    rules.typologies.iter().map(|typology| (typology.meta.id.clone(), of(typology))).collect()
}

/// The indicator means something else when other identifiers make a group.
fn asks_groups(indicator: &Indicator) -> bool {
    let names = ["customer_group", "counterparty_group", "debtor_group", "creditor_group", "group_of"];
    names.iter().any(|name| indicator.sql.contains(name) || indicator.about == *name)
}

/// Makes known what makes a group, where that is said.
fn groups(sources: &Sources, sql: &Sql, faults: &mut Diagnostics) -> Option<GroupRule> {
    let path = Path::new(groups::PATH);
    let rule = groups::read(&file(path, sources.get(path)?), faults)?;
    sql.reference().update(|reference| reference.set_group_rule(rule.clone()));
    Some(rule)
}

/// Whose hits a query reads must be known, about the same kind of subject, and answered before it.
fn hits_read<'i>(
    queries: impl Iterator<Item = &'i Indicator>,
    indicators: &[Indicator],
    broken: &BTreeSet<String>,
    retired: &[retired::Read],
    sources: &Sources,
    faults: &mut Diagnostics,
) {
    for indicator in queries {
        let Some(keyed) = &indicator.keyed else { continue };
        for id in keyed.hits_of.iter().filter(|id| !broken.contains(*id)) {
            let path = &indicator.meta.file;
            let fault = |message: String| {
                let text = sources.get(path).cloned().unwrap_or_default();
                let at = text.find(id.as_str()).map_or(0..0, |at| at..at + id.len());
                file(path, &text).fault("R011", message).at(at, "in hits_of")
            };
            let ended = retired.iter().find(|read| read.rule.kind == "indicator" && read.rule.id == *id);
            match indicators.iter().find(|other| other.meta.id == *id) {
                None if let Some(ended) = ended => {
                    faults.push(fault(ended.rule.words()).help("leave it out, or retire this rule, too"));
                }
                None => {
                    let fault = fault(format!("there is no indicator `{id}`"));
                    let known = indicators.iter().filter(|i| i.keyed.is_none()).map(|i| i.meta.id.as_str());
                    faults.push(match manumit_model::nearest(id, known) {
                        Some(near) => fault.help(format!("did you mean `{near}`?")),
                        None => fault.help("see `manumit explain` for the list"),
                    });
                }
                Some(other) if other.keyed.is_some() => {
                    let fault = fault(format!("`{id}` is itself answered at ticks"));
                    faults.push(fault.help("read the hits of indicators that are answered at every row"));
                }
                Some(other) if other.about_subject != indicator.subject => {
                    let message = format!(
                        "`{id}` is about a {}, this about a {}",
                        other.about_subject, indicator.subject
                    );
                    faults.push(fault(message).help("read the hits of indicators about the same subject"));
                }
                Some(_) => {}
            }
        }
    }
}

/// Loads lists and groups of merchant category codes alone, for those who ask questions and run no rules.
///
/// # Errors
/// All faults of these files; sound ones are loaded all the same.
pub fn load_lists(sources: &Sources, sql: &Sql) -> Result<(), Diagnostics> {
    let mut faults = Diagnostics::default();
    lists(sources, sql, &mut faults);
    let _ = groups(sources, sql, &mut faults);
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

fn file(path: &Path, text: &Arc<str>) -> File {
    File { path: path.to_path_buf(), text: text.clone() }
}

/// Puts the gates written as SQL among the indicators, by id, and mends the parts' indices.
fn assemble(
    indicators: Vec<Indicator>,
    gates: Vec<(String, Indicator)>,
    mut typologies: Vec<Typology>,
    groups: Option<&GroupRule>,
) -> RuleSet {
    let plain = indicators.len();
    let names: Vec<String> = indicators.iter().map(|i| i.meta.id.clone()).collect();
    let mut all = indicators;
    all.extend(gates.into_iter().map(|(_, gate)| gate));
    all.sort_by(|a, b| a.meta.id.cmp(&b.meta.id));
    typologies.sort_by(|a, b| a.meta.id.cmp(&b.meta.id));
    for typology in &mut typologies {
        let own = typology.meta.id.clone();
        let mend = |part: &mut Part| {
            let name = if part.indicator < plain { &names[part.indicator] } else { &own };
            part.indicator = all.iter().position(|i| i.meta.id == *name).unwrap_or(0);
        };
        typology.gate.iter_mut().chain(&mut typology.corroborators).for_each(mend);
    }
    let mut hash = Sha256::new();
    for indicator in &all {
        // File names are no meaning; everything else is.
        hash.update(format!(
            "{}\n{}\n{}\n{:?}\n{}\n",
            indicator.meta.id, indicator.meta.version, indicator.sql, indicator.explain, indicator.about
        ));
        if let Some(keyed) = &indicator.keyed {
            hash.update(format!("{:?}\n", keyed.hits_of));
        }
    }
    for typology in &typologies {
        let mut plain = typology.clone();
        plain.meta.file = Path::new("").to_path_buf();
        hash.update(format!("{plain:?}\n"));
    }
    if let Some(groups) = groups {
        hash.update(format!("{groups:?}\n"));
    }
    let hash = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    RuleSet { hash, indicators: all, typologies, texts: BTreeMap::new(), retired: Vec::new() }
}

fn lists(sources: &Sources, sql: &Sql, faults: &mut Diagnostics) {
    for (path, text) in sources.iter() {
        let name = path.file_stem().map(|s| s.to_string_lossy().to_string()).unwrap_or_default();
        let result = if path.parent() == Some(Path::new("rules/lists")) {
            sql.reference().update(|reference| reference.add_list_csv(&name, text))
        } else if path == Path::new("rules/mcc_groups.csv") {
            sql.reference().update(|reference| reference.add_mcc_groups_csv(text))
        } else {
            continue;
        };
        if let Err(error) = result {
            // Its name stays known: rules that ask for it have no fault of their own.
            let of_terms =
                text.lines().next().is_some_and(|header| header.split(',').any(|name| name.trim() == "term"));
            let header = if of_terms { "term,id\n" } else { "value\n" };
            if path.parent() == Some(Path::new("rules/lists")) {
                let _ = sql.reference().update(|reference| reference.add_list_csv(&name, header));
            }
            let start: usize = text.split_inclusive('\n').take(error.line - 1).map(str::len).sum();
            let length = text[start..].lines().next().map_or(0, str::len);
            let fault = file(path, text).fault("R008", error.message);
            faults.push(fault.at(start..start + length, "this line"));
        }
    }
}

/// Id and query of an indicator file at this path, or `None` when it is none.
fn indicator_at(path: &Path, sources: &Sources) -> Option<(String, Option<File>)> {
    let stem = path.file_stem()?.to_string_lossy().to_string();
    if path.starts_with("rules/indicators") && path.extension()? == "toml" {
        return Some((stem, None));
    }
    if path.starts_with("sql/indicators") && path.file_name()? == "indicator.toml" {
        let id = path.parent()?.file_name()?.to_string_lossy().to_string();
        let beside = path.with_file_name("query.sql");
        // Without a query beside it the fault is told as a missing `when`.
        return Some((id, sources.get(&beside).map(|text| file(&beside, text))));
    }
    None
}

fn typology_at(path: &Path) -> Option<String> {
    let ours = path.starts_with("rules/typologies") || path.starts_with("sql/typologies");
    if !ours || path.file_name()? != "typology.toml" {
        return None;
    }
    Some(path.parent()?.file_name()?.to_string_lossy().to_string())
}
