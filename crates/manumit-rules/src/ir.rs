//! The compiled rule set: what the loader gives and the engine runs.
//!
//! All expressions are canonical SQL text: parsed, parameters bound, reference lookups rewritten to function
//! calls, names checked and types inferred by DataFusion. Equal meaning gives equal text, so the engine finds
//! common expressions by comparing strings.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::PathBuf;

use arrow::datatypes::DataType;
use manumit_model::alert::{Role, RuleText};

use crate::frame::Frame;

/// All rules that were loaded, ordered by id.
#[derive(Debug, Clone, Default)]
pub struct RuleSet {
    /// SHA-256 (hex) over the canonical text of all indicators and typologies.
    pub hash: String,
    /// Indicators that at least one typology uses, or that stand alone; ordered by id.
    pub indicators: Vec<Indicator>,
    /// Typologies, ordered by id.
    pub typologies: Vec<Typology>,
    /// By typology id the files that it was read from, with those of its indicators, by path.
    pub texts: BTreeMap<String, Vec<RuleText>>,
    /// Rules that run no more, by kind and id. They are no part of the hash.
    pub retired: Vec<crate::Retired>,
}

/// The table an indicator reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// One row a payment.
    Transactions,
    /// One row a side of a payment.
    Entries,
}

impl Table {
    /// Its SQL name.
    pub fn name(self) -> &'static str {
        match self {
            Table::Transactions => "transactions",
            Table::Entries => "entries",
        }
    }
}

/// What rules and alerts say about themselves.
#[derive(Debug, Clone, Default)]
pub struct Metadata {
    /// Kebab-case id, never reused.
    pub id: String,
    /// Raised with every change of meaning.
    pub version: u32,
    /// One line.
    pub title: String,
    /// `draft`, `experimental`, `stable`, `deprecated`; `retired` ones are [`Retired`](crate::Retired).
    pub status: String,
    /// `low`, `medium`, `high`.
    pub severity: String,
    /// Kinds of exploitation: `sexual`, `labour`, `domestic_servitude`, `forced_criminality`, `ocse`, `sextortion`, `smuggling`, `any`.
    pub exploitation: Vec<String>,
    /// Published red flags: ids of the indicator catalogue, or citations.
    pub references: Vec<String>,
    /// What else may look like this.
    pub false_positives: Vec<String>,
    /// Keyword sets (`KW-HT`, …).
    pub fiu_keywords: Vec<String>,
    /// The file it was read from.
    pub file: PathBuf,
}

/// One red flag of one subject.
#[derive(Debug, Clone)]
pub struct Indicator {
    /// Id, version, sources.
    pub meta: Metadata,
    /// `account`, `customer`, `device`, … as shown in alerts.
    pub subject: String,
    /// Column of the table that holds the subject's key.
    pub key: String,
    /// Table.
    pub over: Table,
    /// Column whose value the hit is about: the key, unless the rule says `about = "counterparty"` or the like.
    pub about: String,
    /// Subject kind of `about`: what typologies that use this indicator must have as subject.
    pub about_subject: String,
    /// Rows the indicator looks at at all, canonical SQL; `None` means all.
    pub row_filter: Option<String>,
    /// Steps that must have come one after another when the row is the last of them.
    pub sequence: Option<Sequence>,
    /// A query that is answered at ticks in place of windows at every row.
    pub keyed: Option<Keyed>,
    /// Features, in an order in which derived ones come after what they use.
    pub features: Vec<Feature>,
    /// The whole condition, canonical SQL over columns and features.
    pub condition: String,
    /// Conjunction of those top-level conjuncts of `condition` that use columns only: a cheap test before any
    /// feature is computed. `None` when every conjunct uses a feature.
    pub row_condition: Option<String>,
    /// Top-level conjuncts of `condition`, in the author's order.
    pub conjuncts: Vec<Conjunct>,
    /// Explanation template.
    pub explain: Template,
    /// Columns without which the indicator says nothing: where no feed maps them, it never holds. «No spending on
    /// daily life» needs `mcc`: without it every account looks as if it bought nothing.
    pub needs: Vec<String>,
    /// Those of `needs` that no feed of this run maps; see [`RuleSet::fitted`].
    pub unmet: Vec<String>,
    /// Columns of the table that any expression of this indicator uses.
    pub columns: Vec<String>,
    /// The indicator as one SQL query over its table, giving
    /// `tx_id, event_time, direction (entries only), subject, <features>` of every row that hits. For keyed SQL: at one
    /// tick, written as `$tick`; see [`RuleSet::hits_sql`].
    pub sql: String,
}

impl RuleSet {
    /// The typologies and indicators with these ids, and the indicators that those typologies use; ids that are in
    /// neither list are given back as the error.
    ///
    /// # Errors
    /// The first id that is not known.
    pub fn only(&self, ids: &[String]) -> Result<RuleSet, String> {
        let wanted = |id: &String| ids.contains(id);
        let known = |id: &String| {
            self.typologies.iter().any(|t| t.meta.id == *id)
                || self.indicators.iter().any(|i| i.meta.id == *id)
        };
        if let Some(unknown) = ids.iter().find(|id| !known(id)) {
            return Err(unknown.clone());
        }
        let mut typologies: Vec<Typology> =
            self.typologies.iter().filter(|t| wanted(&t.meta.id)).cloned().collect();
        let used = |index: usize| {
            typologies
                .iter()
                .flat_map(|t| t.gate.iter().chain(&t.corroborators))
                .any(|p| p.indicator == index)
        };
        let asked: Vec<usize> = (0..self.indicators.len())
            .filter(|&index| used(index) || wanted(&self.indicators[index].meta.id))
            .collect();
        // A query reads the hits of others: they come along.
        let read: Vec<&String> = asked
            .iter()
            .filter_map(|&index| self.indicators[index].keyed.as_ref())
            .flat_map(|keyed| &keyed.hits_of)
            .collect();
        let kept: Vec<usize> = (0..self.indicators.len())
            .filter(|index| asked.contains(index) || read.contains(&&self.indicators[*index].meta.id))
            .collect();
        for typology in &mut typologies {
            for part in typology.gate.iter_mut().chain(&mut typology.corroborators) {
                part.indicator = kept.binary_search(&part.indicator).unwrap_or_default();
            }
        }
        let indicators = kept.iter().map(|&index| self.indicators[index].clone()).collect();
        let texts = self.texts.iter().filter(|(id, _)| typologies.iter().any(|t| t.meta.id == **id));
        let texts = texts.map(|(id, texts)| (id.clone(), texts.clone())).collect();
        Ok(RuleSet { hash: self.hash.clone(), indicators, typologies, texts, retired: self.retired.clone() })
    }

    /// The rules as they run on feeds that give these columns of `transactions`: indicators of which one is missing
    /// among those they need never hold, and say so in `unmet`. Of a column of `entries` that stands for two
    /// sides, one side is enough.
    pub fn fitted(&self, given: &[String]) -> RuleSet {
        let has = |name: &str| given.iter().any(|g| g == name);
        let met = |name: &str| match manumit_model::schema::ENTRY_SIDES.iter().find(|side| side.0 == name) {
            Some((_, out, inward)) => has(out) || has(inward),
            None => has(name) || name == "direction",
        };
        let mut rules = self.clone();
        for indicator in &mut rules.indicators {
            indicator.unmet = indicator.needs.iter().filter(|name| !met(name)).cloned().collect();
            if !indicator.unmet.is_empty() {
                indicator.condition = "false".into();
                indicator.row_condition = Some("false".into());
                indicator.conjuncts = vec![Conjunct { sql: "false".into(), ..Conjunct::default() }];
            }
        }
        rules
    }
}

/// A named value computed at a row.
#[derive(Debug, Clone)]
pub struct Feature {
    /// Name, lower snake case.
    pub name: String,
    /// Type that DataFusion gives it.
    pub data_type: DataType,
    /// Unit for explanations, such as `accounts`.
    pub unit: Option<String>,
    /// Words for evidence, such as `different senders`.
    pub label: Option<String>,
    /// What it is.
    pub kind: FeatureKind,
}

/// Any SELECT over the rows of single keys, answered at ticks of event time.
///
/// Ticks are the multiples of `every` since 1970-01-01 UTC. At a tick the query sees, of each key that has a row in
/// `[tick - every, tick)`, the rows in `[tick - lookback, tick)`; nothing of other keys. Each row of its answer for which the
/// condition holds is a hit at the tick; the row of the hit is the key's latest one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyed {
    /// The query, parameters bound.
    pub query: String,
    /// DataFusion's plan of it, for readers.
    pub plan: String,
    /// How far it looks back, microseconds.
    pub lookback_micros: i64,
    /// Time between ticks, microseconds.
    pub every_micros: i64,
    /// Indicators whose hits are in its table `hits`.
    pub hits_of: Vec<String>,
}

/// Steps one after another, each strictly later in time than the one before; rows of other kinds may lie between.
///
/// A row completes the sequence when it can be the last step's row. Of several ways to fill the other steps the latest
/// is taken: the latest row of the last but one that lets all others be filled, then of the one before it, and so on.
/// Of rows of one time the latest is the last by feed, then tx_id, then direction, `out` before `in`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    /// Longest time from the first step's row to the last step's, microseconds; both ends are in.
    pub within_micros: i64,
    /// In their order. The first and the last are anchors.
    pub steps: Vec<Step>,
}

impl Sequence {
    /// How far a step's row may lie before the row that completes the sequence, microseconds.
    pub fn reach_micros(&self) -> i64 {
        let repeated = self.steps.first().map_or(0, |first| match first.quantity {
            Quantity::AtLeast(1) if !first.counted => 0,
            _ => first.within_micros.unwrap_or(self.within_micros),
        });
        self.within_micros.saturating_add(repeated)
    }
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Name, for values carried on.
    pub name: String,
    /// Its condition as the author wrote it.
    pub text: String,
    /// What its row tells alone, canonical SQL; `None`: any row.
    pub filter: Option<String>,
    /// Comparisons with rows of earlier anchors.
    pub compared: Vec<Compared>,
    /// Longest time from the anchor before, microseconds. Of the first step: the time before its row in which its rows
    /// are counted; `None` stands for the length of the sequence.
    pub within_micros: Option<i64>,
    /// How often.
    pub quantity: Quantity,
    /// The number of its rows matters: it must come several times, or a feature takes its `count`.
    pub counted: bool,
    /// Parameters that its condition uses: name, value, unit, source.
    pub params: Vec<[String; 4]>,
}

impl Step {
    /// It must be there, so that later steps can look back at its row.
    pub fn is_anchor(&self) -> bool {
        matches!(self.quantity, Quantity::AtLeast(_))
    }
}

/// How often a step comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// So many rows of it since the anchor before, up to the time of the step's own row, which is one of them.
    AtLeast(u64),
    /// The latest row between the anchors on both sides, their own times left out, if there is one; several optional
    /// steps between the same anchors are looked for independently.
    Optional,
    /// No row between the anchors on both sides, their own times left out.
    Not,
}

/// `own operator other`, where `other` is worked out on the row of an earlier anchor. NULL on a side does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// Canonical SQL over the step's own row; of one type with `other`.
    pub own: String,
    /// How they are compared.
    pub operator: Operator,
    /// Index of the earlier step.
    pub step: usize,
    /// Canonical SQL over that step's row.
    pub other: String,
}

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `=`
    Eq,
    /// `<>`
    NotEq,
    /// `<`
    Lt,
    /// `<=`
    LtEq,
    /// `>`
    Gt,
    /// `>=`
    GtEq,
}

impl Operator {
    /// As SQL writes it.
    pub fn sql(self) -> &'static str {
        match self {
            Operator::Eq => "=",
            Operator::NotEq => "<>",
            Operator::Lt => "<",
            Operator::LtEq => "<=",
            Operator::Gt => ">",
            Operator::GtEq => ">=",
        }
    }

    /// With its sides exchanged.
    pub(crate) fn flipped(self) -> Operator {
        match self {
            Operator::Eq | Operator::NotEq => self,
            Operator::Lt => Operator::Gt,
            Operator::LtEq => Operator::GtEq,
            Operator::Gt => Operator::Lt,
            Operator::GtEq => Operator::LtEq,
        }
    }

    /// It holds of two values in this order.
    pub fn holds(self, order: Ordering) -> bool {
        match self {
            Operator::Eq => order.is_eq(),
            Operator::NotEq => order.is_ne(),
            Operator::Lt => order.is_lt(),
            Operator::LtEq => order.is_le(),
            Operator::Gt => order.is_gt(),
            Operator::GtEq => order.is_ge(),
        }
    }
}

/// A value of a step's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepValue {
    /// Index of the step.
    pub step: usize,
    /// Canonical SQL over its row; `None`: how many rows it has (of an optional step 0 or 1).
    pub value: Option<String>,
}

/// The kinds of features.
#[derive(Debug, Clone)]
pub enum FeatureKind {
    /// An aggregate over the key's rows in a window; see [`Frame`].
    Window(WindowAggregate),
    /// A value of a step of the indicator's sequence.
    Step(StepValue),
    /// An expression over columns and earlier features, canonical SQL.
    Derived(String),
    /// A column of a keyed query's answer.
    Answer,
}

/// `agg(arg) FILTER (WHERE filter) OVER window`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WindowAggregate {
    /// Which aggregate.
    pub function: Function,
    /// Argument, canonical SQL; `None` for `count(*)`.
    pub argument: Option<String>,
    /// Type of the argument; `Null` for `count(*)`.
    pub argument_type: DataType,
    /// Second argument of `top_share(x, weight)`: the weight, `Decimal128(20,4)`.
    pub weight: Option<String>,
    /// Filter, canonical SQL, without the indicator's row filter.
    pub filter: Option<String>,
    /// Which rows count, seen from a row.
    pub frame: Frame,
}

impl WindowAggregate {
    /// The aggregate with its arguments, as an author writes it: `count(DISTINCT counterparty)`.
    pub fn call(&self) -> String {
        let arguments: Vec<&str> = self.argument.iter().chain(&self.weight).map(String::as_str).collect();
        let arguments = if arguments.is_empty() { "*".into() } else { arguments.join(", ") };
        let name = match self.function {
            Function::Count => "count",
            Function::CountDistinct => return format!("count(DISTINCT {arguments})"),
            Function::Sum => "sum",
            Function::Avg => "avg",
            Function::Min => "min",
            Function::Max => "max",
            Function::Stddev => "stddev",
            Function::FirstValue => "first_value",
            Function::LastValue => "last_value",
            Function::TopShare => "top_share",
        };
        format!("{name}({arguments})")
    }
}

/// Aggregates of the window form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Function {
    /// Rows, or values that are not NULL. Int64.
    Count,
    /// Different values that are not NULL. Int64.
    CountDistinct,
    /// Exact sum: Decimal128(30,4) of amounts, Int64 of integers, Float64 of degrees.
    Sum,
    /// DataFusion's avg: Decimal128(24,8) of amounts, Float64 of integers.
    Avg,
    /// Least value.
    Min,
    /// Greatest value.
    Max,
    /// Sample standard deviation, Float64. NULL below two values.
    Stddev,
    /// Value of the earliest row of the window (NULLs count). Ties: lowest tx_id.
    FirstValue,
    /// Value of the latest row of the window (NULLs count). Ties: highest tx_id.
    LastValue,
    /// `top_share(x)`: share of rows, or of the weight, that the largest group of equal `x` has.
    /// Decimal128(10,6), truncated. Rows with NULL `x` or NULL weight are left out. NULL when nothing is counted.
    TopShare,
}

/// One top-level AND part of a condition.
#[derive(Debug, Clone, Default)]
pub struct Conjunct {
    /// As the author wrote it (parameters as `$name`).
    pub text: String,
    /// Canonical SQL.
    pub sql: String,
    /// It uses a feature.
    pub uses_feature: bool,
    /// For comparisons: left side, operator, right side.
    pub comparison: Option<Comparison>,
}

/// `left op right`, kept so that an alert can show measured value against threshold.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// Name shown for the measured side: a feature's or column's name, or the expression's text.
    pub name: String,
    /// Measured side, canonical SQL.
    pub measured: String,
    /// Operator as read from the measured side: `>=`, `<=`, `>`, `<`, `=`, `<>`.
    pub operator: String,
    /// Threshold side, canonical SQL.
    pub threshold: String,
    /// It in words, where it is a parameter that differs by segment.
    pub words: Option<String>,
    /// Unit, from the parameter or the feature.
    pub unit: Option<String>,
    /// Source of the parameter.
    pub source: Option<String>,
}

/// An explanation with holes.
#[derive(Debug, Clone, Default)]
pub struct Template(pub Vec<Piece>);

/// Part of a template.
#[derive(Debug, Clone)]
pub enum Piece {
    /// Text as is.
    Text(String),
    /// A feature's, column's or parameter's value.
    Value {
        /// Name in the template.
        name: String,
        /// Canonical SQL that gives it.
        sql: String,
        /// How it is written.
        format: Format,
    },
}

/// How a value is written into an explanation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// By type: amounts with the base currency, dates as dates, counts as integers.
    Auto,
    /// `{x:amount}`: grouped, with the base currency.
    Amount,
    /// `{x:percent}`: 0.8 → `80 %`.
    Percent,
    /// `{x:date}`.
    Date,
    /// `{x:count}`.
    Count,
    /// `{x:text}`.
    Text,
}

/// A composite: a gate plus weighted indicators of one subject within a window.
#[derive(Debug, Clone)]
pub struct Typology {
    /// Id, version, sources.
    pub meta: Metadata,
    /// Subject kind; the same for all its indicators.
    pub subject: String,
    /// Window over hits, microseconds; both ends are in.
    pub within_micros: i64,
    /// Indicators that must all hold within the window.
    pub gate: Vec<Part>,
    /// Points of the gate.
    pub gate_points: u32,
    /// Indicators that add points.
    pub corroborators: Vec<Part>,
    /// Points to alert.
    pub alert_at: u32,
    /// Points from which it is urgent.
    pub urgent_at: u32,
    /// Urgent whatever the score.
    pub always_urgent: bool,
    /// One alert stays open this long after it was opened, microseconds.
    pub open_for_micros: i64,
    /// An open alert with new evidence is revised at least this often, microseconds; a new indicator or a higher
    /// score revises it at once.
    pub revise_every_micros: i64,
    /// Conditions, checked on the row of the hit, under which nothing is raised.
    pub exclusions: Vec<Exclusion>,
    /// Roles.
    pub roles: Roles,
    /// TLP code of its alerts, such as `TLP:AMBER`.
    pub tlp: String,
    /// Keywords, resolved from its keyword sets.
    pub keywords: Vec<manumit_model::alert::Keyword>,
    /// What the explanation begins with, one sentence.
    pub summary: String,
}

/// An indicator's part in a typology.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Index into [`RuleSet::indicators`].
    pub indicator: usize,
    /// Points (0 for gate parts).
    pub points: u32,
    /// Hits needed within the window.
    pub at_least: u64,
    /// Different UTC days with a hit needed within the window.
    pub on_days: u64,
    /// Different values over the hits' rows needed within the window (all of these must be reached).
    pub different: Vec<Different>,
}

/// `different = { account = 3 }`: the hits must come from rows with at least so many different values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Different {
    /// As the author wrote it.
    pub text: String,
    /// Canonical SQL over the columns of the indicator's table.
    pub sql: String,
    /// Columns it uses.
    pub columns: Vec<String>,
    /// Values needed; NULL is not a value.
    pub at_least: u64,
}

/// A condition under which a typology stays silent.
#[derive(Debug, Clone)]
pub struct Exclusion {
    /// In words, for the alert.
    pub words: String,
    /// Canonical SQL over the columns of the gate indicator's table.
    pub sql: String,
    /// Columns it uses.
    pub columns: Vec<String>,
}

/// Role hypotheses of a typology's parties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// The subject itself.
    pub subject: Role,
    /// Where the subject is a group: the customers in it.
    pub members: Role,
    /// Who pays the subject in the evidence.
    pub payers: Role,
    /// Whom the subject pays in the evidence.
    pub payees: Role,
}

/// Names by table, for suggestions.
pub type Names = BTreeMap<String, Vec<String>>;
