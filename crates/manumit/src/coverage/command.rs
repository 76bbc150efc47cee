//! `manumit coverage`.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, ValueEnum};
use manumit_rules::catalogue::{self, Catalogue};
use manumit_sql::Sql;

use super::Coverage;
use crate::project::Project;
use crate::whole;

/// How the report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// Text for a repository or a terminal
    Markdown,
    /// One page that needs nothing else
    Html,
    /// For programs
    Json,
}

/// Arguments of `manumit coverage`.
#[derive(Debug, Clone, Default, Args)]
pub struct CoverageArgs {
    /// How to write it [default: by the file's name, else markdown]
    #[arg(long, value_enum)]
    pub format: Option<Form>,
    /// Write the report here [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// End with 1, naming each, when a red flag has neither a rule nor a reason; says only the counts unless a format or a file is
    /// given
    #[arg(long)]
    pub check: bool,
}

impl CoverageArgs {
    fn form(&self) -> Form {
        let extension = self.output.as_ref().and_then(|path| path.extension()?.to_str());
        self.format.unwrap_or(match extension {
            Some("html" | "htm") => Form::Html,
            Some("json") => Form::Json,
            _ => Form::Markdown,
        })
    }
}

/// What goes to standard output, and what keeps `--check` from ending well: a line each.
///
/// # Errors
/// When the project has no catalogue, rules or catalogue have faults, or the report cannot be written.
pub fn coverage(project: &Project, args: &CoverageArgs) -> anyhow::Result<(String, Vec<String>)> {
    let sources = project.sources()?;
    let rules = project.rules(&Sql::new())?;
    let Some(catalogue) = Catalogue::read(&sources).map_err(|faults| anyhow!("{faults}"))? else {
        bail!(
            "the project has no {}, so nothing says which red flags there are; `manumit init FOLDER` writes the built-in one",
            catalogue::FILE
        );
    };
    let coverage = Coverage::of(&catalogue, &rules, &sources);
    let missing = if args.check { coverage.missing() } else { Vec::new() };
    if args.check && args.format.is_none() && args.output.is_none() {
        return Ok((coverage.summary(), missing));
    }
    let text = match args.form() {
        Form::Markdown => coverage.markdown(),
        Form::Html => coverage.html()?,
        Form::Json => {
            serde_json::to_string_pretty(&coverage).context("the report cannot be written as JSON")?
        }
    };
    let Some(path) = &args.output else { return Ok((text, missing)) };
    whole::write::<std::io::Error>(path, |file| writeln!(file, "{}", text.trim_end()))
        .with_context(|| format!("{} cannot be written", path.display()))?;
    Ok((format!("{}\nwritten to {}", coverage.summary(), path.display()), missing))
}
