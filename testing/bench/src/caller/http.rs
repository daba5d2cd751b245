//! Bedrock's own API, over one kept HTTP/1.1 connection.

use std::{net::SocketAddr, time::Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{Answered, Held, frames::Frames};
use crate::scene::{self, Scene};

pub(crate) struct Http {
    address: SocketAddr,
    headers: HeaderMap,
    body: Bytes,
    paths: Vec<Uri>,
    /// `None`: not connected yet, or no longer fit after an error.
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Http {
    /// With a key the address is a node's.
    pub(super) fn new(address: SocketAddr, key: Option<&str>) -> anyhow::Result<Http> {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(&address.to_string())?);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(key) = key {
            headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {key}"))?);
        }
        let paths = Scene::ALL.iter().map(|scene| {
            let model = if key.is_some() { scene.route().to_owned() } else { scene.model().replace(':', "%3A") };
            format!("/model/{model}/{}", scene.operation()).parse()
        });
        Ok(Http { address, headers, body: scene::body(), paths: paths.collect::<Result<_, _>>()?, connection: None })
    }

    pub(super) async fn ask(&mut self, scene: Scene, begun: Instant) -> anyhow::Result<Answered> {
        let mut connection = self.connected().await?;
        let response = self.send(&mut connection, scene).await?;
        let answered = match scene {
            Scene::Whole => whole(response, begun).await?,
            _ => stream(response, begun).await?,
        };
        self.connection = Some(connection);
        Ok(answered)
    }

    pub(super) async fn hold(&mut self) -> anyhow::Result<Held> {
        let mut connection = self.connected().await?;
        let mut body = self.send(&mut connection, Scene::Held).await?.into_body();
        let mut frames = Frames::default();
        while frames.chunks == 0 {
            let frame = body.frame().await.context("the stream ended before its first content")??;
            frames.take(frame.data_ref().map_or(&[], |data| data))?;
        }
        Ok(Held::Http { _sender: connection, _body: body })
    }

    async fn connected(&mut self) -> anyhow::Result<SendRequest<Full<Bytes>>> {
        if let Some(mut connection) = self.connection.take()
            && connection.ready().await.is_ok()
        {
            return Ok(connection);
        }
        let stream = TcpStream::connect(self.address).await.context("no connection")?;
        stream.set_nodelay(true)?;
        let (connection, driver) = handshake(TokioIo::new(stream)).await?;
        // What it ends with reaches the request or its answer, and is told there.
        tokio::spawn(async move { drop(driver.await) });
        Ok(connection)
    }

    async fn send(
        &self,
        connection: &mut SendRequest<Full<Bytes>>,
        scene: Scene,
    ) -> anyhow::Result<Response<Incoming>> {
        let mut request = Request::post(self.paths[scene as usize].clone()).body(Full::new(self.body.clone()))?;
        *request.headers_mut() = self.headers.clone();
        let response = connection.send_request(request).await?;
        if response.status() != StatusCode::OK {
            let status = response.status();
            let body = response.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            bail!("status {status}: {}", String::from_utf8_lossy(&body[..body.len().min(300)]));
        }
        Ok(response)
    }
}

async fn whole(response: Response<Incoming>, begun: Instant) -> anyhow::Result<Answered> {
    let body = response.into_body().collect().await?.to_bytes();
    let waited = begun.elapsed();
    if !(body.starts_with(b"{") && body.ends_with(b"}")) {
        bail!("an answer of {} bytes is no answer", body.len());
    }
    Ok(Answered { waited, chunks: 0 })
}

async fn stream(response: Response<Incoming>, begun: Instant) -> anyhow::Result<Answered> {
    let mut body = response.into_body();
    let (mut frames, mut waited) = (Frames::default(), None);
    while let Some(frame) = body.frame().await {
        frames.take(frame?.data_ref().map_or(&[], |data| data))?;
        if frames.chunks > 0 {
            waited.get_or_insert_with(|| begun.elapsed());
        }
    }
    match waited {
        Some(waited) if frames.is_complete => Ok(Answered { waited, chunks: frames.chunks }),
        _ => bail!("the stream ended after {} chunks, before its end", frames.chunks),
    }
}
