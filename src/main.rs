//! The program: reads the command line and hands over to one subcommand.

use std::process::ExitCode;

fn main() -> ExitCode {
    stockroom::cli::run(std::env::args_os())
}
