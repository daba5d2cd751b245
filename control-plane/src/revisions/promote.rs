//! The content of one environment for another: the same, but for the environment's name.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};
use switchtower_proto::policy::v1;

/// Number of `Policy.environment`, the first member in the canonical order.
const ENVIRONMENT: u32 = 1;

/// These items with the environment `to` in their settings. The settings are spliced and not encoded anew, so that no
/// member is lost that this program does not know. `None`: they have no settings that name an environment.
#[must_use]
pub fn renamed(mut items: Vec<v1::Item>, to: &str) -> Option<Vec<v1::Item>> {
    let settings = items.iter_mut().find(|item| item.kind == "settings")?;
    settings.body = spliced(settings.body.clone(), to)?;
    Some(items)
}

fn spliced(mut body: Bytes, to: &str) -> Option<Bytes> {
    let (number, wire) = decode_key(&mut body).ok()?;
    if (number, wire) != (ENVIRONMENT, WireType::LengthDelimited) {
        return None;
    }
    let length = usize::try_from(decode_varint(&mut body).ok()?).ok()?;
    if length > body.len() {
        return None;
    }
    body.advance(length);
    let mut spliced = BytesMut::with_capacity(to.len() + body.len() + 8);
    encode_key(ENVIRONMENT, WireType::LengthDelimited, &mut spliced);
    encode_varint(to.len() as u64, &mut spliced);
    spliced.put_slice(to.as_bytes());
    spliced.put(body);
    Some(spliced.freeze())
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    fn settings(body: Vec<u8>) -> Vec<v1::Item> {
        vec![
            v1::Item { kind: "route".to_owned(), name: "settings".to_owned(), body: Bytes::new() },
            v1::Item { kind: "settings".to_owned(), name: String::new(), body: body.into() },
        ]
    }

    #[test]
    fn only_the_environment_s_name_is_another_and_what_nobody_knows_is_kept() {
        let policy = |environment: &str| v1::Policy {
            environment: environment.to_owned(),
            requirements: Some(v1::Requirements { residency: "us".to_owned(), ..Default::default() }),
            ..Default::default()
        };
        let unknown = [0xfa, 0x7f, 1, 42];
        let check = |from: &str, to: &str| {
            let body = [policy(from).encode_to_vec(), unknown.to_vec()].concat();
            let expected = [policy(to).encode_to_vec(), unknown.to_vec()].concat();
            assert_eq!(renamed(settings(body), to), Some(settings(expected)), "{from} {to}");
        };
        check("dev", "prod");
        check("production", "a");
        check("a", &"b".repeat(128));
    }

    #[test]
    fn settings_that_name_no_environment_are_not_guessed_at() {
        let check = |body: &[u8]| assert_eq!(renamed(settings(body.to_vec()), "prod"), None, "{body:?}");
        check(b"");
        check(b"\x0a");
        check(b"\x0a\x05dev");
        check(b"\x12\x00");
        check(b"\x08\x01");
        check(&[0xff; 12]);
        assert_eq!(renamed(Vec::new(), "prod"), None);
    }
}
