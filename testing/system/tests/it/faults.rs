//! What the upstream is told to do, in few words.

use switchtower_fake_bedrock::{Behaviour, Break, Exception, Fail, InStream, StreamException};

/// Every request fails so.
pub(crate) fn failing(error: Exception) -> Behaviour {
    Behaviour { fail: Some(Fail::with(error)), ..Behaviour::default() }
}

/// Every stream breaks so after this many events: the first is `messageStart`, the second the first word.
pub(crate) fn breaking(after: u32, error: Break) -> Behaviour {
    let in_stream = Some(InStream::after(after, error));
    Behaviour { text: Some("one two three four".to_owned()), in_stream, ..Behaviour::default() }
}

/// An exception inside a stream.
pub(crate) const OVERLOAD: Break = Break::Exception(StreamException::ServiceUnavailable);
