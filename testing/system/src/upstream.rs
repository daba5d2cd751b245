//! An upstream that keeps the bytes it is sent, and answers with bytes as they are: for what must arrive unchanged, and
//! for answers that no server would give.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A whole answer, as short as Converse allows.
pub const ANSWER: &str = r#"{"output":{"message":{"role":"assistant","content":[{"text":"yes"}]}},"stopReason":"end_turn","usage":{"inputTokens":1,"outputTokens":1,"totalTokens":2},"metrics":{"latencyMs":1}}"#;

/// An upstream that runs until it is dropped.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    bodies: Arc<Mutex<Vec<Vec<u8>>>>,
    server: JoinHandle<()>,
}

impl Upstream {
    /// Answers every request with `answer`, head and all, and hangs up.
    ///
    /// # Errors
    /// No port can be had.
    pub async fn start(answer: impl Into<Vec<u8>>) -> anyhow::Result<Upstream> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let (kept, answer) = (bodies.clone(), answer.into());
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A client that leaves early is no business of the next one's.
                let _ = serve(stream, &answer, &kept).await;
            }
        });
        Ok(Upstream { address, bodies, server })
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The bodies that came, in their order.
    #[must_use]
    pub fn bodies(&self) -> Vec<Vec<u8>> {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A response with this body and a right head.
#[must_use]
pub fn response(kind: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

async fn serve(mut stream: TcpStream, answer: &[u8], bodies: &Mutex<Vec<Vec<u8>>>) -> std::io::Result<()> {
    let mut request = Vec::new();
    let body_from = loop {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
        if let Some(end) = request.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let head = String::from_utf8_lossy(&request[..body_from]).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    while request.len() < body_from + length {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    bodies.lock().unwrap_or_else(PoisonError::into_inner).push(request.split_off(body_from));
    stream.write_all(answer).await?;
    stream.shutdown().await
}
