//! Waiting for a state instead of sleeping.

use std::fmt::Display;
use std::panic::Location;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

/// Calls `check` until it returns `Ok`, and returns that value. An `Err` says what was seen instead.
///
/// ```no_run
/// # async fn test(pods: kube::Api<k8s_openapi::api::core::v1::Pod>) {
/// # use std::time::Duration;
/// use multibond_testbed::eventually;
///
/// eventually("the pod is gone", Duration::from_secs(10), async || match pods.get_opt("worker").await {
///     Ok(None) => Ok(()),
///     other => Err(format!("{other:?}")),
/// })
/// .await;
/// # }
/// ```
///
/// # Panics
/// If that takes longer than `timeout`; the message has `what`, and what was seen last.
#[track_caller]
pub fn eventually<T, E, F>(what: &str, timeout: Duration, check: F) -> impl Future<Output = T>
where
    E: Display,
    F: AsyncFnMut() -> Result<T, E>,
{
    or_panic(what, timeout, check, Location::caller())
}

#[expect(clippy::panic, reason = "its callers are tests, and a state that never came is a failed test")]
async fn or_panic<T, E, F>(what: &str, timeout: Duration, check: F, caller: &Location<'_>) -> T
where
    E: Display,
    F: AsyncFnMut() -> Result<T, E>,
{
    match poll(timeout, check).await {
        Ok(value) => value,
        Err(seen) => panic!("{caller}: not within {timeout:?}: {what}\nlast seen: {seen}"),
    }
}

/// The longest pause between two checks.
const LONGEST: Duration = Duration::from_secs(1);

/// Calls `check` until it returns `Ok`; after `timeout`, returns what was seen last.
pub(crate) async fn poll<T, E, F>(timeout: Duration, mut check: F) -> Result<T, String>
where
    E: Display,
    F: AsyncFnMut() -> Result<T, E>,
{
    let deadline = Instant::now() + timeout;
    let mut pause = Duration::from_millis(20);
    let mut seen = "nothing: the first check did not return".to_owned();
    loop {
        let asked = Instant::now();
        // A check that hangs counts as failed.
        match timeout_at(deadline, check()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => seen = format!("{error:#}"),
            Err(_) => {}
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(seen);
        }
        // If checks are slow, they take at most half of the time: the rest is left to what the test waits for.
        sleep(pause.max(asked.elapsed().min(LONGEST)).min(left)).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn returns_the_last_result_of_the_check() {
        let mut calls = 0;
        let found = eventually("the third call", Duration::from_secs(10), async || {
            calls += 1;
            if calls == 3 { Ok("found") } else { Err(format!("call {calls}")) }
        });
        assert_eq!(found.await, "found");
    }

    #[tokio::test]
    #[should_panic(expected = "not within 50ms: the sky is green\nlast seen: blue")]
    async fn timeout_panics_with_the_last_observed_state() {
        eventually("the sky is green", MOMENT, async || Err::<(), _>("blue")).await;
    }

    #[tokio::test]
    #[should_panic(expected = "last seen: nothing: the first check did not return")]
    async fn hanging_check_panics_too() {
        eventually("an answer", MOMENT, std::future::pending::<Result<(), String>>).await;
    }
}
