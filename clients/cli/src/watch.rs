//! `switchtower watch`: how the fleet follows, as it changes. On a terminal the table is drawn over; elsewhere each change
//! is a line.

use std::{
    future::Future,
    io::{self, IsTerminal},
};

use futures_util::StreamExt;
use switchtower_client::control::wire::{Summary, WatchFleetRequest};

use crate::{
    control::{Connection, Environment},
    fleet,
    output::{Exit, Failure, Output},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    environment: Environment,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(args: Args, output: Output) -> Result<Exit, Failure> {
    let client = args.connection.client().await?;
    let request = WatchFleetRequest { environment: args.environment.name.clone() };
    let updates = client.watch_fleet(request).await;
    let mut updates = updates.map_err(|error| args.connection.failure(&error))?;
    let mut drawn = Drawn { output, terminal: io::stdout().is_terminal(), lines: 0, last: None };
    let told = async {
        while let Some(update) = updates.next().await {
            let update = update.map_err(|error| args.connection.failure(&error))?;
            drawn.show(update.summary.unwrap_or_default())?;
        }
        Ok(Exit::Success)
    };
    interruptible(told).await
}

/// What is shown now.
struct Drawn {
    output: Output,
    terminal: bool,
    lines: usize,
    last: Option<Summary>,
}

impl Drawn {
    fn show(&mut self, summary: Summary) -> Result<(), Failure> {
        if self.last.as_ref() == Some(&summary) {
            return Ok(());
        }
        if self.output.is_json() {
            self.output.json(&fleet::document(&summary))?;
        } else if self.terminal {
            let table = fleet::table(&summary);
            let back = if self.lines > 0 { format!("\u{1b}[{}A", self.lines) } else { String::new() };
            self.output.text(format!("{back}\r\u{1b}[J{table}"))?;
            self.lines = table.lines().count();
        } else {
            self.output.text(format!("{}\n", fleet::line(&summary)))?;
        }
        self.last = Some(summary);
        Ok(())
    }
}

/// What goes on until somebody presses Ctrl-C.
pub(crate) async fn interruptible(work: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    tokio::select! {
        ended = work => ended,
        interrupted = tokio::signal::ctrl_c() => match interrupted {
            Ok(()) => Ok(Exit::Interrupted),
            Err(error) => Err(Failure::new(Exit::Failed, format!("Ctrl-C cannot be watched: {error}"))),
        },
    }
}
