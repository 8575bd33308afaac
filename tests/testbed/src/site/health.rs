//! A controller's HTTP endpoints.

use crate::{Process, eventually};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::PATIENCE;

/// The address of a controller's HTTP server, from its log.
pub async fn address(controller: &Process) -> String {
    eventually("the controller says where it serves", PATIENCE, async || {
        let log = controller.log();
        let at = log.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next()).map(str::to_owned);
        at.ok_or(log)
    })
    .await
}

/// Status line and body of a plain GET.
pub async fn get(address: &str, path: &str) -> Result<(String, String), String> {
    let fetch = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = fetch.await.map_err(|error| error.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no body")?;
    Ok((head.lines().next().unwrap_or_default().to_owned(), body.to_owned()))
}

/// Waits until a controller's `/readyz` has this status and these words; returns its body.
pub async fn until_ready_says(controller: &Process, status: &str, words: &str) -> String {
    let address = address(controller).await;
    eventually(&format!("/readyz: {status} with {words:?}"), PATIENCE, async || {
        let (head, body) = get(&address, "/readyz").await?;
        if head.contains(status) && body.contains(words) { Ok(body) } else { Err(format!("{head}\n{body}")) }
    })
    .await
}
