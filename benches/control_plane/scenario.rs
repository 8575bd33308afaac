//! The edits of a site, and the measurements of each.

use std::time::{Duration, Instant};

use crate::{
    audit::{Audit, Writes},
    floor::{Floor, Pass, Verb},
    site::{BOND, BenchSite, PORTALS, SOLO_BOND, SYSTEM, host_name},
    usage,
};

/// Longer than agents collect changes before they report them...
const QUIET: Duration = Duration::from_secs(7);
/// ...and longer than the controller collects changes before it writes aggregates.
const QUIET_ALONE: Duration = Duration::from_secs(1);
/// A host's paths through one network of the bond, and through both.
const FEW: usize = PORTALS;
const MANY: usize = 2 * PORTALS;
/// Changes of one host, and of one host's bond.
const SINGLE_CHANGES: usize = 20;

/// The times of an edit that concerns every host.
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

/// The measurements with one number of hosts.
#[derive(Debug)]
pub struct Scenario {
    pub hosts: usize,
    pub audited: bool,
    /// Bytes of the controller's part of a status.
    pub size: usize,
    pub first: Duration,
    /// Passes of the floor by each verb.
    pub verbs: [(Verb, Vec<Pass>); 3],
    /// Edits that add a network to the bond, and edits that remove it.
    pub added: Vec<Edit>,
    pub removed: Vec<Edit>,
    /// Edits of both kinds while no agent runs: the controller's share alone.
    pub alone: Vec<Edit>,
    /// A change of one Host until it has its new plan.
    pub one_host: Vec<Duration>,
    /// An edit of a bond that concerns one host, until the host has its new plan.
    pub one_of_bond: Vec<Duration>,
    pub one_of_bond_writes: Writes,
    pub idle: (Duration, Writes),
    pub settled: Memory,
    pub restarted: Memory,
    pub agents: Memory,
    /// From the start of the controller until a change that was made while it did not run is planned.
    pub restarts: Vec<Duration>,
    /// The number of hosts whose final state is not the declared one.
    pub lost: usize,
    pub conflicts: usize,
}

/// What to measure of a site.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// How often each edit is made.
    pub runs: usize,
    /// How long nothing happens while idle writes are counted.
    pub idle: Duration,
    /// Only the edits while no agent runs.
    pub only_alone: bool,
}

/// The state during the measurement of a site.
struct Measuring {
    site: BenchSite,
    audit: Audit,
    floor: Floor,
    verb: Verb,
    wanted: Wanted,
}

impl Scenario {
    /// Measures a site.
    pub async fn run(mut site: BenchSite, wanted: Wanted) -> Self {
        let (hosts, began) = (site.hosts, Instant::now());
        let connected = site.observer.until_hosts("first connections", hosts, |_, host| host.is_done()).await;
        let first = connected.saturating_duration_since(began);
        site.observer.until_quiet(QUIET).await;
        progress(&site, format!("connected in {first:.1?}"));
        let mut audit = Audit::new(format!("system:serviceaccount:{SYSTEM}:multibond-controller"), site.audited);
        let conflicts = audit.count(&site.cluster, &site.namespace).conflicts;

        // The measured statuses have the paths of both networks.
        edit(&mut site, &mut audit, None, &["net-a", "net-b"], MANY).await;
        let mut floor = Floor::new(&site).await;
        let verbs = measure_verbs(&site, &mut floor, wanted.runs).await;
        let mut scenario = Scenario {
            hosts,
            audited: site.audited,
            size: floor.size(),
            first,
            added: Vec::new(),
            removed: Vec::new(),
            alone: Vec::new(),
            one_host: Vec::new(),
            one_of_bond: Vec::new(),
            one_of_bond_writes: Writes::default(),
            idle: (Duration::ZERO, Writes::default()),
            settled: Memory::default(),
            restarted: Memory::default(),
            agents: Memory::default(),
            restarts: Vec::new(),
            lost: 0,
            conflicts,
            verbs,
        };
        let mut measuring = Measuring { verb: cheapest(&scenario.verbs), site, audit, floor, wanted };
        if !wanted.only_alone {
            scenario.measure_edits(&mut measuring).await;
            scenario.measure_single_changes(&mut measuring).await;
            scenario.measure_idleness(&mut measuring).await;
            scenario.measure_restarts(&mut measuring).await;
        }
        let right = measuring.site.observer.count(|host| host.is_done() && host.planned() == Some(MANY));
        scenario.lost = hosts - right;
        scenario.measure_alone(&mut measuring).await;
        scenario
    }

    async fn measure_edits(&mut self, Measuring { site, audit, floor, verb, wanted }: &mut Measuring) {
        for _ in 0..wanted.runs {
            let pass = floor.pass(*verb, site).await;
            self.removed.push(edit(site, audit, Some(pass), &["net-a"], FEW).await);
            let pass = floor.pass(*verb, site).await;
            self.added.push(edit(site, audit, Some(pass), &["net-a", "net-b"], MANY).await);
        }
        self.conflicts += self.added.iter().chain(&self.removed).map(|edit| edit.writes.conflicts).sum::<usize>();
    }

    async fn measure_single_changes(&mut self, Measuring { site, audit, .. }: &mut Measuring) {
        self.one_host = change_hosts(site).await;
        progress(site, format!("one host: {:.1?}", self.one_host));
        site.observer.until_quiet(QUIET).await;
        self.conflicts += audit.count(&site.cluster, &site.namespace).conflicts;
        self.one_of_bond = change_bond_of_one(site).await;
        progress(site, format!("a bond of one host: {:.1?}", self.one_of_bond));
        site.observer.until_quiet(QUIET).await;
        self.one_of_bond_writes = audit.count(&site.cluster, &site.namespace);
    }

    async fn measure_idleness(&mut self, Measuring { site, audit, wanted, .. }: &mut Measuring) {
        tokio::time::sleep(wanted.idle).await;
        self.idle = (wanted.idle, audit.count(&site.cluster, &site.namespace));
        self.settled = memory(site.controller.id());
        self.agents = memory(site.agents.id());
        progress(site, format!("memory {:?}, agents {:?}, idle {:?}", self.settled, self.agents, self.idle));
    }

    async fn measure_restarts(&mut self, Measuring { site, audit, wanted, .. }: &mut Measuring) {
        for _ in 0..wanted.runs.min(3) {
            self.restarts.push(restart(site).await);
        }
        site.observer.until_quiet(QUIET).await;
        self.restarted = memory(site.controller.id());
        progress(site, format!("restarts {:.1?}, memory {:?}", self.restarts, self.restarted));
        self.conflicts += audit.count(&site.cluster, &site.namespace).conflicts;
    }

    async fn measure_alone(&mut self, Measuring { site, audit, floor, verb, wanted }: &mut Measuring) {
        site.stop_agents().await;
        for _ in 0..wanted.runs {
            for (networks, paths) in [(&["net-a"][..], FEW), (&["net-a", "net-b"][..], MANY)] {
                let pass = floor.pass(*verb, site).await;
                self.alone.push(edit(site, audit, Some(pass), networks, paths).await);
            }
        }
    }
}

/// Measures the floor for each verb, in turns, so that other work of the machine affects all of them equally.
async fn measure_verbs(site: &BenchSite, floor: &mut Floor, runs: usize) -> [(Verb, Vec<Pass>); 3] {
    let mut verbs = Verb::ALL.map(|verb| (verb, Vec::new()));
    for _ in 0..runs {
        for (verb, passes) in &mut verbs {
            passes.push(floor.pass(*verb, site).await);
        }
    }
    progress(site, format!("{verbs:.2?}"));
    verbs
}

/// The verb that the edits are compared with: the one that costs the API server the least.
pub fn cheapest(verbs: &[(Verb, Vec<Pass>); 3]) -> Verb {
    let cost = |passes: &[Pass]| passes.iter().map(|pass| pass.server_cpu).sum::<Duration>();
    verbs.iter().min_by_key(|(_, passes)| cost(passes)).unwrap().0
}

/// Changes the networks of the bond, and waits until all hosts have carried out their plans and nothing changes any
/// more.
async fn edit(site: &mut BenchSite, audit: &mut Audit, floor: Option<Pass>, networks: &[&str], paths: usize) -> Edit {
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
    site.observer.until_quiet(if site.agents.alive() { QUIET } else { QUIET_ALONE }).await;
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

/// Removes the second network from one host after the other, and adds it again.
pub async fn change_hosts(site: &mut BenchSite) -> Vec<Duration> {
    let mut took = Vec::new();
    for number in 0..SINGLE_CHANGES {
        let host = number * (site.hosts - 1) / SINGLE_CHANGES;
        let name = host_name(host);
        for (networks, paths) in [(&[][..], FEW), (&["net-b"][..], MANY)] {
            let began = Instant::now();
            site.set_second_interface(host, networks).await;
            let is_so = |seen: &str, status: &crate::observer::Status| seen == name && status.planned() == Some(paths);
            let planned = site.observer.until_hosts("one host's plan", 1, is_so).await;
            took.push(planned.saturating_duration_since(began));
        }
    }
    took
}

/// Adds a network that one host carries to a bond, and removes it.
async fn change_bond_of_one(site: &mut BenchSite) -> Vec<Duration> {
    let mut took = Vec::new();
    let name = host_name(site.hosts - 1);
    for number in 0..SINGLE_CHANGES {
        let (networks, paths) = if number % 2 == 0 { (&["net-solo"][..], MANY + PORTALS) } else { (&[][..], MANY) };
        let began = Instant::now();
        site.set_networks(SOLO_BOND, networks).await;
        let is_so = |seen: &str, status: &crate::observer::Status| seen == name && status.planned() == Some(paths);
        let planned = site.observer.until_hosts("the plan of the bond's host", 1, is_so).await;
        took.push(planned.saturating_duration_since(began));
        // Aggregates are computed a moment later. Wait for that, so that the next change is measured alone.
        site.observer.until_quiet(Duration::from_secs(2)).await;
    }
    took
}

/// Stops the controller, changes a host, starts the controller, and waits for the host's plan.
async fn restart(site: &mut BenchSite) -> Duration {
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
    let took = site.observer.until_hosts("a plan after a restart", 1, planned(FEW)).await;
    site.set_second_interface(host, &["net-b"]).await;
    site.observer.until_hosts("a plan after a restart", 1, planned(MANY)).await;
    site.observer.until_quiet(QUIET).await;
    took.saturating_duration_since(began)
}

/// The memory of a process.
pub fn memory(process: u32) -> Memory {
    let (now, peak) = usage::memory(process);
    Memory { now, peak }
}

fn progress(site: &BenchSite, what: impl std::fmt::Display) {
    eprintln!("{} hosts: {what}", site.hosts);
}
