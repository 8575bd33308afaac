//! What is done to a site, and what is measured while it is.

use std::time::{Duration, Instant};

use crate::{
    audit::{Audit, Writes},
    floor::{Floor, Pass, Verb},
    site::{BOND, PORTALS, SOLO_BOND, SYSTEM, Site, host_name},
    usage,
};

/// Longer than agents collect what they report.
const QUIET: Duration = Duration::from_secs(7);
/// Changes of one host, and of one host's bond.
const SINGLE_CHANGES: usize = 20;

/// What an edit that concerns every host took.
#[derive(Clone, Copy, Debug)]
pub struct Edit {
    /// The floor's pass just before it.
    pub floor: Pass,
    /// From the edit until the last host had its new plan.
    pub plans: Duration,
    /// From the edit until the bond was Ready.
    pub ready: Duration,
    pub controller_cpu: Duration,
    pub server_cpu: Duration,
    pub writes: Writes,
}

/// Resident memory in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    pub now: u64,
    pub peak: u64,
}

/// What was measured with so many hosts.
#[derive(Debug)]
pub struct Scenario {
    pub hosts: usize,
    pub audited: bool,
    /// Bytes of the controller's part of a status.
    pub size: usize,
    pub first: Duration,
    /// Passes of the floor by each verb.
    pub verbs: [(Verb, Vec<Pass>); 3],
    /// Edits that add a network to the bond, and those that take it away.
    pub added: Vec<Edit>,
    pub removed: Vec<Edit>,
    /// Edits of both kinds while no agent runs: the controller's share alone.
    pub alone: Vec<Edit>,
    /// A change of one Host until it has its new plan.
    pub one_host: Vec<Duration>,
    /// An edit of a bond that concerns one host, until that has its new plan.
    pub one_of_bond: Vec<Duration>,
    pub one_of_bond_writes: Writes,
    pub idle: (Duration, Writes),
    pub settled: Memory,
    pub restarted: Memory,
    pub agents: Memory,
    /// From a start until a change made while it was away is planned.
    pub restarts: Vec<Duration>,
    /// Hosts whose last state is not what was declared.
    pub lost: usize,
    pub conflicts: usize,
}

impl Scenario {
    /// Measures a site.
    pub async fn run(mut site: Site, runs: usize, idle: Duration) -> Self {
        let (hosts, began) = (site.hosts, Instant::now());
        let few = PORTALS;
        let many = 2 * PORTALS;
        let connected = site.observer.until_hosts("first connections", hosts, |_, host| host.is_done()).await;
        let first = connected.saturating_duration_since(began);
        site.observer.until_quiet(QUIET).await;
        let mut audit = Audit::new(format!("system:serviceaccount:{SYSTEM}:multibond-controller"), site.audited);
        let mut conflicts = audit.count(&site.cluster, &site.namespace).conflicts;
        progress(&site, format!("connected in {first:.1?}"));

        // The statuses that are counted have as many paths as there are with both networks.
        edit(&mut site, &mut audit, None, &["net-a", "net-b"], many).await;
        let mut floor = Floor::new(&site).await;
        // In turns, so that what else the machine does meets all of them.
        let mut verbs = Verb::ALL.map(|verb| (verb, Vec::new()));
        for _ in 0..runs {
            for (verb, passes) in &mut verbs {
                passes.push(floor.pass(*verb, &site).await);
            }
        }
        progress(&site, format!("{verbs:.2?}"));
        let verb = cheapest(&verbs);
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            let pass = floor.pass(verb, &site).await;
            removed.push(edit(&mut site, &mut audit, Some(pass), &["net-a"], few).await);
            let pass = floor.pass(verb, &site).await;
            added.push(edit(&mut site, &mut audit, Some(pass), &["net-a", "net-b"], many).await);
        }
        conflicts += added.iter().chain(&removed).map(|edit| edit.writes.conflicts).sum::<usize>();

        let one_host = change_hosts(&mut site, few, many).await;
        progress(&site, format!("one host: {one_host:.1?}"));
        site.observer.until_quiet(QUIET).await;
        conflicts += audit.count(&site.cluster, &site.namespace).conflicts;
        let one_of_bond = change_bond_of_one(&mut site, many).await;
        progress(&site, format!("a bond of one host: {one_of_bond:.1?}"));
        site.observer.until_quiet(QUIET).await;
        let one_of_bond_writes = audit.count(&site.cluster, &site.namespace);

        tokio::time::sleep(idle).await;
        let idle = (idle, audit.count(&site.cluster, &site.namespace));
        let settled = memory(site.controller.id());
        let agents = memory(site.agents.id());
        progress(&site, format!("memory {settled:?}, agents {agents:?}, idle {idle:?}"));

        let mut restarts = Vec::new();
        for _ in 0..runs.min(3) {
            restarts.push(restart(&mut site, few, many).await);
        }
        site.observer.until_quiet(QUIET).await;
        let restarted = memory(site.controller.id());
        progress(&site, format!("restarts {restarts:.1?}, memory {restarted:?}"));
        conflicts += audit.count(&site.cluster, &site.namespace).conflicts;
        let right = site.observer.count(|host| host.is_done() && host.planned() == Some(many));
        let mut alone = Vec::new();
        site.stop_agents().await;
        for _ in 0..runs {
            for (networks, paths) in [(&["net-a"][..], few), (&["net-a", "net-b"][..], many)] {
                let pass = floor.pass(verb, &site).await;
                alone.push(edit(&mut site, &mut audit, Some(pass), networks, paths).await);
            }
        }
        Scenario {
            hosts,
            audited: site.audited,
            size: floor.size(),
            first,
            verbs,
            added,
            removed,
            alone,
            one_host,
            one_of_bond,
            one_of_bond_writes,
            idle,
            settled,
            restarted,
            agents,
            restarts,
            lost: hosts - right,
            conflicts,
        }
    }
}

/// The verb that the edits are compared with: the one that costs the API server least.
pub fn cheapest(verbs: &[(Verb, Vec<Pass>); 3]) -> Verb {
    let cost = |passes: &[Pass]| passes.iter().map(|pass| pass.server_cpu).sum::<Duration>();
    verbs.iter().min_by_key(|(_, passes)| cost(passes)).unwrap().0
}

/// Gives the bond other networks, and waits until all hosts have carried it out and nothing happens any more.
async fn edit(site: &mut Site, audit: &mut Audit, floor: Option<Pass>, networks: &[&str], paths: usize) -> Edit {
    audit.count(&site.cluster, &site.namespace);
    let (controller, server) = (site.controller.id(), site.cluster.api_server_id().unwrap());
    let (controller_used, server_used) = (usage::cpu(controller), usage::cpu(server));
    let began = Instant::now();
    let generation = site.set_networks(BOND, networks).await;
    let planned = site.observer.until_hosts("plans", site.hosts, |_, host| host.planned() == Some(paths)).await;
    let ready = if site.agents.alive() {
        site.observer.until_bond("Ready", BOND, |bond| bond.is_ready(generation)).await
    } else {
        planned
    };
    if site.agents.alive() {
        site.observer.until_hosts("paths", site.hosts, |_, host| host.is_done()).await;
    }
    site.observer.until_quiet(QUIET).await;
    let nothing = Pass { wall: Duration::ZERO, server_cpu: Duration::ZERO };
    let edit = Edit {
        floor: floor.unwrap_or(nothing),
        plans: planned.saturating_duration_since(began),
        ready: ready.saturating_duration_since(began),
        controller_cpu: usage::cpu(controller).saturating_sub(controller_used),
        server_cpu: usage::cpu(server).saturating_sub(server_used),
        writes: audit.count(&site.cluster, &site.namespace),
    };
    progress(site, format!("{paths} paths each: {edit:.2?}"));
    edit
}

/// Takes the second network away from one host after the other, and gives it back.
async fn change_hosts(site: &mut Site, few: usize, many: usize) -> Vec<Duration> {
    let mut took = Vec::new();
    for number in 0..SINGLE_CHANGES {
        let host = number * (site.hosts - 1) / SINGLE_CHANGES;
        let name = host_name(host);
        for (networks, paths) in [(&[][..], few), (&["net-b"][..], many)] {
            let began = Instant::now();
            site.set_second_interface(host, networks).await;
            let is_so = |seen: &str, status: &crate::observer::Status| seen == name && status.planned() == Some(paths);
            let planned = site.observer.until_hosts("one host's plan", 1, is_so).await;
            took.push(planned.saturating_duration_since(began));
        }
    }
    took
}

/// Gives a bond a network that one host carries, and takes it away.
async fn change_bond_of_one(site: &mut Site, many: usize) -> Vec<Duration> {
    let mut took = Vec::new();
    let name = host_name(site.hosts - 1);
    for number in 0..SINGLE_CHANGES {
        let (networks, paths) = if number % 2 == 0 { (&["net-solo"][..], many + PORTALS) } else { (&[][..], many) };
        let began = Instant::now();
        site.set_networks(SOLO_BOND, networks).await;
        let is_so = |seen: &str, status: &crate::observer::Status| seen == name && status.planned() == Some(paths);
        let planned = site.observer.until_hosts("the plan of the bond's host", 1, is_so).await;
        took.push(planned.saturating_duration_since(began));
        // Sums over hosts are looked at a moment later; the next change is measured on its own.
        site.observer.until_quiet(Duration::from_secs(2)).await;
    }
    took
}

/// Stops the controller, changes a host, starts the controller, and waits for the host's plan.
async fn restart(site: &mut Site, few: usize, many: usize) -> Duration {
    let host = 0;
    let name = host_name(host);
    site.controller.term(Duration::from_secs(30)).await.unwrap();
    site.set_second_interface(host, &[]).await;
    let began = Instant::now();
    site.start_controller().await;
    let planned = |paths| {
        let name = name.clone();
        move |seen: &str, status: &crate::observer::Status| seen == name && status.planned() == Some(paths)
    };
    let took = site.observer.until_hosts("a plan after a restart", 1, planned(few)).await;
    site.set_second_interface(host, &["net-b"]).await;
    site.observer.until_hosts("a plan after a restart", 1, planned(many)).await;
    site.observer.until_quiet(QUIET).await;
    took.saturating_duration_since(began)
}

fn memory(process: u32) -> Memory {
    let (now, peak) = usage::memory(process);
    Memory { now, peak }
}

fn progress(site: &Site, what: impl std::fmt::Display) {
    eprintln!("{} hosts: {what}", site.hosts);
}
