//! Random sequences, as the text that an author would write (`[[step]]` blocks).

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::rules::{Indicator, length, row_condition};

/// The engine runs sequences: then they are among the indicators of every case, held to DataFusion's answer to their SQL
/// and to all other properties. While it does not, they are drawn, loaded and answered in SQL by
/// [`super::sequences_are_read_and_their_sql_runs`] only.
pub const ENGINE_RUNS_SEQUENCES: bool = true;

/// Share of cases with a sequence.
pub const SHARE: f64 = if ENGINE_RUNS_SEQUENCES { 0.5 } else { 0.0 };

/// An indicator that is a sequence of two to four steps.
pub fn indicator(rng: &mut ChaCha8Rng, number: usize, unit: i64) -> Indicator {
    let over = if rng.random_bool(0.8) { "entries" } else { "transactions" };
    let subject = match over {
        "entries" => *["account", "account", "customer", "device"].choose(rng).unwrap(),
        _ => *["device", "merchant"].choose(rng).unwrap(),
    };
    let count = rng.random_range(2..=4);
    let span = |rng: &mut ChaCha8Rng| length(unit, *[1, 2, 3, 5, 8, 20].choose(rng).unwrap());
    let mut text = format!("within = \"{}\"\n", span(rng));
    let mut features = Vec::new();
    // Steps whose row later ones may look back at.
    let mut anchors: Vec<String> = Vec::new();
    for position in 0..count {
        let name = format!("step_{position}");
        let ends = position == 0 || position + 1 == count;
        let mut condition = format!("({})", row_condition(rng, over));
        if !anchors.is_empty() && rng.random_bool(0.5) {
            let other = anchors.choose(rng).unwrap();
            let look = [
                format!("amount_base <= {other}.amount_base"),
                format!("amount_base BETWEEN 0.5 * {other}.amount_base AND {other}.amount_base"),
                format!("city = {other}.city"),
                format!("city <> {other}.city"),
            ];
            condition += &format!(" AND {}", look.choose(rng).unwrap());
        }
        text += &format!("[[step]]\nname = \"{name}\"\nwhen = \"{condition}\"\n");
        match rng.random_range(0..5) {
            0 if !ends => text += "optional = true\n",
            1 if !ends => {
                text += "not = true\n";
                continue;
            }
            2 => {
                text += &format!("at_least = {}\nwithin = \"{}\"\n", rng.random_range(2..4), span(rng));
                anchors.push(name.clone());
            }
            _ => {
                if position > 0 && rng.random_bool(0.4) {
                    text += &format!("within = \"{}\"\n", span(rng));
                }
                anchors.push(name.clone());
            }
        }
        if rng.random_bool(0.6) {
            let value = ["count", "amount_base", "city"].choose(rng).unwrap();
            features.push(Indicator::step_feature(&format!("f{position:02}"), &format!("{name}.{value}")));
        }
    }
    Indicator {
        id: format!("drawn-{number:02}"),
        over,
        subject,
        about: None,
        row_filter: rng.random_bool(0.3).then(|| row_condition(rng, over)),
        steps: Some(text),
        features,
        when: "amount >= 0".into(),
        param: None,
        keyed: None,
    }
}
