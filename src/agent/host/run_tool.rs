//! Running a tool of the host: bounded in time, its output captured, and never killed.
//!
//! A tool that is killed while it changes open-iscsi's database leaves the lock behind for ever. So one that takes too
//! long is asked to end (SIGTERM), and one that does not even then is left to itself; and it has a process group of its
//! own, because a Ctrl-C at a terminal goes to the whole group of the agent.

use std::{io, process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, Command},
    time::timeout,
};

/// How long a tool may take to end after it was asked to.
const ENDS_WITHIN: Duration = Duration::from_secs(5);
/// How long output is waited for after the end of the tool: a daemon that it has started may hold the pipes open.
const LAST_OUTPUT: Duration = Duration::from_millis(200);

/// How a tool has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code; none when a signal has ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// Why a tool has not ended by itself.
#[derive(Debug)]
pub enum RunError {
    /// It could not be started.
    NotStarted(io::Error),
    /// It took longer than it may, and was told to end.
    Overdue,
}

/// Runs a tool to its end.
///
/// # Errors
/// When it cannot be started, or takes longer than `limit`. Its exit code is the caller's to judge.
pub async fn run(mut command: Command, limit: Duration) -> Result<Ended, RunError> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(false);
    let mut child = command.spawn().map_err(RunError::NotStarted)?;
    if let Ok(ended) = timeout(limit, end(&mut child)).await {
        return ended.map_err(RunError::NotStarted);
    }
    terminate(&child);
    let _ = timeout(ENDS_WITHIN, child.wait()).await;
    Err(RunError::Overdue)
}

async fn end(child: &mut Child) -> io::Result<Ended> {
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = {
        let reading = async {
            tokio::join!(
                async {
                    if let Some(pipe) = &mut stdout {
                        let _ = pipe.read_to_end(&mut out).await;
                    }
                },
                async {
                    if let Some(pipe) = &mut stderr {
                        let _ = pipe.read_to_end(&mut err).await;
                    }
                },
            )
        };
        tokio::pin!(reading);
        let status = tokio::select! {
            status = child.wait() => {
                let _ = timeout(LAST_OUTPUT, &mut reading).await;
                status?
            }
            _ = &mut reading => child.wait().await?,
        };
        status.code()
    };
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Ended { code, stdout: text(out), stderr: text(err) })
}

fn terminate(child: &Child) {
    let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(Err(error)) = id.map(|id| kill_process(id, Signal::TERM)) {
        tracing::debug!(%error, "a tool that takes too long cannot be told to end");
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
    async fn a_tool_that_takes_too_long_is_told_to_end_and_may_still_tidy_up() {
        let directory = tempfile::tempdir().unwrap();
        let tidied = directory.path().join("tidied");
        let began = directory.path().join("began");
        let script = format!(
            "trap 'echo > {0}; kill $!; exit 0' TERM; sleep 600 & echo > {1}; wait",
            tidied.display(),
            began.display()
        );
        assert!(matches!(run(shell(&script), Duration::from_secs(2)).await, Err(RunError::Overdue)));
        assert!(began.exists() && tidied.exists());
    }

    #[tokio::test]
    async fn the_end_of_a_tool_is_not_the_end_of_a_daemon_that_it_has_started() {
        let directory = tempfile::tempdir().unwrap();
        let pid = directory.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; echo started; echo late >&2; exit 7", pid.display());
        let ended = run(shell(&script), Duration::from_secs(60)).await.unwrap();
        assert_eq!(ended, Ended { code: Some(7), stdout: "started\n".into(), stderr: "late\n".into() });
        let pid = std::fs::read_to_string(pid).unwrap().trim().parse().unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    }

    #[tokio::test]
    async fn a_tool_is_out_of_reach_of_a_ctrl_c_at_the_agents_terminal() {
        let ended = run(shell("ps -o pgid= -p $$ | tr -d ' '; echo $$"), Duration::from_secs(60)).await.unwrap();
        let (group, own) = ended.stdout.trim().split_once('\n').unwrap();
        assert_eq!(group, own, "a group of its own");
    }
}
