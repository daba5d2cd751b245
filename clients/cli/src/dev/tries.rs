//! The commands that `dev` prints for trying things: they work as they are printed, in any shell.

use std::{net::SocketAddr, path::Path};

use serde::Serialize;

use super::{
    first::{First, Source},
    key::DevKey,
    tower::REGIONS,
};

/// Edits of the examples whose effect is seen in the next answer: route, model before, model after.
const EDITS: [(&str, &str, &str); 2] = [("quick", "nova-lite", "sonnet"), ("quick", "nova-micro", "nova-lite")];

/// How `sed` edits a file in place.
const SED: &str = if cfg!(target_os = "macos") { "sed -i ''" } else { "sed -i" };

/// What to try.
#[derive(Debug, Serialize)]
pub(super) struct Try {
    /// What it shows.
    pub(super) what: String,
    /// The command.
    pub(super) command: Option<String>,
    /// Another way to the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) or: Option<Or>,
}

/// Another way to the same.
#[derive(Debug, Serialize)]
pub(super) struct Or {
    pub(super) what: &'static str,
    pub(super) command: String,
}

/// What the commands are about.
pub(super) struct About<'a> {
    /// Callers of the first node.
    pub(super) callers: SocketAddr,
    /// The control plane.
    pub(super) control: SocketAddr,
    /// The file of the operator's token.
    pub(super) token_file: &'a Path,
    /// The policy, as it was named.
    pub(super) policy: &'a str,
}

/// Three things to try: a call, an SDK, and a change.
pub(super) fn tries(about: &About<'_>, key: &DevKey, first: &First) -> Vec<Try> {
    let (program, address) = (program(), about.callers);
    let ask = |route: &str| {
        let (program, route) = (word(&program), word(route));
        format!("{program} ask {route} hello --endpoint http://{address} --api-key {}", key.issued.bearer)
    };
    vec![
        Try {
            what: "ask, over gRPC".to_owned(),
            command: Some(ask(&first.route)),
            or: Some(grpcurl(address, key, first)),
        },
        Try {
            what: "ask as an application of Bedrock's does, over HTTP".to_owned(),
            command: Some(curl(address, key, first)),
            or: Some(boto3(address, key, first)),
        },
        change(about, first, &ask),
    ]
}

/// This program, as it was called.
pub(super) fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "switchtower".to_owned())
}

/// An edit of the policy that changes the next answer, where it is one of the examples, as it came; and how it is applied.
fn change(about: &About<'_>, first: &First, ask: &dyn Fn(&str) -> String) -> Try {
    let apply = format!(
        "{} apply {} --yes --wait --control-plane http://{} --token-file {}",
        word(&program()),
        word(about.policy),
        about.control,
        word(&about.token_file.display().to_string())
    );
    let found = EDITS.iter().find_map(|edit| Some((edited(first, edit)?, edit)));
    let Some((file, (route, from, to))) = found else {
        let what = format!("edit a file of {} (a route's tiers, say), apply it, and ask again", about.policy);
        return Try { what, command: Some(apply), or: None };
    };
    Try {
        what: format!("change the policy: route `{route}` goes to `{to}` in place of `{from}`, on every node"),
        command: Some(format!(
            "{SED} 's/^    tiers: \\[{from}\\]/    tiers: [{to}]/' {} && {apply} && {}",
            word(&file.name),
            ask(route)
        )),
        or: None,
    }
}

fn grpcurl(address: SocketAddr, key: &DevKey, first: &First) -> Or {
    let body = serde_json::json!({
        "route": first.route,
        "messages": [{ "role": "ROLE_USER", "content": [{ "text": "hello" }] }],
    });
    Or {
        what: "any gRPC client that asks for reflection",
        command: format!(
            "grpcurl -plaintext -H 'authorization: Bearer {}' -d {} {address} \
             switchtower.inference.v1.InferenceService/Generate",
            key.issued.bearer,
            word(&body.to_string())
        ),
    }
}

fn curl(address: SocketAddr, key: &DevKey, first: &First) -> String {
    format!(
        "curl -sS http://{address}/model/{}/converse -H 'authorization: Bearer {}' -H 'content-type: application/json' \
         -d '{{\"messages\":[{{\"role\":\"user\",\"content\":[{{\"text\":\"hello\"}}]}}]}}'",
        word(&first.route),
        key.issued.bearer
    )
}

/// botocore reads the region from `AWS_DEFAULT_REGION` alone; any will do, for nobody is asked there.
fn boto3(address: SocketAddr, key: &DevKey, first: &First) -> Or {
    let code = format!(
        "import boto3; print(boto3.client(\"bedrock-runtime\").converse(modelId=\"{}\", \
         messages=[{{\"role\": \"user\", \"content\": [{{\"text\": \"hello\"}}]}}])\
         [\"output\"][\"message\"][\"content\"][0][\"text\"])",
        first.route
    );
    Or {
        what: "an AWS SDK, with nothing changed but its environment",
        command: format!(
            "AWS_ACCESS_KEY_ID={} AWS_SECRET_ACCESS_KEY={} AWS_DEFAULT_REGION={} \
             AWS_ENDPOINT_URL_BEDROCK_RUNTIME=http://{address} python3 -c {}",
            key.issued.access_key_id,
            word(&key.issued.secret_access_key),
            REGIONS[0],
            word(&code)
        ),
    }
}

fn edited<'f>(first: &'f First, (route, from, to): &(&str, &str, &str)) -> Option<&'f Source> {
    let other = format!("  {to}:");
    let known = first.files.iter().any(|file| file.text.lines().any(|line| line.starts_with(&other)));
    let lines = format!("  {route}:\n    tiers: [{from}]\n");
    let tiers = format!("    tiers: [{from}]");
    let file = first.files.iter().find(|file| format!("{}\n", file.text).contains(&lines))?;
    let once = file.text.lines().filter(|line| line.starts_with(&tiers)).count() == 1;
    (known && once).then_some(file)
}

/// A word of a command, quoted where a shell would take it apart.
pub(super) fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=+@%,".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        let check = |text: &str, expected: &str| assert_eq!(word(text), expected);
        check("target/debug/switchtower", "target/debug/switchtower");
        check("my dir/x", "'my dir/x'");
        check("a'b", r"'a'\''b'");
        check("$HOME", "'$HOME'");
        check("", "''");
    }

    #[test]
    fn an_edit_is_offered_only_where_it_changes_one_line() {
        let check = |text: &str, expected: bool| {
            let files = vec![Source { name: "a.yaml".to_owned(), text: text.to_owned() }];
            let first = First { caller: "c".to_owned(), route: "quick".to_owned(), files };
            assert_eq!(edited(&first, &EDITS[0]).is_some(), expected, "{text}");
        };
        check("models:\n  sonnet:\n  nova-lite:\nroutes:\n  quick:\n    tiers: [nova-lite]\n", true);
        check("models:\n  sonnet: {}\nroutes:\n  quick:\n    tiers: [nova-lite]", true);
        check("models:\n  nova-lite:\nroutes:\n  quick:\n    tiers: [nova-lite]\n", false);
        check("models:\n  sonnet:\nroutes:\n  quick:\n    tiers: [sonnet]\n", false);
        check("models:\n  sonnet:\nroutes:\n  b:\n    tiers: [nova-lite]\n  quick:\n    tiers: [nova-lite]\n", false);
    }
}
