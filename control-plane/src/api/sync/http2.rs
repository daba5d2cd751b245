//! How the server of both services treats connections.

use std::time::Duration;

use tonic::transport::Server;

/// How often the server asks whether a connection lives: a peer that is gone without a word is noticed within
/// [`PING_EVERY`] and [`PING_ANSWER`], sooner than by the silence of a stream.
pub const PING_EVERY: Duration = Duration::from_secs(20);
/// How long it waits for the answer.
pub const PING_ANSWER: Duration = Duration::from_secs(10);
/// Most calls on one connection: a proxy before a fleet puts many nodes' streams on one, and one peer must not take all
/// the memory there is.
pub const STREAMS: u32 = 1024;
/// How many bytes of one stream may be on their way up before they are read. What nodes say is small; what they are sent
/// is bounded by their own windows.
pub const STREAM_WINDOW: u32 = 64 << 10;
/// Of one connection: operators' policies come in here, up to 4 MiB each, and should not need a round trip per 64 KiB.
pub const CONNECTION_WINDOW: u32 = 1 << 20;
/// Longest list of headers, in bytes.
pub const HEADERS: u32 = 16 << 10;

/// The server with these settings. Nodes may ping it as often as every 10 seconds, idle or not: it never takes pings amiss.
#[must_use]
pub fn configured<L>(server: Server<L>) -> Server<L> {
    server
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_ANSWER))
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_max_header_list_size(HEADERS)
        // An update and its answer are small and must not wait for more of their kind.
        .tcp_nodelay(true)
}
