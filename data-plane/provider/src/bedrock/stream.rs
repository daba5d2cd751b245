//! The event stream of ConverseStream (`application/vnd.amazon.eventstream`): its frames read as events, and frames of
//! our own.
//!
//! Frames go to a Bedrock caller as they came, so what is read of them is a projection: which event each is, where its
//! payload stands, and of two kinds of event the few members that records need.

pub mod decode;
pub mod encode;
mod event;
mod frame;

pub use decode::Decoder;
pub use frame::Limits;

#[cfg(test)]
mod tests;
