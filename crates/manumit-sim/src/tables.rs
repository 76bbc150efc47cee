//! What is written beside the feed: reference tables, and the truth about what was planted.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat};

use crate::bank::Bank;
use crate::life::currencies;
use crate::plants::Variant;

fn instant(time: Option<i64>) -> String {
    let time = time.and_then(|time| DateTime::from_timestamp(time, 0));
    time.map_or(String::new(), |time| time.to_rfc3339_opts(SecondsFormat::Secs, true))
}

fn cents(amount: i64) -> String {
    format!("{}.{:02}", amount / 100, amount % 100)
}

impl Bank {
    /// The reference table `accounts` as CSV.
    pub fn accounts_csv(&self) -> String {
        let mut out = String::from("account,customer,kind,opened_on,currency,city,country,product\n");
        for c in self.customers() {
            let kind = if c.business { "business" } else { "current" };
            let city = c.city_name();
            let _ = writeln!(
                out,
                "{},{},{kind},{},EUR,{city},DE,{}",
                c.account, c.customer, c.opened_on, c.product
            );
        }
        out
    }

    /// The reference table `customers` as CSV.
    pub fn customers_csv(&self) -> String {
        let mut out = String::from(
            "customer,segment,born_on,minor,occupation,employer,industry,declared_income,nationality,country_of_birth,household,surname,address,\
             phone,city,country,latitude,longitude,registered_npo,registered_msb,licensed_labour_provider\n",
        );
        for c in self.customers() {
            let born = c.born_on.map_or(String::new(), |b| b.to_string());
            let income = if c.declared_income > 0 { cents(c.declared_income) } else { String::new() };
            let (lat, lon) = c.home();
            let segment = if c.business { "business" } else { "person" };
            let minor = c.minor_on(self.first_day());
            let person = [c.occupation, &c.employer, c.industry, &income].join(",");
            let origin = if c.business { ["", ""] } else { [c.nationality, c.born_in] }.join(",");
            let home = [&c.household, &c.surname, &c.address, &c.phone, c.city_name()].join(",");
            let _ = writeln!(
                out,
                "{},{segment},{born},{minor},{person},{origin},{home},DE,{lat},{lon},{},{},{}",
                c.customer, c.npo, c.msb, c.labour_licence
            );
        }
        out
    }

    /// The reference table `contacts` as CSV: telephone number and address of each customer, since the account was opened.
    pub fn contacts_csv(&self) -> String {
        let mut out = String::from("customer,kind,value,valid_from\n");
        for c in self.customers() {
            let address = format!("{} {}", c.address, c.city_name());
            for (kind, value) in [("phone", &c.phone), ("address", &address)] {
                let _ = writeln!(out, "{},{kind},{value},{}", c.customer, c.opened_on);
            }
        }
        out
    }

    /// The reference table `devices` as CSV: the device that each customer's orders come from.
    pub fn devices_csv(&self) -> String {
        let mut out = String::from("customer,device,valid_from\n");
        for c in self.customers() {
            let _ = writeln!(out, "{},{},{}", c.customer, c.device, c.opened_on);
        }
        out
    }

    /// The reference table `fx_rates` as CSV: a rate a month, euros for one unit.
    pub fn fx_rates_csv(&self) -> String {
        let mut out = String::from("currency,valid_from,rate\n");
        for (currency, cents) in currencies() {
            for month in 0..24 {
                let moved = cents * 1_000 + (month * 7 % 5 - 2) * cents * 4;
                let rate = 10_000_000_000_i64 / moved;
                let (year, month) = (2026 + month / 12, month % 12 + 1);
                let _ =
                    writeln!(out, "{currency},{year}-{month:02}-01,{}.{:05}", rate / 100_000, rate % 100_000);
            }
        }
        out
    }

    /// What was planted, for `manumit evaluate` and as labels of a backtest, after the last day: networks are cases with all
    /// who take part, look-alikes and the populations of ordinary life are none.
    pub fn truth_csv(&self) -> String {
        let mut out = String::from("case,subject,typology,label,population,variant,begins,ends\n");
        for (number, planted) in self.planted().iter().enumerate() {
            let (population, variant) = match planted.variant {
                Variant::LookAlike => (format!("looks like {}", planted.typology), ""),
                Variant::Plain => (String::new(), "plain"),
                Variant::Stealthy => (String::new(), "stealthy"),
            };
            let time = |at: Option<&(u64, i64, i64)>| instant(at.map(|(_, time, _)| *time));
            let (begins, ends) = (time(planted.transactions.first()), time(planted.transactions.last()));
            // The one whom an alert should be about stands first.
            let others = planted.members.iter().filter(|member| **member != planted.subject);
            for subject in std::iter::once(&planted.subject).chain(others) {
                let _ = writeln!(
                    out,
                    "N{:04},{subject},{},{},{population},{variant},{begins},{ends}",
                    number + 1,
                    planted.typology,
                    !planted.variant.innocent(),
                );
            }
        }
        for c in self.customers().iter().filter(|c| !c.population.is_empty()) {
            for subject in [&c.account, &c.customer] {
                let _ = writeln!(out, "P{},{subject},,false,{},,,", c.customer, c.population);
            }
        }
        out
    }

    /// The transactions of the planted networks, for `manumit evaluate`, after the last day.
    pub fn truth_transactions_csv(&self) -> String {
        let mut lines = BTreeMap::new();
        for (number, planted) in self.planted().iter().enumerate().filter(|(_, p)| !p.variant.innocent()) {
            for &(id, time, amount) in &planted.transactions {
                lines.insert(id, (number + 1, time, amount));
            }
        }
        let mut out = String::from("case,tx_id,at,amount\n");
        for (id, (number, time, amount)) in lines {
            let _ = writeln!(out, "N{number:04},T{id:08},{},{}", instant(Some(time)), cents(amount));
        }
        out
    }
}
