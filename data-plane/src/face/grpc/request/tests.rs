use proptest::prelude::*;
use prost_types::{ListValue, Value, value::Kind};
use serde_json::json;
use switchtower_proto::inference::v1::{
    ContentBlock, Document, GenerateRequest, Image, InferenceConfig, Message, Reasoning, ReasoningText, Role,
    SystemBlock, ToolChoice, ToolConfig, ToolResult, ToolResultContent, ToolSpec, ToolUse, content_block::Block,
    document, image, reasoning, tool_result_content::Content,
};

use super::*;
use crate::face::grpc::response;

fn object(json: serde_json::Value) -> Struct {
    serde_json::from_value::<Object<'_>>(json).unwrap().0.into_owned()
}

fn value(json: serde_json::Value) -> Value {
    let mut whole = object(json!({ "value": json }));
    whole.fields.remove("value").unwrap()
}

fn said(role: Role, blocks: impl IntoIterator<Item = Block>) -> Message {
    let content = blocks.into_iter().map(|block| ContentBlock { block: Some(block) }).collect();
    Message { role: role.into(), content }
}

fn asked(blocks: impl IntoIterator<Item = Block>) -> GenerateRequest {
    GenerateRequest {
        route: "support-chat".to_owned(),
        messages: vec![said(Role::User, blocks)],
        ..GenerateRequest::default()
    }
}

fn hello() -> GenerateRequest {
    asked([Block::Text("hello".to_owned())])
}

/// The body, against what it should say.
#[track_caller]
fn check(request: &GenerateRequest, expected: serde_json::Value) {
    let body = body(request, &At::ROOT).unwrap();
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&body).unwrap(), expected);
}

/// One block, against what it should say.
#[track_caller]
fn check_block(block: Block, expected: serde_json::Value) {
    check(&asked([block]), json!({ "messages": [{ "role": "user", "content": [expected] }] }));
}

fn png(data: &[u8]) -> Image {
    Image { format: "png".to_owned(), source: Some(image::Source::Data(data.to_vec())) }
}

fn report(format: &str, source: document::Source) -> Document {
    Document { format: format.to_owned(), name: "Report (1) [a-b]".to_owned(), source: Some(source) }
}

#[test]
fn every_kind_of_block_is_written_as_converse_has_it() {
    check_block(Block::Text("hé\"llo\n".to_owned()), json!({ "text": "hé\"llo\n" }));
    check_block(
        Block::Image(png(b"\x89PNG")),
        json!({ "image": { "format": "png", "source": { "bytes": "iVBORw==" } } }),
    );
    check_block(
        Block::Image(Image { source: Some(image::Source::S3Uri("s3://bucket/key".to_owned())), ..png(b"") }),
        json!({ "image": { "format": "png", "source": { "s3Location": { "uri": "s3://bucket/key" } } } }),
    );
    check_block(
        Block::Document(report("pdf", document::Source::Data(b"%PDF".to_vec()))),
        json!({ "document": { "format": "pdf", "name": "Report (1) [a-b]", "source": { "bytes": "JVBERg==" } } }),
    );
    check_block(
        Block::Document(report("", document::Source::Text("all of it".to_owned()))),
        json!({ "document": { "name": "Report (1) [a-b]", "source": { "text": "all of it" } } }),
    );
    check_block(
        Block::ToolUse(ToolUse {
            id: "t1".to_owned(),
            name: "weather".to_owned(),
            input: Some(object(json!({ "days": 3.0, "city": "Bern", "at": [46.9, 7.4] }))),
        }),
        json!({ "toolUse": { "toolUseId": "t1", "name": "weather",
            "input": { "days": 3, "city": "Bern", "at": [46.9, 7.4] } } }),
    );
    check_block(
        Block::ToolUse(ToolUse { id: "t1".to_owned(), name: "weather".to_owned(), input: None }),
        json!({ "toolUse": { "toolUseId": "t1", "name": "weather", "input": {} } }),
    );
    check_block(
        Block::ToolResult(ToolResult {
            tool_use_id: "t1".to_owned(),
            content: [
                Content::Text(String::new()),
                Content::Json(value(json!([1, null]))),
                Content::Image(png(b"\x89PNG")),
                Content::Other(object(json!({ "video": { "format": "mp4" } }))),
            ]
            .map(|content| ToolResultContent { content: Some(content) })
            .into(),
            error: true,
        }),
        json!({ "toolResult": { "toolUseId": "t1", "status": "error", "content": [
            { "text": "" }, { "json": [1, null] },
            { "image": { "format": "png", "source": { "bytes": "iVBORw==" } } },
            { "video": { "format": "mp4" } },
        ] } }),
    );
    check_block(
        Block::Reasoning(Reasoning {
            reasoning: Some(reasoning::Reasoning::Text(ReasoningText {
                text: String::new(),
                signature: "proof".to_owned(),
            })),
        }),
        json!({ "reasoningContent": { "reasoningText": { "text": "", "signature": "proof" } } }),
    );
    check_block(
        Block::Reasoning(Reasoning { reasoning: Some(reasoning::Reasoning::Redacted(b"\x01\x02".to_vec())) }),
        json!({ "reasoningContent": { "redactedContent": "AQI=" } }),
    );
    check_block(
        Block::Other(object(json!({ "cachePoint": { "type": "default" } }))),
        json!({ "cachePoint": { "type": "default" } }),
    );
}

#[test]
fn everything_beside_the_conversation_is_written_too_and_metadata_is_not() {
    let request = GenerateRequest {
        messages: vec![
            said(Role::User, [Block::Text("a".to_owned())]),
            said(Role::Assistant, [Block::Text("b".to_owned())]),
            said(Role::User, [Block::Text("c".to_owned())]),
        ],
        system: [
            system_block::Block::Text("Be brief.".to_owned()),
            system_block::Block::Other(object(json!({ "cachePoint": { "type": "default" } }))),
        ]
        .map(|block| SystemBlock { block: Some(block) })
        .into(),
        inference_config: Some(InferenceConfig {
            max_tokens: Some(100),
            temperature: Some(0.7),
            top_p: Some(1.0),
            stop_sequences: vec!["END".to_owned()],
        }),
        tool_config: Some(ToolConfig {
            tools: [
                tool::Tool::Spec(ToolSpec { name: "weather".to_owned(), ..ToolSpec::default() }),
                tool::Tool::Spec(ToolSpec {
                    name: "find".to_owned(),
                    description: "Finds.".to_owned(),
                    input_schema: Some(object(json!({ "type": "object", "maxProperties": 2 }))),
                }),
                tool::Tool::Other(object(json!({ "systemTool": { "name": "nova_grounding" } }))),
            ]
            .map(|tool| v1::Tool { tool: Some(tool) })
            .into(),
            choice: Some(ToolChoice { choice: Some(tool_choice::Choice::Tool("find".to_owned())) }),
        }),
        metadata: BTreeMap::from([("session".to_owned(), "s1".to_owned())]),
        timeout: Some(prost_types::Duration { seconds: 5, nanos: 0 }),
        more: Some(object(json!({ "additionalModelRequestFields": { "thinking": { "budget_tokens": 2048 } } }))),
        ..hello()
    };
    check(
        &request,
        json!({
            "messages": [
                { "role": "user", "content": [{ "text": "a" }] },
                { "role": "assistant", "content": [{ "text": "b" }] },
                { "role": "user", "content": [{ "text": "c" }] },
            ],
            "system": [{ "text": "Be brief." }, { "cachePoint": { "type": "default" } }],
            "inferenceConfig": { "maxTokens": 100, "temperature": 0.7, "topP": 1.0, "stopSequences": ["END"] },
            "toolConfig": {
                "tools": [
                    { "toolSpec": { "name": "weather",
                        "inputSchema": { "json": { "type": "object", "properties": {} } } } },
                    { "toolSpec": { "name": "find", "description": "Finds.",
                        "inputSchema": { "json": { "type": "object", "maxProperties": 2 } } } },
                    { "systemTool": { "name": "nova_grounding" } },
                ],
                "toolChoice": { "tool": { "name": "find" } },
            },
            "additionalModelRequestFields": { "thinking": { "budget_tokens": 2048 } },
        }),
    );
    let any = ToolChoice { choice: Some(tool_choice::Choice::Any(true)) };
    let tools = vec![v1::Tool { tool: Some(tool::Tool::Other(object(json!({ "x": {} })))) }];
    check(
        &GenerateRequest { tool_config: Some(ToolConfig { tools, choice: Some(any) }), ..hello() },
        json!({
            "messages": [{ "role": "user", "content": [{ "text": "hello" }] }],
            "toolConfig": { "tools": [{ "x": {} }], "toolChoice": { "any": {} } },
        }),
    );
}

/// The fields that are wrong.
#[track_caller]
fn check_wrong(request: &GenerateRequest, expected: &[&str]) {
    let wrong = body(request, &At::ROOT).expect_err("nothing is wrong");
    assert_eq!(wrong.told().iter().map(|wrong| wrong.field.as_str()).collect::<Vec<_>>(), expected);
}

#[test]
fn every_field_that_is_wrong_is_named_and_all_at_once() {
    check_wrong(&GenerateRequest::default(), &["route", "messages"]);
    check_wrong(&GenerateRequest { route: "r".repeat(2049), ..hello() }, &["route"]);
    check_wrong(&asked([]), &["messages[0].content"]);
    check_wrong(
        &GenerateRequest { messages: vec![said(Role::Assistant, [Block::Text("a".to_owned())])], ..hello() },
        &["messages[0].role"],
    );
    let nobody = Message { role: 7, content: vec![ContentBlock { block: None }] };
    check_wrong(
        &GenerateRequest { messages: vec![nobody], ..hello() },
        &["messages[0].role", "messages[0].content[0]"],
    );
    let jpg = Image { format: "jpg".to_owned(), source: None };
    check_wrong(
        &asked([
            Block::Text(String::new()),
            Block::Image(jpg),
            Block::Image(png(b"")),
            Block::Image(png(&vec![0; 3_932_161])),
            Block::Image(Image { source: Some(image::Source::S3Uri("https://x/y".to_owned())), ..png(b"") }),
            Block::Document(Document { format: "exe".to_owned(), name: "a  b".to_owned(), source: None }),
            Block::Document(Document { name: "a.pdf".to_owned(), ..report("", document::Source::Data(Vec::new())) }),
        ]),
        &[
            "messages[0].content[0].text",
            "messages[0].content[1].image.format",
            "messages[0].content[1].image.source",
            "messages[0].content[2].image.data",
            "messages[0].content[3].image.data",
            "messages[0].content[4].image.s3_uri",
            "messages[0].content[5].document.format",
            "messages[0].content[5].document.name",
            "messages[0].content[5].document.source",
            "messages[0].content[6].document.name",
            "messages[0].content[6].document.data",
        ],
    );
    let nan = Value { kind: Some(Kind::NumberValue(f64::NAN)) };
    check_wrong(
        &asked([
            Block::ToolUse(ToolUse {
                id: "i".repeat(65),
                name: String::new(),
                input: Some(Struct { fields: BTreeMap::from([("n".to_owned(), nan.clone())]) }),
            }),
            Block::ToolResult(ToolResult {
                content: vec![
                    ToolResultContent { content: Some(Content::Json(nan)) },
                    ToolResultContent { content: None },
                ],
                ..ToolResult::default()
            }),
            Block::Reasoning(Reasoning { reasoning: None }),
            Block::Reasoning(Reasoning { reasoning: Some(reasoning::Reasoning::Text(ReasoningText::default())) }),
            Block::Reasoning(Reasoning { reasoning: Some(reasoning::Reasoning::Redacted(Vec::new())) }),
            Block::Other(object(json!({ "a": 1, "b": 2 }))),
        ]),
        &[
            "messages[0].content[0].tool_use.id",
            "messages[0].content[0].tool_use.name",
            "messages[0].content[0].tool_use.input",
            "messages[0].content[1].tool_result.tool_use_id",
            "messages[0].content[1].tool_result.content[0].json",
            "messages[0].content[1].tool_result.content[1]",
            "messages[0].content[2].reasoning",
            "messages[0].content[3].reasoning.text.text",
            "messages[0].content[4].reasoning.redacted",
            "messages[0].content[5].other",
        ],
    );
    check_wrong(
        &GenerateRequest {
            system: vec![
                SystemBlock { block: None },
                SystemBlock { block: Some(system_block::Block::Text("".into())) },
            ],
            inference_config: Some(InferenceConfig {
                max_tokens: Some(0),
                temperature: Some(1.5),
                top_p: Some(f32::NAN),
                stop_sequences: vec![String::new(); 1],
            }),
            tool_config: Some(ToolConfig { tools: Vec::new(), choice: Some(ToolChoice { choice: None }) }),
            metadata: (0..17).map(|n| (format!("{n}"), "v".repeat(257))).collect(),
            timeout: Some(prost_types::Duration { seconds: 3600, nanos: 1 }),
            ..hello()
        },
        &[
            "metadata",
            "metadata",
            "timeout",
            "system[0]",
            "system[1].text",
            "inference_config.max_tokens",
            "inference_config.temperature",
            "inference_config.top_p",
            "inference_config.stop_sequences[0]",
            "tool_config.tools",
            "tool_config.choice",
        ],
    );
    let spec = tool::Tool::Spec(ToolSpec { name: "not a name".to_owned(), ..ToolSpec::default() });
    let tools = vec![v1::Tool { tool: Some(spec) }, v1::Tool { tool: None }];
    let choice = Some(ToolChoice { choice: Some(tool_choice::Choice::Tool("ö".to_owned())) });
    check_wrong(
        &GenerateRequest { tool_config: Some(ToolConfig { tools, choice }), ..hello() },
        &["tool_config.tools[0].spec.name", "tool_config.tools[1]", "tool_config.choice.tool"],
    );
}

#[test]
fn a_member_that_has_a_field_and_the_guardrail_are_refused_in_more() {
    for taken in TAKEN {
        check_wrong(&GenerateRequest { more: Some(object(json!({ taken: {} }))), ..hello() }, &["more"]);
    }
}

#[test]
fn guard_content_cannot_narrow_the_guardrail_of_a_route() {
    use switchtower_policy::snapshot::RegionalGuardrail;
    use switchtower_provider::{
        Operation,
        bedrock::request::{Request, Settings},
    };
    let guard = || object(json!({ "guardContent": { "text": { "text": "hello" } } }));
    let guardrail = RegionalGuardrail { id: "gr1", version: "1", trace: "disabled", stream_mode: "sync" };
    let check = |request: &GenerateRequest, expected: Option<&str>| {
        let converse = Request::read(Operation::Converse, body(request, &At::ROOT).unwrap().into()).unwrap();
        let with = converse.with(Settings { guardrail: Some(guardrail), max_output_tokens: 100 });
        assert_eq!(with.err().and_then(|malformed| malformed.field).as_deref(), expected);
    };
    check(&hello(), None);
    check(&asked([Block::Other(guard())]), Some("messages[0].content[0].guardContent"));
    let result = ToolResult {
        tool_use_id: "a".to_owned(),
        content: vec![ToolResultContent { content: Some(Content::Other(guard())) }],
        ..ToolResult::default()
    };
    let in_result = asked([Block::ToolResult(result)]);
    check(&in_result, Some("messages[0].content[0].toolResult.content[0].guardContent"));
    let system = vec![SystemBlock { block: Some(system_block::Block::Other(guard())) }];
    check(&GenerateRequest { system, ..hello() }, Some("system[0].guardContent"));
}

#[test]
fn a_streamed_request_is_named_from_its_own_root() {
    let wrong = body(&asked([]), &At::ROOT.field("request")).unwrap_err();
    assert_eq!(wrong.told()[0].field, "request.messages[0].content");
}

#[test]
fn a_timeout_is_a_millisecond_to_an_hour() {
    for (seconds, nanos, expected) in [
        (0, 1_000_000, Some(Duration::from_millis(1))),
        (3600, 0, Some(Duration::from_secs(3600))),
        (0, 999_999, None),
        (3600, 1, None),
        (-1, 0, None),
        (i64::MAX, i32::MAX, None),
    ] {
        assert_eq!(timeout_of(&prost_types::Duration { seconds, nanos }), expected, "{seconds} {nanos}");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Kind::NullValue(0)),
        any::<bool>().prop_map(Kind::BoolValue),
        any::<i32>().prop_map(|n| Kind::NumberValue(n.into())),
        prop::num::f64::NORMAL.prop_map(Kind::NumberValue),
        any::<String>().prop_map(Kind::StringValue),
    ]
    .prop_map(|kind| Value { kind: Some(kind) });
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3)
                .prop_map(|values| Value { kind: Some(Kind::ListValue(ListValue { values })) }),
            prop::collection::btree_map(any::<String>(), inner, 0..3)
                .prop_map(|fields| Value { kind: Some(Kind::StructValue(Struct { fields })) }),
        ]
    })
}

fn any_object() -> impl Strategy<Value = Struct> {
    prop::collection::btree_map(any::<String>(), any_json(), 0..3).prop_map(|fields| Struct { fields })
}

fn any_other() -> impl Strategy<Value = Struct> {
    any_json().prop_map(|value| Struct { fields: BTreeMap::from([("cachePoint".to_owned(), value)]) })
}

fn any_image() -> impl Strategy<Value = Image> {
    let source = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..40).prop_map(image::Source::Data),
        "[a-z]{3,9}".prop_map(|key| image::Source::S3Uri(format!("s3://bucket/{key}"))),
    ];
    ("png|jpeg|gif|webp", source).prop_map(|(format, source)| Image { format, source: Some(source) })
}

fn any_document() -> impl Strategy<Value = Document> {
    let source = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..40).prop_map(document::Source::Data),
        "[a-z]{3,9}".prop_map(|key| document::Source::S3Uri(format!("s3://bucket/{key}"))),
        "\\PC{1,9}".prop_map(document::Source::Text),
    ];
    ("|pdf|md", "[a-zA-Z0-9()-]{1,9}", source).prop_map(|(format, name, source)| Document {
        format,
        name,
        source: Some(source),
    })
}

fn any_block() -> impl Strategy<Value = Block> {
    let piece = prop_oneof![
        any::<String>().prop_map(Content::Text),
        any_json().prop_map(Content::Json),
        any_image().prop_map(Content::Image),
        any_document().prop_map(Content::Document),
        any_other().prop_map(Content::Other),
    ]
    .prop_map(|content| ToolResultContent { content: Some(content) });
    let thought = prop_oneof![
        ("\\PC{1,9}", any::<String>())
            .prop_map(|(text, signature)| reasoning::Reasoning::Text(ReasoningText { text, signature })),
        prop::collection::vec(any::<u8>(), 1..40).prop_map(reasoning::Reasoning::Redacted),
    ];
    prop_oneof![
        "(?s).{1,40}".prop_map(Block::Text),
        any_image().prop_map(Block::Image),
        any_document().prop_map(Block::Document),
        ("[a-z]{1,9}", "[a-z]{1,9}", any_object()).prop_map(|(id, name, input)| Block::ToolUse(ToolUse {
            id,
            name,
            input: Some(input)
        })),
        ("[a-z]{1,9}", prop::collection::vec(piece, 0..3), any::<bool>()).prop_map(|(tool_use_id, content, error)| {
            Block::ToolResult(ToolResult { tool_use_id, content, error })
        }),
        thought.prop_map(|reasoning| Block::Reasoning(Reasoning { reasoning: Some(reasoning) })),
        any_other().prop_map(Block::Other),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_back_as_it_was(
        turns in prop::collection::vec((any::<bool>(), prop::collection::vec(any_block(), 1..4)), 0..3),
        last in prop::collection::vec(any_block(), 1..4),
    ) {
        let role = |user| if user { Role::User } else { Role::Assistant };
        let mut messages: Vec<_> = turns.into_iter().map(|(user, blocks)| said(role(user), blocks)).collect();
        messages.push(said(Role::User, last));
        let request = GenerateRequest { messages, ..hello() };
        #[derive(serde::Deserialize)]
        struct Written { messages: Vec<Turn<'static>> }
        let body = body(&request, &At::ROOT).map_err(|wrong| TestCaseError::fail(format!("{wrong:?}")))?;
        let written: Written = serde_json::from_slice(&body).unwrap();
        let read: Vec<_> = written.messages.into_iter().map(response::tests::turn).collect();
        prop_assert_eq!(read, request.messages);
    }
}
