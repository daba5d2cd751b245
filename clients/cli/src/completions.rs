//! `switchtower completions`: a script that completes this command in a shell.

use clap::CommandFactory;
use clap_complete::aot::{Shell, generate};
use serde_json::json;

use crate::{
    args,
    output::{Exit, Failure, Output},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell, such as in `switchtower completions bash > /etc/bash_completion.d/switchtower`.
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(args: &Args, output: Output) -> Result<Exit, Failure> {
    // Not straight to standard output: the generator panics where nobody reads it to the end.
    let mut script = Vec::new();
    generate(args.shell, &mut args::Args::command(), "switchtower", &mut script);
    let script = String::from_utf8_lossy(&script);
    match output.is_json() {
        true => output.json(&json!({ "shell": args.shell.to_string(), "script": script }))?,
        false => output.text(&script)?,
    }
    Ok(Exit::Success)
}
