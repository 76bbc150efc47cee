//! `manumit verify-alert`: decides an alert again from nothing but itself.
//!
//! An alert carries the text of its rules, what reference tables said about the parties, and its transactions
//! ([`Basis`]). The rules are loaded from there and the transactions go through the engine that runs use; what it finds is
//! compared with what the alert says. No project, configuration, archive or network is looked at.

use std::io::Read as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use manumit_model::Alert;
use manumit_model::alert::Basis;

mod compare;
mod replay;
mod rows;

use replay::Bundle;

/// Which alerts to verify.
#[derive(Args, Debug)]
pub struct VerifyAlertArgs {
    /// An alert as JSON, or alerts as JSON lines; - for standard input
    #[arg(value_name = "ALERT.json")]
    alerts: PathBuf,
}

/// What becomes of one alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Its evidence leads to what it says.
    Holds {
        /// What was taken on the alert's word.
        notes: Vec<String>,
    },
    /// Its evidence leads to something else, or it was changed.
    DoesNotHold {
        /// Each difference, in words.
        differences: Vec<String>,
    },
    /// Its evidence does not suffice.
    CannotBeDecided {
        /// Why, in words.
        reasons: Vec<String>,
    },
}

impl Verdict {
    fn exit_code(&self) -> u8 {
        match self {
            Verdict::Holds { .. } => 0,
            Verdict::DoesNotHold { .. } => 1,
            Verdict::CannotBeDecided { .. } => 2,
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (word, lines) = match self {
            Verdict::Holds { notes } => ("holds", notes),
            Verdict::DoesNotHold { differences } => ("does not hold", differences),
            Verdict::CannotBeDecided { reasons } => ("cannot be decided", reasons),
        };
        write!(out, "{word}")?;
        lines.iter().try_for_each(|line| write!(out, "\n    {line}"))
    }
}

/// Verifies the alerts of a file; the report, and the exit code: 0 all hold, 1 one does not, 2 one cannot be decided.
///
/// # Errors
/// When the file cannot be read; what is no alert is reported as one that cannot be decided.
pub fn verify_alert(args: &VerifyAlertArgs) -> anyhow::Result<(String, u8)> {
    let name = args.alerts.display().to_string();
    let bytes = if name == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).context("standard input cannot be read")?;
        bytes
    } else {
        std::fs::read(&args.alerts).with_context(|| format!("{name} cannot be read"))?
    };
    let mut report = Vec::new();
    let mut counts = [0_u64; 3];
    let mut bundles: Option<Bundle> = None;
    for (number, alert) in serde_json::Deserializer::from_slice(&bytes).into_iter::<Alert>().enumerate() {
        let (head, verdict) = match alert {
            Ok(alert) => {
                let head = format!(
                    "alert {} revision {} ({} about {} {}, raised {}, score {})",
                    alert.alert_id,
                    alert.revision,
                    alert.typology.id,
                    alert.subject.kind,
                    alert.subject.key,
                    alert.raised_at.utc,
                    alert.score
                );
                (head, verdict(&alert, &mut bundles))
            }
            Err(error) => {
                let reason = format!("this is no alert as `manumit schema alert` describes it: {error}");
                (
                    format!("{name}, document {}", number + 1),
                    Verdict::CannotBeDecided { reasons: vec![reason] },
                )
            }
        };
        counts[usize::from(verdict.exit_code())] += 1;
        report.push(format!("{head}: {verdict}"));
    }
    let [hold, differ, open] = counts;
    if hold + differ + open == 0 {
        report.push(format!("{name} holds no alert"));
        return Ok((report.join("\n"), 2));
    }
    if hold + differ + open > 1 {
        report.push(format!("{hold} hold, {differ} do not hold, {open} cannot be decided"));
    }
    let code = if differ > 0 {
        1
    } else if open > 0 {
        2
    } else {
        0
    };
    Ok((report.join("\n"), code))
}

/// Decides one alert. `known`: rules of the alert before, which mostly serve again.
fn verdict(alert: &Alert, known: &mut Option<Bundle>) -> Verdict {
    let undecided = |reason: String| Verdict::CannotBeDecided { reasons: vec![reason] };
    if alert.format != manumit_model::alert::FORMAT {
        return undecided(format!(
            "its format is `{}`; this program reads `{}`",
            alert.format,
            manumit_model::alert::FORMAT
        ));
    }
    let Some(basis) = &alert.basis else {
        return undecided(
            "it has no `basis`: it comes from a version before 0.1.0 had one, or from a backtest without evidence".into(),
        );
    };
    let mut differences = changed(alert, basis);
    let mut reasons = Vec::new();
    if alert.transactions_omitted > 0 {
        reasons.push(format!(
            "{} transactions of its evidence are not listed, as it would have been too long; the run's archive has them",
            alert.transactions_omitted
        ));
    }
    let bundle = match Bundle::of(basis, known) {
        Ok(bundle) => bundle,
        Err(reason) => return settled(differences, [reasons, vec![reason]].concat(), Vec::new()),
    };
    let mut notes = Vec::new();
    match bundle.rules.typologies.iter().find(|typology| typology.meta.id == alert.typology.id) {
        None => {
            let fault = format!("its rule texts hold no typology `{}`", alert.typology.id);
            return settled([differences, vec![fault]].concat(), reasons, notes);
        }
        Some(typology) => {
            reasons.extend(replay::beyond_evidence(&bundle.rules, typology, alert));
            compare::opening(alert, basis, typology, &mut differences, &mut notes);
        }
    }
    if reasons.is_empty() {
        match bundle.replay(alert, basis) {
            Ok(found) => differences.extend(compare::differences(alert, &found)),
            Err(reason) => reasons.push(reason),
        }
    }
    settled(differences, reasons, notes)
}

/// What is known to be wrong counts, even where not all can be known.
fn settled(differences: Vec<String>, reasons: Vec<String>, notes: Vec<String>) -> Verdict {
    if !differences.is_empty() {
        Verdict::DoesNotHold { differences }
    } else if !reasons.is_empty() {
        Verdict::CannotBeDecided { reasons }
    } else {
        Verdict::Holds { notes }
    }
}

/// What its checksums tell.
fn changed(alert: &Alert, basis: &Basis) -> Vec<String> {
    let mut changed = Vec::new();
    match alert.seal() {
        Ok(seal) if seal == basis.seal => {}
        _ => changed.push(
            "something in it was changed after it was raised: its seal is that of another content".into(),
        ),
    }
    for rule in &basis.rules {
        if manumit_model::alert::sha256(rule.text.as_bytes()) != rule.sha256 {
            changed.push(format!("the text of {} is not the one whose hash stands beside it", rule.file));
        }
    }
    changed
}
