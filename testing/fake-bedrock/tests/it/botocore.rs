//! A second decoder, written by other people in another language: what the AWS SDK for Rust overlooks, botocore may
//! not.

use std::process::Stdio;

use switchtower_fake_bedrock::{FakeBedrock, Options};
use tokio::process::Command;

use crate::support::REGION;

#[tokio::test]
async fn botocore_accepts_every_answer_and_sees_every_fault() {
    let python = std::env::var("SWITCHTOWER_PYTHON").expect(
        "SWITCHTOWER_PYTHON names no Python interpreter that has boto3: run `make test`, which sets one up and runs \
         this test with it",
    );
    let control = Some(([127, 0, 0, 1], 0).into());
    let fake = FakeBedrock::start(Options { control, ..Options::default() }).await.unwrap();
    let run = Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/botocore_accepts.py"))
        .arg(fake.endpoint(REGION))
        .arg(fake.control_url().unwrap())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{out}\n{err}");
    assert!(out.ends_with("botocore accepts it\n"), "{out}");
}
