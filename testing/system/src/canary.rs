//! Looks for a secret in what came out, in every form that it could have come out in.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// Forms of a text under which it could be logged: plain, quoted by `Debug` or JSON, hexadecimal, base64 at all three
/// alignments, percent-encoded, and as a list of bytes.
#[must_use]
pub fn forms(secret: &str) -> Vec<(&'static str, String)> {
    let bytes = secret.as_bytes();
    let list = bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    let escaped = format!("{secret:?}");
    vec![
        ("plain", secret.to_owned()),
        ("escaped", escaped[1..escaped.len() - 1].to_owned()),
        ("hex", hex::encode(bytes)),
        ("HEX", hex::encode_upper(bytes)),
        ("base64", base64_within(bytes, 0)),
        ("base64, one byte in", base64_within(bytes, 1)),
        ("base64, two bytes in", base64_within(bytes, 2)),
        ("percent-encoded", utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string()),
        ("a list of bytes", list),
    ]
}

/// The part of the base64 of some longer text that depends on these bytes alone, when they begin `offset` bytes after a
/// multiple of three.
fn base64_within(bytes: &[u8], offset: usize) -> String {
    let first = (3 - offset) % 3;
    let whole = (bytes.len() - first) / 3 * 3;
    STANDARD_NO_PAD.encode(&bytes[first..first + whole])
}

/// Every form of a secret that is in `text`, and what stands around it.
#[must_use]
pub fn found(secret: &str, text: &str) -> Vec<String> {
    let (mut found, mut sought) = (Vec::new(), Vec::new());
    for (form, pattern) in forms(secret) {
        // Some secrets look the same in several forms.
        if sought.contains(&pattern) {
            continue;
        }
        if let Some(at) = text.find(&pattern) {
            let from = (0..=at.saturating_sub(200)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            let to = (at + pattern.len() + 80..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
            found.push(format!("{form}: …{}…", &text[from..to]));
        }
        sought.push(pattern);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_in_every_form_and_at_every_alignment() {
        let secret = "canary-Zk3q\"9/xW";
        for before in ["", "a", "ab", "abc"] {
            let text = format!("{before}{secret}xyz");
            let check = |coded: String| assert!(!found(secret, &format!("…{coded}…")).is_empty(), "{coded}");
            check(text.clone());
            check(format!("{text:?}"));
            check(serde_json::Value::from(text.clone()).to_string());
            check(hex::encode(&text));
            check(hex::encode_upper(&text));
            check(STANDARD_NO_PAD.encode(&text));
            check(base64::engine::general_purpose::STANDARD.encode(&text));
            check(utf8_percent_encode(&text, NON_ALPHANUMERIC).to_string());
            check(format!("{:?}", text.as_bytes()));
        }
        assert!(found(secret, "canary-Zk3q is only the half of it").is_empty());
    }
}
