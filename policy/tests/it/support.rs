//! What several modules need.

use switchtower_policy::{Compiled, File, load};

/// A file called `policy.yaml`.
pub(crate) fn file(text: &str) -> File {
    named("policy.yaml", text)
}

pub(crate) fn named(name: &str, text: &str) -> File {
    File { name: name.to_owned(), bytes: text.as_bytes().to_vec() }
}

/// All violations as they are shown, warnings among them.
pub(crate) fn told(files: &[File]) -> Vec<String> {
    let violations = match load(files) {
        Ok(Compiled { warnings, .. }) => warnings,
        Err(violations) => violations,
    };
    violations.iter().map(ToString::to_string).collect()
}

/// A policy that is valid, to which a test adds what it is about.
pub(crate) const GOOD: &str = r#"environment: test
models:
  sonnet: { bedrock: us.anthropic.claude-sonnet-4-5-20250929-v1:0, regions: [us-east-1, us-west-2] }
  nova-lite: { bedrock: us.amazon.nova-lite-v1:0, regions: [us-east-1] }
callers:
  acme: { routes: ['*'] }
"#;
