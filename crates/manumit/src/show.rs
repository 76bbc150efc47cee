//! `manumit show`: alerts as people read and print them.
//!
//! ```text
//!  ALERTS.jsonl ─► a line an alert, its latest revision ─┬─► a table
//!                                                        ├─► one in words
//!                                                        └─► one, or all urgent ones, as a page
//! ```

mod page;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use manumit_model::Alert;
use manumit_model::alert::{Moment, Subject};
use serde::Deserialize;

pub use page::html;
pub use text::text;

/// What to show.
#[derive(Args, Debug)]
pub struct ShowArgs {
    /// Alerts as a run publishes them, JSON lines, or one alert as JSON; - for standard input
    #[arg(value_name = "ALERTS.jsonl")]
    alerts: PathBuf,
    /// Which one: its id, the beginning of its id, or its number in the table [default: a table of all]
    #[arg(value_name = "ALERT_ID|NUMBER")]
    which: Option<String>,
    /// Leave out of the table what is not urgent
    #[arg(long, conflicts_with = "which")]
    urgent: bool,
    /// Write one page to read or print instead: of the alert named, otherwise of all urgent ones
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// What the table tells of an alert; the rest is not kept, as files of years are long.
#[derive(Deserialize)]
struct Head {
    alert_id: String,
    revision: u32,
    typology: Named,
    subject: Subject,
    score: u32,
    urgent: bool,
    raised_at: Moment,
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

/// An alert with its latest revision, and the line where that stands.
struct Row {
    head: Head,
    line: u64,
}

/// Where alerts are read from, twice: once for the table, once for those that are shown.
enum Source {
    File(PathBuf),
    Bytes(Vec<u8>),
}

impl Source {
    fn open(&self) -> anyhow::Result<Box<dyn BufRead + '_>> {
        Ok(match self {
            Source::File(path) => {
                let file = std::fs::File::open(path);
                Box::new(std::io::BufReader::new(
                    file.with_context(|| format!("{} cannot be read", path.display()))?,
                ))
            }
            Source::Bytes(bytes) => Box::new(bytes.as_slice()),
        })
    }

    /// Gives each line that is not blank with its number, from 1, until `take` says that it has had enough.
    fn each(
        &self,
        name: &str,
        mut take: impl FnMut(u64, &[u8]) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let mut reader = self.open()?;
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let read = reader.read_until(b'\n', &mut line);
            if read.with_context(|| format!("{name} cannot be read"))? == 0 {
                break;
            }
            if !line.trim_ascii().is_empty() && !take(number, &line)? {
                break;
            }
        }
        Ok(())
    }
}

fn no_alert(name: &str, line: u64, error: &serde_json::Error) -> anyhow::Error {
    anyhow::anyhow!("{name}, line {line}: this is no alert as `manumit schema alert` describes it: {error}")
}

/// The alerts of a file in the order in which they were opened there, so that numbers stay as the file grows; and what is to
/// be told about its end.
fn rows(source: &Source, name: &str) -> anyhow::Result<(Vec<Row>, Option<String>)> {
    let mut rows: Vec<Row> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut end = None;
    source.each(name, |line, bytes| {
        let head: Head = match serde_json::from_slice(bytes) {
            Ok(head) => head,
            // A run that writes just now has not come to the end of it.
            Err(_) if !bytes.ends_with(b"\n") && !rows.is_empty() => {
                end = Some(format!("{name}, line {line}: not written to its end yet, and left out"));
                return Ok(false);
            }
            Err(error) => return Err(no_alert(name, line, &error)),
        };
        match places.get(&head.alert_id).and_then(|&place| rows.get_mut(place)) {
            Some(known) if known.head.revision <= head.revision => *known = Row { head, line },
            Some(_) => {}
            None => {
                places.insert(head.alert_id.clone(), rows.len());
                rows.push(Row { head, line });
            }
        }
        Ok(true)
    })?;
    Ok((rows, end))
}

/// Standard input, or a file; one document over several lines becomes a line.
fn source(path: &Path, name: &str) -> anyhow::Result<Source> {
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).context("standard input cannot be read")?;
        return Ok(one_line(&bytes).map_or(Source::Bytes(bytes), Source::Bytes));
    }
    let file = Source::File(path.to_path_buf());
    let mut several = false;
    file.each(name, |_, line| {
        several = line.trim_ascii() == b"{";
        Ok(false)
    })?;
    if several {
        let bytes = std::fs::read(path).with_context(|| format!("{name} cannot be read"))?;
        if let Some(line) = one_line(&bytes) {
            return Ok(Source::Bytes(line));
        }
    }
    Ok(file)
}

/// One alert that is written over several lines, as one line.
fn one_line(bytes: &[u8]) -> Option<Vec<u8>> {
    if !bytes.trim_ascii_start().starts_with(b"{\n") && !bytes.trim_ascii_start().starts_with(b"{\r\n") {
        return None;
    }
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    serde_json::to_vec(&value).ok()
}

/// The row that is meant: by id, by number, or by the beginning of an id.
fn find<'a>(rows: &'a [Row], which: &str, name: &str) -> anyhow::Result<&'a Row> {
    if let Some(row) = rows.iter().find(|row| row.head.alert_id == which) {
        return Ok(row);
    }
    // Beginnings of ids are eight letters or more, as in the table, and may be all digits.
    if which.len() < 8
        && let Ok(number) = which.parse::<usize>()
    {
        let row = number.checked_sub(1).and_then(|place| rows.get(place));
        return row.with_context(|| {
            format!("there is no alert number {number}: {name} has {} alerts, numbered from 1", rows.len())
        });
    }
    let begins: Vec<&Row> = rows.iter().filter(|row| row.head.alert_id.starts_with(which)).collect();
    match begins[..] {
        [row] if which.len() >= 8 => Ok(row),
        [_, _, ..] if which.len() >= 8 => {
            bail!("{} alerts of {name} have an id that begins with `{which}`; give more of it", begins.len())
        }
        _ => bail!(
            "no alert of {name} has the id `{}`; `manumit show {name}` lists them, and an id may be cut to its first eight letters",
            text::plain(which)
        ),
    }
}

/// The first letters of ids that tell all of them apart, eight or more.
fn length_of_ids(rows: &[Row]) -> usize {
    let apart = |length: &usize| {
        let mut seen = BTreeSet::new();
        rows.iter().all(|row| seen.insert(row.head.alert_id.chars().take(*length).collect::<String>()))
    };
    (8..36).find(apart).unwrap_or(36)
}

fn table(rows: &[Row], only_urgent: bool) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["number", "alert", "revision", "raised", "urgent", "typology", "subject", "score"]);
    for column in [0, 2, 7] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let length = length_of_ids(rows);
    for (place, Row { head, .. }) in
        rows.iter().enumerate().filter(|(_, row)| row.head.urgent || !only_urgent)
    {
        let id: String = head.alert_id.chars().take(length).collect();
        table.add_row([
            (place + 1).to_string(),
            text::plain(&id),
            head.revision.to_string(),
            text::time(&head.raised_at),
            if head.urgent { "urgent" } else { "" }.to_string(),
            text::plain(&head.typology.id),
            text::plain(&format!("{} {}", head.subject.kind, head.subject.key)),
            head.score.to_string(),
        ]);
    }
    table
}

/// The alerts at these lines, whole.
fn whole(source: &Source, name: &str, rows: &[&Row]) -> anyhow::Result<Vec<Alert>> {
    let mut places: BTreeMap<u64, usize> =
        rows.iter().enumerate().map(|(place, row)| (row.line, place)).collect();
    let mut found: BTreeMap<usize, Alert> = BTreeMap::new();
    source.each(name, |line, bytes| {
        if let Some(place) = places.remove(&line) {
            found.insert(place, serde_json::from_slice(bytes).map_err(|error| no_alert(name, line, &error))?);
        }
        Ok(!places.is_empty())
    })?;
    Ok(found.into_values().collect())
}

/// A table of the alerts, one of them in words, or a page that is written; what to print.
///
/// # Errors
/// When the file cannot be read or the page not be written, a line is no alert, or the one asked for is not there.
pub fn show(args: &ShowArgs) -> anyhow::Result<String> {
    let name = if args.alerts == Path::new("-") {
        "standard input".into()
    } else {
        args.alerts.display().to_string()
    };
    let source = source(&args.alerts, &name)?;
    let (rows, end) = rows(&source, &name)?;
    let chosen = args.which.as_deref().map(|which| find(&rows, which, &name)).transpose()?;
    let urgent = rows.iter().filter(|row| row.head.urgent).count();
    let mut out = match (&args.html, chosen) {
        (None, Some(row)) => {
            let alerts = whole(&source, &name, &[row])?;
            alerts.iter().map(|alert| text(alert, usize::MAX)).collect::<Vec<_>>().join("\n")
        }
        (None, None) if rows.is_empty() => format!("{name} holds no alerts"),
        (None, None) => format!(
            "{}\n\n{} alerts, {urgent} of them urgent. `manumit show {name} NUMBER` shows one in full; with `--html FILE` it becomes a page to print.",
            table(&rows, args.urgent),
            rows.len()
        ),
        (Some(path), chosen) => {
            let shown: Vec<&Row> = match chosen {
                Some(row) => vec![row],
                None => rows.iter().filter(|row| row.head.urgent).collect(),
            };
            if shown.is_empty() {
                bail!(
                    "none of the {} alerts of {name} is urgent; name the one to write: manumit show {name} NUMBER --html {}",
                    rows.len(),
                    path.display()
                );
            }
            let same = |path: &Path| std::fs::canonicalize(path).ok();
            if same(path).is_some_and(|to| Some(to) == same(&args.alerts)) {
                bail!(
                    "--html {}: these are the alerts themselves; give the page another name",
                    path.display()
                );
            }
            let page = html(&whole(&source, &name, &shown)?)?;
            std::fs::write(path, page).with_context(|| format!("{} cannot be written", path.display()))?;
            let what = match (chosen, shown.len()) {
                (Some(row), _) => format!("alert {}", text::plain(&row.head.alert_id)),
                (None, count) => format!("{count} urgent alerts of {}", rows.len()),
            };
            format!("{what}: {}", path.display())
        }
    };
    if let Some(end) = end {
        out = format!("{}\n{end}", out.trim_end());
    }
    Ok(out.trim_end().to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn moment(day: u32) -> Value {
        json!({"utc": format!("2026-01-{day:02}T12:35:00Z"), "local": format!("2026-01-{day:02}T13:35:00+01:00")})
    }

    /// An alert whose feed sends what a page and a terminal must not take at its word.
    fn alert(id: &str, revision: u32, urgent: bool) -> Value {
        json!({
            "format": "manumit.alert/1", "alert_id": id, "revision": revision,
            "change": if revision == 1 { "opened" } else { "revised" },
            "typology": {"id": "wage-sweep", "version": 2, "title": "Wages <b>taken</b>", "status": "stable", "severity": "high", "exploitation": ["labour"]},
            "rule_set_hash": "7b4bff68d12933d01aa5", "subject": {"kind": "account", "key": "MANU1"},
            "score": 80 + revision, "score_lines": {"alert_at": 70, "urgent_at": 90}, "urgent": urgent,
            "raised_at": moment(20 + revision), "opened_at": moment(20), "window": {"from": moment(7), "to": moment(21)},
            "explanation": "What was seen.",
            "indicators": [{
                "id": "swept", "version": 1, "title": "Wage passed on", "part": "gate", "points": 80, "hit_at": moment(20), "hits": 3, "days": 2,
                "explanation": "most of the wage went", "references": ["UK-MSHT-01"], "tx_ids": ["T1"],
                "measured": [
                    {"name": "wage", "value": "462.78 EUR", "comparison": ">=", "threshold": "300.00 EUR", "unit": "base currency", "source": "judgement", "condition": "w >= 300"},
                    {"name": "payments", "value": "3", "comparison": ">=", "threshold": "2", "unit": "payments", "source": "FATF-2018-08", "condition": "p >= 2"},
                ],
            }],
            "transactions": [{
                "tx_id": "T1", "at": moment(7), "direction": "out", "amount": "402.61", "currency": "EUR", "amount_base": "402.61", "indicators": ["swept"],
                "fields": {"debtor_account": "MANU1", "debtor_name": "Ioana <script>alert(1)</script>", "creditor_account": "MANU2", "memo": "rent\u{1b}[31m\u{202e}evil", "source": "bank.jsonl"},
            }],
            "transactions_omitted": 4,
            "parties": [
                {"kind": "account", "key": "MANU1", "name": "Ioana", "role_hypothesis": "possible_victim", "transactions": 1},
                {"kind": "account", "key": "MANU2", "role_hypothesis": "possible_controller", "transactions": 1},
            ],
            "exclusions_checked": [{"exclusion": "a family account", "result": "did_not_apply"}],
            "data_gaps": ["no ages are known"], "innocent_explanations": ["a loan is paid back"], "baseline": [],
            "fiu_keywords": [{"fiu": "US", "keyword": "FIN-2020-HT", "place": "field 2"}],
            "tlp": "TLP:AMBER", "suppressed": {"since_last_revision": 0, "since_opened": 7},
        })
    }

    const FIRST: &str = "11111111-0000-0000-0000-000000000000";
    const SECOND: &str = "22222222-0000-0000-0000-000000000000";

    /// What is shown of a file with these lines, the number or id, and the page.
    fn shown(lines: &str, which: Option<&str>, page: bool) -> (anyhow::Result<String>, Option<String>) {
        let folder = tempfile::tempdir().unwrap();
        let alerts = folder.path().join("alerts.jsonl");
        std::fs::write(&alerts, lines).unwrap();
        let html = folder.path().join("page.html");
        let told = show(&ShowArgs {
            alerts,
            which: which.map(String::from),
            urgent: false,
            html: page.then(|| html.clone()),
        });
        (told, std::fs::read_to_string(html).ok())
    }

    fn file() -> String {
        let lines =
            [alert(FIRST, 1, false), alert(SECOND, 1, true), alert(FIRST, 2, true), alert(SECOND, 1, false)];
        lines.map(|line| format!("{line}\n")).concat()
    }

    #[test]
    fn the_table_has_a_line_an_alert_with_its_latest_revision_in_the_order_opened() {
        let told = shown(&file(), None, false).0.unwrap();
        let rows: Vec<String> =
            told.lines().take(3).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            rows,
            [
                "number alert revision raised urgent typology subject score",
                "1 11111111 2 2026-01-22 13:35 +01:00 urgent wage-sweep account MANU1 82",
                "2 22222222 1 2026-01-21 13:35 +01:00 wage-sweep account MANU1 81",
            ]
        );
        assert!(told.contains("2 alerts, 1 of them urgent."), "{told}");
    }

    #[test]
    fn an_alert_is_found_by_number_by_id_and_by_the_beginning_of_its_id() {
        for which in ["1", FIRST, "11111111-0"] {
            let told = shown(&file(), Some(which), false).0.unwrap();
            assert!(told.starts_with(&format!("ALERT {FIRST} (revision 2), URGENT  TLP:AMBER")), "{told}");
        }
        for (which, said) in [
            ("3", "there is no alert number 3: "),
            ("0", "there is no alert number 0: "),
            ("99999999", "has the id `99999999`"),
            ("1111", "there is no alert number 1111"),
            ("", "has the id ``"),
        ] {
            let told = shown(&file(), Some(which), false).0.unwrap_err().to_string();
            assert!(told.contains(said), "{which}: {told}");
        }
        let twins = [alert("11111111-a", 1, true), alert("11111111-b", 1, true)]
            .map(|line| format!("{line}\n"))
            .concat();
        let told = shown(&twins, Some("11111111"), false).0.unwrap_err().to_string();
        assert!(told.starts_with("2 alerts of") && told.ends_with("give more of it"), "{told}");
        assert!(shown(&twins, None, false).0.unwrap().contains("11111111-a"), "the table tells them apart");
    }

    #[test]
    fn in_words_an_alert_says_who_why_against_which_threshold_of_which_source_and_what_it_is_not() {
        let told = shown(&file(), Some("2"), false).0.unwrap();
        for wanted in [
            "possible victim        MANU1, Ioana, 1 transactions",
            "    wage: 462.78 EUR >= 300.00 EUR  (source: judgement)",
            "    payments: 3 >= 2 payments  (source: FATF-2018-08)",
            "2026-01-07 13:35 +01:00",
            "exclusion «a family account»: did not apply",
            "data gap: no ages are known",
            "keyword for US: FIN-2020-HT (field 2)",
            "and 4 more transactions",
            "not a finding",
        ] {
            assert!(told.contains(wanted), "{wanted}\n{told}");
        }
        assert!(
            !told.contains('\u{1b}') && !told.contains('\u{202e}'),
            "a memo does not reach the terminal as it is"
        );
    }

    #[test]
    fn the_page_holds_the_whole_alert_escapes_it_and_loads_and_runs_nothing() {
        let (told, page) = shown(&file(), Some("2"), true);
        assert!(told.unwrap().starts_with(&format!("alert {SECOND}: ")));
        let page = page.unwrap();
        for wanted in [
            "Wages &lt;b&gt;taken&lt;&#x2f;b&gt;",
            "<td class=\"victim\">possible victim</td>",
            "<td class=\"n\">≥ 300.00 EUR</td><td>judgement</td>",
            "<td class=\"n\">3 payments</td>",
            "<td class=\"t\">2026-01-07 13:35 +01:00</td>",
            "a family account: <b>did not apply</b>",
            "no ages are known",
            "a loan is paid back",
            "US: <b>FIN-2020-HT</b> (field 2)",
            "4 more transactions of the evidence",
            "not a finding",
            "TLP:AMBER",
            "@media print",
        ] {
            assert!(page.contains(wanted), "{wanted}\n{page}");
        }
        for absent in ["<script", "<b>taken", "src=", "http", "bank.jsonl", "\u{202e}"] {
            assert!(!page.contains(absent), "{absent}\n{page}");
        }
        assert_eq!(page.matches("<tr>").count(), page.matches("</tr>").count());
    }

    #[test]
    fn a_page_without_a_name_holds_all_urgent_alerts_and_is_refused_when_there_are_none() {
        let all = [alert(FIRST, 1, true), alert(SECOND, 1, true), alert("33333333", 1, false)];
        let (told, page) = shown(&all.map(|line| format!("{line}\n")).concat(), None, true);
        assert!(told.unwrap().starts_with("2 urgent alerts of 3: "));
        let page = page.unwrap();
        assert_eq!(page.matches("<article").count(), 2);
        assert!(!page.contains("33333333"), "{page}");
        let (told, page) = shown(&format!("{}\n", alert(FIRST, 1, false)), None, true);
        assert!(told.unwrap_err().to_string().starts_with("none of the 1 alerts of"), "and the mend");
        assert!(page.is_none());
    }

    #[test]
    fn a_line_that_is_no_alert_is_named_and_one_that_is_being_written_is_left_out() {
        let told = shown(&format!("{}\n{{\"a\":1}}\n", alert(FIRST, 1, true)), None, false).0.unwrap_err();
        assert!(told.to_string().contains("alerts.jsonl, line 2: this is no alert"), "{told}");
        let cut = alert(SECOND, 1, true).to_string();
        let told = shown(&format!("{}\n{}", alert(FIRST, 1, true), &cut[..100]), None, false).0.unwrap();
        assert!(told.contains("1 alerts, 1 of them urgent"), "{told}");
        assert!(told.ends_with("line 2: not written to its end yet, and left out"), "{told}");
    }

    #[test]
    fn one_alert_over_several_lines_is_read_too_and_an_empty_file_says_so() {
        let pretty = serde_json::to_string_pretty(&alert(FIRST, 1, true)).unwrap();
        assert!(shown(&pretty, Some("1"), false).0.unwrap().starts_with("ALERT 11111111-0"));
        assert!(shown("\n", None, false).0.unwrap().ends_with("holds no alerts"));
    }

    #[test]
    fn the_page_never_takes_the_place_of_the_alerts() {
        let folder = tempfile::tempdir().unwrap();
        let alerts = folder.path().join("alerts.jsonl");
        std::fs::write(&alerts, file()).unwrap();
        let args =
            ShowArgs { alerts: alerts.clone(), which: None, urgent: false, html: Some(alerts.clone()) };
        assert!(show(&args).unwrap_err().to_string().contains("the alerts themselves"));
        assert_eq!(std::fs::read_to_string(&alerts).unwrap(), file());
    }
}
