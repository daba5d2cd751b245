//! Which caller and route a policy's author has put first: those are what `dev` shows.

use switchtower_policy::{
    File, Snapshot,
    document::{Reading, read},
};

/// What is shown first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct First {
    /// The caller that the key speaks for.
    pub(super) caller: String,
    /// A route that it may ask.
    pub(super) route: String,
    /// The files they stand in.
    pub(super) files: Vec<Source>,
}

/// A file of the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) text: String,
}

/// The first caller of the files that the snapshot knows, too, and its first route; `None`: there is none. What is gone in
/// either is not chosen: the files may have changed since they were applied.
pub(super) fn of(files: &[File], snapshot: &Snapshot) -> Option<First> {
    let reading = read(files);
    let known = reading.policy.callers.iter().filter(|(name, _)| snapshot.caller(name).is_some());
    let (name, caller) = known.min_by_key(|(name, _)| place("callers", name, &reading, files))?;
    let open = |route: &&String| snapshot.route_named(route).is_some();
    let named = caller.routes.iter().find(open);
    let route = named.or_else(|| {
        let all = caller.routes.iter().any(|route| route == "*");
        let known = reading.policy.routes.keys().filter(|route| all && open(route));
        known.min_by_key(|route| place("routes", route, &reading, files))
    })?;
    let files = files
        .iter()
        .map(|file| Source { name: file.name.clone(), text: String::from_utf8_lossy(&file.bytes).into_owned() });
    Some(First { caller: name.clone(), route: route.clone(), files: files.collect() })
}

/// Where a name stands: file, line, column.
fn place(section: &str, name: &str, reading: &Reading, files: &[File]) -> (usize, u32, u32) {
    match reading.places.of(&format!("{section}.{name}")) {
        Some(place) => {
            let file = files.iter().position(|file| *file.name == *place.file);
            (file.unwrap_or(usize::MAX), place.line, place.column)
        }
        None => (usize::MAX, 0, 0),
    }
}

#[cfg(test)]
mod tests {
    use switchtower_policy::load;

    use super::*;

    const MODELS: &str =
        "environment: dev\nmodels: { m: { bedrock: us.amazon.nova-lite-v1:0, regions: [us-east-1] } }\n";

    #[track_caller]
    fn check(files: &[&str], expected: Option<(&str, &str)>) {
        let files: Vec<File> = (0..)
            .zip([MODELS].iter().chain(files))
            .map(|(number, text)| File { name: format!("{number}.yaml"), bytes: text.as_bytes().to_vec() })
            .collect();
        let snapshot = load(&files).unwrap().snapshot;
        let first = of(&files, &snapshot);
        assert_eq!(first.as_ref().map(|first| (first.caller.as_str(), first.route.as_str())), expected);
    }

    #[test]
    fn the_first_caller_is_the_one_that_stands_first() {
        let routes = "routes: { z: { tiers: [m] }, a: { tiers: [m] } }\n";
        check(&[routes, "callers: { web: { routes: [z, a] }, app: { routes: [a] } }"], Some(("web", "z")));
        check(&[routes, "callers: { web: { routes: ['*'] } }"], Some(("web", "z")));
        check(&["callers: { z: { routes: [a] } }", "callers: { b: { routes: [a] } }", routes], Some(("z", "a")));
        check(&[routes], None);
    }
}
