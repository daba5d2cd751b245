//! Policies taken apart into items and put together again, by any way that they may come.

use std::collections::BTreeSet;

use proptest::{prelude::*, sample::Index};
use serde::Deserialize;
use switchtower_policy::{
    File, compile,
    diff::diff,
    items::{MAX_BYTES, Unknown, apply_delta, delta, digest, items, missing, policy, schema, strict, used},
    load, read,
};
use switchtower_proto::policy::v1;

use crate::{
    generated,
    support::{GOOD, file},
};

fn item(kind: &str, name: &str, body: &[u8]) -> v1::Item {
    v1::Item { kind: kind.to_owned(), name: name.to_owned(), body: body.to_vec().into() }
}

fn settings() -> v1::Item {
    item("settings", "", b"\x0a\x04prod")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn content_hashes_to_what_another_implementation_hashes_it_to() {
    #[derive(Deserialize)]
    struct Vector {
        items: Vec<Part>,
        digest: String,
    }
    #[derive(Deserialize)]
    struct Part {
        kind: String,
        name: String,
        body: String,
    }
    let vectors: Vec<Vector> = serde_json::from_str(include_str!("../vectors/content_digest.json")).unwrap();
    assert!(vectors.len() > 5);
    for vector in vectors {
        let digits = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
        };
        let items: Vec<_> = vector.items.iter().map(|part| item(&part.kind, &part.name, &digits(&part.body))).collect();
        assert_eq!(hex(&digest(&items)), vector.digest, "{items:?}");
    }
}

#[test]
fn the_revision_of_files_is_the_beginning_of_the_content_digest_until_it_is_numbered() {
    let reading = read(&[file(GOOD)]);
    let snapshot = compile(&reading.policy).unwrap().snapshot;
    assert_eq!(**snapshot.revision(), hex(&digest(&items(&reading.policy)))[..12]);
    let routes = snapshot.routes().len();
    let numbered = snapshot.numbered(42);
    assert_eq!(&**numbered.revision(), "42");
    assert_eq!((numbered.routes().len(), &**numbered.environment()), (routes, "test"));
}

#[test]
fn items_stand_by_kind_then_name() {
    let reading = read(&[file(GOOD)]);
    let told: Vec<String> = items(&reading.policy).iter().map(|item| format!("{}/{}", item.kind, item.name)).collect();
    assert_eq!(told, ["caller/acme", "model/nova-lite", "model/sonnet", "settings/"]);
}

/// Codes and paths of what is wrong with these items, read leniently and strictly.
#[track_caller]
fn check(items: &[v1::Item], lenient: &[&str], strictly: &[&str]) {
    let told = |violations: Vec<switchtower_policy::Violation>| -> Vec<String> {
        assert!(violations.iter().all(|violation| !violation.to_string().contains(['\n', '\u{1b}'])));
        violations.iter().map(|violation| format!("{} {}", violation.code, violation.path)).collect()
    };
    assert_eq!(policy(items).map(|_| ()).map_err(told).err().unwrap_or_default(), lenient, "leniently");
    assert_eq!(strict(items).map(|_| ()).map_err(told).err().unwrap_or_default(), strictly, "strictly");
}

#[test]
fn what_is_wrong_with_items_is_a_violation() {
    let both = |items: &[v1::Item], expected: &[&str]| check(items, expected, expected);
    both(&[settings()], &[]);
    check(&[], &[], &["required environment"]);
    // A field that ends in the middle, and a number where a text is.
    both(&[item("route", "chat", &[0x12, 9, 1]), settings()], &["malformed routes.chat"]);
    both(&[item("route", "chat", &[0x08, 1]), settings()], &["malformed routes.chat"]);
    both(&[item("route", "chat", &[0x22, 1, 0xff]), settings()], &["malformed routes.chat"]);
    // An unknown value does not hide that the end is missing.
    both(&[item("route", "chat", &[0x50, 7, 0x12, 9]), settings()], &["malformed routes.chat"]);
    both(&[item("route", "b", b""), item("route", "a", b""), settings()], &["wrong_order routes.a"]);
    both(&[item("route", "a", b""), item("flag", "a", b""), settings()], &["wrong_order flags.a"]);
    both(&[item("route", "a", b""), item("route", "a", b""), settings()], &["duplicate routes.a"]);
    both(&[item("route", "a b", b""), settings()], &["bad_name routes.`a b`"]);
    both(&[item("route", "\u{1b}[2J\n", b""), settings()], &["bad_name routes.` [2J `"]);
    both(&[item("model", "", b""), settings()], &["bad_name models.``"]);
    both(&[item("model", "amazon.nova:0", b""), settings()], &["bad_name models.amazon.nova:0"]);
    both(&[item("catalogue", "amazon.nova:0", b""), settings()], &[]);
    both(&[settings(), item("settings", "x", b"")], &["bad_name "]);
    both(&[item("a b", "x", b""), settings()], &["bad_name `a b`.x"]);
    // An entry of the routes inside the settings.
    both(&[item("settings", "", &[0x22, 3, 0x0a, 1, b'a'])], &["misplaced routes"]);
    let large = item("route", "chat", &vec![0; MAX_BYTES]);
    both(&[large, settings()], &["too_large "]);
}

#[test]
fn what_a_node_bears_the_control_plane_refuses() {
    let strictly = |item: v1::Item, expected: &str| check(&[item, settings()], &[], &[expected]);
    strictly(item("gadget", "x", b"\xff"), "unknown_kind gadget.x");
    strictly(item("gadget", "", b""), "unknown_kind gadget.``");
    strictly(item("route", "chat", &[0x98, 0x06, 1]), "unknown_member routes.chat");
    strictly(item("route", "chat", &[0x2a, 3, 0x98, 0x06, 1]), "unknown_member routes.chat.timeouts");
    strictly(item("route", "chat", &[0x12, 5, 0x1a, 3, 0x98, 0x06, 1]), "unknown_member routes.chat.tiers[0].answer");
    // Two tiers, the second a split, and in its only weight a third field.
    let split = [0x12, 3, 0x0a, 1, b'a', 0x12, 11, 0x12, 9, 0x0a, 7, 0x0a, 1, b'm', 0x10, 1, 0x18, 1];
    strictly(item("route", "chat", &split), "unknown_member routes.chat.tiers[1].split.m");
    strictly(item("route", "chat", &[0x50, 7]), "unknown_word routes.chat.upstream");
    // A default, a number longer than it needs to be, a field twice, and fields in the wrong order.
    strictly(item("route", "chat", &[0x50, 0]), "not_canonical routes.chat");
    strictly(item("route", "chat", &[0x50, 0x81, 0]), "not_canonical routes.chat");
    strictly(item("route", "chat", &[0x50, 1, 0x50, 1]), "not_canonical routes.chat");
    strictly(item("route", "chat", &[0x6a, 1, b'a', 0x50, 1]), "not_canonical routes.chat");
    // Two weights, the later key first.
    let weights = [0x12, 16, 0x12, 14, 0x0a, 5, 0x0a, 1, b'b', 0x10, 1, 0x0a, 5, 0x0a, 1, b'a', 0x10, 1];
    strictly(item("route", "chat", &weights), "not_canonical routes.chat");
    check(&[item("settings", "", &[0x0a, 0])], &[], &["not_canonical "]);
}

#[test]
fn what_was_meant_is_suggested_for_a_kind() {
    let violations = strict(&[item("routes", "chat", b""), settings()]).unwrap_err();
    assert_eq!(violations[0].suggestion.as_deref(), Some("route"));
}

#[test]
fn what_is_ignored_is_told_once_by_name() {
    let unknown = [0x98, 0x06, 1, 0x98, 0x06, 2, 0x50, 7];
    let items = [item("gadget", "x", b"\xff"), item("route", "chat", &unknown), item("settings", "", &[0x98, 0x06, 1])];
    let read = policy(&items).unwrap();
    let told: Vec<String> = read.ignored.iter().map(Unknown::to_string).collect();
    let expected = [
        "gadget/x: unknown kind",
        "route/chat: Route.field 99",
        "route/chat: Upstream value 7",
        "settings: Policy.field 99",
    ];
    assert_eq!(told, expected);
    // A value that nobody knows is as if it were not there.
    assert_eq!(read.policy.routes["chat"], v1::Route::default());
}

#[test]
fn a_million_unknown_members_are_not_a_million_words() {
    let mut body = Vec::new();
    for number in 100..400_000_u32 {
        prost::encoding::uint32::encode(number, &1, &mut body);
    }
    let items = [item("route", "chat", &body), settings()];
    assert_eq!(policy(&items).unwrap().ignored.len(), 1000);
    assert_eq!(strict(&items).unwrap_err().len(), 1000);
    assert!(used(&items).len() < 1100);
}

#[test]
fn the_schema_names_what_items_can_hold_and_nothing_else() {
    let schema = schema();
    let kinds = ["caller", "catalogue", "flag", "guardrail", "model", "route", "settings"];
    assert_eq!(schema.kinds, kinds);
    assert!(schema.members.is_sorted());
    let has = |member: &str| schema.members.iter().any(|known| known == member);
    for member in [
        "Policy.environment",
        "Route.tiers",
        "Upstream.UPSTREAM_STREAM",
        "Guardrail.Trace.TRACE_ENABLED_FULL",
        "RegionalGuardrail.version",
        "Duration.seconds",
        "Value.number_value",
        "Struct.fields",
    ] {
        assert!(has(member), "{member}");
    }
    for absent in ["Item.kind", "RevisionRecord.number", "Split.WeightsEntry.key", "Policy.RoutesEntry.value"] {
        assert!(!has(absent), "{absent}");
    }
}

#[test]
fn what_is_used_is_named_as_the_schema_names_it() {
    let text = GOOD.to_owned() + "routes: { r: { tiers: [sonnet], upstream: unary, timeouts: { total: 8s } } }\n";
    let used = used(&items(&read(&[file(&text)]).policy));
    let expected = [
        "Caller.routes",
        "Duration.seconds",
        "Model.bedrock",
        "Model.regions",
        "Policy.environment",
        "Route.tiers",
        "Route.timeouts",
        "Route.upstream",
        "Tier.model",
        "Timeouts.total",
        "Upstream.UPSTREAM_UNARY",
        "kind:caller",
        "kind:model",
        "kind:route",
        "kind:settings",
    ];
    assert_eq!(used.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    assert_eq!(missing(&used, &schema().members, &schema().kinds), Vec::<String>::new());
    let without =
        |names: &[String], name: &str| names.iter().filter(|known| *known != name).cloned().collect::<Vec<_>>();
    let (members, kinds) = (without(&schema().members, "Timeouts.total"), without(&schema().kinds, "caller"));
    assert_eq!(missing(&used, &members, &kinds), ["Timeouts.total", "kind:caller"]);
}

/// The sections of the example, each a text of its own.
fn sections() -> Vec<String> {
    let text = [include_str!("../../../examples/dev/models.yaml"), include_str!("../../../examples/dev/routes.yaml")];
    let mut sections: Vec<String> = Vec::new();
    for line in text.concat().lines() {
        let begins = line.starts_with(|c: char| c.is_ascii_alphabetic());
        match sections.last_mut().filter(|_| !begins) {
            Some(section) => section.push_str(line),
            None => sections.push(line.to_owned()),
        }
        sections.last_mut().unwrap().push('\n');
    }
    // Both files say which environment they are for, and one file may say it once.
    let mut environments = 0;
    sections.retain(|section| {
        environments += usize::from(section.starts_with("environment:"));
        !section.starts_with("environment:") || environments == 1
    });
    assert!(environments == 2 && sections.len() > 5);
    sections
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_policy_taken_apart_and_put_together_is_the_same(written in generated::policy()) {
        let apart = items(&written);
        let together = policy(&apart).unwrap();
        prop_assert_eq!(&together.policy, &written);
        prop_assert_eq!(together.ignored, []);
        prop_assert_eq!(&strict(&apart).unwrap(), &written);
        prop_assert!(apart.is_sorted_by_key(|item| (item.kind.clone(), item.name.clone())));
        prop_assert_eq!(missing(&used(&apart), &schema().members, &schema().kinds), Vec::<String>::new());
    }

    #[test]
    fn the_digest_does_not_depend_on_how_a_policy_is_split_into_files(into in proptest::collection::vec(0..4_usize, 16)) {
        let mut files: Vec<File> = (0..4).map(|n| File { name: format!("{n}.yaml"), bytes: Vec::new() }).collect();
        for (section, file) in sections().iter().zip(&into) {
            files[*file].bytes.extend(section.bytes());
        }
        let dev = [("a", include_str!("../../../examples/dev/models.yaml")), ("b", include_str!("../../../examples/dev/routes.yaml"))];
        let whole = dev.map(|(name, text)| File { name: name.to_owned(), bytes: text.into() });
        let revision = |files: &[File]| load(files).map(|compiled| compiled.snapshot.revision().clone());
        prop_assert_eq!(revision(&files).unwrap(), revision(&whole).unwrap());
    }

    #[test]
    fn a_delta_makes_of_one_content_the_other(from in generated::policy(), to in generated::policy()) {
        let (from, to) = (items(&from), items(&to));
        let (put, removed) = delta(&from, &to);
        prop_assert!(put.iter().all(|item| to.contains(item) && !from.contains(item)));
        prop_assert_eq!(apply_delta(&from, put, &removed).unwrap(), to);
        prop_assert_eq!(delta(&from, &from), (Vec::new(), Vec::new()));
    }

    #[test]
    fn contents_differ_in_words_if_and_only_if_they_differ_in_bytes(
        from in generated::policy(),
        to in generated::policy(),
        of_both in any::<bool>(),
    ) {
        let (from, mut to) = (items(&from), items(&to));
        if of_both {
            // Little is different, so that it is told field by field.
            let (mut put, removed) = delta(&to, &from);
            put.truncate(put.len() / 2);
            to = apply_delta(&to, put, &removed[..removed.len() / 2]).unwrap();
        }
        let changes = diff(&from, &to);
        prop_assert_eq!(changes.is_empty(), digest(&from) == digest(&to));
        prop_assert_eq!(diff(&from, &from), []);
        prop_assert_eq!(&diff(&from, &to), &changes);
        let keys: Vec<_> = changes.iter().map(|change| (&change.item_kind, &change.item_name)).collect();
        prop_assert!(keys.is_sorted());
        let differ: BTreeSet<_> = delta(&from, &to).0.into_iter().map(|item| (item.kind, item.name))
            .chain(delta(&from, &to).1).collect();
        let told: BTreeSet<_> = changes.iter().map(|c| (c.item_kind.clone(), c.item_name.clone())).collect();
        prop_assert_eq!(told, differ);
        for change in &changes {
            prop_assert!(!change.words.contains(['\n', '\r', '\u{1b}']), "{}", change.words);
            for value in [&change.before, &change.after].into_iter().flatten() {
                prop_assert!(serde_json::from_str::<serde_json::Value>(value).is_ok(), "{}", value);
            }
            // Both are canonical: whatever is different, a field says so.
            prop_assert!(!change.words.ends_with("says the same"), "{:?}", change);
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(
        written in generated::policy(),
        edits in proptest::collection::vec((any::<Index>(), any::<Index>(), any::<u8>()), 0..6),
        kind in "[a-z \n]{0,9}",
        name in "\\PC{0,9}",
        more in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let first = items(&written);
        let mut apart = first.clone();
        for (which, at, byte) in edits {
            let which = which.index(apart.len());
            let mut body = apart[which].body.to_vec();
            if !body.is_empty() {
                let at = at.index(body.len());
                body[at] = byte;
            }
            apart[which].body = body.into();
        }
        if !more.is_empty() {
            apart.push(item(&kind, &name, &more));
        }
        let lenient = policy(&apart);
        if let Ok(read) = strict(&apart) {
            // What is applied is what would have been written.
            prop_assert_eq!(items(&read), apart.clone());
            prop_assert_eq!(lenient.unwrap().policy, read);
        }
        prop_assert!(!used(&apart).is_empty());
        let changes = diff(&first, &apart);
        prop_assert_eq!(changes.is_empty(), digest(&first) == digest(&apart));
    }
}
