//! One request to Bedrock Runtime, from its head to its answer.

use std::{borrow::Cow, error::Error, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use tokio::time::Instant;

use crate::{
    answer::{self, Answer},
    body::{Reply, Stream, millis_since},
    counts::{Operation, Raw, Ticket},
    exception::Exception,
    play::Play,
    region::{Region, Scene, members},
    request::Prompt,
    script::{Fail, Outage},
};

/// What the service's model allows an InvokeModel body; for Converse no other figure is known.
const LARGEST_BODY_BYTES: usize = 25_000_000;
/// What real Bedrock appends to the name of an exception; clients cut it off.
const ERROR_NAMESPACE: &str = "http://internal.amazon.com/coral/com.amazon.bedrock/";
const UNKNOWN_OPERATION: &str = "UnknownOperationException";

/// Answers one request. Dropping the future is what a client's leaving does, and counts as a cancelled request.
///
/// # Errors
/// The client left while it sent the body.
pub(crate) async fn serve(
    region: Arc<Region>,
    request: Request<Incoming>,
) -> Result<Response<Reply>, Box<dyn Error + Send + Sync>> {
    let started = Instant::now();
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, LARGEST_BODY_BYTES).collect().await {
        Ok(body) => Some(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => None,
        Err(error) => return Err(error),
    };
    let (model, operation) = address(&head.method, head.uri.path());
    region.ring.keep(|| Raw {
        region: Arc::clone(&region.name),
        path: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        method: head.method,
        headers: head.headers,
        body_bytes: body.as_ref().map_or(0, Bytes::len),
        body: body.clone().unwrap_or_default(),
    });
    let ticket = Ticket::begin(&region.tally, model.clone(), operation);
    let call = Call { id: request_id(region.draw()), region, model, started, ticket };
    Ok(call.answer(operation, body).await)
}

/// The model and what to do with it. The path is split before it is decoded: an ARN's `%2F` makes no segment.
fn address(method: &Method, path: &str) -> (String, Operation) {
    let unknown = (String::new(), Operation::Unknown);
    let Some((model, action)) = path.strip_prefix("/model/").and_then(|path| path.split_once('/')) else {
        return unknown;
    };
    let operation = match action {
        "converse" => Operation::Converse,
        "converse-stream" => Operation::ConverseStream,
        _ => return unknown,
    };
    match percent_decode_str(model).decode_utf8() {
        Ok(model) if !model.is_empty() && *method == Method::POST => (model.into_owned(), operation),
        _ => unknown,
    }
}

/// A request that has arrived.
struct Call {
    region: Arc<Region>,
    model: String,
    id: String,
    started: Instant,
    ticket: Ticket,
}

impl Call {
    async fn answer(self, operation: Operation, body: Option<Bytes>) -> Response<Reply> {
        let scene = self.region.scene(&self.model);
        // A region that hangs hangs for models with a behaviour of their own too.
        let region_hangs = *self.region.outage.borrow() == Some(Outage::Hang);
        if region_hangs || scene.behaviour.outage == Some(Outage::Hang) {
            std::future::pending::<()>().await;
        }
        if !scene.behaviour.latency.is_zero() {
            tokio::time::sleep(scene.behaviour.latency).await;
        }
        if operation == Operation::Unknown {
            return self.unknown_operation();
        }
        if let Some(fail) = self.region.failure(&scene) {
            return self.fail(fail);
        }
        if let Some((error, message)) = self.unknown_model() {
            return self.refuse(error, message);
        }
        let Some(body) = body else {
            return self.refuse(Exception::ValidationException, "Input is too long for requested model.");
        };
        match Prompt::read(&body) {
            Err(message) => self.refuse(Exception::ValidationException, &message),
            Ok(prompt) if operation == Operation::ConverseStream => self.stream(&scene, &prompt),
            Ok(prompt) => self.whole(&scene, &prompt).await,
        }
    }

    /// A known id that is mistyped is invalid; an ARN that names nothing is not found.
    fn unknown_model(&self) -> Option<(Exception, &'static str)> {
        let known = self.region.known_models.load();
        if known.is_empty() || known.contains(&self.model) {
            None
        } else if self.model.starts_with("arn:") {
            let error = Exception::ResourceNotFoundException;
            Some((error, error.default_message()))
        } else {
            Some((Exception::ValidationException, "The provided model identifier is invalid."))
        }
    }

    async fn whole(self, scene: &Scene, prompt: &Prompt) -> Response<Reply> {
        let ready = scene.ready.as_ref().filter(|ready| is_plain(prompt, &ready.answer));
        let made;
        let (members, output_tokens) = match ready {
            Some(ready) => (Cow::Borrowed(ready.members.as_str()), ready.answer.output_tokens),
            None => {
                made = self.new_answer(scene, prompt);
                (Cow::Owned(members(&made)), made.output_tokens)
            }
        };
        if !scene.admit(prompt.input_tokens.saturating_add(output_tokens)) {
            return self.throttle();
        }
        let speaking = scene.behaviour.first_token_delay + scene.speaking(output_tokens);
        if !speaking.is_zero() {
            tokio::time::sleep(speaking).await;
        }
        let latency = millis_since(self.started);
        let metadata = answer::metadata(prompt, output_tokens, scene.behaviour.usage, latency).to_string();
        let body = format!("{{{members},{}", &metadata[1..]);
        self.finish(StatusCode::OK, "ok", Bytes::from(body))
    }

    fn stream(self, scene: &Scene, prompt: &Prompt) -> Response<Reply> {
        let ready = scene.ready.as_ref().filter(|ready| is_plain(prompt, &ready.answer));
        let (frames, output_tokens) = match ready {
            Some(ready) => (Arc::clone(&ready.frames), ready.answer.output_tokens),
            None => {
                let answer = self.new_answer(scene, prompt);
                (Arc::new(answer.frames(scene.behaviour.pieces())), answer.output_tokens)
            }
        };
        if !scene.admit(prompt.input_tokens.saturating_add(output_tokens)) {
            return self.throttle();
        }
        let pace = scene.pace(output_tokens, frames.paced);
        let broken = self.region.stream_break(scene).cloned();
        let outcome = broken.as_ref().map_or("ok", |broken| broken.error.outcome());
        let metadata = answer::metadata(prompt, output_tokens, scene.behaviour.usage, 0);
        let play = Play::new(frames, pace, broken);
        let body = Stream::new(play, metadata, self.started, self.ticket, outcome);
        response(StatusCode::OK, &self.id, "application/vnd.amazon.eventstream", Reply::Stream(Box::new(body)))
    }

    fn new_answer(&self, scene: &Scene, prompt: &Prompt) -> Answer {
        let tool_use_id = || format!("tooluse_{:016x}", self.region.draw());
        Answer::new(&scene.behaviour, prompt, &self.model, &self.region.name, tool_use_id)
    }

    fn throttle(self) -> Response<Reply> {
        self.refuse(Exception::ThrottlingException, "Too many tokens, please wait before trying again.")
    }

    fn refuse(self, error: Exception, message: &str) -> Response<Reply> {
        self.fail(&Fail { message: Some(message.to_owned()), ..Fail::with(error) })
    }

    fn fail(self, fail: &Fail) -> Response<Reply> {
        let status = StatusCode::from_u16(fail.error.status()).expect("the table holds statuses");
        let body = fail.error.body(fail.message.as_deref(), fail.original_status, &self.model);
        let mut response = self.finish(status, fail.error.name(), body);
        let headers = response.headers_mut();
        let kind = HeaderValue::from_str(&format!("{}:{ERROR_NAMESPACE}", fail.error.name()));
        headers.insert("x-amzn-errortype", kind.expect("names of exceptions are plain text"));
        if let Some(milliseconds) = fail.retry_after_ms {
            headers.insert("x-amz-retry-after", milliseconds.into());
            headers.insert(header::RETRY_AFTER, milliseconds.div_ceil(1000).into());
        }
        response
    }

    fn unknown_operation(self) -> Response<Reply> {
        let body = r#"{"Output":{"__type":"com.amazon.coral.service#UnknownOperationException"},"Version":"1.0"}"#;
        let mut response = self.finish(StatusCode::NOT_FOUND, UNKNOWN_OPERATION, Bytes::from_static(body.as_bytes()));
        response.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static(UNKNOWN_OPERATION));
        response
    }

    fn finish(self, status: StatusCode, outcome: &'static str, body: Bytes) -> Response<Reply> {
        self.ticket.end(outcome);
        response(status, &self.id, "application/json", Reply::whole(body))
    }
}

/// Whether the answer that was made ready is the answer to this prompt.
fn is_plain(prompt: &Prompt, ready: &Answer) -> bool {
    let fits = prompt.max_tokens.is_none_or(|most| most >= ready.output_tokens);
    fits && prompt.tool.is_none() && prompt.blocked.is_none()
}

fn response(status: StatusCode, id: &str, content_type: &'static str, body: Reply) -> Response<Reply> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert("x-amzn-requestid", HeaderValue::from_str(id).expect("hexadecimal digits and hyphens"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// It looks like Bedrock's, a UUID of version 4, and repeats with the seed.
fn request_id(drawn: u64) -> String {
    let more = drawn.rotate_left(29).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        drawn >> 32,
        drawn >> 16 & 0xffff,
        drawn & 0xfff,
        more >> 48 & 0x3fff | 0x8000,
        more & 0xffff_ffff_ffff,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_split_before_it_is_decoded() {
        let check = |method: Method, path: &str, expected: (&str, Operation)| {
            let (model, operation) = address(&method, path);
            assert_eq!((model.as_str(), operation), expected, "{path}");
        };
        let unknown = ("", Operation::Unknown);
        check(Method::POST, "/model/us.a.b-v1%3A0/converse", ("us.a.b-v1:0", Operation::Converse));
        check(Method::POST, "/model/us.a.b-v1:0/converse-stream", ("us.a.b-v1:0", Operation::ConverseStream));
        check(Method::POST, "/model/arn%3Aaws%3Ab%2Fc/converse", ("arn:aws:b/c", Operation::Converse));
        check(Method::GET, "/model/m/converse", unknown);
        check(Method::POST, "/model/m/invoke", unknown);
        check(Method::POST, "/model/a/b/converse", unknown);
        check(Method::POST, "/model//converse", unknown);
        check(Method::POST, "/model/%ff/converse", unknown);
        check(Method::POST, "/", unknown);
    }

    #[test]
    fn a_request_id_has_the_form_of_a_uuid() {
        for drawn in [0, 1, u64::MAX, 0x0123_4567_89ab_cdef] {
            let id = request_id(drawn);
            let lengths: Vec<usize> = id.split('-').map(str::len).collect();
            assert_eq!(lengths, [8, 4, 4, 4, 12], "{id}");
        }
    }
}
