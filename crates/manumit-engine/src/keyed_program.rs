//! A keyed query made ready to run: its plan, the columns it reads, and how long its rows are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use manumit_model::schema;
use manumit_rules::ir::{Keyed, RuleSet, Table};
use manumit_sql::{Planned, Sql};

use crate::EngineError;
use crate::older::ORDER;

/// A keyed query.
pub(crate) struct KeyedProgram {
    pub indicator: usize,
    pub table: Table,
    /// Column of the key.
    pub key: String,
    pub planned: Planned,
    /// The table as the query sees it: the columns that it reads.
    pub schema: SchemaRef,
    pub lookback_micros: i64,
    pub every_micros: i64,
    /// Rows are kept this long: the look-back, one tick, and the longest typology window over its hits.
    pub retention_micros: i64,
    /// Indicators whose hits it reads.
    pub hits_of: Vec<usize>,
    /// Their ids.
    pub ids: BTreeMap<usize, String>,
}

impl KeyedProgram {
    /// Columns of transactions that the log keeps for the query: those of [`KeyedProgram::read`], with those that tell rows
    /// apart, by which rows of an archive are put in order.
    pub(crate) fn columns(&self) -> BTreeSet<String> {
        let mut columns = self.read();
        columns.extend(ORDER.map(String::from));
        columns
    }

    /// Columns of transactions that the query's rows are made of, with those that tell whose sides are entries.
    pub(crate) fn read(&self) -> BTreeSet<String> {
        let mut columns = sources(self.table, &self.schema);
        columns.extend(
            ["debtor_account", "debtor_external", "creditor_account", "creditor_external"].map(String::from),
        );
        columns
    }
}

/// The columns of transactions out of which the columns of a table are made.
pub(crate) fn sources(table: Table, schema: &SchemaRef) -> BTreeSet<String> {
    let mut columns = BTreeSet::new();
    for name in schema.fields().iter().map(|field| field.name()) {
        match schema::ENTRY_SIDES.iter().find(|side| side.0 == name) {
            Some((_, out, inward)) if table == Table::Entries => {
                columns.extend([*out, *inward].map(String::from));
            }
            _ => {
                columns.insert(name.clone());
            }
        }
    }
    columns
}

/// Plans an indicator's query; `within` is the longest time for which a typology counts its hits.
pub(crate) fn compile_keyed(
    rules: &RuleSet,
    index: usize,
    keyed: &Keyed,
    within: i64,
    sql: &Sql,
) -> Result<KeyedProgram, EngineError> {
    let indicator = &rules.indicators[index];
    let schema = narrow(indicator.over, |name| {
        [indicator.key.as_str(), "event_time"].contains(&name) || indicator.columns.iter().any(|c| c == name)
    });
    let mut tables = manumit_rules::keyed::tables(indicator.over);
    for (name, columns) in &mut tables {
        if *name == indicator.over.name() {
            *columns = schema.clone();
        }
    }
    let ids: BTreeMap<usize, String> = (0..rules.indicators.len())
        .map(|i| (i, rules.indicators[i].meta.id.clone()))
        .filter(|(_, id)| keyed.hits_of.contains(id))
        .collect();
    Ok(KeyedProgram {
        indicator: index,
        table: indicator.over,
        key: indicator.key.clone(),
        planned: sql.plan(&keyed.query, &tables)?,
        schema,
        lookback_micros: keyed.lookback_micros,
        every_micros: keyed.every_micros,
        retention_micros: keyed.lookback_micros.saturating_add(keyed.every_micros).saturating_add(within),
        hits_of: ids.keys().copied().collect(),
        ids,
    })
}

/// The table with the columns that are wanted, each of which may be NULL.
pub(crate) fn narrow(table: Table, wanted: impl Fn(&str) -> bool) -> SchemaRef {
    let full = match table {
        Table::Transactions => schema::transactions(),
        Table::Entries => schema::entries(),
    };
    let fields: Vec<_> = full
        .fields()
        .iter()
        .filter(|field| wanted(field.name()))
        .map(|field| Arc::new(field.as_ref().clone().with_nullable(true)))
        .collect();
    Arc::new(Schema::new(fields))
}
