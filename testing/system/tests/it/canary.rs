//! No prompt, key or token in any log, metric, trace or page: secrets are planted wherever one can travel, and looked
//! for in everything that came out, in every form ([`switchtower_system_tests::canary`]).

use base64::{Engine, engine::general_purpose::STANDARD};
use http::Request;
use serde_json::{Value, json};
use switchtower_fake_bedrock::{Behaviour, Break, Exception, Fail, InStream, StreamException};
use switchtower_system_tests::{
    canary::found,
    foreign::Foreign,
    logs,
    tower::{Setup, Tower, WEB},
    wire::Reply,
};

/// A secret that nothing else looks like.
fn planted(place: &str) -> String {
    let id: [u8; 12] = switchtower_keys::random().unwrap();
    format!("canary{}{place}", hex::encode(id))
}

/// Everything that a caller can say.
struct Said {
    prompt: String,
    system: String,
    argument: String,
    result: String,
    picture: String,
    value: String,
    header_value: String,
    stop: String,
    model_field: String,
    asked: String,
}

impl Said {
    fn new() -> Said {
        Said {
            prompt: planted("prompt"),
            system: planted("system"),
            argument: planted("argument"),
            result: planted("result"),
            picture: planted("picture"),
            value: planted("value"),
            header_value: planted("headervalue"),
            stop: planted("stop"),
            model_field: planted("modelfield"),
            asked: planted("asked"),
        }
    }

    fn all(&self) -> Vec<&String> {
        let Said { prompt, system, argument, result, picture, value, header_value, stop, model_field, asked } = self;
        vec![prompt, system, argument, result, picture, value, header_value, stop, model_field, asked]
    }

    fn body(&self) -> Value {
        json!({
            "messages": [
                { "role": "user", "content": [
                    { "text": self.prompt },
                    { "image": { "format": "png", "source": { "bytes": STANDARD.encode(&self.picture) } } },
                ] },
                { "role": "assistant", "content": [
                    { "toolUse": { "toolUseId": "t1", "name": "look", "input": { "at": self.argument } } },
                ] },
                { "role": "user", "content": [
                    { "toolResult": { "toolUseId": "t1", "content": [{ "text": self.result }] } },
                    { "text": self.prompt },
                ] },
            ],
            "system": [{ "text": self.system }],
            "toolConfig": { "tools": [{ "toolSpec": {
                "name": "look", "description": self.system, "inputSchema": { "json": { "type": "object" } },
            } }] },
            "inferenceConfig": { "stopSequences": [self.stop] },
            "additionalModelRequestFields": { "secret": self.model_field },
            "requestMetadata": { "ticket": self.value, "session": self.value },
        })
    }

    fn grpc(&self) -> Value {
        json!({
            "route": "safe",
            "messages": [{ "role": "ROLE_USER", "content": [
                { "text": self.prompt }, { "image": { "format": "png", "data": STANDARD.encode(&self.picture) } },
            ] }],
            "system": [{ "text": self.system }],
            "metadata": { "ticket": self.value },
            "more": { "additionalModelRequestFields": { "secret": self.model_field } },
        })
    }

    async fn send(&self, tower: &Tower, route: &str) -> [Reply; 2] {
        let ask = async |operation: &str| {
            let request = tower.post(&format!("/model/{route}/{operation}"));
            let request = request.header("x-switchtower-metadata-note", &self.header_value);
            tower.send(request, self.body().to_string()).await
        };
        [ask("converse").await, ask("converse-stream").await]
    }
}

fn contains(reply: &Reply, text: &str) -> bool {
    String::from_utf8_lossy(&reply.body).contains(text)
}

#[tokio::test]
async fn no_secret_comes_out_anywhere() {
    let said = Said::new();
    let aws = [planted("awsid"), planted("awssecret"), planted("awstoken")];
    let (told, answer, thought) = (planted("told"), planted("answer"), planted("thought"));
    let (wrong_secret, caller_token, in_body, guess) =
        (planted("wrongsecret"), planted("callertoken"), planted("inbody"), planted("guess"));
    let setup = Setup { sampler: Some("always_on"), aws: aws.clone(), ..Setup::default() };
    let tower = Tower::start(setup).await;
    let key = tower.key(WEB);
    // Of the form of a key, so that it is looked up.
    let wrong_key = format!("swt_{}_{}", "QUESSQUESSQUESSQ", "Z2".repeat(16));

    let speaking = Behaviour { text: Some(answer.clone()), reasoning: Some(thought.clone()), ..Behaviour::default() };
    tower.everywhere(&speaking);
    for reply in said.send(&tower, "chat").await {
        assert!(reply.status == 200 && contains(&reply, &answer), "{reply:?}");
    }
    let [guarded, _] = said.send(&tower, "guarded").await;
    assert_eq!(guarded.status, 200);

    // The upstream quotes what it was told: its words reach the caller, and nobody else. Not even the caller is told why
    // we may not use a target.
    for exception in [
        Exception::ValidationException,
        Exception::ThrottlingException,
        Exception::ModelErrorException,
        Exception::AccessDeniedException,
    ] {
        let fail = Fail { message: Some(format!("{told} {}", said.prompt)), ..Fail::with(exception) };
        tower.everywhere(&Behaviour { fail: Some(fail), ..Behaviour::default() });
        for reply in said.send(&tower, "chat").await {
            let ours_to_mend = exception == Exception::AccessDeniedException;
            assert!(reply.status >= 400 && contains(&reply, &told) != ours_to_mend, "{reply:?}");
        }
        let _ = said.send(&tower, "safe").await;
    }
    for broken in [
        Break::Exception(StreamException::ModelStreamError),
        Break::Exception(StreamException::Throttling),
        Break::UnmodelledError,
    ] {
        for after in [0, 3] {
            let in_stream = InStream { message: Some(told.clone()), ..InStream::after(after, broken) };
            tower.everywhere(&Behaviour { in_stream: Some(in_stream), ..speaking.clone() });
            for route in ["chat", "partial"] {
                let _ = said.send(&tower, route).await;
            }
        }
    }
    for broken in [Break::Cut, Break::BadChecksum, Break::AbsurdLength, Break::EndWithoutStop] {
        tower.everywhere(&Behaviour { in_stream: Some(InStream::after(3, broken)), ..speaking.clone() });
        let _ = said.send(&tower, "chat").await;
    }
    tower.everywhere(&speaking);

    // Bodies and headers that are refused.
    for body in [
        format!("{{\"{in_body}\": "),
        in_body.clone(),
        format!(r#"{{"inferenceConfig":{{"maxTokens":"{in_body}"}}}}"#),
        format!(r#"{{"requestMetadata":{{"{in_body}":1}}}}"#),
        format!(r#"{{"additionalModelRequestFields":{{"parameters":{{"max_tokens":"{in_body}"}}}}}}"#),
    ] {
        assert_eq!(tower.send(tower.post("/model/chat/converse"), body).await.status, 400);
    }
    let long = tower.post("/model/chat/converse").header("x-switchtower-metadata-k", in_body.repeat(9));
    assert_eq!(tower.send(long, said.body().to_string()).await.status, 400);
    for path in [format!("/model/{}/converse", said.asked), format!("/{}?q={}", said.asked, said.asked)] {
        assert_eq!(tower.send(tower.post(&path), said.body().to_string()).await.status, 404);
    }

    // Keys that are refused, and a caller that leaves.
    for authorization in [
        format!("Bearer {wrong_key}"),
        format!("Bearer {guess}"),
        format!("Basic {guess}"),
        format!("AWS4-HMAC-SHA256 {guess}"),
    ] {
        let request = Request::post("/model/chat/converse").header("authorization", authorization);
        assert_eq!(tower.send(request, said.body().to_string()).await.status, 401);
    }
    tower.everywhere(&Behaviour { words: Some(1000), tokens_per_second: Some(10.0), ..Behaviour::default() });
    let mut left = tower.open_stream("chat", &said.body()).await;
    assert!(left.next().await.is_some());
    drop(left);
    tower.everywhere(&speaking);

    sign_as_boto(&tower, &said, &wrong_secret, &caller_token).await;
    speak_grpc(&tower, &said, &told, &wrong_key, &speaking).await;

    tower.at_rest().await;
    tower.flush().await;
    let control = planted("control");
    tracing::info!(target: "switchtower_system_tests", "{control} {} {}", STANDARD.encode(format!("a{control}")), hex::encode(&control));
    let places = [
        ("log", logs::all()),
        ("metrics", tower.metrics().await),
        ("spans", tower.collector().all()),
        ("readyz", String::from_utf8_lossy(&tower.admin("/readyz").await.body).into_owned()),
    ];
    // What is searched is what was said: each place tells of these requests, and what is planted in a log is found there.
    assert!(places[0].1.contains(" refused after ") && places[0].1.contains(" broke off after "));
    assert!(places[1].1.contains("unknown_route") && places[1].1.contains("cancelled"));
    assert!(places[2].1.contains("ThrottlingException") && places[2].1.contains("switchtower.outcome"));
    assert!(found(&control, &places[0].1).len() >= 3, "the search finds a secret that is logged, in its forms");

    let mut secrets = said.all();
    secrets.extend(&aws[1..]);
    secrets.extend([&told, &answer, &thought, &wrong_secret, &caller_token, &in_body, &guess, &wrong_key]);
    secrets.extend([&key.bearer, &key.secret_access_key]);
    let secret_part = key.bearer.rsplit('_').next().unwrap().to_owned();
    secrets.push(&secret_part);
    let hits: Vec<String> = secrets
        .iter()
        .flat_map(|secret| {
            places.iter().flat_map(move |(place, text)| {
                found(secret, text).into_iter().map(move |hit| format!("{secret} in the {place}, {hit}"))
            })
        })
        .collect();
    assert!(hits.is_empty(), "{} secrets came out:\n{}", hits.len(), hits.join("\n"));
}

/// A signature with a session token, and a wrong one.
async fn sign_as_boto(tower: &Tower, said: &Said, wrong_secret: &str, caller_token: &str) {
    let key = tower.key(WEB);
    let mut boto = Foreign::python("boto.py", &[]);
    for (secret, expected) in [(key.secret_access_key.as_str(), "answer"), (wrong_secret, "error")] {
        let client = json!({
            "endpoint_url": tower.endpoint(),
            "access_key_id": key.access_key_id,
            "secret_access_key": secret,
            "session_token": caller_token,
        });
        let mut arguments = said.body();
        arguments["modelId"] = "chat".into();
        arguments["messages"][0]["content"][1]["image"]["source"]["bytes"] =
            json!({ "$bytes": STANDARD.encode(&said.picture) });
        for operation in ["converse", "converse_stream"] {
            let question = json!({ "client": client, "operation": operation, "arguments": arguments });
            let told = boto.ask(&question).await;
            assert!(!told[expected].is_null(), "{told}");
        }
    }
}

/// The same through the other face.
async fn speak_grpc(tower: &Tower, said: &Said, told: &str, wrong_key: &str, speaking: &Behaviour) {
    let protos = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto");
    let mut grpc = Foreign::python("grpc_client.py", &[("SWITCHTOWER_PROTO", protos)]);
    let fail = Fail { message: Some(told.to_owned()), ..Fail::with(Exception::ValidationException) };
    let refusing = Behaviour { fail: Some(fail), ..Behaviour::default() };
    let breaking = Behaviour {
        in_stream: Some(InStream { message: Some(told.to_owned()), ..InStream::after(3, Break::UnmodelledError) }),
        ..speaking.clone()
    };
    for (behaviour, key) in [
        (speaking, &*tower.key(WEB).bearer),
        (&refusing, &*tower.key(WEB).bearer),
        (&breaking, &*tower.key(WEB).bearer),
        (speaking, wrong_key),
    ] {
        tower.everywhere(behaviour);
        let mut bad = said.grpc();
        bad["messages"][0]["role"] = "ROLE_UNSPECIFIED".into();
        for request in [said.grpc(), bad] {
            for ask in ["generate", "generate_stream"] {
                let metadata = json!({
                    "authorization": format!("Bearer {key}"), "x-switchtower-metadata-note": said.header_value,
                });
                let question = json!({ "ask": ask, "target": tower.address().to_string(), "request": request, "metadata": metadata });
                grpc.ask(&question).await;
            }
        }
    }
}
