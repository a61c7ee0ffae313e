//! What an operator types and what comes back.
//!
//! A client of the admin API and of workers' read APIs: [`args`] is the grammar, one file a verb does
//! the work, [`client`] carries it, [`render`] draws the answers, [`exit`] is what scripts branch on
//! and [`failure`] how no is said.
//!
//! What always holds: results go to stdout and everything else to stderr; an outcome is never guessed;
//! a dry run is the default of whatever moves authority; a script is never asked a question and a
//! person is never left without the next command.
//!
//! Deliberately absent: Raft, the readers of configuration files and the other processes' arguments;
//! `main` brings what is needed of them in [`Host`], and flattens [`Verb`] beside its own:
//!
//! ```ignore
//! #[derive(Subcommand)]
//! enum Word {
//!     Node(NodeArgs),
//!     #[command(flatten)]
//!     Client(Box<cryptorun_cli::Verb>),
//! }
//! // …
//! Word::Client(verb) => cryptorun_cli::run(*verb, &Host { grammar: Program::command(), checker }).into()
//! ```

pub mod args;
mod audit;
pub mod client;
mod cluster;
mod completions;
mod config;
pub mod context;
pub mod decoders;
pub mod exit;
pub mod failure;
mod lines;
mod render;
mod replication;
pub mod screen;
mod warm;
mod whoami;

#[cfg(test)]
mod tests;

pub use args::Verb;
pub use context::{Checker, Host};
pub use exit::Exit;

use args::ClientArgs;
use client::Client;
use context::Context;
use failure::Failure;
use screen::Screen;

/// A verb's end: what a script may branch on, or why there is none.
type Ended = Result<Exit, Failure>;

/// Runs one verb on the process's own terminal, on a runtime of its own.
pub fn run(verb: Verb, host: &Host) -> Exit {
    let mut screen = Screen::of_process();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            screen.say(format_args!("error: cannot start\n  {e}"));
            return Exit::CannotStart;
        }
    };
    runtime.block_on(dispatch(verb, host, screen, &client::production::connect))
}

/// Makes the client that settings describe.
type Connect<'c> = &'c (dyn Fn(&ClientArgs) -> Result<Client, Failure> + Sync);

async fn dispatch(verb: Verb, host: &Host, mut screen: Screen, connect: Connect<'_>) -> Exit {
    let (client, verb) = match verb {
        Verb::Config(family) => {
            let ended = config::run(family.verb, family.client.output, host, &mut screen);
            return told(ended, &mut screen);
        }
        Verb::Completions(args) => {
            let ended = completions::run(&args, host, &mut screen);
            return told(ended, &mut screen);
        }
        Verb::Audit(family) if family.verb.is_offline() => {
            let ended = audit::offline(family.verb, family.client.output, &mut screen);
            return told(ended, &mut screen);
        }
        Verb::Replication(family) => (family.client, Remote::Replication(family.verb)),
        Verb::Audit(family) => (family.client, Remote::Audit(family.verb)),
        Verb::Cluster(family) => (family.client, Remote::Cluster(family.verb)),
        Verb::Warm(family) => (family.client, Remote::Warm(family.verb)),
        Verb::Whoami(client) => (client, Remote::Whoami),
    };
    match connect(&client) {
        Err(failure) => told(Err(failure), &mut screen),
        Ok(way) => {
            let mut context = Context { client: way, screen, format: client.output };
            let ended = verb.run(host, &mut context).await;
            told(ended, &mut context.screen)
        }
    }
}

/// A verb that speaks to the cluster.
enum Remote {
    Replication(replication::Verb),
    Audit(audit::Verb),
    Cluster(cluster::Verb),
    Warm(warm::Verb),
    Whoami,
}

impl Remote {
    async fn run(self, host: &Host, context: &mut Context) -> Ended {
        match self {
            Self::Replication(verb) => replication::run(verb, host, context).await,
            Self::Audit(verb) => audit::run(verb, context).await,
            Self::Cluster(verb) => cluster::run(verb, host, context).await,
            Self::Warm(verb) => warm::run(verb, context).await,
            Self::Whoami => whoami::run(context).await,
        }
    }
}

fn told(ended: Ended, screen: &mut Screen) -> Exit {
    ended.unwrap_or_else(|failure| {
        screen.fail(&failure);
        failure.exit()
    })
}
