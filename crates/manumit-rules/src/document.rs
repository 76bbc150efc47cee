//! TOML documents with the place of every value, so that each fault can be underlined.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use datafusion::sql::sqlparser::tokenizer::{Location, Span};
use manumit_model::{Diagnostic, Diagnostics, nearest};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A file being read.
#[derive(Debug, Clone)]
pub struct File {
    /// Its path, as the user named it.
    pub path: PathBuf,
    /// Its text.
    pub text: Arc<str>,
}

impl File {
    /// A fault of the whole file.
    pub fn fault(&self, code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(code, message, self.path.clone(), self.text.clone())
    }
}

/// Text of a file together with its place in it.
#[derive(Debug, Clone)]
pub struct Text {
    /// The text, escapes resolved.
    pub value: String,
    /// Where it stands.
    pub file: File,
    /// Its bytes in the file, quotes included.
    pub span: Range<usize>,
    /// Where the content begins in the file, when content and file agree byte by byte (no escapes).
    base: Option<usize>,
}

impl Text {
    /// A whole file.
    pub fn whole(file: &File) -> Text {
        let value = file.text.to_string();
        Text { span: 0..value.len(), value, file: file.clone(), base: Some(0) }
    }

    /// A text that stands for what an author left out; faults in it point to the whole file.
    pub fn whole_of(file: &File, value: &str) -> Text {
        Text { value: value.to_string(), file: file.clone(), span: 0..0, base: None }
    }

    fn of_string(file: &File, span: Range<usize>, value: &str) -> Text {
        let raw = file.text.get(span.clone()).unwrap_or("");
        let base = raw.find(value).filter(|_| !value.is_empty()).map(|at| span.start + at);
        Text { value: value.to_string(), file: file.clone(), span, base }
    }

    /// A fault that underlines all of it.
    pub fn fault(
        &self,
        code: &'static str,
        message: impl Into<String>,
        label: impl Into<String>,
    ) -> Diagnostic {
        self.file.fault(code, message).at(self.span.clone(), label)
    }

    /// A fault that underlines what `span` covers, a place in the parsed value.
    pub fn fault_at(
        &self,
        span: Span,
        code: &'static str,
        message: impl Into<String>,
        label: impl Into<String>,
    ) -> Diagnostic {
        self.file.fault(code, message).at(self.place(span), label)
    }

    /// What `span` covers, a place in the parsed value, as a text whose faults underline it.
    pub fn at(&self, span: Span) -> Text {
        Text { value: self.value.clone(), file: self.file.clone(), span: self.place(span), base: None }
    }

    /// The part of the file that a span of the parsed value covers.
    fn place(&self, span: Span) -> Range<usize> {
        let (Some(base), Some(start)) = (self.base, self.offset(span.start)) else {
            return self.span.clone();
        };
        let end = self.offset(span.end).unwrap_or(start).max(start);
        base + start..base + end
    }

    fn offset(&self, location: Location) -> Option<usize> {
        if location.line == 0 {
            return None;
        }
        let line =
            self.value.split_inclusive('\n').take(location.line as usize - 1).map(str::len).sum::<usize>();
        let rest = self.value.get(line..)?;
        let column = rest.char_indices().nth(location.column as usize - 1).map_or(rest.len(), |(at, _)| at);
        Some(line + column)
    }

    /// A part of it, by bytes of the value.
    pub fn part(&self, range: Range<usize>) -> Text {
        let value = self.value.get(range.clone()).unwrap_or("").to_string();
        let span = self.base.map_or(self.span.clone(), |base| base + range.start..base + range.end);
        Text { value, file: self.file.clone(), span, base: self.base.map(|base| base + range.start) }
    }

    /// Without white space at both ends.
    pub fn trimmed(&self) -> Text {
        let start = self.value.len() - self.value.trim_start().len();
        self.part(start..start + self.value.trim().len())
    }
}

/// The fields of one TOML table, each asked for by name; what nobody asked for is a fault.
pub struct Fields<'a> {
    /// The file.
    pub file: &'a File,
    table: &'a DeTable<'a>,
    span: Range<usize>,
    asked: BTreeSet<&'static str>,
    /// What the table is, for messages: `an indicator`.
    what: &'static str,
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true/false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

impl<'a> Fields<'a> {
    /// `what` names the table in messages: `an indicator`.
    pub fn new(file: &'a File, table: &'a DeTable<'a>, span: Range<usize>, what: &'static str) -> Fields<'a> {
        Fields { file, table, span, asked: BTreeSet::new(), what }
    }

    /// A field's value, whatever it is.
    pub fn value(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.asked.insert(key);
        self.table.get(key)
    }

    fn wrong(&self, value: &Spanned<DeValue<'_>>, key: &str, wanted: &str, faults: &mut Diagnostics) {
        let message = format!("`{key}` must be {wanted}");
        let label = format!("this is {}", kind(value.get_ref()));
        faults.push(self.file.fault("R003", message).at(value.span(), label));
    }

    fn missing(&self, key: &str, example: &str, faults: &mut Diagnostics) {
        let end = self.file.text.get(self.span.clone()).map_or(0, |t| t.lines().next().map_or(0, str::len));
        let place = self.span.start..self.span.start + end;
        let message = format!("{} needs `{key}`", self.what);
        let fault = self.file.fault("R002", message).at(place, format!("`{key}` is missing here"));
        faults.push(fault.help(format!("add a line such as `{key} = {example}`")));
    }

    /// A text.
    pub fn text(&mut self, key: &'static str, faults: &mut Diagnostics) -> Option<Text> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(Text::of_string(self.file, value.span(), text)),
            _ => {
                self.wrong(value, key, "a text between quotes", faults);
                None
            }
        }
    }

    /// A text that must be there and not be empty; `example` shows how to write it.
    pub fn needed(&mut self, key: &'static str, example: &str, faults: &mut Diagnostics) -> Option<Text> {
        if self.value(key).is_none() {
            self.missing(key, example, faults);
            return None;
        }
        let text = self.text(key, faults)?;
        if text.value.trim().is_empty() {
            faults.push(text.fault("R002", format!("`{key}` is empty"), "write it here"));
            return None;
        }
        Some(text)
    }

    /// One of a set of words.
    pub fn word(&mut self, key: &'static str, words: &[&str], faults: &mut Diagnostics) -> Option<String> {
        let text = self.text(key, faults)?;
        check_word(&text, key, words, faults)
    }

    /// A whole number, not negative.
    pub fn integer(&mut self, key: &'static str, faults: &mut Diagnostics) -> Option<u64> {
        let value = self.value(key)?;
        let number = match value.get_ref() {
            DeValue::Integer(number) => number.as_str().parse::<u64>().ok(),
            _ => None,
        };
        if number.is_none() {
            self.wrong(value, key, "a whole number, not negative", faults);
        }
        number
    }

    /// True or false.
    pub fn flag(&mut self, key: &'static str, faults: &mut Diagnostics) -> Option<bool> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::Boolean(flag) => Some(*flag),
            _ => {
                self.wrong(value, key, "true or false", faults);
                None
            }
        }
    }

    /// A list of texts; with `needed`, one that is not empty.
    pub fn texts(&mut self, key: &'static str, needed: Option<&str>, faults: &mut Diagnostics) -> Vec<Text> {
        let Some(value) = self.value(key) else {
            if let Some(example) = needed {
                self.missing(key, example, faults);
            }
            return Vec::new();
        };
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong(value, key, "a list of texts, such as [\"a\", \"b\"]", faults);
            return Vec::new();
        };
        if items.is_empty()
            && let Some(example) = needed
        {
            let fault =
                self.file.fault("R002", format!("`{key}` is empty")).at(value.span(), "name at least one");
            faults.push(fault.help(format!("write for example `{key} = {example}`")));
        }
        let mut texts = Vec::new();
        for item in items.iter() {
            match item.get_ref() {
                DeValue::String(text) => texts.push(Text::of_string(self.file, item.span(), text)),
                _ => self.wrong(item, key, "a list of texts", faults),
            }
        }
        texts
    }

    /// A table under this one.
    pub fn table(
        &mut self,
        key: &'static str,
        faults: &mut Diagnostics,
    ) -> Option<(&'a DeTable<'a>, Range<usize>)> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::Table(table) => Some((table, value.span())),
            _ => {
                self.wrong(value, key, "a table", faults);
                None
            }
        }
    }

    /// `[[key]]` tables.
    pub fn tables(
        &mut self,
        key: &'static str,
        faults: &mut Diagnostics,
    ) -> Vec<(&'a DeTable<'a>, Range<usize>)> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let mut tables = Vec::new();
        match value.get_ref() {
            DeValue::Array(items) => {
                for item in items.iter() {
                    match item.get_ref() {
                        DeValue::Table(table) => tables.push((table, item.span())),
                        _ => self.wrong(item, key, "a list of tables", faults),
                    }
                }
            }
            _ => self.wrong(value, key, "written as [[…]], one block for each", faults),
        }
        tables
    }

    /// Reports fields that nobody asked for.
    pub fn finish(self, faults: &mut Diagnostics) {
        for (key, _) in self.table.iter().filter(|(key, _)| !self.asked.contains(key.get_ref().as_ref())) {
            let name = key.get_ref();
            let message = format!("{} has no field `{name}`", self.what);
            let fault = self.file.fault("R004", message).at(key.span(), "this is not known");
            let known: Vec<&str> = self.asked.iter().copied().collect();
            faults.push(match nearest(name, known.iter().copied()) {
                Some(near) => fault.help(format!("did you mean `{near}`?")),
                None => fault.help(format!("its fields are {}", known.join(", "))),
            });
        }
    }
}

/// Items of a table whose keys the author chooses, in the order of the file.
pub fn items<'a>(table: &'a DeTable<'a>, file: &File) -> Vec<(Text, &'a Spanned<DeValue<'a>>)> {
    let mut list: Vec<(Text, &Spanned<DeValue<'_>>)> =
        table.iter().map(|(key, value)| (Text::of_string(file, key.span(), key.get_ref()), value)).collect();
    list.sort_by_key(|(key, _)| key.span.start);
    list
}

/// The text of a value that must be one.
pub fn text_of(file: &File, value: &Spanned<DeValue<'_>>) -> Option<Text> {
    match value.get_ref() {
        DeValue::String(text) => Some(Text::of_string(file, value.span(), text)),
        _ => None,
    }
}

/// The text, when it is one of the words.
pub fn check_word(text: &Text, key: &str, words: &[&str], faults: &mut Diagnostics) -> Option<String> {
    if words.contains(&text.value.as_str()) {
        return Some(text.value.clone());
    }
    let message = format!("`{}` is no word of `{key}`", text.value);
    let fault = text.fault("R005", message, "not one of the words");
    let help = match nearest(&text.value, words.iter().copied()) {
        Some(near) => format!("did you mean `{near}`? The words are {}", words.join(", ")),
        None => format!("the words are {}", words.join(", ")),
    };
    faults.push(fault.help(help));
    None
}

/// Reads a TOML file, or says where it is not TOML.
pub fn parse<'a>(file: &'a File, faults: &mut Diagnostics) -> Option<Spanned<DeTable<'a>>> {
    match DeTable::parse(&file.text) {
        Ok(table) => Some(table),
        Err(error) => {
            let fault =
                file.fault("R001", format!("this is not TOML: {}", error.message().replace('\n', ", ")));
            let fault = match error.span() {
                Some(span) => fault.at(span.start..span.end.max(span.start + 1), "here"),
                None => fault,
            };
            faults.push(fault.help(
                "texts stand between quotes, each `key = value` on a line of its own; see rules/README.md",
            ));
            None
        }
    }
}
