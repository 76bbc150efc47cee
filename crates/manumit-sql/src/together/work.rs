//! Working out parts over one batch, each where it is asked for.

use std::collections::HashMap;
use std::rc::Rc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::compute::FilterBuilder;
use datafusion::arrow::compute::kernels::zip::zip;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;

use super::truth::{CODED_ROWS, Coded, Truth, buffer, count, or, spread, words};
use super::{DEAR, Together, What};

/// One batch in work: values of parts, as far as they have been asked for.
pub struct Work<'a> {
    pub(super) together: &'a Together,
    pub(super) batch: &'a RecordBatch,
    pub(super) values: Vec<Value>,
    /// By part that is text: its different values, if they have been looked for and are few.
    pub(super) coded: HashMap<usize, Option<Rc<Coded>>>,
}

pub(super) enum Value {
    Unknown,
    Array(ArrayRef),
    Truth(Rc<Truth>),
}

/// A part failed at some row.
pub(super) struct Failed;

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
