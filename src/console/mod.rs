//! `multibond console`: data centers, bonds, hosts and each of their paths in a browser, live; and forms that change them.
//!
//! It acts as the person who started it, with their kubeconfig: the API server decides what they may do. Pages are pure
//! functions from what the watches have brought ([`cache`]) to pieces of HTML ([`part`]); a page that is open gets the
//! pieces that have changed ([`live`]). Forms ([`edit`]) show what each host would do, as the planner says
//! ([`preview`]), before anything is written.

mod access;
mod assets;
mod cache;
mod edit;
mod fields;
mod live;
mod pages;
mod part;
mod preview;
mod routes;
mod views;

use std::net::SocketAddr;
use std::sync::Arc;

use kube::Client;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::access::Access;
use self::cache::Cache;

/// Whom the console serves.
#[derive(Clone, Debug)]
pub struct Audience {
    /// The cluster's address, to be shown.
    pub cluster: String,
    /// The namespace that is shown; without one, all of them.
    pub namespace: Option<String>,
}

/// What all requests share.
pub(crate) struct Console {
    access: Access,
    audience: Audience,
    cache: Cache,
    client: Client,
    /// Ends the streams of pages that are open.
    shutdown: CancellationToken,
}

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
        audience: Audience,
        listener: TcpListener,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Server> {
        let address = listener.local_addr()?;
        let (access, token) = Access::new(address.port())?;
        let cache = Cache::start(&client, audience.namespace.as_deref());
        Ok(Server {
            listener,
            console: Arc::new(Console { access, audience, cache, client, shutdown }),
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
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(self) -> std::io::Result<()> {
        let end = self.console.shutdown.clone().cancelled_owned();
        axum::serve(self.listener, routes::router(self.console)).with_graceful_shutdown(end).await
    }
}
