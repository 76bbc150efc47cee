//! The rules of an alert, and its transactions through the engine.

use std::sync::Arc;

use chrono::DateTime;
use manumit_engine::{Engine, OnlyHits, Options};
use manumit_model::Alert;
use manumit_model::alert::{Basis, IndicatorEvidence};
use manumit_model::schema;
use manumit_rules::Sources;
use manumit_rules::ir::{FeatureKind, Indicator, RuleSet, Typology};
use manumit_sql::Sql;

use super::rows;

/// What the alert's transactions lead to.
pub(crate) struct Found {
    /// The alert at the same time about the same subject, if there is one.
    pub alert: Option<Alert>,
    /// What was measured at the hits that the alert names, whether or not thresholds are reached.
    pub measured: Option<Alert>,
}

/// Rules and reference data of an alert, loaded.
pub(crate) struct Bundle {
    of: Basis,
    pub rules: RuleSet,
    sql: Sql,
}

impl Bundle {
    /// # Errors
    /// Why the rules cannot be used here.
    pub(crate) fn of<'b>(basis: &Basis, known: &'b mut Option<Bundle>) -> Result<&'b Bundle, String> {
        let same = |bundle: &Bundle| {
            let of = &bundle.of;
            (&of.rules, &of.reference, &of.lists, &of.terms, &of.mcc_groups)
                == (&basis.rules, &basis.reference, &basis.lists, &basis.terms, &basis.mcc_groups)
        };
        if !known.as_ref().is_some_and(same) {
            *known = None;
            let sql = Sql::new();
            let restored = sql.reference().update(|reference| reference.restore(basis));
            restored.map_err(|fault| format!("its reference data cannot be read: {fault}"))?;
            let files = basis.rules.iter().map(|rule| (rule.file.clone().into(), rule.text.clone()));
            let rules = manumit_rules::load(&Sources::from_files(files), &sql).map_err(|faults| {
                format!("its rule texts cannot be loaded by this version of Manumit:\n{faults}")
            })?;
            *known = Some(Bundle { of: basis.clone(), rules, sql });
        }
        known.as_ref().ok_or_else(|| "its rules were not loaded".into())
    }

    /// # Errors
    /// What cannot be read, or why the engine gave up.
    pub(crate) fn replay(&self, alert: &Alert, basis: &Basis) -> Result<Found, String> {
        let found = self.run(alert, basis, frequent(self.rules.clone()))?;
        let measured = self.run(alert, basis, unconditional(frequent(self.rules.clone())))?;
        Ok(Found { alert: found, measured })
    }

    fn run(&self, alert: &Alert, basis: &Basis, rules: RuleSet) -> Result<Option<Alert>, String> {
        let words = |error: manumit_engine::EngineError| format!("the engine cannot run on it: {error}");
        let columns: Vec<String> = schema::TRANSACTIONS
            .iter()
            .map(|column| column.name.to_string())
            .filter(|name| !is_missing(name, &basis.columns_missing))
            .collect();
        let options = Options {
            base_currency: basis.base_currency.clone(),
            max_transactions: usize::MAX,
            only_hits: Some(Arc::new(only_hits(&rules, alert)?)),
            ..Options::default()
        };
        let rows = rows::transactions(alert)?;
        let mut engine = Engine::new(Arc::new(rules), &self.sql, &columns, options).map_err(words)?;
        // Lateness beyond all time: an alert that was changed may list its transactions in any order.
        let partition = engine.add_partition("alert", i64::MAX);
        engine.push(partition, rows).map_err(words)?;
        engine.end(partition);
        let mut step = engine.step().map_err(words)?;
        step.append(engine.finish().map_err(words)?);
        let is_it = |found: &Alert| {
            found.typology.id == alert.typology.id
                && found.subject.key == alert.subject.key
                && found.raised_at.utc == alert.raised_at.utc
        };
        Ok(step.alerts.into_iter().find(is_it))
    }
}

/// A column of `entries` stands for two of `transactions`.
fn is_missing(name: &str, missing: &[String]) -> bool {
    missing.iter().any(|missing| match schema::ENTRY_SIDES.iter().find(|side| side.0 == missing) {
        Some((_, out, inward)) => name == *out || name == *inward,
        None => name == missing,
    })
}

/// Each time that a typology holds is told: the alert may be any of its revisions.
fn frequent(mut rules: RuleSet) -> RuleSet {
    rules.typologies.iter_mut().for_each(|typology| typology.revise_every_micros = 0);
    rules
}

/// The same rules, but everything holds: so that what is measured at a hit can be told where a threshold is missed.
fn unconditional(mut rules: RuleSet) -> RuleSet {
    for indicator in &mut rules.indicators {
        indicator.condition = "tx_id IS NOT NULL".into();
        indicator.row_condition = None;
        for conjunct in &mut indicator.conjuncts {
            conjunct.sql = "tx_id IS NOT NULL".into();
            if let Some(comparison) = &mut conjunct.comparison {
                // Not compared: no row is ruled out by it.
                comparison.operator = String::new();
            }
        }
    }
    for typology in &mut rules.typologies {
        typology.exclusions.clear();
        typology.alert_at = 0;
        for part in typology.gate.iter_mut().chain(&mut typology.corroborators) {
            (part.at_least, part.on_days) = (1, 1);
            part.different.clear();
        }
    }
    rules
}

/// The hits that the alert names; that of other rows their windows are not known is why no others count.
fn only_hits(rules: &RuleSet, alert: &Alert) -> Result<OnlyHits, String> {
    let of = |indicator: &Indicator| -> Result<_, String> {
        let named = alert.indicators.iter().filter(|held| held.id == indicator.meta.id);
        let hits = named.flat_map(|held| &held.held_at).map(|hit| {
            let at = DateTime::parse_from_rfc3339(&hit.at)
                .map_err(|error| format!("`{}` is no instant: {error}", hit.at))?;
            Ok((at.timestamp_micros(), hit.key.clone(), hit.tx_id.clone()))
        });
        hits.collect()
    };
    rules.indicators.iter().map(of).collect()
}

/// Why some indicator that the alert names cannot be worked out from the transactions that it lists.
pub(crate) fn beyond_evidence(rules: &RuleSet, typology: &Typology, alert: &Alert) -> Vec<String> {
    let mut reasons = Vec::new();
    for part in typology.gate.iter().chain(&typology.corroborators) {
        let indicator = &rules.indicators[part.indicator];
        if alert.indicators.iter().any(|held: &IndicatorEvidence| held.id == indicator.meta.id) {
            let why = beyond(indicator);
            reasons.extend(why.map(|why| format!("`{}` {why}", indicator.meta.id)));
        }
    }
    reasons
}

fn beyond(indicator: &Indicator) -> Option<String> {
    for feature in &indicator.features {
        if let FeatureKind::Window(window) = &feature.kind
            && window.frame.rows().is_some()
            && window.filter.is_some()
        {
            return Some(format!(
                "counts some of the latest rows of a key by `{}`, and an alert lists only those that were counted",
                feature.name
            ));
        }
    }
    let keyed = indicator.keyed.as_ref()?;
    if let [first, ..] = keyed.hits_of.as_slice() {
        return Some(format!("reads the hits of `{first}`, whose transactions an alert does not list"));
    }
    let words: Vec<&str> = keyed.query.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let table = manumit_sql::reference::Table::ALL.map(|table| table.name());
    let read = table.into_iter().find(|table| words.iter().any(|word| word.eq_ignore_ascii_case(table)))?;
    Some(format!("joins the reference table `{read}`, of which an alert holds no rows"))
}
