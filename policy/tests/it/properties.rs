//! Whatever comes, reading and compiling end in a snapshot or in violations, and never in a panic.

use proptest::{prelude::*, sample::Index};
use switchtower_policy::{File, Severity, load};

const WHOLE: &str = concat!(include_str!("../../../examples/dev/models.yaml"), "\n");
const ROUTES: &str = include_str!("../../../examples/dev/routes.yaml");

/// Pieces that mean something to YAML, to conditions, to templates or to the policy.
const PIECES: [&str; 40] = [
    "{",
    "}",
    "[",
    "]",
    ": ",
    "- ",
    "\n",
    "\n  ",
    "#",
    "'",
    "\"",
    "!x ",
    "&a ",
    "*a",
    "|\n",
    ">\n",
    "---\n",
    "? ",
    "\t",
    "null",
    "~",
    "-1",
    "1e999",
    ".nan",
    "inherit",
    "sonnet",
    "when: ",
    "tiers: ",
    "split: ",
    "{{ ",
    "{% if %}",
    "&&",
    "((((",
    "\u{feff}",
    "\u{0}",
    "ä",
    "0x",
    "99999999999999999999",
    "<<: ",
    "models: ",
];

fn never_panics(bytes: Vec<u8>) -> Result<(), TestCaseError> {
    match load(&[File { name: "any.yaml".to_owned(), bytes }]) {
        Ok(compiled) => prop_assert!(compiled.warnings.iter().all(|warning| warning.severity == Severity::Warning)),
        Err(violations) => {
            prop_assert!(violations.iter().any(|violation| violation.severity == Severity::Error));
            prop_assert!(violations.iter().all(|violation| !violation.to_string().contains('\n')));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        never_panics(bytes)?;
    }

    #[test]
    fn any_pieces_are_read_without_a_panic(pieces in proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..40)) {
        never_panics(pieces.concat().into_bytes())?;
    }

    #[test]
    fn any_mutation_of_a_policy_is_read_without_a_panic(
        edits in proptest::collection::vec((any::<Index>(), 0_usize..20, proptest::sample::select(&PIECES[..])), 1..6),
    ) {
        let mut bytes = WHOLE.as_bytes().to_vec();
        bytes.extend_from_slice(ROUTES.replace("environment: dev", "").as_bytes());
        for (at, length, piece) in edits {
            let at = at.index(bytes.len());
            let end = (at + length).min(bytes.len());
            bytes.splice(at..end, piece.bytes());
        }
        never_panics(bytes)?;
    }

    #[test]
    fn the_revision_depends_on_what_is_said_and_not_on_the_files(swap in any::<bool>()) {
        let one = File { name: "a.yaml".to_owned(), bytes: WHOLE.into() };
        let two = File { name: "b.yaml".to_owned(), bytes: ROUTES.into() };
        let files = if swap { [two, one] } else { [one, two] };
        let revision = load(&files).unwrap().snapshot.revision().clone();
        let reversed: Vec<File> = files.iter().rev().cloned().collect();
        let swapped = load(&reversed).unwrap().snapshot;
        prop_assert_eq!(swapped.revision(), &revision);
        prop_assert!(revision.len() == 12 && revision.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
}
