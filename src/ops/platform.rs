//! What a process needs of the machine: its clocks, and a place for its tasks.
//!
//! A controller or an agent reads the time and starts tasks only through its platform. So a simulation can run many of them
//! in one process, each with a clock of its own, and can end or hold all tasks of one, as a crash or a stalled machine does.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::task::{AbortHandle, JoinHandle, JoinSet};

use super::Clock;

/// The clocks and the tasks of a process.
#[derive(Clone, Debug)]
pub struct Platform {
    /// Its clocks.
    pub clock: Clock,
    /// Its tasks.
    pub tasks: Tasks,
}

impl Platform {
    /// The clocks of this machine, which start now, and the tasks of this process.
    #[must_use]
    pub fn start() -> Self {
        Platform { clock: Clock::start(), tasks: Tasks::default() }
    }
}

/// Starts the tasks of a process. Clones start tasks of the same process.
#[derive(Clone, Default)]
pub struct Tasks(Option<Arc<dyn Supervisor>>);

/// Decides when the tasks of a simulated process run.
pub trait Supervisor: Send + Sync {
    /// A task was started.
    fn started(&self, task: AbortHandle);

    /// Whether a task may go on now. If not, it is woken when it may.
    fn poll_go_on(&self, cx: &mut Context<'_>) -> Poll<()>;
}

impl Tasks {
    /// Tasks that a supervisor ends and holds.
    #[must_use]
    pub fn supervised(supervisor: Arc<dyn Supervisor>) -> Self {
        Tasks(Some(supervisor))
    }

    /// Starts a task.
    pub fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        let Some(supervisor) = &self.0 else { return tokio::spawn(task) };
        let task = tokio::spawn(Supervised { supervisor: supervisor.clone(), task: Box::pin(task) });
        supervisor.started(task.abort_handle());
        task
    }

    /// Starts a task that belongs to a set.
    pub fn spawn_in<T: Send + 'static>(&self, set: &mut JoinSet<T>, task: impl Future<Output = T> + Send + 'static) {
        let Some(supervisor) = &self.0 else { return drop(set.spawn(task)) };
        let started = set.spawn(Supervised { supervisor: supervisor.clone(), task: Box::pin(task) });
        supervisor.started(started);
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Tasks(supervised)" } else { "Tasks" })
    }
}

/// A task that goes on only while its supervisor lets it.
struct Supervised<T> {
    supervisor: Arc<dyn Supervisor>,
    task: Pin<Box<T>>,
}

impl<T: Future> Future for Supervised<T> {
    type Output = T::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        ready!(self.supervisor.poll_go_on(cx));
        self.task.as_mut().poll(cx)
    }
}
