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
use crate::expression::{Scope, parse, words};
use crate::features::{Written, add, duration};
use crate::frame::interval;
use crate::ir::{Compared, Feature, FeatureKind, Quantity, Sequence, Step, StepValue};

/// Steps of a sequence at most: their conditions are bits of one mask, and no published typology has more than six.
const MAX_STEPS: usize = 12;

/// Reads `within` and the `[[step]]` blocks; `Ok(None)` when there are none, `Err(())` when they have faults.
pub(crate) fn read(
    fields: &mut Fields<'_>,
    scope: &Scope<'_>,
    columns: &mut BTreeSet<String>,
    used: &mut BTreeSet<String>,
    faults: &mut Diagnostics,
) -> Result<Option<Sequence>, ()> {
    let file = fields.file;
    let blocks = fields.tables("step", faults);
    let within = fields.text("within", faults);
    if blocks.is_empty() {
        if let Some(within) = within {
            let fault =
                within.fault("R023", "`within` belongs to a sequence", "there are no [[step]] blocks");
            faults.push(fault.help("windows have their length behind OVER"));
            return Err(());
        }
        return Ok(None);
    }
    let before = faults.0.len();
    let Some(within) = within else {
        let fault = file.fault("R023", "a sequence without `within` would never forget a row");
        faults.push(fault.help("add within = \"3 days\": the longest time from its first row to its last"));
        return Err(());
    };
    let within_micros = duration(&within, faults);
    let mut steps: Vec<Step> = Vec::new();
    let count = blocks.len();
    for (position, (table, span)) in blocks.into_iter().enumerate() {
        let mut block = Fields::new(file, table, span.clone(), "a step");
        let name = block.needed("name", "\"cash_in\"", faults);
        let when = block.needed("when", "\"direction = 'in' AND method = 'cash'\"", faults);
        let optional = block.flag("optional", faults).unwrap_or(false);
        let not = block.flag("not", faults).unwrap_or(false);
        let at_least = block.integer("at_least", faults);
        let step_within = block.text("within", faults);
        block.finish(faults);
        let (Some(name), Some(when)) = (name, when) else { continue };
        let step_within = step_within.and_then(|text| duration(&text, faults));
        let mut refuse = |message: String, help: &str| {
            faults.push(name.fault("R023", message, "this step").help(help.to_string()));
        };
        if !name.value.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            || scope.schema.index_of(&name.value).is_ok()
            || ["account", "customer", "place", "counterparty_account"].contains(&name.value.as_str())
            || steps.iter().any(|step| step.name == name.value)
        {
            refuse(
                format!("`{}` cannot name a step", name.value),
                "use small letters, digits and _; no column's, table's or other step's name",
            );
            continue;
        }
        if u8::from(optional) + u8::from(not) + u8::from(at_least.is_some()) > 1 {
            refuse(
                format!("step `{}` is more than one of optional, not, at_least", name.value),
                "keep one of them",
            );
            continue;
        }
        let quantity = match (optional, not, at_least) {
            (true, _, _) => Quantity::Optional,
            (_, true, _) => Quantity::Not,
            (_, _, Some(n)) => Quantity::AtLeast(n.max(1)),
            _ => Quantity::AtLeast(1),
        };
        let anchor = matches!(quantity, Quantity::AtLeast(_));
        if !anchor && (position == 0 || position + 1 == count) {
            refuse(
                format!(
                    "`{}` is the {} step, which must be there",
                    name.value,
                    if position == 0 { "first" } else { "last" }
                ),
                "optional steps and steps with `not` stand between two others",
            );
            continue;
        }
        if position == 0 && step_within.is_none() && matches!(quantity, Quantity::AtLeast(n) if n > 1) {
            refuse(
                format!("step `{}` repeats, but nothing says within what time", name.value),
                "add within = \"1 day\" to the step: the time that its repetitions take",
            );
            continue;
        }
        if !anchor && step_within.is_some() {
            refuse(
                format!(
                    "`within` of step `{}` has no meaning: it lies between its neighbours anyhow",
                    name.value
                ),
                "delete it",
            );
            continue;
        }
        let mut step = Step {
            name: name.value.clone(),
            text: when.value.clone(),
            filter: None,
            compared: Vec::new(),
            within_micros: step_within,
            quantity,
        };
        condition(&mut step, &when, &steps, scope, columns, used, faults);
        steps.push(step);
    }
    if steps.iter().filter(|step| step.is_anchor()).count() < 2 && faults.0.len() == before {
        faults.push(
            file.fault("R023", "a sequence has at least two steps").help("add a [[step]], or use a window"),
        );
    }
    if steps.len() > MAX_STEPS {
        faults.push(
            file.fault("R023", format!("a sequence has at most {MAX_STEPS} steps"))
                .help("split it in two indicators"),
        );
    }
    match within_micros {
        Some(within_micros) if faults.0.len() == before => Ok(Some(Sequence { within_micros, steps })),
        _ => Err(()),
    }
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

/// Columns of the row itself stand in the expression too.
fn has_own(expr: &Expr) -> bool {
    visit_expressions(expr, |e| match e {
        Expr::Identifier(_) => ControlFlow::Break(()),
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
    let operator = match (op, flip) {
        (BinaryOperator::Eq, _) => "=",
        (BinaryOperator::NotEq, _) => "<>",
        (BinaryOperator::Gt, false) | (BinaryOperator::Lt, true) => ">",
        (BinaryOperator::Lt, false) | (BinaryOperator::Gt, true) => "<",
        (BinaryOperator::GtEq, false) | (BinaryOperator::LtEq, true) => ">=",
        (BinaryOperator::LtEq, false) | (BinaryOperator::GtEq, true) => "<=",
        _ => {
            refuse("this cannot be compared with an earlier step", help);
            return None;
        }
    };
    let names = steps_of(other, earlier);
    let (Some(&step), 1) = (names.first(), names.len()) else {
        refuse("one comparison looks back at two steps", help);
        return None;
    };
    if !steps_of(own, earlier).is_empty() || has_own(other) {
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
    let is_text = |t: &DataType| matches!(t, DataType::Utf8 | DataType::Boolean);
    if is_text(&own.data_type) && operator != "=" && operator != "<>" {
        let fault = text.fault_at(
            part.span(),
            "R024",
            format!("{} of two rows can be equal or not, nothing else", words(&own.data_type)),
            "looks back at an earlier step",
        );
        faults.push(fault.help("use = or <>"));
        return None;
    }
    let common = common_type(&own.data_type, &other.data_type);
    for side in [&own, &other] {
        columns.extend(side.columns.iter().cloned());
        used.extend(side.params.iter().cloned());
    }
    let cast = |sql: &str, data_type: &DataType| match &common {
        Some(common) if common != data_type => format!("arrow_cast({sql}, '{common}')"),
        _ => format!("({sql})"),
    };
    Some(Compared {
        own: cast(&own.sql, &own.data_type),
        operator: operator.to_string(),
        step,
        other: cast(&other.sql, &other.data_type),
    })
}

/// The type that both sides are brought to, exactly: decimals to the finer scale.
fn common_type(a: &DataType, b: &DataType) -> Option<DataType> {
    if a == b {
        return None;
    }
    let scale = |t: &DataType| match t {
        DataType::Decimal128(_, scale) => Some(*scale),
        t if t.is_integer() => Some(0),
        _ => None,
    };
    match (scale(a), scale(b)) {
        (Some(a), Some(b)) => Some(DataType::Decimal128(38, a.max(b))),
        _ if a.is_numeric() && b.is_numeric() => Some(DataType::Float64),
        _ => Some(a.clone()),
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
    if names.len() > 1 || has_own(&expr) {
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
        (Some(canonical.sql), canonical.data_type)
    };
    let name = written.name.value.clone();
    if scope.schema.index_of(&name).is_ok() || !crate::features::usable(&name) {
        return refuse(format!("`{name}` is a column or a word of SQL already"), faults);
    }
    let kind = FeatureKind::Step(StepValue { step, value });
    Some(Some(add(scope, name, data_type, kind, written.unit.clone(), written.label.clone())))
}

/// The steps in words.
pub(crate) fn explain(sequence: &Sequence) -> Vec<String> {
    let mut lines = vec![format!("One after another, within {}:", interval(sequence.within_micros))];
    for (number, step) in sequence.steps.iter().enumerate() {
        let how = match step.quantity {
            Quantity::AtLeast(1) => String::new(),
            Quantity::AtLeast(n) => format!("at least {n} times, "),
            Quantity::Optional => "if there is one, ".into(),
            Quantity::Not => "and not between them, ".into(),
        };
        let within = match step.within_micros {
            Some(micros) if number == 0 => format!(" (all within {})", interval(micros)),
            Some(micros) => format!(" (within {} of the step before)", interval(micros)),
            None => String::new(),
        };
        lines.push(format!("  {}. {}: {how}{}{within}", number + 1, step.name, step.text));
    }
    lines
}
