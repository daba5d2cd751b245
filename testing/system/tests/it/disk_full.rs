//! A control plane whose disk fills up: what is full is said, what is there is read, and room is taken when it comes.

use std::{
    fs::File,
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use switchtower_system_tests::{
    fleet::{ENVIRONMENT, Fleet, Setup, policy},
    program::{self, Ran, beside},
};
use tempfile::TempDir;

/// A small file system of its own.
struct Disk {
    at: TempDir,
}

impl Disk {
    /// `None`: this machine does not let us mount one.
    fn small() -> Option<Disk> {
        let at = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(at.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Disk { at }),
            refused => {
                println!("skipped: a file system cannot be mounted here, which takes root: {refused:?}");
                None
            }
        }
    }

    fn filler(&self) -> PathBuf {
        self.at.path().join("filler")
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut filler = File::create(self.filler()).unwrap();
        let page = [b'x'; 4096];
        loop {
            match filler.write_all(&page) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Also while a process that was just killed still has a file open.
        let _ = Command::new("umount").arg("-l").arg(self.at.path()).status();
    }
}

/// A policy of half a megabyte.
fn large(revision: u64) -> String {
    let answer = format!("{revision} ").repeat(7000);
    let routes: String =
        (0..36).map(|n| format!("  big-{n}: {{ tiers: [{{ answer: \"{answer:.14000}\" }}] }}\n")).collect();
    policy(revision) + &routes
}

#[track_caller]
fn is_full(ran: &Ran) {
    assert_ne!(ran.code, 0, "{ran:#?}");
    let failure: Value = serde_json::from_str(&ran.err).unwrap_or_else(|_| panic!("{ran:#?}"));
    assert!(failure.to_string().contains("STORE_FULL"), "{failure:#}");
}

#[tokio::test]
async fn a_full_disk_stops_changes_and_nothing_else_and_room_ends_it() {
    let Some(disk) = Disk::small() else { return };
    let data = disk.at.path().join("store");
    let mut fleet = Fleet::start(Setup { nodes: 1, data: Some(data.clone()), ..Setup::default() }).await;
    let key = fleet.key().await;
    let apply = async |fleet: &Fleet, number: u64| {
        let folder = fleet.policy("policy", &large(number));
        fleet.cli(&["apply", &folder, "--yes", "--wait", "--output", "json"]).await
    };
    let _ = apply(&fleet, 2).await.done();
    disk.fill();

    // The store has some room of its own.
    let mut last = 2;
    let refused = loop {
        let ran = apply(&fleet, last + 1).await;
        if ran.code != 0 {
            break ran;
        }
        last += 1;
        assert!(last < 20, "half a megabyte each into a full disk of eight");
    };
    println!("{} revisions fitted into a full disk; then: {}", last - 2, refused.err.trim());
    is_full(&refused);
    is_full(&apply(&fleet, last + 1).await);

    // All that only reads goes on, on the other side too.
    let history = fleet.cli(&["history", "-e", ENVIRONMENT, "--output", "json"]).await.json();
    assert_eq!(
        history.as_array().or_else(|| history["revisions"].as_array()).unwrap().len() as u64,
        last,
        "{history:#}"
    );
    let status = fleet.status().await;
    assert_eq!((&status["revision"], &status["serving"]), (&last.into(), &1.into()), "{status:#}");
    let _ = fleet.cli(&["get", "-e", ENVIRONMENT]).await.done();
    let reply = fleet.nodes[0].ask("marked", &key).await;
    assert_eq!(switchtower_system_tests::fleet::revision(&reply), Ok(last));

    std::fs::remove_file(disk.filler()).unwrap();
    let _ = apply(&fleet, last + 1).await.done();
    let reply = fleet.nodes[0].ask("marked", &key).await;
    assert_eq!(switchtower_system_tests::fleet::revision(&reply), Ok(last + 1));
    sound(&mut fleet, &data, last + 1).await;
}

/// What is on the disk after all that is whole.
async fn sound(fleet: &mut Fleet, data: &Path, revisions: u64) {
    let (status, log) = fleet.plane.take().unwrap().terminate().await;
    assert!(status.success(), "{log}");
    let args = ["verify".as_ref(), "--data".as_ref(), data.as_os_str()];
    let verified = program::run(&beside("switchtower-control-plane"), args, &[]).await.done();
    assert!(verified.contains(&revisions.to_string()), "{verified}");
}
