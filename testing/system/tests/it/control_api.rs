//! `docs/control-api.md`, run from top to bottom: every example, by the tool that it names, in one shell.

use std::{fs, path::Path, process::Stdio};

use switchtower_system_tests::{
    PATIENCE,
    fleet::{Fleet, Setup},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

const PAGE: &str = include_str!("../../../../docs/control-api.md");
/// Stands in the page for what differs from time to time.
const ANYTHING: char = '…';
const END: &str = "=== the example ended with";

/// An example, and what the page says that it prints.
#[derive(Debug, Default)]
struct Example {
    script: String,
    fails: bool,
    prints: Vec<String>,
}

fn examples() -> Vec<Example> {
    let (mut examples, mut kind): (Vec<Example>, Option<&str>) = (Vec::new(), None);
    for line in PAGE.lines() {
        match (kind, line.strip_prefix("```")) {
            (None, Some(opens)) => {
                kind = Some(opens);
                if opens.starts_with("sh") {
                    examples.push(Example { fails: opens == "sh fails", ..Example::default() });
                }
            }
            (Some(_), Some(_)) => kind = None,
            (Some("sh" | "sh fails"), None) => {
                let example = examples.last_mut().unwrap();
                example.script.push_str(line);
                example.script.push('\n');
            }
            (Some("text"), None) => examples.last_mut().unwrap().prints.push(line.trim().to_owned()),
            _ => {}
        }
    }
    examples
}

/// Whether the page's lines are in this order in what was printed, other lines between them.
fn missing<'e>(expected: &'e [String], printed: &str) -> Option<&'e String> {
    let mut lines = printed.lines();
    expected.iter().find(|expected| !lines.any(|line| matches(line.trim().trim_end_matches(','), expected)))
}

fn matches(line: &str, expected: &str) -> bool {
    let parts: Vec<&str> = expected.split(ANYTHING).collect();
    let [first, middle @ .., last] = parts.as_slice() else { return line == expected };
    let Some(mut rest) = line.strip_prefix(first).and_then(|rest| rest.strip_suffix(last)) else { return false };
    middle.iter().all(|part| match rest.split_once(part) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

/// A shell that runs one example after the other.
struct Shell {
    _child: Child,
    _home: TempDir,
    scripts: ChildStdin,
    printed: Lines<BufReader<ChildStdout>>,
}

impl Shell {
    fn start(fleet: &Fleet) -> Shell {
        let modules = std::env::var_os("SWITCHTOWER_NODE").expect("run `make test`, which sets it up");
        let tools = Path::new(&modules).join("node_modules/.bin");
        assert!(tools.join("buf").exists(), "there is no buf in {}: run `make test`", tools.display());
        let home = tempfile::tempdir().unwrap();
        let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
        let mut child = Command::new("bash")
            .args(["--noprofile", "--norc"])
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
            .env_clear()
            .envs([("PATH", path), ("HOME", home.path().display().to_string())])
            .envs([("CONTROL", format!("http://{}", fleet.control)), ("TOKEN", fleet.operator().to_owned())])
            .envs([("NO_PROXY", "127.0.0.1,localhost")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (scripts, printed) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()).lines());
        Shell { _child: child, _home: home, scripts, printed }
    }

    /// Gives what it printed on both streams, and its exit code.
    async fn run(&mut self, script: &str) -> (String, i32) {
        let whole = format!("{{\n{script}\n}} 2>&1 </dev/null\necho $'\\n'\"{END} $?\"\n");
        let mut printed = String::new();
        let running = async {
            self.scripts.write_all(whole.as_bytes()).await.unwrap();
            loop {
                let line = self.printed.next_line().await.unwrap().expect("bash goes on");
                if let Some(code) = line.strip_prefix(END) {
                    return code.trim().parse().unwrap();
                }
                printed.push_str(&line);
                printed.push('\n');
            }
        };
        let code = timeout(2 * PATIENCE, running).await.unwrap_or_else(|_| panic!("it does not end: {script}"));
        (printed, code)
    }
}

#[tokio::test]
async fn the_page_on_the_control_api_does_what_it_says() {
    let mut fleet = Fleet::start(Setup { nodes: 1, bare: true, ..Setup::default() }).await;
    let mut shell = Shell::start(&fleet);
    let examples = examples();
    assert!(examples.len() >= 20, "the page was read: {}", examples.len());
    let mut called = String::new();
    for Example { script, fails, prints } in &examples {
        let (printed, code) = shell.run(script).await;
        assert_eq!(code != 0, *fails, "{script}\nended with {code}:\n{printed}");
        if let Some(missing) = missing(prints, &printed) {
            panic!("{script}\ndoes not print `{missing}` where the page says so:\n{printed}");
        }
        // Of an environment that is there, a node is told at once.
        if prints.iter().any(|line| line == "\"assignment\": \"1\"") {
            fleet.start_node(0).await;
            fleet.nodes[0].program.as_mut().unwrap().says("assignment followed").await;
        }
        called.push_str(script);
    }
    // A call that is added to the API is added to the page.
    let protos = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto/switchtower/control/v1");
    for file in fs::read_dir(protos).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        for rpc in text.lines().filter_map(|line| line.trim().strip_prefix("rpc ")?.split('(').next()) {
            assert!(called.contains(&format!("Service/{rpc}")), "{rpc} is not on the page");
        }
    }
}

#[test]
fn an_ellipsis_stands_for_anything() {
    for (line, expected, so) in [
        ("\"a\": \"b\"", "\"a\": \"b\"", true),
        ("\"a\": \"bc\"", "\"a\": \"b\"", false),
        ("\"a\": \"bc\"", "\"a\": \"…\"", true),
        ("\"a\": \"xrevision 1 is assigned\"", "\"a\": \"…revision 1 is assigned\"", true),
        ("\"a\": \"xrevision 2 is assigned\"", "\"a\": \"…revision 1 is assigned\"", false),
        ("\"b\": \"c\"", "\"a\": \"…\"", false),
        ("{}", "{}", true),
        ("{} ", "{}", false),
    ] {
        assert_eq!(matches(line, expected), so, "{line} / {expected}");
    }
}
