//! Whether the rules' state fits the machine, before anything runs.

use std::fmt::Write as _;

use anyhow::bail;
use manumit_rules::ir::{Indicator, RuleSet};

use crate::config::{Config, State};

const DAY_MICROS: u128 = 86_400_000_000;

impl State {
    /// `memory` in bytes; `None` when it is no size.
    fn bytes(&self) -> Option<u128> {
        let text = self.memory.trim();
        let number_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let number: u128 = text[..number_end].parse().ok()?;
        let factor = match text[number_end..].trim() {
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            _ => return None,
        };
        number.checked_mul(factor)
    }
}

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

/// Refuses indicators whose rows would not fit.
///
/// # Errors
/// Each such indicator with its estimate, and the ways out.
pub fn check(rules: &RuleSet, config: &Config) -> anyhow::Result<()> {
    let state = &config.state;
    let Some(budget) = state.bytes() else {
        bail!("`memory` in [state] is `{}`; write for example memory = \"16 GiB\"", state.memory)
    };
    let mut out = String::new();
    for indicator in &rules.indicators {
        let bytes = bytes_kept(indicator, state.transactions_per_day, config.archive.tail_micros());
        if bytes <= budget {
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
            state.memory,
            state.transactions_per_day,
        );
    }
    if out.is_empty() { Ok(()) } else { bail!("{}", out.trim_end()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_read_as_written() {
        let of = |memory: &str| State { memory: memory.into(), ..State::default() }.bytes();
        assert_eq!(of("16 GiB"), Some(16 << 30));
        assert_eq!(of("512MiB"), Some(512 << 20));
        assert_eq!(of("16"), None);
        assert_eq!(of("much"), None);
    }

    #[test]
    fn a_rule_set_that_fits_is_taken() {
        assert!(check(&RuleSet::default(), &Config::default()).is_ok());
        let config = Config { state: State { memory: "x".into(), ..State::default() }, ..Config::default() };
        assert!(check(&RuleSet::default(), &config).unwrap_err().to_string().contains("16 GiB"));
    }
}
