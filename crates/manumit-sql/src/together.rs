//! Several expressions over one schema, worked out together: a part that some of them have in common is worked out once
//! for all, and only for rows at which the parts beside it leave a condition open.
//!
//! An AND stops at a row where a part does not hold, an OR where one holds, so what is dear (a look-up in a list, a
//! search in a text) is asked of the few rows at which what is cheap has not decided. What that leaves to be asked for
//! the same part elsewhere is added to what is known of it. Values are those that each expression has by itself; where a
//! part fails, its expressions have none here, and the caller asks them one by one ([`Compiled::evaluate`]).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
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

#[cfg(test)]
mod tests;
mod truth;
mod work;

use self::work::Value;
pub use self::work::Work;

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
