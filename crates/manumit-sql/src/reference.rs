//! Reference tables: what the bank knows about accounts and customers, and lists of rule authors, valid in time.
//!
//! A row is valid from the beginning of `valid_from` until the beginning of `valid_to`; an empty date means always.
//! Of several rows of one key that are valid at a time the one with the latest `valid_from` is meant.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array,
};
use datafusion::arrow::compute::{cast, concat, take};
use datafusion::arrow::datatypes::{DataType, Date32Type, Float64Type, TimeUnit, TimestampMicrosecondType};
use hashbrown::HashMap;
use manumit_model::alert::sha256;
use manumit_model::money;
use manumit_model::schema::Kind;

mod context;
mod digest;
mod excerpt;
mod groups;
mod links;
mod table;
mod weight;

pub use self::context::TIMED;
pub use self::excerpt::ReferenceVersion;
pub use self::groups::GroupRule;
use self::links::Links;
pub use self::table::{
    ACCOUNT_COLUMNS, BASELINE_COLUMNS, BUSINESS_COLUMNS, CUSTOMER_COLUMNS, PEER_COLUMNS, PLACE_COLUMNS, Table,
};
pub use crate::tables::tables;
use crate::terms::{self, Term, TermKind, TermList};

/// A row of a reference file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct ReferenceError {
    /// Line of the file, or number of the row, counted from 1.
    pub line: usize,
    /// What is wrong and how to mend it.
    pub message: String,
}

/// Times at which something is valid: `[from, to)`, microseconds UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Validity {
    pub(crate) from: i64,
    pub(crate) to: i64,
}

impl Validity {
    pub(crate) fn read(from: &str, to: &str) -> Result<Validity, String> {
        let day = |text: &str, open: i64| -> Result<i64, String> {
            let text = text.trim();
            if text.is_empty() {
                return Ok(open);
            }
            let parsed: ArrayRef = Arc::new(StringArray::from(vec![text]));
            let parsed = cast(&parsed, &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
            match parsed {
                Ok(array) if array.is_valid(0) => {
                    Ok(array.as_primitive::<TimestampMicrosecondType>().value(0))
                }
                _ => Err(format!("`{text}` is no date; write it as 2026-03-31")),
            }
        };
        Ok(Validity { from: day(from, i64::MIN)?, to: day(to, i64::MAX)? })
    }

    pub(crate) fn holds(self, time: i64) -> bool {
        self.from <= time && time < self.to
    }
}

/// Rows of one table, and where each key's rows stand.
#[derive(Debug, Default, Clone)]
pub(crate) struct Rows {
    pub(crate) index: HashMap<Box<str>, Vec<(Validity, u32)>>,
    pub(crate) columns: Vec<ArrayRef>,
    count: u32,
    /// Bytes of all of it that count, and of rows that others have replaced: see `weight.rs`.
    bytes: u64,
    replaced: u64,
    /// Keys by the value of the column that [`Table::searched_by`] names.
    by: HashMap<Box<str>, Vec<Box<str>>>,
}

impl Rows {
    /// The row of a key that is valid at a time.
    fn at(&self, key: &str, time: i64) -> Option<u32> {
        let versions = self.index.get(key)?;
        versions.iter().rev().find(|(validity, _)| validity.holds(time)).map(|(_, row)| *row)
    }

    /// Notes where the next row stands: the columns have it already.
    fn take(&mut self, table: Table, key: String, validity: Validity, weight: u64) {
        let key = key.into_boxed_str();
        if !self.index.contains_key(&key) {
            self.bytes += weight::of_key(table, &key);
            if let Some(part) = table.searched_by().and_then(|part| key.split(JOINT).nth(part)) {
                self.by.entry(part.into()).or_default().push(key.clone());
            }
        }
        let versions = self.index.entry(key).or_default();
        let row = self.count;
        match versions.iter_mut().find(|(other, _)| other.from == validity.from) {
            Some(same) => {
                self.replaced += weight::of_row(&self.columns, same.1 as usize);
                *same = (validity, row);
            }
            None => {
                weight::push(versions, (validity, row));
                self.bytes += weight::OF_VERSION;
            }
        }
        versions.sort_unstable();
        self.bytes += weight;
        self.count += 1;
    }
}

/// Rows that fit their table.
struct Checked {
    columns: Vec<ArrayRef>,
    /// Key and time of each.
    taken: Vec<(String, Validity)>,
}

impl Checked {
    /// All rows are checked before the first one is taken.
    ///
    /// # Errors
    /// [`ReferenceError`] names the row and the value that does not fit its column.
    fn of(table: Table, rows: &RecordBatch) -> Result<Checked, ReferenceError> {
        let text = |name: &str| -> Option<StringArray> {
            let column = cast(rows.column_by_name(name)?, &DataType::Utf8).ok()?;
            Some(column.as_string::<i32>().clone())
        };
        let mut keys = Vec::new();
        for name in table.keys() {
            let Some(column) = text(name) else {
                return Err(ReferenceError {
                    line: 1,
                    message: format!("the table `{}` needs a column `{name}`", table.name()),
                });
            };
            keys.push(column);
        }
        let (from, to) = (text("valid_from"), text("valid_to"));
        let mut columns = Vec::new();
        for (name, kind) in table.columns() {
            columns.push(typed(text(name), table, name, *kind, rows.num_rows())?);
        }
        table::check(table, &columns)?;
        let mut taken: Vec<(String, Validity)> = Vec::with_capacity(rows.num_rows());
        for row in 0..rows.num_rows() {
            let fault = |message: String| ReferenceError { line: row + 1, message };
            let parts: Vec<String> = keys
                .iter()
                .map(|k| if k.is_valid(row) { k.value(row).to_string() } else { String::new() })
                .collect();
            let parts = table.key(parts).map_err(fault)?;
            let at = |column: &Option<StringArray>| match column {
                Some(c) if c.is_valid(row) => c.value(row).to_string(),
                _ => String::new(),
            };
            let validity = Validity::read(&at(&from), &at(&to)).map_err(fault)?;
            if table.is_context() && validity.to < validity.from {
                return Err(fault(format!(
                    "`valid_to` {} lies before `valid_from` {}; swap them, or leave `valid_to` empty",
                    at(&to),
                    at(&from)
                )));
            }
            let key = key_of(&parts.iter().map(String::as_str).collect::<Vec<_>>());
            taken.push((key, validity));
        }
        Ok(Checked { columns, taken })
    }
}

/// Values of a list, and when each stands in it.
pub(crate) type List = HashMap<Box<str>, Vec<Validity>>;

/// All reference data at one moment.
#[derive(Debug, Default, Clone)]
pub struct Reference {
    /// Shared with the states before: a change copies the table that it changes, and no other.
    tables: BTreeMap<&'static str, Arc<Rows>>,
    lists: BTreeMap<String, List>,
    terms: BTreeMap<String, TermList>,
    /// Of `terms`; made when it is first asked for.
    index: OnceLock<Result<Arc<terms::Index>, String>>,
    /// SHA-256 of the text of each list.
    versions: BTreeMap<String, String>,
    mcc_groups: BTreeMap<String, BTreeSet<String>>,
    /// Which identifiers make a group; without it there are none.
    group_rule: Option<GroupRule>,
    /// Who holds which identifier.
    links: Arc<Links>,
    /// What an alert holds of them: then nothing else links.
    excerpt_links: Option<Links>,
}

/// Separates the parts of a key of several columns; no name holds it.
pub(crate) const JOINT: char = '\u{1f}';

fn key_of(parts: &[&str]) -> String {
    parts.join(&JOINT.to_string())
}

impl Reference {
    /// Adds rows to a table. Columns are text by name (unknown ones are ignored, missing ones are NULL);
    /// `valid_from` and `valid_to` may be left out. A later row replaces an earlier one with the same key and
    /// `valid_from`.
    ///
    /// # Errors
    /// [`ReferenceError`] names the row and the value that does not fit its column.
    pub fn add_rows(&mut self, table: Table, rows: &RecordBatch) -> Result<(), ReferenceError> {
        let checked = Checked::of(table, rows)?;
        self.put(table, checked)
    }

    /// Whether rows could be added, but for the room they take.
    ///
    /// # Errors
    /// As [`Reference::add_rows`].
    pub fn check(table: Table, rows: &RecordBatch) -> Result<(), ReferenceError> {
        Checked::of(table, rows).map(drop)
    }

    fn put(&mut self, table: Table, rows: Checked) -> Result<(), ReferenceError> {
        let Checked { columns, taken } = rows;
        let known = Arc::make_mut(self.tables.entry(table.name()).or_default());
        let links = match table {
            Table::Contacts | Table::Devices => Some(Arc::make_mut(&mut self.links)),
            _ => None,
        };
        let weights = weight::of_rows(&columns, taken.len());
        let mut joined = Vec::with_capacity(columns.len());
        for (place, column) in columns.into_iter().enumerate() {
            joined.push(match known.columns.get(place) {
                None => column,
                Some(so_far) => concat(&[so_far.as_ref(), column.as_ref()])
                    .map_err(|e| ReferenceError { line: 1, message: e.to_string() })?,
            });
        }
        known.columns = joined;
        if let Some(links) = links {
            for (key, validity) in &taken {
                let mut parts = key.split(JOINT);
                match (table, parts.next(), parts.next(), parts.next()) {
                    (Table::Contacts, Some(customer), Some(kind), Some(value)) => {
                        links.add(customer, kind, value, *validity);
                    }
                    (Table::Devices, Some(customer), Some(device), None) => {
                        links.add(customer, "device", device, *validity);
                    }
                    _ => {}
                }
            }
        }
        for ((key, validity), weight) in taken.into_iter().zip(weights) {
            known.take(table, key, validity, weight);
        }
        known.forget_replaced()
    }

    /// Rows of a table.
    pub fn rows(&self, table: Table) -> usize {
        self.tables.get(table.name()).map_or(0, |rows| rows.count as usize)
    }

    pub(crate) fn rows_of(&self, table: Table) -> Option<&Rows> {
        self.tables.get(table.name()).map(Arc::as_ref)
    }

    pub(crate) fn lists(&self) -> &BTreeMap<String, List> {
        &self.lists
    }

    pub(crate) fn mcc_groups(&self) -> &BTreeMap<String, BTreeSet<String>> {
        &self.mcc_groups
    }

    fn find(&self, table: Table, key: &str, time: i64) -> Option<u32> {
        self.tables.get(table.name())?.at(key, time)
    }

    /// Rows of a table for each key at each time; NULL where nothing is known.
    pub(crate) fn rows_at(
        &self,
        table: Table,
        keys: &StringArray,
        times: &TimestampMicrosecondArray,
    ) -> UInt32Array {
        let Some(known) = self.tables.get(table.name()) else { return UInt32Array::new_null(keys.len()) };
        keys.iter().zip(times).map(|(key, time)| known.at(key?, time?)).collect()
    }

    /// A column of a table at rows that [`Reference::rows_at`] gave.
    pub(crate) fn column_at(
        &self,
        table: Table,
        column: usize,
        rows: &UInt32Array,
    ) -> Result<ArrayRef, datafusion::arrow::error::ArrowError> {
        match self.tables.get(table.name()).and_then(|rows| rows.columns.get(column)) {
            Some(values) => take(values.as_ref(), rows, None),
            None => Ok(datafusion::arrow::array::new_null_array(
                &kind_type(table, table.columns()[column].1),
                rows.len(),
            )),
        }
    }

    /// Customer of an account at a time.
    pub fn customer_of(&self, account: &str, time: i64) -> Option<&str> {
        let accounts = self.tables.get(Table::Accounts.name())?;
        let row = accounts.at(account, time)? as usize;
        let column = accounts.columns.first()?.as_string::<i32>();
        column.is_valid(row).then(|| column.value(row))
    }

    /// Base currency units for one unit of `currency` at a time, at scale 10.
    pub fn fx_rate(&self, currency: &str, time: i64) -> Option<i128> {
        let row = self.find(Table::FxRates, currency, time)? as usize;
        let column = self.tables.get(Table::FxRates.name())?.columns.first()?;
        let rates = column.as_primitive_opt::<datafusion::arrow::datatypes::Decimal128Type>()?;
        rates.is_valid(row).then(|| rates.value(row))
    }

    /// An amount of `currency` (1/10000 of its unit) in the base currency at a time, rounded half up to four places: a
    /// rate gives more digits than an amount has. `None` when no rate is known, or no amount is that large.
    pub fn in_base(&self, amount: i128, currency: &str, base: &str, time: i64) -> Option<i128> {
        const UNIT: i128 = 10_000_000_000;
        if currency == base {
            return Some(amount);
        }
        let product = amount.checked_mul(self.fx_rate(currency, time)?)?;
        let value = (product + UNIT / 2).div_euclid(UNIT);
        (value.unsigned_abs() <= money::MAX_ABS as u128).then_some(value)
    }

    /// Latitude or longitude of a city, case ignored; country may be unknown.
    pub(crate) fn place(&self, city: &str, country: Option<&str>, longitude: bool) -> Option<f64> {
        let city = city.trim().to_lowercase();
        let country = country.unwrap_or("").to_lowercase();
        let row = self.find(Table::Places, &key_of(&[&city, &country]), 0)? as usize;
        let column = self.tables.get(Table::Places.name())?.columns.get(usize::from(longitude))?;
        let degrees = column.as_primitive::<Float64Type>();
        degrees.is_valid(row).then(|| degrees.value(row))
    }

    /// Adds a list, or replaces it, from CSV text: of values with the header `value,valid_from,valid_to,source`, or of terms with
    /// `term,id,kind,language,valid_from,valid_to,source`.
    ///
    /// # Errors
    /// [`ReferenceError`] names the line; the list is as it was.
    pub fn add_list_csv(&mut self, name: &str, text: &str) -> Result<(), ReferenceError> {
        if header_of(text).is_some_and(|(_, header)| header.iter().any(|column| column == "term")) {
            let list = terms::read(text)?;
            self.lists.remove(name);
            self.terms.insert(name.to_string(), list);
            self.index = OnceLock::new();
            self.versions.insert(name.to_string(), sha256(text.as_bytes()));
            return Ok(());
        }
        let mut list = List::new();
        for (line, record) in csv_records(text, &["value"])? {
            let fault = |message: String| ReferenceError { line, message };
            let field = |name: &str| record.get(name).map_or("", String::as_str);
            let value = field("value").trim().to_lowercase();
            if value.is_empty() {
                return Err(fault("`value` is empty; write the value or delete the line".into()));
            }
            let validity = Validity::read(field("valid_from"), field("valid_to")).map_err(fault)?;
            if validity.from >= validity.to {
                return Err(fault(format!(
                    "`valid_to` ({}) is not after `valid_from` ({}), so the value never counts; mend the dates or delete the line",
                    field("valid_to"),
                    field("valid_from")
                )));
            }
            list.entry(value.into_boxed_str()).or_default().push(validity);
        }
        if self.terms.remove(name).is_some() {
            self.index = OnceLock::new();
        }
        self.lists.insert(name.to_string(), list);
        self.versions.insert(name.to_string(), sha256(text.as_bytes()));
        Ok(())
    }

    /// Forgets all lists and groups of merchant category codes, to load them anew.
    pub fn forget_lists(&mut self) {
        self.lists.clear();
        self.terms.clear();
        self.index = OnceLock::new();
        self.versions.clear();
        self.mcc_groups.clear();
    }

    /// SHA-256 (hex) of the text that a list was loaded from.
    pub fn list_version(&self, name: &str) -> Option<&str> {
        self.versions.get(name).map(String::as_str)
    }

    /// Adds values to a list that is there, for always; to a list of terms as words or phrases that are their own ids. False when
    /// there is no such list.
    pub fn extend_list(&mut self, name: &str, values: &[String]) -> bool {
        let always = Validity { from: i64::MIN, to: i64::MAX };
        if let Some(list) = self.terms.get_mut(name) {
            list.extend(values.iter().map(|value| Term {
                id: value.clone(),
                term: value.clone(),
                kind: TermKind::Phrase,
                language: String::new(),
                validity: always,
            }));
            self.index = OnceLock::new();
            return true;
        }
        let Some(list) = self.lists.get_mut(name) else { return false };
        for value in values {
            list.entry(value.trim().to_lowercase().into_boxed_str()).or_default().push(always);
        }
        true
    }

    /// Names of all lists of values.
    pub fn list_names(&self) -> Vec<String> {
        self.lists.keys().cloned().collect()
    }

    /// Names of all lists of terms.
    pub fn term_list_names(&self) -> Vec<String> {
        self.terms.keys().cloned().collect()
    }

    /// A list of terms, and its number in order of names.
    pub(crate) fn term_list(&self, name: &str) -> Option<(u32, &TermList)> {
        (0_u32..)
            .zip(&self.terms)
            .find(|(_, (known, _))| *known == name)
            .map(|(number, (_, list))| (number, list))
    }

    /// All terms, ready to be looked for.
    pub(crate) fn term_index(&self) -> Result<Arc<terms::Index>, String> {
        self.index.get_or_init(|| terms::Index::of(&self.terms).map(Arc::new)).clone()
    }

    pub(crate) fn list(&self, name: &str) -> Option<&List> {
        self.lists.get(name)
    }

    /// Adds groups of merchant category codes from CSV text with the header `group,mcc` (more columns are ignored).
    ///
    /// # Errors
    /// [`ReferenceError`] names the line.
    pub fn add_mcc_groups_csv(&mut self, text: &str) -> Result<(), ReferenceError> {
        for (line, record) in csv_records(text, &["group", "mcc"])? {
            let field = |name: &str| record.get(name).map_or("", |v| v.trim());
            let (group, mcc) = (field("group"), field("mcc"));
            if group.is_empty() || mcc.len() != 4 || !mcc.bytes().all(|b| b.is_ascii_digit()) {
                let message =
                    format!("`{group},{mcc}` is no group with a four-digit code, such as `lodging,7011`");
                return Err(ReferenceError { line, message });
            }
            self.mcc_groups.entry(group.to_string()).or_default().insert(mcc.to_string());
        }
        Ok(())
    }

    /// Names of all groups of merchant category codes.
    pub fn mcc_group_names(&self) -> Vec<String> {
        self.mcc_groups.keys().cloned().collect()
    }

    /// Codes of a group.
    pub(crate) fn mcc_group(&self, name: &str) -> Option<&BTreeSet<String>> {
        self.mcc_groups.get(name)
    }
}

/// A value stands in a list at a time.
pub(crate) fn stands_in(list: &List, value: &str, time: i64) -> bool {
    let trimmed = value.trim();
    // Codes and account numbers in small letters and digits are their own small form.
    let small = trimmed.bytes().all(|b| b.is_ascii() && !b.is_ascii_uppercase());
    let versions = if small { list.get(trimmed) } else { list.get(trimmed.to_lowercase().as_str()) };
    versions.is_some_and(|v| v.iter().any(|validity| validity.holds(time)))
}

/// Arrow type of a reference column; rates are kept finer than amounts.
pub(crate) fn kind_type(table: Table, kind: Kind) -> DataType {
    match (table, kind) {
        (Table::FxRates, _) => DataType::Decimal128(20, 10),
        (_, kind) => kind.data_type(),
    }
}

fn typed(
    text: Option<StringArray>,
    table: Table,
    name: &str,
    kind: Kind,
    rows: usize,
) -> Result<ArrayRef, ReferenceError> {
    let data_type = kind_type(table, kind);
    let Some(text) = text else {
        return Ok(datafusion::arrow::array::new_null_array(&data_type, rows));
    };
    // An empty field of a CSV file is an unknown value.
    let text: StringArray = text.iter().map(|v| v.map(str::trim).filter(|v| !v.is_empty())).collect();
    if kind == Kind::Text && table != Table::FxRates {
        return Ok(Arc::new(text));
    }
    let values = match kind {
        Kind::Date => {
            // A date may be written with a time behind it, as Parquet's dates are when cast to text.
            let days: StringArray = text.iter().map(|v| v.map(|v| v.get(..10).unwrap_or(v))).collect();
            cast(&(Arc::new(days) as ArrayRef), &data_type)
        }
        _ => cast(&(Arc::new(text.clone()) as ArrayRef), &data_type),
    };
    let fault = |row: usize| ReferenceError {
        line: row + 1,
        message: format!(
            "`{}` in column `{name}` of `{}` is not a {}",
            text.value(row),
            table.name(),
            kind.words()
        ),
    };
    let values = values.map_err(|_| fault(0))?;
    match (0..rows).find(|&row| text.is_valid(row) && values.is_null(row)) {
        Some(row) => Err(fault(row)),
        None => Ok(values),
    }
}

pub(crate) type Record = BTreeMap<String, String>;

/// Lines that hold something, counted from 0; those with `#` are remarks.
fn lines_of(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty() && !l.trim_start().starts_with('#'))
}

/// The columns that a CSV text names, and the line they stand in.
fn header_of(text: &str) -> Option<(usize, Vec<String>)> {
    // Some programs mark a text as UTF-8 by a sign at its beginning.
    lines_of(text).next().map(|(line, header)| (line, split(header.trim_start_matches('\u{feff}'))))
}

/// Records of a CSV text by column name, with the line each starts at; empty lines and lines with `#` are left out.
pub(crate) fn csv_records(text: &str, needed: &[&str]) -> Result<Vec<(usize, Record)>, ReferenceError> {
    let fault = |line: usize, message: String| ReferenceError { line, message };
    let Some((first, header)) = header_of(text) else {
        return Err(fault(1, format!("the file is empty; its first line must be `{}`", needed.join(","))));
    };
    for name in needed {
        if !header.iter().any(|h| h == name) {
            let other = [';', '\t', '|'].into_iter().find(|mark| header.iter().any(|h| h.contains(*mark)));
            let help = match other {
                Some('\t') => "; columns stand between commas here, not between tabs".to_string(),
                Some(mark) => format!("; columns stand between commas here, not between `{mark}`"),
                None => format!("; it names {}", header.join(", ")),
            };
            return Err(fault(first + 1, format!("the header names no column `{name}`{help}")));
        }
    }
    let mut records = Vec::new();
    for (number, line) in lines_of(text).skip(1) {
        let fields = split(line);
        if fields.len() > header.len() {
            let message = format!(
                "{} fields, but the header names {}; put a text with a comma between double quotes",
                fields.len(),
                header.len()
            );
            return Err(fault(number + 1, message));
        }
        records.push((number + 1, header.iter().cloned().zip(fields).collect()));
    }
    Ok(records)
}

/// Fields of one CSV line; a field between double quotes may hold commas, and `""` for a quote.
fn split(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut characters = line.trim_end_matches('\r').chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                if let Some(field) = fields.last_mut() {
                    field.push('"');
                }
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => {
                if let Some(field) = fields.last_mut() {
                    field.push(other);
                }
            }
        }
    }
    fields.into_iter().map(|f| f.trim().to_string()).collect()
}

/// Reference data that may be replaced while rules run; each evaluation sees one state of it.
#[derive(Debug, Clone, Default)]
pub struct SharedReference(Arc<RwLock<Arc<Reference>>>);

impl SharedReference {
    /// The state now.
    pub fn get(&self) -> Arc<Reference> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the state: all of it is seen at once, and by evaluations that begin later.
    pub fn update<T>(&self, change: impl FnOnce(&mut Reference) -> T) -> T {
        let mut guard = self.0.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut guard))
    }
}

impl PartialEq for SharedReference {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for SharedReference {}

impl std::hash::Hash for SharedReference {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (Arc::as_ptr(&self.0) as usize).hash(state);
    }
}

/// Days as a date column holds them.
pub(crate) fn days(array: &ArrayRef) -> &datafusion::arrow::array::PrimitiveArray<Date32Type> {
    array.as_primitive::<Date32Type>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(columns: &[(&str, &[&str])]) -> RecordBatch {
        RecordBatch::try_from_iter(
            columns
                .iter()
                .map(|(name, values)| (*name, Arc::new(StringArray::from(values.to_vec())) as ArrayRef)),
        )
        .unwrap()
    }

    #[test]
    fn a_row_is_looked_up_as_it_was_at_that_time() {
        let mut reference = Reference::default();
        reference
            .add_rows(
                Table::Accounts,
                &rows(&[
                    ("account", &["A", "A"]),
                    ("customer", &["first", "second"]),
                    ("valid_from", &["", "2026-02-01"]),
                    ("valid_to", &["2026-02-01", ""]),
                ]),
            )
            .unwrap();
        let february = 1_769_904_000_000_000;
        assert_eq!(reference.customer_of("A", february - 1), Some("first"));
        assert_eq!(reference.customer_of("A", february), Some("second"));
        assert_eq!(reference.customer_of("B", february), None);
    }

    #[test]
    fn a_value_that_does_not_fit_its_column_is_named() {
        let error = Reference::default()
            .add_rows(Table::Customers, &rows(&[("customer", &["C", "D"]), ("minor", &["true", "maybe"])]))
            .unwrap_err();
        assert_eq!(error.to_string(), "line 2: `maybe` in column `minor` of `customers` is not a true/false");
    }

    #[test]
    fn lists_ignore_case_and_end_in_time() {
        let mut reference = Reference::default();
        let text = "value,valid_from,valid_to,source\n\"Acme, Ltd\",,2026-01-01,register\n";
        reference.add_list_csv("shops", text).unwrap();
        let shops = reference.list("shops").unwrap();
        assert!(stands_in(shops, "ACME, LTD", 0));
        assert!(stands_in(shops, " acme, ltd ", 0));
        assert!(!stands_in(shops, "acme, ltd", 1_767_225_600_000_000));
        assert!(reference.list("none").is_none());
        let error = reference.add_list_csv("bad", "value,valid_from\nx,soon\n").unwrap_err();
        assert_eq!(error.line, 2);
    }
}
