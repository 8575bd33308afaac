//! `/metrics`, `/livez` and `/readyz`.

use std::{io, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The answer of `/readyz`: whether the process can do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// 200 if true, else 503.
    pub ready: bool,
    /// The body: what the process does, or what it waits for, one line each.
    pub lines: Vec<String>,
}

/// The address of `--listen` cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("--listen {address}: cannot listen there; choose another port, or 0 for any free one")]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

/// Opens the address to listen on.
///
/// # Errors
/// When the address is in use, or not allowed.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| BindError { address, source })
}

/// Serves metrics and health until `shutdown`.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    registry: Registry,
    readiness: impl Fn() -> Readiness + Send + Sync + 'static,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let registry = Arc::new(registry);
    let readiness = Arc::new(readiness);
    let metrics = move || async move {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &registry) {
            Ok(()) => {
                ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
            }
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    };
    let ready = move || async move {
        let Readiness { ready, lines } = readiness();
        let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (code, lines.join("\n") + "\n")
    };
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready));
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}
