//! The one plan of a rule set, told to readers: what is worked out and kept once, and which indicators use it.
//!
//! The plan is read from the compiled program itself, so it says what an engine does. What an indicator costs beside the
//! others is what [`Plan::without`] it lacks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use manumit_rules::ir::{FeatureKind, RuleSet, Table};
use manumit_sql::Sql;

use crate::EngineError;
use crate::keyspace::Keyspace;
use crate::program::{self, FeatureProgram, IndicatorProgram, Program, TableProgram};
use crate::ring::Layout;
use crate::sequence::Place;
use crate::values::Half;

/// What runs for a whole rule set. Indicators are named by their index in [`RuleSet::indicators`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Tables that are read.
    pub tables: Vec<TablePlan>,
    /// In the order of the rule set, also those left out by [`Plan::without`].
    pub indicators: Vec<IndicatorPlan>,
}

/// Something that is there once, and who uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What it is, as SQL or close to it.
    pub text: String,
    /// Indicators, ascending.
    pub users: Vec<usize>,
}

/// What is worked out at every row of a table, before anything is looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablePlan {
    /// The table.
    pub table: Table,
    /// All indicators over it, ascending.
    pub indicators: Vec<usize>,
    /// Columns that are read.
    pub columns: Vec<Item>,
    /// Different expressions over the columns of a row: each is worked out once for a whole batch.
    pub expressions: Vec<Item>,
    /// Different parts of these, and they themselves: each is worked out once, at the rows where it decides something.
    pub parts: Vec<Item>,
    /// What is kept, by column of the key.
    pub spaces: Vec<SpacePlan>,
    /// Indicators that are answered at ticks, by queries of their own.
    pub at_ticks: Vec<usize>,
}

/// What the indicators over one table with one key column keep together: one list of rows a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpacePlan {
    /// Column of the key.
    pub key: String,
    /// Indicators, ascending.
    pub indicators: Vec<usize>,
    /// Different tests that say which rows count: a bit of every row that is kept.
    pub filters: Vec<Item>,
    /// Those of them that windows of time use: rows that pass one are kept for [`SpacePlan::windows_micros`].
    pub timed: Vec<Item>,
    /// Those of them that steps of sequences use: rows that pass one are kept for [`SpacePlan::steps_micros`].
    pub steps: Vec<Item>,
    /// Those of them whose latest rows are kept, however old.
    pub latest: Vec<LatestPlan>,
    /// Different values: a word of every row that is kept.
    pub arguments: Vec<Item>,
    /// Different windows.
    pub frames: Vec<Item>,
    /// Different aggregates over windows: each is worked out at most once at a row.
    pub features: Vec<Item>,
    /// How long rows are kept, by indicator.
    pub kept: Vec<(usize, Kept)>,
}

/// Latest rows of each key that are kept, however old.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatestPlan {
    /// Which rows.
    pub rows: String,
    /// By indicator, how many rows before the one that is looked at it needs.
    pub before: Vec<(usize, u64)>,
}

/// How long rows are kept for an indicator, microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kept {
    /// Rows of windows of time: the longest window, and the longest typology that counts its hits.
    pub windows_micros: i64,
    /// Rows of steps: the length of the sequence.
    pub steps_micros: i64,
    /// Whole transactions, for alerts to show.
    pub evidence_micros: i64,
}

/// How one indicator is answered at a row: the cheapest test first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndicatorPlan {
    /// Tests of the row alone, worked out for whole batches; all must hold before a key is looked up.
    pub row_tests: Vec<String>,
    /// A key with fewer rows kept for windows of time cannot hold.
    pub least_rows: u64,
    /// Comparisons of one feature with a number, in the order in which they are made.
    pub tests: Vec<TestPlan>,
    /// Features that are worked out only where all of these hold, by name.
    pub features_after: Vec<String>,
    /// Nothing is left of the condition after that.
    pub decided_by_tests: bool,
    /// Its features over windows: name in the rule, and text among [`SpacePlan::features`].
    pub features: Vec<(String, String)>,
}

/// A comparison that is made without DataFusion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestPlan {
    /// As canonical SQL.
    pub condition: String,
    /// A window with fewer rows cannot pass, and is not counted.
    pub least_rows: u64,
}

/// How much there is of everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tables that are read.
    pub tables: usize,
    /// Columns that are read, of all tables.
    pub columns: usize,
    /// Expressions worked out for every batch.
    pub expressions: usize,
    /// Queries that are asked at ticks.
    pub at_ticks: usize,
    /// Keys' columns for which rows are kept.
    pub spaces: usize,
    /// Tests that say which rows count.
    pub filters: usize,
    /// Lists of rows that can be steps.
    pub steps: usize,
    /// Lists of latest rows.
    pub latest: usize,
    /// Values kept of rows.
    pub arguments: usize,
    /// Windows.
    pub frames: usize,
    /// Aggregates over windows.
    pub features: usize,
    /// 64-bit words of a row that is kept, summed over the keys' columns.
    pub words: usize,
}

impl Counts {
    /// How much less there is in `other`.
    pub fn less(self, other: Counts) -> Counts {
        self.with(other, usize::saturating_sub)
    }

    /// How much there is of both.
    pub fn and(self, other: Counts) -> Counts {
        self.with(other, usize::saturating_add)
    }

    fn with(self, other: Counts, both: impl Fn(usize, usize) -> usize) -> Counts {
        Counts {
            tables: both(self.tables, other.tables),
            columns: both(self.columns, other.columns),
            expressions: both(self.expressions, other.expressions),
            at_ticks: both(self.at_ticks, other.at_ticks),
            spaces: both(self.spaces, other.spaces),
            filters: both(self.filters, other.filters),
            steps: both(self.steps, other.steps),
            latest: both(self.latest, other.latest),
            arguments: both(self.arguments, other.arguments),
            frames: both(self.frames, other.frames),
            features: both(self.features, other.features),
            words: both(self.words, other.words),
        }
    }
}

impl Plan {
    /// Compiles a rule set, as an engine does, and tells what runs.
    ///
    /// # Errors
    /// [`EngineError`] where an engine could not be built.
    pub fn of(rules: &Arc<RuleSet>, sql: &Sql) -> Result<Plan, EngineError> {
        let program = Program::compile(rules.clone(), sql)?;
        let uses: Vec<Uses> =
            program.indicators.iter().map(|indicator| Uses::of(&program, indicator)).collect();
        let tables = program.tables.iter().map(|table| table_plan(&program, table, &uses)).collect();
        let indicators = (0..program.indicators.len()).map(|i| indicator_plan(&program, i)).collect();
        Ok(Plan { tables, indicators })
    }

    /// What would run if some indicators were not there.
    #[must_use]
    pub fn without(&self, removed: &[usize]) -> Plan {
        self.keeping(|indicator| !removed.contains(&indicator))
    }

    /// What would run if one indicator were alone.
    #[must_use]
    pub fn alone(&self, indicator: usize) -> Plan {
        self.keeping(|other| other == indicator)
    }

    fn keeping(&self, keeps: impl Fn(usize) -> bool) -> Plan {
        let mut tables = self.tables.clone();
        for table in &mut tables {
            table.indicators.retain(|&i| keeps(i));
            table.at_ticks.retain(|&i| keeps(i));
            retain(&mut table.columns, &keeps);
            retain(&mut table.expressions, &keeps);
            retain(&mut table.parts, &keeps);
            for space in &mut table.spaces {
                space.indicators.retain(|&i| keeps(i));
                space.kept.retain(|&(i, _)| keeps(i));
                let SpacePlan { filters, timed, steps, arguments, frames, features, latest, .. } = space;
                for items in [filters, timed, steps, arguments, frames, features] {
                    retain(items, &keeps);
                }
                latest.iter_mut().for_each(|list| list.before.retain(|&(i, _)| keeps(i)));
                latest.retain(|list| !list.before.is_empty());
            }
            table.spaces.retain(|space| !space.indicators.is_empty());
        }
        tables.retain(|table| !table.indicators.is_empty());
        Plan { tables, indicators: self.indicators.clone() }
    }

    /// How much there is of everything.
    pub fn counts(&self) -> Counts {
        self.tables.iter().fold(Counts::default(), |sum, table| {
            let own = Counts {
                tables: 1,
                columns: table.columns.len(),
                expressions: table.expressions.len(),
                at_ticks: table.at_ticks.len(),
                ..Counts::default()
            };
            table.spaces.iter().fold(sum.and(own), |sum, space| sum.and(space.counts()))
        })
    }

    /// How much there would be if nothing were shared: the plans of all indicators, each alone, put together.
    pub fn counts_unshared(&self) -> Counts {
        let all: BTreeSet<usize> =
            self.tables.iter().flat_map(|table| table.indicators.iter().copied()).collect();
        all.into_iter().fold(Counts::default(), |sum, i| sum.and(self.alone(i).counts()))
    }

    /// The table that an indicator reads, and what it keeps together with others; `None` when it is not in the plan. One
    /// that is answered at ticks keeps nothing with others.
    pub fn place(&self, indicator: usize) -> Option<(&TablePlan, Option<&SpacePlan>)> {
        let table = self.tables.iter().find(|table| table.indicators.contains(&indicator))?;
        Some((table, table.spaces.iter().find(|space| space.indicators.contains(&indicator))))
    }
}

impl SpacePlan {
    /// Rows of keys are kept at all.
    pub fn keeps_rows(&self) -> bool {
        !self.filters.is_empty()
    }

    /// 64-bit words of a row that is kept; 0 when none is.
    pub fn words_a_row(&self) -> usize {
        let layout = Layout { filters: self.filters.len(), arguments: self.arguments.len() };
        if self.keeps_rows() { layout.stride() } else { 0 }
    }

    /// How long rows are kept that windows of time use, microseconds; `None` when there are no such windows.
    pub fn windows_micros(&self) -> Option<i64> {
        let longest = self.kept.iter().map(|(_, kept)| kept.windows_micros).max();
        longest.filter(|_| !self.timed.is_empty())
    }

    /// How long rows are kept that can be steps, microseconds; `None` when there are no sequences.
    pub fn steps_micros(&self) -> Option<i64> {
        let longest = self.kept.iter().map(|(_, kept)| kept.steps_micros).max();
        longest.filter(|_| !self.steps.is_empty())
    }

    /// How much there is of everything.
    pub fn counts(&self) -> Counts {
        Counts {
            spaces: usize::from(self.keeps_rows()),
            filters: self.filters.len(),
            steps: self.steps.len(),
            latest: self.latest.len(),
            arguments: self.arguments.len(),
            frames: self.frames.len(),
            features: self.features.len(),
            words: self.words_a_row(),
            ..Counts::default()
        }
    }
}

impl LatestPlan {
    /// Rows kept before the one that is looked at.
    pub fn most(&self) -> u64 {
        self.before.iter().map(|&(_, before)| before).max().unwrap_or(0)
    }
}

/// What one indicator uses: places in its table and in its keyspace.
#[derive(Default)]
struct Uses {
    expressions: BTreeSet<usize>,
    filters: BTreeSet<usize>,
    /// Filters.
    timed: BTreeSet<usize>,
    /// Filters.
    steps: BTreeSet<usize>,
    /// Lists of latest rows, with the rows needed before the one that is looked at.
    latest: BTreeMap<usize, u64>,
    arguments: BTreeSet<usize>,
    frames: BTreeSet<usize>,
    features: BTreeSet<usize>,
}

impl Uses {
    fn of(program: &Program, indicator: &IndicatorProgram) -> Uses {
        let mut uses = Uses { expressions: indicator.candidate.iter().copied().collect(), ..Uses::default() };
        let Some(space) = program.keyspaces.get(indicator.keyspace) else {
            return uses;
        };
        for feature in &indicator.features {
            match feature {
                FeatureProgram::Window(at) => uses.window(space, *at),
                FeatureProgram::Step { place: Some(place), .. } => uses.value(*place),
                _ => {}
            }
        }
        for step in indicator.sequence.iter().flat_map(|sequence| &sequence.steps) {
            let filter = space.step_filters[step.list];
            uses.filters.insert(filter);
            uses.steps.insert(filter);
            for compared in &step.compared {
                uses.value(compared.own);
                uses.value(compared.other);
            }
        }
        uses.expressions
            .extend(uses.filters.iter().flat_map(|&filter| space.filters[filter].iter().copied()));
        uses.expressions.extend(uses.arguments.iter().map(|&argument| space.arguments[argument].expression));
        uses
    }

    fn window(&mut self, space: &Keyspace, at: usize) {
        let feature = &space.features[at];
        self.features.insert(at);
        self.frames.insert(space.frame_of[at]);
        self.filters.insert(feature.filter);
        self.arguments.extend(feature.argument.iter().chain(&feature.weight).copied());
        match feature.latest {
            None => {
                self.timed.insert(feature.filter);
            }
            Some(list) => {
                self.filters.insert(space.latest[list].filter);
                let before = feature.frame.rows().map_or(0, |(before, _)| before);
                let most = self.latest.entry(list).or_default();
                *most = before.max(*most);
            }
        }
    }

    fn value(&mut self, place: Place) {
        match place {
            Place::Integer(at) | Place::Float(at) => self.arguments.insert(at),
            Place::Decimal(high, low) => self.arguments.insert(high) | self.arguments.insert(low),
        };
    }
}

fn table_plan(program: &Program, table: &TableProgram, uses: &[Uses]) -> TablePlan {
    let members: Vec<usize> =
        (0..uses.len()).filter(|&i| program.rules.indicators[i].over == table.table).collect();
    let at_ticks = members.iter().copied().filter(|&i| program.rules.indicators[i].keyed.is_some()).collect();
    let columns = table.schema.fields().iter().enumerate().map(|(column, field)| Item {
        text: field.name().clone(),
        users: members.iter().copied().filter(|&i| program.indicators[i].columns.contains(&column)).collect(),
    });
    let expressions = table.texts.iter().enumerate();
    let expressions =
        expressions.map(|(e, text)| item(text.clone(), &members, |i| uses[i].expressions.contains(&e)));
    let parts = table.together.parts().into_iter().map(|(text, of)| {
        item(text.to_string(), &members, |i| of.iter().any(|e| uses[i].expressions.contains(e)))
    });
    TablePlan {
        table: table.table,
        parts: sorted(parts),
        columns: sorted(columns),
        expressions: sorted(expressions),
        spaces: table.keyspaces.iter().map(|&index| space_plan(program, table, index, uses)).collect(),
        at_ticks,
        indicators: members,
    }
}

fn space_plan(program: &Program, table: &TableProgram, index: usize, uses: &[Uses]) -> SpacePlan {
    let space = &program.keyspaces[index];
    let members = &space.indicators;
    let filter = |at: usize| filter_text(table, &space.filters[at]);
    let of_filters = |used: fn(&Uses) -> &BTreeSet<usize>| {
        let all = 0..space.filters.len();
        sorted(all.map(|at| item(filter(at), members, |i| used(&uses[i]).contains(&at))))
    };
    let arguments =
        space.arguments.iter().enumerate().map(|(at, _)| {
            item(argument_text(table, space, at), members, |i| uses[i].arguments.contains(&at))
        });
    let frames = space.frames.iter().enumerate();
    let frames = frames.map(|(at, frame)| item(frame.to_string(), members, |i| uses[i].frames.contains(&at)));
    let mut texts = vec![String::new(); space.features.len()];
    for &i in members {
        for (_, at, text) in features_of(program, table, i) {
            texts[at] = text;
        }
    }
    let features = texts.into_iter().enumerate();
    let features = features.map(|(at, text)| item(text, members, |i| uses[i].features.contains(&at)));
    let latest = space.latest.iter().enumerate().map(|(at, list)| LatestPlan {
        rows: filter(list.filter),
        before: members.iter().filter_map(|&i| Some((i, *uses[i].latest.get(&at)?))).collect(),
    });
    SpacePlan {
        key: table.schema.field(space.key).name().clone(),
        indicators: members.clone(),
        filters: of_filters(|uses| &uses.filters),
        timed: of_filters(|uses| &uses.timed),
        steps: of_filters(|uses| &uses.steps),
        latest: latest.collect(),
        arguments: sorted(arguments),
        frames: sorted(frames),
        features: sorted(features),
        kept: members.iter().map(|&i| (i, program::kept(&program.rules, i))).collect(),
    }
}

fn indicator_plan(program: &Program, index: usize) -> IndicatorPlan {
    let (rule, compiled) = (&program.rules.indicators[index], &program.indicators[index]);
    let table = program.tables.iter().find(|table| table.table == rule.over);
    let mut row_tests: Vec<String> = Vec::new();
    for text in compiled.candidate.iter().filter_map(|&e| table?.texts.get(e)) {
        if text != "true" && !row_tests.contains(text) {
            row_tests.push(text.clone());
        }
    }
    let tests = compiled.screen.tests.iter();
    let tests: Vec<TestPlan> = tests
        .map(|test| TestPlan {
            condition: rule.conjuncts.get(test.conjunct).map_or_else(String::new, |c| c.sql.clone()),
            least_rows: test.least_rows,
        })
        .collect();
    let tested: BTreeSet<usize> = compiled.screen.tests.iter().map(|test| test.feature).collect();
    let after = rule.features.iter().zip(&compiled.features).filter(|(_, program)| match program {
        FeatureProgram::Window(at) => !tested.contains(at),
        FeatureProgram::Step { .. } | FeatureProgram::Derived(_) => true,
        FeatureProgram::Answer => false,
    });
    IndicatorPlan {
        row_tests,
        least_rows: compiled.screen.least_rows,
        tests,
        features_after: after.map(|(feature, _)| feature.name.clone()).collect(),
        decided_by_tests: compiled.screen.decides
            || rule.conjuncts.iter().all(|c| !c.uses_feature) && rule.keyed.is_none(),
        features: table
            .into_iter()
            .flat_map(|table| features_of(program, table, index))
            .map(|(name, _, text)| (name, text))
            .collect(),
    }
}

/// An indicator's features over windows: name, place in the keyspace, text.
fn features_of(program: &Program, table: &TableProgram, index: usize) -> Vec<(String, usize, String)> {
    let (rule, compiled) = (&program.rules.indicators[index], &program.indicators[index]);
    let Some(space) = program.keyspaces.get(compiled.keyspace) else {
        return Vec::new();
    };
    let mut out = Vec::new();
    for (feature, of) in rule.features.iter().zip(&compiled.features) {
        if let (FeatureKind::Window(aggregate), FeatureProgram::Window(at)) = (&feature.kind, of) {
            let rows = match space.filters[space.features[*at].filter].as_slice() {
                [] => String::new(),
                filter => format!(" where {}", filter_text(table, filter)),
            };
            out.push((
                feature.name.clone(),
                *at,
                format!("{}{rows} over {}", aggregate.call(), aggregate.frame),
            ));
        }
    }
    out
}

/// Expressions that must all hold, as one condition.
fn filter_text(table: &TableProgram, filter: &[usize]) -> String {
    let parts: Vec<&String> = filter.iter().map(|&e| &table.texts[e]).collect();
    match parts.as_slice() {
        [] => "every row".into(),
        [one] => (*one).clone(),
        all => {
            let closed = all.iter().map(|text| match text.contains(" OR ") {
                true => format!("({text})"),
                false => (*text).clone(),
            });
            closed.collect::<Vec<_>>().join(" AND ")
        }
    }
}

fn argument_text(table: &TableProgram, space: &Keyspace, at: usize) -> String {
    let argument = &space.arguments[at];
    let half = match argument.half {
        None => "",
        Some(Half::High) => " (upper half)",
        Some(Half::Low) => " (lower half)",
    };
    format!("{}{half}", table.texts[argument.expression])
}

fn item(text: String, members: &[usize], uses: impl Fn(usize) -> bool) -> Item {
    Item { text, users: members.iter().copied().filter(|&i| uses(i)).collect() }
}

/// Those that are used, what most indicators use first.
fn sorted(items: impl Iterator<Item = Item>) -> Vec<Item> {
    let mut items: Vec<Item> = items.filter(|item| !item.users.is_empty()).collect();
    sort(&mut items);
    items
}

fn sort(items: &mut [Item]) {
    items.sort_by(|a, b| b.users.len().cmp(&a.users.len()).then_with(|| a.text.cmp(&b.text)));
}

fn retain(items: &mut Vec<Item>, keeps: impl Fn(usize) -> bool) {
    items.iter_mut().for_each(|item| item.users.retain(|&i| keeps(i)));
    items.retain(|item| !item.users.is_empty());
    sort(items);
}
