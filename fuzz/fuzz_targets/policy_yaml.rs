//! Whatever stands in a policy file, loading it ends with a snapshot or with violations: no panic, no endless work.
#![no_main]

use libfuzzer_sys::fuzz_target;
use switchtower_policy::File;

fuzz_target!(|bytes: &[u8]| {
    let file = File { name: "policy.yaml".into(), bytes: bytes.to_vec() };
    let _ = switchtower_policy::load(&[file]);
});
