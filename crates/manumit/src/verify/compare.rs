//! What an alert says against what its transactions give, in words.

use chrono::{DateTime, FixedOffset};
use manumit_engine::alert_id;
use manumit_model::Alert;
use manumit_model::alert::{Basis, Change, EvidenceTransaction, IndicatorEvidence};
use manumit_rules::ir::Typology;
use serde_json::Value;

use super::replay::Found;

const MICROS_A_DAY: i64 = 86_400_000_000;

fn instant(text: &str) -> Option<DateTime<FixedOffset>> {
    DateTime::parse_from_rfc3339(text).ok()
}

/// Whether the alert was opened by the hit that it names. Of a later revision that hit may lie before the evidence.
pub(crate) fn opening(
    alert: &Alert,
    basis: &Basis,
    typology: &Typology,
    differences: &mut Vec<String>,
    notes: &mut Vec<String>,
) {
    let Some(opening) = &basis.opening else {
        notes.push("which hit opened it is not told, so its id was not checked".into());
        return;
    };
    let (Some(raised), Some(opened)) = (instant(&alert.raised_at.utc), instant(&alert.opened_at.utc)) else {
        differences.push("the times at which it was opened and raised cannot be read".into());
        return;
    };
    let (raised, opened) = (raised.timestamp_micros(), opened.timestamp_micros());
    let id = |at: i64| {
        let (typology, subject) = (&alert.typology, &alert.subject.key);
        alert_id(&typology.id, typology.version, subject, at, &opening.tx_id).to_string()
    };
    // Programs before this one made it from the time of the gate's hit, which is nearly always the same.
    if ![id(opened), id(opening.at_micros)].contains(&alert.alert_id) {
        differences.push(format!(
            "the alert says its id is {}; its opening gives {}",
            alert.alert_id,
            id(opened)
        ));
    }
    let first = alert.revision == 1;
    if first != (alert.change == Change::Opened)
        || (first && alert.opened_at != alert.raised_at)
        || opened > raised
    {
        differences.push(format!(
            "revision {} cannot have been opened at {} and raised at {}",
            alert.revision, alert.opened_at.utc, alert.raised_at.utc
        ));
    }
    if raised.saturating_sub(opened) > typology.open_for_micros {
        differences.push(format!(
            "it was opened at {}, and alerts of `{}` stay open for {} days",
            alert.opened_at.utc,
            typology.meta.id,
            typology.open_for_micros / MICROS_A_DAY
        ));
    }
    let within = raised.saturating_sub(typology.within_micros);
    if opening.at_micros < within {
        notes.push(format!(
            "it was opened at {} by a hit before the evidence of this revision: see revision 1",
            alert.opened_at.utc
        ));
        return;
    }
    let gates = alert.indicators.iter().filter(|indicator| indicator.part == "gate");
    let known = gates.flat_map(|gate| &gate.held_at).any(|hit| {
        hit.tx_id == opening.tx_id
            && instant(&hit.at).is_some_and(|at| at.timestamp_micros() == opening.at_micros)
    });
    if !known {
        differences.push(format!("transaction {}, which opened it, is no hit of its gate", opening.tx_id));
    }
}

/// Every difference; empty when the alert says what its transactions give.
pub(crate) fn differences(alert: &Alert, found: &Found) -> Vec<String> {
    let mut out = Vec::new();
    amounts(alert, &mut out);
    let measured = found.measured.as_ref();
    let Some(again) = &found.alert else {
        out.push(format!(
            "by its transactions and rules `{}` does not hold at {}",
            alert.typology.id, alert.raised_at.utc
        ));
        match measured {
            Some(measured) => values(alert, measured, &mut out),
            None => out.push("its transactions give no hit of its gate at the times it names".into()),
        }
        return out;
    };
    let mut say = |what: &str, says: &dyn ToString, gives: &dyn ToString| {
        let (says, gives) = (says.to_string(), gives.to_string());
        if says != gives {
            out.push(format!("{what}: the alert says {says}, its transactions and rules give {gives}"));
        }
    };
    say("version of the typology", &alert.typology.version, &again.typology.version);
    say("subject", &alert.subject.kind, &again.subject.kind);
    say("score", &alert.score, &again.score);
    say("points to alert", &alert.score_lines.alert_at, &again.score_lines.alert_at);
    say("points to be urgent", &alert.score_lines.urgent_at, &again.score_lines.urgent_at);
    say("urgent", &alert.urgent, &again.urgent);
    for (at, theirs) in alert.indicators.iter().enumerate() {
        match same(&alert.indicators, at, &again.indicators) {
            Some(ours) => indicator(theirs, ours, &mut out),
            None => {
                out.push(format!(
                    "`{}`: the alert says that it holds, by its transactions it does not",
                    theirs.id
                ));
                if let Some(measured) = measured
                    && let Some(ours) = same(&alert.indicators, at, &measured.indicators)
                {
                    measurements(theirs, ours, &mut out);
                }
            }
        }
    }
    for (at, ours) in again.indicators.iter().enumerate() {
        if same(&again.indicators, at, &alert.indicators).is_none() {
            out.push(format!("`{}` holds by its transactions, and the alert does not say so", ours.id));
        }
    }
    transactions(&alert.transactions, &again.transactions, &mut out);
    others(alert, again, &mut out);
    out
}

/// The same part in another list: an indicator may be the gate and, held more often, a corroborator as well.
fn same<'o>(
    theirs: &[IndicatorEvidence],
    at: usize,
    others: &'o [IndicatorEvidence],
) -> Option<&'o IndicatorEvidence> {
    let before = theirs[..at].iter().filter(|one| one.id == theirs[at].id).count();
    others.iter().filter(|other| other.id == theirs[at].id).nth(before)
}

/// Amounts in the base currency are those in it.
fn amounts(alert: &Alert, out: &mut Vec<String>) {
    let base = alert.basis.as_ref().map_or("", |basis| basis.base_currency.as_str());
    for transaction in alert.transactions.iter().filter(|transaction| transaction.currency == base) {
        if let Some(in_base) = &transaction.amount_base
            && *in_base != transaction.amount
        {
            out.push(format!(
                "transaction {}: the amount is {}, and {in_base} in the same currency",
                transaction.tx_id, transaction.amount
            ));
        }
    }
}

fn values(alert: &Alert, measured: &Alert, out: &mut Vec<String>) {
    for (at, theirs) in alert.indicators.iter().enumerate() {
        match same(&alert.indicators, at, &measured.indicators) {
            Some(ours) => {
                hits(theirs, ours, out);
                measurements(theirs, ours, out);
            }
            None => out.push(format!("`{}`: its transactions give no hit at the times it names", theirs.id)),
        }
    }
}

fn hits(theirs: &IndicatorEvidence, ours: &IndicatorEvidence, out: &mut Vec<String>) {
    if theirs.hits != ours.hits {
        out.push(format!(
            "`{}`: the alert says it held {} times, its transactions give {}",
            theirs.id, theirs.hits, ours.hits
        ));
    }
}

fn measurements(theirs: &IndicatorEvidence, ours: &IndicatorEvidence, out: &mut Vec<String>) {
    if theirs.measured.len() != ours.measured.len() {
        out.push(format!(
            "`{}`: the alert names {} conditions, its rule has {}",
            theirs.id,
            theirs.measured.len(),
            ours.measured.len()
        ));
        return;
    }
    for (theirs_one, ours_one) in theirs.measured.iter().zip(&ours.measured) {
        let name = &theirs_one.name;
        if theirs_one.value != ours_one.value {
            out.push(format!(
                "`{}`, {name}: the alert says {}, its transactions give {}",
                theirs.id, theirs_one.value, ours_one.value
            ));
        }
        if (&theirs_one.threshold, &theirs_one.condition) != (&ours_one.threshold, &ours_one.condition) {
            out.push(format!(
                "`{}`, {name}: the alert says {} {} ({}), its rule and transactions give {} ({})",
                theirs.id,
                theirs_one.comparison,
                theirs_one.threshold,
                theirs_one.condition,
                ours_one.threshold,
                ours_one.condition
            ));
        }
    }
}

fn indicator(theirs: &IndicatorEvidence, ours: &IndicatorEvidence, out: &mut Vec<String>) {
    let before = out.len();
    hits(theirs, ours, out);
    measurements(theirs, ours, out);
    let mut say = |what: &str, says: String, gives: String| {
        if says != gives {
            out.push(format!(
                "`{}`, {what}: the alert says {says}, its transactions give {gives}",
                theirs.id
            ));
        }
    };
    say("version", theirs.version.to_string(), ours.version.to_string());
    say("points", theirs.points.to_string(), ours.points.to_string());
    say("days", theirs.days.to_string(), ours.days.to_string());
    say("last held", theirs.hit_at.utc.clone(), ours.hit_at.utc.clone());
    say("transactions counted", theirs.tx_ids.join(", "), ours.tx_ids.join(", "));
    if theirs != ours && out.len() == before {
        out.push(format!(
            "`{}`: its title, references, explanation, conditions or hits are not those of its rule and transactions",
            theirs.id
        ));
    }
}

fn transactions(theirs: &[EvidenceTransaction], ours: &[EvidenceTransaction], out: &mut Vec<String>) {
    // Ids may come again from another feed.
    let key = |t: &EvidenceTransaction| {
        let text = |name: &str| t.fields.get(name).map(Value::to_string).unwrap_or_default();
        (t.tx_id.clone(), text("feed"), text("source"), text("source_partition"), text("source_offset"))
    };
    for listed in theirs {
        match ours.iter().find(|t| key(t) == key(listed)) {
            None => out.push(format!("transaction {}: listed, and counted by no indicator", listed.tx_id)),
            Some(counted) if counted != listed => out.push(format!(
                "transaction {}: its direction, times or the indicators that counted it are not what follows from it",
                listed.tx_id
            )),
            Some(_) => {}
        }
    }
    if theirs.len() == ours.len() && theirs.iter().zip(ours).any(|(a, b)| key(a) != key(b)) {
        out.push("its transactions do not stand in the order in which they happened".into());
    }
}

/// Everything else that follows from rules and transactions, field by field.
fn others(alert: &Alert, again: &Alert, out: &mut Vec<String>) {
    const TOLD: [&str; 15] = [
        // Compared above.
        "score",
        "score_lines",
        "urgent",
        "indicators",
        "transactions",
        "subject",
        // Taken on the alert's word, or checked with its opening.
        "alert_id",
        "rule_set_hash",
        "revision",
        "change",
        "opened_at",
        "rescreened",
        "suppressed",
        "baseline",
        "basis",
    ];
    let differ = !out.is_empty();
    let (Ok(Value::Object(theirs)), Ok(Value::Object(ours))) =
        (serde_json::to_value(alert), serde_json::to_value(again))
    else {
        return;
    };
    for (name, value) in &theirs {
        // Sentences say the numbers again that were found to differ.
        let follows = differ && name == "explanation";
        if !TOLD.contains(&name.as_str()) && !follows && ours.get(name) != Some(value) {
            out.push(format!("`{name}` is not what follows from its rules and transactions"));
        }
    }
}
