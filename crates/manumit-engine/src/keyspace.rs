//! What the rules over one table with one key column share: the shape of a key's rows, and what is asked of them.

use arrow::datatypes::DataType;
use manumit_rules::frame::Frame;

use crate::EngineError;
use crate::bits;
use crate::latest::LatestRows;
use crate::program::{Expressions, IndicatorProgram, TableProgram, distinct};
use crate::ring::Layout;
use crate::sequence::Place;
use crate::values::Half;
use crate::window::{SCAN_ROWS, WindowFeature};

/// All indicators that share one state per key.
pub(crate) struct Keyspace {
    /// Position of the key in the table's narrowed schema.
    pub key: usize,
    /// Each bit: expressions of the table that must all hold.
    pub filters: Vec<Vec<usize>>,
    /// The same, as conjunctions of the table.
    pub filters_at: Vec<usize>,
    pub arguments: Vec<Argument>,
    pub features: Vec<WindowFeature>,
    /// Distinct frames of the features, and which of them each feature has.
    pub frames: Vec<Frame>,
    pub frame_of: Vec<usize>,
    pub indicators: Vec<usize>,
    /// Per indicator of the keyspace: the conjunction of the table that says at which rows it may hold.
    pub candidates_at: Vec<usize>,
    /// By number of rows that a key has, up to [`SCAN_ROWS`]: the indicators that so many rows can make hold, as a mask
    /// over `indicators`.
    pub possible: Vec<Vec<u64>>,
    /// Numbers of rows that tests ask for, each once, ascending: more than one, as the row itself is looked at anyway.
    pub looked_at: Vec<u64>,
    /// Filters that windows of time use: rows that pass none are not kept for them.
    pub timed: Vec<usize>,
    /// Rows are kept this long: the longest window plus the longest typology window over its hits.
    pub retention_micros: i64,
    /// Filters of steps, each once.
    pub step_filters: Vec<usize>,
    /// Rows of steps are kept this long: the longest sequence.
    pub step_retention_micros: i64,
    /// What is kept for windows of rows.
    pub latest: Vec<LatestRows>,
    /// Transactions are kept this long, so that alerts can show what was counted.
    pub evidence_micros: i64,
}

impl Keyspace {
    pub(crate) fn new(key: usize) -> Keyspace {
        Keyspace {
            key,
            filters: Vec::new(),
            filters_at: Vec::new(),
            arguments: Vec::new(),
            features: Vec::new(),
            frames: Vec::new(),
            frame_of: Vec::new(),
            indicators: Vec::new(),
            candidates_at: Vec::new(),
            possible: Vec::new(),
            looked_at: Vec::new(),
            timed: Vec::new(),
            retention_micros: 0,
            step_filters: Vec::new(),
            step_retention_micros: 0,
            latest: Vec::new(),
            evidence_micros: 0,
        }
    }

    /// Shape of the rows that are kept.
    pub(crate) fn layout(&self) -> Layout {
        Layout { filters: self.filters.len(), arguments: self.arguments.len() }
    }

    /// No row is kept for a shorter time.
    pub(crate) fn least_retention_micros(&self) -> i64 {
        if self.step_filters.is_empty() {
            self.retention_micros
        } else if self.timed.is_empty() {
            self.step_retention_micros
        } else {
            self.retention_micros.min(self.step_retention_micros)
        }
    }

    /// The features are known: what they share, and how many rows it takes to make an indicator hold.
    pub(crate) fn finish(&mut self, indicators: &[Option<IndicatorProgram>]) {
        self.frame_of = self.features.iter().map(|f| distinct(&mut self.frames, f.frame)).collect();
        for indicator in self.indicators.iter().filter_map(|&i| indicators[i].as_ref()) {
            for test in indicator.screen.tests.iter().filter(|test| test.least_rows > 1) {
                distinct(&mut self.looked_at, test.least_rows);
            }
        }
        // Few, or asking for them takes longer than waiting.
        self.looked_at.truncate(8);
        self.looked_at.sort_unstable();
        let least: Vec<u64> = self
            .indicators
            .iter()
            .map(|&i| indicators[i].as_ref().map_or(0, |indicator| indicator.screen.least_rows))
            .collect();
        self.possible = (0..=SCAN_ROWS)
            .map(|rows| {
                let mut mask = vec![0; bits::words_of(least.len())];
                for n in (0..least.len()).filter(|&n| least[n] <= rows || rows == SCAN_ROWS) {
                    mask[n / 64] |= 1 << (n % 64);
                }
                mask
            })
            .collect();
    }

    /// Place of an expression among a row's arguments; its value is kept for rows that pass the filter `bit`.
    pub(crate) fn argument(&mut self, expression: usize, half: Option<Half>, bit: usize) -> usize {
        let known = self.arguments.iter().position(|a| (a.expression, a.half) == (expression, half));
        let at = known.unwrap_or_else(|| {
            self.arguments.push(Argument { expression, half, used_by: Vec::new() });
            self.arguments.len() - 1
        });
        if !self.arguments[at].used_by.contains(&bit) {
            self.arguments[at].used_by.push(bit);
        }
        at
    }

    /// Where the value of an expression stands that must not lose a digit.
    pub(crate) fn place(
        &mut self,
        expressions: &mut Expressions<'_>,
        text: &str,
        bit: usize,
    ) -> Result<Place, EngineError> {
        let expression = expressions.index(text)?;
        Ok(match expressions.compiled[expression].data_type {
            // 18 digits fit 64 bits.
            DataType::Decimal128(precision, _) if precision > 18 => Place::Decimal(
                self.argument(expression, Some(Half::High), bit),
                self.argument(expression, Some(Half::Low), bit),
            ),
            DataType::Float32 | DataType::Float64 => Place::Float(self.argument(expression, None, bit)),
            _ => Place::Integer(self.argument(expression, None, bit)),
        })
    }
}

/// How long the number of a text may stand in some row that is looked at, microseconds; rows of windows of rows aside, which are of any age:
/// see [`ageless_texts`].
pub(crate) fn texts_micros(tables: &[TableProgram], spaces: &[Keyspace]) -> i64 {
    let spaces = tables.iter().flat_map(|table| &table.keyspaces).map(|&space| &spaces[space]);
    spaces.map(|space| space.retention_micros.max(space.step_retention_micros)).max().unwrap_or(0)
}

/// Per keyspace: arguments that are texts and counted by windows of rows, however old these rows are.
pub(crate) fn ageless_texts(tables: &[TableProgram], spaces: &[Keyspace]) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new(); spaces.len()];
    for table in tables {
        for &place in &table.keyspaces {
            let space = &spaces[place];
            let is_text = |argument: &usize| {
                let Argument { expression, half, .. } = &space.arguments[*argument];
                let data_type = &table.expressions[*expression].data_type;
                let number = data_type.is_numeric() || data_type.is_temporal();
                half.is_none() && !number && *data_type != DataType::Boolean
            };
            let ageless = space.features.iter().filter(|feature| feature.latest.is_some());
            for argument in ageless.flat_map(|feature| [feature.argument, feature.weight]).flatten() {
                if is_text(&argument) && !all[place].contains(&argument) {
                    all[place].push(argument);
                }
            }
        }
    }
    all
}

/// A distinct aggregate argument.
pub(crate) struct Argument {
    /// Expression of the table.
    pub expression: usize,
    /// Only one half of it.
    pub half: Option<Half>,
    /// Bits of filters whose features read it: other rows need not keep its value.
    pub used_by: Vec<usize>,
}
