//! Bytes of an event stream, however they were cut on their way, to batches of events.
//!
//! What arrives together leaves together: the whole frames of a chunk become one batch that shares the chunk's memory.
//! Only a frame that was cut is copied, once, and it costs the memory of what has come of it, never of what it announces.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use super::{
    event,
    frame::{Limits, PRELUDE, Prelude},
};
use crate::{Batch, Event, Failure};

/// Reads one event stream.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    /// Chunks that were not looked at.
    chunks: VecDeque<Bytes>,
    /// The beginning of a frame whose end has not come.
    pub(super) cut: BytesMut,
    /// How long `cut` must be before it is worth looking at again; so each byte is looked at a bounded number of times,
    /// whatever pieces they come in.
    wanted: usize,
    /// What ended the stream.
    failure: Option<Failure>,
    /// Bytes copied or summed so far.
    #[cfg(test)]
    pub(super) work: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder::new(Limits::default())
    }
}

impl Decoder {
    /// A decoder at the start of a stream.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Decoder {
            limits,
            chunks: VecDeque::new(),
            cut: BytesMut::new(),
            wanted: PRELUDE,
            failure: None,
            #[cfg(test)]
            work: 0,
        }
    }

    /// Takes the next bytes of the stream, as many as came.
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() && self.failure.is_none() {
            self.chunks.push_back(chunk);
        }
    }

    /// The next events: of one pushed chunk all whose frames are complete. `None`: push more first.
    ///
    /// # Errors
    /// The error that Bedrock sent or how the bytes violate the framing, after the events before it. It ends the stream:
    /// what comes behind it is not read, and asking again gives the same error.
    #[expect(clippy::should_implement_trait, reason = "an iterator that ends may not go on after another push")]
    pub fn next(&mut self) -> Result<Option<Batch>, Failure> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        while let Some(chunk) = self.chunks.pop_front() {
            let bytes = if self.cut.is_empty() {
                chunk
            } else {
                #[cfg(test)]
                {
                    self.work += chunk.len();
                }
                self.cut.extend_from_slice(&chunk);
                if self.cut.len() < self.wanted {
                    continue;
                }
                std::mem::take(&mut self.cut).freeze()
            };
            if let Some(batch) = self.frames(bytes) {
                return Ok(Some(batch));
            }
            if let Some(failure) = &self.failure {
                return Err(failure.clone());
            }
        }
        Ok(None)
    }

    /// How many bytes wait for the end of their frame, or for [`Decoder::next`]: with none, the stream may end here.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.cut.len() + self.chunks.iter().map(Bytes::len).sum::<usize>()
    }

    /// Nothing waits: a connection that ends now ends between two frames.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cut.is_empty() && self.chunks.is_empty()
    }

    /// The whole frames at the start of `bytes`; keeps what is left, and the failure if there is one.
    fn frames(&mut self, bytes: Bytes) -> Option<Batch> {
        let mut events = SmallVec::new();
        let mut at = 0;
        loop {
            match self.frame(&bytes, at) {
                Ok(Some(event)) => {
                    at = event.frame.end;
                    events.push(event);
                }
                Ok(None) => {
                    #[cfg(test)]
                    {
                        self.work += bytes.len() - at;
                    }
                    self.cut = BytesMut::from(&bytes[at..]);
                    break;
                }
                Err(failure) => {
                    self.failure = Some(failure);
                    self.chunks.clear();
                    break;
                }
            }
        }
        (!events.is_empty()).then(|| Batch { bytes: bytes.slice(..at), events })
    }

    /// The frame that begins at `at`; `None`: it is not complete.
    fn frame(&mut self, bytes: &[u8], at: usize) -> Result<Option<Event>, Failure> {
        let rest = &bytes[at..];
        let Some(prelude) = Prelude::read(rest, &self.limits)? else {
            self.wanted = PRELUDE;
            return Ok(None);
        };
        let Some(frame) = rest.get(..prelude.total) else {
            self.wanted = prelude.total;
            return Ok(None);
        };
        #[cfg(test)]
        {
            self.work += frame.len();
        }
        let headers = prelude.headers(frame)?;
        let payload = prelude.payload();
        let kind = event::read(&headers, &frame[payload.clone()])?;
        Ok(Some(Event { frame: at..at + prelude.total, payload: at + payload.start..at + payload.end, kind }))
    }
}
