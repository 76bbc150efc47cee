//! Several expressions over one schema, worked out together: a part that some of them have in common is worked out once
//! for all, and only for rows at which the parts beside it leave a condition open.
//!
//! An AND stops at a row where a part does not hold, an OR where one holds, so what is dear (a look-up in a list, a
//! search in a text) is asked of the few rows at which what is cheap has not decided. What that leaves to be asked for
//! the same part elsewhere is added to what is known of it. Values are those that each expression has by itself; where a
//! part fails, its expressions have none here, and the caller asks them one by one ([`Compiled::evaluate`]).

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, StringArray,
};
use datafusion::arrow::buffer::{BooleanBuffer, Buffer, NullBuffer};
use datafusion::arrow::compute::FilterBuilder;
use datafusion::arrow::compute::kernels::zip::zip;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_expr_common::physical_expr::fmt_sql;
use datafusion::physical_plan::PhysicalExpr;
use datafusion::physical_plan::expressions::{
    BinaryExpr, CaseExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NotExpr,
};

use crate::Compiled;

/// Expressions whose common parts are known.
#[derive(Debug)]
pub struct Together {
    /// Each after those that it is made of.
    nodes: Vec<Node>,
    /// By expression.
    roots: Vec<usize>,
    /// By conjunction.
    conjunctions: Vec<usize>,
}

/// A part of an expression, or a whole one.
#[derive(Debug)]
struct Node {
    what: What,
    /// As SQL, for readers.
    text: String,
    /// Reads a column of which there are several.
    varies: bool,
    /// Reads nothing but what is the same at all rows.
    constant: bool,
    /// Roughly what a row costs, in comparisons of numbers.
    cost: u32,
    may_fail: bool,
    data_type: DataType,
}

#[derive(Debug)]
enum What {
    Column(usize),
    And(Vec<usize>),
    Or(Vec<usize>),
    Not(usize),
    /// `coalesce(part, true)`, or `false`.
    Known(usize, bool),
    /// `coalesce` of what is no condition.
    First(Vec<usize>),
    /// DataFusion's expression over the values of other nodes, as columns `0`, `1`, …
    Call {
        expression: Arc<dyn PhysicalExpr>,
        schema: SchemaRef,
        inputs: Vec<usize>,
    },
}

/// What makes two nodes the same.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    Column(usize),
    And(Vec<usize>),
    Or(Vec<usize>),
    Not(usize),
    Known(usize, bool),
    First(Vec<usize>),
    Call(Arc<dyn PhysicalExpr>, Vec<usize>),
}

/// From this cost on a part is worked out at the rows only that need it.
const DEAR: u32 = 6;

/// Functions of DataFusion that give a value at every row.
const NEVER_FAIL: [&str; 9] = [
    "lower",
    "upper",
    "contains",
    "starts_with",
    "ends_with",
    "regexp_like",
    "length",
    "character_length",
    "concat",
];

impl Together {
    /// Finds what expressions over the columns of `schema` have in common. Each conjunction names expressions by place that
    /// are asked for where all of them hold; those that are not conditions are left out of it. `varies` names columns of
    /// which a batch may have several in turn ([`Work::turn`]), `constant` those that are the same at all rows of a batch.
    ///
    /// # Errors
    /// DataFusion's, where it takes an expression apart and cannot put it together again.
    pub fn new(
        expressions: &[Compiled],
        conjunctions: &[Vec<usize>],
        schema: &SchemaRef,
        varies: impl Fn(&str) -> bool,
        constant: impl Fn(&str) -> bool,
    ) -> Result<Together, crate::SqlError> {
        let mut build =
            Build { schema, varies, constant, nodes: Vec::new(), known: HashMap::new(), config: None };
        let roots = expressions.iter().map(|expression| build.node(&expression.expression));
        let roots = roots.collect::<Result<Vec<_>>>()?;
        let conjunctions = conjunctions
            .iter()
            .map(|parts| {
                build.conjunction(parts.iter().filter_map(|&expression| roots.get(expression).copied()))
            })
            .collect();
        Ok(Together { nodes: build.nodes, roots, conjunctions })
    }

    /// The expression reads a column of which there are several.
    pub fn varies(&self, expression: usize) -> bool {
        self.nodes[self.roots[expression]].varies
    }

    /// A conjunction reads a column of which there are several.
    pub fn conjunction_varies(&self, conjunction: usize) -> bool {
        self.nodes[self.conjunctions[conjunction]].varies
    }

    /// The parts, those that are whole expressions included and columns left out: the part as SQL, and the expressions
    /// that have it, ascending.
    pub fn parts(&self) -> Vec<(&str, Vec<usize>)> {
        let mut users: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); self.nodes.len()];
        for (expression, &root) in self.roots.iter().enumerate() {
            users[root].insert(expression);
        }
        for (at, node) in self.nodes.iter().enumerate().rev() {
            let of = users[at].clone();
            for &part in node.parts() {
                users[part].extend(&of);
            }
        }
        let parts = self.nodes.iter().zip(users);
        let parts = parts.filter(|(node, users)| !users.is_empty() && !matches!(node.what, What::Column(_)));
        parts.map(|(node, users)| (node.text.as_str(), users.into_iter().collect())).collect()
    }

    /// Begins with a batch, which has the schema of the expressions.
    pub fn begin<'a>(&'a self, batch: &'a RecordBatch) -> Work<'a> {
        Work {
            together: self,
            batch,
            values: self.nodes.iter().map(|_| Value::Unknown).collect(),
            coded: HashMap::new(),
        }
    }
}

impl Node {
    fn parts(&self) -> &[usize] {
        match &self.what {
            What::Column(_) => &[],
            What::And(parts) | What::Or(parts) | What::First(parts) => parts,
            What::Not(part) | What::Known(part, _) => std::slice::from_ref(part),
            What::Call { inputs, .. } => inputs,
        }
    }
}

struct Build<'a, V, C> {
    schema: &'a SchemaRef,
    varies: V,
    constant: C,
    nodes: Vec<Node>,
    known: HashMap<Key, usize>,
    /// All functions get the same settings, or comparing functions would compare these.
    config: Option<Arc<ConfigOptions>>,
}

impl<V: Fn(&str) -> bool, C: Fn(&str) -> bool> Build<'_, V, C> {
    fn node(&mut self, expression: &Arc<dyn PhysicalExpr>) -> Result<usize> {
        if let Some(column) = expression.downcast_ref::<Column>() {
            let (varies, constant) = ((self.varies)(column.name()), (self.constant)(column.name()));
            let node = Node {
                what: What::Column(column.index()),
                text: column.name().to_string(),
                varies,
                constant,
                cost: 0,
                may_fail: false,
                data_type: self.schema.field(column.index()).data_type().clone(),
            };
            return Ok(self.keep(Key::Column(column.index()), node));
        }
        if let Some(binary) = expression.downcast_ref::<BinaryExpr>()
            && matches!(binary.op(), Operator::And | Operator::Or)
            && expression.data_type(self.schema)? == DataType::Boolean
        {
            let mut parts = Vec::new();
            flatten(expression, *binary.op(), &mut parts);
            return self.connected(expression, *binary.op(), &parts);
        }
        if let Some(not) = expression.downcast_ref::<NotExpr>()
            && not.arg().data_type(self.schema)? == DataType::Boolean
        {
            let part = self.node(not.arg())?;
            let text = format!("NOT {}", self.closed(part));
            let node = self.over(expression, text, What::Not(part), &[part], 0, false)?;
            return Ok(self.keep(Key::Not(part), node));
        }
        if let Some((part, otherwise)) = known(expression)
            && part.data_type(self.schema)? == DataType::Boolean
        {
            let part = self.node(part)?;
            let text = format!("coalesce({}, {otherwise})", self.nodes[part].text);
            let node = self.over(expression, text, What::Known(part, otherwise), &[part], 0, false)?;
            return Ok(self.keep(Key::Known(part, otherwise), node));
        }
        if let Some(written) = first_known(expression) {
            let parts = written.into_iter().map(|part| self.node(part)).collect::<Result<Vec<_>>>()?;
            let data_type = expression.data_type(self.schema)?;
            let fits = |part: &usize| {
                let node = &self.nodes[*part];
                node.data_type == data_type && !node.may_fail
            };
            if data_type != DataType::Boolean && parts.iter().all(fits) {
                let texts: Vec<&str> = parts.iter().map(|&part| self.nodes[part].text.as_str()).collect();
                let text = format!("coalesce({})", texts.join(", "));
                let node = self.over(expression, text, What::First(parts.clone()), &parts, 4, false)?;
                return Ok(self.keep(Key::First(parts), node));
            }
        }
        self.call(expression)
    }

    fn connected(
        &mut self,
        expression: &Arc<dyn PhysicalExpr>,
        operator: Operator,
        written: &[&Arc<dyn PhysicalExpr>],
    ) -> Result<usize> {
        let mut parts: Vec<usize> = Vec::new();
        for part in written {
            let part = self.node(part)?;
            if !parts.contains(&part) {
                parts.push(part);
            }
        }
        self.cheapest_first(&mut parts);
        let is_and = operator == Operator::And;
        let what = if is_and { What::And(parts.clone()) } else { What::Or(parts.clone()) };
        let closed: Vec<String> = parts.iter().map(|&part| self.closed(part)).collect();
        let text = closed.join(if is_and { " AND " } else { " OR " });
        let node = self.over(expression, text, what, &parts, 0, false)?;
        Ok(self.keep(if is_and { Key::And(parts) } else { Key::Or(parts) }, node))
    }

    /// Nothing changes places with what may fail: where that is asked decides what is a fault.
    fn cheapest_first(&self, parts: &mut [usize]) {
        for run in parts.chunk_by_mut(|a, b| !self.nodes[*a].may_fail && !self.nodes[*b].may_fail) {
            run.sort_by_key(|part| self.nodes[*part].cost);
        }
    }

    /// Conditions of several expressions as one.
    fn conjunction(&mut self, conditions: impl Iterator<Item = usize>) -> usize {
        let mut parts: Vec<usize> = Vec::new();
        for condition in conditions.filter(|&at| self.nodes[at].data_type == DataType::Boolean) {
            let own = match &self.nodes[condition].what {
                What::And(parts) => parts.as_slice(),
                _ => &[condition],
            };
            for &part in own {
                if !parts.contains(&part) {
                    parts.push(part);
                }
            }
        }
        self.cheapest_first(&mut parts);
        let all = || parts.iter().map(|&part| &self.nodes[part]);
        let node = Node {
            text: String::new(),
            varies: all().any(|part| part.varies),
            constant: all().all(|part| part.constant),
            cost: all().map(|part| part.cost).fold(0, u32::saturating_add),
            may_fail: all().any(|part| part.may_fail),
            data_type: DataType::Boolean,
            what: What::And(parts.clone()),
        };
        self.keep(Key::And(parts), node)
    }

    /// Everything else: values of its parts become its columns.
    fn call(&mut self, expression: &Arc<dyn PhysicalExpr>) -> Result<usize> {
        let (cost, fails, lazy) = nature(expression);
        let mut inputs: Vec<usize> = Vec::new();
        let mut children: Vec<Arc<dyn PhysicalExpr>> = Vec::new();
        for child in expression.children() {
            if child.is::<Literal>() {
                children.push(child.clone());
                continue;
            }
            let part = self.node(child)?;
            children.push(self.slot(&mut inputs, part));
        }
        let may_fail = fails || inputs.iter().any(|&part| self.nodes[part].may_fail);
        let is_asked_at_rows = expression.data_type(self.schema)? == DataType::Boolean;
        let apart = if may_fail && (lazy || is_asked_at_rows) {
            // `CASE WHEN n <> 0 THEN 1 / n END` and `n <> 0 AND 1 / n > 2` must not divide everywhere: it stays whole.
            inputs.clear();
            self.whole(expression, &mut inputs)?
        } else {
            self.same_settings(expression.clone().with_new_children(children)?)
        };
        let fields: Vec<Field> = inputs
            .iter()
            .enumerate()
            .map(|(at, &part)| Field::new(at.to_string(), self.nodes[part].data_type.clone(), true))
            .collect();
        let schema = Arc::new(Schema::new(fields));
        let what = What::Call { expression: apart.clone(), schema, inputs: inputs.clone() };
        let text = fmt_sql(quoted(&apart)?.as_ref()).to_string();
        let node = self.over(expression, text, what, &inputs, cost, may_fail)?;
        Ok(self.keep(Key::Call(apart, inputs), node))
    }

    fn whole(
        &mut self,
        expression: &Arc<dyn PhysicalExpr>,
        inputs: &mut Vec<usize>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        if expression.is::<Column>() {
            let part = self.node(expression)?;
            return Ok(self.slot(inputs, part));
        }
        let mut children = Vec::new();
        for child in expression.children() {
            children.push(self.whole(child, inputs)?);
        }
        Ok(self.same_settings(expression.clone().with_new_children(children)?))
    }

    fn same_settings(&mut self, expression: Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
        let Some(call) = expression.downcast_ref::<ScalarFunctionExpr>() else { return expression };
        let config = self.config.get_or_insert_with(|| Arc::new(call.config_options().clone()));
        let field = Field::new(call.fun().name(), call.return_type().clone(), call.nullable());
        let (function, args) = (Arc::new(call.fun().clone()), call.args().to_vec());
        Arc::new(ScalarFunctionExpr::new(call.fun().name(), function, args, Arc::new(field), config.clone()))
    }

    /// A part's text as part of another.
    fn closed(&self, part: usize) -> String {
        match &self.nodes[part] {
            Node { what: What::And(_) | What::Or(_), text, .. } => format!("({text})"),
            node => node.text.clone(),
        }
    }

    /// A column in which a call finds a part's value.
    fn slot(&self, inputs: &mut Vec<usize>, part: usize) -> Arc<dyn PhysicalExpr> {
        let at = inputs.iter().position(|known| *known == part).unwrap_or_else(|| {
            inputs.push(part);
            inputs.len() - 1
        });
        // Only the place counts; the name is what readers see.
        Arc::new(Column::new(&self.nodes[part].text, at))
    }

    fn over(
        &self,
        expression: &Arc<dyn PhysicalExpr>,
        text: String,
        what: What,
        parts: &[usize],
        cost: u32,
        may_fail: bool,
    ) -> Result<Node> {
        let all = || parts.iter().map(|&part| &self.nodes[part]);
        Ok(Node {
            what,
            text,
            varies: all().any(|part| part.varies),
            constant: all().all(|part| part.constant),
            cost: all().map(|part| part.cost).fold(cost, u32::saturating_add),
            may_fail: may_fail || all().any(|part| part.may_fail),
            data_type: expression.data_type(self.schema)?,
        })
    }

    fn keep(&mut self, key: Key, node: Node) -> usize {
        let next = self.nodes.len();
        let at = *self.known.entry(key).or_insert(next);
        if at == next {
            self.nodes.push(node);
        }
        at
    }
}

/// An expression for readers: texts that are written in it stand in quotes.
fn quoted(expression: &Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
    if let Some(literal) = expression.downcast_ref::<Literal>()
        && let Some(Some(text)) = literal.value().try_as_str()
    {
        return Ok(Arc::new(Column::new(&format!("'{text}'"), 0)));
    }
    let children = expression.children().into_iter().map(quoted).collect::<Result<Vec<_>>>()?;
    if children.is_empty() { Ok(expression.clone()) } else { expression.clone().with_new_children(children) }
}

/// Parts of a chain of one operator, in order.
fn flatten<'a>(
    expression: &'a Arc<dyn PhysicalExpr>,
    operator: Operator,
    parts: &mut Vec<&'a Arc<dyn PhysicalExpr>>,
) {
    match expression.downcast_ref::<BinaryExpr>() {
        Some(binary) if *binary.op() == operator => {
            flatten(binary.left(), operator, parts);
            flatten(binary.right(), operator, parts);
        }
        _ => parts.push(expression),
    }
}

/// `CASE WHEN part IS NOT NULL THEN part ELSE true END`, which is what `coalesce(part, true)` becomes.
fn known(expression: &Arc<dyn PhysicalExpr>) -> Option<(&Arc<dyn PhysicalExpr>, bool)> {
    let case = expression.downcast_ref::<CaseExpr>()?;
    let ([(when, then)], None) = (case.when_then_expr(), case.expr()) else { return None };
    if when.downcast_ref::<IsNotNullExpr>()?.arg() != then {
        return None;
    }
    match case.else_expr()?.downcast_ref::<Literal>()?.value() {
        ScalarValue::Boolean(Some(otherwise)) => Some((then, *otherwise)),
        _ => None,
    }
}

/// Parts of `CASE WHEN a IS NOT NULL THEN a WHEN b IS NOT NULL THEN b ELSE c END`, which is what `coalesce(a, b, c)` becomes.
fn first_known(expression: &Arc<dyn PhysicalExpr>) -> Option<Vec<&Arc<dyn PhysicalExpr>>> {
    let case = expression.downcast_ref::<CaseExpr>()?;
    if case.expr().is_some() {
        return None;
    }
    let mut parts = Vec::new();
    for (when, then) in case.when_then_expr() {
        if when.downcast_ref::<IsNotNullExpr>()?.arg() != then {
            return None;
        }
        parts.push(then);
    }
    parts.push(case.else_expr()?);
    Some(parts)
}

/// What an expression costs beside its parts, whether it may fail by itself, and whether it does without some parts at
/// some rows.
fn nature(expression: &Arc<dyn PhysicalExpr>) -> (u32, bool, bool) {
    if let Some(binary) = expression.downcast_ref::<BinaryExpr>() {
        return match binary.op() {
            Operator::RegexMatch
            | Operator::RegexIMatch
            | Operator::RegexNotMatch
            | Operator::RegexNotIMatch => (60, false, false),
            Operator::LikeMatch
            | Operator::ILikeMatch
            | Operator::NotLikeMatch
            | Operator::NotILikeMatch
            | Operator::StringConcat => (10, false, false),
            operator => (1, !operator.supports_propagation() && !operator.is_logic_operator(), false),
        };
    }
    if let Some(call) = expression.downcast_ref::<ScalarFunctionExpr>() {
        let name = call.fun().name();
        let ours = call.fun().inner().downcast_ref::<crate::functions::Function>().is_some();
        let cost = match name {
            "regexp_like" => 60,
            "is_night" => 3,
            _ => 10,
        };
        return (cost, !ours && !NEVER_FAIL.contains(&name), call.fun().short_circuits());
    }
    if expression.is::<CaseExpr>() {
        return (4, false, true);
    }
    if expression.is::<InListExpr>() {
        return (4, false, false);
    }
    if expression.is::<LikeExpr>() {
        return (10, false, false);
    }
    let simple = expression.is::<IsNullExpr>()
        || expression.is::<IsNotNullExpr>()
        || expression.is::<NotExpr>()
        || expression.is::<Literal>();
    (1, !simple, false)
}

/// One batch in work: values of parts, as far as they have been asked for.
pub struct Work<'a> {
    together: &'a Together,
    batch: &'a RecordBatch,
    values: Vec<Value>,
    /// By part that is text: its different values, if they have been looked for and are few.
    coded: HashMap<usize, Option<Rc<Coded>>>,
}

/// A column of few different texts: what is asked of a text alone is asked of each once, not of each row.
struct Coded {
    texts: ArrayRef,
    /// By row, place among the texts.
    codes: Vec<u8>,
}

/// Different texts at most. Beside codes, methods, categories, countries and cities of most banks are no more.
const FEW_TEXTS: usize = 128;

/// In a smaller batch rows are asked as they are.
const CODED_ROWS: usize = 256;

impl Coded {
    fn of(array: &StringArray) -> Option<Coded> {
        let mut places: hashbrown::HashMap<&str, u8> = hashbrown::HashMap::new();
        let (mut texts, mut nobody): (Vec<Option<&str>>, Option<u8>) = (Vec::new(), None);
        let mut codes = Vec::with_capacity(array.len());
        for row in 0..array.len() {
            let text = array.is_valid(row).then(|| array.value(row));
            let known = match text {
                None => nobody,
                Some(text) => places.get(text).copied(),
            };
            codes.push(match known {
                Some(code) => code,
                None if texts.len() == FEW_TEXTS => return None,
                None => {
                    let code = texts.len() as u8;
                    match text {
                        None => nobody = Some(code),
                        Some(text) => {
                            places.insert(text, code);
                        }
                    }
                    texts.push(text);
                    code
                }
            });
        }
        Some(Coded { texts: Arc::new(StringArray::from(texts)), codes })
    }

    /// What is said of the texts, of the rows.
    fn spread(&self, said: &Truth) -> Truth {
        let bit = |words: &[u64], at: usize| words[at / 64] >> (at % 64) & 1;
        let of_text: Vec<(u64, u64)> =
            (0..self.texts.len()).map(|at| (bit(&said.holds, at), bit(&said.fails, at))).collect();
        let words = self.codes.len().div_ceil(64);
        let (mut holds, mut fails) = (Vec::with_capacity(words), Vec::with_capacity(words));
        for codes in self.codes.chunks(64) {
            let (mut held, mut failed) = (0, 0);
            for (row, &code) in codes.iter().enumerate() {
                let (holds, fails) = of_text[usize::from(code)];
                held |= holds << row;
                failed |= fails << row;
            }
            holds.push(held);
            fails.push(failed);
        }
        Truth { holds, fails, done: None }
    }
}

enum Value {
    Unknown,
    Array(ArrayRef),
    Truth(Rc<Truth>),
}

/// A part failed at some row.
struct Failed;

/// Rows at which a condition holds, and those at which it does not; at others it is NULL, or not worked out.
#[derive(Clone)]
struct Truth {
    holds: Vec<u64>,
    fails: Vec<u64>,
    /// Rows that are worked out; `None`: all.
    done: Option<Vec<u64>>,
}

impl Truth {
    fn covers(&self, rows: &[u64]) -> bool {
        self.done.as_ref().is_none_or(|done| rows.iter().zip(done).all(|(rows, done)| rows & !done == 0))
    }

    fn of(array: &BooleanArray) -> Truth {
        let values = words(array.values());
        match array.nulls() {
            None => {
                let fails = words(&!array.values());
                Truth { holds: values, fails, done: None }
            }
            Some(nulls) => {
                let known = words(nulls.inner());
                let holds = values.iter().zip(&known).map(|(value, known)| value & known).collect();
                let fails = values.iter().zip(&known).map(|(value, known)| !value & known).collect();
                Truth { holds, fails, done: None }
            }
        }
    }

    fn to_array(&self, rows: usize) -> ArrayRef {
        let known: Vec<u64> =
            self.holds.iter().zip(&self.fails).map(|(holds, fails)| holds | fails).collect();
        let nulls = NullBuffer::new(buffer(known, rows));
        let nulls = (nulls.null_count() > 0).then_some(nulls);
        Arc::new(BooleanArray::new(buffer(self.holds.clone(), rows), nulls))
    }
}

/// Bits of rows as words, without those beyond the last row.
fn words(bits: &BooleanBuffer) -> Vec<u64> {
    bits.bit_chunks().iter_padded().take(bits.len().div_ceil(64)).collect()
}

fn buffer(words: Vec<u64>, rows: usize) -> BooleanBuffer {
    BooleanBuffer::new(Buffer::from_vec(words), 0, rows)
}

fn count(words: &[u64]) -> usize {
    words.iter().map(|word| word.count_ones() as usize).sum()
}

impl<'a> Work<'a> {
    /// Goes on with a batch that has other values in the columns that vary, and the same in all others.
    #[must_use]
    pub fn turn(mut self, batch: &'a RecordBatch) -> Work<'a> {
        for (value, node) in self.values.iter_mut().zip(&self.together.nodes) {
            if node.varies {
                *value = Value::Unknown;
            }
        }
        let nodes = &self.together.nodes;
        self.coded.retain(|&part, _| !nodes[part].varies);
        Work { batch, ..self }
    }

    /// An expression's values, right at `rows` at least; `None` where a part of it failed, at whatever row.
    pub fn value(&mut self, expression: usize, rows: &BooleanBuffer) -> Option<ArrayRef> {
        let root = self.together.roots[expression];
        if self.together.nodes[root].data_type == DataType::Boolean {
            let truth = self.truth(root, &words(rows)).ok()?;
            return Some(truth.to_array(self.batch.num_rows()));
        }
        self.array(root).ok()
    }

    /// The rows of `rows` at which all expressions of a conjunction hold; `None` where one of them failed.
    pub fn all_hold(&mut self, conjunction: usize, rows: &BooleanBuffer) -> Option<BooleanBuffer> {
        let asked = words(rows);
        let truth = self.truth(self.together.conjunctions[conjunction], &asked).ok()?;
        let held = truth.holds.iter().zip(&asked).map(|(holds, asked)| holds & asked).collect();
        Some(buffer(held, rows.len()))
    }

    fn truth(&mut self, at: usize, rows: &[u64]) -> Result<Rc<Truth>, Failed> {
        let so_far = match &self.values[at] {
            Value::Truth(known) if known.covers(rows) => return Ok(known.clone()),
            Value::Truth(known) => Some(known.clone()),
            Value::Unknown | Value::Array(_) => None,
        };
        let found = self.work_out(at, rows, so_far.as_deref())?;
        self.values[at] = Value::Truth(found.clone());
        Ok(found)
    }

    fn work_out(&mut self, at: usize, rows: &[u64], so_far: Option<&Truth>) -> Result<Rc<Truth>, Failed> {
        let together = self.together;
        let (mut holds, mut fails);
        match &together.nodes[at].what {
            What::Column(column) => {
                return Ok(Rc::new(Truth::of(self.batch.column(*column).as_boolean())));
            }
            What::Call { inputs, .. } => return self.call_at(at, inputs, rows, so_far),
            What::First(_) => return Err(Failed), // No condition.
            What::And(parts) => {
                let mut open = rows.to_vec();
                (holds, fails) = (rows.to_vec(), vec![0; rows.len()]);
                for &part in parts {
                    let truth = self.truth(part, &open)?;
                    let mut left = 0;
                    for (word, open) in open.iter_mut().enumerate() {
                        holds[word] &= truth.holds[word];
                        fails[word] |= truth.fails[word] & rows[word];
                        *open &= !truth.fails[word];
                        left |= *open;
                    }
                    if left == 0 {
                        break;
                    }
                }
            }
            What::Or(parts) => {
                let mut open = rows.to_vec();
                (holds, fails) = (vec![0; rows.len()], rows.to_vec());
                for &part in parts {
                    let truth = self.truth(part, &open)?;
                    let mut left = 0;
                    for (word, open) in open.iter_mut().enumerate() {
                        holds[word] |= truth.holds[word] & rows[word];
                        fails[word] &= truth.fails[word];
                        *open &= !truth.holds[word];
                        left |= *open;
                    }
                    if left == 0 {
                        break;
                    }
                }
            }
            What::Not(part) => {
                let truth = self.truth(*part, rows)?;
                let at_rows = |bits: &[u64]| bits.iter().zip(rows).map(|(bits, rows)| bits & rows).collect();
                (holds, fails) = (at_rows(&truth.fails), at_rows(&truth.holds));
            }
            What::Known(part, otherwise) => {
                let truth = self.truth(*part, rows)?;
                (holds, fails) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
                for (word, &rows) in rows.iter().enumerate() {
                    let (held, failed) = (truth.holds[word] & rows, truth.fails[word] & rows);
                    holds.push(if *otherwise { rows & !failed } else { held });
                    fails.push(if *otherwise { failed } else { rows & !held });
                }
            }
        }
        let mut done = rows.to_vec();
        if let Some(before) = so_far {
            or(&mut holds, &before.holds);
            or(&mut fails, &before.fails);
            if let Some(before) = &before.done {
                or(&mut done, before);
            }
        }
        Ok(Rc::new(Truth { holds, fails, done: Some(done) }))
    }

    /// A condition that DataFusion works out: at all rows, or, where it is dear, at those only that are not known yet.
    fn call_at(
        &mut self,
        at: usize,
        inputs: &[usize],
        rows: &[u64],
        so_far: Option<&Truth>,
    ) -> Result<Rc<Truth>, Failed> {
        let (node, all) = (&self.together.nodes[at], self.batch.num_rows());
        let done = so_far.and_then(|truth| truth.done.clone()).unwrap_or_else(|| vec![0; rows.len()]);
        let missing: Vec<u64> = rows.iter().zip(&done).map(|(rows, done)| rows & !done).collect();
        let asked = count(&missing);
        if asked == 0 {
            let none = vec![0; rows.len()];
            return Ok(Rc::new(Truth { holds: none.clone(), fails: none, done: Some(done) }));
        }
        if let Some(truth) = self.of_few_texts(at, inputs, asked)? {
            return Ok(Rc::new(truth));
        }
        let at_all_rows = node.constant || node.cost < DEAR || asked * 4 > all * 3;
        if asked == all || (at_all_rows && !node.may_fail) {
            let array = self.call(at)?;
            return Ok(Rc::new(Truth::of(array.as_boolean())));
        }
        let mask = BooleanArray::new(buffer(missing.clone(), all), None);
        let filter = FilterBuilder::new(&mask).optimize().build();
        let mut columns = Vec::with_capacity(inputs.len());
        for &input in inputs {
            let array = self.array(input)?;
            columns.push(filter.filter(array.as_ref()).map_err(|_| Failed)?);
        }
        let found = Truth::of(self.invoke(at, columns, asked)?.as_boolean());
        let mut truth = Truth {
            holds: spread(&found.holds, &missing),
            fails: spread(&found.fails, &missing),
            done: Some(done.iter().zip(&missing).map(|(done, missing)| done | missing).collect()),
        };
        if let Some(before) = so_far {
            or(&mut truth.holds, &before.holds);
            or(&mut truth.fails, &before.fails);
        }
        Ok(Rc::new(truth))
    }

    /// A condition on one text alone, where there are few different ones.
    fn of_few_texts(&mut self, at: usize, inputs: &[usize], asked: usize) -> Result<Option<Truth>, Failed> {
        let (nodes, all) = (&self.together.nodes, self.batch.num_rows());
        let &[input] = inputs else { return Ok(None) };
        let is_column = matches!(nodes[input].what, What::Column(_));
        if nodes[at].may_fail
            || nodes[at].constant
            || nodes[input].data_type != DataType::Utf8
            || all < CODED_ROWS
            || (!is_column && asked * 4 < all)
        {
            return Ok(None);
        }
        let coded = match self.coded.get(&input) {
            Some(known) => known.clone(),
            None => {
                let coded = Coded::of(self.array(input)?.as_string::<i32>()).map(Rc::new);
                self.coded.insert(input, coded.clone());
                coded
            }
        };
        let Some(coded) = coded else { return Ok(None) };
        let said = self.invoke(at, vec![coded.texts.clone()], coded.texts.len())?;
        Ok(Some(coded.spread(&Truth::of(said.as_boolean()))))
    }

    /// A part's values at all rows.
    fn array(&mut self, at: usize) -> Result<ArrayRef, Failed> {
        let (node, rows) = (&self.together.nodes[at], self.batch.num_rows());
        if let What::Column(column) = node.what {
            return Ok(self.batch.column(column).clone());
        }
        if node.data_type == DataType::Boolean {
            let all = BooleanBuffer::new_set(rows);
            return Ok(self.truth(at, &words(&all))?.to_array(rows));
        }
        if let Value::Array(known) = &self.values[at] {
            return Ok(known.clone());
        }
        let found = match &self.together.nodes[at].what {
            What::First(parts) => self.first(parts)?,
            _ => self.call(at)?,
        };
        self.values[at] = Value::Array(found.clone());
        Ok(found)
    }

    /// At each row the first value that is known.
    fn first(&mut self, parts: &[usize]) -> Result<ArrayRef, Failed> {
        let mut found: Option<ArrayRef> = None;
        for &part in parts {
            let next = match &found {
                None => self.array(part)?,
                Some(so_far) => match so_far.nulls() {
                    None => break,
                    Some(known) if known.null_count() == so_far.len() => self.array(part)?,
                    Some(known) => {
                        let known = BooleanArray::new(known.inner().clone(), None);
                        let next = self.array(part)?;
                        zip(&known, so_far, &next).map_err(|_| Failed)?
                    }
                },
            };
            found = Some(next);
        }
        found.ok_or(Failed)
    }

    /// A call's values at all rows.
    fn call(&mut self, at: usize) -> Result<ArrayRef, Failed> {
        let (node, rows) = (&self.together.nodes[at], self.batch.num_rows());
        let What::Call { inputs, .. } = &node.what else { return Err(Failed) };
        let mut columns = Vec::with_capacity(inputs.len());
        for &input in inputs {
            columns.push(self.array(input)?);
        }
        if !node.constant || rows < 2 {
            return self.invoke(at, columns, rows);
        }
        let first = columns.iter().map(|column| column.slice(0, 1)).collect();
        let one = self.invoke(at, first, 1)?;
        let one = ScalarValue::try_from_array(&one, 0).map_err(|_| Failed)?;
        one.to_array_of_size(rows).map_err(|_| Failed)
    }

    fn invoke(&self, at: usize, columns: Vec<ArrayRef>, rows: usize) -> Result<ArrayRef, Failed> {
        let What::Call { expression, schema, .. } = &self.together.nodes[at].what else { return Err(Failed) };
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch =
            RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(|_| Failed)?;
        expression.evaluate(&batch).and_then(|value| value.into_array(rows)).map_err(|_| Failed)
    }
}

fn or(bits: &mut [u64], more: &[u64]) {
    bits.iter_mut().zip(more).for_each(|(bits, more)| *bits |= more);
}

/// Bits that stand one after another in `packed`, to the places of the bits that are set in `places`.
fn spread(packed: &[u64], places: &[u64]) -> Vec<u64> {
    let mut next = 0;
    let mut out = Vec::with_capacity(places.len());
    for &places in places {
        let (mut left, mut word) = (places, 0);
        while left != 0 {
            let bit = packed[next / 64] >> (next % 64) & 1;
            word |= bit << left.trailing_zeros();
            left &= left - 1;
            next += 1;
        }
        out.push(word);
    }
    out
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::Int64Array;

    use super::*;
    use crate::Sql;

    /// Expressions of every kind of part; the last ones fail at some rows.
    const EXPRESSIONS: &[&str] = &[
        "n",
        "flag",
        "true",
        "word",
        "direction = 'in'",
        "direction = 'in' AND n > 3",
        "n > 3",
        "n > 3 AND flag",
        "n > 3 OR flag",
        "NOT (n > 3 AND flag)",
        "NOT coalesce(contains(lower(word), lower(other)), false)",
        "n > 3 AND NOT coalesce(contains(lower(word), lower(other)), false)",
        "flag AND contains(lower(word), lower(other))",
        "flag OR contains(lower(word), lower(other))",
        "coalesce(contains(lower(word), lower(other)), true) AND n < 6 AND flag IS NOT NULL",
        "coalesce(flag, true)",
        "coalesce(flag, n > 3, false)",
        "flag IS NULL",
        "(flag AND n > 3) IS NULL",
        "word IN ('Ab', 'b', 'abc', 'ca') AND n BETWEEN 2 AND 5",
        "word NOT IN ('Ab', 'b') OR n IS NULL",
        "coalesce(word, other)",
        "lower(coalesce(word, other))",
        "lower(word)",
        "regexp_like(lower(word), '^(a|b)') AND n > 1",
        "n > 1 AND (flag OR regexp_like(lower(word), '^(a|b)'))",
        "CASE WHEN regexp_like(lower(word), '^(a|b)') THEN 'x' WHEN n > 3 THEN 'y' END",
        "CASE WHEN n <> 0 THEN 100 / n END",
        "CASE WHEN n <> 0 THEN 100 / n END > 20 AND flag",
        "n <> 0 AND 100 / n > 20",
        "100 / n > 20 AND n <> 0",
        "CAST(word AS BIGINT) > 3",
    ];

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("n", DataType::Int64, true),
            Field::new("word", DataType::Utf8, true),
            Field::new("other", DataType::Utf8, true),
            Field::new("flag", DataType::Boolean, true),
            Field::new("direction", DataType::Utf8, true),
        ]))
    }

    /// Rows that look random and are not: one in five values is NULL.
    fn batch(rows: usize, seed: u64, direction: &str) -> RecordBatch {
        let at = |column: u64, row: usize, of: u64| {
            let mixed = (seed * 31 + column * 17 + row as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 33;
            (!mixed.is_multiple_of(5)).then_some(mixed / 5 % of)
        };
        let words = ["a", "Ab", "b", "abc", "CA", "", "xyz"];
        // Of both sides `word` is another column.
        let of_side = if direction == "in" { 7 } else { 2 };
        let text = |column: u64| -> ArrayRef {
            let text = (0..rows).map(|row| at(column, row, 7).map(|n| words[n as usize]));
            Arc::new(text.collect::<StringArray>())
        };
        let numbers: Int64Array = (0..rows).map(|row| at(1, row, 9).map(|n| n as i64)).collect();
        let flags: BooleanArray = (0..rows).map(|row| at(4, row, 3).map(|n| n > 0)).collect();
        let directions = StringArray::from_iter_values(std::iter::repeat_n(direction, rows));
        let columns: Vec<ArrayRef> =
            vec![Arc::new(numbers), text(of_side), text(3), Arc::new(flags), Arc::new(directions)];
        RecordBatch::try_new(schema(), columns).unwrap()
    }

    #[test]
    fn what_is_worked_out_together_is_what_each_expression_gives_by_itself() {
        let sql = Sql::new();
        let compiled: Vec<Compiled> =
            EXPRESSIONS.iter().map(|text| sql.compile(&schema(), text).unwrap()).collect();
        let varies = |name: &str| name == "word" || name == "direction";
        let conjunctions: Vec<Vec<usize>> =
            vec![vec![], vec![2, 5], vec![11, 7, 16], vec![6, 13, 24, 19], vec![0, 8, 29], vec![31]];
        let constant = |name: &str| name == "direction";
        let together = Together::new(&compiled, &conjunctions, &schema(), varies, constant).unwrap();
        let (mut compared, mut failed) = (0, BTreeSet::new());
        for (seed, rows) in [0, 1, 2, 63, 64, 65, 200, 300, 1000].into_iter().enumerate() {
            let (out, inward) = (batch(rows, seed as u64, "out"), batch(rows, seed as u64, "in"));
            // Few, many and all rows, so that parts are worked out at some and then at others.
            for one_in in [1, 2, 7, 40] {
                let mask = |side: usize| {
                    BooleanBuffer::collect_bool(rows, |row| (row + side).is_multiple_of(one_in))
                };
                let mut work = together.begin(&out);
                for (side, batch) in [&out, &inward].into_iter().enumerate() {
                    if side > 0 {
                        work = work.turn(batch);
                    }
                    for (e, expression) in compiled.iter().enumerate() {
                        let asked = mask(side);
                        let Some(found) = work.value(e, &asked) else {
                            failed.insert(e);
                            continue;
                        };
                        assert_eq!(found.data_type(), &expression.data_type, "{}", EXPRESSIONS[e]);
                        for row in (0..rows).filter(|&row| asked.value(row)) {
                            let alone = expression.evaluate(&batch.slice(row, 1)).unwrap();
                            assert_eq!(&found.slice(row, 1), &alone, "{} at {row} of {rows}", EXPRESSIONS[e]);
                            compared += 1;
                        }
                    }
                    for (c, parts) in conjunctions.iter().enumerate() {
                        let asked = mask(side + 1);
                        let Some(found) = work.all_hold(c, &asked) else {
                            assert_eq!(c, 5);
                            continue;
                        };
                        for row in 0..rows {
                            let one = batch.slice(row, 1);
                            let holds = |e: &usize| {
                                let value = compiled[*e].evaluate(&one).unwrap();
                                value.as_boolean_opt().is_none_or(|value| value.is_valid(0) && value.value(0))
                            };
                            let wanted = asked.value(row) && parts.iter().all(holds);
                            assert_eq!(found.value(row), wanted, "{parts:?} at {row} of {rows}");
                        }
                    }
                }
            }
        }
        assert!(compared > 50_000);
        // Only what fails at some row, and of that not what is kept from those rows.
        let failing: Vec<&str> = failed.iter().map(|&e| EXPRESSIONS[e]).collect();
        assert_eq!(failing, ["100 / n > 20 AND n <> 0", "CAST(word AS BIGINT) > 3"]);
    }

    #[test]
    fn equal_parts_are_one_and_say_who_has_them() {
        let sql = Sql::new();
        let texts = [
            "n > 3 AND contains(lower(word), 'a')",
            "flag AND contains(lower(word), 'a')",
            "lower(word)",
            "n > 4",
        ];
        let compiled: Vec<Compiled> =
            texts.iter().map(|text| sql.compile(&schema(), text).unwrap()).collect();
        let together = Together::new(&compiled, &[], &schema(), |_| false, |_| false).unwrap();
        let shared: Vec<(&str, Vec<usize>)> =
            together.parts().into_iter().filter(|(_, users)| users.len() > 1).collect();
        assert_eq!(shared, [("lower(word)", vec![0, 1, 2]), ("contains(lower(word), 'a')", vec![0, 1])]);
    }

    #[test]
    fn bits_go_to_the_places_they_were_taken_from() {
        let places = [0b1010_0110, 0, u64::MAX];
        let packed = [0b0110 | 0b1011 << 4, 0];
        assert_eq!(spread(&packed, &places), [0b0010_0100, 0, 0b1011]);
    }
}
