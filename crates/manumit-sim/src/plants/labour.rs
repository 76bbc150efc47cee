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
