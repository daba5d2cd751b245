//! `policy` does no I/O and is not async: what it depends on shows it.

use std::process::Command;

#[test]
fn nothing_that_does_io_is_among_its_dependencies() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "-e", "normal", "-p", "switchtower-policy", "--offline", "--prefix", "none", "--format", "{p}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let listed = String::from_utf8(tree.stdout).unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let names: Vec<&str> = listed.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains(&"prost") && names.contains(&"cel"), "this is not the tree of dependencies: {listed}");

    let banned = |name: &&&str| {
        let exact = ["tokio", "tonic", "hyper", "reqwest", "async-std", "smol", "rand", "getrandom", "socket2", "mio"];
        let begins = ["tokio-", "tonic-", "hyper-", "aws-sdk-", "aws-config", "aws-smithy-", "aws-sigv4", "aws-types"];
        exact.contains(*name) || begins.iter().any(|begin| name.starts_with(begin))
    };
    assert_eq!(names.iter().filter(banned).collect::<Vec<_>>(), Vec::<&&str>::new());
}
