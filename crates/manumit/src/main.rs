//! The `manumit` command.

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use manumit::schema_text;

/// Watches bank transaction feeds for money flows linked to human trafficking.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:\n  manumit schema transactions --markdown   the columns a feed maps to\n  manumit schema alert                     the JSON Schema of an alert"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the definition of a table or document
    Schema {
        /// What to print
        what: What,
        /// Reference documentation in place of JSON Schema (tables only)
        #[arg(long)]
        markdown: bool,
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
    /// A record set aside
    DeadLetter,
}

impl What {
    fn name(self) -> &'static str {
        match self {
            What::Transactions => "transactions",
            What::Entries => "entries",
            What::Alert => "alert",
            What::DeadLetter => "dead-letter",
        }
    }
}

fn main() -> ExitCode {
    let Command::Schema { what, markdown } = Cli::parse().command;
    match schema_text(what.name(), markdown) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
