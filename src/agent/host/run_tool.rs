//! Runs a tool with a time limit and captures its output. It never kills the tool.
//!
//! A tool that is killed while it changes open-iscsi's database leaves the database locked. So a tool that takes too
//! long gets SIGTERM, and if it still does not end, the agent stops waiting for it. It runs in its own process group,
//! because a Ctrl-C in a terminal goes to the whole process group of the agent.

use std::{io, process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, copy, sink},
    process::{Child, Command},
    time::timeout,
};

/// The time for a tool to end after SIGTERM.
const TERMINATION_GRACE: Duration = Duration::from_secs(5);
/// The wait for more output after the tool has ended: a daemon that it started may keep the pipes open.
const OUTPUT_GRACE: Duration = Duration::from_millis(200);

/// The longest output that is kept, in bytes. multipathd's configuration, the longest that is needed, is far shorter.
const MAX_OUTPUT: u64 = 1024 * 1024;

/// The result of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolOutput {
    /// The exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// The standard output.
    pub stdout: String,
    /// The standard error.
    pub stderr: String,
}

/// Why there is no output of a tool.
#[derive(Debug)]
pub enum RunError {
    /// The tool could not be started.
    NotStarted(io::Error),
    /// The tool took longer than its limit and got SIGTERM.
    TimedOut,
}

/// Runs a tool until it ends. The exit code is for the caller to judge.
///
/// # Errors
/// If the tool cannot be started, or takes longer than `limit`.
pub async fn run(mut command: Command, limit: Duration) -> Result<ToolOutput, RunError> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(false);
    let mut child = command.spawn().map_err(RunError::NotStarted)?;
    if let Ok(output) = timeout(limit, wait_for_output(&mut child)).await {
        return output.map_err(RunError::NotStarted);
    }
    terminate(&child);
    let _ = timeout(TERMINATION_GRACE, child.wait()).await;
    Err(RunError::TimedOut)
}

async fn wait_for_output(child: &mut Child) -> io::Result<ToolOutput> {
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = {
        let reading = async { tokio::join!(read_start(&mut stdout, &mut out), read_start(&mut stderr, &mut err)) };
        tokio::pin!(reading);
        let status = tokio::select! {
            status = child.wait() => {
                let _ = timeout(OUTPUT_GRACE, &mut reading).await;
                status?
            }
            _ = &mut reading => child.wait().await?,
        };
        status.code()
    };
    Ok(ToolOutput { code, stdout: lossy(&out), stderr: lossy(&err) })
}

/// Reads a pipe to its end, and keeps only the start: a tool that prints without end takes no memory, and is not stopped
/// by a full pipe.
async fn read_start(pipe: &mut Option<impl AsyncRead + Unpin>, start: &mut Vec<u8>) {
    if let Some(pipe) = pipe {
        let _ = pipe.take(MAX_OUTPUT).read_to_end(start).await;
        let _ = copy(pipe, &mut sink()).await;
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn terminate(child: &Child) {
    let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(Err(error)) = id.map(|id| kill_process(id, Signal::TERM)) {
        tracing::debug!(%error, "cannot send SIGTERM to a tool that takes too long");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn a_tool_that_takes_too_long_gets_sigterm_and_may_clean_up() {
        let directory = tempfile::tempdir().unwrap();
        let tidied = directory.path().join("tidied");
        let began = directory.path().join("began");
        let script = format!(
            "trap 'echo > {0}; kill $!; exit 0' TERM; sleep 600 & echo > {1}; wait",
            tidied.display(),
            began.display()
        );
        assert!(matches!(run(shell(&script), Duration::from_secs(2)).await, Err(RunError::TimedOut)));
        assert!(began.exists() && tidied.exists());
    }

    #[tokio::test]
    async fn a_daemon_that_the_tool_started_goes_on_and_does_not_delay_the_result() {
        let directory = tempfile::tempdir().unwrap();
        let pid = directory.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; echo started; echo late >&2; exit 7", pid.display());
        let ended = run(shell(&script), Duration::from_secs(60)).await.unwrap();
        assert_eq!(ended, ToolOutput { code: Some(7), stdout: "started\n".into(), stderr: "late\n".into() });
        let pid = std::fs::read_to_string(pid).unwrap().trim().parse().unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    }

    #[tokio::test]
    async fn a_tool_that_prints_very_much_is_read_to_its_end_and_not_kept() {
        let ended = run(shell("head -c 3000000 /dev/zero; echo end >&2"), Duration::from_secs(60)).await.unwrap();
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), "end\n"));
        assert_eq!(u64::try_from(ended.stdout.len()).unwrap(), MAX_OUTPUT);
    }

    #[tokio::test]
    async fn a_ctrl_c_at_the_agents_terminal_does_not_reach_a_tool() {
        let ended = run(shell("ps -o pgid= -p $$ | tr -d ' '; echo $$"), Duration::from_secs(60)).await.unwrap();
        let (group, own) = ended.stdout.trim().split_once('\n').unwrap();
        assert_eq!(group, own, "its own process group");
    }
}
