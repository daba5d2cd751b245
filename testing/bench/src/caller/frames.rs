//! The frames of an event stream, read only as far as to know that the stream is complete.

use anyhow::bail;

/// Total length, length of the headers, checksum.
const PRELUDE: usize = 12;
/// Longer than any frame of the fake; beyond it bytes are no frames.
const LONGEST: usize = 1 << 20;

/// Takes bytes as they come, and counts.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// What came of a frame that is not complete yet.
    begun: Vec<u8>,
    /// Chunks of content.
    pub(super) chunks: u32,
    /// The last event has come.
    pub(super) is_complete: bool,
}

impl Frames {
    pub(super) fn take(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        if self.begun.is_empty() {
            let left = self.whole_frames(bytes)?;
            self.begun.extend_from_slice(left);
        } else {
            let mut joined = std::mem::take(&mut self.begun);
            joined.extend_from_slice(bytes);
            let left = self.whole_frames(&joined)?.len();
            joined.drain(..joined.len() - left);
            self.begun = joined;
        }
        Ok(())
    }

    /// Counts the frames that are there, and gives back what is left.
    fn whole_frames<'b>(&mut self, mut bytes: &'b [u8]) -> anyhow::Result<&'b [u8]> {
        while let Some((prelude, _)) = bytes.split_first_chunk::<PRELUDE>() {
            let number =
                |at: usize| u32::from_be_bytes([prelude[at], prelude[at + 1], prelude[at + 2], prelude[at + 3]]);
            let (total, headers) = (number(0) as usize, number(4) as usize);
            if total > LONGEST || total < PRELUDE + headers + 4 {
                bail!("the stream has a frame of {total} bytes with headers of {headers}");
            }
            if bytes.len() < total {
                break;
            }
            let (frame, rest) = bytes.split_at(total);
            self.count(&frame[PRELUDE..PRELUDE + headers])?;
            bytes = rest;
        }
        Ok(bytes)
    }

    fn count(&mut self, headers: &[u8]) -> anyhow::Result<()> {
        let says = |word: &[u8]| headers.windows(word.len()).any(|window| window == word);
        if says(b"contentBlockDelta") {
            self.chunks += 1;
        } else if says(b"metadata") {
            self.is_complete = true;
        } else if !says(b"event") || says(b"exception") {
            bail!("the stream broke: {}", String::from_utf8_lossy(headers));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(headers: &str) -> Vec<u8> {
        let total = (PRELUDE + headers.len() + 2 + 4) as u32;
        let mut frame = [total.to_be_bytes(), (headers.len() as u32).to_be_bytes(), [0; 4]].concat();
        frame.extend_from_slice(headers.as_bytes());
        frame.extend_from_slice(b"{}CRC.");
        frame
    }

    #[test]
    fn frames_are_counted_however_they_are_cut() {
        let names = ["messageStart event", "contentBlockDelta event", "contentBlockDelta event", "metadata event"];
        let stream: Vec<u8> = names.iter().flat_map(|name| frame(name)).collect();
        for piece in 1..=stream.len() {
            let mut frames = Frames::default();
            for bytes in stream.chunks(piece) {
                assert!(!frames.is_complete);
                frames.take(bytes).unwrap();
            }
            assert_eq!((frames.chunks, frames.is_complete), (2, true), "pieces of {piece}");
        }
    }

    #[test]
    fn a_stream_that_breaks_or_is_none_is_an_error() {
        let check = |bytes: &[u8]| assert!(Frames::default().take(bytes).is_err(), "{bytes:?}");
        check(&frame("throttlingException exception"));
        check(&frame("InternalFailure error"));
        check(b"HTTP is no stream of events");
        check(&[0; PRELUDE]);
    }
}
