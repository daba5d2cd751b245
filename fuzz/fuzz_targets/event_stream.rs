//! Whatever comes as an event stream and however it is cut, it gives the same events and the same end.
//!
//! The first byte of the input says how the rest is cut. Checksums would keep a fuzzer from ever getting past a frame's
//! first bytes, so the second byte may ask to have those of each frame put right first.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use switchtower_provider::{
    Failure, Kind,
    bedrock::stream::{Decoder, Limits},
};

/// Small, so that frames beyond them are found soon.
const LIMITS: Limits = Limits { headers: 1 << 10, payload: 4 << 10 };

fuzz_target!(|input: &[u8]| {
    let [cut, repair, stream @ ..] = input else { return };
    let mut stream = stream.to_vec();
    if *repair & 1 == 1 {
        repair_checksums(&mut stream);
    }
    let whole = decode([&stream[..]]);
    let piece = usize::from(*cut) + 1;
    assert_eq!(decode(stream.chunks(piece)), whole);
    let (head, tail) = stream.split_at(stream.len().min(piece));
    assert_eq!(decode([head, tail]), whole);
});

type Decoded = (Vec<(Kind, Bytes, Bytes)>, Result<usize, Failure>);

fn decode<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
    let mut decoder = Decoder::new(LIMITS);
    let mut events = Vec::new();
    for chunk in chunks {
        decoder.push(Bytes::copy_from_slice(chunk));
        loop {
            match decoder.next() {
                Ok(Some(batch)) => {
                    let mut end = 0;
                    for event in batch.events {
                        assert_eq!(event.frame.start, end);
                        end = event.frame.end;
                        events.push((event.kind, batch.bytes.slice(event.frame), batch.bytes.slice(event.payload)));
                    }
                    assert!(end > 0 && end == batch.bytes.len());
                }
                Ok(None) => break,
                Err(failure) => return (events, Err(failure)),
            }
        }
    }
    (events, Ok(decoder.buffered()))
}

/// Puts right the checksums of the frames that the lengths tell of.
fn repair_checksums(mut stream: &mut [u8]) {
    while let Some(prelude) = stream.first_chunk_mut::<12>() {
        let total = u32::from_be_bytes([prelude[0], prelude[1], prelude[2], prelude[3]]) as usize;
        let checksum = crc32fast::hash(&prelude[..8]);
        prelude[8..].copy_from_slice(&checksum.to_be_bytes());
        if total < 16 || total > stream.len() {
            return;
        }
        let (frame, rest) = stream.split_at_mut(total);
        let checksum = crc32fast::hash(&frame[..total - 4]);
        frame[total - 4..].copy_from_slice(&checksum.to_be_bytes());
        stream = rest;
    }
}
