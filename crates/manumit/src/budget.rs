//! Whether the rules' state fits the machine, before anything runs, and what happens when it does not.

use std::fmt::Write as _;

use std::sync::Arc;

use anyhow::{Context as _, bail};
use manumit_engine::{Engine, StateLimit};
use manumit_rules::ir::{Indicator, RuleSet};
use manumit_state::Segments;

use crate::config::{Config, State};

const DAY_MICROS: u128 = 86_400_000_000;

/// Bytes that an indicator's rows take when each day brings what the bank expects.
fn bytes_kept(indicator: &Indicator, a_day: u64, tail_micros: Option<i64>) -> u128 {
    let estimate = indicator.estimate();
    let mut kept = u128::from(estimate.kept_micros.unsigned_abs());
    if let (Some(keyed), Some(tail)) = (&indicator.keyed, tail_micros) {
        // The rest is in the archive.
        let tail = tail.max(keyed.every_micros).saturating_add(keyed.every_micros);
        kept = kept.min(u128::from(tail.unsigned_abs()));
    }
    // Multiplied before it is divided: part of a day counts as such.
    u128::from(estimate.bytes_per_row) * u128::from(a_day) * kept / DAY_MICROS
}

/// A size as people write it.
fn size(bytes: u128) -> String {
    let tenths = bytes * 10 / (1 << 30);
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

/// Where rows go that memory has no room for; `None` when the configuration names no folder.
///
/// # Errors
/// When `[state]` names no size, or a folder that cannot be used.
pub fn limit(state: &State, threads: usize) -> anyhow::Result<Option<StateLimit>> {
    let Some(folder) = &state.folder else { return Ok(None) };
    let memory = in_words(state.bytes_of_rows(), state)?;
    let store = Arc::new(Segments::create(folder, threads)?);
    Ok(Some(StateLimit { memory, store }))
}

/// Bytes of all state from which on no new keys are taken.
///
/// # Errors
/// When `[state]` names no size.
pub fn most(state: &State) -> anyhow::Result<usize> {
    in_words(state.bytes(), state)
}

/// Bytes of transactions kept for alerts, of which the oldest then leave memory.
///
/// # Errors
/// When `[state]` names no size.
pub fn most_transactions(state: &State) -> anyhow::Result<usize> {
    in_words(state.bytes_of_transactions(), state)
}

fn in_words(bytes: Option<u64>, state: &State) -> anyhow::Result<usize> {
    Ok(usize::try_from(bytes.context(no_size(state))?).unwrap_or(usize::MAX))
}

fn no_size(state: &State) -> String {
    format!("`memory` in [state] is `{}`; write for example memory = \"16 GiB\"", state.memory())
}

/// Says early that windows take more memory than they should, and says when new keys are refused: each once.
#[derive(Debug, Default)]
pub struct Warning {
    told: bool,
    refused: bool,
    forgets: bool,
}

impl Warning {
    /// To be asked after each step.
    pub fn check(&mut self, engine: &Engine, state: &State) {
        let used = engine.state_use();
        if used.transactions_forgotten > 0 && !self.forgets {
            self.forgets = true;
            let (budget, oldest) = (state.memory(), size(u128::from(used.transactions)));
            tracing::error!(
                budget,
                kept = oldest,
                "memory for transactions that alerts may have to show is full: the oldest are forgotten, and alerts that counted them say how \
                 many; name a folder for them in [state], or give more memory"
            );
        }
        let held = u128::from(used.bytes());
        let near = most(state).is_ok_and(|most| held * 5 >= most as u128 * 4);
        let refuses = used.refused > 0 && !self.refused;
        if !refuses && (self.told || !near) {
            return;
        }
        self.told = true;
        self.refused |= refuses;
        let by_key = engine.state_by_key();
        let Some((key, indicator, of_key)) = by_key.first() else { return };
        let (held_by_key, keys) = (size(u128::from(of_key.bytes())), of_key.keys);
        let (held, budget) = (size(held), state.memory());
        if refuses {
            tracing::error!(
                held,
                budget,
                key,
                held_by_key,
                keys,
                longest = indicator,
                "memory for windows is full: rows of keys without any before are not looked at until others have expired, so alerts may be \
                 missing; give more memory in [state], name a folder for older rows, or shorten the windows of the rule named"
            );
        } else {
            tracing::warn!(
                held,
                budget,
                key,
                held_by_key,
                keys,
                longest = indicator,
                "state takes four fifths of its memory; name a folder for older rows in [state], give more memory, or \
                 shorten the windows of the rule named. When all is taken, new keys are refused"
            );
        }
    }
}

/// Refuses indicators whose rows would not fit.
///
/// # Errors
/// Each such indicator with its estimate, and the ways out.
pub fn check(rules: &RuleSet, config: &Config) -> anyhow::Result<()> {
    let state = &config.state;
    let Some(budget) = state.bytes().map(u128::from) else { bail!(no_size(state)) };
    let mut out = String::new();
    for indicator in &rules.indicators {
        let bytes = bytes_kept(indicator, state.transactions_per_day, config.archive.tail_micros());
        // Windows of time go on on disk.
        let goes_on = state.folder.is_some() && indicator.keyed.is_none() && indicator.sequence.is_none();
        if bytes <= budget || goes_on {
            continue;
        }
        let estimate = indicator.estimate();
        let days = estimate.kept_micros.unsigned_abs() / 86_400_000_000;
        let out_of_memory = match (&indicator.keyed, &config.archive.folder) {
            (Some(_), None) => {
                " archive transactions (`[archive] folder`), so that older rows are read from there,"
            }
            _ => "",
        };
        let _ = writeln!(
            out,
            "error[R028]: `{}` would keep {days} days of {} transactions, about {} bytes each: {}; the budget is {}\n  file: {}\n  help: \
             shorten its `lookback` or windows,{} or say in manumit.toml what the bank has:\n        [state]\n        memory = \"{}\"\n        \
             transactions_per_day = {}",
            indicator.meta.id,
            state.transactions_per_day,
            estimate.bytes_per_row,
            size(bytes),
            size(budget),
            indicator.meta.file.display(),
            out_of_memory,
            state.memory(),
            state.transactions_per_day,
        );
    }
    if out.is_empty() { Ok(()) } else { bail!("{}", out.trim_end()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_set_that_fits_is_taken() {
        assert!(check(&RuleSet::default(), &Config::default()).is_ok());
        let config =
            Config { state: State { memory: Some("x".into()), ..State::default() }, ..Config::default() };
        assert!(check(&RuleSet::default(), &config).unwrap_err().to_string().contains("16 GiB"));
    }
}
