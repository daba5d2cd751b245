//! `google.protobuf.Struct` and bytes as the JSON that Converse speaks, without a tree in between.
//!
//! A Struct knows only doubles. A whole number is written as JSON writes whole numbers, because a provider that asks for
//! an integer refuses `1024.0`; numbers beyond 2^53 arrive as the nearest double, as everywhere in protobuf's JSON.

use std::{borrow::Cow, fmt};

use base64::{Engine, display::Base64Display, engine::general_purpose::STANDARD};
use prost_types::{ListValue, Struct, Value, value::Kind};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
    ser::SerializeMap,
};

/// Largest whole number below which a double holds every one.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A JSON object.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Object<'a>(pub(super) Cow<'a, Struct>);

/// Any JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Any<'a>(pub(super) Cow<'a, Value>);

/// Bytes, base64 in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Blob<'a>(pub(super) Cow<'a, [u8]>);

impl<'a> From<&'a Struct> for Object<'a> {
    fn from(object: &'a Struct) -> Self {
        Object(Cow::Borrowed(object))
    }
}

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        object(&self.0, serializer)
    }
}

impl Serialize for Any<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0.kind {
            // JSON has no NaN and no infinity; requests that hold one were refused.
            None | Some(Kind::NullValue(_)) => serializer.serialize_unit(),
            Some(Kind::BoolValue(value)) => serializer.serialize_bool(*value),
            Some(Kind::NumberValue(value)) => number(*value, serializer),
            Some(Kind::StringValue(value)) => serializer.serialize_str(value),
            Some(Kind::ListValue(list)) => {
                serializer.collect_seq(list.values.iter().map(|value| Any(Cow::Borrowed(value))))
            }
            Some(Kind::StructValue(value)) => object(value, serializer),
        }
    }
}

fn object<S: Serializer>(object: &Struct, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(object.fields.len()))?;
    for (key, value) in &object.fields {
        map.serialize_entry(key, &Any(Cow::Borrowed(value)))?;
    }
    map.end()
}

fn number<S: Serializer>(value: f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.fract() == 0.0 && value.abs() <= EXACT {
        return serializer.serialize_i64(value as i64);
    }
    serializer.serialize_f64(value)
}

impl Serialize for Blob<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Base64Display::new(&self.0, &STANDARD))
    }
}

impl<'de> Deserialize<'de> for Blob<'_> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Blob<'static>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("base64")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                // The decoder's own words quote the text.
                let bytes = STANDARD.decode(text).map_err(|_| E::custom("not base64"))?;
                Ok(Blob(Cow::Owned(bytes)))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl<'de> Deserialize<'de> for Object<'_> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object<'static>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                Ok(Object(Cow::Owned(members(map)?)))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

fn members<'de, A: MapAccess<'de>>(mut map: A) -> Result<Struct, A::Error> {
    let mut object = Struct::default();
    while let Some((key, value)) = map.next_entry::<String, Any<'_>>()? {
        object.fields.insert(key, value.0.into_owned());
    }
    Ok(object)
}

impl<'de> Deserialize<'de> for Any<'_> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyVisitor).map(|kind| Any(Cow::Owned(Value { kind: Some(kind) })))
    }
}

struct AnyVisitor;

impl<'de> Visitor<'de> for AnyVisitor {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E: Error>(self) -> Result<Kind, E> {
        Ok(Kind::NullValue(0))
    }
    fn visit_bool<E: Error>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::BoolValue(value))
    }
    fn visit_i64<E: Error>(self, value: i64) -> Result<Kind, E> {
        Ok(Kind::NumberValue(value as f64))
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<Kind, E> {
        Ok(Kind::NumberValue(value as f64))
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<Kind, E> {
        Ok(Kind::NumberValue(value))
    }
    fn visit_str<E: Error>(self, value: &str) -> Result<Kind, E> {
        Ok(Kind::StringValue(value.to_owned()))
    }
    fn visit_string<E: Error>(self, value: String) -> Result<Kind, E> {
        Ok(Kind::StringValue(value))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Kind, A::Error> {
        let mut list = ListValue::default();
        while let Some(value) = seq.next_element::<Any<'_>>()? {
            list.values.push(value.0.into_owned());
        }
        Ok(Kind::ListValue(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Kind, A::Error> {
        members(map).map(Kind::StructValue)
    }
}

/// Whether JSON can carry a value: no NaN, no infinity, and every value is of a kind.
pub(super) fn is_json(value: &Value) -> bool {
    match &value.kind {
        None => false,
        Some(Kind::NumberValue(number)) => number.is_finite(),
        Some(Kind::ListValue(list)) => list.values.iter().all(is_json),
        Some(Kind::StructValue(object)) => object.fields.values().all(is_json),
        Some(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expected: &str) {
        let object: Object<'_> = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&object).unwrap(), expected);
    }

    #[test]
    fn objects_keep_everything_but_the_order_of_members() {
        check("{}", "{}");
        check(
            r#"{"b":[1,-2.5,null,true,"x\n",{"c":{}}],"a":"y"}"#,
            r#"{"a":"y","b":[1,-2.5,null,true,"x\n",{"c":{}}]}"#,
        );
    }

    #[test]
    fn whole_numbers_are_written_whole_as_far_as_a_double_is_exact() {
        check(r#"{"n":[1024.0,0,-1,9007199254740992]}"#, r#"{"n":[1024,0,-1,9007199254740992]}"#);
        check(r#"{"n":[0.1,1e300,-1e17]}"#, r#"{"n":[0.1,1e+300,-1e+17]}"#);
    }

    #[test]
    fn bytes_are_base64_and_an_error_does_not_quote_them() {
        let blob = Blob(Cow::Borrowed(b"\x00\xff\x10hello"));
        let json = serde_json::to_string(&blob).unwrap();
        assert_eq!(json, r#""AP8QaGVsbG8=""#);
        assert_eq!(serde_json::from_str::<Blob<'_>>(&json).unwrap(), blob);
        let error = serde_json::from_str::<Blob<'_>>(r#""se cret""#).unwrap_err().to_string();
        assert!(error.starts_with("not base64"), "{error}");
    }

    #[test]
    fn values_that_json_cannot_carry_are_found_at_every_depth() {
        let value = |kind| Value { kind };
        let list = |inner| value(Some(Kind::ListValue(ListValue { values: vec![inner] })));
        assert!(is_json(&list(value(Some(Kind::NumberValue(1.0))))));
        assert!(!is_json(&list(value(Some(Kind::NumberValue(f64::NAN))))));
        assert!(!is_json(&list(list(value(None)))));
    }
}
