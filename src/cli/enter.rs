//! `multibond enter`: the agent uses it to run a tool of the host. It is not listed in the help.

use std::{ffi::OsString, process::ExitCode};

use clap::Args;

use super::output;
use crate::agent::host::exec::{Place, exec_on_host};

/// Becomes a tool of the host, in the namespaces of a process or with another root; the agent runs it
#[derive(Args, Debug)]
#[command(after_help = "\
The exit code is the tool's; 125: the host cannot be entered; 126: the tool cannot be started; 127: there is no such tool.

Examples:
  multibond enter $(pidof iscsid) -- iscsiadm -m session
  multibond enter /host -- iscsiadm -m session")]
pub struct Arguments {
    /// The process whose mount and network namespaces are entered, or the directory that becomes the root
    #[arg(value_name = "PID|DIR")]
    place: Place,
    /// The tool, which is searched for in that place
    tool: OsString,
    /// Its arguments, after `--` where they begin with a dash
    #[arg(value_name = "ARGUMENT")]
    with: Vec<OsString>,
}

/// Becomes the tool, or prints why it cannot. The message contains none of the tool's arguments.
pub fn run(arguments: &Arguments) -> ExitCode {
    let Arguments { place, tool, with } = arguments;
    let error = exec_on_host(place, tool, with);
    output::complain(format_args!("{error}"));
    ExitCode::from(error.exit_code())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn the_arguments_that_the_agent_passes_are_parsed() {
        let tool = ["iscsiadm", "--version", "-m", "node", "--", "--context"].map(OsString::from);
        let opened = Place::Opened { pid: 700, network: 7, mount: 8 };
        for place in [Place::Process(700), opened, Place::Root("/host".into())] {
            let line = ["multibond".into()].into_iter().chain(place.enter_arguments()).chain(tool.clone());
            let Command::Enter(parsed) = Cli::try_parse_from(line).unwrap().command else { panic!("not enter") };
            assert_eq!((parsed.place, parsed.tool.as_os_str()), (place, tool[0].as_os_str()));
            assert_eq!(parsed.with, tool[1..]);
        }
    }

    #[test]
    fn an_invalid_place_is_refused_with_what_is_expected() {
        for bad in ["host", "", "-1", "4294967296", "1:2", "1:2:3:4", "1:2:x"] {
            let error = Cli::try_parse_from(["multibond", "enter", "--", bad, "true"]).unwrap_err().to_string();
            assert!(error.contains("neither the ID of a process nor an absolute directory"), "{error}");
        }
    }
}
