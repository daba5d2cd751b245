//! Which of the two ways to policy and keys is meant, and what of it is missing.

use std::{fmt, path::PathBuf};

use super::{Args, Source};
use crate::sync::check_url;

/// What is common to both ways is not a sign of either.
fn names_files(args: &Args) -> bool {
    args.policy.is_some() || args.keys.is_some()
}

/// The token, the CA and the rest without a control plane are a control plane that was forgotten.
fn names_control_plane(args: &Args) -> bool {
    let Args { control_planes, control_plane_ca, token_file, environment, node_id, data, .. } = args;
    !control_planes.is_empty()
        || [control_plane_ca, token_file, data].iter().any(|path| path.is_some())
        || [environment, node_id].iter().any(|name| name.is_some())
}

/// Where policy and keys come from; `None`: something is wrong, and `problems` say what.
pub(super) fn of(args: &Args, host: &str, problems: &mut Vec<String>) -> Option<Source> {
    match (names_files(args), names_control_plane(args)) {
        (true, false) => files(args, problems),
        (false, true) => control_plane(args, host, problems),
        (true, true) => {
            problems.push(
                "policy and keys come from files (--policy, --keys) or from a control plane (--control-plane, \
                 --environment, --node-id, --data, --token-file), and options of both are given: leave one group out"
                    .to_owned(),
            );
            None
        }
        (false, false) => {
            problems.push(
                "say where policy and keys come from: --policy and --keys for files, or --control-plane, --environment, \
                 --data, --token-file and --pepper"
                    .to_owned(),
            );
            None
        }
    }
}

/// What a way needs besides what is given.
struct Needs<'a> {
    way: &'static str,
    problems: &'a mut Vec<String>,
}

impl Needs<'_> {
    fn given<T: Clone>(&mut self, value: &Option<T>, flag: &str, what: &str) -> Option<T> {
        if value.is_none() {
            self.problems.push(format!("{flag} is missing, which {} needs: {what}", self.way));
        }
        value.clone()
    }

    fn file(&mut self, value: &Option<PathBuf>, flag: &str, what: &str) -> Option<PathBuf> {
        let path = self.given(value, flag, what)?;
        if !path.exists() {
            self.problems.push(format!("{flag} {} does not exist", path.display()));
        }
        Some(path)
    }
}

fn files(args: &Args, problems: &mut Vec<String>) -> Option<Source> {
    let mut needs = Needs { way: "a node from files", problems };
    let policy = needs.file(&args.policy, "--policy", "a folder of policy files, or one file");
    let keys = needs.given(&args.keys, "--keys", "the keys file, as `switchtower key new --file` writes it");
    let (policy, keys) = policy.zip(keys)?;
    let pepper = args.pepper.clone().unwrap_or_else(|| keys.with_file_name("pepper.yaml"));
    Some(Source::Files { policy, keys, pepper })
}

fn control_plane(args: &Args, host: &str, problems: &mut Vec<String>) -> Option<Source> {
    let mut needs = Needs { way: "a node with a control plane", problems };
    let endpoints = Some(args.control_planes.clone()).filter(|endpoints| !endpoints.is_empty());
    let endpoints = needs.given(&endpoints, "--control-plane", "URLs of its replicas");
    let environment = needs.given(&args.environment, "--environment", "the one that it serves");
    let data = needs.given(&args.data, "--data", "a folder for what was served last");
    let token = needs.file(&args.token_file, "--token-file", "the fleet's token");
    let pepper = needs.file(&args.pepper, "--pepper", "the control plane's pepper file");
    if let Some(ca) = args.control_plane_ca.as_ref().filter(|ca| !ca.exists()) {
        problems.push(format!("--control-plane-ca {} does not exist", ca.display()));
    }
    let wrong = endpoints.iter().flatten().filter_map(|url| check_url(url, args.plaintext).err());
    problems.extend(wrong);
    if let Some(environment) = environment.as_ref().filter(|name| !is_name(name)) {
        problems.push(format!("--environment `{environment}`: {NAME}"));
    }
    let node_id = args.node_id.clone().unwrap_or_else(|| host.to_owned());
    if !is_name(&node_id) {
        problems.push(match &args.node_id {
            Some(written) => format!("--node-id `{written}`: {NAME}"),
            None => format!("--node-id is missing, and this host's name cannot stand in for it: {NAME}"),
        });
    }
    Some(Source::ControlPlane {
        endpoints: endpoints?,
        ca: args.control_plane_ca.clone(),
        token: token?,
        environment: environment?,
        node_id,
        data: data?,
        pepper: pepper?,
    })
}

const NAME: &str = "a name is 1 to 128 characters of [a-zA-Z0-9._-], beginning with a letter or a digit";

fn is_name(text: &str) -> bool {
    text.len() <= 128
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.chars().all(|char| char.is_ascii_alphanumeric() || matches!(char, '.' | '_' | '-'))
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Files { policy, keys, pepper } => {
                write!(f, "policy={} keys={} pepper={}", policy.display(), keys.display(), pepper.display())
            }
            Source::ControlPlane { endpoints, ca, token, environment, node_id, data, pepper } => write!(
                f,
                "control_plane={} control_plane_ca={} token_file={} environment={environment} node_id={node_id} \
                 data={} pepper={}",
                endpoints.join(","),
                ca.as_ref().map_or("system".to_owned(), |ca| ca.display().to_string()),
                token.display(),
                data.display(),
                pepper.display()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::{super::Config, *};

    /// What is wrong, one word of each sentence.
    #[track_caller]
    fn check(written: &[&str], host: &str, expected: &[&str]) {
        let args = Args::try_parse_from([&["switchtower-node"], written].concat()).unwrap();
        let problems = Config::of(&args, host).err().unwrap_or_default();
        assert_eq!(problems.len(), expected.len(), "{problems:#?}");
        for (problem, word) in problems.iter().zip(expected) {
            assert!(problem.contains(word), "{problem} does not say {word}");
        }
    }

    const WHOLE: &[&str] = &[
        "--control-plane",
        "https://a,https://b:1",
        "--environment",
        "prod",
        "--data",
        "/d",
        "--token-file",
        "/",
        "--pepper",
        "/",
    ];

    #[test]
    fn one_way_is_meant_and_what_is_missing_of_it_is_told_at_once() {
        check(&["--policy", "/", "--keys", "/k"], "", &[]);
        check(WHOLE, "host", &[]);
        check(&[], "host", &["say where policy and keys come from"]);
        check(&[WHOLE, &["--keys", "/k"]].concat(), "host", &["leave one group out"]);
        check(&["--policy", "/nowhere/to/be/found"], "", &["does not exist", "--keys is missing"]);
        check(&["--keys", "/k"], "", &["--policy is missing, which a node from files needs"]);
        check(
            &["--control-plane", "https://a"],
            "host",
            &["--environment", "--data", "--token-file", "--pepper is missing, which a node with a control plane"],
        );
        check(&["--data", "/d"], "host", &["--control-plane", "--environment", "--token-file", "--pepper"]);
    }

    #[test]
    fn what_is_given_must_make_sense() {
        let with = |more: &[&'static str]| [WHOLE, more].concat();
        check(&with(&["--control-plane", "http://far"]), "host", &["in the clear"]);
        check(&with(&["--control-plane", "http://far", "--plaintext"]), "host", &[]);
        check(&with(&["--control-plane", "http://127.0.0.1:7"]), "host", &[]);
        check(&with(&["--control-plane-ca", "/nowhere/ca"]), "host", &["--control-plane-ca"]);
        check(WHOLE, "", &["this host's name cannot"]);
        check(WHOLE, "-host", &["this host's name cannot"]);
        check(&with(&["--node-id", "n 1"]), "host", &["--node-id `n 1`"]);
        check(&with(&["--node-id", "n.1_a-B"]), "", &[]);
    }

    #[test]
    fn the_pepper_is_beside_the_keys() {
        let args = Args::try_parse_from(["switchtower-node", "--policy", "/", "--keys", "/k/keys.yaml"]).unwrap();
        let Source::Files { pepper, .. } = Config::of(&args, "").unwrap().source else { panic!("not from files") };
        assert_eq!(pepper, PathBuf::from("/k/pepper.yaml"));
    }
}
