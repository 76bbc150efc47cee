//! SQL functions beyond DataFusion's own: look-ups into reference tables, night, distance, age.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, PrimitiveArray,
    StringArray, TimestampMicrosecondArray,
};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::{
    DataType, Decimal128Type, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use manumit_model::schema::instant_type;

use crate::mentions;
use crate::reference::{Reference, SharedReference, TIMED, Table, days, kind_type, stands_in};

/// All functions, over one set of reference tables.
pub(crate) fn all(reference: &SharedReference) -> Vec<ScalarUDF> {
    let local = DataType::Timestamp(TimeUnit::Microsecond, None);
    let text = || DataType::Utf8;
    let mut list = Vec::new();
    for (table, prefix) in [
        (Table::Accounts, "account"),
        (Table::Customers, "customer"),
        (Table::BusinessFacts, "business"),
        (Table::Baselines, "baseline"),
        (Table::Peers, "peer"),
    ] {
        for (place, (name, kind)) in table.columns().iter().enumerate() {
            let what = What::Lookup(table, place);
            let types = TypeSignature::Exact(vec![text(), instant_type()]);
            list.push((format!("{prefix}__{name}"), what, types, kind_type(table, *kind)));
        }
    }
    let exact = TypeSignature::Exact;
    let degrees = || DataType::Float64;
    list.push((
        "in_list".into(),
        What::InList,
        exact(vec![text(), text(), instant_type()]),
        DataType::Boolean,
    ));
    let found = || exact(vec![text(), text(), instant_type()]);
    list.push(("mentions".into(), What::Mentions, found(), DataType::Boolean));
    list.push(("term_found".into(), What::TermFound, found(), DataType::Utf8));
    list.push(("mentions_phone".into(), What::MentionsPhone, exact(vec![text()]), DataType::Boolean));
    list.push(("in_mcc_group".into(), What::InMccGroup, exact(vec![text(), text()]), DataType::Boolean));
    list.push((
        "is_night".into(),
        What::IsNight,
        TypeSignature::OneOf(vec![
            exact(vec![local.clone()]),
            exact(vec![local, DataType::Int64, DataType::Int64]),
        ]),
        DataType::Boolean,
    ));
    list.push((
        "distance_km".into(),
        What::DistanceKm,
        exact(vec![degrees(), degrees(), degrees(), degrees()]),
        degrees(),
    ));
    list.push((
        "age_years".into(),
        What::AgeYears,
        exact(vec![DataType::Date32, instant_type()]),
        DataType::Int64,
    ));
    let amount = manumit_model::money::data_type;
    list.push((
        "amount_in_base".into(),
        What::AmountInBase,
        exact(vec![amount(), text(), text(), instant_type()]),
        amount(),
    ));
    for (name, arguments) in TIMED {
        let mut types = vec![text(); arguments];
        types.push(instant_type());
        let returns = match name {
            "contact_since" | "device_since" => instant_type(),
            "authorised_accounts" => DataType::Int64,
            "related" => DataType::Boolean,
            _ => text(),
        };
        list.push((name.into(), What::Timed, exact(types), returns));
    }
    list.push(("place_lat".into(), What::Place { longitude: false }, exact(vec![text(), text()]), degrees()));
    list.push(("place_lon".into(), What::Place { longitude: true }, exact(vec![text(), text()]), degrees()));
    list.into_iter()
        .map(|(name, what, types, returns)| {
            // Reference data change: a call must never be folded into a constant while planning.
            let volatility = if what.looks_up() { Volatility::Volatile } else { Volatility::Immutable };
            let signature = Signature::new(types, volatility);
            ScalarUDF::from(Function { name, what, signature, returns, reference: reference.clone() })
        })
        .collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum What {
    /// Column of a table by key and time.
    Lookup(Table, usize),
    InList,
    Mentions,
    TermFound,
    MentionsPhone,
    InMccGroup,
    IsNight,
    DistanceKm,
    AgeYears,
    /// What enrichment gives as `amount_base`, so that a history without that column can be asked in SQL.
    AmountInBase,
    Place {
        longitude: bool,
    },
    /// One of [`TIMED`], by its name.
    Timed,
}

impl What {
    fn looks_up(self) -> bool {
        matches!(
            self,
            What::Lookup(..)
                | What::InList
                | What::Mentions
                | What::TermFound
                | What::InMccGroup
                | What::AmountInBase
                | What::Place { .. }
                | What::Timed
        )
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Function {
    name: String,
    what: What,
    signature: Signature,
    returns: DataType,
    reference: SharedReference,
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(self.returns.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let reference = self.reference.get();
        let result: ArrayRef = match self.what {
            What::InList => in_list(&reference, &args.args, rows)?,
            What::Mentions => mentions::mentions(&reference, &args.args, rows)?,
            What::TermFound => mentions::term_found(&reference, &args.args, rows)?,
            What::MentionsPhone => mentions::mentions_phone(&args.args, rows)?,
            What::InMccGroup => in_mcc_group(&reference, &args.args, rows)?,
            What::IsNight => is_night(&args.args, rows)?,
            _ => self.of_arrays(&reference, &arrays(&args.args, rows)?, rows)?,
        };
        Ok(ColumnarValue::Array(result))
    }
}

impl Function {
    /// The value where all arguments have been written out, one a row.
    fn of_arrays(&self, reference: &Arc<Reference>, arrays: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        Ok(match self.what {
            What::Lookup(table, place) => {
                crate::lookup::lookup(reference, table, place, &arrays[0], &arrays[1])?
            }
            What::DistanceKm => {
                let sides: Vec<&Float64Array> =
                    arrays.iter().map(|a| a.as_primitive::<Float64Type>()).collect();
                let known = |row: usize| sides.iter().all(|s| s.is_valid(row));
                let distance = |row: usize| {
                    distance_km(
                        sides[0].value(row),
                        sides[1].value(row),
                        sides[2].value(row),
                        sides[3].value(row),
                    )
                };
                Arc::new((0..rows).map(|row| known(row).then(|| distance(row))).collect::<Float64Array>())
            }
            What::AgeYears => {
                let (born, times) = (days(&arrays[0]), instants(&arrays[1]));
                let age = |row: usize| {
                    if born.is_null(row) || times.is_null(row) {
                        return None;
                    }
                    age_years(i64::from(born.value(row)), times.value(row).div_euclid(DAY))
                };
                Arc::new((0..rows).map(age).collect::<Int64Array>())
            }
            What::AmountInBase => {
                let amounts = arrays[0].as_primitive::<Decimal128Type>();
                let (currencies, bases) = (arrays[1].as_string::<i32>(), arrays[2].as_string::<i32>());
                let times = instants(&arrays[3]);
                let at = |row: usize| {
                    if arrays.iter().any(|array| array.is_null(row)) {
                        return None;
                    }
                    let (currency, base) = (currencies.value(row), bases.value(row));
                    reference.in_base(amounts.value(row), currency, base, times.value(row))
                };
                let base = (0..rows).map(at).collect::<Decimal128Array>();
                Arc::new(base.with_data_type(manumit_model::money::data_type()))
            }
            What::Place { longitude } => {
                let (cities, countries) = (arrays[0].as_string::<i32>(), arrays[1].as_string::<i32>());
                let at = |row: usize| {
                    if cities.is_null(row) {
                        return None;
                    }
                    let country = countries.is_valid(row).then(|| countries.value(row));
                    reference.place(cities.value(row), country, longitude)
                };
                Arc::new((0..rows).map(at).collect::<Float64Array>())
            }
            What::Timed => timed(&self.name, reference, arrays, rows)?,
            What::InList
            | What::Mentions
            | What::TermFound
            | What::MentionsPhone
            | What::InMccGroup
            | What::IsNight => {
                return Err(DataFusionError::Internal(format!(
                    "`{}` takes its arguments as they are",
                    self.name
                )));
            }
        })
    }
}

/// One of [`TIMED`]; NULL where an argument is.
fn timed(name: &str, reference: &Reference, arrays: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
    let times = instants(&arrays[arrays.len() - 1]);
    let firsts = arrays[0].as_string::<i32>();
    if name == "group_of" {
        return Ok(Arc::new(reference.group_column(firsts, times)));
    }
    let seconds = if arrays.len() > 2 { arrays[1].as_string::<i32>() } else { firsts };
    let asked = (0..rows).map(|row| {
        let known = firsts.is_valid(row) && seconds.is_valid(row) && times.is_valid(row);
        known.then(|| (firsts.value(row), seconds.value(row), times.value(row)))
    });
    let since = |found: Vec<Option<i64>>| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from(found).with_timezone("UTC"))
    };
    Ok(match name {
        "contact_since" => {
            since(asked.map(|a| a.and_then(|(c, k, t)| reference.contact_since(c, k, t))).collect())
        }
        "device_since" => {
            since(asked.map(|a| a.and_then(|(c, d, t)| reference.device_since(c, d, t))).collect())
        }
        "authority" => Arc::new(
            asked.map(|a| a.and_then(|(p, a, t)| reference.authority(p, a, t))).collect::<StringArray>(),
        ),
        "authorised_accounts" => Arc::new(
            asked.map(|a| a.map(|(p, _, t)| reference.authorised_accounts(p, t))).collect::<Int64Array>(),
        ),
        "relation" => Arc::new(
            asked.map(|a| a.and_then(|(c, o, t)| reference.relation(c, o, t))).collect::<StringArray>(),
        ),
        "related" => Arc::new(
            asked
                .map(|a| {
                    a.map(|(c, o, t)| {
                        reference.relation(c, o, t).is_some() || reference.relation(o, c, t).is_some()
                    })
                })
                .collect::<BooleanArray>(),
        ),
        other => return Err(DataFusionError::Internal(format!("`{other}` asks for nothing that is known"))),
    })
}

/// A text argument: mostly written once in a rule, and then the same for all rows.
pub(crate) enum Text<'a> {
    Same(Option<&'a str>),
    Each(&'a StringArray),
}

impl<'a> Text<'a> {
    pub(crate) fn of(argument: &'a ColumnarValue) -> Text<'a> {
        match argument {
            ColumnarValue::Scalar(value) => Text::Same(value.try_as_str().flatten()),
            ColumnarValue::Array(values) => Text::Each(values.as_string::<i32>()),
        }
    }

    pub(crate) fn at(&self, row: usize) -> Option<&'a str> {
        match self {
            Text::Same(value) => *value,
            Text::Each(values) => values.is_valid(row).then(|| values.value(row)),
        }
    }

    /// What a name stands for that is the same for all rows.
    pub(crate) fn same<T>(&self, named: impl Fn(&str) -> Option<T>) -> Option<T> {
        match self {
            Text::Same(Some(name)) => named(name),
            _ => None,
        }
    }
}

/// `in_list(value, list, time)`; a list that is not there fails at the first row that asks for it.
fn in_list(reference: &Reference, args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let (values, lists) = (Text::of(&args[0]), Text::of(&args[1]));
    let times = args[2].to_array(rows)?;
    let times = instants(&times);
    let same = lists.same(|name| reference.list(name));
    let found = (0..rows).map(|row| {
        let (Some(value), Some(name)) = (values.at(row), lists.at(row)) else { return Ok(None) };
        if times.is_null(row) {
            return Ok(None);
        }
        let list = same.or_else(|| reference.list(name));
        list.map(|list| Some(stands_in(list, value, times.value(row))))
            .ok_or_else(|| DataFusionError::Execution(format!("there is no list `{name}`")))
    });
    Ok(Arc::new(found.collect::<Result<BooleanArray>>()?))
}

/// `in_mcc_group(code, group)`.
fn in_mcc_group(reference: &Reference, args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let (codes, groups) = (Text::of(&args[0]), Text::of(&args[1]));
    let same = groups.same(|name| reference.mcc_group(name));
    let found = (0..rows).map(|row| {
        let (Some(code), Some(name)) = (codes.at(row), groups.at(row)) else { return Ok(None) };
        let group = same.or_else(|| reference.mcc_group(name));
        group.map(|group| Some(group.contains(code))).ok_or_else(|| {
            DataFusionError::Execution(format!("there is no group `{name}` of merchant category codes"))
        })
    });
    Ok(Arc::new(found.collect::<Result<BooleanArray>>()?))
}

const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;

fn arrays(args: &[ColumnarValue], rows: usize) -> Result<Vec<ArrayRef>> {
    args.iter().map(|argument| argument.to_array(rows)).collect()
}

pub(crate) fn instants(array: &ArrayRef) -> &PrimitiveArray<TimestampMicrosecondType> {
    array.as_primitive::<TimestampMicrosecondType>()
}

/// The hour is at or after `from` and before `to`, over midnight when `from` is the later one.
fn is_night(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let times = args[0].to_array(rows)?;
    let times = instants(&times);
    let night = |time: i64, from: i64, to: i64| {
        let now = time.rem_euclid(DAY) / HOUR;
        if from <= to { from <= now && now < to } else { now >= from || now < to }
    };
    if let (Some(from), Some(to)) = (same_hour(args.get(1), 22), same_hour(args.get(2), 6)) {
        let values = times.values();
        let nights = BooleanBuffer::collect_bool(rows, |row| night(values[row], from, to));
        return Ok(Arc::new(BooleanArray::new(nights, times.nulls().cloned())));
    }
    let hours = args.iter().skip(1).map(|hours| hours.to_array(rows)).collect::<Result<Vec<_>>>()?;
    let hour = |index: usize, row: usize, default: i64| match hours.get(index) {
        None => Some(default),
        Some(hours) => {
            let hours = hours.as_primitive::<Int64Type>();
            hours.is_valid(row).then(|| hours.value(row))
        }
    };
    let at = |row: usize| {
        let (from, to) = (hour(0, row, 22)?, hour(1, row, 6)?);
        times.is_valid(row).then(|| night(times.value(row), from, to))
    };
    Ok(Arc::new((0..rows).map(at).collect::<BooleanArray>()))
}

/// An hour that is the same for all rows.
fn same_hour(argument: Option<&ColumnarValue>, default: i64) -> Option<i64> {
    match argument {
        None => Some(default),
        Some(ColumnarValue::Scalar(ScalarValue::Int64(hour))) => *hour,
        Some(_) => None,
    }
}

/// Great-circle distance by the haversine formula, mean Earth radius 6371.0088 km (IUGG).
fn distance_km(lat1: f64, lon1: f64, lat2: f64, lon2: f64) -> f64 {
    let (p1, p2) = (lat1.to_radians(), lat2.to_radians());
    let (dp, dl) = (p2 - p1, (lon2 - lon1).to_radians());
    let h = (dp / 2.0).sin().powi(2) + p1.cos() * p2.cos() * (dl / 2.0).sin().powi(2);
    2.0 * 6371.0088 * h.sqrt().min(1.0).asin()
}

/// Full years between two days since 1970-01-01; a birthday on 29 February comes on 1 March in other years.
fn age_years(born: i64, today: i64) -> Option<i64> {
    use chrono::Datelike;
    let date = |days: i64| {
        chrono::DateTime::from_timestamp(days.checked_mul(86_400)?, 0).map(|time| time.date_naive())
    };
    let (born, today) = (date(born)?, date(today)?);
    let had_birthday = (today.month(), today.day()) >= (born.month(), born.day());
    let years = i64::from(today.year()) - i64::from(born.year()) - i64::from(!had_birthday);
    (years >= 0).then_some(years)
}

#[cfg(test)]
mod tests {
    use crate::Sql;

    /// The value of an expression without columns, as text.
    async fn value(sql: &Sql, expression: &str) -> String {
        let batches = sql.query(&format!("SELECT {expression} AS v")).await.unwrap();
        datafusion::arrow::util::display::array_value_to_string(batches[0].column(0), 0).unwrap()
    }

    #[tokio::test]
    async fn night_runs_over_midnight_and_is_unknown_without_local_time() {
        let sql = Sql::new();
        let night = |t: &str| format!("is_night(arrow_cast('{t}', 'Timestamp(Microsecond, None)'))");
        assert_eq!(value(&sql, &night("2026-01-01T22:00:00")).await, "true");
        assert_eq!(value(&sql, &night("2026-01-01T05:59:59")).await, "true");
        assert_eq!(value(&sql, &night("2026-01-01T06:00:00")).await, "false");
        assert_eq!(value(&sql, "is_night(NULL)").await, "");
        assert_eq!(value(&sql, &night("2026-01-01T13:00:00").replace("))", "), 12, 14)")).await, "true");
    }

    #[tokio::test]
    async fn an_argument_means_the_same_whether_written_once_or_a_column() {
        let sql = Sql::new();
        sql.reference().update(|reference| {
            reference.add_list_csv("shops", "value,valid_to\nacme,2026-01-01\n7011,\n").unwrap();
            reference.add_mcc_groups_csv("group,mcc\nlodging,7011\n").unwrap();
        });
        let once = "in_list(x, 'shops', i), in_mcc_group(x, 'lodging'), is_night(l, 22, 10), is_night(l)";
        let columns = "in_list(x, s, i), in_mcc_group(x, g), is_night(l, f, u), is_night(l, f, 6)";
        let local = "arrow_cast(t, 'Timestamp(Microsecond, None)') AS l";
        let instant = "arrow_cast(t, 'Timestamp(Microsecond, Some(\"UTC\"))') AS i";
        let rows = "('ACME', '2025-01-01T08:00:00', 'shops', 'lodging', 22, 10), ('acme', '2026-01-01T21:59:59', 'shops', 'lodging', 22, 10), \
            ('7011', '2026-01-01T22:00:00', 'shops', 'lodging', 22, 10), (NULL, '2026-01-01T05:00:00', 'shops', 'lodging', 22, 10), \
            ('7011', NULL, 'shops', 'lodging', 22, 10)";
        let from = format!("(SELECT *, {local}, {instant} FROM (VALUES {rows}) AS v(x, t, s, g, f, u))");
        let mut answers = Vec::new();
        for asked in [once, columns] {
            let batches = sql.query(&format!("SELECT {asked} FROM {from}")).await.unwrap();
            let table = datafusion::arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string();
            answers.push(table.lines().skip(3).take(5).map(|l| l.replace(' ', "")).collect::<Vec<_>>());
        }
        assert_eq!(answers[0], answers[1]);
        let known = [
            "|true|false|true|false|",
            "|false|false|false|false|",
            "|true|true|true|true|",
            "|||true|true|",
            "||true|||",
        ];
        assert_eq!(answers[0], known);
        let error = sql
            .query("SELECT in_list('x', 'none', arrow_cast(0, 'Timestamp(Microsecond, Some(\"UTC\"))'))")
            .await;
        assert!(error.unwrap_err().to_string().contains("there is no list `none`"));
    }

    #[tokio::test]
    async fn ages_and_distances_are_those_of_the_calendar_and_the_globe() {
        let sql = Sql::new();
        let age = "age_years(DATE '2008-02-29', arrow_cast('2026-02-28T00:00:00Z', 'Timestamp(Microsecond, Some(\"UTC\"))'))";
        assert_eq!(value(&sql, age).await, "17");
        // Berlin to Hamburg: 255 km as the crow flies.
        let km = "round(distance_km(52.52, 13.405, 53.5511, 9.9937))";
        assert_eq!(value(&sql, km).await, "255.0");
    }

    #[tokio::test]
    async fn the_share_of_the_largest_group_equals_the_plain_count() {
        let sql = Sql::new();
        let rows = "(VALUES ('a', 1.00), ('a', 2.00), ('b', 9.00), (NULL, 5.00)) AS t(x, w)";
        let batches = sql.query(&format!("SELECT top_share(x), top_share(x, w) FROM {rows}")).await.unwrap();
        let at = |c: usize| {
            datafusion::arrow::util::display::array_value_to_string(batches[0].column(c), 0).unwrap()
        };
        assert_eq!((at(0).as_str(), at(1).as_str()), ("0.666666", "0.750000"));
    }
}
