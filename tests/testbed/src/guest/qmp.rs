//! The monitor of a virtual machine: QMP, lines of JSON.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::eventually::poll;

/// How long the machine may take to open its sockets.
const OPEN: Duration = Duration::from_secs(30);
/// How long memory may take to be written or read.
const MIGRATION: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub(super) struct Qmp {
    lines: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
}

impl Qmp {
    pub(super) async fn connect(path: &Path) -> Result<Self> {
        let (reader, writer) = connect(path).await?.into_split();
        let mut qmp = Self { lines: BufReader::new(reader).lines(), writer };
        qmp.execute("qmp_capabilities", &json!({})).await?;
        Ok(qmp)
    }

    /// Runs a command and returns its answer; events in between are skipped.
    pub(super) async fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let request = json!({"execute": command, "arguments": arguments});
        self.writer.write_all(format!("{request}\n").as_bytes()).await?;
        loop {
            let line = self.lines.next_line().await?.context("the virtual machine has ended")?;
            let mut answer: Value = serde_json::from_str(&line)?;
            if let Some(error) = answer.get("error") {
                bail!("the virtual machine refuses {request}: {error}");
            }
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
        }
    }

    /// Waits until the memory has been read, and lets the machine run.
    pub(super) async fn resume(&mut self) -> Result<()> {
        poll(MIGRATION, async || {
            let status = self.execute("query-status", &json!({})).await.map_err(|error| error.to_string())?;
            if status["status"] == "inmigrate" { Err(status.to_string()) } else { Ok(()) }
        })
        .await
        .map_err(|seen| anyhow::anyhow!("the saved state was not read within {MIGRATION:?}: {seen}"))?;
        self.execute("cont", &json!({})).await?;
        Ok(())
    }

    /// Stops the machine, and writes its memory and its devices to a file.
    pub(super) async fn save(&mut self, file: &Path) -> Result<()> {
        self.execute("stop", &json!({})).await?;
        self.execute("migrate-set-parameters", &json!({"max-bandwidth": 1_u64 << 40})).await?;
        let uri = format!("exec:cat >{}", super::quoted(&file.display().to_string()));
        self.execute("migrate", &json!({"uri": uri})).await?;
        poll(MIGRATION, async || {
            let seen = self.execute("query-migrate", &json!({})).await.map_err(|error| error.to_string())?;
            match seen["status"].as_str() {
                Some("completed") => Ok(Ok(())),
                Some("failed") => Ok(Err(seen.to_string())),
                _ => Err(seen.to_string()),
            }
        })
        .await
        .and_then(|ended| ended)
        .map_err(|seen| anyhow::anyhow!("the state was not saved: {seen}"))
    }
}

/// Connects to a socket that the machine opens while it starts.
pub(super) async fn connect(path: &Path) -> Result<UnixStream> {
    poll(OPEN, async || UnixStream::connect(path).await)
        .await
        .map_err(|error| anyhow::anyhow!("cannot connect to {}: {error}", path.display()))
}
