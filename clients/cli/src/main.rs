//! `switchtower`: the command line.
//!
//! Whatever a command has to say goes to standard output, whatever it says about its work to standard error, so that
//! the first can be piped. What can be written is in [`args`], how it ends in [`output`]; the rest is one file for each
//! command.

mod apply;
mod args;
mod ask;
mod changes;
mod completions;
mod confirm;
mod control;
mod dev;
mod diff;
mod duration;
mod events;
mod explain;
mod fleet;
mod get;
mod history;
mod key;
mod made;
mod output;
mod promote;
mod pull;
mod revisions;
mod rollback;
mod status;
mod validate;
mod violations;
mod wait;
mod watch;
mod when;
mod yaml;

use std::{future::Future, process::ExitCode};

use clap::Parser;

use crate::{
    args::{Args, Command},
    output::{Exit, Failure, Output},
};

fn main() -> ExitCode {
    // The parser prints help and mistakes before it can tell what it has read.
    let written: Vec<String> = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    args::colours_of(&written).write_global();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(said) => return usage(&said, args::is_json(&written)),
    };
    let output = Output::new(args.global.output);
    let ended = match args.command {
        Command::Dev(args) => within(tokio::runtime::Builder::new_multi_thread(), dev::run(args, output)),
        Command::Validate(args) => validate::run(&args, output),
        Command::Explain(args) => explain::run(args, output),
        Command::Ask(args) => asking(ask::run(args, output)),
        Command::Apply(args) => asking(apply::run(*args, output)),
        Command::Diff(args) => asking(diff::run(args, output)),
        Command::History(args) => asking(history::run(args, output)),
        Command::Get(args) => asking(get::run(args, output)),
        Command::Pull(args) => asking(pull::run(args, output)),
        Command::Promote(args) => asking(promote::run(*args, output)),
        Command::Rollback(args) => asking(rollback::run(args, output)),
        Command::Status(args) => asking(status::run(args, output)),
        Command::Watch(args) => asking(watch::run(args, output)),
        Command::Events(args) => asking(events::run(args, output)),
        Command::Key(args) => asking(key::run(*args, output)),
        Command::Completions(args) => completions::run(&args, output),
    };
    ended.unwrap_or_else(|failure| output.failure(&failure)).into()
}

/// A command that waits for one server's answers.
fn asking(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    within(tokio::runtime::Builder::new_current_thread(), command)
}

fn within(
    mut runtime: tokio::runtime::Builder,
    command: impl Future<Output = Result<Exit, Failure>>,
) -> Result<Exit, Failure> {
    let runtime = runtime.enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(Exit::Failed, format!("the runtime cannot start: {error}")))?;
    runtime.block_on(command)
}

/// Help and the version are what was asked for; all else is a mistake in what was written.
fn usage(said: &clap::Error, json: bool) -> ExitCode {
    if json && said.use_stderr() {
        return Output::new(output::Format::Json).failure(&mistake(said)).into();
    }
    // Whoever reads this may have gone, and there is nobody else to tell.
    let _ = said.print();
    if said.use_stderr() { Exit::Usage.into() } else { Exit::Success.into() }
}

/// What the parser says of a mistake, taken apart: it is written for people, over several lines.
fn mistake(said: &clap::Error) -> Failure {
    let next = "`--help` tells what can be written";
    // It shows its help in place of a sentence here.
    if said.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Failure::usage("a command is missing").next(next);
    }
    let text = said.render().to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let message = lines.next().unwrap_or("the command line is wrong");
    let details = lines.filter(|line| !line.starts_with("For more information")).map(str::to_owned).collect();
    Failure::usage(message.strip_prefix("error: ").unwrap_or(message)).details(details).next(next)
}
