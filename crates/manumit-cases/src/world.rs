//! Rules and reference data that a case is tried with.

use std::collections::BTreeMap;
use std::sync::Arc;

use manumit_feed::Enricher;
use manumit_model::Diagnostics;
use manumit_rules::Sources;
use manumit_rules::ir::RuleSet;
use manumit_sql::Sql;
use manumit_sql::reference::{Reference, Table};

use crate::judge::{Outcome, Tried, judge};
use crate::read::{Case, Facts, Suite};
use crate::story::text_batch;
use crate::ways::{Cast, Found, Way};
use crate::{batch, pool, ways};

/// Why a case cannot be tried at all.
#[derive(Debug)]
pub enum TryError {
    /// The rules have faults.
    Rules(Diagnostics),
    /// A case asks for what is not there, or the engine gave up on it.
    Case {
        /// The typology.
        typology: String,
        /// The case.
        case: String,
        /// Why.
        why: String,
    },
}

impl std::fmt::Display for TryError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TryError::Rules(faults) => write!(out, "{faults}"),
            TryError::Case { typology, case, why } => write!(out, "{typology}, case {case}: {why}"),
        }
    }
}

impl std::error::Error for TryError {}

/// Tries each case of each typology, all five ways, on all cores; by suite, in their order. `seed` draws the order of rows that come
/// out of order.
///
/// # Errors
/// When the rules have faults, or a case cannot be tried.
pub fn try_all(sources: &Sources, suites: &[Suite], seed: u64) -> Result<Vec<Vec<Tried>>, TryError> {
    let tried = pool::each(
        suites,
        || Tester::new(sources),
        |tester, suite| match tester {
            Ok(tester) => tester.try_suite(suite, seed),
            Err(faults) => Err(TryError::Rules(faults.clone())),
        },
    );
    tried.into_iter().collect()
}

/// Rules, ready to be tried on cases.
pub struct Tester {
    sql: Sql,
    pub(crate) rules: Arc<RuleSet>,
    /// Lists and groups of the project; each case begins with them.
    base: Arc<Reference>,
    runtime: tokio::runtime::Runtime,
}

impl Tester {
    /// Loads the rules.
    ///
    /// # Errors
    /// All their faults.
    pub fn new(sources: &Sources) -> Result<Tester, Diagnostics> {
        let sql = Sql::new();
        let rules = manumit_rules::load(sources, &sql)?;
        let base = sql.reference().get();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| {
            let mut faults = Diagnostics::default();
            let message = format!("no thread for queries can be had: {error}");
            faults.push(manumit_model::Diagnostic::new("R043", message, "", "".into()));
            faults
        })?;
        Ok(Tester { sql, rules: Arc::new(rules), base, runtime })
    }

    /// All rules.
    pub fn rules(&self) -> &RuleSet {
        &self.rules
    }

    /// Tries each case of a typology, all five ways; `seed` draws the order of rows that come out of order.
    ///
    /// # Errors
    /// When a case cannot be tried.
    pub fn try_suite(&self, suite: &Suite, seed: u64) -> Result<Vec<Tried>, TryError> {
        suite.cases.iter().map(|case| self.try_case(suite, case, &Way::ALL, seed)).collect()
    }

    /// Whether every case of a typology ends as it should, told one way: all rows at once.
    pub(crate) fn holds(&self, suite: &Suite) -> bool {
        suite.cases.iter().all(|case| {
            let tried = self.try_case(suite, case, &[Way::AtOnce], 0);
            tried.is_ok_and(|tried| tried.outcome == Outcome::AsWanted)
        })
    }

    fn try_case(&self, suite: &Suite, case: &Case, ways: &[Way], seed: u64) -> Result<Tried, TryError> {
        let failed =
            |why: String| TryError::Case { typology: suite.typology.clone(), case: case.id.clone(), why };
        self.know(&case.facts).map_err(failed)?;
        let rules = self
            .rules
            .only(std::slice::from_ref(&suite.typology))
            .map_err(|id| failed(format!("there is no typology `{id}`")))?;
        let enricher = Enricher::new(&suite.setting.currency, self.sql.reference().clone());
        let rows = enricher.enrich(&case.story.rows).map_err(|error| failed(error.to_string()))?;
        let cast = Cast {
            rules: Arc::new(rules),
            sql: &self.sql,
            rows,
            times: &case.story.times,
            setting: &suite.setting,
        };
        let mut outcome = Outcome::AsWanted;
        let mut first: Option<Found> = None;
        for way in ways {
            let complaints = match (way, &first) {
                (Way::BatchQuery, Some(first)) => {
                    let opened = self
                        .runtime
                        .block_on(batch::opened(&cast))
                        .map_err(|why| failed(way.failed(&why)))?;
                    batch::differences(&opened, &first.alerts)
                }
                (_, None) => {
                    let found = ways::tell(&cast, *way, seed).map_err(|why| failed(way.failed(&why)))?;
                    let complaints = judge(case, &found, &suite.setting);
                    first = Some(found);
                    complaints
                }
                (_, Some(first)) => {
                    let found = ways::tell(&cast, *way, seed).map_err(|why| failed(way.failed(&why)))?;
                    ways::differences(first, &found)
                }
            };
            if !complaints.is_empty() {
                outcome = Outcome::Otherwise { way: way.words(), complaints };
                break;
            }
        }
        let found = first.map(|found| found.told()).unwrap_or_default();
        Ok(Tried { case: case.clone(), outcome, found })
    }

    /// What the bank knows in this case: the project's lists, the case's facts, nothing else.
    fn know(&self, facts: &Facts) -> Result<(), String> {
        let keyed = |rows: &BTreeMap<String, BTreeMap<String, String>>, key: &str| {
            let rows = rows.iter().map(|(name, row)| {
                let mut row = row.clone();
                row.insert(key.to_string(), name.clone());
                row
            });
            rows.collect::<Vec<_>>()
        };
        let rates = facts.fx_rates.iter().map(|(currency, rate)| {
            BTreeMap::from([("currency".into(), currency.clone()), ("rate".into(), rate.clone())])
        });
        let mut tables = vec![
            (Table::Accounts, keyed(&facts.accounts, "account")),
            (Table::Customers, keyed(&facts.customers, "customer")),
            (Table::Baselines, keyed(&facts.baselines, "customer")),
            (Table::Peers, keyed(&facts.peers, "peer_group")),
            (Table::Places, facts.places.clone()),
            (Table::FxRates, rates.collect()),
        ];
        for of in Table::ALL.into_iter().filter(|of| of.is_context()) {
            let rows = facts.context.iter().filter(|(table, _)| *table == of).map(|(_, row)| row.clone());
            tables.push((of, rows.collect()));
        }
        self.sql.reference().update(|reference| {
            *reference = self.base.as_ref().clone();
            for (table, rows) in tables {
                if rows.is_empty() {
                    continue;
                }
                let batch = text_batch(&rows).ok_or("its facts cannot be put into a table")?;
                reference
                    .add_rows(table, &batch)
                    .map_err(|error| format!("its facts about {}: {}", table.name(), error.message))?;
            }
            for (list, values) in &facts.lists {
                if !reference.extend_list(list, values) {
                    let mut names = reference.list_names();
                    names.extend(reference.term_list_names());
                    let near = manumit_model::nearest(list, names.iter().map(String::as_str));
                    let help = near.map_or_else(
                        || format!("lists are {}", names.join(", ")),
                        |near| format!("did you mean `{near}`?"),
                    );
                    return Err(format!("there is no list `{list}` under rules/lists; {help}"));
                }
            }
            Ok(())
        })
    }
}
