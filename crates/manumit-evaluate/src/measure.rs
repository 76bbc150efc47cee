//! The figures: recall, precision, load, time to detection, calibration, confusion.

use std::collections::{BTreeMap, BTreeSet};

use manumit_model::money;
use serde::Serialize;

use crate::alerts::Raised;
use crate::truth::{Case, Dispositions, Truth, Verdict};

const DAY: i64 = 86_400_000_000;

/// What the figures are of.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scope {
    /// Customers that were watched.
    pub customers: Option<u64>,
    /// First and last moment that was watched, microseconds UTC; where not given, those of the alerts and cases.
    pub watched: (Option<i64>, Option<i64>),
    /// An alert is in time until so long after the case's last transaction, microseconds.
    pub grace: i64,
}

/// All figures. Shares are `None` where they would be of nothing.
#[derive(Debug, Serialize)]
pub struct Evaluation {
    /// `manumit.evaluation/1`.
    pub format: &'static str,
    /// Version of the program.
    pub program: &'static str,
    /// Days that were watched.
    pub days: f64,
    /// Customers that were watched.
    pub customers: Option<u64>,
    /// Alerts opened.
    pub alerts: usize,
    /// Of them about a case; with dispositions: reported, confirmed or escalated.
    pub right: usize,
    /// About somebody who is known to be innocent; with dispositions none, as [`Evaluation::dismissed`] counts them.
    pub innocent: usize,
    /// Dismissed by analysts.
    pub dismissed: usize,
    /// About somebody of whom nothing is known.
    pub unknown: usize,
    /// Of whom analysts have not decided.
    pub open: usize,
    /// The others: what `precision` is a share of.
    pub decided: usize,
    /// What became of the dispositions, when there are any.
    pub dispositions: Option<DispositionsUsed>,
    /// Right, of those that are decided: with dispositions of the decided ones, with cases of all.
    pub precision: Option<f64>,
    /// Cases.
    pub cases: usize,
    /// Of them alerted in time, by any typology.
    pub found: usize,
    /// found / cases.
    pub recall: Option<f64>,
    /// Alerts of 10,000 customers in 30 days.
    pub per_10k_month: Option<f64>,
    /// Alerts a day.
    pub per_day: f64,
    /// By typology, and `all` by none.
    pub typologies: Vec<OfTypology>,
    /// By variant of the cases, when they have any.
    pub variants: Vec<Share>,
    /// By score.
    pub calibration: Vec<Band>,
    /// Populations of innocent people, and who of them was alerted.
    pub confusion: Vec<Mistaken>,
    /// Each case.
    pub each: Vec<CaseFound>,
}

/// What became of the decisions of analysts.
#[derive(Debug, Serialize)]
pub struct DispositionsUsed {
    /// Alerts that the file decides.
    pub alerts: usize,
    /// Of them those that are not among the alerts, by id: they count for nothing.
    pub unknown: Vec<String>,
    /// Those decided again and otherwise, by id: the latest decision counts.
    pub changed: Vec<String>,
}

/// One typology.
#[derive(Debug, Serialize)]
pub struct OfTypology {
    /// Its id.
    pub typology: String,
    /// Its alerts.
    pub alerts: usize,
    /// Of them decided: all, where there are no dispositions.
    pub decided: usize,
    /// Of them about a case of any kind, or by dispositions.
    pub right: usize,
    /// right / decided.
    pub precision: Option<f64>,
    /// Cases known for it.
    pub cases: usize,
    /// Of them alerted by it in time.
    pub found: usize,
    /// Of them alerted in time by any typology.
    pub found_by_any: usize,
    /// found / cases.
    pub recall: Option<f64>,
    /// The same by variant of the cases, when they have any: found by this typology.
    pub variants: Vec<Share>,
    /// Median days from the first relevant transaction to the first alert, of the cases found by it.
    pub days_to_alert: Option<f64>,
}

/// Cases of one kind.
#[derive(Debug, Serialize)]
pub struct Share {
    /// The kind.
    pub name: String,
    /// Cases.
    pub cases: usize,
    /// Found in time: by any typology, or by that of [`OfTypology`].
    pub found: usize,
    /// found / cases.
    pub recall: Option<f64>,
}

/// Alerts of a band of scores.
#[derive(Debug, Serialize)]
pub struct Band {
    /// Least score.
    pub from: u32,
    /// Greatest score.
    pub to: u32,
    /// Alerts.
    pub alerts: usize,
    /// Of them decided: all, where there are no dispositions.
    pub decided: usize,
    /// Right ones.
    pub right: usize,
    /// right / decided.
    pub precision: Option<f64>,
}

/// A population of innocent people.
#[derive(Debug, Serialize)]
pub struct Mistaken {
    /// Its name.
    pub population: String,
    /// People known of it.
    pub subjects: usize,
    /// Of them alerted.
    pub alerted: usize,
    /// alerted / subjects.
    pub share: Option<f64>,
    /// By which typologies, with how many subjects each.
    pub by: BTreeMap<String, usize>,
}

/// One case.
#[derive(Debug, Serialize)]
pub struct CaseFound {
    /// Its name.
    pub case: String,
    /// What it is known for.
    pub typologies: Vec<String>,
    /// How it hides.
    pub variant: String,
    /// Typologies that alerted it in time, the first one first.
    pub found_by: Vec<String>,
    /// Alerted, but too late.
    pub late: bool,
    /// Days from the first relevant transaction to the first alert in time.
    pub days: Option<f64>,
    /// Money that had moved until then, in the base currency.
    pub moved: Option<String>,
    /// Of all money of the case.
    pub moved_share: Option<f64>,
}

fn share(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        length if length.is_multiple_of(2) => Some((values[middle - 1] + values[middle]) / 2.0),
        _ => Some(values[middle]),
    }
}

/// The alerts of a case, and which of them came in time.
struct Met<'a> {
    /// With the time at which each told of the case first.
    in_time: Vec<(&'a Raised, i64)>,
    late: bool,
}

/// An alert tells of a case when it is raised, or revised, after the case began: what was open before knew nothing of it.
fn met<'a>(case: &Case, alerts: &'a [Raised], grace: i64) -> Met<'a> {
    let mut met = Met { in_time: Vec::new(), late: false };
    for alert in alerts.iter().filter(|alert| case.subjects.contains(&alert.subject)) {
        let after = |time: &&i64| case.begins.is_none_or(|begins| **time >= begins);
        let Some(told) = alert.raised.iter().find(after) else { continue };
        if case.ends.is_none_or(|ends| *told <= ends.saturating_add(grace)) {
            met.in_time.push((alert, *told));
        } else {
            met.late = true;
        }
    }
    met
}

/// What an alert turns out to be.
fn verdict(alert: &Raised, truth: &Truth, dispositions: Option<&Dispositions>) -> Option<Verdict> {
    if let Some(dispositions) = dispositions {
        return Some(dispositions.verdicts.get(&alert.id).copied().unwrap_or(Verdict::Open));
    }
    if truth.cases.values().any(|case| case.subjects.contains(&alert.subject)) {
        return Some(Verdict::Right);
    }
    truth.innocent.contains_key(&alert.subject).then_some(Verdict::Wrong)
}

/// Counts of a set of alerts.
#[derive(Default)]
struct Counted {
    alerts: usize,
    right: usize,
    wrong: usize,
    unknown: usize,
    open: usize,
}

impl Counted {
    fn of<'a>(alerts: impl Iterator<Item = &'a (Raised, Option<Verdict>)>) -> Counted {
        let mut counted = Counted::default();
        for (_, verdict) in alerts {
            counted.alerts += 1;
            match verdict {
                Some(Verdict::Right) => counted.right += 1,
                Some(Verdict::Wrong) => counted.wrong += 1,
                Some(Verdict::Open) => counted.open += 1,
                None => counted.unknown += 1,
            }
        }
        counted
    }

    fn decided(&self) -> usize {
        self.alerts - self.open
    }

    /// Somebody of whom nothing is known is no case: where cases are planted, all of them are known.
    fn precision(&self) -> Option<f64> {
        share(self.right, self.decided())
    }
}

/// Works out all figures. With dispositions they decide which alerts are right; cases still give recall.
pub fn evaluate(
    alerts: &[Raised],
    truth: &Truth,
    dispositions: Option<&Dispositions>,
    scope: &Scope,
) -> Evaluation {
    let decided: Vec<(Raised, Option<Verdict>)> =
        alerts.iter().map(|alert| (alert.clone(), verdict(alert, truth, dispositions))).collect();
    let all = Counted::of(decided.iter());
    let cases: Vec<(&String, &Case, Met<'_>)> =
        truth.cases.iter().map(|(name, case)| (name, case, met(case, alerts, scope.grace))).collect();
    let found = cases.iter().filter(|(_, _, met)| !met.in_time.is_empty()).count();
    let times = alerts.iter().map(|alert| alert.opened);
    let times: Vec<i64> =
        times.chain(truth.cases.values().flat_map(|case| case.begins.into_iter().chain(case.ends))).collect();
    let from = scope.watched.0.or(times.iter().min().copied()).unwrap_or_default();
    let to = scope.watched.1.or(times.iter().max().copied()).unwrap_or_default();
    let days = (to.saturating_sub(from).max(0) as f64 / DAY as f64).max(1.0);
    let mut names: BTreeSet<&str> = alerts.iter().map(|alert| alert.typology.as_str()).collect();
    names.extend(truth.cases.values().flat_map(|case| case.typologies.iter().map(String::as_str)));
    let typologies = names.into_iter().map(|name| of_typology(name, &decided, &cases)).collect();
    let variants = variants(cases.iter().map(|(_, case, met)| (*case, !met.in_time.is_empty())));
    Evaluation {
        format: "manumit.evaluation/1",
        program: env!("CARGO_PKG_VERSION"),
        days,
        customers: scope.customers,
        alerts: all.alerts,
        right: all.right,
        innocent: if dispositions.is_some() { 0 } else { all.wrong },
        dismissed: if dispositions.is_some() { all.wrong } else { 0 },
        unknown: all.unknown,
        open: all.open,
        decided: all.decided(),
        dispositions: dispositions.map(|dispositions| used(dispositions, alerts)),
        precision: all.precision(),
        cases: cases.len(),
        found,
        recall: share(found, cases.len()),
        per_10k_month: scope
            .customers
            .filter(|customers| *customers > 0)
            .map(|customers| all.alerts as f64 * 10_000.0 / customers as f64 * 30.0 / days),
        per_day: all.alerts as f64 / days,
        typologies,
        variants,
        calibration: calibration(&decided),
        confusion: confusion(&decided, truth),
        each: cases.iter().map(|(name, case, met)| each(name, case, met)).collect(),
    }
}

fn used(dispositions: &Dispositions, alerts: &[Raised]) -> DispositionsUsed {
    let known: BTreeSet<&str> = alerts.iter().map(|alert| alert.id.as_str()).collect();
    let ids = dispositions.verdicts.keys();
    DispositionsUsed {
        alerts: dispositions.verdicts.len(),
        unknown: ids.filter(|id| !known.contains(id.as_str())).cloned().collect(),
        changed: dispositions.changed.iter().cloned().collect(),
    }
}

/// How many of each variant are found; none where the cases tell no variant.
fn variants<'a>(cases: impl Iterator<Item = (&'a Case, bool)>) -> Vec<Share> {
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (case, found) in cases.filter(|(case, _)| !case.variant.is_empty()) {
        let count = counts.entry(&case.variant).or_default();
        count.0 += 1;
        count.1 += usize::from(found);
    }
    let all = counts.into_iter();
    all.map(|(name, (cases, found))| Share { name: name.into(), cases, found, recall: share(found, cases) })
        .collect()
}

fn of_typology(
    name: &str,
    decided: &[(Raised, Option<Verdict>)],
    cases: &[(&String, &Case, Met<'_>)],
) -> OfTypology {
    let own = Counted::of(decided.iter().filter(|(alert, _)| alert.typology == name));
    let known: Vec<_> = cases.iter().filter(|(_, case, _)| case.typologies.contains(name)).collect();
    let first = |met: &Met<'_>| {
        met.in_time.iter().filter(|(alert, _)| alert.typology == name).map(|(_, told)| *told).min()
    };
    let found: Vec<(i64, &Case)> =
        known.iter().filter_map(|(_, case, met)| Some((first(met)?, *case))).collect();
    let days = found
        .iter()
        .filter_map(|(at, case)| Some(at.saturating_sub(case.begins?).max(0) as f64 / DAY as f64))
        .collect();
    OfTypology {
        typology: name.to_string(),
        alerts: own.alerts,
        decided: own.decided(),
        right: own.right,
        precision: own.precision(),
        cases: known.len(),
        found: found.len(),
        found_by_any: known.iter().filter(|(_, _, met)| !met.in_time.is_empty()).count(),
        recall: share(found.len(), known.len()),
        variants: variants(known.iter().map(|(_, case, met)| (*case, first(met).is_some()))),
        days_to_alert: median(days),
    }
}

/// In bands of ten points.
fn calibration(decided: &[(Raised, Option<Verdict>)]) -> Vec<Band> {
    let bands: BTreeSet<u32> = decided.iter().map(|(alert, _)| alert.score / 10 * 10).collect();
    let band = |from: u32| {
        let of = Counted::of(decided.iter().filter(|(alert, _)| alert.score / 10 * 10 == from));
        let (alerts, decided, right) = (of.alerts, of.decided(), of.right);
        Band { from, to: from + 9, alerts, decided, right, precision: of.precision() }
    };
    bands.into_iter().map(band).collect()
}

fn confusion(decided: &[(Raised, Option<Verdict>)], truth: &Truth) -> Vec<Mistaken> {
    let mut by_subject: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (alert, _) in decided {
        by_subject.entry(&alert.subject).or_default().insert(&alert.typology);
    }
    let mut populations: BTreeMap<&str, Mistaken> = BTreeMap::new();
    for (subject, population) in &truth.innocent {
        let entry = populations.entry(population).or_insert_with(|| Mistaken {
            population: population.clone(),
            subjects: 0,
            alerted: 0,
            share: None,
            by: BTreeMap::new(),
        });
        entry.subjects += 1;
        if let Some(typologies) = by_subject.get(subject.as_str()) {
            entry.alerted += 1;
            for typology in typologies {
                *entry.by.entry((*typology).to_string()).or_default() += 1;
            }
        }
        entry.share = share(entry.alerted, entry.subjects);
    }
    populations.into_values().collect()
}

fn each(name: &str, case: &Case, met: &Met<'_>) -> CaseFound {
    let mut found_by: Vec<String> = Vec::new();
    for (alert, _) in &met.in_time {
        if !found_by.contains(&alert.typology) {
            found_by.push(alert.typology.clone());
        }
    }
    let first = met.in_time.iter().map(|(_, told)| *told).min();
    let days =
        first.zip(case.begins).map(|(at, begins)| at.saturating_sub(begins).max(0) as f64 / DAY as f64);
    let until = first.filter(|_| !case.moved.is_empty()).map(|first| {
        case.moved.iter().filter(|(at, _)| *at <= first).map(|(_, amount)| amount).sum::<i128>()
    });
    let whole: i128 = case.moved.iter().map(|(_, amount)| amount).sum();
    CaseFound {
        case: name.to_string(),
        typologies: case.typologies.iter().cloned().collect(),
        variant: case.variant.clone(),
        late: found_by.is_empty() && met.late,
        found_by,
        days,
        moved: until.map(|until| money::group_decimal(until, money::SCALE, 2)),
        // A share for readers; the sums are exact.
        moved_share: until.filter(|_| whole > 0).map(|until| until as f64 / whole as f64),
    }
}
