//! A control plane that answers as a script says, and remembers what it was asked.

use std::{
    any::Any,
    collections::HashMap,
    ffi::OsStr,
    net::SocketAddr,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use switchtower_proto::control::v1::{
    event_service_server::{EventService, EventServiceServer},
    fleet_service_server::{FleetService, FleetServiceServer},
    key_service_server::{KeyService, KeyServiceServer},
    policy_service_server::{PolicyService, PolicyServiceServer},
    *,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status, metadata::MetadataMap};
use tonic_types::{ErrorDetails, StatusExt};

use crate::support::{Ran, command};

type Answer<Q, R> = Box<dyn Fn(&Q) -> Result<R, Status> + Send + Sync>;
/// What a stream gives, and whether it goes on in silence then.
type Answers<Q, R> = Answer<Q, (Vec<Result<R, Status>>, bool)>;
type Streamed<R> = futures_util::stream::BoxStream<'static, Result<R, Status>>;

/// What each call is answered; what has no answer is unavailable.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) apply: Option<Answer<ApplyRequest, ApplyResponse>>,
    pub(crate) get_revision: Option<Answer<GetRevisionRequest, GetRevisionResponse>>,
    pub(crate) list_revisions: Option<Answer<ListRevisionsRequest, ListRevisionsResponse>>,
    pub(crate) diff_revisions: Option<Answer<DiffRevisionsRequest, DiffRevisionsResponse>>,
    pub(crate) promote: Option<Answer<PromoteRequest, PromoteResponse>>,
    pub(crate) rollback: Option<Answer<RollbackRequest, RollbackResponse>>,
    pub(crate) list_environments: Option<Answer<ListEnvironmentsRequest, ListEnvironmentsResponse>>,
    pub(crate) issue_key: Option<Answer<IssueKeyRequest, IssueKeyResponse>>,
    pub(crate) list_keys: Option<Answer<ListKeysRequest, ListKeysResponse>>,
    pub(crate) rotate_key: Option<Answer<RotateKeyRequest, RotateKeyResponse>>,
    pub(crate) revoke_key: Option<Answer<RevokeKeyRequest, RevokeKeyResponse>>,
    pub(crate) get_fleet: Option<Answer<GetFleetRequest, GetFleetResponse>>,
    pub(crate) watch_fleet: Option<Answers<WatchFleetRequest, WatchFleetResponse>>,
    pub(crate) await_assignment: Option<Answers<AwaitAssignmentRequest, AwaitAssignmentResponse>>,
    pub(crate) watch_events: Option<Answers<WatchEventsRequest, WatchEventsResponse>>,
}

/// An answer that does not look at what was asked.
pub(crate) fn always<Q, R: Clone + Send + Sync + 'static>(answer: R) -> Option<Answer<Q, R>> {
    Some(Box::new(move |_| Ok(answer.clone())))
}

pub(crate) fn refuse<Q, R>(status: Status) -> Option<Answer<Q, R>> {
    Some(Box::new(move |_| Err(status.clone())))
}

/// These answers, and then the end of the stream.
pub(crate) fn stream<Q, R: Clone + Send + Sync + 'static>(answers: Vec<R>) -> Option<Answers<Q, R>> {
    Some(Box::new(move |_| Ok((answers.iter().cloned().map(Ok).collect(), false))))
}

/// These answers, and then silence.
pub(crate) fn stream_on<Q, R: Clone + Send + Sync + 'static>(answers: Vec<R>) -> Option<Answers<Q, R>> {
    Some(Box::new(move |_| Ok((answers.iter().cloned().map(Ok).collect(), true))))
}

/// A refusal as the control plane makes it.
pub(crate) fn refusal(code: Code, reason: &str, metadata: &[(&str, &str)]) -> Status {
    let metadata: HashMap<String, String> =
        metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let details = ErrorDetails::with_error_info(reason, "switchtower", metadata);
    Status::with_error_details(code, format!("refused as {reason}"), details)
}

struct Seen {
    metadata: MetadataMap,
    message: Box<dyn Any + Send>,
}

#[derive(Clone)]
struct Scripted {
    script: Arc<Script>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Scripted {
    fn answer<Q: Send + 'static, R>(
        &self,
        answer: Option<&Answer<Q, R>>,
        request: Request<Q>,
    ) -> Result<Response<R>, Status> {
        let (metadata, _, message) = request.into_parts();
        let answered = match answer {
            Some(answer) => answer(&message),
            None => Err(Status::unimplemented("not in this script")),
        };
        self.seen.lock().unwrap().push(Seen { metadata, message: Box::new(message) });
        answered.map(Response::new)
    }

    fn answers<Q: Send + 'static, R: Send + 'static>(
        &self,
        answers: Option<&Answers<Q, R>>,
        request: Request<Q>,
    ) -> Result<Response<Streamed<R>>, Status> {
        use futures_util::stream::{self, StreamExt};
        let (answers, goes_on) = self.answer(answers, request)?.into_inner();
        let answers = stream::iter(answers);
        Ok(Response::new(if goes_on { answers.chain(stream::pending()).boxed() } else { answers.boxed() }))
    }
}

macro_rules! service {
    ($service:ident {
        $($name:ident: $request:ty => $response:ty;)*
        $(=> $many:ident: $asked:ty => $each:ty as $stream:ident;)*
    }) => {
        #[tonic::async_trait]
        impl $service for Scripted {
            $(async fn $name(&self, request: Request<$request>) -> Result<Response<$response>, Status> {
                self.answer(self.script.$name.as_ref(), request)
            })*
            $(
                type $stream = Streamed<$each>;
                async fn $many(&self, request: Request<$asked>) -> Result<Response<Self::$stream>, Status> {
                    self.answers(self.script.$many.as_ref(), request)
                }
            )*
        }
    };
}

service!(PolicyService {
    apply: ApplyRequest => ApplyResponse;
    get_revision: GetRevisionRequest => GetRevisionResponse;
    list_revisions: ListRevisionsRequest => ListRevisionsResponse;
    diff_revisions: DiffRevisionsRequest => DiffRevisionsResponse;
    promote: PromoteRequest => PromoteResponse;
    rollback: RollbackRequest => RollbackResponse;
    list_environments: ListEnvironmentsRequest => ListEnvironmentsResponse;
});

service!(KeyService {
    issue_key: IssueKeyRequest => IssueKeyResponse;
    list_keys: ListKeysRequest => ListKeysResponse;
    rotate_key: RotateKeyRequest => RotateKeyResponse;
    revoke_key: RevokeKeyRequest => RevokeKeyResponse;
});

service!(FleetService {
    get_fleet: GetFleetRequest => GetFleetResponse;
    => watch_fleet: WatchFleetRequest => WatchFleetResponse as WatchFleetStream;
    => await_assignment: AwaitAssignmentRequest => AwaitAssignmentResponse as AwaitAssignmentStream;
});

service!(EventService {
    => watch_events: WatchEventsRequest => WatchEventsResponse as WatchEventsStream;
});

/// The token that is shown to every control plane here, and must be in no output.
pub(crate) const TOKEN: &str = "swo_this-is-not-to-be-seen";

/// A running control plane; it ends when it is dropped.
pub(crate) struct Plane {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    // Dropped, it ends every task of it.
    _runtime: tokio::runtime::Runtime,
}

impl Plane {
    pub(crate) fn start(script: Script) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let scripted = Scripted { script: Arc::new(script), seen: seen.clone() };
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tonic::transport::Server::builder()
            .add_service(PolicyServiceServer::new(scripted.clone()))
            .add_service(KeyServiceServer::new(scripted.clone()))
            .add_service(FleetServiceServer::new(scripted.clone()))
            .add_service(EventServiceServer::new(scripted))
            .serve_with_incoming(TcpListenerStream::new(listener));
        runtime.spawn(serving);
        Plane { address, seen, _runtime: runtime }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A command that asks it, with a token.
    pub(crate) fn command<I: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = I>) -> Command {
        let mut command = command(args);
        command.env("SWITCHTOWER_CONTROL_PLANE", self.url()).env("SWITCHTOWER_TOKEN", TOKEN);
        command
    }

    #[track_caller]
    pub(crate) fn run<I: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = I>) -> Ran {
        let ran = Ran::of(self.command(args).stdin(Stdio::null()).output().unwrap());
        assert!(!ran.out.contains(TOKEN) && !ran.err.contains(TOKEN), "{ran:#?}");
        ran
    }

    /// All requests of this type, in their order.
    pub(crate) fn seen<Q: Clone + 'static>(&self) -> Vec<Q> {
        self.seen.lock().unwrap().iter().filter_map(|seen| seen.message.downcast_ref::<Q>().cloned()).collect()
    }

    /// A header of the last request; empty where there was none.
    pub(crate) fn header(&self, name: &str) -> String {
        let seen = self.seen.lock().unwrap();
        let value = seen.last().and_then(|seen| seen.metadata.get(name)?.to_str().ok().map(str::to_owned));
        value.unwrap_or_default()
    }
}
