//! Commands in a guest, through the control port; see `tests/vm/image/root/usr/local/sbin/control`.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex as AsyncMutex, oneshot};
use tokio::time::timeout;

use super::qmp::connect;
use crate::command::Output;

/// The waiting senders, by number of their command.
type Waiting = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<String>>>>>;

/// The control port and the data port of a guest.
#[derive(Debug)]
pub(super) struct Control {
    commands: AsyncMutex<(OwnedWriteHalf, u64)>,
    data: AsyncMutex<UnixStream>,
    waiting: Waiting,
}

impl Control {
    pub(super) async fn connect(directory: &Path) -> Result<Self> {
        let (answers, commands) = connect(&directory.join("control")).await?.into_split();
        let data = AsyncMutex::new(connect(&directory.join("data")).await?);
        let waiting: Waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        tokio::spawn(deliver(answers, waiting.clone()));
        Ok(Self { commands: AsyncMutex::new((commands, 0)), data, waiting })
    }

    /// Runs a command until it ends.
    pub(super) async fn run(&self, command: &str, within: Duration) -> Result<Output> {
        let answer = timeout(within, self.ask(command))
            .await
            .map_err(|_| anyhow!("`{command}` has not ended in the guest within {within:?}"))??;
        parse(command, &answer).with_context(|| format!("the guest's answer to `{command}` makes no sense: {answer}"))
    }

    /// Writes a file. Its content takes the data port, which is quicker than a shell's `read`.
    pub(super) async fn write(&self, path: &str, mode: u32, content: &[u8], within: Duration) -> Result<()> {
        let mut data = self.data.lock().await;
        let command = format!(
            "set -e; head --bytes={} </dev/virtio-ports/data >{path}.new; chmod {mode:o} {path}.new; mv {path}.new {path}",
            content.len(),
            path = super::quoted(path),
        );
        let (sent, output) = tokio::join!(data.write_all(content), self.run(&command, within));
        output?.success()?;
        sent.context("the data port of the guest is closed")
    }

    async fn ask(&self, command: &str) -> Result<String> {
        let (answer, answered) = oneshot::channel();
        let line = BASE64_STANDARD.encode(command);
        {
            let mut commands = self.commands.lock().await;
            commands.1 += 1;
            let (ref mut port, id) = *commands;
            self.expect(id, answer)?;
            port.write_all(format!("{id} {line}\n").as_bytes()).await?;
        }
        answered.await.map_err(|_| anyhow!("the guest was turned off during `{command}`"))
    }

    fn expect(&self, id: u64, answer: oneshot::Sender<String>) -> Result<()> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.as_mut().context("the guest is off")?.insert(id, answer);
        Ok(())
    }
}

/// Delivers each answer to its receiver. When the port closes, all waiting commands fail.
async fn deliver(answers: OwnedReadHalf, waiting: Waiting) {
    let mut lines = BufReader::new(answers).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some((id, answer)) = line.split_once(' ') {
            let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let sender = id.parse().ok().and_then(|id: u64| waiting.as_mut()?.remove(&id));
            if let Some(sender) = sender {
                // The receiver may have given up waiting.
                let _ = sender.send(answer.to_owned());
            }
        }
    }
    waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
}

/// `CODE STDOUT STDERR`, the last two in base64.
fn parse(command: &str, answer: &str) -> Result<Output> {
    let mut words = answer.split(' ');
    let mut word = || words.next().context("a word is missing");
    let code = word()?.parse()?;
    let mut text = || -> Result<String> { Ok(String::from_utf8_lossy(&BASE64_STANDARD.decode(word()?)?).into_owned()) };
    Ok(Output { command: command.to_owned(), code: Some(code), stdout: text()?, stderr: text()? })
}
