//! Calls Switchtower from Rust: "answer this, as `support-chat`".
//!
//! A client holds one connection, a credential and no routing logic: which model answers, where, and what happens when
//! one fails is decided by the nodes. It adds what a caller needs and gRPC leaves open: a deadline that is sent *and*
//! kept, a trace context on every call, streams that cannot end early unnoticed, and errors in words.
//!
//! Operators' calls, to the control plane, are in [`control`].
//!
//! It does not retry: a node has tried every target that the policy allows, and a retry on top multiplies that. Where
//! trying again makes sense, [`Error::retry_after`] says when.
//!
//! ```no_run
//! use std::time::Duration;
//! use futures_util::StreamExt;
//! use switchtower_client::{CallOptions, Client, Event, Options, Request, text, wire::block_delta::Delta};
//!
//! # async fn example() -> Result<(), switchtower_client::Error> {
//! let client = Client::connect(Options::new("https://switchtower.example.com:8443").api_key("st_...")).await?;
//!
//! let request = Request::text("support-chat", "Where is my parcel?").system("Be brief.").metadata("session", "s-17");
//! let answer = client.generate(request.clone(), CallOptions::new().deadline(Duration::from_secs(30))).await?;
//! println!("{}", text(&answer));
//!
//! let mut events = client.stream(request, CallOptions::new().deadline(Duration::from_secs(60))).await?;
//! while let Some(event) = events.next().await {
//!     match event? {
//!         Event::BlockDelta(delta) => {
//!             if let Some(Delta::Text(text)) = delta.delta {
//!                 print!("{text}");
//!             }
//!         }
//!         Event::End(end) => println!("\nserved by {}", end.served.unwrap_or_default().target),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod call;
mod client;
pub mod control;
mod error;
mod request;
mod stream;
mod transport;

pub use call::CallOptions;
pub use client::{Client, Options};
pub use error::{Error, FieldViolation, Kind};
pub use request::{Request, text};
pub use stream::Events;
pub use switchtower_proto::inference::v1 as wire;
pub use switchtower_proto::inference::v1::generate_stream_response::Event;
