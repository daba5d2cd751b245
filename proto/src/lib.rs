//! The wire: messages and services generated from the `.proto` files beside this crate. No logic.
//!
//! Features: `client` and `server` add the services; without them only the messages are there, and nothing of tonic.

/// What operators call: policies, keys, the fleet, events.
pub mod control {
    /// Version 1.
    #[allow(missing_docs, unreachable_pub, clippy::all)]
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/switchtower.control.v1.rs"));
    }
}

/// The stream between nodes and the control plane.
pub mod sync {
    /// Version 1.
    #[allow(missing_docs, unreachable_pub, clippy::all)]
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/switchtower.sync.v1.rs"));
    }
}

/// What the control plane keeps in its store.
pub mod store {
    /// Version 1.
    #[allow(missing_docs, unreachable_pub, clippy::all)]
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/switchtower.store.v1.rs"));
    }
}

/// The policy document, and the revisions that are made of it.
pub mod policy {
    /// Version 1.
    #[allow(missing_docs, unreachable_pub, clippy::all)]
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/switchtower.policy.v1.rs"));
    }
}

/// What applications call.
pub mod inference {
    /// Version 1.
    #[allow(missing_docs, unreachable_pub, clippy::all)]
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/switchtower.inference.v1.rs"));
    }
}

/// All files as an encoded `FileDescriptorSet`, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
