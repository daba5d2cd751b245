//! What every command that asks the control plane has in common: where it is, as whom it asks, and what to do where it
//! is refused.

use std::{error::Error as _, path::PathBuf};

use switchtower_client::control::{Client, Error, Options, Refusal, Violation, wire::ListEnvironmentsRequest};
use switchtower_data_plane::sync::check_url;

use crate::output::{self, Exit, Failure};

/// Where the control plane is, and as whom to ask.
#[derive(Debug, clap::Args)]
pub(crate) struct Connection {
    /// Where the control plane is.
    #[arg(
        long,
        env = "SWITCHTOWER_CONTROL_PLANE",
        value_name = "URL",
        default_value = "http://127.0.0.1:7070",
        help_heading = "Control plane"
    )]
    control_plane: String,
    /// File that holds an operator's token; without it, the token is what SWITCHTOWER_TOKEN says.
    #[arg(long, env = "SWITCHTOWER_TOKEN_FILE", value_name = "FILE", help_heading = "Control plane")]
    token_file: Option<PathBuf>,
    /// Certificates (PEM) to trust instead of the system's.
    #[arg(long, env = "SWITCHTOWER_CA", value_name = "FILE", help_heading = "Control plane")]
    ca: Option<PathBuf>,
    /// Take http:// to another host: for a control plane behind something that ends TLS.
    #[arg(long, env = "SWITCHTOWER_PLAINTEXT", help_heading = "Control plane")]
    plaintext: bool,
    /// Name that is recorded with changes; without it, the token's own.
    #[arg(long, env = "SWITCHTOWER_AUTHOR", value_name = "NAME", help_heading = "Control plane")]
    author: Option<String>,
}

/// Which environment is meant.
#[derive(Debug, clap::Args)]
pub(crate) struct Environment {
    /// Environment, such as prod.
    #[arg(long = "environment", short = 'e', env = "SWITCHTOWER_ENVIRONMENT", value_name = "NAME")]
    pub(crate) name: String,
}

impl Connection {
    /// Connects.
    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        check_url(&self.control_plane, self.plaintext).map_err(Failure::usage)?;
        let mut options =
            Options::new(&self.control_plane).user_agent(concat!("switchtower-cli/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = self.token()? {
            options = options.token(token);
        }
        if let Some(author) = &self.author {
            options = options.author(author);
        }
        if let Some(ca) = &self.ca {
            let pem = std::fs::read_to_string(ca).map_err(|error| Failure::io(ca.display(), &error))?;
            options = options.ca(pem);
        }
        // As build systems hand it to what they run.
        if let Some(traceparent) = set("TRACEPARENT") {
            options = options.traceparent(traceparent);
        }
        Client::connect(options).await.map_err(|error| self.failure(&error))
    }

    fn token(&self) -> Result<Option<String>, Failure> {
        let Some(file) = &self.token_file else { return Ok(set("SWITCHTOWER_TOKEN")) };
        let text = std::fs::read_to_string(file).map_err(|error| Failure::io(file.display(), &error))?;
        match text.trim() {
            "" => Err(Failure::usage(format!("--token-file {} is empty", file.display()))
                .next("put an operator's token into it, on one line")),
            token => Ok(Some(token.to_owned())),
        }
    }

    /// A refusal as a failure that says what to do next.
    pub(crate) fn failure(&self, error: &Error) -> Failure {
        let mut failure = Failure::new(exit(error.refusal()), self.message(error)).details(details(error.refusal()));
        failure.next = self.next(error.refusal());
        if let Some(reason) = error.reason() {
            let reason = Some(reason.to_owned());
            failure.refusal = Some(Box::new(output::Refusal { reason, request_id: None, retry_after_ms: None }));
        }
        failure
    }

    fn message(&self, error: &Error) -> String {
        let connection = matches!(error.refusal(), Refusal::Unavailable | Refusal::DeadlineExceeded);
        if !connection || error.reason().is_some() {
            return error.to_string();
        }
        // The control plane did not say it: the innermost cause is what the system says.
        let mut cause = error.source();
        while let Some(deeper) = cause.and_then(|cause| cause.source()) {
            cause = Some(deeper);
        }
        let at = &self.control_plane;
        match cause {
            Some(cause) => format!("{error} at {at}: {cause}"),
            None => format!("{error} at {at}"),
        }
    }

    fn next(&self, refusal: &Refusal) -> Option<String> {
        let next = match refusal {
            Refusal::Options => "correct --control-plane, --token-file, --ca or --author",
            Refusal::HeadMoved { .. } => "look at what changed (`switchtower diff`), and try again",
            Refusal::PolicyInvalid { .. } => "correct the policy; this control plane may know less than this program",
            Refusal::NodesCannotRead { .. } => "update these nodes, or leave out what they do not know",
            Refusal::RolledBack => "find out why it was rolled back (`switchtower history`); --again applies it anyway",
            Refusal::NoRevision => "`switchtower history` tells which revisions there are",
            Refusal::NothingToRollBack => "`switchtower history` tells which revision is assigned",
            Refusal::KeyInvalid => "correct --caller or --expires",
            Refusal::NoKey => "`switchtower key list` tells which keys there are",
            Refusal::NotLive => "it lets nobody in any more: `switchtower key new` makes another",
            Refusal::Rotating => "use the key that it was rotated to; `switchtower key list` tells which",
            Refusal::NoAssignment => "`switchtower history` tells what was applied",
            Refusal::Unauthenticated if self.token_file.is_none() && set("SWITCHTOWER_TOKEN").is_none() => {
                "give an operator's token: --token-file FILE, or SWITCHTOWER_TOKEN"
            }
            Refusal::Unauthenticated => "check the token: it may be mistyped, withdrawn, or not for this",
            Refusal::Unavailable => {
                "check --control-plane (or SWITCHTOWER_CONTROL_PLANE) and that a control plane runs there"
            }
            Refusal::TryAgain => "try again",
            Refusal::DeadlineExceeded => "try again; if it stays so, look at the control plane's log",
            Refusal::Invalid { .. } => "correct what was written",
            _ => return None,
        };
        Some(next.to_owned())
    }

    /// A refusal of something that changes, of which it may not be known whether it was done.
    pub(crate) fn failure_of_change(&self, error: &Error) -> Failure {
        let failure = self.failure(error);
        if !error.may_have_happened() {
            return failure;
        }
        failure.next(
            "it may have been done although no answer came: look (`switchtower history`, `switchtower key list`) \
             before you do it again",
        )
    }
}

/// The revision that nodes of an environment should serve: what is compared with and applied upon. After a rollback it is
/// not the newest. 0: none is.
pub(crate) async fn assigned(client: &Client, environment: &str) -> Result<u64, Error> {
    let environments = client.list_environments(ListEnvironmentsRequest {}).await?.environments;
    let found = environments.into_iter().find(|known| known.name == environment);
    Ok(found.map_or(0, |known| known.assigned))
}

/// What an environment variable says, if it says anything.
fn set(name: &str) -> Option<String> {
    std::env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

fn exit(refusal: &Refusal) -> Exit {
    match refusal {
        Refusal::Options | Refusal::KeyInvalid => Exit::Usage,
        Refusal::HeadMoved { .. }
        | Refusal::RolledBack
        | Refusal::NothingToRollBack
        | Refusal::NotLive
        | Refusal::Rotating => Exit::Conflict,
        Refusal::PolicyInvalid { .. }
        | Refusal::Invalid { .. }
        | Refusal::NoRevision
        | Refusal::NoKey
        | Refusal::NoAssignment => Exit::Data,
        Refusal::NodesCannotRead { .. } => Exit::Refused,
        Refusal::Unauthenticated => Exit::Denied,
        Refusal::Unavailable => Exit::Unavailable,
        Refusal::DeadlineExceeded | Refusal::TryAgain => Exit::Again,
        _ => Exit::Failed,
    }
}

fn details(refusal: &Refusal) -> Vec<String> {
    match refusal {
        Refusal::PolicyInvalid { violations } | Refusal::Invalid { violations } => {
            violations.iter().map(violation).collect()
        }
        Refusal::NodesCannotRead { nodes, members } => {
            vec![format!("nodes: {}", nodes.join(", ")), format!("they do not know: {}", members.join(", "))]
        }
        _ => Vec::new(),
    }
}

fn violation(violation: &Violation) -> String {
    match violation.path.as_str() {
        "" => violation.message.clone(),
        path => format!("{path}: {}", violation.message),
    }
}
