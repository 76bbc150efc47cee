//! Samples of a feed: how they map, what a run would do with them, and a feed file to begin with.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use arrow::array::{AsArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use manumit_feed::{Enricher, Feed, Fingerprints, Format, Mapped, Report, Sample, new_feed};
use manumit_io::{FileSource, Framing, list_files};
use manumit_model::schema::{ENTRY_SIDES, TRANSACTIONS};
use manumit_model::{DeadLetter, Position, Records};
use manumit_sql::Sql;

use crate::config::Config;
use crate::duplicates::{Conflict, Duplicates};
use crate::pipeline::framing;
use crate::project::Project;

/// Conflicts, and titles of rules for one reason, that are named.
const NAMED: usize = 5;

/// How samples map, and what a run of them would set aside or not see; false when something was or would be rejected.
///
/// # Errors
/// When the feed or the configuration has faults, or a sample cannot be read.
pub fn feed_check(
    project: &Project,
    config: &Config,
    name: &str,
    samples: &[String],
) -> anyhow::Result<(String, bool)> {
    let sql = Sql::new();
    let feed = project.feed(name, &sql, samples)?.with_future(config.future()?);
    let known = Duplicates::new(std::slice::from_ref(&feed), config.duplicates.horizon_micros()?);
    let mut check = Check {
        report: Report::default(),
        run: AsRun::new(known, feed.lateness_micros()),
        empty: Vec::new(),
    };
    for path in list_files(samples)? {
        let before = check.report.read();
        match framing(&feed) {
            Some((framing, most)) => check.records(&feed, &path, framing, most)?,
            None => check.rows(&feed, &path)?,
        }
        if check.report.read() == before {
            check.empty.push(path.display().to_string());
        }
    }
    let mut out = check.report.text(&feed);
    for path in &check.empty {
        let _ = writeln!(out, "\nwarning: {path} has no record");
    }
    out += &check.run.words();
    out += &blind(project, &sql, &feed, &check.report);
    Ok((out, check.report.is_clean() && check.empty.is_empty() && check.run.conflicts == 0))
}

struct Check {
    report: Report,
    run: AsRun,
    /// Files without a record.
    empty: Vec<String>,
}

impl Check {
    fn records(&mut self, feed: &Feed, path: &Path, framing: Framing, most: usize) -> anyhow::Result<()> {
        let name = path.display().to_string();
        let mut files = FileSource::open(std::slice::from_ref(&name), framing, most)?;
        let mut lines = Lines::default();
        let mut read = false;
        while let Some(records) = files.next_batch()? {
            read = true;
            lines.count(&records);
            let mapped = feed.map(&records)?;
            self.report.add(&mapped, |letter| place(feed, letter, lines.of(letter.position.offset)));
            self.run.take(&mapped)?;
        }
        // Nothing but a header: it may be wrong all the same.
        if !read && feed.has_header() && name != "-" {
            let whole = Framing::Csv { header: false };
            if let Some(first) = FileSource::open(std::slice::from_ref(&name), whole, most)?.next_batch()? {
                let mut alone = Records::new(first.source.clone(), 0, first.polled_at_micros);
                alone.header = Some(first.get(0).into());
                self.report.add(&feed.map(&alone)?, |letter| place(feed, letter, None));
            }
        }
        Ok(())
    }

    fn rows(&mut self, feed: &Feed, path: &Path) -> anyhow::Result<()> {
        let mut first = 1;
        let source = path.display().to_string().into();
        for batch in manumit_codec::parquet_batches(path, 16_384)? {
            let batch = batch?;
            let rows = batch.num_rows() as i64;
            let mapped = feed.map_rows_of(batch, &source, first, chrono::Utc::now().timestamp_micros())?;
            self.report.add(&mapped, |letter| place(feed, letter, None));
            self.run.take(&mapped)?;
            first += rows;
        }
        Ok(())
    }
}

/// Lines at which the records of a CSV file begin, where they are not those of their numbers: a record may have several.
#[derive(Default)]
struct Lines {
    /// Line ends within the records before the latest ones.
    before: i64,
    /// Number and line end count before it, of each of the latest records that has another line than its number.
    latest: BTreeMap<i64, i64>,
    /// A record was cut, and nobody knows how many lines it had.
    lost: bool,
}

impl Lines {
    fn count(&mut self, records: &Records) {
        let ends = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count() as i64;
        if self.before == 0 {
            self.before = records.header.as_deref().map_or(0, ends);
        }
        self.lost |= !records.oversized.is_empty();
        self.latest.clear();
        if self.before == 0 && ends(&records.data) == 0 {
            return;
        }
        for index in 0..records.len() {
            self.latest.insert(records.offsets[index], self.before);
            self.before += ends(records.get(index));
        }
    }

    /// The line of a record; `None` where that is not known.
    fn of(&self, record: i64) -> Option<i64> {
        (!self.lost).then(|| record + self.latest.get(&record).copied().unwrap_or_default())
    }
}

/// Where a dead letter's record stands, in words.
fn place(feed: &Feed, letter: &DeadLetter, line: Option<i64>) -> String {
    let Position { source, offset, .. } = &letter.position;
    match (feed.format(), line) {
        (Format::Csv, Some(line)) if line != *offset => format!("{source}, line {line} (record {offset})"),
        (Format::Csv | Format::JsonLines, Some(line)) => format!("{source}, line {line}"),
        (Format::Parquet, _) => format!("{source}, row {offset}"),
        // Of a document as a whole.
        (Format::Json, _) if *offset == 0 => source.to_string(),
        _ => format!("{source}, record {offset}"),
    }
}

/// What a run would do with the rows that are accepted: it drops copies, sets contradictions aside, and leaves late rows out.
struct AsRun {
    known: Duplicates,
    /// Microseconds.
    lateness: i64,
    duplicates: u64,
    conflicts: u64,
    /// The first conflicts, in words.
    shown: Vec<String>,
    /// Highest event time so far, microseconds.
    highest: Option<i64>,
    late: u64,
    /// By how much a row was behind the highest time before it, at most, microseconds.
    behind: i64,
    rows: u64,
}

impl AsRun {
    fn new(known: Duplicates, lateness: i64) -> AsRun {
        AsRun {
            known,
            lateness,
            duplicates: 0,
            conflicts: 0,
            shown: Vec::new(),
            highest: None,
            late: 0,
            behind: 0,
            rows: 0,
        }
    }

    /// As the run's loop does it: copies go first, then what is late is told. The files of a feed are one partition.
    fn take(&mut self, mapped: &Mapped) -> anyhow::Result<()> {
        let mut rows = mapped.transactions.clone();
        self.rows += rows.num_rows() as u64;
        let judged = self.known.judge(0, ("", 0), &rows, &Fingerprints::of(&rows));
        self.duplicates += judged.duplicates;
        self.conflicts += judged.conflicts.len() as u64;
        for conflict in judged.conflicts.iter().take(NAMED.saturating_sub(self.shown.len())) {
            self.shown.push(words_of(&rows, conflict));
        }
        if let Some(keep) = &judged.keep {
            rows = filter_record_batch(&rows, keep)?;
        }
        let times =
            rows.column_by_name("event_time").and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
        self.times(times.map_or(&[], |times| times.values()));
        Ok(())
    }

    fn times(&mut self, times: &[i64]) {
        for &time in times {
            let highest = self.highest.map_or(time, |highest| highest.max(time));
            self.behind = self.behind.max(highest - time);
            self.late += u64::from(highest - time > self.lateness);
            self.highest = Some(highest);
        }
    }

    /// What a run of the sample would do with the rows; nothing where it would take all of them.
    fn words(&self) -> String {
        let mut out = String::new();
        let (rows, late) = (self.rows, self.late);
        if late > 0 {
            let (behind, lateness) = (span(self.behind), span(self.lateness));
            let _ = writeln!(
                out,
                "\nwarning: {late} of {rows} transactions would be late in a run, and not be evaluated: the latest is {behind} behind \
                 one before it, and `lateness` is {lateness}. Sort the records by time, or give a longer `lateness`: alerts then wait \
                 as long"
            );
        }
        if self.duplicates > 0 {
            let _ = writeln!(
                out,
                "\nwarning: {} of {rows} transactions would be dropped in a run: the same `tx_id` with the same content came before",
                self.duplicates
            );
        }
        if self.conflicts > 0 {
            let _ = writeln!(
                out,
                "\nwarning: {} of {rows} transactions would be rejected in a run (conflicting_id): their `tx_id` came before with \
                 other content. {}{}",
                self.conflicts,
                self.shown.join("; "),
                if self.conflicts as usize > self.shown.len() { "; …" } else { "" }
            );
        }
        out
    }
}

/// A conflict in words, with both places.
fn words_of(rows: &RecordBatch, conflict: &Conflict) -> String {
    let text = |name: &str| {
        let column = rows.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
        column.map_or("", |column| column.value(conflict.row)).to_string()
    };
    let offsets = rows.column_by_name("source_offset").and_then(|c| c.as_primitive_opt::<Int64Type>());
    let offset = offsets.map_or(0, |offsets| offsets.value(conflict.row));
    let Position { source, offset: first, .. } = &conflict.original;
    format!("`{}`: record {first} of {source} and record {offset} of {}", text("tx_id"), text("source"))
}

/// A stretch of time in words, of two units at most.
fn span(micros: i64) -> String {
    let seconds = micros / 1_000_000;
    let mut parts = Vec::new();
    let mut rest = seconds;
    for (length, unit) in [(86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")] {
        let count = rest / length;
        rest %= length;
        if count > 0 && parts.len() < 2 {
            parts.push(format!("{count} {unit}{}", if count == 1 { "" } else { "s" }));
        }
    }
    if parts.is_empty() { "0 seconds".into() } else { parts.join(" ") }
}

/// Rules of the project that find nothing with these columns, by what they miss.
fn blind(project: &Project, sql: &Sql, feed: &Feed, report: &Report) -> String {
    let rules = match project.rules(sql) {
        Ok(rules) => rules,
        Err(error) => {
            return format!(
                "\nwarning: which rules find nothing is not known, as they have faults: {error:#}\n"
            );
        }
    };
    let mut out = String::new();
    let given = Enricher::columns(&feed.columns());
    let fitted = rules.fitted(&given);
    let mut by_columns: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for indicator in fitted.indicators.iter().filter(|indicator| !indicator.unmet.is_empty()) {
        let unmet: Vec<String> = indicator.unmet.iter().map(|name| format!("`{name}`")).collect();
        by_columns.entry(unmet.join(", ")).or_default().push(&indicator.meta.title);
    }
    let count: usize = by_columns.values().map(Vec::len).sum();
    if count > 0 {
        let _ = writeln!(
            out,
            "\n{count} of {} indicators find nothing, as the feed maps no",
            fitted.indicators.len()
        );
        for (columns, titles) in &by_columns {
            let more = titles.len().saturating_sub(NAMED);
            let more = if more > 0 { format!("; and {more} more") } else { String::new() };
            let shown = &titles[..titles.len().min(NAMED)];
            let _ = writeln!(out, "  {columns}: {}{more}", shown.join("; "));
        }
    }
    // Many indicators read columns without needing them: they see less than they might.
    let of = fitted.indicators.len();
    let readers = |name: &str| {
        let stands_for = |column: &str| {
            column == name
                || ENTRY_SIDES.iter().any(|side| side.0 == column && (side.1 == name || side.2 == name))
        };
        fitted.indicators.iter().filter(|i| i.columns.iter().any(|column| stands_for(column))).count()
    };
    let filled = Enricher::columns(&report.known());
    let list = |is: &dyn Fn(&String) -> bool| {
        let names = TRANSACTIONS.iter().map(|column| column.name.to_string()).filter(|name| is(name));
        let mut read: Vec<(usize, String)> = names.map(|name| (readers(&name), name)).collect();
        read.retain(|(count, _)| *count > 0);
        read.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        read.iter().map(|(count, name)| format!("`{name}` ({count})")).collect::<Vec<_>>().join(", ")
    };
    let unmapped = list(&|name| !given.contains(name));
    if !unmapped.is_empty() {
        let _ = writeln!(out, "\nNot mapped, with how many of {of} indicators read it: {unmapped}");
    }
    let empty = list(&|name| given.contains(name) && !filled.contains(name));
    if report.accepted() > 0 && !empty.is_empty() {
        let _ = writeln!(
            out,
            "\nMapped, but NULL in all of the sample, with how many indicators read it: {empty}"
        );
    }
    out
}

/// A feed file to complete.
///
/// # Errors
/// When the sample cannot be read.
pub fn feed_new(name: &str, sample: &str) -> anyhow::Result<String> {
    let extension = Path::new(sample).extension().map(|e| e.to_string_lossy().to_lowercase());
    let text = || {
        let bytes = std::fs::read(sample).with_context(|| format!("{sample} cannot be read"))?;
        String::from_utf8(bytes).with_context(|| {
            format!("{sample} is not UTF-8; convert it, for instance with `iconv -f latin1 -t utf8 {sample}`")
        })
    };
    let sample = match extension.as_deref() {
        Some("csv" | "tsv" | "txt") => Sample::csv(&text()?),
        Some("json") => Sample::json(&text()?).with_context(|| format!("{sample} is no JSON document"))?,
        Some("parquet") => {
            let schema =
                manumit_codec::parquet_schema(Path::new(sample)).with_context(|| sample.to_string())?;
            Sample::parquet(&schema)
        }
        _ => {
            let mut files = FileSource::open(&[sample.to_string()], Framing::Lines, 1 << 24)?;
            Sample::json_lines(&files.next_batch()?.with_context(|| format!("{sample} is empty"))?)
        }
    };
    Ok(new_feed(name, &sample))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_csv_records_are_counted_past_those_of_several_lines() {
        let mut lines = Lines::default();
        let mut first = Records::new("day.csv".into(), 0, 0);
        first.header = Some(b"a,\"b\nc\""[..].into());
        first.push(2, b"1,2");
        first.push(3, b"1,\"2\n3\n4\"");
        first.push(4, b"5,6");
        lines.count(&first);
        assert_eq!([2, 3, 4].map(|record| lines.of(record)), [Some(3), Some(4), Some(7)]);
        let mut second = Records::new("day.csv".into(), 0, 0);
        second.header.clone_from(&first.header);
        second.push(6, b"7,8");
        lines.count(&second);
        assert_eq!(lines.of(6), Some(9));
    }

    #[test]
    fn a_row_is_late_by_the_time_before_it_as_in_a_run() {
        let mut run = AsRun::new(Duplicates::new(&[], None), 10);
        // At the bound it is in time.
        run.times(&[100, 90, 89]);
        run.times(&[120, 50, 121]);
        assert_eq!((run.late, run.behind), (2, 70));
    }

    #[test]
    fn stretches_of_time_are_told_in_two_units() {
        let seconds = |n: i64| span(n * 1_000_000);
        assert_eq!(seconds(0), "0 seconds");
        assert_eq!(seconds(3_661), "1 hour 1 minute");
        assert_eq!(seconds(2 * 86_400), "2 days");
    }
}
