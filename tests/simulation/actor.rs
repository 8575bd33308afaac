//! The processes of the simulation: each with its own tasks and its own clock, to be killed or held as a whole.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use multibond::ops::{Clock, Platform, Supervisor, Tasks};
use tokio::task::AbortHandle;

use super::clock;

/// A controller or an agent.
pub struct Actor {
    /// Its name in the log, other for each start.
    pub name: String,
    state: Mutex<State>,
    offset: AtomicI64,
}

#[derive(Default)]
struct State {
    tasks: Vec<AbortHandle>,
    held: bool,
    waiting: Vec<Waker>,
}

impl Actor {
    /// An actor that runs.
    pub fn new(name: impl Into<String>, offset: i64) -> Arc<Self> {
        Arc::new(Actor { name: name.into(), state: Mutex::default(), offset: AtomicI64::new(offset) })
    }

    /// What the actor sees of the machine.
    pub fn platform(self: &Arc<Self>) -> Platform {
        Platform { clock: Clock::with_wall(clock::actors_wall), tasks: Tasks::supervised(self.clone()) }
    }

    /// Ends it at once, wherever it waits.
    pub fn kill(&self) {
        for task in self.state().tasks.drain(..) {
            task.abort();
        }
    }

    /// Holds it: none of its tasks runs until it goes on.
    pub fn hold(&self) {
        self.state().held = true;
    }

    /// Lets it go on. It does not notice that time has passed.
    pub fn go_on(&self) {
        let mut state = self.state();
        state.held = false;
        state.waiting.drain(..).for_each(Waker::wake);
    }

    /// Sets its wall clock.
    pub fn set_clock(&self, offset: i64) {
        self.offset.store(offset, Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Supervisor for Actor {
    fn started(&self, task: AbortHandle) {
        let mut state = self.state();
        if state.tasks.len() >= 256 {
            state.tasks.retain(|task| !task.is_finished());
        }
        state.tasks.push(task);
    }

    fn poll_go_on(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.held {
            state.waiting.push(cx.waker().clone());
            return Poll::Pending;
        }
        clock::set_offset(self.offset.load(Ordering::Relaxed));
        Poll::Ready(())
    }
}
