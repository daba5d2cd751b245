//! Whatever stands in a condition, parsing it ends with a condition or with what is wrong with it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use switchtower_policy::condition::{Condition, Scope};

fuzz_target!(|text: &str| {
    let _ = Condition::parse(text, &Scope::without_flags());
});
