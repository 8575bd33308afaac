//! An independent model of behaviour 2: what a host is in, by the events that it has seen.

use std::collections::BTreeMap;

use jiff::Timestamp;
use multibond::{
    api::{ConnectionState, HostStatus, Phase, reason::EmptyReason},
    planner::{AgentState, HostPlan},
};

use super::timeline::Timeline;

/// What has happened to a target since the host entered service.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// It has had a live session.
    session: bool,
    /// Since when it has been lost, or held without ever having had a session.
    without: Option<Timestamp>,
}

/// What a host has seen since it entered service in its data center.
#[derive(Debug, Default)]
pub struct VerdictModel {
    data_center: String,
    seen: BTreeMap<String, Seen>,
}

/// A target's part of the verdict. The worst comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    NotReachable,
    Lost,
    Connecting,
    Reachable,
}

fn has_bad_lun(status: &HostStatus) -> bool {
    let Some(luns) = &status.luns else { return false };
    !luns.problems.is_empty()
}

impl VerdictModel {
    /// The phase of a timeline's host now. It must see every state that the product judges.
    pub fn phase(&mut self, timeline: &Timeline, plan: &HostPlan) -> Phase {
        let host = &timeline.objects.hosts[0];
        match plan.reason {
            Some(EmptyReason::Maintenance) => {
                self.seen.clear();
                return Phase::Maintenance;
            }
            Some(EmptyReason::InterfacesUnknown) | None => {}
            Some(_) => {
                self.seen.clear();
                return Phase::Unassigned;
            }
        }
        if self.data_center != host.spec.data_center {
            self.seen.clear();
            self.data_center.clone_from(&host.spec.data_center);
        }
        if timeline.agent != AgentState::Alive {
            return Phase::Unknown;
        }
        let nothing = HostStatus::default();
        let status = host.status.as_ref().unwrap_or(&nothing);
        let mut worst = Part::Reachable;
        let mut names: Vec<String> = plan.paths.iter().map(|path| path.target.to_string()).collect();
        names.extend(plan.hold.iter().chain(&plan.no_network).map(ToString::to_string));
        for name in names {
            let part = self.target(&name, plan, status, timeline);
            worst = worst.min(part);
        }
        let failed = plan.paths.iter().any(|path| state(status, path.key()) == Some(ConnectionState::Failed));
        match worst {
            Part::NotReachable => Phase::NonOperational,
            Part::Lost => Phase::Lost,
            Part::Connecting => Phase::Connecting,
            Part::Reachable if failed || has_bad_lun(status) => Phase::Degraded,
            Part::Reachable => Phase::Up,
        }
    }

    fn target(&mut self, name: &str, plan: &HostPlan, status: &HostStatus, timeline: &Timeline) -> Part {
        if plan.no_network.iter().any(|target| **target == *name) {
            return Part::NotReachable;
        }
        let held = plan.hold.iter().any(|target| **target == *name);
        let of_target = status.connections.iter().filter(|connection| *connection.target == *name);
        let live =
            of_target.clone().any(|one| [ConnectionState::Connected, ConnectionState::Retained].contains(&one.state));
        let of_paths: Vec<Option<ConnectionState>> =
            plan.paths.iter().filter(|path| *path.target == *name).map(|path| state(status, path.key())).collect();
        let connected = of_paths.contains(&Some(ConnectionState::Connected));
        let ended = |state: &Option<ConnectionState>| {
            [Some(ConnectionState::Connected), Some(ConnectionState::Failed)].contains(state)
        };
        let first_attempts = !of_paths.iter().all(ended);

        let seen = self.seen.entry(name.to_owned()).or_default();
        if (live || connected) && !seen.session {
            // From now on it can be lost.
            *seen = Seen { session: true, without: None };
        }
        let reached = if held { live } else { connected };
        if reached {
            seen.without = None;
            return Part::Reachable;
        }
        if !seen.session && !held {
            // Nothing was there that could be lost: the first attempts decide.
            seen.without = None;
            return if first_attempts { Part::Connecting } else { Part::NotReachable };
        }
        // Times in statuses have whole seconds, rounded up.
        let second = Timestamp::from_second(timeline.now.as_second()).expect("a time");
        let ceiling = if second == timeline.now { second } else { second + jiff::SignedDuration::from_secs(1) };
        let since = *seen.without.get_or_insert(ceiling);
        let seconds = i64::try_from(timeline.delay).expect("a delay");
        let over = timeline.delay == 0 || since + jiff::SignedDuration::from_secs(seconds) <= timeline.now;
        match (over, seen.session, live) {
            (false, true, false) => Part::Lost,
            (false, ..) => Part::Connecting,
            // Make before break, until the first attempts of the new paths end.
            (true, _, true) if first_attempts => Part::Connecting,
            (true, ..) => Part::NotReachable,
        }
    }
}

/// The state of a path; of two sessions on one path the connected one counts.
fn state(status: &HostStatus, key: multibond::api::PathKey<'_>) -> Option<ConnectionState> {
    let mut of_path: Vec<ConnectionState> =
        status.connections.iter().filter(|one| one.key() == key).map(|one| one.state).collect();
    of_path.sort_by_key(|state| *state != ConnectionState::Connected);
    of_path.first().copied()
}
