//! Columns that a feed's SELECT reads and a file does not have: renamed, left out, or the file is another one.
//!
//! What is made of them would be NULL, and nobody would know why the rules see nothing. So it is said once a file, and a record
//! that cannot be used for it says that the header is why.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use manumit_codec::csv_names;

/// Reason of dead letters whose column is not in their file.
pub(crate) const MISSING_COLUMN: &str = "missing_column";

/// Other columns of a file that are named, at most.
const NAMED: usize = 8;

/// What a file lacks of the columns that its feed's SELECT reads. Shown as one sentence, with the mend. Nothing but names of
/// columns is told, and none of a first line that is no header: it may hold names of people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absent {
    source: Arc<str>,
    /// Columns that the SELECT reads and the file has not, in the order of `[raw]`.
    missing: Vec<String>,
    /// Columns of the file that `[raw]` does not declare.
    others: Vec<String>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A header with some of the columns.
    Header,
    /// A header whose bytes are no text.
    NotUtf8,
    /// A first line without any of the columns, cut at this character.
    NoHeader(char),
    /// The columns of a Parquet file.
    File,
}

impl Absent {
    /// Holds the header of a CSV file against what a SELECT reads; `declared`: all columns that the feed knows.
    pub(crate) fn of_header(
        source: &Arc<str>,
        header: &[u8],
        delimiter: u8,
        reads: &[String],
        declared: &SchemaRef,
    ) -> Option<Absent> {
        let names = csv_names(&String::from_utf8_lossy(header), delimiter).unwrap_or_default();
        let kind = match std::str::from_utf8(header) {
            Err(_) => Kind::NotUtf8,
            Ok(_) if declared.fields().iter().any(|field| names.contains(field.name())) => Kind::Header,
            Ok(_) => Kind::NoHeader(char::from(delimiter)),
        };
        Absent::among(source, &names, kind, reads, declared)
    }

    /// The same of a Parquet file.
    pub(crate) fn of_file(
        source: &Arc<str>,
        has: &SchemaRef,
        reads: &[String],
        declared: &SchemaRef,
    ) -> Option<Absent> {
        let names: Vec<String> = has.fields().iter().map(|field| field.name().clone()).collect();
        Absent::among(source, &names, Kind::File, reads, declared)
    }

    fn among(
        source: &Arc<str>,
        names: &[String],
        kind: Kind,
        reads: &[String],
        declared: &SchemaRef,
    ) -> Option<Absent> {
        let missing: Vec<String> = reads.iter().filter(|name| !names.contains(name)).cloned().collect();
        let unknown = names.iter().filter(|name| !name.is_empty() && declared.index_of(name).is_err());
        let others = unknown.cloned().collect();
        (!missing.is_empty()).then(|| Absent { source: source.clone(), missing, others, kind })
    }

    /// Whether one of these columns is missing.
    pub(crate) fn lacks(&self, columns: &[String]) -> bool {
        columns.iter().any(|column| self.missing.contains(column))
    }

    /// The columns that are missing.
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// What is wrong, without what becomes of it.
    pub(crate) fn fault(&self) -> String {
        let source = &self.source;
        let column = if self.missing.len() == 1 { "column" } else { "columns" };
        let missing = listed(&self.missing);
        match self.kind {
            Kind::NotUtf8 => format!(
                "the header of {source} is not UTF-8, so that it has no {column} {missing}: convert the file, for instance with \
                 `iconv -f latin1 -t utf8`"
            ),
            Kind::NoHeader(delimiter) => format!(
                "the first line of {source} has no column of `[raw]`: is it a header (otherwise write `header = false`), and is \
                 the delimiter {delimiter:?} right? Missing: {missing}"
            ),
            Kind::Header | Kind::File => {
                let what = if self.kind == Kind::File { "file" } else { "header of" };
                let others = match self.others.as_slice() {
                    [] => "all others are known to the feed".into(),
                    others if others.len() > NAMED => {
                        format!("it has {} and {} more", listed(&others[..NAMED]), others.len() - NAMED)
                    }
                    others => format!("it has {}", listed(others)),
                };
                format!("the {what} {source} has no {column} {missing}; {others}")
            }
        }
    }
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. What the SELECT makes of it is unknown to the rules", self.fault())?;
        if matches!(self.kind, Kind::Header | Kind::File) {
            f.write_str(
                ": correct the name in `[raw]` and the SELECT, or name the column in `optional` where not every file has it",
            )?;
        }
        Ok(())
    }
}

fn listed(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
