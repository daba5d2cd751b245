//! Those who ask. A caller has one connection, asks, and reads the answer to its end before it asks again.

mod frames;
mod grpc;
mod http;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{body::Incoming, client::conn::http1::SendRequest};
use tonic::Streaming;

use crate::scene::Scene;

/// What an answer was, once it is complete.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    /// From asking to the first content, or to the end of an answer in one piece.
    pub(crate) waited: Duration,
    /// Chunks of content.
    pub(crate) chunks: u32,
}

/// A way to an answer.
#[derive(Clone, Debug)]
pub(crate) enum Way {
    /// Bedrock's own API over HTTP/1.1: at the fake itself, or at a proxy before it.
    Model(SocketAddr),
    /// The same API at a node, where routes stand in place of models. With a key.
    Route(SocketAddr, String),
    /// The node's gRPC API. With a key.
    Grpc(SocketAddr, String),
}

/// One who asks.
pub(crate) enum Caller {
    Http(http::Http),
    Grpc(Box<grpc::Grpc>),
}

/// A stream that is left open until this is dropped.
pub(crate) enum Held {
    Http { _sender: SendRequest<Full<Bytes>>, _body: Incoming },
    Grpc { _events: Box<Streaming<switchtower_proto::inference::v1::GenerateStreamResponse>> },
}

impl Caller {
    pub(crate) async fn new(way: &Way) -> anyhow::Result<Caller> {
        Ok(match way {
            Way::Model(address) => Caller::Http(http::Http::new(*address, None)?),
            Way::Route(address, key) => Caller::Http(http::Http::new(*address, Some(key))?),
            Way::Grpc(address, key) => Caller::Grpc(Box::new(grpc::Grpc::connect(*address, key).await?)),
        })
    }

    /// Asks, and reads the answer to its end.
    ///
    /// # Errors
    /// There was none, it was a refusal, or it was not complete.
    pub(crate) async fn ask(&mut self, scene: Scene) -> anyhow::Result<Answered> {
        let begun = Instant::now();
        let answered = match self {
            Caller::Http(caller) => caller.ask(scene, begun).await?,
            Caller::Grpc(caller) => caller.ask(scene, begun).await?,
        };
        match scene.chunks() {
            Some(chunks) if chunks != answered.chunks => {
                bail!("a stream of {chunks} chunks came with {}", answered.chunks)
            }
            _ => Ok(answered),
        }
    }

    /// Opens a stream, and leaves it open behind its first content. Over HTTP/1.1 it takes the connection with it.
    pub(crate) async fn hold(&mut self) -> anyhow::Result<Held> {
        match self {
            Caller::Http(caller) => caller.hold().await,
            Caller::Grpc(caller) => caller.hold().await,
        }
        .context("a stream could not be held open")
    }
}

/// The first error, and how many there were.
#[derive(Clone, Debug, Default)]
pub(crate) struct Errors {
    pub(crate) count: u64,
    first: Option<String>,
}

impl Errors {
    pub(crate) fn add(&mut self, error: &anyhow::Error) {
        self.count += 1;
        self.first.get_or_insert_with(|| format!("{error:#}"));
    }

    pub(crate) fn take_up(&mut self, other: Errors) {
        self.count += other.count;
        self.first = self.first.take().or(other.first);
    }

    /// In a sentence; `None`: there were none.
    pub(crate) fn told(&self) -> Option<String> {
        self.first.as_ref().map(|first| format!("{} errors, the first: {first}", self.count))
    }
}
