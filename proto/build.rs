//! Compiles the `.proto` files with protox: no `protoc` is needed.

use std::{error::Error, path::PathBuf};

use prost::Message;

const FILES: [&str; 2] = ["switchtower/policy/v1/policy.proto", "switchtower/inference/v1/inference.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    let files = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), files.encode_to_vec())?;
    tonic_prost_build::configure()
        .btree_map(".")
        .build_client(std::env::var_os("CARGO_FEATURE_CLIENT").is_some())
        .build_server(std::env::var_os("CARGO_FEATURE_SERVER").is_some())
        .compile_fds(files)?;
    println!("cargo:rerun-if-changed=switchtower");
    Ok(())
}
