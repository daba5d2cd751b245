//! Compiles the `.proto` files with protox: no `protoc` is needed.

use std::{error::Error, path::PathBuf};

use prost::Message;

const FILES: [&str; 9] = [
    "switchtower/policy/v1/policy.proto",
    "switchtower/policy/v1/revision.proto",
    "switchtower/control/v1/policies.proto",
    "switchtower/control/v1/keys.proto",
    "switchtower/control/v1/fleet.proto",
    "switchtower/control/v1/events.proto",
    "switchtower/sync/v1/sync.proto",
    "switchtower/store/v1/store.proto",
    "switchtower/inference/v1/inference.proto",
];

/// Bytes that are shared by many nodes or cut out of what was received: no copy for each.
const SHARED: [&str; 3] =
    [".switchtower.policy.v1.Item.body", ".switchtower.sync.v1.Update.body", ".switchtower.sync.v1.KeyRecord.hash"];

fn main() -> Result<(), Box<dyn Error>> {
    let files = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), files.encode_to_vec())?;
    SHARED
        .iter()
        .fold(tonic_prost_build::configure(), |builder, path| builder.bytes(path))
        .btree_map(".")
        .build_client(std::env::var_os("CARGO_FEATURE_CLIENT").is_some())
        .build_server(std::env::var_os("CARGO_FEATURE_SERVER").is_some())
        .compile_fds(files)?;
    println!("cargo:rerun-if-changed=switchtower");
    Ok(())
}
