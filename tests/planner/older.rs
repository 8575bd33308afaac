//! Objects with the statuses that the first version wrote. `BLESS=1 make test-skew` records them from its programs.

use std::time::Duration;

use jiff::Timestamp;
use multibond::{
    api::{Host, Phase},
    planner::{AgentState, HostPlan, Objects, Observation, judge, plan_all},
};
use serde_json::Value;

fn recorded() -> Objects {
    let all: Vec<Value> = serde_json::from_str(include_str!("first-version.json")).expect("a list of objects");
    let mut objects = Objects::default();
    for object in all {
        let kind = object["kind"].as_str().expect("a kind").to_owned();
        let context = format!("{kind} {}", object["metadata"]["name"]);
        let read = "is read by this version";
        match kind.as_str() {
            "DataCenter" => objects.data_centers.push(serde_json::from_value(object).expect(read)),
            "Network" => objects.networks.push(serde_json::from_value(object).expect(read)),
            "IscsiBond" => objects.bonds.push(serde_json::from_value(object).expect(read)),
            "Host" => objects.hosts.push(serde_json::from_value(object).expect(read)),
            _ => panic!("{context} is of no known kind"),
        }
    }
    objects
}

/// The hosts with their plans by this version.
fn planned(objects: &Objects) -> Vec<(&Host, HostPlan)> {
    let plans = plan_all(objects).hosts;
    let of = |host: &Host| plans.iter().find(|planned| Some(&planned.name) == host.metadata.name.as_ref());
    objects.hosts.iter().map(|host| (host, of(host).expect("a plan").plan.clone())).collect()
}

#[test]
fn a69_statuses_of_the_first_version_ask_no_host_for_anything_new() {
    let objects = recorded();
    assert!(objects.hosts.len() >= 10);
    for (host, plan) in planned(&objects) {
        let name = host.metadata.name.as_deref().expect("a name");
        let before = host.status.as_ref().and_then(|status| status.plan.as_ref()).expect("a plan");
        let now = plan.to_status();
        assert_eq!((&now.paths, &now.hold), (&before.paths, &before.hold), "{name}");
        // The portals of a held target are new in the plan, and nothing that was connected is at another one.
        assert_eq!(now.revision == before.revision, before.hold.is_empty(), "{name}");
        assert!(host.status.as_ref().is_some_and(|status| status.has_carried_out(&before.revision)), "{name}");
    }
}

#[test]
fn a69_statuses_of_the_first_version_have_the_same_verdicts() {
    let objects = recorded();
    for (host, plan) in planned(&objects) {
        let name = host.metadata.name.as_deref().expect("a name");
        let status = host.status.as_ref().expect("a status");
        let after = objects.data_centers.iter().find(|it| it.metadata.name.as_ref() == Some(&host.spec.data_center));
        let after = after.expect("the data center").spec.non_operational_after_seconds;
        let lost_at = status.targets.iter().filter_map(|target| target.lost_at.as_ref()).map(|time| time.0).max();
        let observation = Observation {
            host,
            node_owner: None,
            agent: AgentState::Alive,
            non_operational_after: Duration::from_secs(after.into()),
            warnings: &[],
        };
        let verdict = judge(&plan, &observation, lost_at.unwrap_or(Timestamp::UNIX_EPOCH) + Duration::from_secs(1));
        let before = status.phase.expect("a phase");
        // The first version had no word for a loss.
        let expected = if name == "lost" { Phase::Lost } else { before };
        assert_eq!(verdict.phase, expected, "{name}");
        assert_eq!(verdict.targets, status.targets, "{name}: what was lost since when");
    }
}
