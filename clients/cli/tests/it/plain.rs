//! What holds for every command: help, exit codes, completions, colours, closed pipes.

use std::{io::Read, process::Stdio};

use crate::support::{command, run};

#[test]
fn help_tells_the_exit_codes() {
    let help = run(["--help"]).exits(0);
    for code in ["3", "4", "5", "64", "65", "69", "74", "75", "77", "130"] {
        assert!(help.out.lines().any(|line| line.trim_start().starts_with(code)), "{code}: {}", help.out);
    }
}

#[test]
fn what_cannot_be_meant_is_a_usage_error() {
    let check = |args: &[&str], says: &str| {
        let ran = run(args).exits(64);
        assert!(ran.err.contains(says) && ran.out.is_empty(), "{args:?}: {ran:#?}");
    };
    check(&[], "Usage");
    check(&["frobnicate"], "frobnicate");
    check(&["ask"], "ROUTE");
    check(&["ask", "quick", "hi", "--timeout", "30"], "30s");
    check(&["ask", "quick", "hi", "--metadata", "session"], "KEY=VALUE");
    check(&["ask", "quick", "hi", "--temperature", "2"], "0 to 1");
    check(&["ask", "quick", " "], "empty");
    check(&["dev", "--listen", "0.0.0.0:8080", "--policy", "/"], "not loopback");
    check(&["dev", "--policy", "/does/not/exist"], "does not exist");
    check(&["dev", "--policy", "/", "--api-key", "secret"], "switchtower key new");
    check(&["dev", "--policy", "/", "--upstream", "nonsense"], "http(s)://HOST");
    check(&["dev", "--policy", "/", "--script", "x", "--real"], "cannot be used with");
    check(&["dev", "--policy", "/", "--log", "a=b=c"], "--log");
    check(&["validate"], "PATH");
    check(&["diff"], "PATH");
    check(&["diff", "x", "--to", "3"], "cannot be used with");
    check(&["diff", "--from", "x"], "dev/12");
    check(&["diff", "--from", "3"], "--environment");
    check(&["history"], "--environment");
    check(&["get", "0", "-e", "prod"], "0");
    check(&["apply", ".", "--wait", "--timeout", "2h"], "at most 1h");
    check(&["apply", ".", "--timeout", "2s"], "--wait");
    check(&["apply", "."], "--yes");
    check(&["apply", ".", "--output", "json", "--color", "never"], "--yes");
    check(&["promote", "dev", "prod"], "--yes");
    check(&["rollback", "-e", "prod"], "--yes");
    check(&["key", "new", "--caller", "web"], "--file FILE");
    check(&["key", "rotate", "AAAAAAAAAAAAAAAA", "--overlap", "1", "-e", "prod"], "--overlap");
}

#[test]
fn programs_are_told_of_a_usage_error_in_json() {
    let check = |args: &[&str], says: &str| {
        let ran = run(args).exits(64);
        assert!(ran.out.is_empty(), "{args:?}: {ran:#?}");
        let error = ran.error();
        assert_eq!(error["exit_code"], 64, "{error:#}");
        assert!(error["message"].as_str().unwrap().contains(says), "{args:?}: {error:#}");
    };
    check(&["frobnicate", "--output", "json"], "frobnicate");
    check(&["--output=json", "ask", "quick", "hi", "--timeout", "30"], "--timeout");
    check(&["ask", "--output", "json"], "required arguments");
    check(&["--output", "json"], "subcommand");
    check(&["--output", "json", "key"], "a command is missing");
    let details = run(["ask", "--output", "json"]).exits(64).error()["details"].clone();
    assert!(details.as_array().unwrap().iter().any(|line| line.as_str().unwrap().contains("ROUTE")), "{details:#}");
    // Help was asked for, and is for people.
    assert!(run(["ask", "--help", "--output", "json"]).exits(0).out.contains("Usage"));
}

#[test]
fn arguments_that_are_no_text_are_a_usage_error() {
    use std::os::unix::ffi::OsStrExt;
    run([std::ffi::OsStr::from_bytes(b"\xff")]).exits(64);
}

#[test]
fn dev_outside_of_its_examples_asks_for_a_policy() {
    let folder = tempfile::tempdir().unwrap();
    let ran = command(["dev"]).current_dir(&folder).stdin(Stdio::null()).output().unwrap();
    assert_eq!(ran.status.code(), Some(64));
    assert!(String::from_utf8(ran.stderr).unwrap().contains("--policy DIR"));
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(["completions", shell]).exits(0).out;
        let commands = [
            "dev",
            "validate",
            "explain",
            "ask",
            "key",
            "completions",
            "apply",
            "diff",
            "history",
            "get",
            "pull",
            "promote",
            "rollback",
            "status",
            "watch",
            "events",
            "rotate",
        ];
        for command in commands {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
    assert_eq!(run(["completions", "bash", "--output", "json"]).exits(0).json()["shell"], "bash");
}

#[test]
fn there_are_colours_only_where_they_are_seen_or_asked_for() {
    let check = |args: &[&str], colours: bool| {
        let ran = run(args);
        let coloured = ran.out.contains('\u{1b}') || ran.err.contains('\u{1b}');
        assert_eq!(coloured, colours, "{args:?}: {ran:#?}");
    };
    check(&["validate", "/does/not/exist"], false);
    check(&["validate", "/does/not/exist", "--color", "always"], true);
    check(&["validate", "/does/not/exist", "--color", "never"], false);
    check(&["--help"], false);
    check(&["--help", "--color=always"], true);
    check(&["frobnicate", "--color", "always"], true);
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let mut child = command(["completions", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(141), ""));
}
