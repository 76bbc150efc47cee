//! Alerts as one HTML page, to be printed or attached.

use anyhow::Context as _;
use manumit_evaluate::STYLE;
use manumit_model::Alert;
use minijinja::Value;

use super::text::{HYPOTHESIS, field, payee, plain, role, spaced, time, unit};

/// Columns of a transaction that have a place of their own on the page; others that are known stand together.
const PLACED: [&str; 7] = [
    "debtor_account",
    "debtor_name",
    "creditor_account",
    "creditor_name",
    "memo",
    "channel",
    "merchant_name",
];

/// Of the others those that say where the record was read, or repeat a time: the alert itself has them.
const LEFT_OUT: [&str; 7] =
    ["source", "source_offset", "source_partition", "feed", "local_time", "utc_offset_minutes", "time_zone"];

/// What the page tells of an alert, in words.
fn told(alert: &Alert) -> Value {
    let transactions = alert.transactions.iter().map(|transaction| {
        let others: Vec<String> = transaction
            .fields
            .iter()
            // That something is not so is worth a word only where a rule counts it, which then says so.
            .filter(|(_, value)| **value != serde_json::Value::Bool(false))
            .map(|(name, _)| name)
            .filter(|name| !PLACED.contains(&name.as_str()) && !LEFT_OUT.contains(&name.as_str()))
            .map(|name| format!("{} {}", name.replace('_', " "), field(transaction, name)))
            .collect();
        minijinja::context! {
            tx_id => plain(&transaction.tx_id),
            time => time(&transaction.at),
            direction => plain(&transaction.direction),
            amount => plain(&format!("{} {}", transaction.amount, transaction.currency)),
            base => transaction.amount_base.as_deref().filter(|base| *base != transaction.amount).map(plain),
            from => field(transaction, "debtor_account"),
            from_name => field(transaction, "debtor_name"),
            to => payee(transaction),
            to_name => field(transaction, "creditor_name"),
            merchant => field(transaction, "merchant_name"),
            memo => field(transaction, "memo"),
            channel => field(transaction, "channel"),
            others => plain(&others.join(", ")),
            indicators => plain(&transaction.indicators.join(", ")),
        }
    });
    let indicators = alert.indicators.iter().map(|indicator| {
        let measured = indicator.measured.iter().map(|measured| {
            minijinja::context! {
                name => plain(&measured.name),
                value => plain(&measured.value),
                comparison => match measured.comparison.as_str() { ">=" => "≥".to_string(), "<=" => "≤".into(), other => plain(other) },
                threshold => plain(&measured.threshold),
                unit => plain(unit(measured)),
                source => measured.source.as_deref().map(plain),
            }
        });
        minijinja::context! {
            title => plain(&indicator.title),
            id => plain(&indicator.id),
            part => plain(&indicator.part),
            points => indicator.points,
            hits => indicator.hits,
            days => indicator.days,
            at => time(&indicator.hit_at),
            explanation => plain(&indicator.explanation),
            references => plain(&indicator.references.join(", ")),
            measured => measured.collect::<Vec<_>>(),
        }
    });
    let parties = alert.parties.iter().map(|party| {
        minijinja::context! {
            role => role(party.role_hypothesis),
            kind => plain(&party.kind),
            key => plain(&party.key),
            name => party.name.as_deref().map(plain),
            transactions => party.transactions,
        }
    });
    let exclusions = alert.exclusions_checked.iter().map(|checked| {
        minijinja::context! { exclusion => plain(&checked.exclusion), result => spaced(&checked.result) }
    });
    let keywords = alert.fiu_keywords.iter().map(|keyword| {
        minijinja::context! { fiu => plain(&keyword.fiu), keyword => plain(&keyword.keyword), place => keyword.place.as_deref().map(plain) }
    });
    let group = alert.group.as_ref().map(|group| {
        let links = group.links.iter().map(|link| {
            minijinja::context! { kind => plain(&link.kind), value => plain(&link.value), customers => plain(&link.customers.join(", ")) }
        });
        minijinja::context! { members => plain(&group.members.join(", ")), links => links.collect::<Vec<_>>() }
    });
    let all = |lines: &[String]| lines.iter().map(|line| plain(line)).collect::<Vec<_>>();
    minijinja::context! {
        id => plain(&alert.alert_id),
        revision => alert.revision,
        urgent => alert.urgent,
        tlp => plain(&alert.tlp),
        typology => plain(&alert.typology.id),
        version => alert.typology.version,
        status => plain(&alert.typology.status),
        title => plain(&alert.typology.title),
        exploitation => spaced(&alert.typology.exploitation.join(", ")),
        kind => plain(&alert.subject.kind),
        key => plain(&alert.subject.key),
        score => alert.score,
        alert_at => alert.score_lines.alert_at,
        urgent_at => alert.score_lines.urgent_at,
        opened => time(&alert.opened_at),
        raised => time(&alert.raised_at),
        from => time(&alert.window.from),
        to => time(&alert.window.to),
        explanation => plain(&alert.explanation),
        indicators => indicators.collect::<Vec<_>>(),
        parties => parties.collect::<Vec<_>>(),
        group,
        transactions => transactions.collect::<Vec<_>>(),
        omitted => alert.transactions_omitted,
        exclusions => exclusions.collect::<Vec<_>>(),
        gaps => all(&alert.data_gaps),
        baseline => all(&alert.baseline),
        innocent => all(&alert.innocent_explanations),
        keywords => keywords.collect::<Vec<_>>(),
        hidden => alert.suppressed.since_opened,
        rules => plain(alert.rule_set_hash.get(..12).unwrap_or(&alert.rule_set_hash)),
    }
}

/// Alerts as one page: all values escaped, no script, nothing loaded from elsewhere; on paper each begins a sheet.
///
/// # Errors
/// When the page does not fit the alert: a bug.
pub fn html(alerts: &[Alert]) -> anyhow::Result<String> {
    let mut pages = minijinja::Environment::new();
    pages.add_global("style", Value::from_safe_string(STYLE.into()));
    pages.add_template("page.html", include_str!("page.html"))?;
    let page = pages.get_template("page.html")?;
    page.render(minijinja::context! {
        alerts => alerts.iter().map(told).collect::<Vec<_>>(),
        hypothesis => HYPOTHESIS,
        program => env!("CARGO_PKG_VERSION"),
    })
    .context("the alert cannot be put into a page")
}
