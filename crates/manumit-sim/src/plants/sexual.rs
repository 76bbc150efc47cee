//! Sexual exploitation.

mod clients;
mod spending;
mod travel;
mod venues;

use crate::plants::Kind;

/// What is planted.
pub(crate) const KINDS: &[Kind] = &[
    Kind { typology: "circuit-travel-cash", plant: |planter, variant| planter.circuit(variant) },
    Kind { typology: "price-band-fan-in", plant: |planter, variant| planter.price_band(variant) },
    Kind { typology: "ad-spend-cash-loop", plant: |planter, variant| planter.adverts(variant) },
    Kind { typology: "escort-collector", plant: |planter, variant| planter.go_between(variant) },
    Kind { typology: "multi-property-operator", plant: |planter, variant| planter.flats(variant) },
    Kind { typology: "hotel-anomaly", plant: |planter, variant| planter.hotels(variant) },
    Kind { typology: "massage-spa-front", plant: |planter, variant| planter.front(variant) },
    Kind { typology: "triple-p2p-venue", plant: |planter, variant| planter.door_fee(variant) },
    Kind { typology: "prepaid-crypto-ads", plant: |planter, variant| planter.gift_cards(variant) },
    Kind { typology: "prepaid-dependency", plant: |planter, variant| planter.pocket_money(variant) },
    Kind { typology: "proceeds-conversion", plant: |planter, variant| planter.conversion(variant) },
    Kind { typology: "victim-upkeep-basket", plant: |planter, variant| planter.upkeep(variant) },
];
