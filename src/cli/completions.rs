//! `completions`: a script that a shell sources.

use crate::Ended;
use crate::context::Host;
use crate::exit::Exit;
use crate::screen::Screen;
use clap::Args;
use clap_complete::Shell;

#[derive(Clone, Debug, Args)]
pub struct Completions {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

pub fn run(args: &Completions, host: &Host, screen: &mut Screen) -> Ended {
    let mut grammar = host.grammar.clone();
    let name = grammar.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut grammar, name, &mut script);
    screen.result(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
