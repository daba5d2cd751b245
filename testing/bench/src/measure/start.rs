//! How long a node takes from its start to its first answer, with many routes to compile.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Empty;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{Effort, spread};
use crate::{
    caller::Caller,
    report::{Goal, Row, Unit},
    scene::Scene,
    stage::{Node, ROUTES, Stage},
};

/// Starts in each round: they are short.
const STARTS: usize = 3;
/// Longer than a node takes to become ready.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(1);

pub(crate) async fn measure(stage: &Stage, effort: &Effort) -> anyhow::Result<Vec<Row>> {
    let (mut ready, mut answered) = (Vec::new(), Vec::new());
    // The first start reads the program from disk, and is not counted.
    for start in 0..=STARTS * effort.rounds {
        let node = stage.node(&stage.large_policy()).await?;
        until_ready(&node).await?;
        let is_ready = node.process.spawned.elapsed();
        Caller::new(&stage.bedrock_face(&node)).await?.ask(Scene::Whole).await.context("the first request")?;
        let has_answered = node.process.spawned.elapsed();
        if start > 0 {
            ready.push(is_ready.as_secs_f64() * 1e3);
            answered.push(has_answered.as_secs_f64() * 1e3);
        }
    }
    let row = |what: &str, runs: &[f64]| {
        let what = format!("start with {ROUTES} routes to {what}");
        anyhow::Ok(Row::new(what, Goal::AtMost(100.0), spread(runs)?, Unit::Milliseconds))
    };
    Ok(vec![row("/readyz", &ready)?, row("the first answer", &answered)?])
}

async fn until_ready(node: &Node) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    let stream = TcpStream::connect(node.admin).await.context("the admin port")?;
    let (mut connection, driver) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move { drop(driver.await) });
    loop {
        let request = Request::get("/readyz").header(header::HOST, "localhost").body(Empty::<Bytes>::new())?;
        let response = connection.send_request(request).await?;
        if response.status() == StatusCode::OK {
            return Ok(());
        }
        if Instant::now() > end {
            bail!("/readyz still answers {} after {PATIENCE:?}", response.status());
        }
        drop(response);
        tokio::time::sleep(PAUSE).await;
        connection.ready().await?;
    }
}
