//! A node's half of the stream to the control plane: receive -> compile -> swap -> ACK or NACK.
//!
//! An update, in file order: [`stream`] takes it off the wire and [`parts`] puts it together, [`state`] says what it
//! means, [`apply`] compiles it aside, swaps it into [`crate::current`], keeps it on disk
//! ([`crate::last_known_good`]) and answers. What serves is swapped last and whole, so that whatever goes wrong before
//! leaves what served before.
//!
//! Nothing of a request depends on this: a node whose control plane is gone serves what it holds, for ever. A node that
//! starts without one begins with its last known good, which is loaded before the first connection is tried.

mod apply;
mod aside;
mod backoff;
mod channel;
mod follow;
mod keys;
mod parts;
mod ring;
mod state;
mod status;
mod stream;

use std::{fmt, path::PathBuf, time::Duration};

use switchtower_keys::Peppers;

pub use self::{
    channel::check_url,
    follow::{Sync, open},
    keys::Keys,
    state::{Decision, Digest, Judged, Refusal, Served, State},
    status::{Boot, Connected, Refused, Seen, Status},
};

/// Where a node with a control plane has everything from.
#[derive(Clone, Debug)]
pub struct Options {
    /// URLs of the control plane's replicas, at least one; the node has a stream to one of them at a time.
    pub endpoints: Vec<String>,
    /// Certificate authority of the control plane, PEM. `None`: those that the system trusts.
    pub ca: Option<Vec<u8>>,
    /// The environment that this node serves.
    pub environment: String,
    /// The node's name in the fleet: 1 to 128 characters of `[a-zA-Z0-9._-]`, beginning with a letter or a digit.
    pub node_id: String,
    /// Folder of the last known good. One process has it.
    pub data: PathBuf,
    /// What the node shows the control plane.
    pub token: Token,
    /// The peppers that callers' keys are hashed under.
    pub pepper: PepperSource,
    /// How often and how long.
    pub pace: Pace,
}

/// What a node shows the control plane.
#[derive(Clone)]
pub enum Token {
    /// A file that holds it, read at every connection: a token that was replaced holds from the next one on.
    File(PathBuf),
    /// This one.
    Fixed(String),
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::File(path) => f.debug_tuple("File").field(path).finish(),
            Token::Fixed(_) => f.write_str("Fixed((hidden))"),
        }
    }
}

/// Where the peppers come from.
#[derive(Clone, Debug)]
pub enum PepperSource {
    /// A file, read again when it changes.
    File(PathBuf),
    /// These, for ever.
    Fixed(Peppers),
}

/// How often and how long. Its default is what production runs.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between two heartbeats of this node.
    pub heartbeat: Duration,
    /// A control plane that says nothing for so long is gone.
    pub silence: Duration,
    /// The first wait before coming back is below this; it doubles.
    pub first_wait: Duration,
    /// The longest wait before coming back.
    pub longest_wait: Duration,
    /// A node that has something to serve comes at a moment within this after its start: a fleet that is started at once
    /// does not come at once.
    pub start_within: Duration,
    /// A content that served for so long did not end the process.
    pub proven_after: Duration,
    /// A policy that is not compiled by then will not be.
    pub compile_within: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            heartbeat: Duration::from_secs(15),
            silence: Duration::from_secs(45),
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(30),
            start_within: Duration::from_secs(2),
            proven_after: Duration::from_secs(10),
            compile_within: Duration::from_secs(30),
        }
    }
}
