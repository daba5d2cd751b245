//! `switchtower`: the command line.
//!
//! Whatever a command has to say goes to standard output, whatever it says about its work to standard error, so that
//! the first can be piped. What can be written is in [`args`], how it ends in [`output`]; the rest is one file for each
//! command.

mod args;
mod ask;
mod completions;
mod dev;
mod duration;
mod explain;
mod key;
mod output;
mod validate;
mod violations;

use std::{future::Future, process::ExitCode};

use clap::Parser;

use crate::{
    args::{Args, Command},
    output::{Exit, Failure, Output},
};

fn main() -> ExitCode {
    // The parser prints help and mistakes before it can tell what it has read.
    args::colours_of(std::env::args()).write_global();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(said) => return usage(&said),
    };
    let output = Output::new(args.global.output);
    let ended = match args.command {
        Command::Dev(args) => within(tokio::runtime::Builder::new_multi_thread(), dev::run(args, output)),
        Command::Validate(args) => validate::run(&args, output),
        Command::Explain(args) => explain::run(args, output),
        Command::Ask(args) => within(tokio::runtime::Builder::new_current_thread(), ask::run(args, output)),
        Command::Key(args) => key::run(args, output),
        Command::Completions(args) => completions::run(&args, output),
    };
    ended.unwrap_or_else(|failure| output.failure(&failure)).into()
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
fn usage(said: &clap::Error) -> ExitCode {
    // Whoever reads this may have gone, and there is nobody else to tell.
    let _ = said.print();
    if said.use_stderr() { Exit::Usage.into() } else { Exit::Success.into() }
}
