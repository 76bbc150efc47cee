//! The catalogue of published red flags, `rules/red_flags.csv`: what indicators and typologies refer to, and why some are not covered.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use manumit_model::{Diagnostics, nearest};

use crate::document::File;
use crate::ir::{Metadata, RuleSet};
use crate::metadata;
use crate::sources::Sources;

/// Where the catalogue stands in a project.
pub const FILE: &str = "rules/red_flags.csv";

/// Columns that the first line must name.
const COLUMNS: [&str; 10] = [
    "id",
    "publication",
    "jurisdiction",
    "year",
    "url",
    "exploitation",
    "category",
    "red_flag",
    "data",
    "not_covered",
];

/// The column that may be left out.
const BASIS: &str = "basis";

/// What a red flag is seen in.
pub const CATEGORIES: [&str; 5] = ["transactional", "network", "behavioural", "textual", "kyc"];

/// What the description was written from.
pub const BASES: [&str; 4] = ["official text", "reproduction", "summary", "not read"];

/// Kinds of exploitation that publications write about: those of rules, and trafficking for organs, about which no rule is.
pub fn exploitation() -> Vec<&'static str> {
    metadata::EXPLOITATION.into_iter().chain(["organ"]).collect()
}

/// One published red flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedFlag {
    /// What `references` of rules cite.
    pub id: String,
    /// The publication it stands in.
    pub publication: String,
    /// Whose publication: a country (ISO 3166), `EU` or `INTL`.
    pub jurisdiction: String,
    /// Year of publication.
    pub year: u16,
    /// Where it can be read.
    pub url: String,
    /// One of [`exploitation`].
    pub exploitation: String,
    /// One of [`CATEGORIES`].
    pub category: String,
    /// What it says, in our words.
    pub red_flag: String,
    /// What a rule about it would have to know.
    pub data: Vec<String>,
    /// Why no rule covers it: `kind: reason`. It means nothing where a rule does.
    pub not_covered: Option<String>,
    /// One of [`BASES`], or empty.
    pub basis: String,
    /// Line of the file, from 1.
    pub line: usize,
}

/// All published red flags that the project knows, in the file's order.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    /// The red flags.
    pub flags: Vec<RedFlag>,
    lines: BTreeMap<String, usize>,
}

/// A reference that is no id of the catalogue and looks like one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slip {
    /// File of the rule.
    pub file: String,
    /// Its line, from 1.
    pub line: usize,
    /// What stands there.
    pub reference: String,
    /// The id it looks like.
    pub near: String,
}

impl std::fmt::Display for Slip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Slip { file, line, reference, near } = self;
        write!(f, "{file}:{line}: the reference `{reference}` is not in {FILE}; did you mean `{near}`?")
    }
}

impl Catalogue {
    /// Reads the catalogue; `None` where the project has none.
    ///
    /// # Errors
    /// All faults of the file, by line, with the field and the mend.
    pub fn read(sources: &Sources) -> Result<Option<Catalogue>, Diagnostics> {
        let path = Path::new(FILE);
        let Some(text) = sources.get(path) else { return Ok(None) };
        let file = File { path: path.to_path_buf(), text: text.clone() };
        let mut faults = Diagnostics::default();
        let catalogue = read(&file, &mut faults);
        if faults.is_empty() { Ok(Some(catalogue)) } else { Err(faults) }
    }

    /// The red flag of this id.
    pub fn get(&self, id: &str) -> Option<&RedFlag> {
        self.lines.get(id).and_then(|&at| self.flags.get(at))
    }

    /// The id that `reference` was likely meant to be, when it is none itself. Citations in words are nobody's slip: only what is
    /// written like an id, and differs from one in two letters at most, is told.
    pub fn near_miss(&self, reference: &str) -> Option<&str> {
        if self.get(reference).is_some() || reference.contains(char::is_whitespace) {
            return None;
        }
        let upper = reference.to_uppercase();
        let near = self.flags.iter().filter_map(|flag| {
            let distance = strsim::damerau_levenshtein(&upper, &flag.id.to_uppercase());
            (distance <= 2).then_some((distance, flag.id.as_str()))
        });
        near.min().map(|(_, id)| id)
    }

    /// References of rules that were likely meant to be ids of the catalogue, by file and line.
    pub fn slips(&self, rules: &RuleSet, sources: &Sources) -> Vec<Slip> {
        let metas = rules.indicators.iter().map(|i| &i.meta).chain(rules.typologies.iter().map(|t| &t.meta));
        let mut slips: Vec<Slip> = metas
            .flat_map(|meta| meta.references.iter().map(move |reference| (meta, reference)))
            .filter_map(|(meta, reference)| {
                let near = self.near_miss(reference)?.to_string();
                let (file, line) = place(meta, reference, sources);
                Some(Slip { file, line, reference: reference.clone(), near })
            })
            .collect();
        slips.sort();
        // The gate that a query beside a typology is carries the typology's references again.
        slips.dedup();
        slips
    }
}

/// The file and line where a rule names a reference. What a query says of itself may stand in the file beside it.
fn place(meta: &Metadata, reference: &str, sources: &Sources) -> (String, usize) {
    let quoted = format!("\"{reference}\"");
    let beside = ["indicator.toml", "typology.toml"].map(|name| meta.file.with_file_name(name));
    for path in [meta.file.clone()].into_iter().chain(beside) {
        if let Some(text) = sources.get(&path)
            && let Some(at) = text.find(&quoted)
        {
            let line = text.get(..at).map_or(0, |before| before.matches('\n').count()) + 1;
            return (shown(&path), line);
        }
    }
    (shown(&meta.file), 1)
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().replace('\\', "/")
}

/// A field of a line: what it says, and its bytes in the file.
struct Field {
    value: String,
    span: Range<usize>,
}

/// Fields of a line that begins at byte `start`; `None` when a double quote is not closed. A field between double quotes may hold
/// commas, and `""` for a quote.
fn fields(line: &str, start: usize) -> Option<Vec<Field>> {
    let mut out = Vec::new();
    let (mut value, mut begin, mut quoted) = (String::new(), 0, false);
    let mut letters = line.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' if quoted && letters.peek().is_some_and(|(_, next)| *next == '"') => {
                letters.next();
                value.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => {
                out.push(Field { value: value.trim().to_string(), span: start + begin..start + at });
                value.clear();
                begin = at + 1;
            }
            other => value.push(other),
        }
    }
    out.push(Field { value: value.trim().to_string(), span: start + begin..start + line.len() });
    (!quoted).then_some(out)
}

fn read(file: &File, faults: &mut Diagnostics) -> Catalogue {
    let mut catalogue = Catalogue::default();
    let mut header: Option<Vec<String>> = None;
    let mut start = 0;
    for (number, whole) in file.text.split_inclusive('\n').enumerate() {
        let line = whole.trim_end_matches(['\n', '\r']);
        let (begin, span) = (start, start..start + line.len());
        start += whole.len();
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let Some(fields) = fields(line, begin) else {
            let fault = file.fault("R028", "a text between double quotes has no end").at(span, "this line");
            faults.push(fault.help("close it with \" on the same line; write \"\" for a quote within it"));
            continue;
        };
        let Some(names) = &header else {
            header = names_of(file, fields, span, faults);
            if header.is_none() {
                return catalogue;
            }
            continue;
        };
        if fields.len() != names.len() {
            let message =
                format!("{} fields stand here, but the first line names {}", fields.len(), names.len());
            let fault = file.fault("R028", message).at(span, "this line");
            faults.push(
                fault.help("put a text with a comma between double quotes, and leave no field out: nothing between two commas is an empty one"),
            );
            continue;
        }
        let line = Line {
            file,
            fields: names.iter().map(String::as_str).zip(fields).collect(),
            span,
            number: number + 1,
        };
        let Some(flag) = line.flag(faults) else { continue };
        if let Some(&first) = catalogue.lines.get(&flag.id) {
            let first = catalogue.flags.get(first).map_or(0, |flag| flag.line);
            let message = format!("the red flag `{}` stands in line {first} already", flag.id);
            faults.push(line.fault("id", message).help("leave one of the lines out, or mend its id"));
            continue;
        }
        catalogue.lines.insert(flag.id.clone(), catalogue.flags.len());
        catalogue.flags.push(flag);
    }
    if header.is_none() && faults.is_empty() {
        let fault = file.fault("R028", "the catalogue is empty");
        faults.push(fault.help(format!("its first line must be `{},{BASIS}`", COLUMNS.join(","))));
    }
    catalogue
}

/// The names of the first line, when they are those of a catalogue.
fn names_of(
    file: &File,
    fields: Vec<Field>,
    span: Range<usize>,
    faults: &mut Diagnostics,
) -> Option<Vec<String>> {
    let known = || COLUMNS.into_iter().chain([BASIS]);
    let before = faults.0.len();
    for (at, field) in fields.iter().enumerate() {
        let twice = fields.iter().take(at).any(|other| other.value == field.value);
        if known().any(|name| name == field.value) && !twice {
            continue;
        }
        let message = if twice {
            format!("the column `{}` is named twice", field.value)
        } else {
            format!("`{}` is no column of the catalogue", field.value)
        };
        let fault = file.fault("R028", message).at(field.span.clone(), "here");
        let help = match nearest(&field.value, known()) {
            Some(near) if !twice => format!("did you mean `{near}`?"),
            _ => format!("the columns are {}", known().collect::<Vec<_>>().join(", ")),
        };
        faults.push(fault.help(help));
    }
    for name in COLUMNS {
        if !fields.iter().any(|field| field.value == name) {
            let fault = file.fault("R028", format!("the first line names no column `{name}`"));
            let fault = fault.at(span.clone(), "the names of the columns");
            faults.push(fault.help(format!("write `{},{BASIS}`", COLUMNS.join(","))));
        }
    }
    (faults.0.len() == before).then(|| fields.into_iter().map(|field| field.value).collect())
}

/// One line, its fields by the column's name.
struct Line<'a> {
    file: &'a File,
    fields: BTreeMap<&'a str, Field>,
    span: Range<usize>,
    number: usize,
}

impl Line<'_> {
    fn get(&self, column: &str) -> &str {
        self.fields.get(column).map_or("", |field| field.value.as_str())
    }

    fn fault(&self, column: &str, message: String) -> manumit_model::Diagnostic {
        let span = self.fields.get(column).map_or(self.span.clone(), |field| field.span.clone());
        let empty = span.is_empty();
        let span = if empty { self.span.clone() } else { span };
        let label = if empty { format!("`{column}` of this line") } else { format!("`{column}`") };
        self.file.fault("R028", message).at(span, label)
    }

    fn word(&self, column: &str, words: &[&str], faults: &mut Diagnostics) -> String {
        let value = self.get(column);
        if !words.contains(&value) {
            let fault = self.fault(column, format!("`{column}` is `{value}`"));
            faults.push(match nearest(value, words.iter().copied()) {
                Some(near) if !value.is_empty() => fault.help(format!("did you mean `{near}`?")),
                _ => fault.help(format!("write one of: {}", words.join(", "))),
            });
        }
        value.to_string()
    }

    /// The red flag of this line; faults are told, and `None` given where there are any.
    fn flag(&self, faults: &mut Diagnostics) -> Option<RedFlag> {
        let before = faults.0.len();
        for (column, mend) in [
            ("publication", "name the publication that it stands in"),
            ("jurisdiction", "write whose publication it is: a country such as CA, or EU or INTL"),
            ("red_flag", "say what it is, in a sentence"),
        ] {
            if self.get(column).is_empty() {
                faults.push(self.fault(column, format!("`{column}` is empty")).help(mend));
            }
        }
        let id = self.get("id");
        let sound = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '.';
        if id.is_empty() || !id.chars().all(sound) {
            let fault = self.fault("id", format!("`id` is `{id}`"));
            faults.push(
                fault.help("write letters, digits and hyphens only, such as FINTRAC-2021-28: rules cite it"),
            );
        }
        let year = self.get("year").parse::<u16>().ok().filter(|year| (1900..=2200).contains(year));
        if year.is_none() {
            let fault = self.fault("year", format!("`year` is `{}`", self.get("year")));
            faults.push(fault.help("write the year of publication, such as 2021"));
        }
        let url = self.get("url");
        if !url.starts_with("https://") && !url.starts_with("http://") {
            let fault = self.fault("url", format!("`url` is `{url}`"));
            faults.push(fault.help("write the whole address where it can be read, beginning with https://"));
        }
        let exploitation = self.word("exploitation", &exploitation(), faults);
        let category = self.word("category", &CATEGORIES, faults);
        let basis = match self.get(BASIS) {
            "" => String::new(),
            _ => self.word(BASIS, &BASES, faults),
        };
        let not_covered = Some(self.get("not_covered")).filter(|reason| !reason.is_empty());
        if let Some(reason) = not_covered
            && !reason
                .split_once(": ")
                .is_some_and(|(kind, why)| !kind.trim().is_empty() && !why.trim().is_empty())
        {
            let fault =
                self.fault("not_covered", format!("`not_covered` is `{reason}`, which gives no reason"));
            faults.push(fault.help(
                "write a kind, a colon and why, such as `seen by staff only: comes as a staff observation, not in transactions`; \
                 leave it empty where a rule covers it",
            ));
        }
        let texts = |column: &str| {
            let texts = self.get(column).split(';').map(str::trim).filter(|text| !text.is_empty());
            texts.map(String::from).collect()
        };
        let flag = RedFlag {
            id: id.to_string(),
            publication: self.get("publication").to_string(),
            jurisdiction: self.get("jurisdiction").to_string(),
            year: year.unwrap_or_default(),
            url: url.to_string(),
            exploitation,
            category,
            red_flag: self.get("red_flag").to_string(),
            data: texts("data"),
            not_covered: not_covered.map(String::from),
            basis,
            line: self.number,
        };
        (faults.0.len() == before).then_some(flag)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const HEADER: &str =
        "id,publication,jurisdiction,year,url,exploitation,category,red_flag,data,not_covered";
    const LINE: &str = "A-2021-01,Alert,CA,2021,https://fiu.example/alert,sexual,transactional,\"Cash, at night\",time;cash,";

    fn read(text: &str) -> Result<Option<Catalogue>, String> {
        let sources = Sources::from_files([(PathBuf::from(FILE), text.to_string())]);
        Catalogue::read(&sources).map_err(|faults| faults.to_string())
    }

    fn refused(text: &str) -> String {
        match read(text) {
            Ok(_) => panic!("{text} was taken"),
            Err(told) => told,
        }
    }

    #[test]
    fn a_project_without_a_catalogue_has_none() {
        assert!(Catalogue::read(&Sources::default()).unwrap().is_none());
    }

    #[test]
    fn a_line_is_read_field_by_field_and_remarks_are_passed_over() {
        let text = format!("# whose\n{HEADER},basis\n\n{LINE},official text\r\n");
        let catalogue = read(&text).unwrap().unwrap();
        let flag = catalogue.get("A-2021-01").unwrap();
        assert_eq!((flag.red_flag.as_str(), flag.year, flag.line), ("Cash, at night", 2021, 4));
        assert_eq!(flag.data, ["time", "cash"]);
        assert_eq!((flag.not_covered.as_deref(), flag.basis.as_str()), (None, "official text"));
    }

    #[test]
    fn columns_may_stand_in_any_order() {
        let text = "not_covered,data,red_flag,category,exploitation,url,year,jurisdiction,publication,id\n\
                    seen by staff only: no data,,Fear,behavioural,any,https://a.example/,2020,US,Advice,B-1\n";
        let catalogue = read(text).unwrap().unwrap();
        assert_eq!(catalogue.get("B-1").unwrap().not_covered.as_deref(), Some("seen by staff only: no data"));
    }

    #[test]
    fn each_fault_names_line_field_value_and_mend() {
        for (from, to, told, mend) in [
            ("2021,", "soon,", "`year` is `soon`", "such as 2021"),
            ("https://", "ftp://", "`url` is `ftp://fiu.example/alert`", "beginning with https://"),
            (",sexual,", ",sexaul,", "`exploitation` is `sexaul`", "did you mean `sexual`?"),
            (",transactional,", ",,", "`category` is ``", "write one of: transactional"),
            ("\"Cash, at night\"", "", "`red_flag` is empty", "say what it is"),
            ("A-2021-01", "A 2021", "`id` is `A 2021`", "letters, digits and hyphens"),
            ("\"Cash, at night\"", "Cash, at night", "11 fields stand here", "between double quotes"),
            ("night\"", "night", "has no end", "close it"),
            ("time;cash,", "time;cash,impossible", "gives no reason", "a colon and why"),
        ] {
            let line = LINE.replacen(from, to, 1);
            assert_ne!(line, LINE, "{from}");
            let text = refused(&format!("{HEADER}\n{line}\n"));
            assert!(text.contains(told) && text.contains(mend), "{from} -> {to}\n{text}");
            assert!(text.contains("rules/red_flags.csv:2:"), "{text}");
        }
    }

    #[test]
    fn a_first_line_without_a_column_or_with_an_unknown_one_is_refused() {
        let text = refused(&HEADER.replace("red_flag", "redflag"));
        assert!(
            text.contains("did you mean `red_flag`?") && text.contains("names no column `red_flag`"),
            "{text}"
        );
        assert!(refused("# nothing\n").contains("the catalogue is empty"));
    }

    #[test]
    fn an_id_is_there_once() {
        let text = refused(&format!("{HEADER}\n{LINE}\n{LINE}\n"));
        assert!(
            text.contains("stands in line 2 already") && text.contains("rules/red_flags.csv:3:1"),
            "{text}"
        );
    }

    #[test]
    fn a_slip_in_an_id_is_told_and_a_citation_is_not() {
        let catalogue = read(&format!("{HEADER}\n{LINE}\n")).unwrap().unwrap();
        assert_eq!(catalogue.near_miss("A-2021-01"), None);
        assert_eq!(catalogue.near_miss("A-2021-10"), Some("A-2021-01"));
        assert_eq!(catalogue.near_miss("a-2021-01"), Some("A-2021-01"));
        assert_eq!(catalogue.near_miss("A-2021-OA0017"), None);
        assert_eq!(catalogue.near_miss("A 2021 1"), None);
    }
}
