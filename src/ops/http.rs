//! `/metrics`, `/livez` and `/readyz`, and the limits for the clients of every server of the program.
//!
//! Anybody who reaches a port can open connections and send nothing. A process without free descriptors can neither
//! renew a lease nor read its devices. So a server limits its connections, and closes idle ones.

use std::{
    io::{self, IoSlice},
    net::{IpAddr, SocketAddr},
    pin::{Pin, pin},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    http::{
        HeaderMap, StatusCode,
        header::{ACCEPT, CONTENT_TYPE},
    },
    response::IntoResponse,
    routing::get,
};
use hyper::{
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use prometheus_client::registry::Registry;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::Mutex,
    task::{AbortHandle, JoinSet},
    time::{Sleep, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::metrics::Format;

/// The pause after a connection could not be accepted, for example because of too many open files.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// The time for open requests to end at shutdown.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// The limits for the clients of a server.
#[derive(Clone, Copy, Debug)]
pub struct ClientLimits {
    /// The largest number of connections. One more closes the oldest for which no answer is being made or written, so that
    /// idle clients cannot keep others out.
    pub connections: usize,
    /// The longest wait for a complete request header, on a new connection and between requests; and for a client to take
    /// a part of an answer.
    pub header_timeout: Duration,
}

impl ClientLimits {
    /// For metrics and health: a few scrapers and kubelet.
    pub const METRICS: Self = ClientLimits { connections: 32, header_timeout: Duration::from_secs(5) };
    /// For browsers, each of which keeps up to six connections and one stream of events for each page.
    pub const BROWSERS: Self = ClientLimits { connections: 256, header_timeout: Duration::from_secs(30) };
}

/// The answer of `/readyz`: whether the process can do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// 200 if true, else 503.
    pub ready: bool,
    /// The body: one line for each thing that the process does or waits for.
    pub lines: Vec<String>,
}

/// The address of `--listen` cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("--listen {address}: cannot listen there; choose another port, or 0 for any free one")]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

/// Reads an address and a port to listen on. An IPv6 address needs no brackets: Kubernetes fills in a pod's address without.
///
/// # Errors
/// If the text has another form.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let plain = || {
        let (address, port) = text.rsplit_once(':')?;
        Some(SocketAddr::new(IpAddr::V6(address.parse().ok()?), port.parse().ok()?))
    };
    let address = text.parse().ok().or_else(plain);
    address.ok_or_else(|| "expected an address and a port, such as 127.0.0.1:8080 or [::]:8080".to_owned())
}

/// Opens the address to listen on.
///
/// # Errors
/// If the address is in use, or not allowed.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| BindError { address, source })
}

/// Serves metrics and health until `shutdown`. Each scrape waits for `refresh`, which computes what is only computed then.
pub async fn serve<Fut: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    registry: Registry,
    refresh: impl Fn() -> Fut + Clone + Send + Sync + 'static,
    readiness: impl Fn() -> Readiness + Send + Sync + 'static,
    shutdown: CancellationToken,
) {
    let exposition = Arc::new(Exposition { registry, begun: AtomicU64::new(0), latest: Mutex::default() });
    let readiness = Arc::new(readiness);
    let metrics = move |headers: HeaderMap| async move {
        refresh().await;
        let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        let format = Format::asked_for(accept);
        match exposition.text(format).await {
            Some(text) => ([(CONTENT_TYPE, format.content_type())], text).into_response(),
            None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
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
    serve_router(listener, router, ClientLimits::METRICS, shutdown).await;
}

/// The text of the metrics. It may have megabytes, and anybody who reaches the port can ask for it all the time. So one is
/// made at a time, and all who have asked before it was begun share it.
struct Exposition {
    registry: Registry,
    begun: AtomicU64,
    latest: Mutex<Vec<Encoded>>,
}

/// The newest text in a format.
struct Encoded {
    format: Format,
    /// The number of texts that were begun, with this one.
    number: u64,
    text: Bytes,
}

impl Exposition {
    /// None if the metrics cannot be encoded.
    async fn text(&self, format: Format) -> Option<Bytes> {
        let asked = self.begun.load(Ordering::SeqCst);
        let mut latest = self.latest.lock().await;
        if let Some(fresh) = latest.iter().find(|known| known.format == format && known.number > asked) {
            return Some(fresh.text.clone());
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let text = Bytes::from(format.exposition(&self.registry)?);
        latest.retain(|known| known.format != format);
        latest.push(Encoded { format, number, text: text.clone() });
        Some(text)
    }
}

/// Serves a router until `shutdown`; requests that are being answered then end.
pub async fn serve_router(listener: TcpListener, router: Router, limits: ClientLimits, shutdown: CancellationToken) {
    let mut connections = JoinSet::new();
    let mut oldest_first: Vec<Open> = Vec::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => oldest_first.retain(|open| !open.task.is_finished()),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    if oldest_first.len() >= limits.connections {
                        let idle = oldest_first.iter().position(|open| !open.is_answering());
                        oldest_first.remove(idle.unwrap_or(0)).task.abort();
                    }
                    let requests = Arc::new(());
                    let written = Arc::new(AtomicBool::new(true));
                    let waiting = Arc::downgrade(&requests);
                    let stream = Client { stream, written: written.clone(), limit: limits.header_timeout, stalled: None };
                    let connection = serve_connection(stream, router.clone(), requests, shutdown.clone());
                    oldest_first.push(Open { task: connections.spawn(connection), requests: waiting, written });
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot accept a connection");
                    sleep(ACCEPT_RETRY).await;
                }
            },
        }
    }
    let _ = timeout(SHUTDOWN_GRACE, async { while connections.join_next().await.is_some() {} }).await;
}

/// A connection.
struct Open {
    task: AbortHandle,
    /// Shared by the connection and each request for which an answer is being made.
    requests: Weak<()>,
    /// Whether the client has taken all that was made for it.
    written: Arc<AtomicBool>,
}

impl Open {
    fn is_answering(&self) -> bool {
        self.requests.strong_count() > 1 || !self.written.load(Ordering::Acquire)
    }
}

/// The stream of a client, which has to take what is written for it.
struct Client {
    stream: TcpStream,
    written: Arc<AtomicBool>,
    /// The longest wait for the client to take something.
    limit: Duration,
    /// Runs while the client takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Client {
    /// The result of a write, or an error if the client has taken nothing for too long.
    fn progress(&mut self, result: Poll<io::Result<usize>>, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.written.store(false, Ordering::Release);
        if result.is_ready() {
            self.stalled = None;
            return result;
        }
        let limit = self.limit;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Client {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Client {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.progress(result, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.progress(result, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes when it has written all that it has.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(context));
        self.written.store(true, Ordering::Release);
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

async fn serve_connection(stream: Client, router: Router, requests: Arc<()>, shutdown: CancellationToken) {
    let header_timeout = stream.limit;
    let written = stream.written.clone();
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request| {
        let request_of_connection = requests.clone();
        let written = written.clone();
        let answer = router.call(request);
        async move {
            let answer = answer.await;
            written.store(false, Ordering::Release);
            drop(request_of_connection);
            answer
        }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(header_timeout)
            .serve_connection(TokioIo::new(stream), service)
    );
    // A client that goes away or is too slow is not worth a log line.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::MethodRouter;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        sync::Notify,
    };

    use super::*;

    const LIMITS: ClientLimits = ClientLimits { connections: 3, header_timeout: Duration::from_millis(200) };

    /// A server of one page, and its address.
    async fn server(limits: ClientLimits) -> SocketAddr {
        serve_page(limits, get(|| async { "here" })).await
    }

    async fn serve_page(limits: ClientLimits, page: MethodRouter) -> SocketAddr {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", page);
        tokio::spawn(serve_router(listener, router, limits, CancellationToken::new()));
        address
    }

    async fn answer(address: SocketAddr) -> String {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        text
    }

    /// Waits until the server has closed a connection.
    async fn closed(client: &mut TcpStream) {
        let mut rest = Vec::new();
        // The result does not matter: a reset also means that the server has closed the connection.
        let _ = client.read_to_end(&mut rest).await;
    }

    #[test]
    fn an_ipv6_address_to_listen_on_needs_no_brackets() {
        for text in ["127.0.0.1:8080", "[fd00::1]:8080", "fd00::1:8080"] {
            let read = listen_address(text).unwrap();
            assert_eq!((read.port(), read.ip().is_ipv6()), (8080, text.contains("fd00")), "{text}");
        }
        for text in ["", "8080", "::1", "fd00::8080", "localhost:8080", "127.0.0.1"] {
            assert!(listen_address(text).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn idle_connections_keep_nobody_out() {
        let patient = ClientLimits { header_timeout: Duration::from_secs(3600), ..LIMITS };
        let address = server(patient).await;
        let mut idle = Vec::new();
        for _ in 0..10 {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        assert!(answer(address).await.ends_with("here"));
        closed(&mut idle[0]).await;
    }

    #[tokio::test]
    async fn an_answer_that_is_being_made_is_not_cut_off_by_new_connections() {
        let (asked, finish) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (arrived, may_end) = (asked.clone(), finish.clone());
        let slow = move || async move {
            arrived.notify_one();
            may_end.notified().await;
            "here"
        };
        let patient = ClientLimits { header_timeout: Duration::from_secs(3600), ..LIMITS };
        let address = serve_page(patient, get(slow)).await;
        let answer = tokio::spawn(answer(address));
        asked.notified().await;
        let mut idle = Vec::new();
        for _ in 0..10 {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        closed(&mut idle[7]).await;
        finish.notify_one();
        assert!(answer.await.unwrap().ends_with("here"));
    }

    /// More than the buffers of a connection hold.
    const LARGE: usize = 32 << 20;

    /// A client that has asked for a large page, and has not read the answer yet.
    async fn ask_for_a_large_page(limits: ClientLimits) -> (SocketAddr, TcpStream) {
        let address = serve_page(limits, get(|| async { "x".repeat(LARGE) })).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        client.peek(&mut [0]).await.unwrap();
        (address, client)
    }

    #[tokio::test]
    async fn an_answer_that_is_being_written_is_not_cut_off_by_new_connections() {
        let patient = ClientLimits { header_timeout: Duration::from_secs(3600), ..LIMITS };
        let (address, mut client) = ask_for_a_large_page(patient).await;
        let mut idle = Vec::new();
        for _ in 0..10 {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        closed(&mut idle[7]).await;
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert!(answer.len() > LARGE, "only {} bytes", answer.len());
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_of_its_answer_is_closed() {
        let (_, mut client) = ask_for_a_large_page(LIMITS).await;
        sleep(LIMITS.header_timeout * 2).await;
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer).await;
        assert!(answer.len() < LARGE, "it was served {} bytes", answer.len());
    }

    #[tokio::test]
    async fn a_connection_without_a_request_is_closed() {
        let address = server(LIMITS).await;
        let mut idle = TcpStream::connect(address).await.unwrap();
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET / HTTP/1.1\r\nHost: ").await.unwrap();
        closed(&mut idle).await;
        closed(&mut slow).await;
        assert!(answer(address).await.ends_with("here"));
    }
}
