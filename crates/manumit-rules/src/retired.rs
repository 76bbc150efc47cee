//! Rules that run no more: their files stay, so that their ids are not given to others and whoever asks is told why.

use std::path::PathBuf;

use chrono::NaiveDate;
use manumit_model::{Diagnostics, nearest};
use serde::{Serialize, Serializer};
use toml::de::DeValue;

use crate::document::{Fields, File, Text};
use crate::ir::{Metadata, RuleSet};

/// The word of `status`.
pub(crate) const STATUS: &str = "retired";

/// A rule that runs no more. Of its file only what it says about itself is read, and the block `[retired]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Retired {
    /// `indicator` or `typology`.
    pub kind: &'static str,
    /// Its id, which no other rule may take.
    pub id: String,
    /// Its last version.
    pub version: u32,
    /// One line.
    pub title: String,
    /// Since when it does not run, as its file says.
    #[serde(serialize_with = "shown")]
    pub on: NaiveDate,
    /// Why.
    pub because: String,
    /// The id of the rule that does its work now.
    pub replaced_by: Option<String>,
    /// The file it was read from.
    #[serde(skip)]
    pub file: PathBuf,
}

fn shown<S: Serializer>(date: &NaiveDate, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(date)
}

impl Retired {
    /// In a sentence without its full stop, for those who ask for it.
    pub fn words(&self) -> String {
        let Retired { kind, id, on, because, replaced_by, .. } = self;
        let next = replaced_by.as_ref().map_or(String::new(), |id| format!("; `{id}` takes its place"));
        format!("the {kind} `{id}` was retired on {on}: {because}{next}")
    }
}

impl RuleSet {
    /// Why no rule of this id runs: it was retired, or it is none, with the nearest that there is.
    pub fn absent(&self, id: &str) -> String {
        if let Some(retired) = self.retired.iter().find(|retired| retired.id == id) {
            return retired.words();
        }
        let ids = self.typologies.iter().map(|t| t.meta.id.as_str());
        match nearest(id, ids.chain(self.indicators.iter().map(|i| i.meta.id.as_str()))) {
            Some(near) => format!("there is no typology or indicator `{id}`; did you mean `{near}`?"),
            None => format!("there is no typology or indicator `{id}`; `manumit explain` lists them all"),
        }
    }
}

/// A retired rule, and where it says which rule takes its place.
pub(crate) struct Read {
    pub rule: Retired,
    replaced_by: Option<Text>,
}

/// Reads the block `[retired]` of a rule whose status says that it is; `None`: it runs.
pub(crate) fn read(
    fields: &mut Fields<'_>,
    kind: &'static str,
    meta: &Metadata,
    faults: &mut Diagnostics,
) -> Option<Read> {
    let block = fields.table("retired", faults);
    let file = fields.file;
    if meta.status != STATUS {
        if let Some((_, span)) = block {
            let fault = file.fault("R029", "a rule with a block [retired] runs on");
            let fault = fault.at(span, format!("but `status` is \"{}\"", meta.status));
            faults.push(fault.help("write status = \"retired\", or delete this block"));
        }
        return None;
    }
    let Metadata { id, version, title, .. } = meta.clone();
    let mut rule = Retired {
        kind,
        id,
        version,
        title,
        on: NaiveDate::default(),
        because: String::new(),
        replaced_by: None,
        file: meta.file.clone(),
    };
    let Some((table, span)) = block else {
        let fault = file.fault("R029", "a retired rule says since when, and why");
        faults.push(fault.help(
            "add at the end of the file: [retired] with on = 2026-11-30, because = \"…\" and, if another does its work, replaced_by = \"its-id\"",
        ));
        return Some(Read { rule, replaced_by: None });
    };
    let mut block = Fields::new(file, table, span, "a retirement");
    match date(&mut block, faults) {
        Some(on) => rule.on = on,
        None if block.value("on").is_none() => {
            block.needed("on", "2026-11-30", faults);
        }
        None => {}
    }
    if let Some(because) = block.needed("because", "\"raises what another typology says better\"", faults) {
        rule.because = because.value.trim().trim_end_matches('.').to_string();
    }
    let replaced_by = block.text("replaced_by", faults);
    rule.replaced_by = replaced_by.as_ref().map(|text| text.value.clone());
    block.finish(faults);
    Some(Read { rule, replaced_by })
}

/// `on = 2026-11-30`.
fn date(block: &mut Fields<'_>, faults: &mut Diagnostics) -> Option<NaiveDate> {
    let value = block.value("on")?;
    let date = match value.get_ref() {
        DeValue::Datetime(date) if date.time.is_none() => date.to_string().parse().ok(),
        _ => None,
    };
    if date.is_none() {
        let fault = block.file.fault("R003", "`on` must be a day without quotes, such as 2026-11-30");
        faults.push(fault.at(value.span(), "here"));
    }
    date
}

/// Which rule takes its place must be there: `ids` are those of all rules of its kind.
pub(crate) fn replaced<'i>(read: &Read, ids: impl Iterator<Item = &'i str>, faults: &mut Diagnostics) {
    let Some(text) = &read.replaced_by else { return };
    let ids: Vec<&str> = ids.filter(|id| *id != read.rule.id).collect();
    if ids.contains(&text.value.as_str()) {
        return;
    }
    let kind = read.rule.kind;
    let fault = text.fault("R011", format!("there is no other {kind} `{}`", text.value), "unknown");
    faults.push(match nearest(&text.value, ids) {
        Some(near) => fault.help(format!("did you mean `{near}`?")),
        None => fault.help("delete this line if no rule takes its place"),
    });
}

/// A rule that runs names one that does not.
pub(crate) fn named(name: &Text, retired: &Retired) -> manumit_model::Diagnostic {
    let fault = name.fault("R029", retired.words(), "retired");
    fault.help(match &retired.replaced_by {
        Some(other) => format!("name `{other}`, or retire this rule, too"),
        None => "leave it out, or retire this rule, too".into(),
    })
}

/// Two rules of one kind have one id.
pub(crate) fn twice(file: &File, kind: &str, id: &str) -> manumit_model::Diagnostic {
    let message = format!("the {kind} `{id}` is there twice");
    let help = "give one of them another id; that of a retired rule is not given again";
    file.fault("R006", message).help(help)
}
