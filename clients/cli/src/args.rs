//! What can be written on the command line. The words of each command stand beside what it does.

use anstream::ColorChoice;
use clap::{Parser, Subcommand, ValueEnum};

use crate::{
    apply, ask, completions, dev, diff, events, explain, get, history, key, output, promote, pull, rollback, status,
    validate, watch,
};

/// Decides which model serves which use case: try it, check policies, apply them to a fleet and watch it, ask.
#[derive(Debug, Parser)]
#[command(name = "switchtower", version, after_help = output::EXITS, max_term_width = 110)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    /// For people, or one JSON document for programs (of what goes on, one on each line); failures then are JSON on
    /// standard error.
    #[arg(long, global = true, value_enum, default_value_t = output::Format::Text, value_name = "FORMAT")]
    pub(crate) output: output::Format,
    /// Whether there are colours; `auto`: on a terminal, unless NO_COLOR is set.
    #[arg(long, global = true, value_enum, default_value_t = Colours::Auto, value_name = "WHEN")]
    pub(crate) color: Colours,
}

/// Whether there are colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Colours {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a control plane, nodes in two regions and a fake Bedrock on this machine.
    Dev(dev::Args),
    /// Tell everything that is wrong with a policy.
    Validate(validate::Args),
    /// Tell what happens to a request, and why.
    Explain(explain::Args),
    /// Send one request, and show the answer as it comes and what served it.
    Ask(ask::Args),
    /// Make policy files the revision that nodes of an environment serve.
    Apply(Box<apply::Args>),
    /// Tell what differs between policy files and what is applied, or between revisions.
    Diff(diff::Args),
    /// List the revisions of an environment.
    History(history::Args),
    /// Show a revision, as YAML.
    Get(get::Args),
    /// Write what is applied into policy files.
    Pull(pull::Args),
    /// Apply a revision of one environment to another.
    Promote(Box<promote::Args>),
    /// Have nodes serve an earlier revision again.
    Rollback(rollback::Args),
    /// Tell what nodes serve, and what is wrong with which.
    Status(status::Args),
    /// Tell what nodes serve, as it changes.
    Watch(watch::Args),
    /// Tell what happened, and what happens.
    Events(events::Args),
    /// Make, list, rotate and revoke the keys that callers show to nodes.
    Key(Box<key::Args>),
    /// Print a script that completes this command in a shell.
    Completions(completions::Args),
}

/// What `--color` says, before anything is checked.
pub(crate) fn colours_of(args: &[String]) -> ColorChoice {
    match said_of(args, "--color", &["auto", "always", "never"]) {
        Some("always") => ColorChoice::Always,
        Some("never") => ColorChoice::Never,
        _ => ColorChoice::Auto,
    }
}

/// Whether `--output` says `json`, before anything is checked.
pub(crate) fn is_json(args: &[String]) -> bool {
    said_of(args, "--output", &["text", "json"]) == Some("json")
}

/// The last of these values that an option is given. What follows `--` is not ours.
fn said_of<'a>(args: &'a [String], option: &str, values: &[&str]) -> Option<&'a str> {
    let ours = args.iter().position(|arg| arg == "--").map_or(args, |end| &args[..end]);
    let mut said = ours.iter().enumerate().filter_map(|(index, arg)| match arg.strip_prefix(option)? {
        "" => ours.get(index + 1).map(String::as_str),
        value => value.strip_prefix('='),
    });
    said.rfind(|value| values.contains(value))
}

/// `KEY=VALUE`, as `--metadata` has it.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_commands_do_not_contradict_each_other() {
        Args::command().debug_assert();
    }

    #[test]
    fn colours_are_known_before_the_rest_is() {
        let check = |args: &[&str], expected: ColorChoice| {
            let args: Vec<String> = args.iter().map(ToString::to_string).collect();
            assert_eq!(colours_of(&args), expected, "{args:?}");
        };
        check(&["switchtower"], ColorChoice::Auto);
        check(&["switchtower", "--color", "never"], ColorChoice::Never);
        check(&["switchtower", "ask", "--color=always"], ColorChoice::Always);
        check(&["switchtower", "ask", "--color=never", "--color", "always"], ColorChoice::Always);
        check(&["switchtower", "ask", "--", "--color=always"], ColorChoice::Auto);
        check(&["switchtower", "--color"], ColorChoice::Auto);
    }

    #[test]
    fn how_to_speak_is_known_before_the_rest_is() {
        let check = |args: &[&str], expected: bool| {
            let args: Vec<String> = args.iter().map(ToString::to_string).collect();
            assert_eq!(is_json(&args), expected, "{args:?}");
        };
        check(&["switchtower", "--output", "json"], true);
        check(&["switchtower", "ask", "--output=json", "--nonsense"], true);
        check(&["switchtower", "--output=json", "--output", "text"], false);
        check(&["switchtower", "--outputs=json"], false);
        check(&["switchtower", "--", "--output=json"], false);
        check(&["switchtower", "--output"], false);
        check(&["switchtower", "json"], false);
    }

    #[test]
    fn a_pair_has_a_key_and_may_have_an_empty_value() {
        let check = |text: &str, expected: Option<(&str, &str)>| {
            let got = pair(text).ok();
            assert_eq!(got.as_ref().map(|(key, value)| (key.as_str(), value.as_str())), expected, "{text}");
        };
        check("a=b", Some(("a", "b")));
        check("a=b=c", Some(("a", "b=c")));
        check("a=", Some(("a", "")));
        check("=b", None);
        check("a", None);
    }
}
