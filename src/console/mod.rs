//! `multibond console`: data centers, bonds, hosts and each of their paths in a browser, live; and forms that change them.
//!
//! It acts as the person who started it, with their kubeconfig: the API server decides what they may do. Pages are pure
//! functions from what the watches have brought ([`cache`]) to pieces of HTML ([`fragment`]); a page that is open gets the
//! pieces that have changed ([`live`]). Forms ([`edit`]) show what each host would do, as the planner says
//! ([`preview`]), before anything is written.

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

/// A console that is about to be served.
pub struct Server {
    listener: TcpListener,
    console: Arc<Console>,
    address: SocketAddr,
    token: String,
}

impl Server {
    /// Starts to watch, and prepares to serve on a listener.
    ///
    /// # Errors
    /// When the listener has no address, or the operating system no random numbers.
    pub fn new(
        client: Client,
        scope: Scope,
        listener: TcpListener,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Server> {
        let address = listener.local_addr()?;
        let (access, token) = Access::new(address.port())?;
        let cache = Cache::start(&client, scope.namespace.as_deref());
        Ok(Server {
            listener,
            console: Arc::new(Console { access: Arc::new(access), scope, cache, client, shutdown }),
            address,
            token,
        })
    }

    /// The address to open, with a token that works once.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/?token={}", self.address, self.token)
    }

    /// Serves until the console is told to end.
    pub async fn serve(self) {
        let shutdown = self.console.shutdown.clone();
        ops::serve_router(self.listener, handlers::router(self.console), ops::ClientLimits::BROWSERS, shutdown).await;
    }
}
