//! Carries out the steps of one outcome, in order. Steps whose requirements are not met are skipped.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::{
    apply::Applier,
    leadership::Leadership,
    metrics::{ControllerMetrics, ReasonLabel, WriteLabel},
};
use crate::{
    api::ObjectKey,
    controller::{
        index::state::PhaseChange,
        reconcile::action::Step,
        store::{Written, key::Key},
    },
    ops::errors::{ErrorReason, brief},
};

/// The result of the steps for one object.
pub(super) struct Done {
    pub key: Key,
    pub began: Instant,
    /// The objects that the API server has returned, and the times of these answers.
    pub written: Vec<(Written, Instant)>,
    /// The names of the actions that have succeeded.
    pub succeeded: Vec<&'static str>,
    /// Hosts that the API server has refused to create, with its answer.
    pub create_errors: BTreeMap<ObjectKey, String>,
    /// Storms that have their Event now.
    pub announced: Vec<PhaseChange>,
    /// The first action that has failed.
    pub failure: Option<(&'static str, kube::Error)>,
}

/// The dependencies of the execution of steps.
pub(super) struct Executor {
    pub applier: Applier,
    pub metrics: ControllerMetrics,
    pub leadership: Leadership,
}

impl Executor {
    /// Carries out the steps. It stops as soon as this replica does not lead any more.
    pub(super) async fn execute(self, key: Key, steps: Vec<Step>, began: Instant) -> Done {
        let (written, succeeded, announced) = (Vec::new(), Vec::new(), Vec::new());
        let mut done =
            Done { key, began, written, succeeded, create_errors: BTreeMap::new(), announced, failure: None };
        let mut ended: Vec<bool> = Vec::with_capacity(steps.len());
        for Step { action, requires } in steps {
            if !self.leadership.is_leader() {
                break;
            }
            if !requires.is_met(&ended) {
                ended.push(false);
                continue;
            }
            let (name, created_host) = (action.name(), action.created_host().cloned());
            let storm = action.announced_storm().cloned();
            let answer = self.applier.apply(action).await;
            self.count(&done.key, name, &answer);
            ended.push(answer.is_ok());
            match answer {
                Ok(written) => {
                    done.written.extend(written.map(|written| (written, Instant::now())));
                    done.succeeded.push(name);
                    done.announced.extend(storm);
                }
                Err(error) => {
                    if matches!(ErrorReason::from(&error), ErrorReason::Invalid | ErrorReason::Forbidden) {
                        done.create_errors.extend(created_host.map(|host| (host, brief(&error))));
                    }
                    done.failure.get_or_insert((name, error));
                }
            }
        }
        done
    }

    fn count(&self, key: &Key, action: &'static str, answer: &kube::Result<Option<Written>>) {
        let outcome = match answer {
            Ok(_) => "ok",
            Err(error) => ErrorReason::from(error).as_str(),
        };
        self.metrics.writes.get_or_create(&WriteLabel { kind: key.kind(), action, outcome }).inc();
        if answer.is_err() {
            self.metrics.errors.get_or_create(&ReasonLabel { operation: "write", reason: outcome }).inc();
        }
    }
}
