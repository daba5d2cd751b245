//! The examples are what newcomers copy: they compile without a warning.

use std::path::Path;

use switchtower_policy::{File, Snapshot, load};

fn example(directory: &str) -> Snapshot {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(directory);
    let mut files: Vec<File> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| File { name: path.display().to_string(), bytes: std::fs::read(path).unwrap() })
        .collect();
    files.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(!files.is_empty());
    let compiled = load(&files).unwrap_or_else(|violations| panic!("{violations:#?}"));
    assert_eq!(compiled.warnings, []);
    compiled.snapshot
}

#[test]
fn the_policy_of_dev_compiles() {
    let snapshot = example("dev");
    assert_eq!(&**snapshot.environment(), "dev");
    let routes: Vec<&str> = snapshot.routes().iter().map(|route| &*route.name).collect();
    assert_eq!(routes, ["quick", "support-chat"]);
    assert!(snapshot.routes().iter().all(|route| route.guardrail.as_ref().is_some_and(|g| &*g.name == "standard")));
    assert_eq!(snapshot.targets().len(), 4);
    assert_eq!(snapshot.caller("acme-web").map(|caller| &*caller.tenant), Some("acme"));
    // Nova Lite's own limit.
    assert_eq!(snapshot.route_named("quick").map(|route| route.max_output_tokens), Some(10_000));
}

#[test]
fn the_policy_for_real_bedrock_compiles_and_names_no_guardrail() {
    let snapshot = example("real");
    assert!(snapshot.routes().iter().all(|route| route.guardrail.is_none() && route.max_output_tokens == 1024));
    assert!(snapshot.targets().iter().all(|target| target.bedrock.contains("nova")));
    assert!(snapshot.caller("acme-web").is_some());
}
