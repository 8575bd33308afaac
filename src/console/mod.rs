//! `multibond console`: data centers, bonds, hosts and each of their paths in a browser, live; and forms that change them.
//!
//! It acts as the person who started it, with their kubeconfig: the API server decides what they may do.
//!
//! The [`cache`] keeps the objects up to date by watches, and gives a [`model`]. The [`router`] turns a route and the
//! model into a page; the [`views`] that it calls are pure functions. An open page receives the [`fragment`]s that have
//! changed ([`live`]). Forms ([`edit`]) show what each host would do, as the planner decides it ([`preview`]), before
//! anything is written.

mod access;
mod assets;
mod attention;
mod cache;
mod edit;
mod fields;
mod fragment;
mod handlers;
mod live;
mod location;
mod model;
mod page;
mod portal_line;
mod preview;
mod reach;
mod router;
mod state;
mod views;

use std::net::SocketAddr;
use std::sync::Arc;

use kube::Client;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::access::Access;
use self::cache::Cache;
pub use self::location::Scope;
use self::state::Console;
use crate::ops;

/// A console that is ready to serve requests on its listener.
pub struct Server {
    listener: TcpListener,
    console: Arc<Console>,
    address: SocketAddr,
    token: String,
}

/// Why the console cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The listener has no local address.
    #[error("the address of the listener cannot be read: {0}")]
    Address(#[source] std::io::Error),
    /// The operating system gives no random numbers for the token.
    #[error("the operating system gives no random numbers: {0}")]
    Random(#[source] getrandom::Error),
}

impl Server {
    /// Starts the watches. Requests are answered once [`Server::serve`] runs.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn new(
        client: Client,
        scope: Scope,
        listener: TcpListener,
        shutdown: CancellationToken,
    ) -> Result<Server, StartError> {
        let address = listener.local_addr().map_err(StartError::Address)?;
        let (access, token) = Access::new(address.port()).map_err(StartError::Random)?;
        let cache = Cache::start(&client, scope.namespace.as_deref());
        Ok(Server {
            listener,
            console: Arc::new(Console { access: Arc::new(access), scope, cache, client, shutdown }),
            address,
            token,
        })
    }

    /// The address to open. Its token signs one browser in, once.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/?token={}", self.address, self.token)
    }

    /// Serves until the shutdown token is cancelled.
    pub async fn serve(self) {
        let shutdown = self.console.shutdown.clone();
        ops::serve_router(self.listener, handlers::router(self.console), ops::ClientLimits::BROWSERS, shutdown).await;
    }
}
