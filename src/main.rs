//! The binary: arguments, logging, exit code. Everything else is in the library; its front page is the map.

use afferent::cli::{self, Cli};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = Cli::parse();
    let done = cli::logging::start(&arguments.logging, arguments.command.logs())
        .and_then(|()| cli::execute(arguments.command));
    done.unwrap_or_else(|error| cli::fail(&error))
}
