//! Keys, for operators.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use switchtower_keys::{IssuedKey, KEY_RANDOM_BYTES};
use switchtower_proto::control::v1::{
    IssueKeyRequest, IssueKeyResponse, Key, KeySecrets, ListKeysRequest, ListKeysResponse, RevokeKeyRequest,
    RevokeKeyResponse, RotateKeyRequest, RotateKeyResponse,
    key_service_server::{KeyService, KeyServiceServer},
};
use tonic::{Request, Response, Status, service::interceptor::InterceptedService};

use super::{MAX_REQUEST_BYTES, author, doing, status, to_its_end};
use crate::{
    auth::Operators,
    events::Events,
    keys::{self, Act, OVERLAP},
    telemetry::Telemetry,
};

/// Most keys of a page, and how many it has if nobody says.
const PAGE: (usize, usize) = (10_000, 1000);

/// The service of keys.
#[derive(Clone, Debug)]
pub struct Keys {
    keys: keys::Keys,
    events: Arc<Events>,
    telemetry: Arc<Telemetry>,
}

impl Keys {
    /// Of these keys; what is done is told there.
    #[must_use]
    pub fn of(keys: keys::Keys, events: Arc<Events>, telemetry: Arc<Telemetry>) -> Self {
        Keys { keys, events, telemetry }
    }

    /// For a server, behind the check of tokens.
    #[must_use]
    pub fn service(self, operators: Operators) -> InterceptedService<KeyServiceServer<Self>, Operators> {
        let service = KeyServiceServer::new(self).max_decoding_message_size(MAX_REQUEST_BYTES);
        InterceptedService::new(service, operators)
    }
}

#[tonic::async_trait]
impl KeyService for Keys {
    async fn issue_key(&self, request: Request<IssueKeyRequest>) -> Result<Response<IssueKeyResponse>, Status> {
        let (author, doing, this) = (author(&request)?, doing("issue_key", &request), self.clone());
        let IssueKeyRequest { environment, caller, expires_after } = request.into_inner();
        let expires_after = length("expires_after", expires_after)?;
        let at = environment.clone();
        let answer = to_its_end(async move {
            let secret = secret()?;
            let issued = this.keys.issue(&environment, &caller, expires_after, &secret, act(&author)).await?;
            this.events.tell(&issued.event);
            let key = Some(shown(&environment, &issued.key));
            Ok(Response::new(IssueKeyResponse { key, secrets: Some(secrets(issued.secrets)) }))
        })
        .await;
        self.telemetry.done(&doing, &at, &answer, SystemTime::now());
        answer
    }

    async fn list_keys(&self, request: Request<ListKeysRequest>) -> Result<Response<ListKeysResponse>, Status> {
        author(&request)?;
        let ListKeysRequest { environment, caller, after, page_size } = request.into_inner();
        let mut keys = self.keys.list(&environment).await?;
        keys.retain(|key| caller.is_empty() || key.record.caller == caller);
        let first = match after.as_str() {
            "" => 0,
            after => match keys.iter().position(|key| key.record.id == after) {
                Some(place) => place + 1,
                None => return Err(status::malformed("after", "there is no such key here")),
            },
        };
        let size = match usize::try_from(page_size).unwrap_or(usize::MAX) {
            0 => PAGE.1,
            size => size.min(PAGE.0),
        };
        let more = keys.len() > first + size;
        let keys = keys[first..].iter().take(size).map(|key| shown(&environment, key)).collect();
        Ok(Response::new(ListKeysResponse { keys, more }))
    }

    async fn rotate_key(&self, request: Request<RotateKeyRequest>) -> Result<Response<RotateKeyResponse>, Status> {
        let (author, doing, this) = (author(&request)?, doing("rotate_key", &request), self.clone());
        let RotateKeyRequest { environment, id, overlap, expires_after } = request.into_inner();
        let overlap = length("overlap", overlap)?.unwrap_or(OVERLAP);
        let expires_after = length("expires_after", expires_after)?;
        let at = environment.clone();
        let answer = to_its_end(async move {
            let secret = secret()?;
            let rotated = this.keys.rotate(&environment, &id, overlap, expires_after, &secret, act(&author)).await?;
            this.events.tell(&rotated.issued.event);
            Ok(Response::new(RotateKeyResponse {
                key: Some(shown(&environment, &rotated.issued.key)),
                secrets: Some(secrets(rotated.issued.secrets)),
                replaced: Some(shown(&environment, &rotated.replaced)),
            }))
        })
        .await;
        self.telemetry.done(&doing, &at, &answer, SystemTime::now());
        answer
    }

    async fn revoke_key(&self, request: Request<RevokeKeyRequest>) -> Result<Response<RevokeKeyResponse>, Status> {
        let (author, doing, this) = (author(&request)?, doing("revoke_key", &request), self.clone());
        let RevokeKeyRequest { environment, id } = request.into_inner();
        let at = environment.clone();
        let answer = to_its_end(async move {
            let revoked = this.keys.revoke(&environment, &id, act(&author)).await?;
            revoked.event.iter().for_each(|event| this.events.tell(event));
            Ok(Response::new(RevokeKeyResponse { key: Some(shown(&environment, &revoked.key)) }))
        })
        .await;
        self.telemetry.done(&doing, &at, &answer, SystemTime::now());
        answer
    }
}

fn act(author: &str) -> Act<'_> {
    Act { author, now: SystemTime::now(), random: fastrand::u32(..) }
}

fn secret() -> Result<[u8; KEY_RANDOM_BYTES], Status> {
    switchtower_keys::random().map_err(|error| status::internal(&error))
}

/// A length of time; `None` where it is absent.
fn length(field: &str, length: Option<prost_types::Duration>) -> Result<Option<Duration>, Status> {
    let length = length.map(Duration::try_from).transpose();
    length.map_err(|_| status::malformed(field, "a length of time is not negative"))
}

fn shown(environment: &str, key: &keys::Key) -> Key {
    let record = &key.record;
    Key {
        id: record.id.clone(),
        environment: environment.to_owned(),
        caller: record.caller.clone(),
        created_at: Some(record.created.into()),
        expires_at: record.expires.map(Into::into),
        revoked_at: record.revoked.map(Into::into),
        pepper: record.pepper.clone(),
        replaces: key.replaces.clone(),
        replaced_by: key.replaced_by.clone(),
    }
}

fn secrets(secrets: IssuedKey) -> KeySecrets {
    let IssuedKey { bearer, access_key_id, secret_access_key } = secrets;
    KeySecrets { bearer, access_key_id, secret_access_key }
}
