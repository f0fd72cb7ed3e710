//! The `nexus-admin` program: what operators ask, and the two things that only
//! a person may decide.
//!
//! It reads the database itself, so that it works when no Nexus does. Each
//! command makes a [`Report`](report::Report), which is printed as text, or with
//! `--json` for scripts; `docs/operations.md` has the fields, and the exit
//! codes.

mod confirm;
mod credentials;
mod database;
mod failure;
mod instance;
mod lease;
mod placement;
mod report;
mod saga;
mod saga_abandon;
mod sled;
mod sled_expunge;
mod sled_token;
mod status;
mod table;
mod user;
mod words;

use clap::{Parser, Subcommand};
use database::{Database, Source};
use db_model::{SagaId, SledId};
use failure::Failure;
use report::print;
use std::process::ExitCode;

/// Shows what Nexus does and why, from its database; expunges sleds and
/// abandons sagas; lets users in again.
///
/// Needs --config or --database-url. Exit codes: 0 done, 1 failed, 2 wrongly
/// asked or not found.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    source: Source,
    /// Answer as JSON, for scripts
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// How it stands: Nexuses, sagas, unsettled instances, sleds
    Status,
    /// Sagas: what is being carried out
    #[command(subcommand)]
    Saga(SagaCommand),
    /// Instances: what is known of one, and what comes next
    #[command(subcommand)]
    Instance(InstanceCommand),
    /// Users: for when nobody can log in
    #[command(subcommand)]
    User(UserCommand),
    /// Sleds: the hosts
    #[command(subcommand)]
    Sled(SledCommand),
    /// Files by which other programs are let in between machines (needs
    /// --config, and no database)
    #[command(subcommand)]
    Credentials(credentials::For),
}

#[derive(Subcommand)]
enum SagaCommand {
    /// Unfinished sagas, oldest first
    List(saga::List),
    /// A saga's nodes and records, and what failed
    Show {
        /// The saga's id
        id: SagaId,
    },
    /// Give an unfinished saga up: nobody runs it any more
    Abandon {
        /// The saga's id
        id: SagaId,
        /// Do not ask for its name first
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Subcommand)]
enum InstanceCommand {
    /// All about an instance, and what the reconciler would do now
    Show {
        /// Its id, or SILO/PROJECT/NAME
        #[arg(value_name = "ID|SILO/PROJECT/NAME")]
        which: instance::Which,
    },
    /// Where an instance would go now, and what speaks against each sled
    Placement {
        /// Its id, or SILO/PROJECT/NAME
        #[arg(value_name = "ID|SILO/PROJECT/NAME")]
        which: instance::Which,
    },
}

#[derive(Subcommand)]
enum UserCommand {
    /// Set a user's password, read from the first line of standard input
    SetPassword(user::Which),
    /// Make an access token of a user's, and print it, once
    IssueToken {
        #[command(flatten)]
        which: user::Which,
        /// For how long it is good, in seconds; by default for ever
        #[arg(long, value_name = "SECONDS")]
        ttl_secs: Option<u32>,
    },
}

#[derive(Subcommand)]
enum SledCommand {
    /// All sleds
    List,
    /// Say that a host is off for good (through a live Nexus; needs --config)
    Expunge {
        /// The sled's id
        id: SledId,
        /// A Nexus's internal API, in place of one that the database names
        #[arg(long, value_name = "URL")]
        nexus: Option<String>,
        /// Do not ask for its serial first
        #[arg(long)]
        yes: bool,
    },
    /// Tokens by which hosts join the fleet
    #[command(subcommand)]
    Token(SledTokenCommand),
}

#[derive(Subcommand)]
enum SledTokenCommand {
    /// Make a token by which one host joins, and print it, once
    Issue {
        /// The sled that the host is already, if it is to join again: its
        /// certificate ran out, or was lost with its directory
        #[arg(long, value_name = "ID")]
        sled: Option<SledId>,
        /// For how long it is good, in seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
        ttl_secs: u32,
    },
    /// Tokens that have not expired, used ones too
    List,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = tokio::runtime::Runtime::new()
        .map_err(|e| Failure::failed(format!("cannot begin: {e}")))
        .and_then(|runtime| {
            let done = runtime.block_on(run(&args));
            // A connection that is still waited for is waited for no longer.
            runtime.shutdown_background();
            done
        });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

async fn run(args: &Args) -> Result<(), Failure> {
    let json = args.json;
    // What needs no database waits for none.
    if let Command::Credentials(whose) = &args.command {
        return print(
            &credentials::write(&args.source.config()?, whose)?,
            json,
        );
    }
    let database = Database::open(&args.source).await?;
    match &args.command {
        Command::Status => print(&status::read(&database).await?, json),
        Command::Saga(SagaCommand::List(list)) => {
            print(&saga::list(&database, list).await?, json)
        }
        Command::Saga(SagaCommand::Show { id }) => {
            print(&saga::show(&database, *id).await?, json)
        }
        Command::Saga(SagaCommand::Abandon { id, yes }) => {
            print(&saga_abandon::abandon(&database, *id, *yes).await?, json)
        }
        Command::Instance(InstanceCommand::Show { which }) => {
            print(&instance::show(&database, which).await?, json)
        }
        Command::Instance(InstanceCommand::Placement { which }) => {
            print(&placement::show(&database, which).await?, json)
        }
        Command::User(UserCommand::SetPassword(which)) => {
            print(&user::set_password(&database, which).await?, json)
        }
        Command::User(UserCommand::IssueToken { which, ttl_secs }) => {
            let issued = user::issue_token(&database, which, *ttl_secs);
            print(&issued.await?, json)
        }
        // Done already.
        Command::Credentials(_) => Ok(()),
        Command::Sled(SledCommand::List) => {
            print(&sled::list(&database).await?, json)
        }
        Command::Sled(SledCommand::Expunge { id, nexus, yes }) => {
            let nexus = nexus.as_deref();
            let done = sled_expunge::expunge(&database, *id, nexus, *yes);
            print(&done.await?, json)
        }
        Command::Sled(SledCommand::Token(SledTokenCommand::Issue {
            sled,
            ttl_secs,
        })) => {
            let issued = sled_token::issue(&database, *sled, *ttl_secs);
            print(&issued.await?, json)
        }
        Command::Sled(SledCommand::Token(SledTokenCommand::List)) => {
            print(&sled_token::list(&database).await?, json)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_help_shows_no_password_from_the_environment() {
        let command = Args::command();
        command.clone().debug_assert();
        let mut arguments = command.get_arguments();
        let url = arguments.find(|a| a.get_id() == "database_url").unwrap();
        assert!(url.is_hide_env_values_set());
    }
}
