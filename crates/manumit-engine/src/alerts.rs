//! From what holds to an alert that explains itself: values against thresholds, transactions, parties, gaps.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Decimal128Type, Int32Type, TimestampMicrosecondType};
use arrow::util::display::array_value_to_string;
use chrono::{DateTime, FixedOffset, SecondsFormat};
use manumit_model::alert::{
    self, Alert, EvidenceTransaction, ExclusionChecked, HeldAt, IndicatorEvidence, Measured, Moment, Party,
    Role, ScoreLines, Subject, Suppressed, TypologyRef, Window,
};
use manumit_model::currency::minor_units;
use manumit_model::money::Money;
use manumit_rules::ir::{Format, Piece, RuleSet, Typology};
use manumit_sql::reference::Reference;

use crate::EngineError;
use crate::basis::{self, Asked};
use crate::engine::Options;
use crate::measure::written;
use crate::program::Program;
use crate::shard::EvidenceRequest;
use crate::typology::{Held, Hit, Raise, parts};

/// What the shards and the log gave for one alert.
pub(crate) struct Evidence {
    /// Per request, in the order of [`requests`]: numbers of counted transactions.
    pub counted: Vec<Vec<u64>>,
    /// Numbers of the rows of `rows`.
    pub numbers: Vec<u64>,
    pub rows: RecordBatch,
    /// What was not looked at, in words.
    pub gaps: Vec<String>,
}

/// What must be asked of the shards: all hits of each key, for each part that holds.
pub(crate) fn requests(rules: &RuleSet, raise: &Raise) -> Vec<EvidenceRequest> {
    let members: Vec<_> = parts(&rules.typologies[raise.typology]).collect();
    let mut list = Vec::new();
    for held in &raise.held {
        for hits in &held.keys {
            let indicator = members[held.part].indicator;
            let key = hits.latest.key.to_string();
            list.push(EvidenceRequest { indicator, key, times: hits.times.clone() });
        }
    }
    list
}

pub(crate) fn build(
    program: &Program,
    raise: &Raise,
    evidence: &Evidence,
    options: &Options,
    reference: &Reference,
) -> Result<Alert, EngineError> {
    let rules = &program.rules;
    let typology = &rules.typologies[raise.typology];
    let rows = Transactions { rows: &evidence.rows };
    let place: BTreeMap<u64, usize> = evidence.numbers.iter().enumerate().map(|(i, &n)| (n, i)).collect();
    let mut counted_by: BTreeMap<usize, BTreeSet<&str>> = BTreeMap::new();
    let mut indicators = Vec::new();
    let mut counted = evidence.counted.iter();
    let mut asked = Vec::new();
    for held in &raise.held {
        let part = parts(typology).nth(held.part);
        let Some(part) = part else { continue };
        let meta = &rules.indicators[part.indicator].meta;
        let mut mine: BTreeSet<usize> = BTreeSet::new();
        for hits in &held.keys {
            let seqs = counted.next().map_or(&[][..], Vec::as_slice);
            mine.extend(seqs.iter().chain(&hits.seqs).filter_map(|seq| place.get(seq).copied()));
        }
        for &row in &mine {
            counted_by.entry(row).or_default().insert(&meta.id);
        }
        let gate = held.part < typology.gate.len();
        let points = match held.part {
            0 => typology.gate_points,
            _ => part.points,
        };
        indicators.push(indicator_evidence(program, part.indicator, held, gate, points, options, {
            mine.iter().map(|&row| rows.text("tx_id", row).unwrap_or_default()).collect()
        })?);
        let keys = held.keys.iter().map(|hits| hits.latest.key.to_string()).collect();
        asked.push(Asked { indicator: part.indicator, gate, rows: mine, keys });
    }
    let shown: Vec<usize> = counted_by.keys().copied().collect();
    let transactions: Vec<EvidenceTransaction> = shown
        .iter()
        .take(options.max_transactions)
        .map(|&row| rows.evidence(row, typology, &raise.subject, &counted_by[&row], &options.base_currency))
        .collect();
    let span = |row: Option<&usize>| match row {
        Some(&row) => rows.moment(row),
        None => moment(raise.time, None),
    };
    let window = Window { from: span(shown.first()), to: span(shown.last()) };
    let latest = latest_hit(raise);
    let urgent = typology.always_urgent || raise.score >= typology.urgent_at;
    let explanation = explanation(typology, raise, &indicators, &window, shown.len());
    let group =
        (typology.subject == "group").then(|| reference.group_at(&raise.subject, raise.time)).flatten();
    let (group, linked) = group.unzip();
    let basis = options.keep_transactions.then(|| {
        let mut basis = basis::basis(rules, raise, &evidence.rows, &asked, reference, &options.base_currency);
        basis.reference.extend(linked.into_iter().flatten());
        basis
    });
    let alert = Alert {
        format: alert::FORMAT.into(),
        alert_id: raise.id.to_string(),
        revision: raise.revision,
        change: raise.change,
        typology: TypologyRef {
            id: typology.meta.id.clone(),
            version: typology.meta.version,
            title: typology.meta.title.clone(),
            status: typology.meta.status.clone(),
            severity: typology.meta.severity.clone(),
            exploitation: typology.meta.exploitation.clone(),
        },
        rule_set_hash: rules.hash.clone(),
        subject: Subject { kind: typology.subject.clone(), key: raise.subject.clone() },
        score: raise.score,
        score_lines: ScoreLines { alert_at: typology.alert_at, urgent_at: typology.urgent_at },
        urgent,
        raised_at: moment(raise.time, latest.and_then(|hit| hit.utc_offset_minutes)),
        opened_at: moment(raise.opened.0, raise.opened.1),
        window,
        explanation,
        indicators,
        transactions,
        transactions_omitted: shown.len().saturating_sub(options.max_transactions) as u64,
        parties: rows.parties(&shown, typology, &raise.subject),
        group,
        exclusions_checked: exclusions(typology, raise),
        data_gaps: [gaps(program, typology, &rows, &shown), evidence.gaps.clone()].concat(),
        innocent_explanations: typology.meta.false_positives.clone(),
        baseline: Vec::new(),
        fiu_keywords: typology.keywords.clone(),
        tlp: typology.tlp.clone(),
        suppressed: Suppressed {
            since_last_revision: raise.suppressed_since_last,
            since_opened: raise.suppressed_since_opened,
        },
        rescreened: None,
        basis,
    };
    Ok(alert.sealed()?)
}

fn latest_hit(raise: &Raise) -> Option<&Hit> {
    raise.held.iter().filter_map(Held::latest).max_by_key(|hit| (hit.time, hit.seq))
}

fn indicator_evidence(
    program: &Program,
    index: usize,
    held: &Held,
    gate: bool,
    points: u32,
    options: &Options,
    tx_ids: Vec<String>,
) -> Result<IndicatorEvidence, EngineError> {
    let indicator = &program.rules.indicators[index];
    let compiled = &program.indicators[index];
    let latest = held.latest();
    let mut measured = Vec::new();
    let mut explanation = String::new();
    if let Some(hit) = latest {
        let row = hit.rows.slice(hit.row, 1);
        for (c, left, right) in &compiled.measured {
            let conjunct = &indicator.conjuncts[*c];
            let Some(comparison) = &conjunct.comparison else { continue };
            // `direction = 'out'` says which rows are meant, and measures nothing.
            if !conjunct.uses_feature && comparison.source.is_none() {
                continue;
            }
            let unit = comparison.unit.as_deref();
            let write = |array| written(array, 0, Format::Auto, unit, &options.base_currency);
            measured.push(Measured {
                name: comparison.name.clone(),
                value: write(&left.evaluate(&row)?),
                comparison: comparison.operator.clone(),
                threshold: write(&right.evaluate(&row)?),
                unit: comparison.unit.clone(),
                source: comparison.source.clone(),
                condition: indicator.conjuncts[*c].text.clone(),
            });
        }
        for (piece, expression) in indicator.explain.0.iter().zip(&compiled.pieces) {
            match (piece, expression) {
                (Piece::Text(text), _) => explanation.push_str(text),
                (Piece::Value { name, format, .. }, Some(expression)) => {
                    let feature = indicator.features.iter().find(|f| f.name == *name);
                    let unit = feature.and_then(|f| f.unit.as_deref());
                    let value = expression.evaluate(&row)?;
                    explanation.push_str(&written(&value, 0, *format, unit, &options.base_currency));
                }
                (Piece::Value { .. }, None) => {}
            }
        }
    }
    let keys = held.keys.len();
    if keys > 1 {
        explanation.push_str(&format!(
            " (the latest of {} times, {keys} different {}s)",
            held.hits, indicator.subject
        ));
    }
    Ok(IndicatorEvidence {
        id: indicator.meta.id.clone(),
        version: indicator.meta.version,
        title: indicator.meta.title.clone(),
        part: if gate { "gate" } else { "corroborator" }.into(),
        points,
        hit_at: latest.map_or_else(|| moment(0, None), |hit| moment(hit.time, hit.utc_offset_minutes)),
        hits: held.hits,
        days: held.days,
        explanation,
        measured,
        references: indicator.meta.references.clone(),
        tx_ids,
        held_at: if options.keep_transactions { held_at(held) } else { Vec::new() },
    })
}

/// All hits of a part, by time.
fn held_at(held: &Held) -> Vec<HeldAt> {
    let hits = held.keys.iter().flat_map(|key| key.held_at.iter().map(|hit| (hit, key.latest.key.as_ref())));
    let mut hits: Vec<(&(i64, String), &str)> = hits.collect();
    hits.sort();
    let all = hits.into_iter().map(|((time, tx_id), key)| HeldAt {
        tx_id: tx_id.clone(),
        at: moment(*time, None).utc,
        key: key.to_string(),
    });
    all.collect()
}

fn explanation(
    typology: &Typology,
    raise: &Raise,
    indicators: &[IndicatorEvidence],
    window: &Window,
    transactions: usize,
) -> String {
    let day = |moment: &Moment| -> String {
        moment.local.as_ref().unwrap_or(&moment.utc).chars().take(10).collect()
    };
    let mut text = sentence(&typology.summary);
    text.push_str(&format!(
        " Seen from {} to {} in {transactions} transaction{}.",
        day(&window.from),
        day(&window.to),
        if transactions == 1 { "" } else { "s" }
    ));
    for indicator in indicators {
        text.push(' ');
        text.push_str(&sentence(&indicator.explanation));
    }
    text.push_str(&format!(
        " Score {} (alert from {}, urgent from {}). This is a hypothesis for review, not a finding.",
        raise.score, typology.alert_at, typology.urgent_at
    ));
    text
}

/// Begins with a capital letter and ends with a full stop.
fn sentence(text: &str) -> String {
    let text = text.trim();
    let mut letters = text.chars();
    let mut out: String = letters.next().map_or(String::new(), |c| c.to_uppercase().collect());
    out.push_str(letters.as_str());
    if !out.ends_with(['.', '!', '?']) {
        out.push('.');
    }
    out
}

fn exclusions(typology: &Typology, raise: &Raise) -> Vec<ExclusionChecked> {
    let gate = raise.held.iter().find(|held| held.part < typology.gate.len());
    let hit = gate.and_then(Held::latest);
    typology
        .exclusions
        .iter()
        .enumerate()
        .map(|(x, exclusion)| {
            let known = hit.and_then(|hit| hit.exclusions.get(x).copied().flatten());
            ExclusionChecked {
                exclusion: exclusion.words.clone(),
                result: if known.is_some() { "did_not_apply" } else { "not_known" }.into(),
            }
        })
        .collect()
}

/// Columns that the typology's rules read and that are unknown in all of the evidence, or in part of it.
fn gaps(program: &Program, typology: &Typology, rows: &Transactions<'_>, shown: &[usize]) -> Vec<String> {
    let names: BTreeSet<&str> = parts(typology)
        .flat_map(|part| &program.rules.indicators[part.indicator].columns)
        .map(String::as_str)
        .collect();
    let mut gaps = Vec::new();
    for part in parts(typology) {
        let indicator = &program.rules.indicators[part.indicator];
        if !indicator.unmet.is_empty() {
            gaps.push(format!(
                "`{}` was not looked at: no feed maps `{}`",
                indicator.meta.id,
                indicator.unmet.join("`, `")
            ));
        }
    }
    for name in names {
        let sides: Vec<&str> = match manumit_model::schema::ENTRY_SIDES.iter().find(|side| side.0 == name) {
            Some((_, out, inward)) => vec![out, inward],
            None if name == "direction" => continue,
            None => vec![name],
        };
        // Only card purchases have a merchant.
        let has_it = |row: usize| {
            !matches!(name, "mcc" | "merchant_id" | "merchant_name")
                || rows.text("method", row).is_none_or(|method| method == "card")
        };
        let shown: Vec<usize> = shown.iter().copied().filter(|&row| has_it(row)).collect();
        let known = shown.iter().filter(|&&row| sides.iter().any(|side| rows.known(side, row))).count();
        let missing = shown.len() - known;
        if shown.is_empty() {
            continue;
        }
        if known == 0 {
            gaps.push(format!("`{name}` is unknown in all transactions of the evidence"));
        } else if missing > 0 && matches!(name, "memo" | "local_time" | "city" | "device_id" | "amount_base")
        {
            gaps.push(format!(
                "`{name}` is missing on {} % of the transactions",
                missing * 100 / shown.len()
            ));
        }
    }
    gaps
}

/// Canonical transactions as an alert shows them.
struct Transactions<'a> {
    rows: &'a RecordBatch,
}

impl Transactions<'_> {
    fn known(&self, column: &str, row: usize) -> bool {
        self.rows.column_by_name(column).is_some_and(|c| c.is_valid(row))
    }

    fn text(&self, column: &str, row: usize) -> Option<String> {
        let column = self.rows.column_by_name(column)?;
        column.is_valid(row).then(|| array_value_to_string(column, row).unwrap_or_default())
    }

    /// An amount with as many places as its currency has, or more where it needs them.
    fn amount(&self, column: &str, currency: &str, row: usize) -> Option<String> {
        let amounts = self.rows.column_by_name(column)?.as_primitive_opt::<Decimal128Type>()?;
        amounts.is_valid(row).then(|| match i64::try_from(amounts.value(row)) {
            Ok(value) => Money(value).plain(u32::from(minor_units(currency).unwrap_or(0))),
            Err(_) => amounts.value_as_string(row),
        })
    }

    fn moment(&self, row: usize) -> Moment {
        let time = self.rows.column_by_name("event_time").map_or(0, |times| {
            times.as_primitive_opt::<TimestampMicrosecondType>().map_or(0, |times| times.value(row))
        });
        let offset = self.rows.column_by_name("utc_offset_minutes").and_then(|offsets| {
            let offsets = offsets.as_primitive_opt::<Int32Type>()?;
            offsets.is_valid(row).then(|| offsets.value(row))
        });
        moment(time, offset)
    }

    /// Columns that hold the subject on the paying and on the paid side; only accounts, customers and groups have sides.
    fn sides(typology: &Typology) -> Option<(&'static str, &'static str)> {
        match typology.subject.as_str() {
            "account" | "counterparty" => Some(("debtor_account", "creditor_account")),
            "customer" | "counterparty_customer" => Some(("debtor_customer", "creditor_customer")),
            "group" => Some(("debtor_group", "creditor_group")),
            _ => None,
        }
    }

    /// (the subject pays, the subject is paid)
    fn part_of(&self, row: usize, typology: &Typology, subject: &str) -> (bool, bool) {
        let Some((debtor, creditor)) = Self::sides(typology) else { return (false, false) };
        let is = |column: &str| self.text(column, row).is_some_and(|value| value == subject);
        (is(debtor), is(creditor))
    }

    fn evidence(
        &self,
        row: usize,
        typology: &Typology,
        subject: &str,
        indicators: &BTreeSet<&str>,
        base_currency: &str,
    ) -> EvidenceTransaction {
        let currency = self.text("currency", row).unwrap_or_default();
        const APART: &[&str] = &["tx_id", "event_time", "amount", "currency", "amount_base"];
        let direction = match self.part_of(row, typology, subject) {
            (true, true) => "both",
            (true, false) => "out",
            (false, true) => "in",
            (false, false) => "related",
        };
        let fields = manumit_model::row::json(self.rows, row, APART);
        EvidenceTransaction {
            tx_id: self.text("tx_id", row).unwrap_or_default(),
            at: self.moment(row),
            direction: direction.into(),
            amount: self.amount("amount", &currency, row).unwrap_or_default(),
            currency,
            amount_base: self.amount("amount_base", base_currency, row),
            indicators: indicators.iter().map(|id| (*id).to_string()).collect(),
            fields,
        }
    }

    /// The subject first, then all others by how many transactions they take part in.
    fn parties(&self, shown: &[usize], typology: &Typology, subject: &str) -> Vec<Party> {
        #[derive(Default)]
        struct Other {
            name: Option<String>,
            transactions: u64,
            pays: bool,
            is_paid: bool,
            member: bool,
        }
        let customers = typology.subject.contains("customer");
        let columns: [(&str, &str); 2] = if customers {
            [("debtor_customer", "debtor_name"), ("creditor_customer", "creditor_name")]
        } else {
            [("debtor_account", "debtor_name"), ("creditor_account", "creditor_name")]
        };
        let mut own_name = None;
        let mut own_transactions = 0;
        let mut others: BTreeMap<String, Other> = BTreeMap::new();
        for &row in shown {
            let (pays, is_paid) = self.part_of(row, typology, subject);
            own_transactions += u64::from(pays || is_paid);
            for (side, (key, name)) in columns.iter().enumerate() {
                let Some(key) = self.text(key, row) else { continue };
                let name = self.text(name, row);
                if key == subject && (pays || is_paid) {
                    own_name = own_name.or(name);
                    continue;
                }
                // The account on this side is one of the group's.
                let member = typology.subject == "group" && if side == 0 { pays } else { is_paid };
                let other = others.entry(key).or_default();
                other.member |= member;
                other.name = other.name.take().or(name);
                other.transactions += 1;
                other.pays |= side == 0 && is_paid;
                other.is_paid |= side == 1 && pays;
            }
        }
        let kind = if customers { "customer" } else { "account" };
        let mut list: Vec<Party> = others
            .into_iter()
            .map(|(key, other)| Party {
                kind: kind.into(),
                key,
                name: other.name,
                role_hypothesis: match (other.pays, other.is_paid) {
                    _ if other.member => typology.roles.members,
                    (true, false) => typology.roles.payers,
                    (false, true) => typology.roles.payees,
                    // Pays and is paid: of the two hypotheses the one that protects.
                    (true, true) if typology.roles.payers == Role::PossibleVictim => Role::PossibleVictim,
                    (true, true) => typology.roles.payees,
                    (false, false) => Role::Unknown,
                },
                transactions: other.transactions,
            })
            .collect();
        list.sort_by(|a, b| b.transactions.cmp(&a.transactions).then_with(|| a.key.cmp(&b.key)));
        let own = Party {
            kind: typology.subject.clone(),
            key: subject.to_string(),
            name: own_name,
            role_hypothesis: typology.roles.subject,
            transactions: if Self::sides(typology).is_some() { own_transactions } else { shown.len() as u64 },
        };
        list.insert(0, own);
        list
    }
}

pub(crate) fn moment(micros: i64, offset_minutes: Option<i32>) -> Moment {
    let Some(utc) = DateTime::from_timestamp_micros(micros) else {
        return Moment { utc: micros.to_string(), local: None };
    };
    let format = if micros.rem_euclid(1_000_000) == 0 { SecondsFormat::Secs } else { SecondsFormat::Micros };
    let local = offset_minutes
        .and_then(|minutes| FixedOffset::east_opt(minutes.checked_mul(60)?))
        .map(|zone| utc.with_timezone(&zone).to_rfc3339_opts(format, false));
    Moment { utc: utc.to_rfc3339_opts(format, true), local }
}
