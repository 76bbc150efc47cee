//! The report in Markdown and HTML.

use std::fmt::Write as _;

use anyhow::Context as _;
use manumit_backtest::report::STYLE;

use super::{Counts, Coverage, FlagLine, Status};

/// Text of rules and the catalogue within Markdown: nothing in it is markup, and a cell of a table stays one.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\\' | '|' | '*' | '_' | '`' | '[' | ']' | '#' | '~' => out.extend(['\\', letter]),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\n' | '\r' => out.push(' '),
            other => out.push(other),
        }
    }
    out
}

/// A kind of exploitation as people write it.
fn spaced(name: &str) -> String {
    match name {
        "ocse" => "online child sexual exploitation".into(),
        "organ" => "removal of organs".into(),
        other => other.replace('_', " "),
    }
}

fn percent(part: usize, of: usize) -> String {
    match of {
        0 => "–".into(),
        _ => format!("{} %", (part * 100 + of / 2) / of),
    }
}

fn counted(counts: &Counts) -> String {
    let Counts { red_flags, covered, reason, neither } = counts;
    format!("{red_flags} | {covered} | {} | {reason} | {neither}", percent(*covered, *red_flags))
}

fn joined(ids: &[String]) -> String {
    ids.iter().map(|id| plain(id)).collect::<Vec<_>>().join(", ")
}

/// How a red flag stands, in words.
fn standing(flag: &FlagLine) -> String {
    match flag.status {
        Status::Covered => "covered".into(),
        Status::Reason => flag.not_covered.clone().unwrap_or_default(),
        Status::Neither => "neither rule nor reason".into(),
    }
}

impl Coverage {
    /// As Markdown.
    pub fn markdown(&self) -> String {
        let mut out = String::from("# Published red flags and what covers them\n\n");
        // Writing to a String does not fail.
        let _ = self.write_markdown(&mut out);
        out
    }

    fn write_markdown(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "{}.\n", plain(&self.summary()))?;
        writeln!(
            out,
            "Rules `{}`, Manumit {}, catalogue {}. A red flag is covered when a typology, or an indicator that a typology uses, \
             refers to it. Covered does not mean proven: see the cases and the status of each typology.",
            self.rule_set_hash.get(..12).unwrap_or(&self.rule_set_hash),
            self.program,
            plain(self.catalogue)
        )?;
        let count = "red flags | covered | share | reason | neither |";
        let bars = "---: | ---: | ---: | ---: | ---: |";
        writeln!(
            out,
            "\n## By publication\n\n| publication | year | from | {count}\n| --- | ---: | --- | {bars}"
        )?;
        for publication in &self.publications {
            let super::Publication { name, jurisdiction, year, url, counts } = publication;
            // An address ends at a bracket or a space.
            let url = url.replace(' ', "%20").replace('(', "%28").replace(')', "%29").replace('|', "%7C");
            writeln!(
                out,
                "| [{}]({url}) | {year} | {} | {} |",
                plain(name),
                plain(jurisdiction),
                counted(counts)
            )?;
        }
        writeln!(
            out,
            "\n## By kind of exploitation\n\n| exploitation | typologies | {count}\n| --- | ---: | {bars}"
        )?;
        for kind in &self.exploitation {
            writeln!(
                out,
                "| {} | {} | {} |",
                plain(&spaced(&kind.name)),
                kind.typologies,
                counted(&kind.counts)
            )?;
        }
        writeln!(
            out,
            "\n## Typologies\n\nCases that raise / must not raise / near misses.\n\n\
             | typology | status | red flags | indicators | cases |\n| --- | --- | --- | --- | ---: |"
        )?;
        for typology in &self.typologies {
            let cases = typology.cases;
            writeln!(
                out,
                "| {}: {} (v{}) | {} | {} | {} | {} / {} / {} |",
                plain(&typology.id),
                plain(&typology.title),
                typology.version,
                plain(&typology.status),
                joined(&typology.red_flags),
                joined(&typology.indicators),
                cases.raising,
                cases.quiet,
                cases.near_misses
            )?;
        }
        if !self.retired.is_empty() {
            writeln!(out, "\n## Retired\n\nThey run no more, and cover nothing.\n")?;
            for rule in &self.retired {
                writeln!(out, "- {} (v{}): {}", plain(&rule.title), rule.version, plain(&rule.words()))?;
            }
        }
        writeln!(out, "\n## What is not covered, and why")?;
        if self.reasons.is_empty() {
            writeln!(out, "\nNothing.")?;
        }
        for reason in &self.reasons {
            writeln!(out, "\n### {} ({})\n", plain(&reason.kind), reason.red_flags.len())?;
            for flag in &reason.red_flags {
                writeln!(out, "- {}: {} *{}*", plain(&flag.id), plain(&flag.red_flag), plain(&flag.why))?;
            }
        }
        let missing: Vec<&FlagLine> = self.red_flags.iter().filter(|f| f.status == Status::Neither).collect();
        if !missing.is_empty() {
            writeln!(out, "\n## Neither rule nor reason\n")?;
            for flag in missing {
                writeln!(
                    out,
                    "- {} ({}, line {}): {}",
                    plain(&flag.id),
                    plain(self.catalogue),
                    flag.line,
                    plain(&flag.red_flag)
                )?;
            }
        }
        writeln!(
            out,
            "\n## All red flags\n\n| red flag | exploitation | what it says | indicators | typologies | cases | how it stands |\n\
             | --- | --- | --- | --- | --- | ---: | --- |"
        )?;
        for flag in &self.red_flags {
            let unread = if flag.basis == "not read" { " (the publication itself was not read)" } else { "" };
            writeln!(
                out,
                "| {} | {} | {}{unread} | {} | {} | {} | {} |",
                plain(&flag.id),
                plain(&spaced(&flag.exploitation)),
                plain(&flag.red_flag),
                joined(&flag.indicators),
                joined(&flag.typologies),
                flag.cases,
                plain(&standing(flag))
            )?;
        }
        if !self.citations.is_empty() {
            writeln!(out, "\n## References outside the catalogue\n")?;
            for citation in &self.citations {
                writeln!(out, "- {}: {}", plain(&citation.reference), joined(&citation.rules))?;
            }
        }
        if !self.hints.is_empty() {
            writeln!(out, "\n## Hints\n")?;
            for hint in &self.hints {
                writeln!(out, "- {}", plain(hint))?;
            }
        }
        Ok(())
    }

    /// As one HTML page: all values escaped, no script, nothing loaded from elsewhere.
    ///
    /// # Errors
    /// When the page does not fit the report: a bug.
    pub fn html(&self) -> anyhow::Result<String> {
        let mut pages = minijinja::Environment::new();
        pages.add_filter("percent", percent);
        pages.add_filter("spaced", |name: String| spaced(&name));
        pages.add_global("style", minijinja::Value::from_safe_string(STYLE.into()));
        pages.add_template("page.html", include_str!("page.html"))?;
        let value = serde_json::to_value(self).context("the report cannot be put into a page")?;
        let page = pages.get_template("page.html")?;
        page.render(value).context("the report cannot be put into a page")
    }
}
