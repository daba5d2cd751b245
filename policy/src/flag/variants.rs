//! Names for the values of flags that name no variants.
//!
//! OpenFeature, records and metrics speak of variants. A scalar's JSON text is a name that says the value, and the same
//! value in two places is the same variant; an object is too long for a name, so it is called after its place.

use super::{Type, Value, VariantIndex};

/// Values without names, gathered into variants: of one flag, as they come in its document.
#[derive(Debug, Default)]
pub struct Unnamed(Vec<(Box<str>, Value)>);

impl Unnamed {
    /// The variant for a value that stands in `place`: `default` or `rule N`, counted from 1. At most 65 536 values.
    pub fn add(&mut self, value: Value, place: &str) -> VariantIndex {
        if let Some(known) = self.0.iter().position(|(_, other)| *other == value) {
            return index(known);
        }
        let name = if value.kind() == Type::Object { place.into() } else { value.to_string().into() };
        self.0.push((name, value));
        index(self.0.len() - 1)
    }

    /// The variants, in the order that the indices count.
    #[must_use]
    pub fn into_variants(self) -> Vec<(Box<str>, Value)> {
        self.0
    }
}

fn index(place: usize) -> VariantIndex {
    VariantIndex(u16::try_from(place).expect("a flag has at most 64 rules"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_named_by_what_they_are_and_objects_by_where_they_stand() {
        fn check(value: Value, expected: &str) {
            let mut unnamed = Unnamed::default();
            unnamed.add(value, "rule 2");
            assert_eq!(&*unnamed.into_variants()[0].0, expected);
        }
        check(Value::Bool(true), "true");
        check(Value::String("gold".into()), r#""gold""#);
        check(Value::String("true".into()), r#""true""#);
        check(Value::Number(10.0), "10");
        check(Value::Number(-0.5), "-0.5");
        check(Value::Number(1e300), "1e+300");
        check(Value::Object(serde_json::json!({"a": 1})), "rule 2");
    }

    #[test]
    fn equal_values_are_one_variant() {
        let mut unnamed = Unnamed::default();
        let default = unnamed.add(Value::Bool(false), "default");
        let first = unnamed.add(Value::Bool(true), "rule 1");
        assert_eq!(unnamed.add(Value::Bool(false), "rule 2"), default);
        assert_ne!(first, default);
        assert_eq!(unnamed.into_variants().len(), 2);
    }
}
