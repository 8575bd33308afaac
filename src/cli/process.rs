//! Shared by the long-running subcommands: shutdown by signal, and the namespace of the pod.

use std::path::Path;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The file in which a pod finds the name of its namespace.
const POD_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// A token that is cancelled by SIGTERM or Ctrl-C. A second one ends the process at once.
///
/// # Errors
/// If the operating system refuses signal handlers.
pub(super) fn shutdown() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if cancelled.is_cancelled() {
                std::process::exit(130);
            }
            tracing::info!("shutting down");
            cancelled.cancel();
        }
    });
    Ok(token)
}

/// The namespace of the leases: the pod's own, else `multibond-system`.
pub(super) fn own_namespace(given: Option<String>) -> String {
    given.or_else(|| read(Path::new(POD_NAMESPACE))).unwrap_or_else(|| "multibond-system".to_owned())
}

fn read(path: &Path) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned()).filter(|name| !name.is_empty())
}

/// Whether this process runs in a pod.
pub(super) fn in_pod() -> bool {
    Path::new(POD_NAMESPACE).exists()
}
