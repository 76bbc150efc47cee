//! A rule set made ready to run: keyspaces, distinct filters as mask bits, distinct arguments as columns.
//!
//! All indicators over one table with one key column share a *keyspace*: one state per key. Each distinct filter
//! of the keyspace becomes one bit of a row's mask, each distinct aggregate argument one column, and each distinct
//! expression is evaluated once per batch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use manumit_model::schema;
use manumit_rules::ir::{FeatureKind, Indicator, Piece, RuleSet, Sequence, Table, WindowAggregate};
use manumit_sql::{Compiled, Sql, Together};

use crate::EngineError;
use crate::entries;
use crate::keyed_program::{KeyedProgram, compile_keyed, sources};
use crate::keyspace::Keyspace;
use crate::latest::LatestRows;
use crate::plan::Kept;
use crate::screen::{Screen, Thin};
use crate::sequence::{Compared, Place, SequenceProgram, StepProgram};
use crate::window::WindowFeature;

/// Longest mask: 4 words of 64 filters each per keyspace.
const MAX_FILTERS: usize = 256;

/// Arguments of a keyspace at most: every row that is kept has a word for each.
const MAX_ARGUMENTS: usize = 256;

/// What a window of rows counts may be very old; alerts show at least what is no older than this, 30 days.
const ROWS_EVIDENCE_MICROS: i64 = 30 * 86_400_000_000;

/// The whole rule set, compiled.
pub(crate) struct Program {
    pub rules: Arc<RuleSet>,
    pub tables: Vec<TableProgram>,
    pub keyspaces: Vec<Keyspace>,
    /// By indicator, in the order of the rule set.
    pub indicators: Vec<IndicatorProgram>,
    /// Indicators that are answered at ticks.
    pub keyed: Vec<KeyedProgram>,
}

/// What is evaluated on every row of one table.
pub(crate) struct TableProgram {
    pub table: Table,
    /// The columns that rules use, in canonical order: what a batch of this table is narrowed to.
    pub schema: SchemaRef,
    /// Distinct row expressions.
    pub expressions: Vec<Compiled>,
    /// The same and the conjunctions, with what they have in common worked out once.
    pub together: Together,
    /// Those whose values rows keep.
    pub values: Vec<usize>,
    /// Distinct lists of expressions that must all hold: filters of rows, and what indicators ask of the row alone.
    pub conjunctions: Vec<Vec<usize>>,
    /// Their canonical SQL, in the same order.
    pub texts: Vec<String>,
    /// Keyspaces of this table.
    pub keyspaces: Vec<usize>,
}

/// One indicator.
pub(crate) struct IndicatorProgram {
    pub keyspace: usize,
    /// Expressions of the table that must all hold before features are computed.
    pub candidate: Vec<usize>,
    /// Steps that must have come before.
    pub sequence: Option<SequenceProgram>,
    /// Columns of the table's narrowed schema that go into the condition's batch.
    pub columns: Vec<usize>,
    /// Hits name the transactions that they counted: rows of steps and of windows of rows are not kept for alerts.
    pub names_what_it_counted: bool,
    /// By feature of the rule: a window feature of the keyspace, a step's value, or a derived expression.
    pub features: Vec<FeatureProgram>,
    pub condition: Compiled,
    /// What tells most rows that do not hit without the condition.
    pub screen: Screen,
    /// The condition over those columns and features only that it reads.
    pub thin: Thin,
    /// Schema of the condition's batch: columns, then features.
    pub schema: SchemaRef,
    /// Position of the `about` column in `columns`.
    pub about: usize,
    /// Position of the key column in `columns`.
    pub key: usize,
    /// Per typology that has it as a gate: (typology, its exclusions).
    pub exclusions: Vec<(usize, Vec<Compiled>)>,
    /// Per part of a typology: (typology, part, expressions counted as different values).
    pub different: Vec<(usize, usize, Vec<Compiled>)>,
    /// Per conjunct that is a comparison: (conjunct, measured side, threshold side).
    pub measured: Vec<(usize, Compiled, Compiled)>,
    /// Per piece of the explanation: what fills its hole.
    pub pieces: Vec<Option<Compiled>>,
}

/// Where a feature's value comes from.
pub(crate) enum FeatureProgram {
    Window(usize),
    /// A value of a step's row, or, without a place, the number of the step's rows.
    Step {
        step: usize,
        place: Option<Place>,
    },
    Derived(Compiled),
    /// A column of a keyed query's answer.
    Answer,
}

/// Collects the distinct expressions of one table while compiling.
pub(crate) struct Expressions<'a> {
    sql: &'a Sql,
    schema: SchemaRef,
    known: BTreeMap<String, usize>,
    pub compiled: Vec<Compiled>,
    texts: Vec<String>,
}

impl Expressions<'_> {
    pub(crate) fn index(&mut self, text: &str) -> Result<usize, EngineError> {
        if let Some(&index) = self.known.get(text) {
            return Ok(index);
        }
        let compiled = self.sql.compile(&self.schema, text)?;
        self.compiled.push(compiled);
        self.texts.push(text.to_string());
        self.known.insert(text.to_string(), self.compiled.len() - 1);
        Ok(self.compiled.len() - 1)
    }
}

impl Program {
    pub(crate) fn compile(rules: Arc<RuleSet>, sql: &Sql) -> Result<Program, EngineError> {
        let mut program = Program {
            rules: rules.clone(),
            tables: Vec::new(),
            keyspaces: Vec::new(),
            indicators: Vec::new(),
            keyed: Vec::new(),
        };
        let mut indicators: Vec<Option<IndicatorProgram>> = rules.indicators.iter().map(|_| None).collect();
        for table in [Table::Transactions, Table::Entries] {
            let members: Vec<usize> =
                (0..rules.indicators.len()).filter(|&i| rules.indicators[i].over == table).collect();
            if members.is_empty() {
                continue;
            }
            program.add_table(table, &members, sql, &mut indicators)?;
        }
        program.indicators = indicators.into_iter().flatten().collect();
        Ok(program)
    }

    /// Longest time any transaction may still be asked for.
    pub(crate) fn retention_micros(&self) -> i64 {
        let queries = self.keyed.iter().map(|k| k.retention_micros);
        queries.max().unwrap_or(0).max(self.evidence_micros())
    }

    /// Longest time any transaction may still be asked for by an alert, other than for what queries counted.
    pub(crate) fn evidence_micros(&self) -> i64 {
        self.keyspaces.iter().map(|k| k.evidence_micros).max().unwrap_or(0)
    }

    /// Columns of transactions that rules read, and what order and entries are made from.
    pub(crate) fn columns_read(&self) -> BTreeSet<String> {
        let mut read: BTreeSet<String> = ["tx_id", "event_time"].map(String::from).into();
        for table in &self.tables {
            let names = table.schema.fields().iter().map(|field| field.name().as_str());
            if table.table == Table::Transactions {
                read.extend(names.map(String::from));
                continue;
            }
            for name in names.chain(["account"]) {
                match schema::ENTRY_SIDES.iter().find(|side| side.0 == name) {
                    Some((_, out, inward)) => read.extend([*out, *inward].map(String::from)),
                    None => {
                        read.insert(name.into());
                    }
                }
            }
            read.extend(["debtor_external", "creditor_external"].map(String::from));
        }
        if !self.keyed.is_empty() {
            read.extend(self.columns_kept());
        }
        read
    }

    /// Columns of transactions that keyed queries, their hits and faults read.
    pub(crate) fn columns_kept(&self) -> BTreeSet<String> {
        let mut kept = BTreeSet::new();
        for query in &self.keyed {
            kept.extend(query.columns());
            let table = self.tables.iter().find(|table| table.table == query.table);
            kept.extend(table.iter().flat_map(|table| sources(query.table, &table.schema)));
        }
        kept
    }

    /// How far back a row may count that an answer depends on; a window of rows has no such time.
    pub(crate) fn lookback_micros(&self) -> i64 {
        let endless = self.keyspaces.iter().any(|k| !k.latest.is_empty());
        if endless { i64::MAX } else { self.retention_micros() }
    }

    fn add_table(
        &mut self,
        table: Table,
        members: &[usize],
        sql: &Sql,
        out: &mut [Option<IndicatorProgram>],
    ) -> Result<(), EngineError> {
        let rules = self.rules.clone();
        let mut used: BTreeSet<String> =
            ["tx_id", "event_time", "utc_offset_minutes"].map(String::from).into();
        for &i in members {
            used.extend(columns_of(&rules, i));
        }
        let full = match table {
            Table::Transactions => schema::transactions(),
            Table::Entries => schema::entries(),
        };
        let narrow: Vec<_> = full
            .fields()
            .iter()
            .filter(|f| used.contains(f.name()))
            .map(|f| Arc::new(f.as_ref().clone().with_nullable(true)))
            .collect();
        let narrow: SchemaRef = Arc::new(Schema::new(narrow));
        let mut expressions = Expressions {
            sql,
            schema: narrow.clone(),
            known: BTreeMap::new(),
            compiled: Vec::new(),
            texts: Vec::new(),
        };
        let mut by_key: BTreeMap<String, usize> = BTreeMap::new();
        let mut keyspaces = Vec::new();
        for &i in members {
            let indicator = &rules.indicators[i];
            if let Some(keyed) = &indicator.keyed {
                let within = longest_within(&rules, i);
                let mut none = Keyspace::new(0);
                out[i] = Some(compile_indicator(&rules, i, usize::MAX, &mut none, &mut expressions, sql)?);
                self.keyed.push(compile_keyed(&rules, i, keyed, within, sql)?);
                continue;
            }
            let keyspace = match by_key.get(&indicator.key) {
                Some(&index) => index,
                None => {
                    self.keyspaces.push(Keyspace::new(position(&narrow, &indicator.key)?));
                    by_key.insert(indicator.key.clone(), self.keyspaces.len() - 1);
                    keyspaces.push(self.keyspaces.len() - 1);
                    self.keyspaces.len() - 1
                }
            };
            let space = &mut self.keyspaces[keyspace];
            space.indicators.push(i);
            let compiled = compile_indicator(&rules, i, keyspace, space, &mut expressions, sql)?;
            let kept = kept(&rules, i);
            space.retention_micros = space.retention_micros.max(kept.windows_micros);
            space.step_retention_micros = space.step_retention_micros.max(kept.steps_micros);
            space.evidence_micros = space.evidence_micros.max(kept.evidence_micros);
            out[i] = Some(compiled);
        }
        let (mut conjunctions, mut values) = (Vec::new(), BTreeSet::new());
        for &keyspace in &keyspaces {
            let space = &mut self.keyspaces[keyspace];
            space.finish(out);
            space.filters_at =
                space.filters.iter().map(|filter| distinct(&mut conjunctions, filter.clone())).collect();
            let candidate = |&i: &usize| out[i].as_ref().map_or_else(Vec::new, |one| one.candidate.clone());
            space.candidates_at =
                space.indicators.iter().map(|i| distinct(&mut conjunctions, candidate(i))).collect();
            values.extend(space.arguments.iter().map(|argument| argument.expression));
        }
        let constant = |name: &str| table == Table::Entries && name == "direction";
        let together =
            Together::new(&expressions.compiled, &conjunctions, &narrow, entries::differs, constant)?;
        self.tables.push(TableProgram {
            table,
            schema: narrow,
            together,
            values: values.into_iter().collect(),
            conjunctions,
            expressions: expressions.compiled,
            texts: expressions.texts,
            keyspaces,
        });
        Ok(())
    }
}

fn compile_indicator(
    rules: &RuleSet,
    index: usize,
    keyspace: usize,
    space: &mut Keyspace,
    expressions: &mut Expressions<'_>,
    sql: &Sql,
) -> Result<IndicatorProgram, EngineError> {
    let indicator = &rules.indicators[index];
    let row_filter = indicator.row_filter.as_deref().map(|text| expressions.index(text)).transpose()?;
    let mut candidate: Vec<usize> = row_filter.into_iter().collect();
    for conjunct in indicator.conjuncts.iter().filter(|c| !c.uses_feature && indicator.keyed.is_none()) {
        candidate.push(expressions.index(&conjunct.sql)?);
    }
    let mut sequence = None;
    let mut step_bits = Vec::new();
    if let Some(written) = &indicator.sequence {
        if let Some(last) = written.steps.last().and_then(|step| step.filter.as_deref()) {
            candidate.push(expressions.index(last)?);
        }
        (sequence, step_bits) = compile_sequence(written, row_filter, space, expressions)?;
    }
    let names = columns_of(rules, index);
    let narrow = expressions.schema.clone();
    let columns: Vec<usize> =
        (0..narrow.fields().len()).filter(|&c| names.contains(narrow.field(c).name())).collect();
    let mut fields: Vec<Arc<Field>> = columns.iter().map(|&c| narrow.fields()[c].clone()).collect();
    let mut features = Vec::new();
    for feature in &indicator.features {
        let compiled = match &feature.kind {
            FeatureKind::Window(aggregate) => {
                let wanted = window(aggregate, feature.data_type.clone(), row_filter, space, expressions)?;
                FeatureProgram::Window(distinct(&mut space.features, wanted))
            }
            FeatureKind::Answer => FeatureProgram::Answer,
            FeatureKind::Step(value) => {
                let bit = step_bits.get(value.step).copied().unwrap_or(0);
                let place =
                    value.value.as_deref().map(|text| space.place(expressions, text, bit)).transpose()?;
                FeatureProgram::Step { step: value.step, place }
            }
            FeatureKind::Derived(text) => {
                FeatureProgram::Derived(sql.compile(&Arc::new(Schema::new(fields.clone())), text)?)
            }
        };
        let data_type = match &compiled {
            FeatureProgram::Window(_) | FeatureProgram::Step { .. } | FeatureProgram::Answer => {
                feature.data_type.clone()
            }
            FeatureProgram::Derived(expression) => expression.data_type.clone(),
        };
        fields.push(Arc::new(Field::new(&feature.name, data_type, true)));
        features.push(compiled);
    }
    if space.filters.len() > MAX_FILTERS || space.arguments.len() > MAX_ARGUMENTS {
        return Err(EngineError::TooManyExpressions { key: indicator.key.clone() });
    }
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    let condition = sql.compile(&schema, &indicator.condition)?;
    let screen = Screen::of(indicator, &features, &space.features);
    let thin = Thin::compile(indicator, &condition, columns.len(), &features, &schema, sql)?;
    let at = |name: &str| -> Result<usize, EngineError> { position(&schema, name) };
    let (about, key) = (at(&indicator.about)?, at(&indicator.key)?);
    let mut exclusions = Vec::new();
    let mut different = Vec::new();
    for (t, typology) in rules.typologies.iter().enumerate() {
        if typology.gate.iter().any(|part| part.indicator == index) {
            let compiled =
                typology.exclusions.iter().map(|x| sql.compile(&schema, &x.sql)).collect::<Result<_, _>>()?;
            exclusions.push((t, compiled));
        }
        for (p, part) in typology.gate.iter().chain(&typology.corroborators).enumerate() {
            if part.indicator == index && !part.different.is_empty() {
                let compiled = part
                    .different
                    .iter()
                    .map(|d| sql.compile(&schema, &format!("CAST({} AS VARCHAR)", d.sql)))
                    .collect::<Result<_, _>>()?;
                different.push((t, p, compiled));
            }
        }
    }
    let mut measured = Vec::new();
    for (c, conjunct) in indicator.conjuncts.iter().enumerate() {
        if let Some(comparison) = &conjunct.comparison {
            let side = |text: &str| sql.compile(&schema, text);
            measured.push((c, side(&comparison.measured)?, side(&comparison.threshold)?));
        }
    }
    let mut pieces = Vec::new();
    for piece in &indicator.explain.0 {
        pieces.push(match piece {
            Piece::Text(_) => None,
            Piece::Value { sql: text, .. } => Some(sql.compile(&schema, text)?),
        });
    }
    Ok(IndicatorProgram {
        keyspace,
        candidate,
        sequence,
        names_what_it_counted: indicator.sequence.is_some() || indicator.features.iter().any(is_of_rows),
        columns,
        features,
        condition,
        screen,
        thin,
        schema,
        about,
        key,
        exclusions,
        different,
        measured,
        pieces,
    })
}

/// A window feature with its expressions resolved to places of a row.
fn window(
    aggregate: &WindowAggregate,
    data_type: DataType,
    row_filter: Option<usize>,
    space: &mut Keyspace,
    expressions: &mut Expressions<'_>,
) -> Result<WindowFeature, EngineError> {
    let rows: Vec<usize> = row_filter.into_iter().collect();
    let mut filter = rows.clone();
    if let Some(text) = &aggregate.filter {
        filter.push(expressions.index(text)?);
    }
    let bit = distinct(&mut space.filters, filter);
    let latest = match aggregate.frame.rows() {
        None => {
            distinct(&mut space.timed, bit);
            None
        }
        Some((before, _)) => {
            let rows = distinct(&mut space.filters, rows);
            let known = space.latest.iter().position(|known| known.filter == rows);
            let at = known.unwrap_or_else(|| {
                space.latest.push(LatestRows { filter: rows, before: 0 });
                space.latest.len() - 1
            });
            space.latest[at].before = space.latest[at].before.max(before);
            Some(at)
        }
    };
    let mut argument = |text: &Option<String>| -> Result<_, EngineError> {
        let Some(text) = text else { return Ok(None) };
        Ok(Some(space.argument(expressions.index(text)?, None, bit)))
    };
    Ok(WindowFeature {
        function: aggregate.function,
        argument: argument(&aggregate.argument)?,
        weight: argument(&aggregate.weight)?,
        filter: bit,
        frame: aggregate.frame,
        latest,
        argument_type: aggregate.argument_type.clone(),
        data_type,
    })
}

/// A sequence with its expressions resolved to places of a row, and the filter bit of each step.
fn compile_sequence(
    sequence: &Sequence,
    row_filter: Option<usize>,
    space: &mut Keyspace,
    expressions: &mut Expressions<'_>,
) -> Result<(Option<SequenceProgram>, Vec<usize>), EngineError> {
    let mut bits = Vec::new();
    for step in &sequence.steps {
        let mut filter: Vec<usize> = row_filter.into_iter().collect();
        if let Some(text) = &step.filter {
            filter.push(expressions.index(text)?);
        }
        bits.push(distinct(&mut space.filters, filter));
    }
    let mut steps = Vec::new();
    for (step, &bit) in sequence.steps.iter().zip(&bits) {
        let mut compared = Vec::new();
        for written in &step.compared {
            let own = space.place(expressions, &written.own, bit)?;
            let other = space.place(expressions, &written.other, bits[written.step])?;
            compared.push(Compared { own, operator: written.operator, step: written.step, other });
        }
        steps.push(StepProgram {
            list: distinct(&mut space.step_filters, bit),
            compared,
            within_micros: step.within_micros,
            quantity: step.quantity,
            counted: step.counted,
        });
    }
    Ok((Some(SequenceProgram::new(sequence.within_micros, steps)), bits))
}

/// Columns an indicator's batch needs: its own, and those of exclusions and `different` of its typologies.
fn columns_of(rules: &RuleSet, index: usize) -> BTreeSet<String> {
    let indicator: &Indicator = &rules.indicators[index];
    let mut names: BTreeSet<String> = indicator.columns.iter().cloned().collect();
    names.extend([&indicator.key, &indicator.about].map(Clone::clone));
    names.extend(["tx_id", "event_time", "utc_offset_minutes"].map(String::from));
    if indicator.over == Table::Entries {
        names.insert("direction".into());
    }
    for typology in &rules.typologies {
        if typology.gate.iter().any(|part| part.indicator == index) {
            names.extend(typology.exclusions.iter().flat_map(|x| x.columns.iter().cloned()));
        }
        for part in typology.gate.iter().chain(&typology.corroborators).filter(|p| p.indicator == index) {
            names.extend(part.different.iter().flat_map(|d| d.columns.iter().cloned()));
        }
    }
    names
}

fn longest_within(rules: &RuleSet, index: usize) -> i64 {
    rules
        .typologies
        .iter()
        .filter(|t| t.gate.iter().chain(&t.corroborators).any(|p| p.indicator == index))
        .map(|t| t.within_micros)
        .max()
        .unwrap_or(0)
}

/// How long rows are kept for an indicator that is answered at rows.
pub(crate) fn kept(rules: &RuleSet, index: usize) -> Kept {
    let indicator = &rules.indicators[index];
    let within = longest_within(rules, index);
    let longest = longest_window(indicator).unwrap_or(0);
    let reach = indicator.sequence.as_ref().map_or(0, Sequence::reach_micros);
    let rows = if indicator.features.iter().any(is_of_rows) { ROWS_EVIDENCE_MICROS } else { 0 };
    Kept {
        windows_micros: longest.saturating_add(within),
        steps_micros: reach,
        evidence_micros: longest.max(reach).max(rows).saturating_add(within),
    }
}

/// The longest of an indicator's windows of time, microseconds.
pub(crate) fn longest_window(indicator: &Indicator) -> Option<i64> {
    indicator.features.iter().filter_map(window_of).max()
}

fn window_of(feature: &manumit_rules::ir::Feature) -> Option<i64> {
    match &feature.kind {
        FeatureKind::Window(aggregate) => Some(aggregate.frame.longest_micros()),
        FeatureKind::Derived(_) | FeatureKind::Answer | FeatureKind::Step(_) => None,
    }
}

fn is_of_rows(feature: &manumit_rules::ir::Feature) -> bool {
    matches!(&feature.kind, FeatureKind::Window(aggregate) if aggregate.frame.rows().is_some())
}

pub(crate) fn distinct<T: PartialEq>(list: &mut Vec<T>, item: T) -> usize {
    match list.iter().position(|known| *known == item) {
        Some(index) => index,
        None => {
            list.push(item);
            list.len() - 1
        }
    }
}

fn position(schema: &SchemaRef, name: &str) -> Result<usize, EngineError> {
    schema.index_of(name).map_err(|_| EngineError::NoSuchColumn { column: name.to_string() })
}
