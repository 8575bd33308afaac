//! `multibond-node`: the agent as a separate program. The kernel maps most of a program's code into memory, and a node
//! needs only a third of the code of `multibond`.

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

/// The subcommands of `multibond` that run on a node.
#[derive(Subcommand, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one, for as long as the program runs")]
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

/// The main function of `multibond-node`; see [`super::main`].
#[must_use]
pub fn main() -> ExitCode {
    start::<Cli>()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn its_subcommands_parse_as_those_of_multibond() {
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
