//! Front matter: how a feed's records look and where they come from.

use manumit_codec::{RawField, RawType, TimeZone};
use manumit_model::{Diagnostics, currency, nearest};
use manumit_rules::document::{Fields, File, Text, items, parse};
use toml::de::{DeTable, DeValue};

/// Format of a feed's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line or message.
    JsonLines,
    /// A JSON document: an array of records, or one.
    Json,
    /// One CSV line a record.
    Csv,
    /// Parquet files.
    Parquet,
}

/// How far ahead of its record a transaction may be dated, where that is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Future {
    /// As far as it likes.
    Off,
    /// Microseconds.
    Micros(i64),
}

/// What the front matter says.
#[derive(Debug, Clone)]
pub(crate) struct Front {
    pub format: Format,
    pub records: String,
    pub delimiter: u8,
    pub header: bool,
    pub topics: Vec<String>,
    pub paths: Vec<String>,
    pub zone: Option<TimeZone>,
    pub lateness_micros: i64,
    pub future: Option<Future>,
    pub currency: Option<String>,
    pub country: Option<String>,
    pub max_record_bytes: usize,
    /// Empty for Parquet without `[raw]`: the file says it.
    pub raw: Vec<RawField>,
    /// Fields that not every file has.
    pub optional: Vec<String>,
}

/// Front matter and SELECT of a feed file, with their places.
pub(crate) fn cut(file: &File, faults: &mut Diagnostics) -> Option<(Text, Text)> {
    let whole = Text::whole(file);
    let help = "begin the file with a line `---`, then the front matter, another line `---`, then the SELECT";
    let text = &whole.value;
    let start = text.len() - text.trim_start().len();
    let Some(rest) = text[start..].strip_prefix("---") else {
        faults.push(
            file.fault("D001", "the feed file has no front matter")
                .at(0..text.len().min(3), "here")
                .help(help),
        );
        return None;
    };
    let begin = start + 3;
    let Some(end) = rest.find("\n---") else {
        let fault = file.fault("D001", "the front matter is not closed");
        faults.push(fault.at(start..begin, "opened here").help(help));
        return None;
    };
    let front = whole.part(begin..begin + end + 1);
    let after = begin + end + 4;
    Some((front, whole.part(after.min(text.len())..text.len()).trimmed()))
}

/// Reads the front matter. The TOML is parsed with everything else blanked out, so that places stay right.
pub(crate) fn read(file: &File, front: &Text, faults: &mut Diagnostics) -> Option<Front> {
    let blank: String = file
        .text
        .char_indices()
        .flat_map(|(at, c)| {
            let keep = front.span.contains(&at) || c == '\n';
            let width = if keep { 1 } else { c.len_utf8() };
            std::iter::repeat_n(if keep { c } else { ' ' }, width)
        })
        .collect();
    let toml_file = File { path: file.path.clone(), text: blank.into() };
    let before = faults.0.len();
    let front = read_toml(&toml_file, faults);
    for fault in &mut faults.0[before..] {
        fault.source = file.text.clone();
    }
    if faults.0.len() > before { None } else { front }
}

fn read_toml(file: &File, faults: &mut Diagnostics) -> Option<Front> {
    let document = parse(file, faults)?;
    let mut fields = Fields::new(file, document.get_ref(), 0..0, "a feed");
    fields.needed("format", "\"jsonl\"", faults);
    let format = fields.word("format", &["jsonl", "json", "csv", "parquet"], faults);
    let format = match format.as_deref() {
        Some("json") => Format::Json,
        Some("csv") => Format::Csv,
        Some("parquet") => Format::Parquet,
        _ => Format::JsonLines,
    };
    let texts = |list: Vec<Text>| -> Vec<String> { list.into_iter().map(|t| t.value).collect() };
    let topics = texts(fields.texts("topics", None, faults));
    let paths = texts(fields.texts("paths", None, faults));
    let records = fields.text("records", faults).map_or(String::new(), |t| t.value);
    let delimiter = fields.text("delimiter", faults);
    let delimiter = match delimiter {
        Some(text) if text.value.len() == 1 => text.value.as_bytes()[0],
        Some(text) => {
            faults.push(
                text.fault("D002", "`delimiter` is one character", "here")
                    .help("for a tabulator write \"\\t\""),
            );
            b','
        }
        None => b',',
    };
    let header = fields.flag("header", faults).unwrap_or(true);
    let zone = fields.text("time_zone", faults).and_then(|text| match text.value.parse::<TimeZone>() {
        Ok(zone) => Some(zone),
        Err(_) => {
            let fault = text.fault("D002", format!("`{}` is no time zone", text.value), "unknown");
            let help = match nearest(&text.value, chrono_tz::TZ_VARIANTS.iter().map(|z| z.name())) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "write an IANA name such as Europe/Berlin".into(),
            };
            faults.push(fault.help(help));
            None
        }
    });
    let lateness_micros = match fields.text("lateness", faults) {
        Some(text) => manumit_rules::duration(&text, faults).unwrap_or(0),
        None => 0,
    };
    let future = fields.text("future", faults).map(|text| match text.value.trim() {
        "off" => Future::Off,
        _ => Future::Micros(manumit_rules::duration(&text, faults).unwrap_or(0)),
    });
    let currency = fields.text("currency", faults);
    if let Some(text) = currency.as_ref().filter(|text| currency::minor_units(&text.value).is_none()) {
        let fault = text.fault("D002", format!("`{}` is no ISO 4217 currency", text.value), "unknown");
        let near = nearest(&text.value, currency::codes());
        faults.push(
            fault.help(near.map_or("write for example EUR".into(), |n| format!("did you mean `{n}`?"))),
        );
    }
    let country = fields.text("country", faults);
    if let Some(text) =
        country.as_ref().filter(|t| t.value.len() != 2 || !t.value.bytes().all(|b| b.is_ascii_uppercase()))
    {
        let fault = text.fault("D002", format!("`{}` is no country code", text.value), "here");
        faults.push(fault.help("write two capital letters, such as DE (ISO 3166-1 alpha-2)"));
    }
    let max_record_bytes =
        fields.integer("max_record_bytes", faults).unwrap_or(1 << 20).clamp(16, 1 << 30) as usize;
    let raw =
        match fields.table("raw", faults) {
            Some((table, _)) => raw_fields(file, table, faults),
            None => {
                if format != Format::Parquet {
                    let fault = file.fault("D002", "a feed needs `[raw]`, the shape of its records");
                    faults.push(fault.help(
                        "add a block [raw] with a line for each field you use, such as `id = \"text\"`",
                    ));
                }
                Vec::new()
            }
        };
    let optional = fields.texts("optional", None, faults);
    for text in optional.iter().filter(|text| !raw.is_empty() && raw.iter().all(|f| f.name != text.value)) {
        let fault = text.fault(
            "D002",
            format!("`optional` names `{}`, which [raw] does not declare", text.value),
            "here",
        );
        let near = nearest(&text.value, raw.iter().map(|field| field.name.as_str()));
        faults.push(
            fault.help(near.map_or("name a field of [raw]".into(), |n| format!("did you mean `{n}`?"))),
        );
    }
    fields.finish(faults);
    Some(Front {
        format,
        records,
        delimiter,
        header,
        topics,
        paths,
        zone,
        lateness_micros,
        future,
        currency: currency.map(|t| t.value),
        country: country.map(|t| t.value),
        max_record_bytes,
        raw,
        optional: texts(optional),
    })
}

fn raw_fields(file: &File, table: &DeTable<'_>, faults: &mut Diagnostics) -> Vec<RawField> {
    let mut list = Vec::new();
    for (name, value) in items(table, file) {
        if let Some(data_type) = raw_type(file, value, faults) {
            list.push(RawField { name: name.value, data_type });
        }
    }
    list
}

fn raw_type(file: &File, value: &toml::Spanned<DeValue<'_>>, faults: &mut Diagnostics) -> Option<RawType> {
    match value.get_ref() {
        DeValue::String(word) => {
            let found = RawType::WORDS.iter().find(|(name, _)| name == word);
            if let Some((_, data_type)) = found {
                return Some(data_type.clone());
            }
            let words = RawType::WORDS.map(|(name, _)| name);
            let fault = file
                .fault("D003", format!("`{word}` is no type of a raw field"))
                .at(value.span(), "unknown type");
            let help = match nearest(word, words) {
                Some(near) => format!("did you mean `{near}`? The types are {}", words.join(", ")),
                None => format!("the types are {}", words.join(", ")),
            };
            faults.push(fault.help(help));
            None
        }
        DeValue::Table(table) => Some(RawType::Struct(raw_fields(file, table, faults))),
        DeValue::Array(list) if list.len() == 1 => {
            Some(RawType::List(Box::new(raw_type(file, list.iter().next()?, faults)?)))
        }
        _ => {
            let fault = file
                .fault("D003", "a raw field's type is a word, a table of fields, or a list with one type");
            faults.push(
                fault
                    .at(value.span(), "here")
                    .help("for example \"text\", { iban = \"text\" } or [\"text\"]"),
            );
            None
        }
    }
}
