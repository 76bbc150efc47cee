//! `manumit query`: SQL over archive, alerts, hits and reference tables. Nothing is ever changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use datafusion::common::SchemaError;
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::prelude::DataFrame;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::Statement as Ast;
use futures::StreamExt as _;
use manumit_archive::{Archive, BadFile, Depth};
use manumit_model::schema::{ENTRY_SIDES, TRANSACTIONS};
use manumit_model::{alert, hit::Hit, nearest};
use manumit_sql::Sql;
use manumit_sql::reference::Table;

use crate::config::Config;
use crate::project::Project;
use crate::reference::load_reference;

pub mod documents;
pub mod files;
pub mod output;
pub mod table;

use files::FileTable;
use output::{Format, Results};
use table::{ArchiveTable, EVENT_DATE};

/// What to ask, and of what.
#[derive(Debug, Args)]
pub struct QueryArgs {
    /// A SELECT over transactions, entries, alerts, hits, accounts, customers, places, fx_rates, contacts, devices,
    /// authorised_users, relations, business_facts, baselines, peers, lists, mcc_groups; - reads it from standard input
    pub sql: String,
    /// Archive for transactions and entries [default: `[archive] folder` of the configuration]
    #[arg(long, value_name = "DIR")]
    pub archive: Option<PathBuf>,
    /// Alerts, as `manumit run --alerts` wrote them [default: the file that the configuration names]
    #[arg(long, value_name = "FILE")]
    pub alerts: Option<PathBuf>,
    /// Hits, as `manumit run --hits` wrote them [default: the file that the configuration names]
    #[arg(long, value_name = "FILE")]
    pub hits: Option<PathBuf>,
    /// A further table, read from a .csv (with a header), .jsonl or .parquet file: labels=labels.csv; may be given again
    #[arg(long = "table", value_name = "NAME=FILE")]
    pub tables: Vec<FileTable>,
    /// How results are written
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Write to this file [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Print how the query would be run
    #[arg(long)]
    pub explain: bool,
    /// Go on without files and lines that are damaged or foreign, and say which
    #[arg(long)]
    pub skip_bad_files: bool,
    /// Compare all checksums first, however large the archive is
    #[arg(long)]
    pub check: bool,
    /// Threads; with more than one, rows without ORDER BY come in no fixed order
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
}

/// Archives up to this size are compared with their checksums before each query; for larger ones that takes too long.
pub(crate) const CHECKED_BYTES: u64 = 1 << 30;

/// Tables that a query may name.
const TABLES: [&str; 17] = [
    "transactions",
    "entries",
    "alerts",
    "hits",
    "accounts",
    "customers",
    "places",
    "fx_rates",
    "contacts",
    "devices",
    "authorised_users",
    "relations",
    "business_facts",
    "baselines",
    "peers",
    "lists",
    "mcc_groups",
];

/// Answers a query; gives what a reader of the answer must know besides.
///
/// # Errors
/// When the query is none, names what there is not, or reads what is damaged.
pub fn query(
    folder: &Path,
    config: &Config,
    args: &QueryArgs,
    runtime: &tokio::runtime::Runtime,
) -> anyhow::Result<Vec<String>> {
    let sql = Sql::on_threads(args.threads);
    let asked = match args.sql.as_str() {
        "-" => std::io::read_to_string(std::io::stdin()).context("standard input cannot be read")?,
        sql => sql.to_string(),
    };
    let text = if args.explain { format!("EXPLAIN {asked}") } else { asked };
    let statement = read(&text)?;
    if let Some(table) = args.tables.iter().find(|table| TABLES.contains(&table.name.as_str())) {
        bail!("--table {0}=…: there is a table `{0}` already; give the file another name", table.name);
    }
    let named = tables_of(&sql, &statement, &args.tables)?;
    let project = Project::at(folder);
    project.lists(&sql)?;
    load_reference(config, &sql)?;
    let mut session = Session { sql, notes: Vec::new(), unchecked: None };
    for name in &named {
        runtime.block_on(session.register(name, config, args))?;
    }
    let answer = runtime.block_on(session.answer(statement, args));
    if answer.is_err()
        && let Some(archive) = session.unchecked.take()
    {
        // Perhaps a damaged file is behind it: then that is what to say.
        let (_, bad) = archive.check(archive.files(None, None), Depth::Checksums);
        if !bad.is_empty() {
            return Err(anyhow!("the archive is damaged:\n{}", lines(&bad)));
        }
    }
    answer?;
    Ok(session.notes)
}

/// One statement that reads.
fn read(text: &str) -> anyhow::Result<Statement> {
    let mut statements = DFParserBuilder::new(text)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(|error| anyhow!("the query cannot be read: {}", parser_words(&error)))?;
    let (Some(statement), None) = (statements.pop_front(), statements.pop_front()) else {
        bail!("give one query; several are asked one after another, each with `manumit query`")
    };
    refuse_changes(&statement)?;
    Ok(statement)
}

fn parser_words(error: &DataFusionError) -> String {
    match error.find_root() {
        DataFusionError::SQL(error, _) => {
            let words = error.to_string();
            words.strip_prefix("sql parser error: ").map(String::from).unwrap_or(words)
        }
        other => other.strip_backtrace(),
    }
}

fn refuse_changes(statement: &Statement) -> anyhow::Result<()> {
    let inner = match statement {
        Statement::Explain(explain) => return refuse_changes(&explain.statement),
        Statement::Statement(inner) => inner,
        other => bail!("{}", only_select(&other.to_string())),
    };
    match inner.as_ref() {
        Ast::Query(_) => Ok(()),
        Ast::Explain { statement, .. } => match statement.as_ref() {
            Ast::Query(_) => Ok(()),
            other => bail!("{}", only_select(&other.to_string())),
        },
        other => bail!("{}", only_select(&other.to_string())),
    }
}

fn only_select(statement: &str) -> String {
    let verb: Vec<&str> = statement.split_whitespace().take(2).collect();
    format!(
        "`{}` is refused: `manumit query` reads and changes nothing, so that what was archived stays as evidence; \
         write a SELECT, and --out FILE for its result",
        verb.join(" ")
    )
}

/// Tables that a statement names; an unknown one is refused with the nearest.
fn tables_of(sql: &Sql, statement: &Statement, files: &[FileTable]) -> anyhow::Result<Vec<String>> {
    let own = || files.iter().map(|file| file.name.as_str());
    let state = sql.session().state();
    let mut named = Vec::new();
    for reference in state.resolve_table_references(statement)? {
        let name = reference.to_string();
        if TABLES.contains(&name.as_str()) || own().any(|own| own == name) {
            named.push(name);
        } else if !state.table_functions().contains_key(reference.table()) {
            let known: Vec<&str> = TABLES.into_iter().chain(own()).collect();
            let help = nearest(&name, known.iter().copied()).map_or_else(
                || format!("there are {}, and files given as --table {name}=FILE", known.join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            bail!("there is no table `{name}`; {help}");
        }
    }
    if named.iter().any(|name| name == "entries") {
        // Entries are read out of it.
        named.insert(0, "transactions".into());
    }
    let mut known = std::collections::BTreeSet::new();
    named.retain(|name| known.insert(name.clone()));
    Ok(named)
}

struct Session {
    sql: Sql,
    notes: Vec<String>,
    /// The archive, when its checksums were not compared.
    unchecked: Option<Archive>,
}

impl Session {
    async fn register(&mut self, name: &str, config: &Config, args: &QueryArgs) -> anyhow::Result<()> {
        if let Some(file) = args.tables.iter().find(|file| file.name == name) {
            let what = || format!("--table {name}: {} cannot be read", file.path.display());
            let (schema, batches) = files::read(&file.path).with_context(what)?;
            let table = MemTable::try_new(schema, vec![batches]).with_context(what)?;
            self.sql.session().register_table(name, Arc::new(table))?;
            return Ok(());
        }
        let reference = self.sql.reference().get();
        let batch = match name {
            "transactions" => return self.transactions(config, args),
            "entries" => return self.entries().await,
            "alerts" => {
                let schema = documents::arrow_schema(&alert::json_schema());
                return self.documents(name, &args.alerts, Some(&config.output.alerts), &schema, args);
            }
            "hits" => {
                let schema = documents::arrow_schema(&schemars::schema_for!(Hit).to_value());
                return self.documents(name, &args.hits, config.output.hits.as_ref(), &schema, args);
            }
            "lists" => reference.lists_table()?,
            "mcc_groups" => reference.mcc_groups_table()?,
            _ => {
                let Some(table) = Table::ALL.into_iter().find(|table| table.name() == name) else {
                    bail!("there is no table `{name}`")
                };
                if reference.rows(table) == 0 {
                    self.notes.push(format!(
                        "the reference table `{name}` is empty: name its file in manumit.toml, `[reference] {name} = …`"
                    ));
                }
                reference.table(table)?
            }
        };
        Ok(self.sql.register(name, batch)?)
    }

    fn transactions(&mut self, config: &Config, args: &QueryArgs) -> anyhow::Result<()> {
        let Some(folder) = args.archive.as_ref().or(config.archive.folder.as_ref()) else {
            bail!(
                "`transactions` and `entries` are read from an archive: give --archive DIR, or `[archive] folder = \"…\"` \
                 in manumit.toml"
            )
        };
        let mut tries = 0;
        let (archive, files, bad, depth) = loop {
            let archive = Archive::open(folder)?;
            let files = archive.files(None, None);
            let bytes: u64 = files.iter().map(|entry| entry.bytes).sum();
            let depth = if args.check || bytes <= CHECKED_BYTES { Depth::Checksums } else { Depth::Footers };
            let (sound, mut bad) = archive.check(files, depth);
            bad.extend(archive.strangers()?);
            // A writer may have merged or expired files since the manifest was read.
            let moved = Archive::open(folder)?.manifest().commits != archive.manifest().commits;
            if bad.is_empty() || !moved || tries == 3 {
                break (archive, sound, bad, depth);
            }
            tries += 1;
        };
        if !bad.is_empty() && !args.skip_bad_files {
            bail!("the archive is damaged:\n{}", lines(&bad));
        }
        self.notes.extend(bad.iter().map(|bad| format!("left out: {}: {}", bad.path.display(), bad.why)));
        if depth == Depth::Footers {
            self.notes.push(
                "the archive is large, so checksums were not compared: `manumit archive verify` does, or --check".into(),
            );
            self.unchecked = Some(archive.clone());
        }
        self.sql.session().register_table("transactions", Arc::new(ArchiveTable::new(archive, files)))?;
        Ok(())
    }

    /// Two selections under one another, so that a filter on `account` reaches the bloom filters of either side.
    async fn entries(&self) -> anyhow::Result<()> {
        let view = self.sql.session().sql(&entries_sql()).await?.into_view();
        self.sql.session().register_table("entries", view)?;
        Ok(())
    }

    fn documents(
        &mut self,
        name: &str,
        given: &Option<PathBuf>,
        configured: Option<&String>,
        schema: &arrow::datatypes::SchemaRef,
        args: &QueryArgs,
    ) -> anyhow::Result<()> {
        let configured = configured.filter(|to| *to != "-" && !to.starts_with("kafka:")).map(PathBuf::from);
        let Some(path) = given.clone().or(configured) else {
            bail!(
                "`{name}` is read from a file of JSON lines: give --{name} FILE, as `manumit run --{name} FILE` wrote it"
            )
        };
        let (batches, bad) =
            documents::read(&path, schema).with_context(|| format!("{} cannot be read", path.display()))?;
        if !bad.is_empty() && !args.skip_bad_files {
            let words: Vec<String> = bad.iter().map(ToString::to_string).collect();
            bail!("{}", words.join("\n"));
        }
        self.notes.extend(bad.iter().map(|bad| format!("left out: {}:{}: {}", bad.file, bad.line, bad.why)));
        let table = MemTable::try_new(schema.clone(), vec![batches])?;
        self.sql.session().register_table(name, Arc::new(table))?;
        Ok(())
    }

    async fn answer(&self, statement: Statement, args: &QueryArgs) -> anyhow::Result<()> {
        let state = self.sql.session().state();
        let plan = state.statement_to_plan(statement).await.map_err(|e| words(&e))?;
        SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false)
            .verify_plan(&plan)
            .map_err(|e| anyhow!("{}", only_select(&e.strip_backtrace())))?;
        let schema = Arc::new(plan.schema().as_arrow().clone());
        let mut stream = DataFrame::new(state, plan).execute_stream().await.map_err(|e| words(&e))?;
        let mut results = Results::open(args.format, args.out.as_deref(), &schema)?;
        loop {
            let written = match stream.next().await {
                None => break,
                Some(Ok(rows)) => results.write(&rows),
                Some(Err(error)) => Err(words(&error)),
            };
            if let Err(error) = written {
                results.give_up();
                return read_enough(error);
            }
        }
        results.finish().map(|_| ()).or_else(read_enough)
    }
}

/// Whoever reads the output may stop when it has seen enough (`| head`).
fn read_enough(error: anyhow::Error) -> anyhow::Result<()> {
    let closed = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe);
    if closed { Ok(()) } else { Err(error) }
}

pub(crate) fn lines(bad: &[BadFile]) -> String {
    bad.iter().map(|bad| format!("  {bad}")).collect::<Vec<_>>().join("\n")
}

/// DataFusion's fault, in the words of this program where they are known to be better.
pub(crate) fn words(error: &DataFusionError) -> anyhow::Error {
    match error.find_root() {
        DataFusionError::SchemaError(fault, _) => match fault.as_ref() {
            SchemaError::FieldNotFound { field, valid_fields } => {
                let known: Vec<&str> = valid_fields.iter().map(|column| column.name.as_str()).collect();
                let help = match nearest(&field.name, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if known.len() > 20 => {
                        "see `manumit schema transactions --markdown` for the columns".to_string()
                    }
                    None => format!("there are {}", known.join(", ")),
                };
                anyhow!("there is no column `{}`; {help}", field.name)
            }
            other => anyhow!("{other}"),
        },
        other => {
            let text = other.strip_backtrace();
            let text = text.strip_prefix("Error during planning: ").map(String::from).unwrap_or(text);
            anyhow!("{text}")
        }
    }
}

/// Entries as the engine makes them: a side with a known account that is not external.
pub(crate) fn entries_sql() -> String {
    let side = |direction: &str| {
        let mut columns = vec![format!("'{direction}' AS direction")];
        columns.extend(ENTRY_SIDES.iter().map(|(name, out, inward)| {
            format!("{} AS {name}", if direction == "out" { out } else { inward })
        }));
        columns.extend(TRANSACTIONS.iter().map(|column| column.name.to_string()));
        columns.extend(["late".to_string(), EVENT_DATE.to_string()]);
        let party = if direction == "out" { "debtor" } else { "creditor" };
        format!(
            "SELECT {} FROM transactions WHERE {party}_account IS NOT NULL AND {party}_external IS NOT TRUE",
            columns.join(", ")
        )
    };
    format!("{} UNION ALL {}", side("out"), side("in"))
}
