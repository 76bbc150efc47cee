//! An alert in words: for a terminal, and the words that its page shares.

use std::fmt::Write as _;

use comfy_table::{Table, presets};
use manumit_model::Alert;
use manumit_model::alert::{EvidenceTransaction, Measured, Moment, Role};

/// What every alert is. It stands on each that is read.
pub(crate) const HYPOTHESIS: &str = "This is a hypothesis for review, not a finding. Nobody is to be contacted, blocked or confronted because of it, and a \
     possible victim is not a suspect.";

/// Text of a feed without what would move the cursor, colour the terminal or turn the direction of what follows.
pub(crate) fn plain(text: &str) -> String {
    let harmless = |letter: char| {
        let turns =
            matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if matches!(letter, '\n' | '\r' | '\t') {
            ' '
        } else if letter.is_control() || turns {
            '\u{fffd}'
        } else {
            letter
        }
    };
    text.chars().map(harmless).collect()
}

/// `2026-01-07 13:35 +01:00`: local where the feed told the place, otherwise UTC.
pub(crate) fn time(moment: &Moment) -> String {
    let text = moment.local.as_deref().unwrap_or(&moment.utc);
    let zone = match &moment.local {
        Some(local) => {
            local.get(19..).map(|rest| rest.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit()))
        }
        None => Some("UTC"),
    };
    match (text.get(..10), text.get(11..16), zone) {
        (Some(day), Some(minute), Some(zone)) => {
            let zone = if zone == "Z" { "UTC" } else { zone };
            plain(&format!("{day} {minute} {zone}"))
        }
        _ => plain(text),
    }
}

pub(crate) fn role(role: Role) -> &'static str {
    match role {
        Role::PossibleVictim => "possible victim",
        Role::PossibleController => "possible controller",
        Role::PossibleFacilitator => "possible facilitator",
        Role::PossibleBuyer => "possible buyer",
        Role::BusinessFront => "business front",
        Role::Unknown => "unknown",
    }
}

/// `did_not_apply` as people write it.
pub(crate) fn spaced(word: &str) -> String {
    plain(&word.replace('_', " "))
}

/// A known column of a transaction, as text.
pub(crate) fn field(transaction: &EvidenceTransaction, name: &str) -> String {
    match transaction.fields.get(name) {
        Some(serde_json::Value::String(text)) => plain(text),
        Some(serde_json::Value::Null) | None => String::new(),
        Some(other) => plain(&other.to_string()),
    }
}

/// Who is paid, where the feed tells no account: the merchant of a card payment.
pub(crate) fn payee(transaction: &EvidenceTransaction) -> String {
    let names = ["creditor_account", "creditor_name", "merchant_name", "merchant_id"];
    names.iter().map(|name| field(transaction, name)).find(|text| !text.is_empty()).unwrap_or_default()
}

/// The unit, where the value does not say it itself.
pub(crate) fn unit(measured: &Measured) -> &str {
    let said = measured.value.contains(|letter: char| letter.is_alphabetic() || letter == '%');
    measured.unit.as_deref().filter(|_| !said).unwrap_or("")
}

/// An alert in full, for a terminal, with at most so many transactions.
pub fn text(alert: &Alert, most: usize) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = write_text(&mut out, alert, most);
    out
}

fn write_text(out: &mut String, alert: &Alert, most: usize) -> std::fmt::Result {
    let urgent = if alert.urgent { ", URGENT" } else { "" };
    let revision = alert.revision;
    writeln!(out, "ALERT {} (revision {revision}){urgent}  {}", plain(&alert.alert_id), plain(&alert.tlp))?;
    let (title, kind, key) = (&alert.typology.title, &alert.subject.kind, &alert.subject.key);
    writeln!(out, "{} – {} {}", plain(title), plain(kind), plain(key))?;
    writeln!(
        out,
        "score {} (alert from {}, urgent from {})",
        alert.score, alert.score_lines.alert_at, alert.score_lines.urgent_at
    )?;
    writeln!(out, "opened {}, this revision {}", time(&alert.opened_at), time(&alert.raised_at))?;
    writeln!(out, "evidence from {} to {}\n", time(&alert.window.from), time(&alert.window.to))?;
    writeln!(out, "{}\n", plain(&alert.explanation))?;
    for indicator in &alert.indicators {
        writeln!(
            out,
            "{} {} ({} hits on {} days, {} points) [{}]\n    {}",
            plain(&indicator.part),
            plain(&indicator.id),
            indicator.hits,
            indicator.days,
            indicator.points,
            plain(&indicator.references.join(", ")),
            plain(&indicator.explanation)
        )?;
        for measured in &indicator.measured {
            let (name, value) = (plain(&measured.name), plain(&measured.value));
            let (comparison, threshold) = (plain(&measured.comparison), plain(&measured.threshold));
            let unit = match unit(measured) {
                "" => String::new(),
                unit => format!(" {}", plain(unit)),
            };
            let source = measured.source.as_ref();
            let source = source.map_or(String::new(), |source| format!("  (source: {})", plain(source)));
            writeln!(out, "    {name}: {value} {comparison} {threshold}{unit}{source}")?;
        }
    }
    out.push_str("\nParties (hypotheses for review):\n");
    // Where transactions are cut, so is who takes part in them.
    let named = if most == usize::MAX { usize::MAX } else { 12 };
    for party in alert.parties.iter().take(named) {
        let name = party.name.as_ref().map_or(String::new(), |name| format!(", {}", plain(name)));
        let (role, key) = (role(party.role_hypothesis), plain(&party.key));
        writeln!(out, "    {role:<22} {key}{name}, {} transactions", party.transactions)?;
    }
    let more = alert.parties.len().saturating_sub(named);
    if more > 0 {
        writeln!(out, "    and {more} more")?;
    }
    if let Some(group) = &alert.group {
        writeln!(out, "\nGroup of {} customers: {}", group.members.len(), plain(&group.members.join(", ")))?;
        for link in &group.links {
            let (kind, value) = (plain(&link.kind), plain(&link.value));
            writeln!(out, "    {kind} {value} links {}", plain(&link.customers.join(", ")))?;
        }
    }
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY);
    table.set_header(["transaction", "local time", "direction", "amount", "from", "to", "memo"]);
    for transaction in alert.transactions.iter().take(most) {
        let short = |text: String| text.chars().take(24).collect::<String>();
        table.add_row([
            plain(&transaction.tx_id),
            time(&transaction.at),
            plain(&transaction.direction),
            plain(&format!("{} {}", transaction.amount, transaction.currency)),
            short(field(transaction, "debtor_account")),
            short(payee(transaction)),
            short(field(transaction, "memo")),
        ]);
    }
    writeln!(out, "\n{table}")?;
    let more = alert.transactions.len().saturating_sub(most) as u64 + alert.transactions_omitted;
    if more > 0 {
        writeln!(out, "and {more} more transactions")?;
    }
    for exclusion in &alert.exclusions_checked {
        writeln!(out, "exclusion «{}»: {}", plain(&exclusion.exclusion), spaced(&exclusion.result))?;
    }
    for gap in &alert.data_gaps {
        writeln!(out, "data gap: {}", plain(gap))?;
    }
    for line in &alert.baseline {
        writeln!(out, "own history: {}", plain(line))?;
    }
    writeln!(out, "innocent explanations: {}", plain(&alert.innocent_explanations.join("; ")))?;
    for keyword in &alert.fiu_keywords {
        let place = keyword.place.as_ref().map_or(String::new(), |place| format!(" ({})", plain(place)));
        writeln!(out, "keyword for {}: {}{place}", plain(&keyword.fiu), plain(&keyword.keyword))?;
    }
    writeln!(out, "\n{HYPOTHESIS}")
}
