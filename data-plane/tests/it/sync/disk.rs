//! What a node keeps, what it does when it cannot, and what it begins with when that is damaged or deadly.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use switchtower_data_plane::sync::PepperSource;
use switchtower_keys::Peppers;
use switchtower_policy::items;
use switchtower_proto::sync::v1;

use super::{
    control::{Control, policy, update, with_keys},
    tower::{admin, answered, ask, key, node, options, pepper, ready, revoked, until},
};

const FILES: [&str; 2] = ["last-known-good.1", "last-known-good.2"];

/// A folder on a disk that can be filled.
enum Disk {
    /// A file system of its own.
    Small(PathBuf),
    /// Where none can be mounted: the names of what would be written are taken.
    Taken(PathBuf),
}

impl Disk {
    fn new(folder: &Path) -> Self {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(folder).output();
        match mounted.is_ok_and(|output| output.status.success()) {
            true => Disk::Small(folder.to_owned()),
            false => Disk::Taken(folder.to_owned()),
        }
    }

    fn fill(&self) {
        match self {
            Disk::Small(folder) => {
                // To the last byte: the first write that does not fit ends it.
                let _ = fs::write(folder.join("filler"), vec![1; 1 << 20]);
            }
            Disk::Taken(folder) => {
                for name in FILES.iter().chain(&["pending"]) {
                    fs::create_dir(folder.join(format!(".{name}.new"))).unwrap();
                }
            }
        }
    }

    fn clear(&self) {
        match self {
            Disk::Small(folder) => fs::remove_file(folder.join("filler")).unwrap(),
            Disk::Taken(folder) => {
                for name in FILES.iter().chain(&["pending"]) {
                    fs::remove_dir(folder.join(format!(".{name}.new"))).unwrap();
                }
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Disk::Small(folder) = self {
            let _ = Command::new("umount").arg(folder).output();
        }
    }
}

#[tokio::test]
async fn a_full_disk_costs_the_next_restart_and_never_what_serves() {
    let mut control = Control::up().await;
    let data = tempfile::tempdir().unwrap();
    let disk = Disk::new(data.path());
    let running = node(options(&control.url(), data.path())).await;
    let (issued, record) = key(1);
    let mut stream = control.node().await;
    stream.update(&with_keys(update(1, None, &policy(1)), 0, 1, &[record])).await.unwrap();
    disk.fill();
    let ack = stream.update(&update(2, Some(&policy(1)), &policy(2))).await.unwrap();
    assert!(ack.problem.contains("cannot be kept on disk"), "{}", ack.problem);
    answered(&ask(running.address, &issued).await, 2);
    let (status, body) = ready(&running).await;
    assert_eq!(status, 200);
    assert!(body["control_plane"]["last_known_good_problem"].is_string(), "{body}");
    assert!(!admin(&running, "/metrics").await.contains("switchtower_last_known_good_write_failures_total{} 0\n"));
    running.stop().await;

    // The old one is whole.
    let running = node(options(&control.url(), data.path())).await;
    answered(&ask(running.address, &issued).await, 1);
    let mut stream = control.node().await;
    stream.update(&update(2, Some(&policy(1)), &policy(2))).await.unwrap();
    disk.clear();
    until(&running, "the disk takes it again", |seen| seen.disk.is_none()).await;
    running.stop().await;
    let running = node(options(&control.url(), data.path())).await;
    answered(&ask(running.address, &issued).await, 2);
    running.stop().await;
}

#[tokio::test]
async fn a_revocation_outlives_the_fall_to_the_older_generation() {
    let mut control = Control::up().await;
    let data = tempfile::tempdir().unwrap();
    let ((kept, kept_record), (gone, gone_record)) = (key(1), key(2));
    let records = [kept_record, gone_record.clone()];
    for number in 1..=2 {
        // Each is proven by the end of the node.
        let running = node(options(&control.url(), data.path())).await;
        let mut stream = control.node().await;
        stream.update(&with_keys(update(number, None, &policy(number)), 0, 5, &records)).await.unwrap();
        running.stop().await;
    }
    let running = node(options(&control.url(), data.path())).await;
    answered(&ask(running.address, &gone).await, 2);
    let mut revocation = with_keys(update(2, None, &policy(2)), 5, 6, &[revoked(&gone_record)]);
    revocation.content = None;
    control.node().await.update(&revocation).await.unwrap();
    running.stop().await;
    let url = control.url();
    control.down().await;

    let newest = newest(data.path(), 2);
    let whole = fs::read(&newest).unwrap();
    fs::write(&newest, &whole[..whole.len() - 1]).unwrap();
    let running = node(options(&url, data.path())).await;
    answered(&ask(running.address, &kept).await, 1);
    assert_eq!(ask(running.address, &gone).await.status, 401);
    let (status, body) = ready(&running).await;
    assert_eq!((status, body["control_plane"]["boot"].as_str()), (200, Some("reverted")));
    assert!(body["control_plane"]["start_problems"][0].as_str().unwrap().contains("last-known-good"), "{body}");
    running.stop().await;

    // With both damaged it is not ready, and open to nobody.
    for name in FILES {
        fs::write(data.path().join(name), vec![0; 1000]).unwrap();
    }
    let running = node(options(&url, data.path())).await;
    assert_eq!((ready(&running).await.0, ask(running.address, &kept).await.status), (503, 503));
    running.stop().await;
}

/// The file that holds the policy of this number.
fn newest(data: &Path, number: u64) -> PathBuf {
    let said = format!("policy {number}");
    let holds = |name: &&&str| {
        let bytes = fs::read(data.join(name)).unwrap();
        bytes.windows(said.len()).any(|part| part == said.as_bytes())
    };
    data.join(FILES.iter().find(holds).unwrap())
}

#[tokio::test]
async fn what_ended_the_process_twice_is_told_and_not_taken() {
    let mut control = Control::up().await;
    let data = tempfile::tempdir().unwrap();
    let (issued, record) = key(1);
    let running = node(options(&control.url(), data.path())).await;
    let mut stream = control.node().await;
    stream.update(&with_keys(update(1, None, &policy(1)), 0, 1, &[record])).await.unwrap();
    running.stop().await;
    // As two processes leave it that ended while they took the second.
    let poison = items::digest(&policy(2));
    fs::write(data.path().join("pending"), format!("{} 2 0\n", hex::encode(poison))).unwrap();

    let running = node(options(&control.url(), data.path())).await;
    answered(&ask(running.address, &issued).await, 1);
    let mut stream = control.node().await;
    assert_eq!(stream.hello.quarantined, [poison.to_vec()]);
    assert_eq!(stream.hello.boot(), v1::Boot::LastKnownGood);
    let nack = stream.update(&update(2, None, &policy(2))).await.unwrap_err();
    assert!(!nack.transient && nack.violations[0].code == "quarantined", "{nack:?}");
    answered(&ask(running.address, &issued).await, 1);
    let control_plane = &ready(&running).await.1["control_plane"];
    assert_eq!(control_plane["quarantined"][0].as_str(), Some(&*hex::encode(poison)));
    assert!(control_plane["quarantine_help"].as_str().unwrap().contains("remove the file `quarantined`"));
    // Another one it takes.
    stream.update(&update(3, None, &policy(3))).await.unwrap();
    answered(&ask(running.address, &issued).await, 3);
    running.stop().await;
}

#[tokio::test]
async fn a_rotated_pepper_holds_without_a_restart() {
    let mut control = Control::up().await;
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("pepper.yaml");
    Peppers::first(switchtower_keys::Pepper::new([8; 32])).write(&file).unwrap();
    let mut options = options(&control.url(), &data.path().join("kept"));
    options.pepper = PepperSource::File(file.clone());
    let running = node(options).await;
    let (issued, record) = key(1);
    let mut stream = control.node().await;
    stream.update(&with_keys(update(1, None, &policy(1)), 0, 1, &[record])).await.unwrap();
    assert_eq!(ask(running.address, &issued).await.status, 401);
    assert!(ready(&running).await.1["key_problems"][0].as_str().unwrap().contains("not live"));
    Peppers::first(pepper()).write(&file).unwrap();
    let waited = tokio::time::timeout(super::control::PATIENCE, async {
        while ask(running.address, &issued).await.status != 200 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    });
    waited.await.unwrap();
    running.stop().await;
}
