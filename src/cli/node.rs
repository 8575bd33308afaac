//! `multibond-node`: what runs on every node, as a program of its own. The kernel maps most of a program's code into
//! memory once it runs, and a node needs a third of what `multibond` can do.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use super::{Global, Program, agent, enter, start};

/// The part of multibond that runs on a node.
#[derive(Parser, Debug)]
#[command(name = "multibond-node", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Those subcommands of `multibond`.
#[derive(Subcommand, Debug)]
enum Command {
    Agent(agent::Arguments),
    #[command(hide = true)]
    Enter(enter::Arguments),
}

impl Program for Cli {
    fn global(&self) -> &Global {
        &self.global
    }

    fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Agent(arguments) => agent::run(arguments, &self.global),
            Command::Enter(arguments) => Ok(enter::run(&arguments)),
        }
    }
}

/// The program `multibond-node`, as [`super::main`].
#[must_use]
pub fn main() -> ExitCode {
    start::<Cli>()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn its_subcommands_are_those_of_multibond() {
        Cli::command().debug_assert();
        let arguments = ["agent", "--node-name", "worker-1", "--listen", "0.0.0.0:9090", "--log-format", "json"];
        let node = Cli::try_parse_from([&["multibond-node"][..], &arguments].concat()).unwrap();
        let multibond = super::super::Cli::try_parse_from([&["multibond"][..], &arguments].concat()).unwrap();
        let super::super::Command::Agent(expected) = multibond.command else { unreachable!() };
        let Command::Agent(arguments) = node.command else { panic!("{node:?}") };
        assert_eq!(format!("{arguments:?}"), format!("{expected:?}"));
        assert!(Cli::try_parse_from(["multibond-node", "enter", "/", "--", "iscsiadm"]).is_ok());
    }
}
