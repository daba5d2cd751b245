//! Keys of callers: how they are made, what is kept of them, and the pepper that they are hashed under.
//!
//! The control plane makes keys, nodes check them, and the command line writes the files of a node without a control
//! plane: a crate of its own, because the planes do not depend on each other and all three must agree on every byte.

mod pepper;
mod private_file;
mod record;
mod strict;

use std::io;

pub use self::{
    pepper::{PEPPER_BYTES, Pepper, Peppers},
    record::{
        ACCESS_KEY_ID_PREFIX, BEARER_PREFIX, File, ID_LEN, Invalid, IssuedKey, KEY_RANDOM_BYTES, Record, SECRET_LEN,
        hashed, known_key, new_key, read_time, rfc3339, secret_access_key,
    },
};

/// Randomness fit for a key or a pepper.
///
/// # Errors
/// The system's generator has none.
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}
