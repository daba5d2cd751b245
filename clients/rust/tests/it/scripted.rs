//! A server that gives one answer to every call, and remembers the last.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
};

use futures_util::{Stream, StreamExt, stream};
use switchtower_client::Event;
use switchtower_client::wire::{
    GenerateRequest, GenerateResponse, GenerateStreamRequest, GenerateStreamResponse,
    inference_service_server::{InferenceService, InferenceServiceServer},
};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status,
    metadata::MetadataMap,
    transport::{Identity, ServerTlsConfig},
};

/// What every call gets.
#[allow(clippy::large_enum_variant, reason = "there is one per server")]
pub(crate) enum Answer {
    /// A whole answer, or a refusal of one.
    Whole(Result<GenerateResponse, Status>),
    /// A refusal of a stream.
    Refused(Status),
    /// These events and the end of the stream.
    Events(Vec<Result<Event, Status>>),
    /// These events and nothing more.
    EventsThenSilence(Vec<Result<Event, Status>>),
    /// Nothing.
    Never,
}

type Seen = Option<(http::HeaderMap, GenerateRequest)>;

struct Scripted {
    answer: Answer,
    seen: Arc<Mutex<Seen>>,
    cancelled: Arc<Semaphore>,
}

fn parts<T>(request: Request<T>) -> (T, http::HeaderMap) {
    let (metadata, _, message) = request.into_parts();
    (message, metadata.into_headers())
}

#[tonic::async_trait]
impl InferenceService for Scripted {
    async fn generate(&self, request: Request<GenerateRequest>) -> Result<Response<GenerateResponse>, Status> {
        let (message, headers) = parts(request);
        *self.seen.lock().unwrap() = Some((headers, message));
        match &self.answer {
            Answer::Whole(Ok(answer)) => Ok(Response::new(answer.clone())),
            Answer::Whole(Err(status)) => Err(status.clone()),
            _ => std::future::pending().await,
        }
    }

    type GenerateStreamStream = Pin<Box<dyn Stream<Item = Result<GenerateStreamResponse, Status>> + Send>>;

    async fn generate_stream(
        &self,
        request: Request<GenerateStreamRequest>,
    ) -> Result<Response<Self::GenerateStreamStream>, Status> {
        let (message, headers) = parts(request);
        *self.seen.lock().unwrap() = Some((headers, message.request.unwrap()));
        let (events, silence) = match &self.answer {
            Answer::Refused(status) => return Err(status.clone()),
            Answer::Events(events) => (events, false),
            Answer::EventsThenSilence(events) => (events, true),
            _ => std::future::pending().await,
        };
        let events: Vec<_> = events
            .iter()
            .map(|event| event.clone().map(|event| GenerateStreamResponse { event: Some(event) }))
            .collect();
        let dropped = Dropped(self.cancelled.clone());
        let silence = stream::pending().take(if silence { usize::MAX } else { 0 });
        let events = stream::iter(events).chain(silence).map(move |event| {
            let _until_the_stream_is_dropped = &dropped;
            event
        });
        let mut metadata = MetadataMap::new();
        metadata.insert("x-switchtower-request-id", "00ff".parse().unwrap());
        let events: Self::GenerateStreamStream = Box::pin(events);
        Ok(Response::from_parts(metadata, events, tonic::Extensions::default()))
    }
}

struct Dropped(Arc<Semaphore>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

/// A running server; it stops when it is dropped.
pub(crate) struct Server {
    address: SocketAddr,
    certificate: Option<String>,
    seen: Arc<Mutex<Seen>>,
    cancelled: Arc<Semaphore>,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(answer: Answer) -> Self {
        Self::start_with(answer, None).await
    }

    /// With a certificate of its own for `localhost`.
    pub(crate) async fn start_tls(answer: Answer) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let identity = Identity::from_pem(made.cert.pem(), made.signing_key.serialize_pem());
        let mut server = Self::start_with(answer, Some(ServerTlsConfig::new().identity(identity))).await;
        server.certificate = Some(made.cert.pem());
        server
    }

    async fn start_with(answer: Answer, tls: Option<ServerTlsConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, cancelled) = (Arc::<Mutex<Seen>>::default(), Arc::new(Semaphore::new(0)));
        let scripted = Scripted { answer, seen: seen.clone(), cancelled: cancelled.clone() };
        let mut builder = tonic::transport::Server::builder();
        if let Some(tls) = tls {
            builder = builder.tls_config(tls).unwrap();
        }
        let serving = builder
            .add_service(InferenceServiceServer::new(scripted))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let task = tokio::spawn(async move { serving.await.unwrap() });
        Server { address, certificate: None, seen, cancelled, task }
    }

    pub(crate) fn endpoint(&self) -> String {
        match self.certificate {
            None => format!("http://{}", self.address),
            Some(_) => format!("https://localhost:{}", self.address.port()),
        }
    }

    pub(crate) fn certificate(&self) -> &str {
        self.certificate.as_deref().unwrap()
    }

    /// Headers and request of the last call.
    pub(crate) fn seen(&self) -> (http::HeaderMap, GenerateRequest) {
        self.seen.lock().unwrap().clone().unwrap()
    }

    /// Resolves when a stream was dropped.
    pub(crate) async fn cancelled(&self) {
        self.cancelled.acquire().await.unwrap().forget();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}
