//! What an FIU receives: an alert that explains itself.
//!
//! The JSON of [`Alert`] is published under the JSON Schema that [`json_schema`] returns. One alert is open per
//! (typology, subject); new evidence raises its [`Alert::revision`] under the same id.
//!
//! # Source
//! Evidence list: FinCEN advisory FIN-2020-A008 (2020), FINTRAC operational alerts (2016, 2021); handling codes:
//! FIRST Traffic Light Protocol 2.0 (2022).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Version of the alert JSON; raised when a field changes meaning or goes away.
pub const FORMAT: &str = "manumit.alert/1";

/// Whether an alert was opened, or new evidence was added to an open one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// First revision.
    Opened,
    /// The open alert gained evidence; this revision replaces the ones before it.
    Revised,
}

/// What a party may be. A hypothesis for the reviewer, never a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// May be a victim. Never present this person as a suspect (FinCEN FIN-2020-A008).
    PossibleVictim,
    /// May control victims or their money.
    PossibleController,
    /// May help: a mule, nominee, recruiter, driver.
    PossibleFacilitator,
    /// May buy what exploitation sells.
    PossibleBuyer,
    /// A business that may be a front.
    BusinessFront,
    /// Cannot be said.
    Unknown,
}

/// One alert, complete in itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Alert {
    /// Always `manumit.alert/1`.
    pub format: String,
    /// UUID (version 5) made from typology, version, subject and opening hit: a replay gives the same id.
    pub alert_id: String,
    /// 1 when opened; one more each time evidence is added.
    pub revision: u32,
    /// Opened or revised.
    pub change: Change,
    /// The typology that was raised.
    pub typology: TypologyRef,
    /// SHA-256 over all rules that were loaded: which meaning the alert was raised under.
    pub rule_set_hash: String,
    /// What the alert is about.
    pub subject: Subject,
    /// Points reached: those of the gate plus each corroborator's.
    pub score: u32,
    /// Points needed to alert, and from which the alert is urgent.
    pub score_lines: ScoreLines,
    /// To be handled before others: the score reached the urgent line, or the typology is urgent by definition.
    pub urgent: bool,
    /// When the alert came to hold (event time of the latest hit in it).
    pub raised_at: Moment,
    /// When the first revision was opened, event time.
    pub opened_at: Moment,
    /// The time that the evidence spans.
    pub window: Window,
    /// In plain language: what was seen, over which time, against which thresholds.
    pub explanation: String,
    /// Each indicator that holds, with measured values against thresholds.
    pub indicators: Vec<IndicatorEvidence>,
    /// The exact transactions, by event time.
    pub transactions: Vec<EvidenceTransaction>,
    /// Evidence transactions beyond the cap that are not listed above.
    pub transactions_omitted: u64,
    /// Parties with a role hypothesis each, the subject first.
    pub parties: Vec<Party>,
    /// Who is in the group, and what links them, when the alert was raised; absent when the subject is no group.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub group: Option<Group>,
    /// Exclusions that were checked and did not apply.
    pub exclusions_checked: Vec<ExclusionChecked>,
    /// What could not be known, and so may be missing from the picture.
    pub data_gaps: Vec<String>,
    /// What would make this innocent: published false positives of the typology.
    pub innocent_explanations: Vec<String>,
    /// How the measured values compare with the subject's own history; empty until baselines are loaded.
    pub baseline: Vec<String>,
    /// Reporting keywords by FIU.
    pub fiu_keywords: Vec<Keyword>,
    /// Handling code (Traffic Light Protocol).
    pub tlp: String,
    /// Hits since the last revision that suppression hid, and in all since the alert was opened.
    pub suppressed: Suppressed,
    /// Found by screening again what had been evaluated, because lists changed; absent when it was found as its rows came.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rescreened: Option<Rescreened>,
    /// What the decision can be worked out again from, together with the transactions; absent when the alert names none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub basis: Option<Basis>,
}

impl Alert {
    /// SHA-256 (hex) of the alert's JSON, [`Basis::seal`] left empty: changes when anything in the alert does.
    ///
    /// # Errors
    /// When the alert cannot be written as JSON, which none is known to.
    pub fn seal(&self) -> Result<String, serde_json::Error> {
        let mut open = self.clone();
        if let Some(basis) = &mut open.basis {
            basis.seal.clear();
        }
        Ok(sha256(&serde_json::to_vec(&open)?))
    }

    /// Writes [`Alert::seal`] into the basis, if there is one.
    ///
    /// # Errors
    /// As [`Alert::seal`].
    pub fn sealed(mut self) -> Result<Alert, serde_json::Error> {
        if self.basis.is_some() {
            let seal = self.seal()?;
            if let Some(basis) = &mut self.basis {
                basis.seal = seal;
            }
        }
        Ok(self)
    }
}

/// SHA-256 in small hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What an alert was decided by, beside its transactions: enough to decide it again on a machine that knows nothing else
/// (`manumit verify-alert`). Of reference data only what the rules asked about the parties in question.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Basis {
    /// ISO 4217 code of `amount_base`.
    pub base_currency: String,
    /// The typology, its indicators, and what else they are read with.
    pub rules: Vec<RuleText>,
    /// Columns that a rule needs and no feed gave.
    pub columns_missing: Vec<String>,
    /// Rows of reference tables.
    pub reference: Vec<ReferenceRow>,
    /// Entries of lists.
    pub lists: Vec<ListEntry>,
    /// Terms that stand in texts of the evidence, in the order of their lists; absent where no rule looks for any.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub terms: Vec<TermEntry>,
    /// Which versions of these lists were used; absent where no rule asks for a list.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub list_versions: Vec<ListVersion>,
    /// Merchant category codes of groups.
    pub mcc_groups: Vec<MccGroup>,
    /// The hit that opened the alert; absent when an older version of the program opened it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub opening: Option<Opening>,
    /// SHA-256 of the alert's JSON with this field empty. It tells changes made by mistake or without care; who changes on
    /// purpose can compute it anew, which the alert log tells.
    pub seal: String,
}

/// One file of rules, as it was loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuleText {
    /// Path in the project.
    pub file: String,
    /// SHA-256 of the text.
    pub sha256: String,
    /// The text.
    pub text: String,
}

/// What a reference table said about one key; unknown values are left out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct ReferenceRow {
    /// `accounts`, `customers`, … as `[reference]` names them; `links`: an identifier that a member of the group shares.
    pub table: String,
    /// Values of the key columns.
    pub key: Vec<String>,
    /// Valid from this instant on; absent: always.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub valid_from: Option<String>,
    /// Valid before this instant; absent: always.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub valid_to: Option<String>,
    /// The columns that rules read.
    pub values: BTreeMap<String, String>,
}

/// A value that stands in a list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct ListEntry {
    /// Name of the list.
    pub list: String,
    /// The value, in small letters; absent: the list is asked, and holds none of the values asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub value: Option<String>,
    /// Valid from this instant on; absent: always.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub valid_from: Option<String>,
    /// Valid before this instant; absent: always.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub valid_to: Option<String>,
}

/// Why past transactions were screened again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rescreened {
    /// The lists that changed, as they are now.
    pub lists: Vec<ListVersion>,
}

/// A list as it was loaded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct ListVersion {
    /// Name of the list; `mcc_groups` for the groups of merchant category codes.
    pub list: String,
    /// SHA-256 (hex) of its file; empty when it is gone.
    pub sha256: String,
}

/// A term of a list that stands in a text of the evidence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct TermEntry {
    /// Name of the list.
    pub list: String,
    /// What the list calls the term; absent: the list is asked, and none of its terms stands in the texts.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<String>,
    /// The term.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub term: String,
    /// `word`, `phrase`, `stem`, `part`, `emoji`.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub kind: String,
    /// Its language, where the list names one.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub language: String,
    /// Valid from this instant on; absent: always.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub valid_from: Option<String>,
    /// Valid before this instant; absent: always.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub valid_to: Option<String>,
}

/// Codes of a group that stand in the evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MccGroup {
    /// Name of the group.
    pub group: String,
    /// Those of its codes that transactions of the evidence have.
    pub codes: Vec<String>,
}

/// The hit that opened an alert, from which its id is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Opening {
    /// Its transaction.
    pub tx_id: String,
    /// When the alert opened, microseconds since 1970 UTC: that of the hit, or of a later one that was needed beside it.
    pub at_micros: i64,
}

/// The typology an alert was raised under.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TypologyRef {
    /// Typology id.
    pub id: String,
    /// Its version.
    pub version: u32,
    /// Its title.
    pub title: String,
    /// `draft`, `experimental`, `stable` or `deprecated`.
    pub status: String,
    /// `low`, `medium`, `high`.
    pub severity: String,
    /// Kinds of exploitation it looks for.
    pub exploitation: Vec<String>,
}

/// What an alert is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Subject {
    /// `account`, `customer`, `device`, …
    pub kind: String,
    /// Its key.
    pub key: String,
}

/// The two lines that the score is held against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScoreLines {
    /// Points to alert.
    pub alert_at: u32,
    /// Points from which the alert is urgent.
    pub urgent_at: u32,
}

/// An instant in UTC, and in local time where the place is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Moment {
    /// RFC 3339, UTC.
    pub utc: String,
    /// RFC 3339 with the local offset; absent when the feed told no time zone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub local: Option<String>,
}

/// A span of event time, both ends included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Window {
    /// First transaction of the evidence.
    pub from: Moment,
    /// Last transaction of the evidence.
    pub to: Moment,
}

/// One indicator that holds within the alert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct IndicatorEvidence {
    /// Indicator id.
    pub id: String,
    /// Its version.
    pub version: u32,
    /// Its title.
    pub title: String,
    /// `gate` or `corroborator`.
    pub part: String,
    /// Points it gave; those of the gate stand with its first indicator. All together are the score.
    pub points: u32,
    /// When it last held, event time.
    pub hit_at: Moment,
    /// How often it held within the typology's window.
    pub hits: u64,
    /// Days on which it held within the typology's window.
    pub days: u64,
    /// Its explanation with the measured values filled in.
    pub explanation: String,
    /// Each condition: what was measured, against which threshold.
    pub measured: Vec<Measured>,
    /// Published red flags that it stands for.
    pub references: Vec<String>,
    /// tx_ids that this indicator counted at its hits, by event time.
    pub tx_ids: Vec<String>,
    /// Each of its hits.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub held_at: Vec<HeldAt>,
}

/// One hit of an indicator.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct HeldAt {
    /// The transaction at which it held.
    pub tx_id: String,
    /// When it held, RFC 3339 in UTC.
    pub at: String,
    /// Whose rows it counted.
    pub key: String,
}

/// One measured value against its threshold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Measured {
    /// What was measured, as the rule names it.
    pub name: String,
    /// The measured value, formatted.
    pub value: String,
    /// `>=`, `<=`, `=`, …
    pub comparison: String,
    /// The threshold, formatted.
    pub threshold: String,
    /// Unit of both.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unit: Option<String>,
    /// Where the threshold comes from.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source: Option<String>,
    /// The condition as the rule states it.
    pub condition: String,
}

/// One transaction of the evidence, unknown fields left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EvidenceTransaction {
    /// Its id.
    pub tx_id: String,
    /// When it happened.
    pub at: Moment,
    /// `in` or `out` as the subject sees it; `both` when both sides are the subject's, `related` when none is.
    pub direction: String,
    /// Exact amount in `currency`.
    pub amount: String,
    /// Its currency.
    pub currency: String,
    /// Amount in the base currency.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub amount_base: Option<String>,
    /// Ids of the indicators that counted it.
    pub indicators: Vec<String>,
    /// Every other known canonical column: accounts, names, memo, place, channel, source position, …
    pub fields: serde_json::Map<String, serde_json::Value>,
}

/// A party and what it may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Party {
    /// `account` or `customer`; the subject's own kind for the subject.
    pub kind: String,
    /// Its key.
    pub key: String,
    /// Name as sent, when the evidence holds one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// Hypothesis.
    pub role_hypothesis: Role,
    /// Evidence transactions it takes part in.
    pub transactions: u64,
}

/// People who share identifiers, at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Group {
    /// Customers, by id; the one that the group is named by is among them.
    pub members: Vec<String>,
    /// Each identifier that links some of them.
    pub links: Vec<GroupLink>,
}

/// An identifier that links members of a group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct GroupLink {
    /// `phone`, `email`, `device`, `address`, … as the bank's feed and `rules/groups.toml` name it.
    pub kind: String,
    /// The identifier, in the form that compares: telephone numbers as digits, texts in small letters.
    pub value: String,
    /// It links by itself; others do only together.
    pub strong: bool,
    /// Members that it links, by id.
    pub customers: Vec<String>,
}

/// An exclusion that was looked at and did not apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExclusionChecked {
    /// The exclusion in the words of the rule.
    pub exclusion: String,
    /// `did_not_apply`, or `not_known` when a value it needs was missing.
    pub result: String,
}

/// Reporting keyword of an FIU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Keyword {
    /// Country or FIU.
    pub fiu: String,
    /// Keyword to put into the report.
    pub keyword: String,
    /// Field or narrative it belongs in.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub place: Option<String>,
}

/// What suppression hid, so that silence is never mistaken for absence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
pub struct Suppressed {
    /// Times the typology held again since the last revision without being published.
    pub since_last_revision: u64,
    /// The same since the alert was opened.
    pub since_opened: u64,
}

/// JSON Schema (draft 2020-12) of [`Alert`].
pub fn json_schema() -> serde_json::Value {
    schemars::schema_for!(Alert).to_value()
}
