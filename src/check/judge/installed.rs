//! The installation: CRDs, admission policies, controller and agents.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::apps::v1::{DaemonSet, Deployment},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::api::ObjectMeta;

use super::{LeaseState, RETRY_HINT, agent, key, leader, line_for};
use crate::{
    api::{self, Host, LEADER_LEASE, LeasePart, NodePart},
    check::{Check, Finding, Line, VERSION, facts::ClusterFacts},
    ops::age,
};

/// The chart's admission policies.
pub(super) const POLICIES: [&str; 7] = [
    "multibond-agent-writes",
    "multibond-agent-leases",
    "multibond-data-centers",
    "multibond-data-center-nodes",
    "multibond-host-nodes",
    "multibond-portals",
    "multibond-secrets",
];

pub(super) fn lines(facts: &ClusterFacts) -> Vec<Line> {
    let ClusterFacts { namespace, now, .. } = facts;
    let install = "install the chart; with crds.install=false: `multibond crds | kubectl apply --server-side -f -`";
    let same = "run this check with the multibond of the chart's version, or upgrade the chart";
    let pods = |component| {
        format!(
            "kubectl get pods -n {namespace} -l app.kubernetes.io/component={component} -o wide; if the release is in another namespace, name it with -n"
        )
    };
    let leases = facts.leases.as_deref();
    let lead = leases.map_or(LeaseState::Free, |leases| leader(leases, *now));
    let chart = facts.controller.as_ref().ok().and_then(|found| chart_version(&found.as_ref()?.metadata));
    vec![
        line_for(Check::DefinitionsEstablished, &facts.definitions, install, |found| unestablished(found)),
        line_for(Check::DefinitionsCurrent, &facts.definitions, &format!("{install}; {same}"), |found| {
            other_versions(found, chart)
        }),
        line_for(
            Check::PoliciesInForce,
            &facts.policies_in_force,
            "upgrade the chart, which recreates them",
            |found| {
                let missing = POLICIES.iter().filter(|name| !found.iter().any(|it| it == *name));
                missing.map(|name| Finding::error(format!("{name} is missing, or has no binding"))).collect()
            },
        ),
        line_for(Check::ControllerAvailable, &facts.controller, &pods("controller"), |deployment| {
            vec![available(deployment.as_ref(), namespace, lead)]
        }),
        line_for(Check::ControllerLeads, &facts.leases, &pods("controller"), |_| vec![leads(lead, facts)]),
        line_for(Check::ControllerVersion, &facts.controller, same, |_| {
            vec![match chart {
                Some(VERSION) => Finding::ok(VERSION),
                Some(chart) => {
                    Finding::warning(format!("the chart is of version {chart}, this multibond of {VERSION}"))
                }
                None => Finding::skipped("its Deployment has no label app.kubernetes.io/version"),
            }]
        }),
        line_for(Check::AgentsReady, &facts.agents, &pods("agent"), |agents| {
            vec![ready(agents.as_ref(), namespace, leases.unwrap_or_default())]
        }),
        agents_alive(facts, &pods("agent")),
        agents_version(facts, same),
    ]
}

/// The version of the chart that created an object.
fn chart_version(metadata: &ObjectMeta) -> Option<&str> {
    metadata.labels.as_ref()?.get("app.kubernetes.io/version").map(String::as_str)
}

fn unestablished(found: &[CustomResourceDefinition]) -> Vec<Finding> {
    let ours = api::crds();
    let of = |ours: &CustomResourceDefinition| {
        let name = key(&ours.metadata);
        let Some(theirs) = found.iter().find(|it| it.metadata.name == ours.metadata.name) else {
            return Some(Finding::error(format!("{name} is missing")));
        };
        if theirs.metadata.deletion_timestamp.is_some() {
            return Some(Finding::error(format!("{name} is being deleted, and its objects with it")));
        }
        let conditions = theirs.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let holds = |kind: &str| conditions.iter().any(|it| it.type_ == kind && it.status == "True");
        let why = conditions.iter().find(|it| it.status != "True").and_then(|it| it.message.as_deref());
        let finding =
            || Finding::error(format!("{name} is not established: {}", why.unwrap_or("it was created just now")));
        (!holds("Established")).then(finding)
    };
    ours.iter().filter_map(of).collect()
}

/// CRDs that differ from the CRDs of this program. That is expected with a chart of another version, hence a warning.
fn other_versions(found: &[CustomResourceDefinition], chart: Option<&str>) -> Vec<Finding> {
    if found.is_empty() {
        return vec![Finding::skipped("there are none")];
    }
    let ours = api::crds();
    let other = |theirs: &&CustomResourceDefinition| {
        !ours.iter().any(|ours| ours.metadata.name == theirs.metadata.name && same_kind(ours, theirs))
    };
    let text = |theirs: &CustomResourceDefinition| {
        format!("{} differs from the CRD of multibond {VERSION}", key(&theirs.metadata))
    };
    let of_another_chart = chart.is_some_and(|chart| chart != VERSION);
    let finding = |text| if of_another_chart { Finding::warning(text) } else { Finding::error(text) };
    found.iter().filter(other).map(|theirs| finding(text(theirs))).collect()
}

/// Whether two definitions are equal in the fields that we set. The API server adds defaults to the other fields.
fn same_kind(ours: &CustomResourceDefinition, theirs: &CustomResourceDefinition) -> bool {
    let (a, b) = (&ours.spec, &theirs.spec);
    let names = |crd: &CustomResourceDefinition| {
        let names = crd.spec.names.clone();
        (names.kind, names.short_names, names.categories)
    };
    a.scope == b.scope && names(ours) == names(theirs) && a.versions == b.versions
}

fn available(deployment: Option<&Deployment>, namespace: &str, lead: LeaseState<'_>) -> Finding {
    let Some(deployment) = deployment else {
        let text = format!("there is no Deployment multibond-controller in namespace {namespace}");
        // The controller may run without a Deployment.
        return if matches!(lead, LeaseState::Held(_)) { Finding::warning(text) } else { Finding::error(text) };
    };
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let available = deployment.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0);
    let text = format!("{available}/{wanted} replicas");
    match available {
        0 => Finding::error(text),
        _ if available < wanted => Finding::warning(text),
        _ => Finding::ok(text),
    }
}

fn leads(lead: LeaseState<'_>, ClusterFacts { namespace, now, .. }: &ClusterFacts) -> Finding {
    let lease = format!("the lease {LEADER_LEASE} in namespace {namespace}");
    match lead {
        LeaseState::Held(holder) => Finding::ok(holder),
        LeaseState::Expired(holder, end) => {
            Finding::error(format!("{lease}, held by {holder}, expired {} ago", age(end, *now)))
        }
        LeaseState::Free => Finding::error(format!("nobody holds {lease}")),
    }
}

fn ready(agents: Option<&DaemonSet>, namespace: &str, leases: &[LeasePart]) -> Finding {
    let Some(agents) = agents else {
        let text = format!("there is no DaemonSet multibond-agent in namespace {namespace}");
        // Agents may run as system services of their hosts.
        let any = leases.iter().any(|lease| is_of_agent(&lease.metadata));
        return if any { Finding::warning(text) } else { Finding::error(text) };
    };
    let Some(status) = &agents.status else { return Finding::error("the DaemonSet has no status yet") };
    let (wanted, ready) = (status.desired_number_scheduled, status.number_ready);
    let updated = status.updated_number_scheduled.unwrap_or(0);
    match ready {
        _ if wanted == 0 => Finding::warning("no node matches agent.nodeSelector and agent.affinity"),
        _ if ready < wanted => Finding::error(format!("{ready}/{wanted} nodes")),
        _ if updated < wanted => {
            Finding::warning(format!("{ready}/{wanted} nodes, {updated} of them with the newest pod"))
        }
        _ => Finding::ok(format!("{ready}/{wanted} nodes")),
    }
}

fn is_of_agent(metadata: &ObjectMeta) -> bool {
    metadata.name.as_deref().is_some_and(|name| name.starts_with(api::AGENT_LEASE_PREFIX))
}

/// Hosts that are not being deleted.
fn staying(hosts: &[Host]) -> impl Iterator<Item = &Host> {
    hosts.iter().filter(|host| host.metadata.deletion_timestamp.is_none())
}

fn agents_alive(facts: &ClusterFacts, hint: &str) -> Line {
    let check = Check::AgentsAlive;
    let leases = match &facts.leases {
        Ok(leases) => leases,
        Err(unavailable) => return check.line(vec![unavailable.finding()], RETRY_HINT),
    };
    line_for(check, &facts.hosts, hint, |hosts| {
        let finding = |host: &Host| {
            let node = &host.spec.node_name;
            let why = match agent(leases, node, facts.now) {
                LeaseState::Held(_) => return None,
                _ if facts.nodes.as_ref().is_ok_and(|nodes| !exists(nodes, node)) => format!("there is no Node {node}"),
                LeaseState::Expired(_, end) => {
                    format!("the lease of the agent on node {node} expired {} ago", age(end, facts.now))
                }
                LeaseState::Free => format!("there is no agent on node {node}"),
            };
            let text = format!("Host {}: {why}", key(&host.metadata));
            // A host in maintenance may be switched off.
            Some(if host.spec.maintenance { Finding::warning(text) } else { Finding::error(text) })
        };
        let findings: Vec<_> = staying(&hosts.objects).filter_map(finding).collect();
        let count = staying(&hosts.objects).count();
        if findings.is_empty() { vec![Finding::ok(format!("{count}/{count} hosts"))] } else { findings }
    })
}

fn exists(nodes: &[NodePart], name: &str) -> bool {
    nodes.iter().any(|node| node.metadata.name.as_deref() == Some(name))
}

fn agents_version(facts: &ClusterFacts, hint: &str) -> Line {
    line_for(Check::AgentsVersion, &facts.hosts, hint, |hosts| {
        let mut others: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for host in staying(&hosts.objects) {
            let agent = host.status.as_ref().and_then(|status| status.agent.as_ref());
            if let Some(agent) = agent.filter(|agent| agent.version != VERSION) {
                others.entry(&agent.version).or_default().push(key(&host.metadata));
            }
        }
        let text = |(version, hosts): (&str, Vec<String>)| {
            Finding::warning(format!("version {version} instead of {VERSION}: {}", hosts.join(", ")))
        };
        others.into_iter().map(text).collect()
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::check::{
        CheckOutcome, Section, Stage,
        judge::{
            fixture::{NOW, host, lease, line, read, with_hosts, working},
            judge,
        },
    };

    fn after(facts: &ClusterFacts, check: Check) -> CheckOutcome {
        line(facts, Stage::After, check).outcome
    }

    #[test]
    fn in_a_working_cluster_every_line_is_ok() {
        let report = judge(&working(), Stage::After);
        let bad: Vec<_> = report.lines.iter().filter(|line| line.outcome != CheckOutcome::Ok).collect();
        assert!(bad.is_empty() && report.outcome == CheckOutcome::Ok, "{bad:#?}");
        let expected = Check::ALL
            .iter()
            .copied()
            .filter(|check| !matches!(check.section(), Section::Permissions | Section::Place));
        assert!(report.lines.iter().map(|line| line.check).eq(expected), "{:#?}", report.lines);
    }

    #[test]
    fn each_crd_must_be_there_and_established() {
        let of = |change: &dyn Fn(&mut Vec<CustomResourceDefinition>)| {
            let mut facts = working();
            change(facts.definitions.as_mut().unwrap());
            line(&facts, Stage::After, Check::DefinitionsEstablished)
        };
        let missing = of(&|definitions| drop(definitions.remove(2)));
        assert_eq!(
            (missing.outcome, missing.found),
            (CheckOutcome::Error, vec!["hosts.multibond.dev is missing".to_owned()])
        );
        let refused = of(&|definitions| {
            definitions[0].status = read(json!({"conditions": [
                {"type": "NamesAccepted", "status": "False", "message": "dc is taken"},
                {"type": "Established", "status": "False", "message": "names are not accepted"}]}));
        });
        let text = "datacenters.multibond.dev is not established: dc is taken";
        assert_eq!((refused.outcome, refused.found), (CheckOutcome::Error, vec![text.to_owned()]));
        let going = of(&|definitions| definitions[0].metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH)));
        assert_eq!(going.outcome, CheckOutcome::Error);
    }

    #[test]
    fn a_policy_that_is_not_in_force_is_named() {
        let mut facts = working();
        facts.policies_in_force.as_mut().unwrap().retain(|name| name != "multibond-agent-writes");
        let line = line(&facts, Stage::After, Check::PoliciesInForce);
        let found = ["multibond-agent-writes is missing, or has no binding".to_owned()];
        assert_eq!((line.outcome, &line.found[..]), (CheckOutcome::Error, &found[..]));
    }

    #[test]
    fn the_policies_are_those_of_the_chart() {
        let templates = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/multibond/templates");
        let texts = ["agent", "data-centers", "nodes", "portals"].map(|name| format!("{templates}/policy-{name}.yaml"));
        let texts = texts.map(|file| std::fs::read_to_string(file).unwrap()).concat();
        let mut made: Vec<&str> = texts.lines().filter_map(|line| line.strip_prefix("  name: ")).collect();
        made.sort_unstable();
        let mut known = POLICIES;
        known.sort_unstable();
        assert_eq!(made, known);
    }

    fn without_columns(mut facts: ClusterFacts) -> ClusterFacts {
        facts.definitions.as_mut().unwrap()[1].spec.versions[0].additional_printer_columns = None;
        facts
    }

    fn with_chart(mut facts: ClusterFacts, version: &str) -> ClusterFacts {
        let labels = facts.controller.as_mut().unwrap().as_mut().unwrap().metadata.labels.as_mut().unwrap();
        labels.insert("app.kubernetes.io/version".to_owned(), version.to_owned());
        facts
    }

    #[test]
    fn a_crd_of_another_version_is_an_error_unless_the_chart_is_too() {
        assert_eq!(after(&without_columns(working()), Check::DefinitionsCurrent), CheckOutcome::Error);
        assert_eq!(
            after(&without_columns(with_chart(working(), "9.0.0")), Check::DefinitionsCurrent),
            CheckOutcome::Warning
        );
        let none = ClusterFacts { definitions: Ok(Vec::new()), ..working() };
        assert_eq!(after(&none, Check::DefinitionsCurrent), CheckOutcome::Skipped);
    }

    #[test]
    fn a_chart_of_another_version_is_a_warning() {
        let line = line(&with_chart(working(), "9.0.0"), Stage::After, Check::ControllerVersion);
        assert_eq!(line.outcome, CheckOutcome::Warning);
        assert!(line.found[0].starts_with("the chart is of version 9.0.0"), "{:?}", line.found);
    }

    #[rstest]
    #[case(json!({"availableReplicas": 2}), CheckOutcome::Ok)]
    #[case(json!({"availableReplicas": 1}), CheckOutcome::Warning)]
    #[case(json!({}), CheckOutcome::Error)]
    fn a_deployment_is_judged_by_its_available_replicas(#[case] status: Value, #[case] expected: CheckOutcome) {
        let deployment = read(json!({"spec": {"replicas": 2, "selector": {}, "template": {}}, "status": status}));
        let facts = ClusterFacts { controller: Ok(Some(deployment)), ..working() };
        assert_eq!(after(&facts, Check::ControllerAvailable), expected);
    }

    #[test]
    fn a_controller_without_a_deployment_is_fine_while_it_leads() {
        let mut facts = ClusterFacts { controller: Ok(None), ..working() };
        assert_eq!(after(&facts, Check::ControllerAvailable), CheckOutcome::Warning);
        facts.leases = Ok(Vec::new());
        assert_eq!(after(&facts, Check::ControllerAvailable), CheckOutcome::Error);
    }

    #[test]
    fn a_leader_whose_lease_expired_does_not_lead() {
        let now: Timestamp = NOW.parse().unwrap();
        let mut facts = working();
        let since = now - jiff::SignedDuration::from_secs(75);
        facts.leases = Ok(vec![lease("multibond-controller", "c1", since)]);
        let dead = line(&facts, Stage::After, Check::ControllerLeads);
        let text = "the lease multibond-controller in namespace multibond-system, held by c1, expired 60s ago";
        assert_eq!((dead.outcome, &dead.found[0][..]), (CheckOutcome::Error, text));
        facts.leases = Ok(Vec::new());
        assert_eq!(after(&facts, Check::ControllerLeads), CheckOutcome::Error);
    }

    #[rstest]
    #[case(3, 3, 3, CheckOutcome::Ok)]
    #[case::an_update_is_under_way(3, 3, 1, CheckOutcome::Warning)]
    #[case::selects_nothing(0, 0, 0, CheckOutcome::Warning)]
    #[case::one_is_missing(3, 2, 3, CheckOutcome::Error)]
    fn a_daemon_set_is_judged_by_its_ready_pods(
        #[case] wanted: i32,
        #[case] ready: i32,
        #[case] updated: i32,
        #[case] expected: CheckOutcome,
    ) {
        let agents = read(json!({"status": {"currentNumberScheduled": wanted, "desiredNumberScheduled": wanted,
            "numberMisscheduled": 0, "numberReady": ready, "updatedNumberScheduled": updated}}));
        let facts = ClusterFacts { agents: Ok(Some(agents)), ..working() };
        assert_eq!(after(&facts, Check::AgentsReady), expected);
    }

    #[test]
    fn agents_without_a_daemon_set_are_fine_while_there_are_any() {
        let mut facts = ClusterFacts { agents: Ok(None), ..working() };
        assert_eq!(after(&facts, Check::AgentsReady), CheckOutcome::Warning);
        facts.leases = Ok(Vec::new());
        assert_eq!(after(&facts, Check::AgentsReady), CheckOutcome::Error);
    }

    #[rstest]
    #[case::silent("w1", false, CheckOutcome::Error, "Host ns/h1: the lease of the agent on node w1 expired 60s ago")]
    #[case::never_there("w2", false, CheckOutcome::Error, "Host ns/h1: there is no agent on node w2")]
    #[case::no_such_node("w3", false, CheckOutcome::Error, "Host ns/h1: there is no Node w3")]
    #[case::switched_off_in_maintenance("w2", true, CheckOutcome::Warning, "Host ns/h1: there is no agent on node w2")]
    fn a_host_without_a_live_agent_is_reported(
        #[case] node: &str,
        #[case] maintenance: bool,
        #[case] expected: CheckOutcome,
        #[case] found: &str,
    ) {
        let now: Timestamp = NOW.parse().unwrap();
        let mut served = host("h1", node, json!({}));
        served.spec.maintenance = maintenance;
        let mut facts = with_hosts(working(), [served]);
        facts.leases = Ok(vec![lease("agent-w1", "w1", now - jiff::SignedDuration::from_secs(75))]);
        facts.nodes = Ok(["w1", "w2"].map(|name| read(json!({"metadata": {"name": name}}))).into());
        let line = line(&facts, Stage::After, Check::AgentsAlive);
        assert_eq!((line.outcome, line.found), (expected, vec![found.to_owned()]));
    }

    #[test]
    fn a_host_that_is_being_deleted_needs_no_agent() {
        let mut going = host("h1", "w9", json!({"agent": {"version": "0.0.1"}}));
        going.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        let facts = with_hosts(working(), [going]);
        assert_eq!(after(&facts, Check::AgentsAlive), CheckOutcome::Ok);
        assert_eq!(after(&facts, Check::AgentsVersion), CheckOutcome::Ok);
    }

    #[test]
    fn agents_of_other_versions_are_grouped_by_version() {
        let of = |version| json!({"agent": {"version": version}});
        let hosts = [host("h1", "w1", of("0.0.1")), host("h2", "w2", of("0.0.1")), host("h3", "w3", of(VERSION))];
        let line = line(&with_hosts(working(), hosts), Stage::After, Check::AgentsVersion);
        assert_eq!(line.found, [format!("version 0.0.1 instead of {VERSION}: ns/h1, ns/h2")]);
        assert_eq!(line.outcome, CheckOutcome::Warning);
    }
}
