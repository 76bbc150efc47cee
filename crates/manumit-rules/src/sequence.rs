//! Sequences: `[[step]]` blocks, one row after another, with values carried from step to step.
//!
//! # Source
//! ISO/IEC 9075-2:2016, `MATCH_RECOGNIZE`: DEFINE, quantifiers, references from one row variable to another. Unlike there
//! rows of other kinds may stand between the steps («skip till any match»), as in Agrawal et al., «Efficient Pattern
//! Matching over Event Streams», SIGMOD 2008.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use arrow::datatypes::DataType;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Spanned as _, visit_expressions, visit_expressions_mut,
};
use manumit_model::Diagnostics;

use crate::document::{Fields, Text};
use crate::expression::{Canonical, Scope, TABLES, parse, words};
use crate::features::{MAX_WINDOW_MICROS, Written, add, check_name, duration, simple, usable};
use crate::frame::interval;
use crate::ir::{Compared, Feature, FeatureKind, Operator, Quantity, Sequence, Step, StepValue};

/// Steps of a sequence at most: their conditions are bits of one mask, and no published typology has more than six.
pub(crate) const MAX_STEPS: usize = 12;

/// Reads `within` and the `[[step]]` blocks; `Ok(None)` when there are none, `Err(())` when they have faults.
pub(crate) fn read(
    fields: &mut Fields<'_>,
    scope: &mut Scope<'_>,
    columns: &mut BTreeSet<String>,
    used: &mut BTreeSet<String>,
    faults: &mut Diagnostics,
) -> Result<Option<Sequence>, ()> {
    let file = fields.file;
    let before = faults.0.len();
    let blocks = fields.tables("step", faults);
    let within = fields.text("within", faults);
    let Some(first) = blocks.first().map(|(_, span)| span.clone()) else {
        if let Some(within) = within {
            let fault =
                within.fault("R023", "`within` belongs to a sequence", "there are no [[step]] blocks");
            faults.push(fault.help("windows have their length behind OVER"));
        }
        return if faults.0.len() == before { Ok(None) } else { Err(()) };
    };
    let first_line = file.text.get(first.clone()).and_then(|text| text.lines().next()).map_or(0, str::len);
    let refuse = |message: String, help: &str| {
        let place = first.start..first.start + first_line;
        file.fault("R023", message).at(place, "the sequence begins here").help(help.to_string())
    };
    let within_micros = match &within {
        Some(within) => length(within, faults),
        None => {
            let help =
                "add above the steps: within = \"3 days\", the longest time from its first row to its last";
            faults.push(refuse("a sequence without `within` would never forget a row".into(), help));
            None
        }
    };
    let count = blocks.len();
    let mut steps: Vec<Step> = Vec::new();
    for (position, (table, span)) in blocks.into_iter().enumerate() {
        let mut block = Fields::new(file, table, span, "a step");
        let read = step(&mut block, position, count, &steps, scope, columns, used, faults);
        scope.steps.extend(read.iter().map(|step| step.name.clone()));
        steps.extend(read);
        block.finish(faults);
    }
    if count > MAX_STEPS {
        let message = format!("a sequence has at most {MAX_STEPS} steps, this one has {count}");
        faults.push(refuse(message, "split it in two indicators"));
    }
    if faults.0.len() == before && count < 2 {
        faults.push(refuse("a sequence has at least two steps".into(), "add a [[step]], or use a window"));
    }
    match within_micros {
        Some(within_micros) if faults.0.len() == before => Ok(Some(Sequence { within_micros, steps })),
        _ => Err(()),
    }
}

/// A length of time that a sequence or step may have.
fn length(text: &Text, faults: &mut Diagnostics) -> Option<i64> {
    let micros = duration(text, faults)?;
    if (1..=MAX_WINDOW_MICROS).contains(&micros) {
        return Some(micros);
    }
    let fault = text.fault("R023", "`within` is longer than nothing and at most 400 days", "here");
    faults.push(fault.help("write for example within = \"3 days\""));
    None
}

/// Reads one step. One with faults is given back all the same where it has a name, so that later steps may look back
/// at it without further faults.
#[expect(clippy::too_many_arguments, reason = "the place of the step, and what its expressions may use")]
fn step(
    block: &mut Fields<'_>,
    position: usize,
    count: usize,
    earlier: &[Step],
    scope: &Scope<'_>,
    columns: &mut BTreeSet<String>,
    used: &mut BTreeSet<String>,
    faults: &mut Diagnostics,
) -> Option<Step> {
    let name = block.needed("name", "\"cash_in\"", faults);
    let when = block.needed("when", "\"direction = 'in' AND method = 'cash'\"", faults);
    let optional = block.flag("optional", faults).unwrap_or(false);
    let not = block.flag("not", faults).unwrap_or(false);
    let at_least = block.integer("at_least", faults);
    let within = block.text("within", faults);
    let name = name?;
    let own = name.value.clone();
    let mut refuse = |place: &Text, message: String, help: &str| {
        faults.push(place.fault("R023", message, "here").help(help.to_string()));
    };
    let taken = scope.schema.index_of(&own).is_ok()
        || TABLES.contains(&own.as_str())
        || earlier.iter().any(|step| step.name == own);
    if taken || !simple(&own) || !usable(&own) {
        let help =
            "use small letters, digits and _; no word of SQL, no column's, table's or other step's name";
        refuse(&name, format!("`{own}` cannot name a step"), help);
    }
    if u8::from(optional) + u8::from(not) + u8::from(at_least.is_some()) > 1 {
        refuse(
            &name,
            format!("step `{own}` is more than one of optional, not, at_least"),
            "keep one of them",
        );
    }
    if at_least == Some(0) {
        refuse(&name, format!("step `{own}` comes at least 0 times"), "write optional = true instead");
    }
    let quantity = match (optional, not) {
        (true, _) => Quantity::Optional,
        (_, true) => Quantity::Not,
        _ => Quantity::AtLeast(at_least.unwrap_or(1)),
    };
    let anchor = !optional && !not;
    let end = if position == 0 { "first" } else { "last" };
    if !anchor && (position == 0 || position + 1 == count) {
        let help = "optional steps and steps with `not` stand between two others";
        refuse(&name, format!("`{own}` is the {end} step, which must be there"), help);
    }
    match &within {
        Some(within) if !anchor => {
            let message = format!("step `{own}` cannot have a `within`: it lies between its neighbours");
            refuse(within, message, "delete it");
        }
        Some(within) if position == 0 && at_least.is_none() => {
            let message = "`within` of the first step is the time in which it comes at_least so many times";
            refuse(within, message.into(), "delete it, or add at_least");
        }
        None if position == 0 && at_least.is_some_and(|n| n > 1) => {
            let message = format!("step `{own}` repeats, but nothing says within what time");
            refuse(
                &name,
                message,
                "add to the step: within = \"1 days\", the time that its repetitions take",
            );
        }
        _ => {}
    }
    let mut step = Step {
        name: own,
        text: when.as_ref().map_or(String::new(), |when| when.value.clone()),
        filter: None,
        compared: Vec::new(),
        within_micros: within.and_then(|text| length(&text, faults)),
        quantity,
        counted: at_least.is_some_and(|n| n > 1),
        params: Vec::new(),
    };
    if let Some(when) = when {
        let mut params = BTreeSet::new();
        condition(&mut step, &when, earlier, scope, columns, &mut params, faults);
        step.params = params
            .iter()
            .filter_map(|name| {
                let param = scope.params.get(name)?;
                Some([name.clone(), param.words.clone(), param.unit.clone(), param.source.clone()])
            })
            .collect();
        used.extend(params);
    }
    Some(step)
}

/// Cuts a step's condition into what one row tells, and comparisons of a row with the row of an earlier step.
fn condition(
    step: &mut Step,
    text: &Text,
    earlier: &[Step],
    scope: &Scope<'_>,
    columns: &mut BTreeSet<String>,
    used: &mut BTreeSet<String>,
    faults: &mut Diagnostics,
) {
    let Some(expr) = parse(text, faults) else { return };
    let mut parts = Vec::new();
    conjuncts(expr, earlier, &mut parts);
    let mut plain: Option<Expr> = None;
    for part in parts {
        let names = steps_of(&part, earlier);
        if names.is_empty() {
            plain = Some(match plain {
                None => part,
                Some(so_far) => {
                    Expr::BinaryOp { left: Box::new(so_far), op: BinaryOperator::And, right: Box::new(part) }
                }
            });
            continue;
        }
        if let Some(compared) = comparison(&part, text, earlier, scope, columns, used, faults) {
            step.compared.push(compared);
        }
    }
    if let Some(plain) = plain
        && let Some(canonical) = scope.canonical(plain, text, faults)
        && let Some(canonical) = scope.must_be_boolean(canonical, text, faults)
    {
        columns.extend(canonical.columns);
        used.extend(canonical.params);
        step.filter = Some(canonical.sql);
    }
}

/// Top-level AND parts; a BETWEEN that looks back at a step is two comparisons.
fn conjuncts(expr: Expr, earlier: &[Step], out: &mut Vec<Expr>) {
    match expr {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            conjuncts(*left, earlier, out);
            conjuncts(*right, earlier, out);
        }
        Expr::Nested(inner)
            if matches!(*inner, Expr::BinaryOp { op: BinaryOperator::And, .. } | Expr::Between { .. }) =>
        {
            conjuncts(*inner, earlier, out);
        }
        Expr::Between { expr, negated: false, low, high }
            if !steps_of(&low, earlier).is_empty() || !steps_of(&high, earlier).is_empty() =>
        {
            out.push(Expr::BinaryOp { left: expr.clone(), op: BinaryOperator::GtEq, right: low });
            out.push(Expr::BinaryOp { left: expr, op: BinaryOperator::LtEq, right: high });
        }
        other => out.push(other),
    }
}

/// Steps whose columns an expression uses.
fn steps_of(expr: &Expr, steps: &[Step]) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let _: ControlFlow<()> = visit_expressions(expr, |e| {
        if let Expr::CompoundIdentifier(parts) = e
            && let [step, _] = parts.as_slice()
            && let Some(index) = steps.iter().position(|s| s.name == step.value.to_lowercase())
        {
            found.insert(index);
        }
        ControlFlow::Continue(())
    });
    found
}

/// Columns of the row itself, or look-ups by them, stand in the expression too.
fn has_own(expr: &Expr, steps: &[Step]) -> bool {
    visit_expressions(expr, |e| match e {
        Expr::Identifier(_) => ControlFlow::Break(()),
        Expr::CompoundIdentifier(parts)
            if !steps.iter().any(|s| parts.first().is_some_and(|p| s.name == p.value.to_lowercase())) =>
        {
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    })
    .is_break()
}

/// `step.column` as `column`: both sides of a comparison are worked out on one row each.
fn on_one_row(expr: &Expr, steps: &[Step]) -> Expr {
    let mut expr = expr.clone();
    let _: ControlFlow<()> = visit_expressions_mut(&mut expr, |e| {
        if let Expr::CompoundIdentifier(parts) = e
            && let [step, column] = parts.as_slice()
            && steps.iter().any(|s| s.name == step.value.to_lowercase())
        {
            *e = Expr::Identifier(column.clone());
        }
        ControlFlow::Continue(())
    });
    expr
}

fn operator(op: &BinaryOperator) -> Option<Operator> {
    Some(match op {
        BinaryOperator::Eq => Operator::Eq,
        BinaryOperator::NotEq => Operator::NotEq,
        BinaryOperator::Lt => Operator::Lt,
        BinaryOperator::LtEq => Operator::LtEq,
        BinaryOperator::Gt => Operator::Gt,
        BinaryOperator::GtEq => Operator::GtEq,
        _ => return None,
    })
}

fn comparison(
    part: &Expr,
    text: &Text,
    earlier: &[Step],
    scope: &Scope<'_>,
    columns: &mut BTreeSet<String>,
    used: &mut BTreeSet<String>,
    faults: &mut Diagnostics,
) -> Option<Compared> {
    let part = match part {
        Expr::Nested(inner) => inner.as_ref(),
        other => other,
    };
    let mut refuse = |message: &str, help: &str| {
        let fault = text.fault_at(part.span(), "R024", message.to_string(), "looks back at an earlier step");
        faults.push(fault.help(help.to_string()));
    };
    let help = "compare a value of this row with a value of one earlier step, for example amount_base >= 0.5 * first.amount_base";
    let Expr::BinaryOp { left, op, right } = part else {
        refuse("this cannot be compared with an earlier step", help);
        return None;
    };
    let flip = steps_of(right, earlier).is_empty();
    let (own, other) = if flip { (right, left) } else { (left, right) };
    let Some(operator) = operator(op) else {
        refuse("this cannot be compared with an earlier step", help);
        return None;
    };
    let operator = if flip { operator.flipped() } else { operator };
    let names = steps_of(other, earlier);
    let (Some(&step), 1) = (names.first(), names.len()) else {
        refuse("one comparison looks back at two steps", help);
        return None;
    };
    if !steps_of(own, earlier).is_empty() || has_own(other, earlier) {
        refuse("values of two rows are mixed on one side", help);
        return None;
    }
    if !earlier[step].is_anchor() {
        refuse(
            "an optional step, or one with `not`, has no row to compare with",
            "compare with a step that must be there",
        );
        return None;
    }
    let whole = Expr::BinaryOp {
        left: Box::new(on_one_row(own, earlier)),
        op: op.clone(),
        right: Box::new(on_one_row(other, earlier)),
    };
    // The whole, so that both sides are found to fit together; then each, as it is worked out.
    scope.canonical(whole, text, faults)?;
    let own = scope.canonical(on_one_row(own, earlier), text, faults)?;
    let other = scope.canonical(on_one_row(other, earlier), text, faults)?;
    for side in [&own, &other] {
        columns.extend(side.columns.iter().cloned());
        used.extend(side.params.iter().cloned());
    }
    let common = common_type(&own.data_type, &other.data_type);
    let equality = matches!(operator, Operator::Eq | Operator::NotEq);
    let Some(common) = common.filter(|common| equality || (common != "Utf8" && common != "Boolean")) else {
        let (a, b) = (words(&own.data_type), words(&other.data_type));
        let fault = text.fault_at(
            part.span(),
            "R024",
            format!("{a} and {b} of two rows cannot be compared by {}", operator.sql()),
            "looks back at an earlier step",
        );
        faults.push(
            fault.help("numbers, dates and times can be less or greater; texts and true/false are = or <>"),
        );
        return None;
    };
    // Whole numbers of 64 bits without a sign are no integers of the engine.
    let as_they_are = own.data_type == other.data_type && own.data_type != DataType::UInt64;
    let cast = |side: &Canonical| match as_they_are {
        true => format!("({})", side.sql),
        false => format!("arrow_cast({}, '{common}')", side.sql),
    };
    let (own, other) = (cast(&own), cast(&other));
    Some(Compared { own, operator, step, other })
}

/// The type that both sides are brought to, exactly, as `arrow_cast` writes it: decimals to the finer scale; `None` when
/// they cannot be compared.
fn common_type(a: &DataType, b: &DataType) -> Option<String> {
    use DataType::{Boolean, Date32, Decimal128, LargeUtf8, Timestamp, UInt64, Utf8, Utf8View};
    let scale = |t: &DataType| match t {
        Decimal128(_, scale) => Some(*scale),
        t if t.is_integer() => Some(0),
        _ => None,
    };
    let text = |t: &DataType| matches!(t, Utf8 | LargeUtf8 | Utf8View);
    if a.is_integer() && b.is_integer() && *a != UInt64 && *b != UInt64 {
        return Some("Int64".into());
    }
    if let (Some(a), Some(b)) = (scale(a), scale(b)) {
        return Some(format!("Decimal128(38, {})", a.max(b)));
    }
    let common = match (a, b) {
        _ if a.is_floating() || b.is_floating() => "Float64",
        _ if text(a) && text(b) => "Utf8",
        (Boolean, Boolean) => "Boolean",
        (Date32, Date32) => "Date32",
        (Date32 | Timestamp(..), Date32 | Timestamp(..)) => "Timestamp(Microsecond, Some(\"UTC\"))",
        _ => return None,
    };
    let fits = common != "Float64" || (a.is_numeric() && b.is_numeric());
    fits.then(|| common.into())
}

/// The type that the engine keeps a step's value in, as `arrow_cast` writes it, when it is not its own; `None` when a
/// value of this type cannot be kept.
fn kept_type(data_type: &DataType) -> Option<Option<&'static str>> {
    use DataType::{
        Boolean, Date32, Decimal128, Float32, Float64, LargeUtf8, Timestamp, UInt64, Utf8, Utf8View,
    };
    match data_type {
        UInt64 => Some(Some("Decimal128(20, 0)")),
        Boolean | Date32 | Decimal128(..) | Float32 | Float64 | LargeUtf8 | Timestamp(..) | Utf8
        | Utf8View => Some(None),
        t if t.is_integer() => Some(None),
        _ => None,
    }
}

/// A feature that is a value of a step's row, or the number of its rows (`step.count`); `None` when it is neither.
pub(crate) fn feature(
    written: &Written,
    steps: &[Step],
    scope: &mut Scope<'_>,
    columns: &mut BTreeSet<String>,
    used: &mut BTreeSet<String>,
    faults: &mut Diagnostics,
) -> Option<Option<Feature>> {
    let mut quiet = Diagnostics::default();
    let expr = parse(&written.sql, &mut quiet)?;
    let names = steps_of(&expr, steps);
    let &step = names.first()?;
    let refuse =
        |message: String, faults: &mut Diagnostics| {
            let fault = written.sql.fault("R024", message, "here");
            faults.push(fault.help(
                "write for example first_amount = \"cash_in.amount_base\" or times = \"transfers.count\"",
            ));
            Some(None)
        };
    if names.len() > 1 || has_own(&expr, steps) {
        return refuse(
            "a feature takes values of one step; combine features in another feature".into(),
            faults,
        );
    }
    if steps[step].quantity == Quantity::Not {
        return refuse(format!("step `{}` never has a row", steps[step].name), faults);
    }
    let is_count = matches!(&expr, Expr::CompoundIdentifier(parts) if parts.last().is_some_and(|p| p.value.eq_ignore_ascii_case("count")));
    let (value, data_type) = if is_count {
        (None, DataType::Int64)
    } else {
        let Some(canonical) = scope.canonical(on_one_row(&expr, steps), &written.sql, faults) else {
            return Some(None);
        };
        columns.extend(canonical.columns);
        used.extend(canonical.params);
        match kept_type(&canonical.data_type) {
            None => {
                return refuse(format!("{} is not kept of a step", words(&canonical.data_type)), faults);
            }
            Some(None) => (Some(canonical.sql), canonical.data_type),
            Some(Some(kept)) => {
                (Some(format!("arrow_cast({}, '{kept}')", canonical.sql)), DataType::Decimal128(20, 0))
            }
        }
    };
    let Some(name) = check_name(written, scope, faults) else { return Some(None) };
    let kind = FeatureKind::Step(StepValue { step, value });
    Some(Some(add(scope, name, data_type, kind, written.unit.clone(), written.label.clone())))
}

/// The steps in words.
pub(crate) fn explain(sequence: &Sequence) -> Vec<String> {
    let mut lines = vec![format!(
        "Holds at the last of these, one after another, from the first to the last within {}:",
        interval(sequence.within_micros)
    )];
    for (number, step) in sequence.steps.iter().enumerate() {
        let how = match step.quantity {
            Quantity::AtLeast(1) => String::new(),
            Quantity::AtLeast(n) => format!("at least {n} times, "),
            Quantity::Optional => "if there is one between its neighbours, ".into(),
            Quantity::Not => "none between its neighbours, ".into(),
        };
        let within = match step.within_micros {
            Some(micros) if number == 0 => format!(", all within {}", interval(micros)),
            Some(micros) => format!(", within {} of the step before", interval(micros)),
            None => String::new(),
        };
        lines.push(format!("  {}. {}: {how}{}{within}", number + 1, step.name, step.text));
        for [name, value, unit, source] in &step.params {
            lines.push(format!("       ${name} = {value} {unit}; source: {source}"));
        }
    }
    lines
}
