//! A quota of tokens per minute: a bucket that starts full and refills evenly.

use tokio::time::Instant;

/// The bucket. Whoever asks says what time it is.
#[derive(Debug)]
pub(crate) struct Bucket {
    per_minute: f64,
    left: f64,
    at: Instant,
}

impl Bucket {
    pub(crate) fn new(tokens_per_minute: u32, now: Instant) -> Bucket {
        Bucket { per_minute: f64::from(tokens_per_minute), left: f64::from(tokens_per_minute), at: now }
    }

    /// Takes `tokens` out, or nothing where there are fewer.
    pub(crate) fn take(&mut self, tokens: u32, now: Instant) -> bool {
        let refilled = now.saturating_duration_since(self.at).as_secs_f64() / 60.0 * self.per_minute;
        self.left = (self.left + refilled).min(self.per_minute);
        self.at = now;
        let enough = self.left >= f64::from(tokens);
        if enough {
            self.left -= f64::from(tokens);
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_bucket_refills_evenly_and_never_above_its_rim() {
        let start = Instant::now();
        let mut bucket = Bucket::new(60, start);
        let mut check = |seconds: u64, tokens: u32, expected: bool| {
            let now = start + Duration::from_secs(seconds);
            assert_eq!(bucket.take(tokens, now), expected, "{tokens} tokens after {seconds} s");
        };
        check(0, 61, false);
        check(0, 50, true);
        check(0, 11, false);
        check(0, 10, true);
        check(10, 11, false);
        check(10, 10, true);
        check(600, 60, true);
        check(600, 1, false);
    }
}
