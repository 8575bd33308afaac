//! The `multibond` binary. The code is in [`multibond::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    multibond::cli::main()
}
