//! What control planes of these tests say.

use switchtower_policy::{File, diff, items, load, read};
use switchtower_proto::{
    control::v1::{
        ApplyRequest, ApplyResponse, AwaitAssignmentResponse, Change, Connection, Diff, Environment,
        ListEnvironmentsResponse, Node, Refusal, RegionSummary, Revision, RevisionCount, Serving, Summary, Violation,
        await_assignment_response::Verdict, change::Kind,
    },
    policy::v1::{Item, Policy, RevisionRecord},
};

/// 2026-11-23T10:00:00Z.
pub(crate) const TEN: prost_types::Timestamp = prost_types::Timestamp { seconds: 1795428000, nanos: 0 };

pub(crate) fn revision(environment: &str, number: u64) -> Revision {
    Revision {
        record: Some(RevisionRecord {
            environment: environment.to_owned(),
            number,
            parent: number - 1,
            author: "ada".to_owned(),
            message: "more nova".to_owned(),
            created_at: Some(TEN),
            ..Default::default()
        }),
        digest: vec![0xab; 32],
        assigned: true,
        rolled_back: false,
    }
}

/// An environment that serves this revision.
pub(crate) fn serving(name: &str, assigned: u64) -> ListEnvironmentsResponse {
    let environment =
        Environment { name: name.to_owned(), head: assigned + 1, assigned, assignment: 90, assigned_at: Some(TEN) };
    ListEnvironmentsResponse { environments: vec![environment] }
}

pub(crate) fn a_diff() -> Diff {
    let change = |kind: Kind, path: &str, before: &str, after: &str, words: &str| Change {
        kind: kind.into(),
        item_kind: "route".to_owned(),
        item_name: "chat".to_owned(),
        path: path.to_owned(),
        before: before.to_owned(),
        after: after.to_owned(),
        words: words.to_owned(),
    };
    let changes = vec![
        change(Kind::Added, "", "", r#"{"tiers":["nova"]}"#, "route chat: added"),
        change(Kind::Changed, "tiers[0].model", r#""sonnet""#, r#""nova""#, "route chat: tier 1 is nova, was sonnet"),
    ];
    Diff { changes_in_all: changes.len() as u64, changes }
}

/// What is answered to an `apply` of what differs.
pub(crate) fn applied(number: u64, assignment: u64) -> ApplyResponse {
    ApplyResponse {
        revision: Some(revision("dev", number)),
        assignment,
        unchanged: false,
        diff: Some(a_diff()),
        warnings: Vec::new(),
    }
}

pub(crate) fn region(name: &str, connected: u64, serving: u64, refused: u64) -> RegionSummary {
    RegionSummary { region: name.to_owned(), connected, serving, refused, unknown: 0 }
}

pub(crate) fn answered(verdict: Verdict, regions: Vec<RegionSummary>, refused: Vec<Node>) -> AwaitAssignmentResponse {
    AwaitAssignmentResponse {
        assignment: 91,
        revision: 87,
        regions,
        elapsed: Some(prost_types::Duration { seconds: 0, nanos: 640_000_000 }),
        verdict: verdict.into(),
        refused,
        missing: Vec::new(),
    }
}

pub(crate) fn node(id: &str, region: &str, revision: u64) -> Node {
    Node {
        id: id.to_owned(),
        environment: "prod".to_owned(),
        region: region.to_owned(),
        build: "0.1.0".to_owned(),
        connection: Connection::Connected.into(),
        serving: Some(Serving { assignment: 90, revision, keys_version: 3, since: Some(TEN) }),
        last_heard_at: Some(TEN),
        ..Default::default()
    }
}

pub(crate) fn refusing(id: &str, region: &str) -> Node {
    let violation = Violation {
        code: "guardrail_region".to_owned(),
        path: "routes.chat".to_owned(),
        message: "no guardrail in eu-west-1".to_owned(),
    };
    let refused = Some(Refusal { revision: 87, at: Some(TEN), violations: vec![violation] });
    Node { refused, ..node(id, region, 86) }
}

pub(crate) fn summary(serving: u64, refused: u64) -> Summary {
    Summary {
        environment: "prod".to_owned(),
        assignment: 91,
        revision: 87,
        regions: vec![region("eu-west-1", 2, serving, refused), region("us-east-1", 3, 3, 0)],
        revisions: vec![
            RevisionCount { revision: 86, nodes: 2 - serving },
            RevisionCount { revision: 87, nodes: 3 + serving },
        ],
    }
}

/// A control plane's answer to what is applied to an environment that serves these items as revision 86.
pub(crate) fn apply(request: &ApplyRequest, head: &[Item]) -> ApplyResponse {
    let changes: Vec<Change> = diff::diff(head, &request.items)
        .into_iter()
        .map(|change| Change { words: change.words, ..Change::default() })
        .collect();
    let unchanged = changes.is_empty();
    ApplyResponse {
        revision: Some(revision(&request.environment, if unchanged { 86 } else { 87 })),
        assignment: if unchanged { 0 } else { 91 },
        unchanged,
        diff: Some(Diff { changes_in_all: changes.len() as u64, changes }),
        warnings: Vec::new(),
    }
}

/// The example's policy.
pub(crate) fn policy() -> Policy {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/dev");
    let files: Vec<File> = ["models.yaml", "routes.yaml"]
        .map(|name| File { name: name.to_owned(), bytes: std::fs::read(folder.join(name)).unwrap() })
        .into();
    load(&files).unwrap();
    read(&files).policy
}

pub(crate) fn content() -> Vec<Item> {
    items::items(&policy())
}
