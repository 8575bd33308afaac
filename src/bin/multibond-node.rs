//! The `multibond-node` binary: only the agent. The code is in [`multibond::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    multibond::cli::node::main()
}
