//! `multibond completion`: the completion script of a shell; and `multibond man`: the manual pages.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Args;
use clap_complete::Shell;
use clap_mangen::Man;

use super::output;

/// Prints the completion script of a shell
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  source <(multibond completion bash)
  multibond completion zsh > \"${fpath[1]}/_multibond\"
  multibond completion fish > ~/.config/fish/completions/multibond.fish")]
pub(super) struct Arguments {
    /// The shell
    #[arg(env = "MULTIBOND_SHELL", value_enum)]
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::command(), "multibond", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the manual page, or writes one for each subcommand
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  multibond man | man -l -
  multibond man --out-dir /usr/local/share/man/man1")]
pub(super) struct ManArguments {
    /// Write the pages into this directory, which is created if necessary, instead of printing that of `multibond`
    #[arg(long, env = "MULTIBOND_OUT_DIR", value_name = "DIR")]
    out_dir: Option<PathBuf>,
}

pub(super) fn run_man(arguments: &ManArguments) -> anyhow::Result<ExitCode> {
    if let Some(directory) = &arguments.out_dir {
        write(directory)?;
    } else {
        let mut page = Vec::new();
        Man::new(super::command()).render(&mut page)?;
        output::print(&String::from_utf8_lossy(&page))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write(directory: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory).with_context(|| format!("creating the directory {}", directory.display()))?;
    clap_mangen::generate_to(super::command(), directory)
        .with_context(|| format!("writing manual pages into {}", directory.display()))
}
