//! The kinds of items: what each is called, which section of the policy it is an entry of, and which message it holds.

/// A kind of item that this program knows. In ascending order of their names, as items stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Caller,
    Catalogue,
    Flag,
    Guardrail,
    Model,
    Route,
    Settings,
}

impl Kind {
    pub(crate) const ALL: [Kind; 7] =
        [Kind::Caller, Kind::Catalogue, Kind::Flag, Kind::Guardrail, Kind::Model, Kind::Route, Kind::Settings];

    pub(crate) fn of(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Caller => "caller",
            Kind::Catalogue => "catalogue",
            Kind::Flag => "flag",
            Kind::Guardrail => "guardrail",
            Kind::Model => "model",
            Kind::Route => "route",
            Kind::Settings => "settings",
        }
    }

    /// The policy's map of this kind; none for what is no entry of a map.
    pub(crate) fn section(self) -> Option<&'static str> {
        match self {
            Kind::Caller => Some("callers"),
            Kind::Catalogue => Some("catalogue"),
            Kind::Flag => Some("flags"),
            Kind::Guardrail => Some("guardrails"),
            Kind::Model => Some("models"),
            Kind::Route => Some("routes"),
            Kind::Settings => None,
        }
    }

    pub(super) fn message(self) -> &'static str {
        match self {
            Kind::Caller => "Caller",
            Kind::Catalogue => "ModelFacts",
            Kind::Flag => "Flag",
            Kind::Guardrail => "Guardrail",
            Kind::Model => "Model",
            Kind::Route => "Route",
            Kind::Settings => "Policy",
        }
    }

    /// Whether an item of this kind may be called so.
    pub(super) fn may_be_called(self, name: &str) -> bool {
        match self {
            Kind::Settings => name.is_empty(),
            // Model ids, ARNs among them.
            Kind::Catalogue => is_name(name, "._-:/", 2048),
            _ => is_name(name, "._-", 128),
        }
    }
}

/// Whether this is a name: ASCII letters, digits and `others`, beginning with a letter or a digit, at most so long.
pub(super) fn is_name(name: &str, others: &str, longest: usize) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.len() <= longest
        && name.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
}
