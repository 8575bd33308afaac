//! A connection to the API server that a test can cut, for one replica and not for the others.

use std::net::SocketAddr;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// How the proxy treats connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Works,
    /// No more answers, as when a machine dies or packets are dropped. A connection that was open then
    /// never works again.
    Silent,
    /// Open connections are closed, and new ones are closed at once.
    Refused,
}

/// A TCP proxy to the API server.
pub struct Line {
    pub address: SocketAddr,
    state: watch::Sender<State>,
}

impl Line {
    /// A working line to `server`. It lives as long as the test's runtime.
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (state, watched) = watch::channel(State::Works);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, server, watched.clone()));
            }
        });
        Line { address, state }
    }

    pub fn set(&self, state: State) {
        self.state.send_replace(state);
    }
}

async fn carry(mut client: TcpStream, server: SocketAddr, mut state: watch::Receiver<State>) {
    let mut now = *state.borrow_and_update();
    if now == State::Works {
        let Ok(mut server) = TcpStream::connect(server).await else { return };
        tokio::select! {
            _ = copy_bidirectional(&mut client, &mut server) => return,
            _ = state.changed() => now = *state.borrow(),
        }
    }
    if now == State::Silent {
        std::future::pending::<()>().await;
    }
}
