//! Whatever is sent as a Converse body, it is refused, or goes on as JSON in which what policy sets is set once.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use switchtower_policy::snapshot::RegionalGuardrail;
use switchtower_provider::{
    Operation,
    bedrock::request::{Request, Settings},
};

const MOST: u32 = 1000;

fuzz_target!(|bytes: &[u8]| {
    let guardrail = RegionalGuardrail { id: "gr1", version: "DRAFT", trace: "enabled", stream_mode: "sync" };
    for (operation, guardrail) in [(Operation::Converse, None), (Operation::ConverseStream, Some(guardrail))] {
        let Ok(request) = Request::read(operation, Bytes::copy_from_slice(bytes)) else { return };
        let settings = Settings { guardrail, max_output_tokens: MOST };
        let Ok(with) = request.with(settings) else { continue };

        let again = Request::read(operation, with.clone()).expect("what we send is a body that we take");
        assert!(again.facts.max_tokens.is_some_and(|max| (1..=MOST).contains(&max)));
        assert_eq!(again.metadata, request.metadata);
        assert_eq!(again.facts.tools, request.facts.tools);
        assert_eq!(again.with(settings).as_ref(), Ok(&with), "what is set is not set again");

        // It takes less than we do: numbers beyond an f64 and escapes of lone surrogates are JSON by grammar alone.
        let Ok(value) = serde_json::from_slice::<Value>(&with) else { continue };
        assert!(value["inferenceConfig"]["maxTokens"].as_u64().is_some_and(|max| max <= MOST.into()));
        if guardrail.is_some() {
            let wanted = serde_json::json!({
                "guardrailIdentifier": "gr1",
                "guardrailVersion": "DRAFT",
                "trace": "enabled",
                "streamProcessingMode": "sync",
            });
            assert_eq!(value["guardrailConfig"], wanted);
        }
    }
});
