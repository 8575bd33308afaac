//! `multibond enter`: how the agent runs a tool of the host. Nobody else needs it, so the help does not list it.

use std::{ffi::OsString, process::ExitCode};

use clap::Args;

use super::output;
use crate::agent::host::{
    access::{Way, way_to},
    exec::become_tool,
};

/// Becomes a tool of the host, in the namespaces of a process or with another root; the agent runs it
#[derive(Args, Debug)]
#[command(after_help = "\
The exit code is the tool's; 125: the host cannot be entered; 126: the tool cannot be started; 127: there is no such tool.

Examples:
  multibond enter $(pidof iscsid) -- iscsiadm -m session
  multibond enter /host -- iscsiadm -m session")]
pub struct Arguments {
    /// The process whose mount and network namespaces are entered, or the directory that becomes the root
    #[arg(value_name = "PID|DIR", value_parser = way_to)]
    place: Way,
    /// The tool, which is looked for in there
    tool: OsString,
    /// Its arguments, after `--` where they begin with a dash
    #[arg(value_name = "ARGUMENT")]
    with: Vec<OsString>,
}

/// Becomes the tool, or says why not. Nothing of the tool's arguments is in the message.
pub fn run(arguments: &Arguments) -> ExitCode {
    let Arguments { place, tool, with } = arguments;
    let error = become_tool(place, tool, with);
    output::complain(format_args!("{error}"));
    ExitCode::from(error.code())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::{
        agent::host::access,
        cli::{Cli, Command},
    };

    #[test]
    fn what_the_agent_asks_for_is_understood_whatever_the_arguments_of_the_tool() {
        let tool = ["iscsiadm", "--version", "-m", "node", "--", "--context"].map(OsString::from);
        for way in [Way::Nsenter(700), Way::Chroot("/host".into())] {
            let line = ["multibond".into()].into_iter().chain(access::arguments(&way).unwrap()).chain(tool.clone());
            let Command::Enter(parsed) = Cli::try_parse_from(line).unwrap().command else { panic!("not enter") };
            assert_eq!((parsed.place, parsed.tool.as_os_str()), (way, tool[0].as_os_str()));
            assert_eq!(parsed.with, tool[1..]);
        }
    }

    #[test]
    fn where_there_is_no_way_to_is_refused_with_what_is_expected() {
        for bad in ["host", "", "-1", "4294967296"] {
            let error = Cli::try_parse_from(["multibond", "enter", "--", bad, "true"]).unwrap_err().to_string();
            assert!(error.contains("neither the ID of a process nor an absolute directory"), "{error}");
        }
    }
}
