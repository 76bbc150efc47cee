//! The `manumit` command.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Args, Parser, Subcommand, ValueEnum};
use manumit::alert_log::{VerifyLogArgs, verify_log};
use manumit::archive::command::{ArchiveCommand, archive};
use manumit::backtest::{self, BacktestArgs};
use manumit::baselines::{BaselinesArgs, baselines};
use manumit::cases::{TestArgs, test};
use manumit::checkpoint::command::{CheckpointCommand, checkpoint};
use manumit::cluster::{ClusterCommand, cluster};
use manumit::config::Config;
use manumit::coverage::{CoverageArgs, coverage};
use manumit::demo::{self, Demo, demo};
use manumit::evaluate::{EvaluateArgs, evaluate};
use manumit::limits::{self, DEFAULT_RECORD};
use manumit::progress::summary;
use manumit::project::Project;
use manumit::query::{QueryArgs, query};
use manumit::reference::bytes_of_files;
use manumit::service::{RunArgs, on_signal, service};
use manumit::show::{self, ShowArgs, show};
use manumit::status::{StatusArgs, status};
use manumit::telemetry::init_logs;
use manumit::verify::{VerifyAlertArgs, verify_alert};
use manumit::{checks, samples, schema_text};

/// Prints a line on standard output.
macro_rules! say {
    ($($text:tt)*) => { say(format_args!($($text)*)) };
}

/// A reader that has gone away, such as `| head`, is no fault.
fn say(text: std::fmt::Arguments<'_>) {
    let written = writeln!(std::io::stdout().lock(), "{text}");
    if let Err(error) = written
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        manumit::note!("standard output cannot be written: {error}");
    }
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Watches bank transaction feeds for money flows linked to human trafficking.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:
  manumit init my-project                           rules, feeds and guides to begin with
  manumit run --feed my-bank --from day1.jsonl      a file through all typologies; alerts on standard output
  manumit run --feed my-bank                        the feed's Kafka topics, until stopped
  manumit query --archive archive 'SELECT count(*) FROM transactions'
  manumit show alerts.jsonl                         alerts as people read and print them
  manumit feed check my-bank day1.jsonl             how a sample maps, and what is rejected and why
  manumit check                                     every fault in rules, feeds and configuration
  manumit explain wage-sweep-to-controller          a typology in words, with thresholds and sources
  manumit coverage                                  published red flags, what covers them, and what does not and why
  manumit schema transactions --markdown            the columns a feed maps to"
)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Common {
    /// Folder with rules/, sql/ and manumit.toml; where there are none, the built-in pack is used
    #[arg(long, global = true, default_value = ".")]
    project: PathBuf,
    /// Configuration file [default: manumit.toml of the project]
    #[arg(long, global = true)]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Simulate a bank with planted networks, find them, and show one alert in full
    #[command(after_help = "Examples:
  manumit demo                                  5,000 customers, 90 days; nothing else is needed
  manumit demo --folder demo --seed 8           keep the feed, reference tables and alerts
  manumit demo --kafka localhost:9092           the same feed through Kafka topics")]
    Demo {
        #[command(flatten)]
        bank: Bank,
        /// Keep all files here [default: a temporary folder that goes away]
        #[arg(long)]
        folder: Option<PathBuf>,
        /// Send the feed through a new topic of these brokers
        #[arg(long)]
        kafka: Option<String>,
        /// Worker threads [default: one a core]
        #[arg(long, default_value_t = 0)]
        threads: usize,
    },
    /// Write the simulated bank's feed and reference tables, and evaluate nothing
    #[command(after_help = "Examples:
  manumit simulate --folder bank                a feed of JSON lines, the bank's tables, and what was planted
  manumit simulate --folder bank --kafka localhost:9092
  manumit run --config bank/manumit.toml --feed demo --from bank/demo-bank.jsonl")]
    Simulate {
        #[command(flatten)]
        bank: Bank,
        /// Folder for feed and reference tables
        #[arg(long, required_unless_present = "kafka")]
        folder: Option<PathBuf>,
        /// Send the feed to these brokers
        #[arg(long)]
        kafka: Option<String>,
        /// Topic of the feed
        #[arg(long, default_value = "demo-bank")]
        topic: String,
        /// Records a second at most [default: as fast as they are taken]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        rate: Option<u32>,
    },
    /// Evaluate feeds from files or Kafka and publish alerts
    #[command(after_help = "Examples:
  manumit run --feed my-bank --from day1.jsonl --alerts alerts.jsonl
  zcat day1.jsonl.gz | manumit run --feed my-bank --from -
  manumit run --feed my-bank --until-end            read the topics to their present end, then stop
  MANUMIT_KAFKA_BROKERS=broker:9092 manumit run --feed my-bank --listen 0.0.0.0:9464")]
    Run(RunArgs),
    /// Try rules over past transactions: alerts over time, against other rules and known cases
    #[command(after_help = "Examples:
  manumit backtest --data history/ --from 2026-01-01 --to 2026-03-31
  manumit backtest --typology wage-sweep-to-controller --data 2025.parquet --against HEAD~1
  manumit backtest --data history/ --labels known-cases.csv --segment debtor_country --out report
  manumit backtest --data history/ --verify         each indicator's own SQL must find the same
  manumit backtest --data history/ --cluster http://127.0.0.1:50050")]
    Backtest(BacktestArgs),
    /// Ask the archive, alerts and reference tables in SQL
    #[command(after_help = "Examples:
  manumit query --archive archive \"SELECT * FROM transactions WHERE debtor_account = 'MANU005006' ORDER BY event_time\"
  manumit query --archive archive \"SELECT account, count(*), sum(amount_base) FROM entries WHERE direction = 'in' GROUP BY account\"
  manumit query --alerts alerts.jsonl \"SELECT typology['id'], count(*) FROM alerts GROUP BY 1\" --format csv --out alerts.csv
  manumit query \"SELECT * FROM customers WHERE valid_to IS NULL\"")]
    Query(QueryArgs),
    /// Work out of the archive what is usual for each customer and among peers, as reference tables that rules use
    #[command(after_help = "Examples:
  manumit baselines --archive archive                            valid from the day after the archive's newest
  manumit baselines --as-of 2026-02-01 --as-of 2026-03-01        several, for a backtest: none knows what came after it")]
    Baselines(BaselinesArgs),
    /// Whether an alert log is whole: names the first record that was altered, is missing or was swapped
    #[command(after_help = "Examples:
  manumit run --feed my-bank --from day1.jsonl --alerts alerts.jsonl --alert-log alert-log.jsonl
  manumit verify-log alert-log.jsonl
  manumit verify-log alert-log.jsonl --alerts alerts.jsonl --head 5e884898da28047151d0e56f8dc62927…")]
    VerifyLog(VerifyLogArgs),
    /// How a running service is doing, by feed and partition, or how the last one ended
    #[command(after_help = "Examples:
  manumit status                                asks the run at `[server] listen`, else reads `[ledger] folder`
  manumit status --listen 127.0.0.1:9464 --json
  manumit status --ledger ledger

Ends with 1 when nothing can be told, a sum of the ledger does not hold, or the run is in trouble.")]
    Status(StatusArgs),
    /// Alerts as people read and print them: a table, one of them in words, or a page
    #[command(after_help = "Examples:
  manumit show alerts.jsonl                         a table: number, id, revision, time, urgent, typology, subject, score
  manumit show alerts.jsonl 17                      that one in full
  manumit show alerts.jsonl 4e5d44eb --html alert.html
  manumit show alerts.jsonl --html urgent.html      one page of all urgent ones, to print")]
    Show(ShowArgs),
    /// Decide an alert again from its own evidence alone, and say whether it holds; needs no project and no network
    #[command(after_help = "Ends with 0 when it holds, 1 when it does not, 2 when that cannot be decided.

Examples:
  manumit verify-alert alert.json
  manumit verify-alert alerts.jsonl                 each alert of the file
  jq -c 'select(.urgent)' alerts.jsonl | manumit verify-alert -")]
    VerifyAlert(VerifyAlertArgs),
    /// See and verify the checkpoints of a run
    #[command(subcommand)]
    Checkpoint(CheckpointCommand),
    /// See, verify, merge and expire the archive of transactions
    #[command(subcommand)]
    Archive(ArchiveCommand),
    /// Spread backtests over several processes, with Apache DataFusion Ballista
    #[command(
        subcommand,
        after_help = "Examples:
  manumit cluster start                         a scheduler and two executors, until Ctrl-C
  manumit cluster scheduler --listen 10.0.0.5:50050
  manumit cluster executor --scheduler http://10.0.0.5:50050 --listen 10.0.0.6:50051"
    )]
    Cluster(ClusterCommand),
    /// Begin a project: copy the built-in rules, feeds and guides to a folder
    #[command(after_help = "Example:
  manumit init my-bank
  manumit check --project my-bank")]
    Init {
        /// Folder, made when it does not exist
        folder: PathBuf,
    },
    /// Check configuration, rules and feeds; nothing is started
    Check,
    /// Try the cases of typologies: what they must find, and what they must leave alone
    #[command(after_help = "Examples:
  manumit test                                  all cases, each told five ways; no Kafka, no feed
  manumit test price-band-fan-in                those of one typology
  manumit test --junit cases.xml                for a build server
  manumit test --mutate price-band-fan-in       which of its thresholds the cases do not hold")]
    Test(TestArgs),
    /// How well alerts meet known cases, or what analysts decided: recall, precision, time to detection
    #[command(after_help = "Examples:
  manumit simulate --folder bank
  manumit run --config bank/manumit.toml --feed demo --from bank/demo-bank.jsonl --alerts alerts.jsonl
  manumit evaluate --alerts alerts.jsonl --truth bank/truth.csv --customers bank/customers.csv --out evaluation
  manumit evaluate --alerts alerts.jsonl --dispositions decided.csv")]
    Evaluate(EvaluateArgs),
    /// Which published red flags the rules cover, which they do not, and why
    #[command(after_help = "Examples:
  manumit coverage                              in Markdown, on standard output
  manumit coverage --output coverage.html       one page for those who do not read rules
  manumit coverage --check                      ends with 1 when a red flag has neither a rule nor a reason")]
    Coverage(CoverageArgs),
    /// A typology or indicator in words, with what it shares with others, or as SQL; without id the list of all
    #[command(after_help = "Examples:
  manumit explain
  manumit explain sextortion-mule
  manumit explain many-senders-fast-out --sql
  manumit explain --all                             the one plan that all rules run as
  manumit explain --memory                          what a run may hold in memory, by part")]
    Explain {
        /// Typology or indicator
        id: Option<String>,
        /// The SQL that it means
        #[arg(long)]
        sql: bool,
        /// The one plan of all rules: what is worked out and kept once, and who uses it
        #[arg(long, conflicts_with_all = ["id", "sql"])]
        all: bool,
        /// What a run may hold in memory, part by part, and what happens at each bound
        #[arg(long, conflicts_with_all = ["id", "sql", "all"])]
        memory: bool,
    },
    /// Work on a feed's mapping
    #[command(subcommand)]
    Feed(FeedCommand),
    /// Print the definition of a table or document
    Schema {
        /// What to print
        what: What,
        /// Reference documentation in place of JSON Schema (tables only)
        #[arg(long)]
        markdown: bool,
    },
}

/// The simulated bank.
#[derive(Args)]
struct Bank {
    /// Seed of all randomness
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Ordinary customers
    #[arg(long, default_value_t = 5000)]
    customers: u32,
    /// Days
    #[arg(long, default_value_t = 90)]
    days: u32,
    /// Networks of each typology
    #[arg(long, default_value_t = 4)]
    networks: u32,
    /// Networks of each typology that keep under its thresholds
    #[arg(long, default_value_t = 0)]
    stealthy: u32,
    /// People of each typology who only look like it [default: five for each network]
    #[arg(long)]
    look_alikes: Option<u32>,
    /// Only networks of these typologies, between commas [default: of all]
    #[arg(long, value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(manumit_sim::plantable()), hide_possible_values = true)]
    typologies: Vec<String>,
}

impl Bank {
    fn options(&self) -> manumit_sim::Options {
        let Bank { seed, customers, days, networks, stealthy, look_alikes, ref typologies } = *self;
        let (look_alikes, typologies) =
            (look_alikes.unwrap_or(networks.saturating_mul(5)), typologies.clone());
        manumit_sim::Options { seed, customers, days, networks, stealthy, look_alikes, typologies }
    }
}

#[derive(Subcommand)]
enum FeedCommand {
    /// Show how a sample maps, column by column, and what is rejected and why
    Check {
        /// Feed: a name under sql/feeds/ or a file
        feed: String,
        /// Sample files
        #[arg(required = true)]
        samples: Vec<String>,
    },
    /// Print a feed file to complete, with the shape of a sample: JSON lines, JSON, CSV or Parquet
    New {
        /// Name of the feed
        name: String,
        /// Sample file
        #[arg(long)]
        sample: String,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// One row a payment, card event or cash movement
    Transactions,
    /// One row a side of a payment
    Entries,
    /// What an FIU receives
    Alert,
    /// One hit of one indicator
    Hit,
    /// manumit.toml
    Config,
    /// An indicator or typology file
    Rule,
    /// A record set aside
    DeadLetter,
}

impl What {
    fn name(self) -> &'static str {
        match self {
            What::Transactions => "transactions",
            What::Entries => "entries",
            What::Alert => "alert",
            What::Hit => "hit",
            What::Config => "config",
            What::Rule => "rule",
            What::DeadLetter => "dead-letter",
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    init_logs(std::io::stderr().is_terminal());
    match command(cli) {
        Ok(code) => code,
        Err(error) => {
            manumit::note!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command(cli: Cli) -> anyhow::Result<ExitCode> {
    let Cli { common, command } = cli;
    match command {
        Command::Schema { what, markdown } => say!("{}", schema_text(what.name(), markdown)?),
        Command::Run(args) => service(&common.project, read_config(&common)?, args)?,
        Command::Simulate { bank, folder, kafka, topic, rate } => {
            let mut settings = read_config(&common)?.kafka.settings();
            settings.brokers = kafka.clone().unwrap_or_default();
            let to = kafka.as_ref().map(|_| (&settings, topic.as_str()));
            let mut bank = manumit_sim::Bank::new(&bank.options());
            demo::live(&mut bank, folder.as_deref(), to, rate)?;
            say!(
                "{} transactions of {} accounts, {} planted networks and look-alikes",
                bank.count(),
                bank.customers().len(),
                bank.planted().len()
            );
        }
        Command::Demo { bank, folder, kafka, threads } => {
            let mut settings = read_config(&common)?.kafka.settings();
            let kafka = kafka.map(|brokers| {
                settings.brokers = brokers;
                settings.group = format!("manumit-demo-{}", std::process::id());
                settings
            });
            let options = bank.options();
            demo_command(&Demo {
                options,
                folder,
                kafka,
                threads,
                terminal: std::io::stderr().is_terminal(),
            })?;
        }
        Command::Backtest(args) => {
            let stop = Arc::new(AtomicBool::new(false));
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            runtime.spawn(on_signal(stop.clone(), Arc::default()));
            let mut config = read_config(&common)?;
            let files = if config.limits.memory.is_some() { bytes_of_files(&config)? } else { 0 };
            limits::settle(&mut config, DEFAULT_RECORD, files)?;
            let report = backtest::backtest(&common.project, &config, &args, &stop, &runtime)?;
            say!("{}", backtest::words(&report, &args.out));
            runtime.shutdown_background();
            if report.checked.is_some_and(|checked| !checked.same()) {
                manumit::note!("error: the engine and the indicators' own SQL differ; see above");
                return Ok(ExitCode::from(2));
            }
        }
        Command::Cluster(command) => {
            let mut again = vec!["--project".to_string(), common.project.display().to_string()];
            if let Some(config) = &common.config {
                again.extend(["--config".to_string(), config.display().to_string()]);
            }
            cluster(&common.project, &read_config(&common)?, &again, &command)?;
        }
        Command::Query(args) => {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            for note in query(&common.project, &read_config(&common)?, &args, &runtime)? {
                manumit::note!("{note}");
            }
        }
        Command::Baselines(args) => {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            say!("{}", baselines(&common.project, &read_config(&common)?, &args, &runtime)?);
        }
        Command::Archive(command) => {
            let (report, well) = archive(&read_config(&common)?, &command)?;
            say!("{report}");
            return Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Status(args) => {
            let (report, well) = status(&read_config(&common)?, &args)?;
            say!("{report}");
            return Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::VerifyLog(args) => say!("{}", verify_log(&args)?),
        Command::Show(args) => say!("{}", show(&args)?),
        Command::VerifyAlert(args) => match verify_alert(&args) {
            Ok((report, code)) => {
                say!("{report}");
                return Ok(ExitCode::from(code));
            }
            Err(error) => {
                manumit::note!("error: {error:#}");
                return Ok(ExitCode::from(2));
            }
        },
        Command::Checkpoint(command) => {
            let (report, well) = checkpoint(&read_config(&common)?, &command)?;
            say!("{report}");
            return Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Init { folder } => {
            let files = Project::init(&folder)?;
            say!("{files} files written; next: manumit check --project {}", folder.display());
        }
        Command::Check => {
            let report = checks::check(&Project::at(&common.project), &read_config(&common)?)?;
            say!("{report}");
        }
        Command::Test(args) => {
            let (report, as_wanted) = test(&Project::at(&common.project), &args)?;
            say!("{report}");
            return Ok(if as_wanted { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Evaluate(args) => say!("{}", evaluate(&args)?),
        Command::Coverage(args) => {
            let (report, missing) = coverage(&Project::at(&common.project), &args)?;
            say!("{}", report.trim_end());
            if !missing.is_empty() {
                manumit::note!(
                    "{}\nerror: {} without rule or reason. Name each in the `references` of a rule that covers \
                     it, or say in its `not_covered` why none does.",
                    missing.join("\n"),
                    missing.len()
                );
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Explain { memory: true, .. } => {
            let mut config = read_config(&common)?;
            let files = bytes_of_files(&config)?;
            limits::settle(&mut config, DEFAULT_RECORD, files)?;
            say!("{}", limits::table(&limits::parts(&config, DEFAULT_RECORD, files)))
        }
        Command::Explain { all: true, .. } => {
            say!("{}", checks::explain_all(&Project::at(&common.project))?)
        }
        Command::Explain { id, sql, .. } => {
            say!("{}", checks::explain(&Project::at(&common.project), id.as_deref(), sql)?)
        }
        Command::Feed(FeedCommand::Check { feed, samples }) => {
            let (project, config) = (Project::at(&common.project), read_config(&common)?);
            let (report, clean) = samples::feed_check(&project, &config, &feed, &samples)?;
            say!("{report}");
            return Ok(if clean { ExitCode::SUCCESS } else { ExitCode::from(2) });
        }
        Command::Feed(FeedCommand::New { name, sample }) => say!("{}", samples::feed_new(&name, &sample)?),
    }
    Ok(ExitCode::SUCCESS)
}

/// Transactions of the alert that the demo shows in full.
const EXAMPLE_ROWS: usize = 20;

fn demo_command(settings: &Demo) -> anyhow::Result<()> {
    manumit::note!(
        "simulating {} customers over {} days, with {} networks of each typology",
        settings.options.customers,
        settings.options.days,
        settings.options.networks
    );
    let stop = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.spawn(on_signal(stop.clone(), Arc::default()));
    let outcome = demo(settings, &stop)?;
    say!("{}", demo::table(&outcome));
    if let Some(alert) = demo::example(&outcome) {
        say!("\n{}", show::text(alert, EXAMPLE_ROWS));
    }
    say!("{}", summary(&outcome.totals, outcome.seconds));
    if let Some(folder) = &settings.folder {
        say!("feed, reference tables and alerts are in {}", folder.display());
    }
    say!(
        "\nGo on: `manumit explain` lists the typologies, `manumit init my-bank` begins a project of your own with the guides \
         (rules/README.md for those who write rules, sql/feeds/README.md for those who bring a feed)."
    );
    runtime.shutdown_background();
    Ok(())
}

fn read_config(common: &Common) -> anyhow::Result<Config> {
    Config::read(common.config.as_deref(), &common.project, std::env::vars())
        .map_err(|fault| anyhow::anyhow!("{fault}"))
}
