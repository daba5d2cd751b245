//! An answer's text as it comes: to people at once, to programs when it is whole.

use std::io::{self, IsTerminal, Write};

use crate::output::{Failure, Output, printable};

/// The text so far.
pub(super) struct Shown {
    text: String,
    shows: bool,
    terminal: bool,
}

impl Shown {
    pub(super) fn new(output: Output) -> Self {
        Shown { text: String::new(), shows: !output.is_json(), terminal: io::stdout().is_terminal() }
    }

    /// More of it. A pipe gets it as it is; what a model says must not steer a terminal.
    pub(super) fn more(&mut self, text: &str) -> Result<(), Failure> {
        self.text.push_str(text);
        if !self.shows {
            return Ok(());
        }
        match self.terminal {
            true => write(printable(text).as_bytes()),
            false => write(text.as_bytes()),
        }
    }

    /// There is no more. Gives the whole text.
    pub(super) fn end(self) -> Result<String, Failure> {
        if self.shows && !self.text.is_empty() && !self.text.ends_with('\n') {
            write(b"\n")?;
        }
        Ok(self.text)
    }
}

fn write(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}
