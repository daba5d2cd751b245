//! Work that must not end what serves: on a thread of its own, bounded in time, its panic caught.

use std::{thread, time::Duration};

use tokio::sync::oneshot;

/// Conditions are bounded, their compiler's use of the stack is not measured: this is four times what a thread has else.
const STACK_BYTES: usize = 8 << 20;

/// Why there is no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failed {
    /// It panicked.
    #[error("it broke this program, which is a defect of it")]
    Panicked,
    /// It took too long. Its thread goes on until it is done.
    #[error("it took too long")]
    TooLong,
    /// There are no more threads.
    #[error("there is no thread for it")]
    NoThread,
}

/// Does work aside. Dropping the future leaves the work to end by itself.
///
/// # Errors
/// Why there is no result.
pub(super) async fn aside<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failed> {
    let (done, result) = oneshot::channel();
    let body = move || {
        // Whoever waited may have gone; a panic drops the sender.
        let _ = done.send(work());
    };
    thread::Builder::new()
        .name("policy".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(body)
        .map_err(|_| Failed::NoThread)?;
    match tokio::time::timeout(limit, result).await {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(_)) => Err(Failed::Panicked),
        Err(_) => Err(Failed::TooLong),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_ends_whatever_it_does() {
        let long = Duration::from_secs(60);
        assert_eq!(aside(long, || 7).await, Ok(7));
        assert_eq!(aside(long, || -> u8 { panic!("as meant by the test") }).await, Err(Failed::Panicked));
        let (held, wait) = std::sync::mpsc::channel::<()>();
        let stuck = aside(Duration::from_millis(20), move || wait.recv().is_ok());
        assert_eq!(stuck.await, Err(Failed::TooLong));
        drop(held);
    }
}
