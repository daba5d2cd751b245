use std::{fs, os::unix::fs::PermissionsExt};

use switchtower_policy::items;
use switchtower_proto::{policy::v1::Item, sync::v1::KeyRecord};
use tempfile::TempDir;

use super::*;

/// A generation by its number, which is its content's too. A key `X!` is revoked, a key `X<` expires.
fn generation(number: u8, keys: &str) -> Generation {
    let items = vec![Item { kind: "route".to_owned(), name: "r".to_owned(), body: vec![number].into() }];
    let served = Served {
        epoch: "e".to_owned(),
        assignment: number.into(),
        revision: number.into(),
        digest: items::digest(&items),
        items: items.into(),
    };
    let keys = keys.split_whitespace().map(|key| KeyRecord {
        id: key.trim_end_matches(['!', '<']).to_owned(),
        expires_at: key.ends_with('<').then(prost_types::Timestamp::default),
        revoked_at: key.ends_with('!').then(prost_types::Timestamp::default),
        ..KeyRecord::default()
    });
    let keys = Keys::kept("e".to_owned(), number.into(), keys.collect());
    Generation { environment: "test".to_owned(), served, keys }
}

fn open(folder: &TempDir) -> (LastKnownGood, Found) {
    LastKnownGood::open(folder.path(), "test", "build").unwrap()
}

fn assignments(found: &Found) -> Vec<u64> {
    found.candidates.iter().map(|candidate| candidate.generation.served.assignment).collect()
}

fn take(kept: &mut LastKnownGood, number: u8) {
    let generation = generation(number, "");
    kept.begin(generation.served.digest).unwrap();
    kept.serves(generation.served.digest).unwrap();
    kept.keep(generation).unwrap();
}

fn take_well(kept: &mut LastKnownGood, number: u8) {
    take(kept, number);
    kept.proven(generation(number, "").served.digest).unwrap();
}

fn keys(found: &Found) -> String {
    let told = found.keys.records().map(|record| match (record.revoked_at, record.expires_at) {
        (Some(_), _) => format!("{}!", record.id),
        (None, Some(_)) => format!("{}<", record.id),
        (None, None) => record.id.clone(),
    });
    told.collect::<Vec<_>>().join(" ")
}

/// What a start does with the newest, up to the moment at which a crash may come.
fn serve(kept: &mut LastKnownGood, found: &Found) -> u64 {
    let newest = &found.candidates[0];
    kept.begin_kept(newest).unwrap();
    kept.serves_kept(newest).unwrap();
    newest.generation.served.assignment
}

#[test]
fn the_two_newest_that_served_well_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (mut kept, found) = open(&folder);
    assert!(found.candidates.is_empty() && !found.reverted && found.problems.is_empty());
    for number in 1..=3 {
        take_well(&mut kept, number);
    }
    drop(kept);
    let (kept, found) = open(&folder);
    assert_eq!((assignments(&found), found.reverted), (vec![3, 2], false));
    assert_eq!(found.candidates[0].generation, generation(3, ""));
    for name in FILES {
        assert_eq!(fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777, 0o600);
    }
    drop(kept);
    // Those of another environment are none.
    let (_, found) = LastKnownGood::open(folder.path(), "prod", "build").unwrap();
    assert!(found.candidates.is_empty() && found.keys.is_empty() && found.problems.len() == 2, "{found:?}");
}

#[test]
fn what_never_served_well_does_not_replace_what_did() {
    let folder = tempfile::tempdir().unwrap();
    let (mut kept, _) = open(&folder);
    take_well(&mut kept, 1);
    for number in 2..=5 {
        take(&mut kept, number);
    }
    drop(kept);
    assert_eq!(assignments(&open(&folder).1), [5, 1]);
}

#[test]
fn a_damaged_file_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let (mut kept, _) = open(&folder);
    take_well(&mut kept, 1);
    take_well(&mut kept, 2);
    drop(kept);
    let newest = folder.path().join(FILES[1]);
    let whole = fs::read(&newest).unwrap();
    for damaged in [&whole[..whole.len() / 2], &[], &vec![0; whole.len()]] {
        fs::write(&newest, damaged).unwrap();
        let (mut kept, found) = open(&folder);
        assert_eq!((assignments(&found), found.reverted, found.problems.len()), (vec![1], true, 1));
        assert_eq!(serve(&mut kept, &found), 1);
        kept.ended().unwrap();
    }
    // The next one takes its place.
    let (mut kept, found) = open(&folder);
    serve(&mut kept, &found);
    kept.proven(generation(1, "").served.digest).unwrap();
    take_well(&mut kept, 3);
    drop(kept);
    assert_eq!(assignments(&open(&folder).1), [3, 1]);
    for name in FILES {
        fs::write(folder.path().join(name), "nonsense").unwrap();
    }
    let (_, found) = open(&folder);
    assert!(found.candidates.is_empty() && found.problems.len() == 2);
}

#[test]
fn what_ended_the_process_often_while_it_served_is_not_served_again() {
    let folder = tempfile::tempdir().unwrap();
    let (mut kept, _) = open(&folder);
    take_well(&mut kept, 1);
    take(&mut kept, 2);
    drop(kept);
    // It may have been chance, or somebody outside: it is served again.
    for _ in 0..3 {
        let (mut kept, found) = open(&folder);
        assert_eq!((serve(&mut kept, &found), found.reverted), (2, false));
    }
    let poison = generation(2, "").served.digest;
    for _ in 0..2 {
        let (mut kept, found) = open(&folder);
        assert_eq!((serve(&mut kept, &found), found.reverted, kept.quarantined()), (1, true, &[poison][..]));
        // What is fallen back to has served well, and does not count, whatever ends the process.
    }
    for _ in 0..5 {
        let (mut kept, found) = open(&folder);
        assert_eq!(serve(&mut kept, &found), 1);
    }
    // Another program may be mended.
    let (_, found) = LastKnownGood::open(folder.path(), "test", "another build").unwrap();
    assert_eq!((assignments(&found), found.reverted), (vec![2, 1], false));
}

#[test]
fn what_ends_the_process_before_it_serves_is_counted_too() {
    let folder = tempfile::tempdir().unwrap();
    let poison = generation(2, "").served.digest;
    let (mut kept, _) = open(&folder);
    take_well(&mut kept, 1);
    for _ in 0..2 {
        assert!(kept.quarantined().is_empty());
        kept.begin(poison).unwrap();
        drop(kept);
        let (again, found) = open(&folder);
        kept = again;
        assert_eq!((serve(&mut kept, &found), found.reverted), (1, false));
    }
    assert_eq!(kept.quarantined(), [poison]);
}

#[test]
fn the_last_that_there_is_to_serve_is_never_quarantined() {
    let folder = tempfile::tempdir().unwrap();
    let (mut kept, _) = open(&folder);
    take(&mut kept, 1);
    drop(kept);
    for _ in 0..9 {
        let (mut kept, found) = open(&folder);
        assert_eq!((serve(&mut kept, &found), kept.quarantined().len()), (1, 0), "{found:?}");
    }
    // Also when it came to be the last in quarantine.
    let (mut kept, found) = open(&folder);
    serve(&mut kept, &found);
    kept.proven(generation(1, "").served.digest).unwrap();
    take(&mut kept, 2);
    drop(kept);
    for _ in 0..4 {
        let (mut kept, found) = open(&folder);
        serve(&mut kept, &found);
    }
    assert_eq!(open(&folder).0.quarantined(), [generation(2, "").served.digest]);
    fs::write(folder.path().join(FILES[0]), "damaged").unwrap();
    let (mut kept, found) = open(&folder);
    assert_eq!((serve(&mut kept, &found), kept.quarantined().len()), (2, 0), "{found:?}");
}

#[test]
fn only_an_end_while_a_content_is_young_counts() {
    let folder = tempfile::tempdir().unwrap();
    let (mut kept, _) = open(&folder);
    take_well(&mut kept, 1);
    for _ in 0..3 {
        drop(kept);
        let (again, found) = open(&folder);
        kept = again;
        assert_eq!(serve(&mut kept, &found), 1);
    }
    for _ in 0..3 {
        take(&mut kept, 2);
        kept.ended().unwrap();
        drop(kept);
        kept = open(&folder).0;
    }
    assert!(kept.quarantined().is_empty());
}

#[test]
fn the_end_of_a_key_is_in_both_generations() {
    let folder = tempfile::tempdir().unwrap();
    let (mut kept, _) = open(&folder);
    let mut keep = |number: u8, text: &str| {
        let generation = generation(number, text);
        let digest = generation.served.digest;
        kept.keep(generation).unwrap();
        kept.proven(digest).unwrap();
    };
    keep(1, "a b c");
    keep(2, "a b c");
    // With the same content, and with another.
    keep(2, "a! b c");
    keep(3, "a! b! c");
    // A rotation, which is no revocation.
    keep(3, "a! b! c< d");
    drop(kept);
    assert_eq!(assignments(&open(&folder).1), [3, 2]);
    fs::write(folder.path().join(FILES[0]), "damaged").unwrap();
    let (_, found) = open(&folder);
    assert_eq!((assignments(&found), keys(&found).as_str()), (vec![2], "a! b! c<"));
}

#[test]
fn a_generation_that_cannot_be_read_now_learns_of_the_end_of_a_key_later() {
    let folder = tempfile::tempdir().unwrap();
    let (mut kept, _) = open(&folder);
    for number in 1..=2 {
        kept.keep(generation(number, "a")).unwrap();
        kept.proven(generation(number, "").served.digest).unwrap();
    }
    let (older, aside) = (folder.path().join(FILES[0]), folder.path().join("aside"));
    // A folder can be opened and not read: the file is not damaged.
    fs::rename(&older, &aside).unwrap();
    fs::create_dir(&older).unwrap();
    assert!(kept.keep(generation(2, "a!")).is_err());
    fs::remove_dir(&older).unwrap();
    fs::rename(&aside, &older).unwrap();
    kept.write_again().unwrap();
    drop(kept);
    fs::write(folder.path().join(FILES[1]), "damaged").unwrap();
    assert_eq!(keys(&open(&folder).1), "a!");
}

#[test]
fn one_process_has_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let (kept, _) = open(&folder);
    let error = LastKnownGood::open(folder.path(), "test", "build").unwrap_err().to_string();
    assert!(error.contains("another process"), "{error}");
    drop(kept);
    open(&folder);
}

#[test]
fn what_the_disk_did_not_take_is_written_when_it_does() {
    let folder = tempfile::tempdir().unwrap();
    let (mut kept, _) = open(&folder);
    take_well(&mut kept, 1);
    // The name of the temporary file is taken by a folder: nobody can write it, root neither.
    let taken = folder.path().join(format!(".{}.new", FILES[1]));
    fs::create_dir(&taken).unwrap();
    assert!(kept.keep(generation(2, "")).is_err());
    assert!(kept.write_again().is_err());
    assert_eq!(file::read(&fs::read(folder.path().join(FILES[0])).unwrap()).unwrap().1, generation(1, ""));
    fs::remove_dir(&taken).unwrap();
    kept.write_again().unwrap();
    drop(kept);
    assert_eq!(assignments(&open(&folder).1), [2, 1]);
}
