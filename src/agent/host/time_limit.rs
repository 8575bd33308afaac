//! A time limit for reads of the kernel that may hang, such as the open of a disk whose session is lost.
//!
//! A system call that hangs cannot be broken off. So it is made in a thread of its own, which is left alone after the
//! limit. While such a thread still hangs, the same read is not started again.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

/// Runs reads that may hang.
#[derive(Clone, Debug)]
pub struct TimeLimit {
    limit: Duration,
    running: Running,
}

/// When each read was started that has not ended, by what it reads.
type Running = Arc<Mutex<BTreeMap<String, Vec<Instant>>>>;

impl TimeLimit {
    /// A limit for each read.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        TimeLimit { limit, running: Running::default() }
    }

    /// Runs a read; `what` names it in errors, as in "opening sda".
    ///
    /// # Errors
    /// The error of the read; or it takes longer than the limit, or an earlier one of the same thing still does.
    pub fn run<T: Send + 'static>(
        &self,
        what: &str,
        read: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let begun = Instant::now();
        {
            let mut running = lock(&self.running);
            let starts = running.entry(what.to_owned()).or_default();
            if starts.iter().any(|start| start.elapsed() >= self.limit) {
                return Err(self.timed_out(what));
            }
            starts.push(begun);
        }
        let (sender, receiver) = mpsc::channel();
        let (ended, key) = (self.running.clone(), what.to_owned());
        let thread = thread::Builder::new().name("read".into()).spawn(move || {
            let result = read();
            remove(&ended, &key, begun);
            // Nobody waits any more if it took too long.
            let _ = sender.send(result);
        });
        if let Err(error) = thread {
            remove(&self.running, what, begun);
            return Err(error);
        }
        match receiver.recv_timeout(self.limit) {
            Ok(result) => result,
            Err(mpsc::RecvTimeoutError::Timeout) => Err(self.timed_out(what)),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(io::Error::other(format!("{what} was broken off"))),
        }
    }

    fn timed_out(&self, what: &str) -> io::Error {
        let message = format!("{what} takes longer than {} s", self.limit.as_secs());
        io::Error::new(io::ErrorKind::TimedOut, message)
    }
}

fn remove(running: &Running, what: &str, begun: Instant) {
    let mut running = lock(running);
    if let Some(starts) = running.get_mut(what) {
        if let Some(at) = starts.iter().position(|start| *start == begun) {
            starts.swap_remove(at);
        }
        if starts.is_empty() {
            running.remove(what);
        }
    }
}

fn lock(running: &Running) -> MutexGuard<'_, BTreeMap<String, Vec<Instant>>> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn a_read_that_hangs_is_an_error_and_is_not_started_again() {
        let limit = TimeLimit::new(Duration::from_millis(50));
        let started = Arc::new(AtomicU32::new(0));
        let (release, hanging) = mpsc::channel::<()>();
        let hanging = Arc::new(Mutex::new(hanging));
        let read = || {
            let (started, hanging) = (started.clone(), hanging.clone());
            limit.run("opening sda", move || {
                started.fetch_add(1, Ordering::SeqCst);
                let _ = hanging.lock().unwrap().recv();
                Ok(7)
            })
        };
        for _ in 0..3 {
            let error = read().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
            assert!(error.to_string().starts_with("opening sda takes longer than "), "{error}");
        }
        assert_eq!(started.load(Ordering::SeqCst), 1);
        assert_eq!(limit.run("opening sdb", || Ok(8)).unwrap(), 8, "another disk is read");
        drop(release);
        while !lock(&limit.running).is_empty() {
            thread::yield_now();
        }
        assert_eq!(read().unwrap(), 7);
    }

    #[test]
    fn the_same_thing_may_be_read_by_two_at_once() {
        let limit = TimeLimit::new(Duration::from_secs(60));
        let inner = limit.clone();
        let both = limit.run("opening sda", move || inner.run("opening sda", || Ok(1)));
        assert_eq!(both.unwrap(), 1);
        assert!(limit.run::<()>("opening sda", || Err(io::ErrorKind::NotFound.into())).is_err());
        assert!(lock(&limit.running).is_empty());
    }
}
