//! Features: `agg(x) FILTER (WHERE c) OVER n days`, or an expression over the row and earlier features.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::sql::sqlparser::ast::{
    DuplicateTreatment, Expr, Function as Call, FunctionArg, FunctionArgExpr, FunctionArguments,
};
use manumit_model::{Diagnostics, nearest};

use crate::document::Text;
use crate::expression::{AGGREGATES, Scope, parse, words};
use crate::frame::{Extent, Frame, Period};
use crate::ir::{Feature, FeatureKind, Function, WindowAggregate};

/// Longest window.
pub(crate) const MAX_WINDOW_MICROS: i64 = 400 * 86_400_000_000;

/// Most rows of a window that counts rows: they are kept for every key, for ever.
const MAX_WINDOW_ROWS: u32 = 1_000;

/// `14 days` in microseconds.
pub fn duration(text: &Text, faults: &mut Diagnostics) -> Option<i64> {
    let value = text.value.trim().to_lowercase();
    let (number, unit) = value.split_once(char::is_whitespace).unwrap_or((&value, ""));
    let factor = match unit.trim() {
        "microsecond" | "microseconds" => Some(1),
        "millisecond" | "milliseconds" => Some(1_000),
        "second" | "seconds" => Some(1_000_000),
        "minute" | "minutes" => Some(60_000_000),
        "hour" | "hours" => Some(3_600_000_000),
        "day" | "days" => Some(86_400_000_000),
        "week" | "weeks" => Some(7 * 86_400_000_000),
        _ => None,
    };
    match (number.parse::<i64>().ok().filter(|n| *n >= 0), factor) {
        (Some(number), Some(factor)) => Some(number.saturating_mul(factor)),
        _ => {
            let message = format!("`{}` is no length of time", text.value);
            let fault = text.fault("R015", message, "a number and minutes, hours, days or weeks");
            faults.push(fault.help("write for example `30 days`"));
            None
        }
    }
}

/// A feature as the author wrote it.
pub(crate) struct Written {
    pub name: Text,
    pub sql: Text,
    pub unit: Option<String>,
    pub label: Option<String>,
}

/// The name is no word of SQL: a query that uses it can be read.
pub(crate) fn usable(name: &str) -> bool {
    let query = format!("SELECT {name}, 1 AS {name} FROM t WHERE {name} > 0");
    let parsed = datafusion::sql::sqlparser::parser::Parser::parse_sql(
        &datafusion::sql::sqlparser::dialect::GenericDialect {},
        &query,
    );
    parsed.is_ok_and(|statements| statements.len() == 1 && statements[0].to_string() == query)
}

/// Small letters, digits and _, beginning with a letter.
pub(crate) fn simple(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && name.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
}

/// The name may be given to a feature; `None` when it has been refused.
pub(crate) fn check_name(written: &Written, scope: &Scope<'_>, faults: &mut Diagnostics) -> Option<String> {
    let name = written.name.value.clone();
    if !simple(&name) {
        let fault = written.name.fault("R016", format!("`{name}` is no name for a feature"), "here");
        faults.push(fault.help("use small letters, digits and _, beginning with a letter"));
        return None;
    }
    if scope.schema.index_of(&name).is_ok() {
        let message = format!("`{name}` is already a column of `{}`", scope.table.name());
        faults.push(written.name.fault("R016", message, "taken").help("give the feature another name"));
        return None;
    }
    if !usable(&name) {
        let message = format!("`{name}` is a word of SQL");
        faults.push(written.name.fault("R016", message, "here").help("give the feature another name"));
        return None;
    }
    Some(name)
}

/// Reads one feature and adds it to the scope.
pub(crate) fn read(
    written: &Written,
    scope: &mut Scope<'_>,
    columns: &mut std::collections::BTreeSet<String>,
    used: &mut std::collections::BTreeSet<String>,
    faults: &mut Diagnostics,
) -> Option<Feature> {
    let name = check_name(written, scope, faults)?;
    let (kind, data_type) = match split_over(&written.sql) {
        Some((call, window)) => {
            let aggregate = aggregate_text(&call, &window, scope, columns, used, faults)?;
            let data_type = result_type(&aggregate, &call, faults)?;
            (FeatureKind::Window(aggregate), data_type)
        }
        None => {
            let canonical = scope.read(&written.sql, faults)?;
            columns.extend(canonical.columns);
            used.extend(canonical.params);
            (FeatureKind::Derived(canonical.sql), canonical.data_type)
        }
    };
    Some(add(scope, name, data_type, kind, written.unit.clone(), written.label.clone()))
}

/// Makes the feature known to what follows.
pub(crate) fn add(
    scope: &mut Scope<'_>,
    name: String,
    data_type: DataType,
    kind: FeatureKind,
    unit: Option<String>,
    label: Option<String>,
) -> Feature {
    let mut fields: Vec<_> = scope.schema.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(&name, data_type.clone(), true)));
    scope.schema = Arc::new(Schema::new(fields));
    scope.features.push(name.clone());
    Feature { name, data_type, unit, label, kind }
}

/// Cuts `… OVER 30 days` in two; `None` when there is no OVER with a plain length of time behind it.
fn split_over(text: &Text) -> Option<(Text, Text)> {
    let lower = text.value.to_lowercase();
    let at = lower.rfind("over")?;
    let before = lower[..at].ends_with(|c: char| c.is_whitespace() || c == ')');
    let rest = &text.value[at + 4..];
    let after = rest.starts_with(char::is_whitespace) && !rest.contains(['(', ')', '\'']);
    (before && after).then(|| (text.part(0..at).trimmed(), text.part(at + 4..text.value.len()).trimmed()))
}

/// `30 days`, `24 hours excluding end`, `calendar month in Europe/Berlin excluding current row`, `10 rows`.
fn frame(window: &Text, faults: &mut Diagnostics) -> Option<Frame> {
    let lower = window.value.to_lowercase();
    let (extent, excluded) = match lower.find(" excluding ") {
        Some(at) => (window.part(0..at).trimmed(), Some(window.part(at + 11..window.value.len()).trimmed())),
        None => (window.clone(), None),
    };
    let mut frame = match extent.value.split_whitespace().collect::<Vec<_>>().as_slice() {
        [word, rest @ ..] if word.eq_ignore_ascii_case("calendar") => calendar(&extent, rest, faults)?,
        [number, word] if ["row", "rows"].contains(&word.to_lowercase().as_str()) => {
            rows(number.parse().ok(), &extent, faults)?
        }
        _ => rolling(duration(&extent, faults)?, &extent, faults)?,
    };
    for word in excluded.iter().flat_map(|text| text.value.split(" and ").map(move |word| (text, word))) {
        let (text, word) = (word.0, word.1.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase());
        match (word.as_str(), frame.extent) {
            ("current row", _) => frame.excludes_row = true,
            (_, Extent::Rows(_)) => {
                let message = format!("a window of rows has no {word} that could be excluded");
                let fault = text.fault("R015", message, "here");
                faults.push(
                    fault.help("write `10 rows`, or `10 rows excluding current row` for those before it"),
                );
                return None;
            }
            ("start", Extent::Rolling(_)) => frame.excludes_start = true,
            ("end", _) => frame.excludes_end = true,
            ("start", Extent::Calendar(..)) => {
                let message = "a calendar window begins with its day, week or month";
                faults.push(text.fault("R015", message, "here").help("leave out `start`"));
                return None;
            }
            _ => {
                let message = format!("`{word}` cannot be excluded from a window");
                let fault = text.fault("R015", message, "here");
                faults.push(fault.help("write `excluding start`, `end` or `current row`, joined by `and`"));
                return None;
            }
        }
    }
    if frame.extent == Extent::Rolling(1) && frame.excludes_start && frame.excludes_end {
        let fault = window.fault("R015", "between its start and its end this window has no time", "here");
        faults.push(fault.help("make it longer than a microsecond, or leave out `start` or `end`"));
        return None;
    }
    // Without its end a window has no current row that could count.
    frame.excludes_row &= !frame.excludes_end;
    Some(frame)
}

/// A window of this length, if it is one that may be kept.
pub(crate) fn rolling(micros: i64, place: &Text, faults: &mut Diagnostics) -> Option<Frame> {
    if micros == 0 || micros > MAX_WINDOW_MICROS {
        let fault = place.fault("R015", "a window is longer than nothing and at most 400 days", "here");
        faults.push(fault.help("write for example `OVER 30 days`"));
        return None;
    }
    Some(Frame::rolling(micros))
}

/// A window of so many rows, if it is one that may be kept.
pub(crate) fn rows(count: Option<u32>, place: &Text, faults: &mut Diagnostics) -> Option<Frame> {
    match count.filter(|count| (1..=MAX_WINDOW_ROWS).contains(count)) {
        Some(count) => Some(Frame { extent: Extent::Rows(count), ..Frame::rolling(0) }),
        None => {
            let message = format!("a window of rows has 1 to {MAX_WINDOW_ROWS} of them");
            faults.push(place.fault("R015", message, "here").help("write for example `OVER 10 rows`"));
            None
        }
    }
}

fn calendar(extent: &Text, words: &[&str], faults: &mut Diagnostics) -> Option<Frame> {
    let help = "write for example `calendar month in Europe/Berlin`; the periods are day, week and month";
    let [period, preposition, zone] = words else {
        faults.push(extent.fault("R015", "a calendar window names a period and a zone", "here").help(help));
        return None;
    };
    let period = match period.to_lowercase().as_str() {
        "day" => Period::Day,
        "week" => Period::Week,
        "month" => Period::Month,
        other => {
            faults.push(extent.fault("R015", format!("`{other}` is no period"), "here").help(help));
            return None;
        }
    };
    let known = chrono_tz::TZ_VARIANTS.iter().find(|known| known.name().eq_ignore_ascii_case(zone));
    match known.filter(|_| preposition.eq_ignore_ascii_case("in")) {
        Some(known) => Some(Frame { extent: Extent::Calendar(period, *known), ..Frame::rolling(0) }),
        None => {
            let fault = extent.fault("R015", format!("`{zone}` is no time zone"), "here");
            faults.push(match nearest(zone, chrono_tz::TZ_VARIANTS.iter().map(|known| known.name())) {
                Some(near) => fault.help(format!("did you mean `in {near}`?")),
                None => fault.help(help),
            });
            None
        }
    }
}

fn aggregate_text(
    call: &Text,
    window: &Text,
    scope: &Scope<'_>,
    columns: &mut std::collections::BTreeSet<String>,
    used: &mut std::collections::BTreeSet<String>,
    faults: &mut Diagnostics,
) -> Option<WindowAggregate> {
    let frame = frame(window, faults)?;
    let expr = parse(call, faults)?;
    let Expr::Function(function) = expr else {
        let fault = call.fault("R016", "only an aggregate can look OVER a window", "this is no aggregate");
        faults.push(
            fault.help("write for example `count(*) OVER 30 days`; what uses one row only needs no OVER"),
        );
        return None;
    };
    aggregate(function, frame, call, scope, columns, used, faults)
}

/// Reads an aggregate call; `OVER` has been taken off.
pub(crate) fn aggregate(
    function: Call,
    frame: Frame,
    text: &Text,
    scope: &Scope<'_>,
    columns: &mut std::collections::BTreeSet<String>,
    used: &mut std::collections::BTreeSet<String>,
    faults: &mut Diagnostics,
) -> Option<WindowAggregate> {
    use datafusion::sql::sqlparser::ast::Spanned as _;
    let name = function.name.to_string().to_lowercase();
    let span = function.name.span();
    let FunctionArguments::List(list) = function.args else {
        faults.push(text.fault_at(span, "R016", format!("`{name}` needs an argument"), "here"));
        return None;
    };
    let distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
    let which = match (name.as_str(), distinct) {
        ("count", true) => Function::CountDistinct,
        ("count", false) => Function::Count,
        ("sum", false) => Function::Sum,
        ("avg", false) => Function::Avg,
        ("min", false) => Function::Min,
        ("max", false) => Function::Max,
        ("stddev" | "stddev_samp", false) => Function::Stddev,
        ("first_value", false) => Function::FirstValue,
        ("last_value", false) => Function::LastValue,
        ("top_share", false) => Function::TopShare,
        _ => {
            let message = if distinct {
                "DISTINCT is for `count` only".to_string()
            } else {
                format!("`{name}` is no aggregate that a feature may use")
            };
            let fault = text.fault_at(span, "R016", message, "unknown aggregate");
            faults.push(match nearest(&name, AGGREGATES) {
                Some(near) if !distinct => fault.help(format!("did you mean `{near}`?")),
                _ => fault.help(format!("the aggregates are {}", AGGREGATES[..9].join(", "))),
            });
            return None;
        }
    };
    let mut arguments = Vec::new();
    for argument in list.args {
        match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Wildcard) if which == Function::Count => {}
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => {
                let canonical = scope.canonical(expr, text, faults)?;
                if !canonical.features.is_empty() {
                    let message = "an aggregate reads rows, it cannot read another feature";
                    faults.push(text.fault_at(
                        canonical.original.span(),
                        "R016",
                        message,
                        "this uses a feature",
                    ));
                    return None;
                }
                columns.extend(canonical.columns.iter().cloned());
                used.extend(canonical.params.iter().cloned());
                arguments.push(canonical);
            }
            _ => {
                faults.push(text.fault_at(
                    span,
                    "R016",
                    format!("`{name}` cannot take this argument"),
                    "here",
                ));
                return None;
            }
        }
    }
    let most = if which == Function::TopShare { 2 } else { 1 };
    if arguments.len() > most || (arguments.is_empty() && which != Function::Count) {
        let message =
            format!("`{name}` takes {}", if most == 2 { "one or two arguments" } else { "one argument" });
        faults.push(text.fault_at(span, "R016", message, "here"));
        return None;
    }
    let filter = match function.filter {
        None => None,
        Some(expr) => {
            let canonical = scope.canonical(*expr, text, faults)?;
            let canonical = scope.must_be_boolean(canonical, text, faults)?;
            columns.extend(canonical.columns.iter().cloned());
            used.extend(canonical.params.iter().cloned());
            Some(canonical.sql)
        }
    };
    let mut arguments = arguments.into_iter();
    let argument = arguments.next();
    Some(WindowAggregate {
        function: which,
        argument_type: argument.as_ref().map_or(DataType::Null, |a| a.data_type.clone()),
        argument: argument.map(|a| a.sql),
        weight: arguments.next().map(|a| a.sql),
        filter,
        frame,
    })
}

/// The type that DataFusion gives the aggregate.
pub(crate) fn result_type(
    aggregate: &WindowAggregate,
    place: &Text,
    faults: &mut Diagnostics,
) -> Option<DataType> {
    use DataType::{Decimal128, Float32, Float64, Int64};
    let argument = &aggregate.argument_type;
    let number = argument.is_integer() || matches!(argument, Float32 | Float64 | Decimal128(..));
    let needs_number = matches!(aggregate.function, Function::Sum | Function::Avg | Function::Stddev);
    if needs_number && !number {
        let message = "this aggregate needs numbers";
        faults.push(place.fault("R016", message, format!("its argument is {}", words(argument))));
        return None;
    }
    // The engine keeps texts as numbers that tell them apart and say nothing of their order.
    let text = matches!(argument, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    if text && matches!(aggregate.function, Function::Min | Function::Max) {
        let message = "texts have no least and no greatest here";
        let fault = place.fault("R016", message, "its argument is text");
        faults.push(fault.help("take the first or last one: first_value(…), last_value(…)"));
        return None;
    }
    Some(match (aggregate.function, argument) {
        (Function::Count | Function::CountDistinct, _) => Int64,
        (Function::Sum, Decimal128(p, s)) => Decimal128((*p + 10).min(38), *s),
        (Function::Avg, Decimal128(p, s)) => Decimal128((*p + 4).min(38), (*s + 4).min(38)),
        (Function::Sum, t) if t.is_integer() => Int64,
        (Function::Sum | Function::Avg | Function::Stddev, _) => Float64,
        (Function::TopShare, _) => Decimal128(10, 6),
        (_, t) => t.clone(),
    })
}
