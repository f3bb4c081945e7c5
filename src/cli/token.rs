use crate::access::{Credential, Expiry, Role, Token};
use crate::config::Days;
use crate::domain::Actor;

/// `stockroom token`.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Create a token: prints the token, and the line for --tokens-file or STOCKROOM_TOKENS
    ///
    /// The server needs only the line, which does not reveal the token. Give the token to its user, who sends it as
    /// `Authorization: Bearer TOKEN`. It is shown only once.
    New(New),
}

#[derive(clap::Args)]
struct New {
    /// Name of its user in the ledger and the log; several tokens may have the same name
    #[arg(long, value_parser = |name: &str| Actor::parse(name).map_err(|invalid| invalid.detail))]
    name: Actor,

    /// Role; each role includes the previous ones
    #[arg(long)]
    role: Role,

    /// Validity in days after today, such as 90d; default: unlimited
    #[arg(long, value_name = "DAYS")]
    expires: Option<Days>,
}

/// Runs `stockroom token`.
pub fn run(arguments: Arguments) -> Result<(), String> {
    let Command::New(New { name, role, expires }) = arguments.command;
    let token = Token::generate().map_err(|error| format!("cannot get random numbers: {error}"))?;
    let expiry = expires.map(|days| Expiry::in_days(days).ok_or("--expires: the date is too far ahead")).transpose()?;
    let credential = Credential { name, role, digest: token.digest(), expiry };
    eprintln!("The first line is the token, for its user. The second is for the server: a line of --tokens-file.");
    println!("{}\n{credential}", token.reveal());
    Ok(())
}
