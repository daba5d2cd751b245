//! The policies that are measured: many routes, each with rules whose conditions read metadata and a flag.

use std::fmt::Write;

use crate::scene::Scene;

/// Flags of every policy here.
pub(crate) const FLAGS: usize = 100;
/// The only caller.
pub(crate) const CALLER: &str = "bench";
/// Where the node runs and its targets are.
pub(crate) const REGION: &str = "us-east-1";
/// How many conditions a request for route `r0`, `r1`, `r2`, `r3`, … evaluates, over and over.
pub(crate) const CONDITIONS: [usize; 3] = [0, 1, 4];

/// How many conditions a request for this route evaluates.
pub(crate) fn conditions(route: usize) -> usize {
    CONDITIONS[route % CONDITIONS.len()]
}

/// A policy with so many routes, those of the scenes among them (`routes` is at least their number).
pub(crate) fn with_routes(routes: usize) -> String {
    let mut text = String::from("environment: bench\nmodels:\n");
    write_models(&mut text);
    let _ = writeln!(text, "callers:\n  {CALLER}: {{ tenant: acme, routes: [\"*\"] }}\nroutes:");
    for scene in Scene::ALL {
        let name = scene.route();
        // Every request that is measured passes a condition that reads metadata and a flag, and holds.
        let when = "metadata.tier == \"gold\" && flag(\"on\")";
        let _ = writeln!(
            text,
            "  {name}: {{ tiers: [a], sticky: metadata.session, rules: [{{ when: '{when}', tiers: [{name}] }}] }}"
        );
    }
    for route in 0..routes.saturating_sub(Scene::ALL.len()) {
        write_route(&mut text, route);
    }
    text.push_str("flags:\n  on: { default: false, rules: [{ when: 'caller.tenant == \"acme\"', serve: true }] }\n");
    for flag in 1..FLAGS {
        let _ = writeln!(
            text,
            "  f{flag}: {{ default: false, rules: [{{ when: 'caller.tenant == \"other\"', serve: true }}, \
             {{ percent: 50, serve: true }}] }}"
        );
    }
    text
}

fn write_models(text: &mut String) {
    for scene in Scene::ALL {
        let _ = writeln!(text, "  {}: {{ bedrock: \"{}\", regions: [{REGION}] }}", scene.route(), scene.model());
    }
    for (name, model) in [("a", "amazon.nova-lite-v1:0"), ("b", "amazon.nova-pro-v1:0")] {
        let _ = writeln!(text, "  {name}: {{ bedrock: \"{model}\", regions: [{REGION}, us-west-2] }}");
    }
}

/// A route whose rules never hold, so that all their conditions are evaluated, flags included, whatever the flags give.
fn write_route(text: &mut String, route: usize) {
    let _ = write!(text, "  r{route}: {{ tiers: [{{ split: {{ a: 90, b: 10 }} }}, b], sticky: metadata.session");
    if conditions(route) > 0 {
        text.push_str(", rules: [");
        for rule in 0..conditions(route) {
            let flag = 1 + (route * 7 + rule) % (FLAGS - 1);
            let _ = write!(
                text,
                "{{ when: 'metadata.tier == \"gold\" && flag(\"f{flag}\") && metadata.session == \"none\"', tiers: [b] }}, "
            );
        }
        text.push(']');
    }
    text.push_str(" }\n");
}

#[cfg(test)]
mod tests {
    use switchtower_policy::{File, Severity, load};

    use super::*;

    #[test]
    fn the_policies_compile_without_a_warning() {
        for routes in [Scene::ALL.len(), 50] {
            let file = File { name: "bench.yaml".to_owned(), bytes: with_routes(routes).into_bytes() };
            let compiled = load(&[file]).unwrap();
            assert_eq!(compiled.snapshot.routes().len(), routes);
            assert_eq!(compiled.snapshot.flags().len(), FLAGS);
            let warnings: Vec<_> = compiled.warnings.iter().filter(|v| v.severity == Severity::Warning).collect();
            assert!(warnings.is_empty(), "{warnings:?}");
        }
    }
}
