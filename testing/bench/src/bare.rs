//! The baseline of the fleet: a server of tonic that pushes the same number of bytes to every stream, and nothing else.
//!
//! It keeps no policy, checks no token and remembers no node. A node's heartbeat is what tells it to push.

use std::{net::Ipv4Addr, pin::Pin};

use bytes::Bytes;
use futures_util::Stream;
use prost::Message;
use switchtower_proto::sync::v1::{
    Assignment, SyncRequest, SyncResponse, Update, UpdateBody, Welcome, sync_request, sync_response,
    sync_service_server::{SyncService, SyncServiceServer},
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// The subcommand under which this binary is the server.
pub(crate) const SUBCOMMAND: &str = "bare-sync";
/// What it prints before its address.
pub(crate) const READY: &str = "bare-sync on ";

/// Serves on a port of the system's choice, which it prints, until it is killed. Each push carries so many bytes.
pub(crate) async fn run(bytes: usize) -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{READY}{}", listener.local_addr()?);
    let bare = Bare { pushes: watch::channel((0, Bytes::new())).0, bytes };
    tonic::transport::Server::builder()
        .tcp_nodelay(true)
        .add_service(SyncServiceServer::new(bare))
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await?;
    Ok(())
}

#[derive(Debug)]
struct Bare {
    /// Encoded once for all streams.
    pushes: watch::Sender<(u64, Bytes)>,
    bytes: usize,
}

#[tonic::async_trait]
impl SyncService for Bare {
    type SyncStream = Pin<Box<dyn Stream<Item = Result<SyncResponse, Status>> + Send>>;

    async fn sync(&self, request: Request<Streaming<SyncRequest>>) -> Result<Response<Self::SyncStream>, Status> {
        let mut requests = request.into_inner();
        let (sender, responses) = mpsc::channel(1);
        let (pushes, mut pushed) = (self.pushes.clone(), self.pushes.subscribe());
        let bytes = self.bytes;
        tokio::spawn(async move {
            let _ = sender.send(Ok(says(sync_response::Kind::Welcome(Welcome::default())))).await;
            loop {
                tokio::select! {
                    request = requests.message() => match request {
                        Ok(Some(SyncRequest { kind: Some(sync_request::Kind::Heartbeat(_)) })) => {
                            pushes.send_modify(|(number, update)| {
                                *number += 1;
                                *update = body(*number, bytes);
                            });
                        }
                        Ok(Some(_)) => {}
                        Ok(None) | Err(_) => return,
                    },
                    changed = pushed.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        let (update_id, body) = pushed.borrow_and_update().clone();
                        let update = Update { update_id, part: 0, parts: 1, body };
                        if sender.send(Ok(says(sync_response::Kind::Update(update)))).await.is_err() {
                            return;
                        }
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(responses))))
    }
}

fn says(kind: sync_response::Kind) -> SyncResponse {
    SyncResponse { kind: Some(kind) }
}

/// An update of so many bytes that changes nothing.
fn body(number: u64, bytes: usize) -> Bytes {
    let assignment = Assignment { number, ..Assignment::default() };
    let body = UpdateBody { assignment: Some(assignment), traceparent: "x".repeat(bytes), ..UpdateBody::default() };
    body.encode_to_vec().into()
}
