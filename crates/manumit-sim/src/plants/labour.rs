//! Labour exploitation.

mod firms;
mod newcomers;
mod wages;

use crate::plants::Kind;

/// What is planted.
pub(crate) const KINDS: &[Kind] = &[
    Kind { typology: "wage-sweep-to-controller", plant: |planter, variant| planter.wage_sweep(variant) },
    Kind { typology: "payroll-to-one-account", plant: |planter, variant| planter.one_pay_account(variant) },
    Kind { typology: "wage-return-loop", plant: |planter, variant| planter.pay_back(variant) },
    Kind { typology: "payday-atm-herd", plant: |planter, variant| planter.machine_herd(variant) },
    Kind { typology: "payroll-gap-employer", plant: |planter, variant| planter.no_payroll(variant) },
    Kind { typology: "labour-provider-front", plant: |planter, variant| planter.staffing_front(variant) },
    Kind { typology: "storefront-ring", plant: |planter, variant| planter.shop_ring(variant) },
    Kind { typology: "recruitment-debt-sequence", plant: |planter, variant| planter.debt_recruiter(variant) },
    Kind { typology: "servitude-debt-capture", plant: |planter, variant| planter.bonded_helper(variant) },
];

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use crate::{Options, Planted, Simulation, Transaction, Variant, simulate};

    const HIDDEN: Options = Options {
        seed: 5,
        customers: 60,
        days: 90,
        networks: 1,
        stealthy: 5,
        look_alikes: 0,
        typologies: Vec::new(),
    };

    fn of<'a>(simulation: &'a Simulation, plant: &'a Planted) -> impl Iterator<Item = &'a Transaction> {
        plant.transactions.iter().map(|(number, _, _)| &simulation.transactions[*number as usize - 1])
    }

    #[test]
    fn a_hidden_sweep_seldom_sends_a_whole_marked_wage_to_one_account() {
        let simulation = simulate(&HIDDEN);
        let is = |plant: &&Planted| plant.typology == "wage-sweep-to-controller";
        let mut tried = 0;
        for plant in simulation.bank.planted().iter().filter(is) {
            let mut wages: HashMap<&str, i64> = HashMap::new();
            let (mut paid, mut whole) = (0, 0);
            for t in of(&simulation, plant) {
                if t.kind == "transfer" && t.channel == "batch" {
                    paid += 1;
                    let marked = if t.purpose == "SALA" { t.amount } else { i64::MAX };
                    wages.extend(t.creditor.as_ref().map(|(worker, _)| (worker.as_str(), marked)));
                } else if t.creditor.as_ref().is_some_and(|(account, _)| *account == plant.subject)
                    && let Some((worker, _)) = &t.debtor
                {
                    let wage = wages.get(worker.as_str()).copied().unwrap_or(i64::MAX);
                    whole += u32::from(t.amount >= wage / 10 * 8);
                }
            }
            match plant.variant {
                Variant::Stealthy => assert!(whole * 2 < paid, "{whole} of {paid}: {plant:?}"),
                _ => assert!(whole * 4 > paid * 3, "{whole} of {paid}: {plant:?}"),
            }
            tried += 1;
        }
        assert_eq!(tried, 6);
    }

    #[test]
    fn those_who_line_up_at_a_machine_stand_a_minute_and_a_half_apart_at_most() {
        let simulation = simulate(&HIDDEN);
        let is = |p: &&Planted| p.typology == "payday-atm-herd" && p.variant == Variant::Plain;
        let plant = simulation.bank.planted().iter().find(is).unwrap();
        let drawn: Vec<i64> =
            of(&simulation, plant).filter(|t| t.terminal == plant.subject).map(|t| t.time).collect();
        let far = drawn.windows(2).filter(|pair| pair[1] - pair[0] > 90).count();
        // What is further apart is another pay day.
        assert!(drawn.len() >= 4 * (far + 1), "{drawn:?}");
        assert!(drawn.windows(2).all(|p| p[1] - p[0] <= 90 || p[1] - p[0] > 5 * 24 * 3_600), "{drawn:?}");
    }

    #[test]
    fn a_short_simulation_has_its_networks_too() {
        let simulation = simulate(&Options { days: 40, look_alikes: 3, ..HIDDEN });
        assert!(simulation.bank.planted().iter().all(|plant| !plant.transactions.is_empty()));
    }
}
