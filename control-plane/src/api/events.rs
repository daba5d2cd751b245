//! What happened, for operators who watch.

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, StreamExt, stream};
use switchtower_proto::control::v1::{
    Event, WatchEventsRequest, WatchEventsResponse,
    event_service_server::{EventService, EventServiceServer},
};
use tokio::sync::broadcast;
use tokio_stream::wrappers::{BroadcastStream, errors::BroadcastStreamRecvError};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, service::interceptor::InterceptedService};

use super::{MAX_REQUEST_BYTES, author, status};
use crate::{
    auth::Operators,
    events::{self, LATEST},
};

/// The service of events.
#[derive(Clone, Debug)]
pub struct Events {
    events: Arc<events::Events>,
    ending: CancellationToken,
}

impl Events {
    /// Of these events. Streams that follow end with `ending`: a server that drains would wait for them for ever.
    #[must_use]
    pub fn of(events: Arc<events::Events>, ending: CancellationToken) -> Self {
        Events { events, ending }
    }

    /// For a server, behind the check of tokens.
    #[must_use]
    pub fn service(self, operators: Operators) -> InterceptedService<EventServiceServer<Self>, Operators> {
        let service = EventServiceServer::new(self).max_decoding_message_size(MAX_REQUEST_BYTES);
        InterceptedService::new(service, operators)
    }
}

type Watched = Pin<Box<dyn Stream<Item = Result<WatchEventsResponse, Status>> + Send>>;

#[tonic::async_trait]
impl EventService for Events {
    type WatchEventsStream = Watched;

    async fn watch_events(&self, request: Request<WatchEventsRequest>) -> Result<Response<Watched>, Status> {
        author(&request)?;
        let WatchEventsRequest { environment, latest, follow } = request.into_inner();
        let latest = usize::try_from(latest).unwrap_or(usize::MAX);
        if latest > LATEST {
            return Err(status::malformed("latest", &format!("at most {LATEST} are at hand")));
        }
        let (kept, coming) = self.events.follow();
        let mut first: Vec<_> = kept.into_iter().rev().filter(|event| of(&environment, event)).take(latest).collect();
        first.reverse();
        let first = stream::iter(first).map(|event| Ok(told(&event)));
        if !follow {
            return Ok(Response::new(Box::pin(first)));
        }
        let coming = those_that_come(coming, environment).take_until(self.ending.clone().cancelled_owned());
        Ok(Response::new(Box::pin(first.chain(coming))))
    }
}

/// Those of an environment, until the listener has missed some.
fn those_that_come(
    coming: broadcast::Receiver<Arc<Event>>,
    environment: String,
) -> impl Stream<Item = Result<WatchEventsResponse, Status>> + Send {
    let mut behind = false;
    BroadcastStream::new(coming)
        .take_while(move |event| {
            let goes_on = !behind;
            behind = event.is_err();
            std::future::ready(goes_on)
        })
        .filter_map(move |event| {
            std::future::ready(match event {
                Ok(event) => of(&environment, &event).then(|| Ok(told(&event))),
                Err(BroadcastStreamRecvError::Lagged(missed)) => Some(Err(status::fell_behind(missed))),
            })
        })
}

fn of(environment: &str, event: &Event) -> bool {
    environment.is_empty() || event.environment == environment
}

fn told(event: &Event) -> WatchEventsResponse {
    WatchEventsResponse { event: Some(event.clone()) }
}
