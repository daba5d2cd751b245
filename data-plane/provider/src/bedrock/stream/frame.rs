//! One frame on the wire, all numbers big-endian:
//!
//! ```text
//! u32 length of the frame | u32 length of the headers | u32 CRC-32 of these 8 bytes | headers | payload
//! | u32 CRC-32 of all before
//! ```
//!
//! A header is a name (u8 length), a type (u8) and a value, whose length the type tells or precedes.

use std::ops::Range;

use smallvec::SmallVec;

/// Lengths and checksum before the headers.
pub(super) const PRELUDE: usize = 12;
/// Checksum behind the payload.
const CHECKSUM: usize = 4;
/// Type of a header whose value is a string.
pub(super) const STRING: u8 = 7;

/// Longest frame that is taken. Memory is never set aside for what a frame only announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of headers; 128 KiB, as the AWS SDKs take.
    pub headers: usize,
    /// Most bytes of payload; 24 MiB, as the AWS SDKs take.
    pub payload: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { headers: 128 << 10, payload: 24 << 20 }
    }
}

/// How bytes violate the framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Violation {
    #[error("The checksum of a frame's lengths is wrong.")]
    PreludeChecksum,
    #[error("The checksum of a frame is wrong.")]
    Checksum,
    #[error("The lengths of a frame contradict each other.")]
    Length,
    #[error("A frame is longer than is taken.")]
    TooLong,
    #[error("The headers of a frame cannot be read.")]
    Headers,
    #[error("A header of a frame stands twice.")]
    DuplicateHeader,
}

/// Lengths of a frame, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prelude {
    /// Length of the whole frame.
    pub(super) total: usize,
    headers: usize,
}

impl Prelude {
    /// The lengths of the frame that begins here; `None`: too few bytes are there.
    pub(super) fn read(bytes: &[u8], limits: &Limits) -> Result<Option<Self>, Violation> {
        let Some(([total, headers, checksum], _)) = bytes.split_first_chunk::<PRELUDE>().map(|(prelude, rest)| {
            let (words, _) = prelude.as_chunks::<4>();
            ([words[0], words[1], words[2]].map(u32::from_be_bytes), rest)
        }) else {
            return Ok(None);
        };
        if crc32fast::hash(&bytes[..8]) != checksum {
            return Err(Violation::PreludeChecksum);
        }
        let (total, headers) = (total as usize, headers as usize);
        let payload = total.checked_sub(PRELUDE + CHECKSUM).and_then(|rest| rest.checked_sub(headers));
        match payload {
            None => Err(Violation::Length),
            Some(payload) if payload > limits.payload || headers > limits.headers => Err(Violation::TooLong),
            Some(_) => Ok(Some(Prelude { total, headers })),
        }
    }

    /// Where the payload stands in the frame.
    pub(super) fn payload(&self) -> Range<usize> {
        PRELUDE + self.headers..self.total - CHECKSUM
    }

    /// The headers of the whole frame, its checksum checked.
    pub(super) fn headers<'a>(&self, frame: &'a [u8]) -> Result<Headers<'a>, Violation> {
        let (checked, checksum) = frame.split_last_chunk::<CHECKSUM>().ok_or(Violation::Length)?;
        if crc32fast::hash(checked) != u32::from_be_bytes(*checksum) {
            return Err(Violation::Checksum);
        }
        Headers::read(&frame[PRELUDE..PRELUDE + self.headers])
    }
}

/// The headers that say what a frame is; each is UTF-8 only by promise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Headers<'a> {
    /// `event`, `exception` or `error`.
    pub(super) message_type: Option<&'a [u8]>,
    pub(super) event_type: Option<&'a [u8]>,
    pub(super) exception_type: Option<&'a [u8]>,
    pub(super) content_type: Option<&'a [u8]>,
    pub(super) error_code: Option<&'a [u8]>,
    pub(super) error_message: Option<&'a [u8]>,
}

impl<'a> Headers<'a> {
    fn read(mut block: &'a [u8]) -> Result<Self, Violation> {
        let mut known = Headers::default();
        let mut others: SmallVec<[&[u8]; 4]> = SmallVec::new();
        while !block.is_empty() {
            let header = header(&mut block).ok_or(Violation::Headers)?;
            let slot = match header.name {
                b":event-type" => &mut known.event_type,
                b":content-type" => &mut known.content_type,
                b":message-type" => &mut known.message_type,
                b":exception-type" => &mut known.exception_type,
                b":error-code" => &mut known.error_code,
                b":error-message" => &mut known.error_message,
                _ => {
                    others.push(header.name);
                    continue;
                }
            };
            if header.kind != STRING {
                return Err(Violation::Headers);
            }
            if slot.replace(header.value).is_some() {
                return Err(Violation::DuplicateHeader);
            }
        }
        // Sorted, because comparing each with each would let one frame of 40 000 headers cost seconds.
        others.sort_unstable();
        if others.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Violation::DuplicateHeader);
        }
        Ok(known)
    }
}

/// A header as it stands.
struct Header<'a> {
    name: &'a [u8],
    kind: u8,
    value: &'a [u8],
}

/// Takes the first header off a block; `None`: what stands there is none.
fn header<'a>(block: &mut &'a [u8]) -> Option<Header<'a>> {
    let (length, rest) = block.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    let (kind, rest) = rest.split_first()?;
    let (length, rest) = match kind {
        // True and false.
        0 | 1 => (0, rest),
        // Integers of 8, 16, 32 and 64 bits.
        2 => (1, rest),
        3 => (2, rest),
        4 => (4, rest),
        5 => (8, rest),
        // Bytes and string.
        6 | 7 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        // Timestamp and UUID.
        8 => (8, rest),
        9 => (16, rest),
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(length)?;
    *block = rest;
    (!name.is_empty()).then_some(Header { name, kind: *kind, value })
}
