//! One generation as bytes: a head that says what follows and a digest over all of it, then the body.
//!
//! Nothing of a file is believed before its digest is: a file that was cut, that a disk changed, or that another program
//! wrote does not load, whole or in part.

use aws_lc_rs::digest;
use prost::Message;
use switchtower_policy::items;
use switchtower_proto::{policy::v1::Item, sync::v1::KeyRecord};

use super::Generation;
use crate::sync::{Keys, Served};

/// What every file begins with. The line end in it tells a file that was taken for text on its way.
const MAGIC: &[u8; 8] = b"SWT-LKG\n";
/// Version of the form. Another one is not read: a node that was set back waits for the control plane instead.
const VERSION: u32 = 1;
/// Magic, version, length of the body, and the digest over these three and the body.
const HEAD: usize = 8 + 4 + 8 + 32;
/// Longest file that is read or written: a policy of 4 MiB, and half a million keys.
pub(super) const MAX_BYTES: usize = 64 << 20;

/// The body. Fields are added and never change their meaning; what an older program does not know it does not keep.
#[derive(Clone, PartialEq, Message)]
struct Body {
    /// Which file is the newer.
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(string, tag = "2")]
    environment: String,
    #[prost(string, tag = "3")]
    epoch: String,
    #[prost(uint64, tag = "4")]
    assignment: u64,
    #[prost(uint64, tag = "5")]
    revision: u64,
    #[prost(bytes = "vec", tag = "6")]
    content_digest: Vec<u8>,
    /// In the bytes in which they came.
    #[prost(message, repeated, tag = "7")]
    items: Vec<Item>,
    #[prost(string, tag = "8")]
    keys_epoch: String,
    #[prost(uint64, tag = "9")]
    keys_version: u64,
    #[prost(message, repeated, tag = "10")]
    keys: Vec<KeyRecord>,
}

/// Why bytes are no generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Damaged {
    #[error("it is not a file of this program")]
    Foreign,
    #[error("it was written by a program that writes another form")]
    OtherVersion,
    #[error("it was cut, or something was added to it")]
    Length,
    #[error("its digest does not fit: it was changed")]
    Digest,
    #[error("its body says nothing that could be served")]
    Body,
}

/// The bytes of a generation.
pub(super) fn write(generation: &Generation, number: u64) -> Vec<u8> {
    let Generation { environment, served, keys } = generation;
    let body = Body {
        number,
        environment: environment.clone(),
        epoch: served.epoch.clone(),
        assignment: served.assignment,
        revision: served.revision,
        content_digest: served.digest.to_vec(),
        items: served.items.to_vec(),
        keys_epoch: keys.epoch.clone(),
        keys_version: keys.version,
        keys: keys.records().cloned().collect(),
    };
    let length = body.encoded_len();
    let mut bytes = Vec::with_capacity(HEAD + length);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&(length as u64).to_be_bytes());
    bytes.extend_from_slice(&[0; 32]);
    body.encode_raw(&mut bytes);
    let digest = sealed(&bytes);
    bytes[HEAD - 32..HEAD].copy_from_slice(&digest);
    bytes
}

/// The generation and its number.
pub(super) fn read(bytes: &[u8]) -> Result<(u64, Generation), Damaged> {
    let (magic, rest) = bytes.split_first_chunk::<8>().ok_or(Damaged::Foreign)?;
    let (version, rest) = rest.split_first_chunk::<4>().ok_or(Damaged::Length)?;
    let (length, rest) = rest.split_first_chunk::<8>().ok_or(Damaged::Length)?;
    let (digest, body) = rest.split_first_chunk::<32>().ok_or(Damaged::Length)?;
    if magic != MAGIC {
        return Err(Damaged::Foreign);
    }
    if u32::from_be_bytes(*version) != VERSION {
        return Err(Damaged::OtherVersion);
    }
    if u64::from_be_bytes(*length) != body.len() as u64 {
        return Err(Damaged::Length);
    }
    if sealed(bytes) != *digest {
        return Err(Damaged::Digest);
    }
    let body = Body::decode(body).map_err(|_| Damaged::Body)?;
    let digest = body.content_digest.as_slice().try_into().map_err(|_| Damaged::Body)?;
    if items::digest(&body.items) != digest {
        return Err(Damaged::Body);
    }
    let served = Served {
        epoch: body.epoch,
        assignment: body.assignment,
        revision: body.revision,
        digest,
        items: body.items.into(),
    };
    let keys = Keys::kept(body.keys_epoch, body.keys_version, body.keys);
    Ok((body.number, Generation { environment: body.environment, served, keys }))
}

/// The digest over a file without the digest in it. `bytes` are at least a head.
fn sealed(bytes: &[u8]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&bytes[..HEAD - 32]);
    context.update(&bytes[HEAD..]);
    context.finish().as_ref().try_into().expect("SHA-256 is 32 bytes long")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generation() -> Generation {
        let items: Vec<Item> = (0..20u8)
            .map(|number| Item {
                kind: "route".to_owned(),
                name: format!("r{number:02}"),
                body: vec![number; 40].into(),
            })
            .collect();
        let served = Served {
            epoch: "epoch".to_owned(),
            assignment: 12,
            revision: 9,
            digest: items::digest(&items),
            items: items.into(),
        };
        let key = KeyRecord { id: "A".repeat(16), hash: vec![7; 32].into(), ..KeyRecord::default() };
        Generation { environment: "prod".to_owned(), served, keys: Keys::kept("epoch".to_owned(), 4, vec![key]) }
    }

    #[test]
    fn what_was_written_is_read() {
        let bytes = write(&generation(), 7);
        assert_eq!(read(&bytes), Ok((7, generation())));
    }

    #[test]
    fn a_file_that_was_cut_at_any_length_or_grew_is_none() {
        let bytes = write(&generation(), 7);
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).is_err(), "{length}");
        }
        assert_eq!(read(&[&bytes[..], b"x"].concat()), Err(Damaged::Length));
        assert!(read(&vec![0; bytes.len()]).is_err());
    }

    #[test]
    fn a_file_with_any_bit_flipped_is_none() {
        // All of them: the file is small.
        let bytes = write(&generation(), 7);
        let mut flipped = 0;
        for place in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[place] ^= 1 << bit;
                assert!(read(&changed).is_err(), "byte {place}, bit {bit}");
                flipped += 1;
            }
        }
        assert!(flipped > 2000, "{flipped}");
    }

    #[test]
    fn what_is_sealed_and_says_nonsense_is_none() {
        let resealed = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = write(&generation(), 7);
            change(&mut bytes);
            let digest = sealed(&bytes);
            bytes[HEAD - 32..HEAD].copy_from_slice(&digest);
            read(&bytes).unwrap_err()
        };
        assert_eq!(resealed(&|bytes| bytes[11] = 2), Damaged::OtherVersion);
        assert_eq!(resealed(&|bytes| bytes[0] = b's'), Damaged::Foreign);
        assert_eq!(resealed(&|bytes| bytes[HEAD] = 0xff), Damaged::Body);
        let mut other = generation();
        other.served.digest = [0; 32];
        assert_eq!(read(&write(&other, 7)), Err(Damaged::Body));
    }
}
