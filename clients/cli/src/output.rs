//! How commands speak and end: text or JSON, colours, exit codes, and failures that say what to do next.

use std::{
    borrow::Cow,
    fmt,
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use anstyle::{AnsiColor, Style};
use serde::{Serialize, Serializer};

/// What cannot be done.
pub(crate) const ERROR: Style = AnsiColor::Red.on_default().bold();
/// What should be known.
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default().bold();
/// What is as it should be.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default().bold();
/// What is to be seen first.
pub(crate) const STRONG: Style = Style::new().bold();
/// What stands beside.
pub(crate) const DIM: Style = Style::new().dimmed();

/// What `--help` says of [`Exit`].
pub(crate) const EXITS: &str = "\
Exit codes:
    0  done
    1  failed, for none of the reasons below; with --exit-code: something differs
    3  what is there is not what was expected: others were faster, or it was done already
    4  nodes refused the revision, or could not read it
    5  not every connected node serves the revision yet
   64  what was written on the command line is wrong
   65  a policy, a keys file or a request is wrong
   69  nobody answers, or no model does at the moment
   74  a file or a stream cannot be read or written
   75  failed for now: trying again makes sense
   77  not permitted: the key or token is missing or wrong
  130  interrupted
  141  whoever read the output went away";

/// How a command ends, in the codes of sysexits.h and of shells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done.
    Success = 0,
    /// For none of the reasons below; where it was asked whether something differs, it does.
    Failed = 1,
    /// What is there is not what was expected: others were faster, or it was done already.
    Conflict = 3,
    /// Nodes refused the revision, or could not read it.
    Refused = 4,
    /// Not every connected node serves the revision yet.
    Late = 5,
    /// What was written on the command line is wrong.
    Usage = 64,
    /// A policy, a keys file or a request is wrong.
    Data = 65,
    /// Nobody answers, or no model does at the moment.
    Unavailable = 69,
    /// A file or a stream cannot be read or written.
    Io = 74,
    /// Trying again makes sense.
    Again = 75,
    /// The key or token is missing or wrong.
    Denied = 77,
    /// By Ctrl-C: 128 and the signal's number.
    Interrupted = 130,
    /// By a closed pipe: 128 and the signal's number.
    Pipe = 141,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

impl Serialize for Exit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(*self as u8)
    }
}

/// How a command speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

/// Why a command did not do what it was told.
#[derive(Debug, Serialize)]
pub(crate) struct Failure {
    #[serde(rename = "exit_code")]
    pub(crate) exit: Exit,
    /// A sentence.
    pub(crate) message: String,
    /// Its particulars, such as each field that is wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) details: Vec<String>,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
    /// What a node said of it.
    #[serde(flatten)]
    pub(crate) refusal: Option<Box<Refusal>>,
}

/// What a node said of a failure.
#[derive(Debug, Serialize)]
pub(crate) struct Refusal {
    /// Its stable word.
    pub(crate) reason: Option<String>,
    /// Id of the request.
    pub(crate) request_id: Option<String>,
    /// When trying again makes sense, in milliseconds.
    pub(crate) retry_after_ms: Option<u64>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Failure { exit, message: message.into(), details: Vec::new(), next: None, refusal: None }
    }

    /// The command line is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Failure::new(Exit::Usage, message)
    }

    /// A file cannot be read or written.
    pub(crate) fn io(what: impl fmt::Display, error: &io::Error) -> Self {
        Failure::new(Exit::Io, format!("{what}: {error}"))
    }

    pub(crate) fn details(mut self, details: Vec<String>) -> Self {
        self.details = details;
        self
    }

    /// What to do next.
    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

/// Standard output cannot be written.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::new(Exit::Pipe, "whoever read the output went away"),
            _ => Failure::io("the output cannot be written", &error),
        }
    }
}

/// Where commands speak.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    format: Format,
}

impl Output {
    pub(crate) fn new(format: Format) -> Self {
        Output { format }
    }

    /// For programs.
    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// Writes text to standard output as it is.
    pub(crate) fn text(self, text: impl fmt::Display) -> Result<(), Failure> {
        let mut out = anstream::stdout().lock();
        write!(out, "{text}")?;
        Ok(out.flush()?)
    }

    /// Writes one JSON document to standard output, on one line.
    pub(crate) fn json(self, document: &impl Serialize) -> Result<(), Failure> {
        let mut line = serde_json::to_vec(document).map_err(io::Error::other)?;
        line.push(b'\n');
        let mut out = io::stdout().lock();
        out.write_all(&line)?;
        Ok(out.flush()?)
    }

    /// Writes a line to standard error, unless a program listens.
    pub(crate) fn note(self, line: impl fmt::Display) {
        if !self.is_json() {
            // Nobody is left to tell that nobody listens.
            let _ = writeln!(anstream::stderr().lock(), "{line}");
        }
    }

    /// Tells a failure on standard error; gives the code to end with.
    pub(crate) fn failure(self, failure: &Failure) -> Exit {
        // Where the reader has gone, the others of the pipe need no word about it.
        if failure.exit != Exit::Pipe {
            let told = match self.format {
                Format::Json => format!("{}\n", serde_json::json!({ "error": failure })),
                Format::Text => failure.to_string(),
            };
            let _ = anstream::stderr().lock().write_all(told.as_bytes());
        }
        failure.exit
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{ERROR}error{ERROR:#}: {}", printable(&self.message))?;
        self.details.iter().try_for_each(|detail| writeln!(f, "  {}", printable(detail)))?;
        if let Some(refusal) = &self.refusal {
            let reason = refusal.reason.as_deref().map(|reason| format!("reason {}", printable(reason)));
            let request = refusal.request_id.as_deref().map(|id| format!("request {}", printable(id)));
            let retry = refusal.retry_after_ms.map(|ms| format!("retry after {:?}", Duration::from_millis(ms)));
            let facts: Vec<String> = [reason, request, retry].into_iter().flatten().collect();
            if !facts.is_empty() {
                writeln!(f, "  {DIM}{}{DIM:#}", facts.join(", "))?;
            }
        }
        match &self.next {
            Some(next) => writeln!(f, "{STRONG}next{STRONG:#}: {next}"),
            None => Ok(()),
        }
    }
}

/// Text of somebody else's, such as a model's, made harmless: what could steer a terminal is shown and not obeyed.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let steers = |c: char| c.is_control() && c != '\n' && c != '\t';
    if text.contains(steers) {
        Cow::Owned(text.chars().map(|c| if steers(c) { '\u{fffd}' } else { c }).collect())
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_code_is_documented() {
        use Exit::{
            Again, Conflict, Data, Denied, Failed, Interrupted, Io, Late, Pipe, Refused, Success, Unavailable, Usage,
        };
        let documented: Vec<u8> =
            EXITS.lines().skip(1).map(|line| line.split_whitespace().next().unwrap().parse().unwrap()).collect();
        let codes =
            [Success, Failed, Conflict, Refused, Late, Usage, Data, Unavailable, Io, Again, Denied, Interrupted, Pipe];
        assert_eq!(documented, codes.map(|exit| exit as u8));
    }

    #[test]
    fn what_steers_a_terminal_is_shown_and_not_obeyed() {
        assert_eq!(printable("a\n\tb"), "a\n\tb");
        assert_eq!(printable("a\u{1b}[2Jb\r\u{9b}c"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}c");
    }

    #[test]
    fn a_failure_says_what_to_do_next() {
        let refusal = Refusal {
            reason: Some("THROTTLED".to_owned()),
            request_id: Some("00ff".to_owned()),
            retry_after_ms: Some(1500),
        };
        let failure = Failure {
            refusal: Some(Box::new(refusal)),
            ..Failure::new(Exit::Again, "No.").details(vec!["a".to_owned()]).next("wait")
        };
        let plain = anstream::adapter::strip_str(&failure.to_string()).to_string();
        assert_eq!(plain, "error: No.\n  a\n  reason THROTTLED, request 00ff, retry after 1.5s\nnext: wait\n");
        let json = serde_json::to_string(&failure).unwrap();
        let expected = r#"{"exit_code":75,"message":"No.","details":["a"],"next":"wait","reason":"THROTTLED","request_id":"00ff","retry_after_ms":1500}"#;
        assert_eq!(json, expected);
    }
}
