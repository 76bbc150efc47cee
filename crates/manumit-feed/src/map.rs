//! A feed: its file read, and its records mapped.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{filter_record_batch, take, take_record_batch};
use arrow::datatypes::{Field, Int32Type, Schema, SchemaRef, TimestampMicrosecondType};
use arrow::error::ArrowError;
use manumit_codec::{Csv, Decoder, Json, JsonDocument, RawType, left_out, offset_column, raw_schema};
use manumit_model::schema::TRANSACTIONS;
use manumit_model::{DeadLetter, Diagnostics, Position, Records, Stage};
use manumit_rules::document::File;
use manumit_sql::{Compiled, Sql, SqlError};

use crate::absent::{Absent, MISSING_COLUMN};
use crate::canonical::{RowFault, RowFaults, canonical, filled, keep_mask, local_times, long_column};
use crate::fit::{fitted, local_at};
use crate::front::{self, Format, Front, Future};
use crate::place::Places;
use crate::select::{self, Selection};
use crate::validate::{Ahead, Columns, MISSING_FIELD, NO_ACCOUNT, validate};

/// Why mapping cannot go on; a bad record is never the reason.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// Arrow refused an operation on well-formed rows.
    #[error("rows could not be rearranged: {0}")]
    Arrow(#[from] ArrowError),
    /// A mapped expression failed even on a single row in a way that is not the row's fault.
    #[error(transparent)]
    Sql(#[from] SqlError),
}

/// What became of a list of records.
#[derive(Debug)]
pub struct Mapped {
    /// Canonical columns that the feed gives (see [`Feed::columns`]), accepted rows in order.
    pub transactions: RecordBatch,
    /// Records that could not be used.
    pub dead_letters: Vec<DeadLetter>,
    /// Records looked at.
    pub read: u64,
    /// Records that the feed's WHERE left out, or whose list was empty.
    pub filtered: u64,
    /// Rows and dead letters beyond one a record: a record with a list gives several, and one of which some items are good and
    /// some are not gives a dead letter beside its rows.
    pub further: u64,
    /// What the records' file lacks of the columns that the SELECT reads; every list of records of a file says it again.
    pub absent: Option<Box<Absent>>,
    /// By fields of the record as dotted paths: records that have a value in them, of those that could be decoded. Of the fields
    /// that the SELECT reads, without those that are `optional`; empty for Parquet.
    pub values: Vec<(String, u64)>,
}

/// How far ahead of its record's time in Kafka a transaction may be dated when nobody says otherwise: time zones, and clocks
/// that go wrong by a little. What is in files has no such time, and may be dated as it likes.
const AHEAD_MICROS: i64 = 86_400_000_000;

/// One source of transactions and its mapping.
pub struct Feed {
    name: String,
    pub(crate) front: Front,
    pub(crate) selection: Selection,
    places: Option<Places>,
    decoder: Option<Box<dyn Decoder>>,
    schema: SchemaRef,
    /// Fields of the record that the SELECT reads, without those that not every file has.
    reads: Vec<String>,
}

/// Columns that every feed gives besides those it maps.
const ALWAYS: [&str; 10] = [
    "tx_id",
    "event_time",
    "utc_offset_minutes",
    "local_time",
    "entry_type",
    "currency",
    "feed",
    "source",
    "source_partition",
    "source_offset",
];

impl Feed {
    /// Reads a feed file. `parquet`: schema of the files of a Parquet feed without `[raw]`.
    ///
    /// # Errors
    /// All faults of the file, with place and mend.
    pub fn load(
        name: &str,
        path: &Path,
        text: Arc<str>,
        sql: &Sql,
        parquet: Option<SchemaRef>,
    ) -> Result<Feed, Diagnostics> {
        let file = File { path: path.to_path_buf(), text };
        let mut faults = Diagnostics::default();
        let Some((front_text, select_text)) = front::cut(&file, &mut faults) else { return Err(faults) };
        let Some(front) = front::read(&file, &front_text, &mut faults) else { return Err(faults) };
        if front.format == Format::Parquet && front.raw.is_empty() && parquet.is_none() {
            let fault = select_text.part(0..6.min(select_text.value.len())).fault(
                "D016",
                "the columns of the records are not known here",
                "the SELECT of a Parquet feed without [raw]",
            );
            let help = format!(
                "write them under [raw]: `manumit feed new {name} --sample FILE.parquet` prints them"
            );
            faults.push(fault.help(help));
            return Err(faults);
        }
        let raw = match (&front.format, parquet) {
            (Format::Parquet, Some(schema)) if front.raw.is_empty() => schema,
            _ => raw_schema(&front.raw),
        };
        let places = Places::asked(&select_text.value, &raw);
        let raw = places.as_ref().map_or(raw.clone(), |places| places.after(&raw));
        let Some(selection) = select::read(&select_text, &raw, sql, &mut faults) else { return Err(faults) };
        let has = |name: &str| selection.outputs.iter().any(|o| o.column.name == name);
        let mut missing: Vec<&str> =
            ["tx_id", "event_time", "amount"].into_iter().filter(|n| !has(n)).collect();
        if !has("currency") && front.currency.is_none() {
            missing.push("currency");
        }
        if !has("debtor_account") && !has("creditor_account") {
            missing.push("debtor_account");
        }
        for name in missing {
            let end = select_text.value.find(char::is_whitespace).unwrap_or(select_text.value.len());
            let fault = select_text.part(0..end).fault(
                "D015",
                format!("the SELECT gives no `{name}`"),
                "missing here",
            );
            faults.push(fault.help(format!("add `… AS {name}`; every transaction needs it")));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let json = || Json::new(front.raw.clone(), front.zone);
        let decoder: Option<Box<dyn Decoder>> = match front.format {
            Format::JsonLines => Some(Box::new(json())),
            Format::Json => Some(Box::new(JsonDocument::new(&front.records, json()))),
            Format::Csv => Some(Box::new(Csv::new(front.raw.clone(), front.delimiter, front.zone))),
            Format::Parquet => None,
        };
        let fields: Vec<Field> = TRANSACTIONS
            .iter()
            .filter(|c| {
                ALWAYS.contains(&c.name) || has(c.name) || (c.name == "country" && front.country.is_some())
            })
            .map(|c| Field::new(c.name, c.kind.data_type(), !c.required))
            .collect();
        let schema = Arc::new(Schema::new(fields));
        let reads = selection.reads(&raw, |name| {
            places.as_ref().is_some_and(|places| places.gives(name))
                || front.optional.iter().any(|o| o == name)
        });
        Ok(Feed { name: name.to_string(), schema, front, selection, places, decoder, reads })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Format of its records.
    pub fn format(&self) -> Format {
        self.front.format
    }

    /// CSV files begin with a header.
    pub fn has_header(&self) -> bool {
        self.front.format == Format::Csv && self.front.header
    }

    /// The same feed, reading these topics in place of those of its file.
    pub fn with_topics(mut self, topics: Vec<String>) -> Feed {
        self.front.topics = topics;
        self
    }

    /// The same feed, with this bound on the future where its file has none. Invariant `S1`: a row behind the bound is a dead
    /// letter and moves no watermark, so one mistyped year makes nobody else late.
    pub fn with_future(mut self, future: Option<Future>) -> Feed {
        self.front.future = self.front.future.or(future);
        self
    }

    /// How far ahead of its record a row may be dated, microseconds; `written`: the record tells when it was written.
    fn ahead(&self, written: bool) -> Option<i64> {
        match self.front.future {
            Some(Future::Micros(micros)) => Some(micros),
            Some(Future::Off) => None,
            None => written.then_some(AHEAD_MICROS),
        }
    }

    /// Kafka topics it reads.
    pub fn topics(&self) -> &[String] {
        &self.front.topics
    }

    /// Files it reads when none are named.
    pub fn paths(&self) -> &[String] {
        &self.front.paths
    }

    /// How far behind the newest row a row may come, microseconds.
    pub fn lateness_micros(&self) -> i64 {
        self.front.lateness_micros
    }

    /// Longer records are dead letters.
    pub fn max_record_bytes(&self) -> usize {
        self.front.max_record_bytes
    }

    /// Canonical columns that it gives.
    pub fn columns(&self) -> Vec<String> {
        self.schema.fields().iter().map(|f| f.name().clone()).collect()
    }

    /// Decodes, maps and validates records.
    ///
    /// # Errors
    /// [`FeedError`] only when Arrow itself fails; bad records are dead letters.
    pub fn map(&self, records: &Records) -> Result<Mapped, FeedError> {
        let Some(decoder) = &self.decoder else {
            let transactions = RecordBatch::new_empty(self.schema.clone());
            return Ok(Mapped {
                transactions,
                dead_letters: Vec::new(),
                read: 0,
                filtered: 0,
                further: 0,
                absent: None,
                values: Vec::new(),
            });
        };
        let absent = match (&records.header, self.front.format) {
            (Some(header), Format::Csv) => {
                let (source, delimiter) = (&records.source, self.front.delimiter);
                Absent::of_header(source, header, delimiter, &self.reads, &self.selection.schema)
            }
            _ => None,
        };
        let decoded = decoder.decode(records)?;
        let values = self.values(&decoded.batch);
        let records = decoded.split.as_ref().unwrap_or(records);
        let mut dead_letters: Vec<DeadLetter> = decoded
            .faults
            .into_iter()
            .map(|fault| {
                let position = records.position(fault.record);
                let mut letter =
                    DeadLetter::new(&self.name, position, Stage::Decode, fault.reason, fault.message);
                if let Some(field) = fault.field {
                    letter = letter.with_field(field, fault.value.as_deref());
                }
                with_record(letter, records, fault.record)
            })
            .collect();
        let ahead = self.ahead(!records.written_at_micros.is_empty());
        let known_at = |record: usize| records.known_at(record);
        let rows =
            self.map_rows(decoded.batch, &decoded.rows, absent.as_ref(), (ahead, &known_at), |row| {
                records.position(row)
            })?;
        dead_letters.extend(rows.faults.into_iter().map(|(record, fault)| {
            with_record(self.letter(records.position(record), fault), records, record)
        }));
        dead_letters.sort_by_key(|letter| letter.position.offset);
        Ok(Mapped {
            transactions: rows.transactions,
            dead_letters,
            read: records.len() as u64,
            filtered: rows.filtered,
            further: rows.further,
            absent: absent.map(Box::new),
            values,
        })
    }

    /// Maps and validates rows that need no decoding (Parquet). `first`: number of the first row in its file.
    ///
    /// # Errors
    /// As [`Feed::map`].
    pub fn map_rows_of(
        &self,
        batch: RecordBatch,
        source: &Arc<str>,
        first: i64,
        polled_at_micros: i64,
    ) -> Result<Mapped, FeedError> {
        let read = batch.num_rows();
        let own: Vec<usize> = (0..read).collect();
        let raw = batch.clone();
        let place =
            |row: usize| Position { source: source.clone(), partition: 0, offset: first + row as i64 };
        let absent = Absent::of_file(source, &batch.schema(), &self.reads, &self.selection.schema);
        let batch = self.fit(batch)?;
        let ahead = self.ahead(false);
        let rows = self.map_rows(batch, &own, absent.as_ref(), (ahead, &|_| polled_at_micros), place)?;
        let mut dead_letters = Vec::new();
        for (row, mut fault) in rows.faults {
            self.tell_left_out(&raw, row, &mut fault);
            // The raw bytes of a Parquet row are its JSON.
            let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
            writer.write(&raw.slice(row, 1))?;
            writer.finish()?;
            dead_letters.push(self.letter(place(row), fault).with_raw(writer.into_inner().trim_ascii_end()));
        }
        Ok(Mapped {
            transactions: rows.transactions,
            dead_letters,
            read: read as u64,
            filtered: rows.filtered,
            further: rows.further,
            absent: absent.map(Box::new),
            values: Vec::new(),
        })
    }

    /// See [`Mapped::values`].
    fn values(&self, batch: &RecordBatch) -> Vec<(String, u64)> {
        let mut values = Vec::new();
        for (field, column) in self.front.raw.iter().zip(batch.columns()) {
            if self.reads.contains(&field.name) {
                count_values(&field.name, &field.data_type, column, &mut values);
            }
        }
        values
    }

    /// A local time of a Parquet file that the change of clocks left out has become NULL: says so, instead of that it is missing.
    fn tell_left_out(&self, raw: &RecordBatch, row: usize, fault: &mut RowFault) {
        let Some(zone) = self.front.zone.filter(|_| fault.reason == MISSING_FIELD) else { return };
        for name in self.selection.columns_of(&fault.field) {
            let Some(column) = raw.column_by_name(&name).filter(|column| column.is_valid(row)) else {
                continue;
            };
            let words = local_at(column, row).and_then(|local| left_out(local, zone));
            if let Some(words) = words {
                fault.reason = "impossible_time";
                fault.message = format!("`{}` {words}", fault.field);
                return;
            }
        }
    }

    /// The columns of the raw schema, in its order.
    fn fit(&self, batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
        let mut columns = Vec::new();
        let mut fields = Vec::new();
        let filled = |name: &str| name == "__item" || self.places.as_ref().is_some_and(|p| p.gives(name));
        for field in self.selection.schema.fields().iter().filter(|f| !filled(f.name())) {
            let column = match batch.column_by_name(field.name()) {
                Some(column) => {
                    let declared = self.front.raw.iter().find(|raw| raw.name == *field.name());
                    fitted(column, declared.map(|raw| &raw.data_type), field.data_type(), self.front.zone)?
                }
                None => arrow::array::new_null_array(field.data_type(), batch.num_rows()),
            };
            columns.push(column);
            fields.push(field.clone());
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
    }

    fn letter(&self, position: Position, fault: RowFault) -> DeadLetter {
        DeadLetter::new(&self.name, position, fault.stage, fault.reason, fault.message)
            .with_field(fault.field, fault.value.as_deref())
    }

    /// `records`: for each row the record it came from; `future`: how far ahead of its record, and when that was written.
    fn map_rows(
        &self,
        batch: RecordBatch,
        records: &[usize],
        absent: Option<&Absent>,
        (ahead, known_at): (Option<i64>, &dyn Fn(usize) -> i64),
        place: impl Fn(usize) -> Position,
    ) -> Result<Rows, FeedError> {
        let batch = match &self.places {
            Some(places) => places.fill(batch, records.iter().map(|&record| place(record)))?,
            None => batch,
        };
        let (batch, owners) = self.unnested(batch, records)?;
        let mut faults = RowFaults::default();
        let (batch, owners) = self.filtered(batch, owners, absent, &mut faults)?;
        let count = batch.num_rows();
        let mut columns = Columns::new();
        let mut written_offsets: Option<ArrayRef> = None;
        for output in &self.selection.outputs {
            let array = evaluate(&output.value, &batch, output.column.name, &mut faults)?;
            if output.column.name == "event_time"
                && let Some(path) = &output.path
            {
                written_offsets = batch.column_by_name(&offset_column(path)).cloned();
            }
            columns
                .insert(output.column.name, canonical(output.column, &array, self.front.zone, &mut faults)?);
        }
        if let Some(currency) = &self.front.currency {
            let currency = filled(columns.get("currency"), count, currency);
            columns.insert("currency", currency);
        }
        if let Some(country) = &self.front.country {
            let country = filled(columns.get("country"), count, country);
            columns.insert("country", country);
        }
        let entry_type = filled(columns.get("entry_type"), count, "booking");
        columns.insert("entry_type", entry_type);
        if let Some(times) = columns.get("event_time") {
            let times = times.as_primitive::<TimestampMicrosecondType>();
            let mapped = columns.get("utc_offset_minutes");
            let (offsets, locals) = local_times(times, mapped, written_offsets.as_ref(), self.front.zone);
            columns.insert("utc_offset_minutes", offsets);
            columns.entry("local_time").or_insert(locals);
        }
        let known_at = |row: usize| known_at(owners[row]);
        let ahead = ahead.map(|micros| Ahead { micros, known_at: &known_at });
        validate(&columns, count, ahead.as_ref(), &mut faults);
        if let Some(absent) = absent {
            self.tell_absent(absent, &mut faults);
        }
        let positions: Vec<Position> = owners.iter().map(|&record| place(record)).collect();
        columns.insert("feed", filled(None, count, &self.name));
        let sources: arrow::array::StringArray = positions.iter().map(|p| Some(&*p.source)).collect();
        columns.insert("source", Arc::new(sources));
        let partitions = arrow::array::PrimitiveArray::<Int32Type>::from_iter_values(
            positions.iter().map(|p| p.partition),
        );
        columns.insert("source_partition", Arc::new(partitions));
        columns.insert("source_offset", long_column(positions.iter().map(|p| p.offset)));
        let keep = keep_mask(count, &faults);
        let arrays: Vec<ArrayRef> = self
            .schema
            .fields()
            .iter()
            .map(|f| match columns.get(f.name().as_str()) {
                Some(array) => array.clone(),
                None => arrow::array::new_null_array(f.data_type(), count),
            })
            .collect();
        // Rows with faults may hold NULL in required columns until they are left out.
        let loose: Vec<Field> =
            self.schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let all = RecordBatch::try_new_with_options(Arc::new(Schema::new(loose)), arrays, &options)?;
        let kept = if faults.0.is_empty() { all } else { filter_record_batch(&all, &keep)? };
        let transactions = RecordBatch::try_new_with_options(
            self.schema.clone(),
            kept.columns().to_vec(),
            &RecordBatchOptions::new().with_row_count(Some(kept.num_rows())),
        )?;
        let mut by_record: Vec<(usize, RowFault)> = Vec::new();
        for (row, fault) in faults.0 {
            let record = owners[row];
            if by_record.last().is_none_or(|(known, _)| *known != record) {
                by_record.push((record, fault));
            }
        }
        let mut seen = owners;
        seen.sort_unstable(); // They are ordered already, but for the order in which a list may be unnested.
        seen.dedup();
        let filtered = match seen == records {
            true => 0, // Almost always.
            false => records.iter().filter(|record| seen.binary_search(record).is_err()).count() as u64,
        };
        // Of every record that was not left out at least one row is here, good or bad.
        let further = (transactions.num_rows() + by_record.len()).saturating_sub(seen.len()) as u64;
        Ok(Rows { transactions, faults: by_record, filtered, further })
    }

    /// Where a value is missing because its column is, that is the reason.
    fn tell_absent(&self, absent: &Absent, faults: &mut RowFaults) {
        for fault in faults.0.values_mut() {
            let columns = match fault.reason {
                MISSING_FIELD => self.selection.columns_of(&fault.field),
                NO_ACCOUNT => {
                    let sides = ["debtor_account", "creditor_account"];
                    sides.iter().flat_map(|side| self.selection.columns_of(side)).collect()
                }
                _ => continue,
            };
            if absent.lacks(&columns) {
                fault.reason = MISSING_COLUMN;
                fault.message = format!("`{}` is missing, as {}", fault.field, absent.fault());
            }
        }
    }

    /// One row an item of the feed's list; without `unnest` the rows as they are.
    fn unnested(
        &self,
        batch: RecordBatch,
        records: &[usize],
    ) -> Result<(RecordBatch, Vec<usize>), FeedError> {
        let Some(list) = &self.selection.unnest else { return Ok((batch, records.to_vec())) };
        let lists = list.evaluate(&batch)?;
        let lists = lists.as_list::<i32>();
        let mut rows: Vec<u32> = Vec::new();
        let mut items: Vec<u32> = Vec::new();
        for row in (0..lists.len()).filter(|&row| lists.is_valid(row)) {
            for item in lists.value_offsets()[row]..lists.value_offsets()[row + 1] {
                rows.push(row as u32);
                items.push(item as u32);
            }
        }
        let owners = rows.iter().map(|&row| records[row as usize]).collect();
        let expanded = take_record_batch(&batch, &UInt32Array::from(rows))?;
        let items = take(lists.values().as_ref(), &UInt32Array::from(items), None)?;
        let mut columns = expanded.columns().to_vec();
        columns.push(items);
        let options = RecordBatchOptions::new().with_row_count(Some(expanded.num_rows()));
        Ok((RecordBatch::try_new_with_options(self.selection.schema.clone(), columns, &options)?, owners))
    }

    fn filtered(
        &self,
        batch: RecordBatch,
        owners: Vec<usize>,
        absent: Option<&Absent>,
        faults: &mut RowFaults,
    ) -> Result<(RecordBatch, Vec<usize>), FeedError> {
        let Some(filter) = &self.selection.filter else { return Ok((batch, owners)) };
        let held = evaluate(filter, &batch, "WHERE", faults)?;
        let held = held.as_boolean();
        // A condition on a column that is not there leaves out what it should not: nothing is lost for a changed header.
        if let Some(absent) = absent.filter(|absent| absent.lacks(&filter.columns)) {
            for row in (0..batch.num_rows()).filter(|&row| held.is_null(row) || !held.value(row)) {
                let message = format!("WHERE cannot be judged, as {}", absent.fault());
                faults.add(row, Stage::Map, MISSING_COLUMN, "WHERE", None, message);
            }
        }
        // A row on which the condition fails stays, so that it becomes a dead letter and is not lost.
        let keep: Vec<bool> = (0..batch.num_rows())
            .map(|row| (held.is_valid(row) && held.value(row)) || faults.0.contains_key(&row))
            .collect();
        if keep.iter().all(|k| *k) {
            return Ok((batch, owners));
        }
        let failed = std::mem::take(&mut faults.0);
        let mut place = 0;
        for (row, kept) in keep.iter().enumerate() {
            if let Some(fault) = failed.get(&row) {
                faults.0.insert(place, fault.clone());
            }
            place += usize::from(*kept);
        }
        let owners =
            owners.into_iter().zip(&keep).filter(|(_, keep)| **keep).map(|(owner, _)| owner).collect();
        Ok((filter_record_batch(&batch, &BooleanArray::from(keep))?, owners))
    }
}

struct Rows {
    transactions: RecordBatch,
    /// By record.
    faults: Vec<(usize, RowFault)>,
    filtered: u64,
    further: u64,
}

/// Adds the values of a field, or of each field within it.
fn count_values(path: &str, data_type: &RawType, column: &ArrayRef, out: &mut Vec<(String, u64)>) {
    match (data_type, column.as_struct_opt()) {
        (RawType::Struct(fields), Some(parts)) => {
            for (field, part) in fields.iter().zip(parts.columns()) {
                count_values(&format!("{path}.{}", field.name), &field.data_type, part, out);
            }
        }
        _ => out.push((path.to_string(), (column.len() - column.null_count()) as u64)),
    }
}

/// Keeps the record's bytes, and says when they were cut.
fn with_record(letter: DeadLetter, records: &Records, index: usize) -> DeadLetter {
    let mut letter = letter.with_raw(records.get(index));
    if let Some((_, length)) = records.oversized.iter().find(|(i, _)| *i == index) {
        letter.raw_bytes = *length;
        letter.raw_truncated = true;
    }
    letter.raw_truncated |= records.unreadable.contains(&index);
    letter
}

/// Evaluates an expression; where it fails, row by row, so that only the failing rows are lost.
fn evaluate(
    expression: &Compiled,
    batch: &RecordBatch,
    column: &str,
    faults: &mut RowFaults,
) -> Result<ArrayRef, FeedError> {
    if let Ok(array) = expression.evaluate(batch) {
        return Ok(array);
    }
    let mut parts: Vec<ArrayRef> = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        match expression.evaluate(&batch.slice(row, 1)) {
            Ok(array) => parts.push(array),
            Err(error) => {
                let words = error.to_string();
                let words = words.lines().next().unwrap_or("").to_string();
                let message = format!("`{column}` cannot be worked out: {words}");
                faults.add(row, Stage::Map, "wrong_type", column, None, message);
                parts.push(arrow::array::new_null_array(&expression.data_type, 1));
            }
        }
    }
    if parts.is_empty() {
        return Ok(arrow::array::new_null_array(&expression.data_type, 0));
    }
    let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
    Ok(arrow::compute::concat(&parts)?)
}
