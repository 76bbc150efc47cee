//! Faults in rule, feed and configuration files, told so that their author can mend them.
//!
//! A [`Diagnostic`] answers four questions in this order: what, where (file, line, column, the text underlined),
//! what it means for the work, and what to do. It holds no subject, account or amount.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Permanent code: `R…` rules, `D…` data and feeds, `C…` configuration.
    pub code: &'static str,
    /// What is wrong: one lower-case sentence without full stop.
    pub message: String,
    /// The file, as the user named it.
    pub file: PathBuf,
    /// The file's whole text; lines are counted in it.
    pub source: Arc<str>,
    /// Byte range of the text at fault, underlined. `None`: the fault is the whole file's.
    pub span: Option<Range<usize>>,
    /// What to write under the underlined text.
    pub label: String,
    /// More about what was expected and found.
    pub detail: Option<String>,
    /// What it means for the work.
    pub effect: Option<String>,
    /// The mend.
    pub help: Option<String>,
}

impl Diagnostic {
    /// A fault without place yet; the builder methods add the rest.
    pub fn new(
        code: &'static str,
        message: impl Into<String>,
        file: impl Into<PathBuf>,
        source: Arc<str>,
    ) -> Self {
        Diagnostic {
            code,
            message: message.into(),
            file: file.into(),
            source,
            span: None,
            label: String::new(),
            detail: None,
            effect: None,
            help: None,
        }
    }

    /// Underlines `span`, which may have been counted without regard to letters of several bytes, and writes `label` under it.
    pub fn at(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        let end = self.source.ceil_char_boundary(span.end);
        self.span = Some(self.source.floor_char_boundary(span.start.min(end))..end);
        self.label = label.into();
        self
    }

    /// Adds what was expected and found.
    pub fn detail(mut self, text: impl Into<String>) -> Self {
        self.detail = Some(text.into());
        self
    }

    /// Adds what it means for the work.
    pub fn effect(mut self, text: impl Into<String>) -> Self {
        self.effect = Some(text.into());
        self
    }

    /// Adds the mend.
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }

    /// Line and column of the fault, both counted from 1; (1, 1) when the whole file is at fault.
    pub fn line_column(&self) -> (usize, usize) {
        let Some(span) = &self.span else { return (1, 1) };
        let before = self.source.get(..span.start).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        (line, column)
    }

    /// The fault as shown on a terminal, with colours when `colour`.
    pub fn render(&self, colour: bool) -> String {
        let path = self.file.display().to_string();
        let title = Level::ERROR.primary_title(self.message.as_str()).id(self.code);
        let mut group: Group<'_> = match &self.span {
            Some(span) => {
                let annotation = AnnotationKind::Primary.span(span.clone());
                let annotation =
                    if self.label.is_empty() { annotation } else { annotation.label(self.label.as_str()) };
                title.element(Snippet::source(&*self.source).path(path.as_str()).annotation(annotation))
            }
            None => title.element(annotate_snippets::Origin::path(path.as_str())),
        };
        let notes = [("detail", &self.detail), ("effect", &self.effect), ("help", &self.help)];
        for (name, text) in notes {
            if let Some(text) = text {
                group = group.element(Level::NOTE.with_name(name).message(text.as_str()));
            }
        }
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

/// All faults found, in the order of files and lines.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl Diagnostics {
    /// True when nothing is at fault.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds one fault.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.0.push(diagnostic);
    }

    /// Adds all faults of another list.
    pub fn extend(&mut self, other: Diagnostics) {
        self.0.extend(other.0);
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, diagnostic) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n\n")?;
            }
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// The candidate most like `name`, if one is near enough to be a likely slip.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| {
            *distance <= (candidate.chars().count().max(name.chars().count()) / 3).max(1)
        })
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_a_likely_slip_or_nothing() {
        assert_eq!(nearest("amuont", ["amount", "account"]), Some("amount"));
        assert_eq!(
            nearest("counterparty_acount", ["counterparty", "counterparty_account"]),
            Some("counterparty_account")
        );
        assert_eq!(nearest("zebra", ["amount", "account"]), None);
    }

    #[test]
    fn a_fault_names_file_line_column_and_underlines_the_text() {
        let source: Arc<str> = "id = \"x\"\nwhen = \"amuont > 5\"\n".into();
        let fault = Diagnostic::new("R002", "there is no column `amuont`", "rules/x.toml", source)
            .at(17..23, "not a column of entries")
            .help("the nearest name is `amount`");
        assert_eq!(fault.line_column(), (2, 9));
        let text = fault.render(false);
        assert!(text.contains("error[R002]: there is no column `amuont`"), "{text}");
        assert!(text.contains("rules/x.toml:2:9"), "{text}");
        assert!(text.contains("^^^^^^ not a column of entries"), "{text}");
        assert!(text.contains("help: the nearest name is `amount`"), "{text}");
    }

    #[test]
    fn a_place_within_a_letter_is_told_with_the_whole_letter() {
        let fault = |span| Diagnostic::new("D001", "x", "sql/feeds/x.sql", "éé".into()).at(span, "here");
        assert_eq!(fault(0..3).span, Some(0..4));
        assert_eq!(fault(3..3).span, Some(2..4));
        assert_eq!(fault(7..9).span, Some(4..4));
        assert!(fault(1..3).render(false).contains("^^ here"), "{}", fault(1..3));
    }
}
