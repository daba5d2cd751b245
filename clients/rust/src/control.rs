//! Calls the control plane: policies, keys, the fleet, events.
//!
//! A thin client, as [`crate::Client`] is for applications: it adds a deadline that is sent *and* kept, who is asking and
//! why it may, a trace context on every call, streams that cannot end early unnoticed, and refusals as values
//! ([`Refusal`]) in place of statuses. Messages are the generated ones ([`wire`], [`policy`]).
//!
//! It does not retry: of a call that changes something and got no answer nobody here can know whether it was done
//! ([`Error::may_have_happened`]).
//!
//! ```no_run
//! use switchtower_client::control::{Client, Options, Refusal, wire::GetRevisionRequest};
//!
//! # async fn example() -> Result<(), switchtower_client::control::Error> {
//! let options = Options::new("https://control.example.com:7070").token("swo_...").author("ada");
//! let client = Client::connect(options).await?;
//! let head = GetRevisionRequest { environment: "prod".to_owned(), number: 0 };
//! match client.get_revision(head).await {
//!     Ok(answer) => println!("{} items", answer.items.len()),
//!     Err(error) if *error.refusal() == Refusal::NoRevision => println!("nothing was applied yet"),
//!     Err(error) => return Err(error),
//! }
//! # Ok(())
//! # }
//! ```

mod client;
mod error;
mod options;
mod updates;

pub use switchtower_proto::{control::v1 as wire, policy::v1 as policy};

pub use self::{
    client::Client,
    error::{Error, Refusal, Violation},
    options::Options,
    updates::Updates,
};
