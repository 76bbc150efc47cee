//! Money flows of no one purpose: collecting, spreading, passing on.

mod cash;
mod chain;
mod collect;
mod relay;
mod spread;

use crate::plants::Kind;

/// What is planted.
pub(crate) const KINDS: &[Kind] = &[
    Kind { typology: "funnel-across-cities", plant: |planter, variant| planter.funnel(variant) },
    Kind { typology: "fan-in-fast-out", plant: |planter, variant| planter.collector(variant) },
    Kind { typology: "fan-out-burst", plant: |planter, variant| planter.spreader(variant) },
    Kind { typology: "pass-through-account", plant: |planter, variant| planter.relay(variant) },
    Kind { typology: "pass-through-chain", plant: |planter, variant| planter.nominees(variant) },
];
