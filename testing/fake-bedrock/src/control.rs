//! The control endpoint: the script, region by region, and what was counted, over HTTP while the fake runs.

use std::{error::Error, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, service::service_fn};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    door::serve_http,
    fleet::Fleet,
    script::{Behaviour, Script},
};

/// What can be asked, for whoever asks something else.
const HELP: &str = "PUT /script, GET /script, POST /region/REGION?model=MODEL (replaces), \
                    PATCH /region/REGION?model=MODEL (merges), POST /heal, GET /counts, DELETE /counts, \
                    GET /requests?last=N";
/// A script is written by hand.
const LARGEST_SCRIPT_BYTES: usize = 16 << 20;

type Answer = (StatusCode, Value);

/// Accepts until the token is cancelled.
pub(crate) async fn run(listener: TcpListener, fleet: Arc<Fleet>, tasks: TaskTracker, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to the control endpoint");
                tokio::task::yield_now().await;
                continue;
            }
        };
        let (fleet, stop) = (Arc::clone(&fleet), stop.clone());
        tasks.spawn(async move {
            let service = service_fn(move |request| serve(Arc::clone(&fleet), request));
            tokio::select! {
                () = stop.cancelled() => (),
                () = serve_http(stream, service) => (),
            }
        });
    }
}

async fn serve(
    fleet: Arc<Fleet>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Box<dyn Error + Send + Sync>> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, LARGEST_SCRIPT_BYTES).collect().await?.to_bytes();
    let query = head.uri.query().unwrap_or_default();
    let (status, body) = match std::str::from_utf8(&body) {
        Ok(text) => answer(&fleet, &head.method, head.uri.path(), query, text),
        Err(_) => refuse("the body is not UTF-8"),
    };
    let mut response = Response::new(Full::from(format!("{body}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

fn answer(fleet: &Fleet, method: &Method, path: &str, query: &str, body: &str) -> Answer {
    let region = path.strip_prefix("/region/");
    match (method.as_str(), path, region) {
        ("GET", "/script", _) => show(&fleet.script()),
        ("PUT", "/script", _) => done(Script::read(body).and_then(|script| fleet.play(script))),
        ("POST", _, Some(region)) => {
            let model = parameter(query, "model");
            let behaved = Behaviour::read(if body.trim().is_empty() { "{}" } else { body });
            done(behaved.and_then(|behaviour| fleet.behave(region, model.as_deref(), behaviour)))
        }
        ("PATCH", _, Some(region)) => merge(fleet, region, parameter(query, "model").as_deref(), body),
        ("POST", "/heal", _) => {
            fleet.heal();
            done::<String>(Ok(()))
        }
        ("GET", "/counts", _) => show(&fleet.counts()),
        ("DELETE", "/counts", _) => {
            fleet.reset_counts();
            done::<String>(Ok(()))
        }
        ("GET", "/requests", _) => match parameter(query, "last").map(|last| last.parse()) {
            None => show(&fleet.requests(usize::MAX)),
            Some(Ok(last)) => show(&fleet.requests(last)),
            Some(Err(_)) => refuse("last: must be a whole number"),
        },
        _ => (StatusCode::NOT_FOUND, json!({ "message": HELP })),
    }
}

/// JSON merge: members replace those of their name, and `null` takes one away.
fn merge(fleet: &Fleet, region: &str, model: Option<&str>, body: &str) -> Answer {
    let change: Value = match serde_json::from_str(body) {
        Ok(change @ Value::Object(_)) => change,
        _ => return refuse("the body must be a JSON object with members of a behaviour"),
    };
    let Some(current) = fleet.behaviour(region, model) else {
        return refuse(&format!("there is no region {region} here"));
    };
    let mut merged = serde_json::to_value(current).expect("a behaviour is always JSON");
    merge_into(&mut merged, change);
    done(Behaviour::read(&merged.to_string()).and_then(|behaviour| fleet.behave(region, model, behaviour)))
}

fn merge_into(target: &mut Value, change: Value) {
    match (target, change) {
        (Value::Object(members), Value::Object(change)) => {
            for (name, value) in change {
                if value.is_null() {
                    members.remove(&name);
                } else {
                    merge_into(members.entry(name).or_insert(Value::Null), value);
                }
            }
        }
        (target, change) => *target = change,
    }
}

fn parameter(query: &str, name: &str) -> Option<String> {
    let value = query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name)?.1;
    Some(percent_decode_str(value).decode_utf8_lossy().into_owned())
}

fn show(value: &impl Serialize) -> Answer {
    (StatusCode::OK, serde_json::to_value(value).expect("counts, scripts and requests are always JSON"))
}

fn done<E: ToString>(result: Result<(), E>) -> Answer {
    match result {
        Ok(()) => (StatusCode::OK, json!({})),
        Err(error) => refuse(&error.to_string()),
    }
}

fn refuse(message: &str) -> Answer {
    (StatusCode::BAD_REQUEST, json!({ "message": message }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_replaces_adds_and_takes_away() {
        let check = |mut target: Value, change: Value, expected: Value| {
            merge_into(&mut target, change);
            assert_eq!(target, expected);
        };
        check(json!({ "a": 1, "b": 2 }), json!({ "a": null, "c": 3 }), json!({ "b": 2, "c": 3 }));
        check(json!({ "a": { "x": 1, "y": 2 } }), json!({ "a": { "x": 3 } }), json!({ "a": { "x": 3, "y": 2 } }));
        check(json!({ "a": null }), json!({ "a": { "x": 1 } }), json!({ "a": { "x": 1 } }));
    }

    #[test]
    fn a_parameter_is_decoded() {
        let check = |query: &str, expected: Option<&str>| {
            assert_eq!(parameter(query, "model").as_deref(), expected);
        };
        check("model=a%3A0&last=3", Some("a:0"));
        check("last=3&model=b", Some("b"));
        check("models=b", None);
        check("", None);
    }
}
