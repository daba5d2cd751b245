//! A node and a fake Bedrock in one process, or a control plane and its nodes as processes, driven from outside.
//!
//! What is proved here is proved by clients that nobody here wrote: grpcio, boto3, the AWS SDKs for JavaScript and Rust;
//! and, where a client must misbehave, by hyper or by bare sockets. So no code of ours stands on the caller's side, and
//! what came back is read by other people's decoders. The tests themselves are in `tests/it`.
//!
//! A [`tower::Tower`] is started for each test, on ports that the system chooses, in the test's own runtime; a
//! [`fleet::Fleet`] where a control plane has a part in it, from the programs that operators start.

pub mod canary;
pub mod collector;
pub mod events;
pub mod fleet;
pub mod foreign;
pub mod load;
pub mod logs;
pub mod program;
pub mod tower;
pub mod upstream;
pub mod wire;

use std::time::Duration;

/// The longest that anything here may take: far beyond what it takes on a busy machine, and short enough for a hang to
/// be told as one.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until something is so, which nobody tells us of.
///
/// # Panics
/// It was not so within [`PATIENCE`].
pub async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let given_up = tokio::time::Instant::now() + PATIENCE;
    while !so() {
        assert!(tokio::time::Instant::now() < given_up, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
