//! Changes of one number, comparison or part of a typology at a time: which of them do its cases notice?
//!
//! A change that goes unnoticed means that a wrong number could stand there. Changes are made to the author's text where
//! it has a place for them, so that they mean what an author would mean by them; parts are taken out of the loaded rules.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use manumit_model::Diagnostics;
use manumit_rules::Sources;
use manumit_rules::document::{File, Text, items, parse, text_of};
use manumit_rules::ir::RuleSet;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::pool;
use crate::read::Suite;
use crate::world::Tester;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// The file that is changed.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// What is changed, in words.
    pub words: String,
    how: How,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum How {
    /// Text in place of what stands there.
    Text(usize, usize, String),
    /// A corroborator of a typology is not there.
    WithoutCorroborator(String, usize),
    /// A gate's part is not there.
    WithoutGate(String, usize),
    /// A part of an indicator's condition is not there.
    WithoutCondition(String, usize),
}

/// What became of a change.
#[derive(Debug, Clone)]
pub struct Mutation {
    /// The change.
    pub change: Change,
    /// Typologies whose cases were asked.
    pub asked: Vec<String>,
    /// The typology whose cases noticed it.
    pub noticed_by: Option<String>,
}

/// Makes every change to the typologies of these suites and to the indicators that they use. An indicator of several typologies
/// is held when the cases of one of them notice.
///
/// # Errors
/// When the rules have faults.
pub fn mutate(sources: &Sources, suites: &[Suite]) -> Result<Vec<Mutation>, Diagnostics> {
    let tester = Tester::new(sources)?;
    let rules = tester.rules();
    let mut wanted: BTreeMap<Change, BTreeSet<usize>> = BTreeMap::new();
    for (index, suite) in suites.iter().enumerate() {
        for change in changes(rules, &suite.typology) {
            wanted.entry(change).or_default().insert(index);
        }
    }
    let wanted: Vec<(Change, BTreeSet<usize>)> = wanted.into_iter().collect();
    let tried = pool::each(&wanted, || (), |_, (change, asked)| tried(sources, rules, change, suites, asked));
    Ok(tried.into_iter().flatten().collect())
}

/// `None` when the changed rules are refused: such a change cannot happen unseen.
fn tried(
    sources: &Sources,
    rules: &RuleSet,
    change: &Change,
    suites: &[Suite],
    asked: &BTreeSet<usize>,
) -> Option<Mutation> {
    let mut mutation = Mutation {
        change: change.clone(),
        asked: asked.iter().map(|index| suites[*index].typology.clone()).collect(),
        noticed_by: None,
    };
    for index in asked {
        let suite = &suites[*index];
        let mut tester = Tester::new(&needed(sources, rules, &suite.typology, change)?).ok()?;
        without(tester.rules_mut(), &change.how);
        if !tester.holds(suite) {
            mutation.noticed_by = Some(suite.typology.clone());
            break;
        }
    }
    Some(mutation)
}

/// The files of one typology, with the change made; lists and groups come along.
fn needed(sources: &Sources, rules: &RuleSet, typology: &str, change: &Change) -> Option<Sources> {
    let texts = rules.texts.get(typology)?;
    let mut files: BTreeMap<PathBuf, String> =
        texts.iter().map(|text| (PathBuf::from(&text.file), text.text.clone())).collect();
    for (path, text) in sources.iter() {
        if path.extension().is_some_and(|kind| kind == "csv") {
            files.insert(path.to_path_buf(), text.to_string());
        }
    }
    if let How::Text(start, end, with) = &change.how {
        files.get_mut(&change.file)?.replace_range(*start..*end, with);
    }
    Some(Sources::from_files(files))
}

fn without(rules: &mut RuleSet, how: &How) {
    match how {
        How::Text(..) => {}
        How::WithoutCorroborator(id, index) | How::WithoutGate(id, index) => {
            if let Some(typology) = rules.typologies.iter_mut().find(|typology| typology.meta.id == *id) {
                let gate = matches!(how, How::WithoutGate(..));
                let parts = if gate { &mut typology.gate } else { &mut typology.corroborators };
                parts.remove(*index);
            }
        }
        How::WithoutCondition(id, index) => {
            if let Some(indicator) = rules.indicators.iter_mut().find(|indicator| indicator.meta.id == *id) {
                indicator.conjuncts.remove(*index);
                let all = |only_rows: bool| {
                    let parts = indicator.conjuncts.iter().filter(|part| !only_rows || !part.uses_feature);
                    parts.map(|part| format!("({})", part.sql)).collect::<Vec<_>>().join(" AND ")
                };
                let (condition, rows) = (all(false), all(true));
                indicator.row_condition = (!rows.is_empty()).then_some(rows);
                indicator.condition = condition;
            }
        }
    }
}

/// Every change of a typology and of the indicators that it uses.
fn changes(rules: &RuleSet, id: &str) -> Vec<Change> {
    let mut found = Found { changes: Vec::new() };
    for text in rules.texts.get(id).into_iter().flatten() {
        let path = PathBuf::from(&text.file);
        let file = File { path: path.clone(), text: text.text.as_str().into() };
        if path.extension().is_some_and(|kind| kind == "sql") {
            found.comparisons(&Text::whole(&file), true);
        } else if path.file_name() != Some(Path::new("keywords.toml").as_os_str())
            && let Some(document) = parse(&file, &mut Diagnostics::default())
        {
            found.document(&file, document.get_ref());
        }
    }
    let Some(typology) = rules.typologies.iter().find(|typology| typology.meta.id == id) else {
        return found.changes;
    };
    let parts = typology.gate.iter().chain(&typology.corroborators);
    for (place, part) in parts.enumerate() {
        let indicator = &rules.indicators[part.indicator];
        let name = &indicator.meta.id;
        if let Some(corroborator) = place.checked_sub(typology.gate.len()) {
            let how = How::WithoutCorroborator(id.to_string(), corroborator);
            found.part(&typology.meta.file, format!("without the corroborator `{name}`"), how);
        } else if typology.gate.len() > 1 {
            let how = How::WithoutGate(id.to_string(), place);
            found.part(&typology.meta.file, format!("without `{name}` in the gate"), how);
        }
        // Of one condition nothing would be left.
        if indicator.conjuncts.len() > 1 {
            for (index, conjunct) in indicator.conjuncts.iter().enumerate() {
                let how = How::WithoutCondition(name.clone(), index);
                let words = format!("without the condition `{}`", conjunct.text);
                found.part(&indicator.meta.file, words, how);
            }
        }
    }
    found.changes
}

struct Found {
    changes: Vec<Change>,
}

impl Found {
    fn part(&mut self, file: &Path, words: String, how: How) {
        self.changes.push(Change { file: file.to_path_buf(), line: 1, words, how });
    }

    fn text(&mut self, file: &File, place: Range<usize>, with: String) {
        let Some(before) = file.text.get(place.clone()) else { return };
        let line = file.text[..place.start].matches('\n').count() + 1;
        let around = file.text.lines().nth(line - 1).unwrap_or_default().trim();
        let words = format!("`{before}` becomes `{with}` in: {around}");
        self.changes.push(Change {
            file: file.path.clone(),
            line,
            words,
            how: How::Text(place.start, place.end, with),
        });
    }

    /// All that can be changed in a rule file.
    fn document(&mut self, file: &File, table: &DeTable<'_>) {
        for (key, value) in items(table, file) {
            let name = key.value.as_str();
            match (name, value.get_ref()) {
                ("params", DeValue::Table(params)) => {
                    for (_, param) in items(params, file) {
                        if let DeValue::Table(param) = param.get_ref()
                            && let Some(value) = param.get("value")
                        {
                            let share = param.get("unit").and_then(|unit| text_of(file, unit));
                            let share = share.is_some_and(|unit| unit.value == "share");
                            self.number(file, value, share);
                            self.segments(file, param, share);
                        }
                    }
                }
                ("features", DeValue::Table(features)) => {
                    for (_, feature) in items(features, file) {
                        let sql = match feature.get_ref() {
                            DeValue::Table(table) => table.get("sql").and_then(|sql| text_of(file, sql)),
                            _ => text_of(file, feature),
                        };
                        if let Some(sql) = sql {
                            self.comparisons(&sql, false);
                            self.window(&sql);
                        }
                    }
                }
                ("when" | "where", _) => {
                    if let Some(sql) = text_of(file, value) {
                        self.comparisons(&sql, false);
                    }
                }
                ("within" | "lookback", _) => {
                    if let Some(text) = text_of(file, value) {
                        self.length(&text.trimmed());
                    }
                }
                ("points" | "at_least" | "on_days" | "alert_at" | "gate_points", _) => {
                    self.number(file, value, false);
                }
                ("different", DeValue::Table(different)) => {
                    for (_, number) in items(different, file) {
                        self.number(file, number, false);
                    }
                }
                ("exclude", DeValue::Array(exclusions)) => {
                    for exclusion in exclusions.iter() {
                        let DeValue::Table(exclusion) = exclusion.get_ref() else { continue };
                        for (key, value) in items(exclusion, file) {
                            if ["when", "list"].contains(&key.value.as_str()) {
                                let place = key.span.start..value.span().end;
                                self.text(file, place, "when = \"false\"".into());
                            }
                        }
                    }
                }
                ("gate" | "corroborator" | "step", DeValue::Array(parts)) => {
                    for part in parts.iter() {
                        if let DeValue::Table(part) = part.get_ref() {
                            self.document(file, part);
                        }
                    }
                }
                ("gate", DeValue::Table(part)) => self.document(file, part),
                _ => {}
            }
        }
    }

    /// A number, a little greater and a little less.
    /// What a parameter says of segments.
    fn segments(&mut self, file: &File, param: &DeTable<'_>, share: bool) {
        let Some(DeValue::Array(segments)) = param.get("segment").map(|segments| segments.get_ref()) else {
            return;
        };
        for segment in segments.iter() {
            let DeValue::Table(segment) = segment.get_ref() else { continue };
            if let Some(value) = segment.get("value") {
                self.number(file, value, share);
            }
            if let Some(when) = segment.get("when").and_then(|when| text_of(file, when)) {
                self.comparisons(&when, false);
            }
        }
    }

    fn number(&mut self, file: &File, value: &Spanned<DeValue<'_>>, share: bool) {
        let text = match value.get_ref() {
            DeValue::Integer(number) => number.as_str().replace('_', ""),
            DeValue::Float(number) => number.as_str().replace('_', ""),
            _ => return,
        };
        for with in moved(&text, share) {
            self.text(file, value.span(), with);
        }
    }

    /// Each comparison strict or not strict, and turned round. Of a whole query only those with a parameter.
    fn comparisons(&mut self, text: &Text, with_parameter: bool) {
        let dialect = GenericDialect {};
        let Ok(tokens) = Tokenizer::new(&dialect, &text.value).tokenize_with_location() else { return };
        let tokens: Vec<_> =
            tokens.into_iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).collect();
        for (index, token) in tokens.iter().enumerate() {
            let others: &[&str] = match token.token {
                Token::GtEq => &[">", "<"],
                Token::LtEq => &["<", ">"],
                Token::Gt => &[">=", "<="],
                Token::Lt => &["<=", ">="],
                Token::Eq => &["<>"],
                Token::Neq => &["="],
                _ => continue,
            };
            let parameter = |at: Option<usize>| {
                at.and_then(|at| tokens.get(at))
                    .is_some_and(|near| matches!(&near.token, Token::Placeholder(_)))
            };
            if with_parameter && !parameter(index.checked_sub(1)) && !parameter(Some(index + 1)) {
                continue;
            }
            let place = text.at(token.span).span;
            // An escape in the text hides where the token stands.
            let shown = text.file.text.get(place.clone());
            if shown.is_some_and(|shown| shown == token.token.to_string()) {
                for with in others {
                    self.text(&text.file, place.clone(), (*with).to_string());
                }
            }
        }
    }

    /// The length of a feature's window, halved and doubled.
    fn window(&mut self, text: &Text) {
        let Some(at) = text.value.find("OVER ") else { return };
        self.length(&text.part(at + 5..text.value.len()));
    }

    /// `14 days`: halved and doubled.
    fn length(&mut self, text: &Text) {
        let digits = text.value.bytes().take_while(u8::is_ascii_digit).count();
        let number = text.part(0..digits);
        let Ok(length) = number.value.parse::<u64>() else { return };
        // An escape in the text hides where the number stands.
        if text.file.text.get(number.span.clone()) != Some(number.value.as_str()) {
            return;
        }
        self.text(&text.file, number.span.clone(), (length * 2).to_string());
        if length > 1 {
            self.text(&text.file, number.span, (length / 2).to_string());
        }
    }
}

/// A number a little greater and a little less: whole ones up to twenty by one, others by a fifth; a share stays below 1.
fn moved(text: &str, share: bool) -> Vec<String> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let Ok(digits) = format!("{whole}{fraction}").parse::<i128>() else { return Vec::new() };
    let scale = fraction.len();
    if digits < 0 || scale > 12 || digits > i128::from(u64::MAX) {
        return Vec::new();
    }
    if scale == 0 {
        let step = if digits <= 20 { 1 } else { digits / 5 };
        let less = (digits >= step).then(|| (digits - step).to_string());
        return [Some((digits + step).to_string()), less].into_iter().flatten().collect();
    }
    let one = 10_i128.pow(scale as u32);
    let written = |digits: i128| {
        let one = one * 10;
        format!("{}.{:0width$}", digits / one, digits % one, width = scale + 1)
    };
    let more = digits * 12;
    let more = if share && more > one * 10 { (digits + one) * 5 } else { more };
    [(more != digits * 10).then(|| written(more)), (digits > 0).then(|| written(digits * 8))]
        .into_iter()
        .flatten()
        .collect()
}

impl Tester {
    fn rules_mut(&mut self) -> &mut RuleSet {
        Arc::make_mut(&mut self.rules)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_moved_exactly() {
        assert_eq!(moved("8", false), ["9", "7"]);
        assert_eq!(moved("0", false), ["1"]);
        assert_eq!(moved("500", false), ["600", "400"]);
        assert_eq!(moved("0.05", true), ["0.060", "0.040"]);
        assert_eq!(moved("0.9", true), ["0.95", "0.72"]);
        assert_eq!(moved("1.0", true), ["0.80"]);
        assert_eq!(moved("2.5", false), ["3.00", "2.00"]);
        assert!(moved("-3", false).is_empty());
    }

    #[test]
    fn every_place_of_a_rule_file_that_holds_a_decision_is_changed() {
        let text = "\
when = \"direction = 'in' AND senders >= $least\"\n\
within = \"14 days\"\n\
[features]\n\
senders = \"count(DISTINCT counterparty) FILTER (WHERE amount_base < $small) OVER 30 days\"\n\
[params.least]\nvalue = 8\nunit = \"accounts\"\nsource = \"judgement\"\n\
[[corroborator]]\nindicator = \"x\"\npoints = 20\nat_least = 2\n\
[[exclude]]\nwhen = \"customer.segment = 'business'\"\nwords = \"a business\"\n";
        let file = File { path: "rules/x.toml".into(), text: text.into() };
        let document = parse(&file, &mut Diagnostics::default()).unwrap();
        let mut found = Found { changes: Vec::new() };
        found.document(&file, document.get_ref());
        let told: Vec<String> = found
            .changes
            .iter()
            .map(|change| {
                let words = change.words.split(" in: ").next().unwrap();
                format!("{} {words}", change.line)
            })
            .collect();
        let wanted = [
            "1 `=` becomes `<>`",
            "1 `>=` becomes `>`",
            "1 `>=` becomes `<`",
            "2 `14` becomes `28`",
            "2 `14` becomes `7`",
            "4 `<` becomes `<=`",
            "4 `<` becomes `>=`",
            "4 `30` becomes `60`",
            "4 `30` becomes `15`",
            "6 `8` becomes `9`",
            "6 `8` becomes `7`",
            "11 `20` becomes `21`",
            "11 `20` becomes `19`",
            "12 `2` becomes `3`",
            "12 `2` becomes `1`",
            "14 `when = \"customer.segment = 'business'\"` becomes `when = \"false\"`",
        ];
        assert_eq!(told, wanted);
    }
}
