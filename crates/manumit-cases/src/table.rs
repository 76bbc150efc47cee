//! Transactions as a case writes them: a table of lines whose cells `|` separates.

use std::ops::Range;

use manumit_model::schema::TRANSACTIONS;
use manumit_model::{Diagnostics, nearest};
use manumit_rules::document::Text;

use crate::story::fault;

/// Columns that are no canonical ones.
const OWN: [&str; 6] = ["label", "when", "times", "from", "to", "amount"];

/// Canonical columns that follow from others, with what to write instead.
const MADE: [(&str, &str); 11] = [
    ("tx_id", "the label is the id"),
    ("event_time", "write `when`"),
    ("utc_offset_minutes", "it follows from the setting's `time_zone`"),
    ("local_time", "it follows from `when`"),
    ("currency", "write it after the amount: `150 USD`"),
    ("amount_base", "it follows from the amount and `[fx_rates]`"),
    ("debtor_account", "write `from`"),
    ("creditor_account", "write `to`"),
    ("feed", "a case has one feed"),
    ("source", "a case has one source"),
    ("source_offset", "it is the line's number"),
];

/// A table of transactions, nothing repeated yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    /// Names of the columns, in the author's order.
    pub columns: Vec<String>,
    /// Lines in the author's order.
    pub lines: Vec<Line>,
}

/// One line.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// A cell for each column; `None`: not known.
    pub cells: Vec<Option<String>>,
    /// Where it stands in the file.
    pub place: Range<usize>,
}

impl Line {
    /// The cell of a column.
    pub(crate) fn cell<'l>(&'l self, table: &Table, name: &str) -> Option<&'l str> {
        let at = table.columns.iter().position(|column| column == name)?;
        self.cells.get(at)?.as_deref()
    }
}

fn cells(line: &str) -> Vec<String> {
    let mut cells = vec![String::new()];
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' if letters.peek() == Some(&'|') => {
                letters.next();
                if let Some(cell) = cells.last_mut() {
                    cell.push('|');
                }
            }
            '|' => cells.push(String::new()),
            other => {
                if let Some(cell) = cells.last_mut() {
                    cell.push(other);
                }
            }
        }
    }
    cells.into_iter().map(|cell| cell.trim().to_string()).collect()
}

/// A column that a table may have.
pub(crate) fn known_column(name: &str) -> Result<(), String> {
    if let Some((_, help)) = MADE.iter().find(|(made, _)| *made == name) {
        return Err((*help).to_string());
    }
    if OWN.contains(&name) || TRANSACTIONS.iter().any(|column| column.name == name) {
        return Ok(());
    }
    let known = OWN.iter().copied().chain(TRANSACTIONS.iter().map(|column| column.name));
    Err(match nearest(name, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            format!("columns are {}, and those of `manumit schema transactions --markdown`", OWN.join(", "))
        }
    })
}

impl Table {
    /// Reads a table; `None` when it has faults.
    pub(crate) fn read(text: &Text, faults: &mut Diagnostics) -> Option<Table> {
        let before = faults.0.len();
        let mut table = Table::default();
        let mut at = 0;
        for line in text.value.split_inclusive('\n') {
            let part = text.part(at..at + line.trim_end().len()).trimmed();
            at += line.len();
            let content = part.value.as_str();
            let rule = content.chars().all(|letter| "-|:+ ".contains(letter));
            if content.starts_with('#') || rule {
                continue;
            }
            let cells = cells(content);
            if table.columns.is_empty() {
                for name in &cells {
                    if let Err(help) = known_column(name) {
                        let message = format!("a table of transactions has no column `{name}`");
                        faults.push(fault(&text.file, &part.span, message, "not known here", &help));
                    }
                    if cells.iter().filter(|other| *other == name).count() > 1 {
                        let message = format!("the column `{name}` is there twice");
                        faults.push(fault(&text.file, &part.span, message, "in this line", "leave one out"));
                    }
                }
                for needed in ["when", "from", "to", "amount"] {
                    if !cells.iter().any(|name| name == needed) {
                        let message = format!("the table has no column `{needed}`");
                        let help = "it needs `when`, `from`, `to` and `amount`";
                        faults.push(fault(&text.file, &part.span, message, "the columns", help));
                    }
                }
                table.columns = cells;
                continue;
            }
            if cells.len() > table.columns.len() {
                let message =
                    format!("this line has {} cells for {} columns", cells.len(), table.columns.len());
                let help = "write `\\|` for the character itself";
                faults.push(fault(&text.file, &part.span, message, "too many cells", help));
                continue;
            }
            let mut cells: Vec<Option<String>> = cells
                .into_iter()
                .map(|cell| Some(cell).filter(|cell| !cell.is_empty() && cell != "-"))
                .collect();
            cells.resize(table.columns.len(), None);
            table.lines.push(Line { cells, place: part.span.clone() });
        }
        if table.columns.is_empty() {
            let message = "the table of transactions is empty";
            let help = "its first line names the columns: `when | from | to | amount`";
            faults.push(fault(&text.file, &text.span, message, "here", help));
        }
        (faults.0.len() == before).then_some(table)
    }

    /// The place of a column; one that is not there yet is added, with nothing known.
    fn column(&mut self, name: &str) -> usize {
        if let Some(at) = self.columns.iter().position(|column| column == name) {
            return at;
        }
        self.columns.push(name.to_string());
        for line in &mut self.lines {
            line.cells.push(None);
        }
        self.columns.len() - 1
    }

    /// Puts a value into a column of the lines with a label (`None`: of all lines); how many there were.
    pub(crate) fn set(&mut self, label: Option<&str>, name: &str, value: &str) -> usize {
        let at = self.column(name);
        let labels = self.columns.iter().position(|column| column == "label");
        let value = Some(value.to_string()).filter(|value| !value.is_empty() && value != "-");
        let mut changed = 0;
        for line in &mut self.lines {
            let own = labels.and_then(|labels| line.cells[labels].as_deref());
            if label.is_none() || own == label {
                line.cells[at] = value.clone();
                changed += 1;
            }
        }
        changed
    }

    /// Takes the lines with a label away; how many there were.
    pub(crate) fn leave_out(&mut self, label: &str) -> usize {
        let before = self.lines.len();
        let Some(labels) = self.columns.iter().position(|column| column == "label") else { return 0 };
        self.lines.retain(|line| line.cells[labels].as_deref() != Some(label));
        before - self.lines.len()
    }

    /// Puts the lines of another table behind.
    pub(crate) fn add(&mut self, other: &Table) {
        let places: Vec<usize> = other.columns.iter().map(|name| self.column(name)).collect();
        for line in &other.lines {
            let mut cells = vec![None; self.columns.len()];
            for (place, cell) in places.iter().zip(&line.cells) {
                cells[*place] = cell.clone();
            }
            self.lines.push(Line { cells, place: line.place.clone() });
        }
    }
}
