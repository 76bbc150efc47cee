//! What a backtest found, counted as it comes: hits are numbers, alerts are kept in short.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use arrow::array::{Array, AsArray};
use arrow::datatypes::TimestampMicrosecondType;
use chrono::{DateTime, NaiveDate};
use manumit_engine::{Engine, StateUse, Step};
use manumit_model::Alert;
use manumit_model::alert::Role;
use serde::Serialize;

use crate::history::{Extent, Period};

/// All that one version of the rules found.
#[derive(Debug, Default)]
pub struct Findings {
    /// What was read, the time before the period that fills the windows included.
    pub extent: Extent,
    /// Transactions evaluated within the period.
    pub evaluated: u64,
    /// By indicator id.
    pub indicators: BTreeMap<String, HitCounts>,
    /// Alerts opened in the period, by the time they were opened, then typology and subject.
    pub alerts: Vec<Opened>,
    /// Revisions within the period.
    pub revisions: u64,
    /// Times an open alert held again without being published.
    pub suppressed: u64,
    /// Gate hits that an exclusion silenced.
    pub excluded: u64,
    /// Expressions of rules that failed on a row, in words, each once.
    pub faults: BTreeSet<String>,
    /// Rows that a key was too full of to keep for sequences, and rows at which a sequence was not looked for to the end.
    pub bounded: [u64; 2],
    /// Indicators that no column of the data feeds, with what they lack.
    pub unmet: BTreeMap<String, Vec<String>>,
    /// Typology ids, also of those that found nothing.
    pub typologies: Vec<TypologyName>,
    /// The most that rows of windows took, in memory and outside.
    pub state: StateUse,
    /// Seconds from the first row to the last.
    pub seconds: f64,
    /// Hash of the rules.
    pub rules: String,
}

/// A typology's id and title.
#[derive(Debug, Clone, Serialize)]
pub struct TypologyName {
    /// Id.
    pub id: String,
    /// Version.
    pub version: u32,
    /// One line.
    pub title: String,
}

/// Hits of one indicator.
#[derive(Debug, Default)]
pub struct HitCounts {
    /// All.
    pub total: u64,
    /// By UTC day.
    pub days: BTreeMap<NaiveDate, u64>,
    /// Subjects that it held for.
    pub subjects: HashSet<Box<str>>,
}

/// An alert as it was opened, in short, with the highest score it reached.
#[derive(Debug, Clone, Serialize)]
pub struct Opened {
    /// Id of the alert: equal in every run over the same transactions.
    pub alert_id: String,
    /// Id of the typology.
    pub typology: String,
    /// Kind of its subject.
    pub subject_kind: String,
    /// Key of its subject.
    pub subject: String,
    /// When it was opened, RFC 3339 UTC.
    pub opened_at: String,
    /// When it was raised first and with each revision, microseconds UTC.
    #[serde(skip)]
    pub raised: BTreeSet<i64>,
    /// Highest score of all its revisions.
    pub score: u32,
    /// Any revision was urgent.
    pub urgent: bool,
    /// How often it was published.
    pub revisions: u32,
    /// What the last revision said.
    pub explanation: String,
    /// Keys of all parties named, by kind, with the part they are taken to play.
    #[serde(skip)]
    pub parties: BTreeSet<(String, String, Role)>,
}

impl Opened {
    /// The day it was opened.
    pub fn day(&self) -> Option<NaiveDate> {
        self.opened_at.get(..10)?.parse().ok()
    }
}

impl Findings {
    /// Begins with what is known before the first row.
    pub(crate) fn new(engine: &Engine, extent: Extent) -> Findings {
        let rules = engine.rules();
        Findings {
            extent,
            indicators: rules.indicators.iter().map(|i| (i.meta.id.clone(), HitCounts::default())).collect(),
            unmet: rules
                .indicators
                .iter()
                .filter(|i| !i.unmet.is_empty())
                .map(|i| (i.meta.id.clone(), i.unmet.clone()))
                .collect(),
            typologies: rules
                .typologies
                .iter()
                .map(|t| TypologyName {
                    id: t.meta.id.clone(),
                    version: t.meta.version,
                    title: t.meta.title.clone(),
                })
                .collect(),
            rules: rules.hash.clone(),
            ..Findings::default()
        }
    }

    /// Takes what a step found; what lies before the period only filled the windows.
    pub(crate) fn take(&mut self, engine: &Engine, step: Step, period: &Period, open: &mut OpenAlerts) {
        self.evaluated += step.evaluated;
        let now = engine.state_use();
        self.state = StateUse {
            memory: now.memory.max(self.state.memory),
            outside: now.outside.max(self.state.outside),
            keys: now.keys.max(self.state.keys),
            texts: now.texts.max(self.state.texts),
            beside: now.beside.max(self.state.beside),
            transactions: now.transactions.max(self.state.transactions),
            transactions_outside: now.transactions_outside.max(self.state.transactions_outside),
            hits: now.hits.max(self.state.hits),
            ..now
        };
        self.suppressed += step.suppressed;
        self.excluded += step.excluded;
        self.faults.extend(step.faults.iter().map(|fault| fault.message.clone()));
        self.bounded[0] += step.steps_dropped;
        self.bounded[1] += step.sequences_given_up;
        for hits in &step.hits {
            let Some(indicator) = engine.rules().indicators.get(hits.indicator) else { continue };
            let counts = self.indicators.entry(indicator.meta.id.clone()).or_default();
            let Some(times) = hits
                .rows
                .column_by_name("event_time")
                .and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>())
            else {
                continue;
            };
            let keys = hits.rows.column_by_name(&indicator.about).and_then(|c| c.as_string_opt::<i32>());
            for row in (0..times.len()).filter(|&row| period.holds(times.value(row))) {
                counts.total += 1;
                if let Some(day) = DateTime::from_timestamp_micros(times.value(row)) {
                    *counts.days.entry(day.date_naive()).or_default() += 1;
                }
                if let Some(keys) = keys.filter(|keys| keys.is_valid(row))
                    && !counts.subjects.contains(keys.value(row))
                {
                    counts.subjects.insert(keys.value(row).into());
                }
            }
        }
        for alert in step.alerts {
            self.alert(alert, period, open);
        }
    }

    fn alert(&mut self, alert: Alert, period: &Period, open: &mut OpenAlerts) {
        let parties = alert.parties.iter().map(|p| (p.kind.clone(), p.key.clone(), p.role_hypothesis));
        let raised = [&alert.opened_at.utc, &alert.raised_at.utc].into_iter();
        let raised = raised.filter_map(|time| DateTime::parse_from_rfc3339(time).ok());
        let raised = raised.map(|time| time.timestamp_micros());
        if alert.revision == 1 {
            let time = DateTime::parse_from_rfc3339(&alert.opened_at.utc).map(|t| t.timestamp_micros());
            if !time.is_ok_and(|time| period.holds(time)) {
                return;
            }
            open.0.insert(alert.alert_id.clone(), self.alerts.len());
            self.alerts.push(Opened {
                alert_id: alert.alert_id,
                typology: alert.typology.id,
                subject_kind: alert.subject.kind,
                subject: alert.subject.key,
                raised: raised.collect(),
                opened_at: alert.opened_at.utc,
                score: alert.score,
                urgent: alert.urgent,
                revisions: 1,
                explanation: alert.explanation,
                parties: parties.collect(),
            });
        } else if let Some(known) = open.0.get(&alert.alert_id).and_then(|&at| self.alerts.get_mut(at)) {
            self.revisions += 1;
            known.revisions = known.revisions.max(alert.revision);
            known.score = known.score.max(alert.score);
            known.urgent |= alert.urgent;
            known.raised.extend(raised);
            known.explanation = alert.explanation;
            known.parties.extend(parties);
        }
    }

    /// Alerts of one typology.
    pub fn of<'a>(&'a self, typology: &'a str) -> impl Iterator<Item = &'a Opened> {
        self.alerts.iter().filter(move |alert| alert.typology == typology)
    }
}

/// Where each alert of the period stands in the list, by id.
#[derive(Default)]
pub(crate) struct OpenAlerts(BTreeMap<String, usize>);
