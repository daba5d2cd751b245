//! The baseline: a reverse proxy that is hyper and nothing else.
//!
//! It is the least that anything between a caller and Bedrock must do: take a request apart, put it together again over
//! a kept connection, and hand back what comes. No routing, no authentication, no telemetry, no signature.

use std::net::{Ipv4Addr, SocketAddr};

use http::{
    Request, Uri,
    uri::{Authority, Scheme},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::net::{TcpListener, TcpStream};

use crate::process::{Process, Start};

/// The subcommand under which this binary is the proxy.
pub(crate) const SUBCOMMAND: &str = "proxy";
const READY: &str = "proxy on ";

type Upstream = Client<HttpConnector, Incoming>;

/// Serves on a port of the system's choice, which it prints, until it is killed.
pub(crate) async fn run(upstream: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let authority: Authority = upstream.to_string().parse()?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Upstream = Client::builder(TokioExecutor::new()).build(connector);
    println!("{READY}{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(serve(stream, client.clone(), authority.clone()));
    }
}

async fn serve(stream: TcpStream, client: Upstream, authority: Authority) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let service = service_fn(move |mut request: Request<Incoming>| {
        let mut uri = std::mem::take(request.uri_mut()).into_parts();
        (uri.scheme, uri.authority) = (Some(Scheme::HTTP), Some(authority.clone()));
        let client = client.clone();
        async move {
            *request.uri_mut() = Uri::from_parts(uri)?;
            anyhow::Ok(client.request(request).await?)
        }
    });
    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await?;
    Ok(())
}

/// Starts it as a process.
pub(crate) async fn start(upstream: SocketAddr, threads: usize) -> anyhow::Result<(Process, SocketAddr)> {
    let arguments = [SUBCOMMAND, "--upstream", &upstream.to_string(), "--threads", &threads.to_string()];
    let arguments = arguments.map(str::to_owned).to_vec();
    let start = Start { program: "switchtower-bench", arguments, environment: Vec::new() };
    start.until(|line| line.strip_prefix(READY)?.parse().ok()).await
}
