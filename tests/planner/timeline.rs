//! One host over time: planned, reported, judged, with a controller restart between any two verdicts.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use multibond::{
    api::{
        AgentStatus, Connection, ConnectionState, Host, HostLuns, HostStatus, HostWarning, LunAddress, LunProblem,
        LunProblemKind, reason::ConditionType, reason::PathReason,
    },
    planner::{AgentState, HostPlan, HostVerdict, Objects, Observation, judge, plan_all},
};

use super::fixture::objects;

pub struct Timeline {
    pub objects: Objects,
    pub agent: AgentState,
    pub delay: u64,
    pub now: Timestamp,
    pub warnings: Vec<HostWarning>,
}

impl Timeline {
    /// The first host of a fixture, judged from now on.
    pub fn new(yaml: &str) -> Self {
        Timeline {
            objects: objects(yaml),
            agent: AgentState::Alive,
            delay: 60,
            now: Timestamp::from_millisecond(1_000_400).expect("a time"),
            warnings: Vec::new(),
        }
    }

    pub fn host(&mut self) -> &mut Host {
        &mut self.objects.hosts[0]
    }

    /// The host's plan now.
    pub fn plan(&self) -> HostPlan {
        let name = self.objects.hosts[0].metadata.name.as_deref().expect("a name");
        plan_all(&self.objects).hosts.into_iter().find(|host| host.name == name).expect("the host").plan
    }

    /// The agent reports on the planned paths, in their order: `C`onnected, `F`ailed, `c`onnecting, `R`etained,
    /// `D`isconnecting, or nothing (`-`). It has seen the plan.
    pub fn reports(&mut self, states: &str) -> &mut Self {
        let plan = self.plan();
        assert_eq!(states.len(), plan.paths.len(), "a state for each path of {:?}", plan.paths);
        let planned = plan.paths.iter().zip(states.chars()).filter_map(|(path, state)| {
            let (state, reason) = match state {
                'C' => (ConnectionState::Connected, None),
                'c' => (ConnectionState::Connecting, None),
                'F' => (ConnectionState::Failed, Some(PathReason::PortalUnreachable)),
                'R' => (ConnectionState::Retained, Some(PathReason::InUse)),
                'D' => (ConnectionState::Disconnecting, None),
                '-' => return None,
                other => panic!("no state {other}"),
            };
            Some(Connection {
                target: path.target.clone(),
                portal: path.portal.clone(),
                tpgt: path.tpgt,
                interface: path.interface.clone(),
                state,
                session_id: None,
                reason,
                message: reason.map(|_| "no answer".to_owned()),
                since: Time(self.now),
                retry_every: None,
            })
        });
        let connections = planned.collect();
        let reported = self.host().status.get_or_insert_default();
        reported.connections = connections;
        reported.plan = Some(plan.to_status());
        reported.agent = Some(AgentStatus { observed_revision: Some(plan.revision), ..AgentStatus::default() });
        self
    }

    /// Adds a session beside the planned paths.
    pub fn also(&mut self, target: &str, state: ConnectionState) -> &mut Self {
        let connection = Connection {
            target: format!("iqn.2003-01.org.example:{target}").into(),
            portal: "192.0.2.99:3260".into(),
            tpgt: 1,
            interface: None,
            state,
            session_id: Some(9),
            reason: None,
            message: Some("sdb is mounted".to_owned()),
            since: Time(self.now),
            retry_every: None,
        };
        self.host().status.get_or_insert_default().connections.push(connection);
        self
    }

    /// The agent reports a LUN, with this problem if there is one.
    pub fn lun(&mut self, problem: Option<LunProblemKind>) -> &mut Self {
        let (target, text) = ("iqn.2003-01.org.example:alpha", "3600a 1 2/2 iqn.2003-01.org.example:alpha#1");
        let problem = problem.map(|problem| LunProblem {
            problem,
            wwid: "3600a".to_owned(),
            at: vec![LunAddress { target: target.into(), lun: 1 }],
            size_bytes: 1,
            disks: 2,
            active: 0,
            expected: 2,
            message: "no path works".to_owned(),
        });
        let healthy = if problem.is_none() { vec![text.to_owned()] } else { Vec::new() };
        let summary = format!("{}/1", healthy.len());
        let luns = HostLuns { summary, problems: problem.into_iter().collect(), healthy, left_out: 0 };
        self.host().status.get_or_insert_default().luns = Some(luns);
        self
    }

    pub fn wait(&mut self, seconds: u64) -> &mut Self {
        self.wait_millis(seconds * 1000)
    }

    pub fn wait_millis(&mut self, milliseconds: u64) -> &mut Self {
        self.now += Duration::from_millis(milliseconds);
        self
    }

    /// Plans and judges, and writes what the controller writes. A restart between two verdicts changes nothing,
    /// because the history passes through its serialized form.
    pub fn judge(&mut self) -> HostVerdict {
        let plan = self.plan();
        let observation = Observation {
            host: &self.objects.hosts[0],
            node_owner: None,
            agent: self.agent,
            non_operational_after: Duration::from_secs(self.delay),
            warnings: &self.warnings,
        };
        let verdict = judge(&plan, &observation, self.now);
        let data_center = plan.in_service().then(|| self.objects.hosts[0].spec.data_center.clone());
        let status = self.host().status.get_or_insert_default();
        status.networks.clone_from(&plan.networks);
        status.targets.clone_from(&verdict.targets);
        status.data_center = data_center;
        let stored = serde_json::to_string(&self.objects.hosts[0]).expect("JSON");
        self.objects.hosts[0] = serde_json::from_str(&stored).expect("a Host");
        verdict
    }

    /// The verdict as one line while the data center is frozen: on the plan that was last written.
    pub fn verdict_while_frozen(&self) -> String {
        let host = &self.objects.hosts[0];
        let stored = serde_json::to_string(host.status.as_ref().expect("a status")).expect("JSON");
        let status: HostStatus = serde_json::from_str(&stored).expect("a status");
        let plan = HostPlan::from_status(&status.plan.expect("a plan"), &status.networks, None);
        let observation = Observation {
            host,
            node_owner: None,
            agent: self.agent,
            non_operational_after: Duration::from_secs(self.delay),
            warnings: &self.warnings,
        };
        line(&judge(&plan, &observation, self.now))
    }

    /// The verdict as one line.
    pub fn verdict(&mut self) -> String {
        line(&self.judge())
    }
}

/// Phase and paths, then status and reason of Operational, `FullyConnected` and Ready.
pub fn line(verdict: &HostVerdict) -> String {
    let condition = |kind| {
        let found = verdict.conditions.iter().find(|condition| condition.kind == kind);
        assert!(found.is_some() != verdict.absent.contains(&kind), "{kind} is either given or absent");
        found.map_or("-".to_owned(), |found| format!("{} {}", found.status.as_str(), found.reason))
    };
    let [operational, fully, ready] =
        [ConditionType::Operational, ConditionType::FullyConnected, ConditionType::Ready].map(condition);
    let (paths, phase) = (verdict.paths, verdict.phase.as_str());
    format!("{phase} {}/{} | {operational} | {fully} | {ready}", paths.connected, paths.desired)
}

/// The message of a condition.
pub fn message(verdict: &HostVerdict, kind: ConditionType) -> String {
    let condition = verdict.conditions.iter().find(|condition| condition.kind == kind).expect("the condition");
    condition.message.replace("iqn.2003-01.org.example:", "@")
}
