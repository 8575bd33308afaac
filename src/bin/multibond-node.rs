//! The `multibond-node` binary: `multibond agent` with nothing else in it. Everything is in [`multibond::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    multibond::cli::node::main()
}
