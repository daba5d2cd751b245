//! Encoded messages, field by field, without knowing what they mean.

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// These bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// One field of an encoded message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part<'b> {
    pub(crate) number: u32,
    pub(crate) value: Raw<'b>,
    /// The field as it stands, its key included.
    pub(crate) bytes: &'b [u8],
}

/// What a field holds, as far as the wire tells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Raw<'b> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    /// A text, bytes, a message, or many numbers.
    Bytes(&'b [u8]),
    /// A form of old that no field of ours has.
    Group,
}

/// The fields of a message in the order in which they stand. Ends after the first that is malformed.
#[derive(Clone, Debug)]
pub(crate) struct Parts<'b> {
    rest: &'b [u8],
}

/// The fields of an encoded message.
pub(crate) fn parts(bytes: &[u8]) -> Parts<'_> {
    Parts { rest: bytes }
}

impl<'b> Parts<'b> {
    fn take(&mut self) -> Result<Part<'b>, Malformed> {
        let whole = self.rest;
        let (number, wire) = decode_key(&mut self.rest).map_err(|_| Malformed)?;
        let value = match wire {
            WireType::Varint => Raw::Varint(decode_varint(&mut self.rest).map_err(|_| Malformed)?),
            WireType::SixtyFourBit => Raw::Fixed64(u64::from_le_bytes(self.fixed()?)),
            WireType::ThirtyTwoBit => Raw::Fixed32(u32::from_le_bytes(self.fixed()?)),
            WireType::LengthDelimited => {
                let length = decode_varint(&mut self.rest).map_err(|_| Malformed)?;
                let length = usize::try_from(length).map_err(|_| Malformed)?;
                let (value, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
                self.rest = rest;
                Raw::Bytes(value)
            }
            WireType::StartGroup => {
                skip_field(wire, number, &mut self.rest, DecodeContext::default()).map_err(|_| Malformed)?;
                Raw::Group
            }
            WireType::EndGroup => return Err(Malformed),
        };
        Ok(Part { number, value, bytes: &whole[..whole.len() - self.rest.len()] })
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (value, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*value)
    }
}

impl<'b> Iterator for Parts<'b> {
    type Item = Result<Part<'b>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let part = self.take();
        if part.is_err() {
            self.rest = &[];
        }
        Some(part)
    }
}

/// The numbers of a field that holds one or many.
pub(crate) fn varints(value: Raw<'_>) -> impl Iterator<Item = u64> {
    let (one, mut many): (_, &[u8]) = match value {
        Raw::Varint(number) => (Some(number), &[]),
        Raw::Bytes(bytes) => (None, bytes),
        _ => (None, &[]),
    };
    one.into_iter().chain(std::iter::from_fn(
        move || {
            if many.is_empty() { None } else { decode_varint(&mut many).ok() }
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_message_ends_and_never_panics() {
        fn check(bytes: &[u8], whole: usize, malformed: bool) {
            let parts: Vec<_> = parts(bytes).collect();
            assert_eq!(parts.iter().filter(|part| part.is_ok()).count(), whole, "{bytes:?}");
            assert_eq!(parts.last().is_some_and(Result::is_err), malformed, "{bytes:?}");
        }
        check(&[], 0, false);
        check(&[0x08, 0x01], 1, false);
        check(&[0x08], 0, true);
        check(&[0x00, 0x01], 0, true);
        check(&[0x0a, 0x02, b'a'], 0, true);
        check(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], 0, true);
        check(&[0x09, 1, 2, 3, 4, 5, 6, 7, 8, 0x0d, 1, 2, 3, 4], 2, false);
        check(&[0x09, 1, 2], 0, true);
        check(&[0x08, 0x01, 0x0d, 1], 1, true);
        // A group with a field inside it, one that never ends, and an end without a beginning.
        check(&[0x0b, 0x08, 0x01, 0x0c], 1, false);
        check(&[0x0b, 0x08, 0x01], 0, true);
        check(&[0x0c], 0, true);
        check(&[0x0b; 200], 0, true);
    }
}
