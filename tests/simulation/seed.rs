//! One seed: some minutes of faults, then quiet until everything is settled, then nothing more.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{
    actors::Actors,
    chance::{Chance, seed_this_thread},
    clock,
    cluster::Cluster,
    fabric::Fabric,
    neighbours::Neighbours,
    settled,
    users::Users,
};

/// How long the faults last.
const FAULTS: Duration = Duration::from_secs(180);
/// The bound for the quiet after them: longer than the longest retry.
const SETTLES_WITHIN: Duration = Duration::from_secs(25 * 60);
/// What happens until then has its effects while what is settled may still be told.
const SETTLES_SOON: Duration = Duration::from_secs(60);
/// How long what is settled may still be told: warnings end by themselves.
const CALM: Duration = Duration::from_secs(2 * 60);
/// How long nothing may be written then.
const IDLE: Duration = Duration::from_secs(4 * 60);
/// The most reads and watches of an actor in that time: no watch has to begin again more often than every 20 s.
const MOST_READS: u64 = 120;
const CONTROLLERS: [&str; 2] = ["controller-a", "controller-b"];

/// What has become of a seed.
pub struct Outcome {
    pub log: String,
    pub steps: u64,
    pub simulated: Duration,
    pub violation: Option<String>,
}

/// Runs a seed in a thread of its own.
pub fn run(seed: u64) -> Outcome {
    let simulation = std::thread::spawn(move || {
        seed_this_thread(seed);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(simulate(seed))
    });
    simulation.join().unwrap()
}

async fn simulate(seed: u64) -> Outcome {
    clock::begin();
    let mut chance = Chance::new(seed);
    let nodes: Vec<String> = (1..=3 + chance.below(6)).map(|number| format!("n{number}")).collect();
    let cluster = Cluster::new(&nodes, &mut chance);
    let course = course(cluster.clone(), nodes, chance);
    let ended = tokio::select! {
        biased;
        () = cluster.broken.notified() => Err(String::new()),
        ended = course => ended,
    };
    cluster.violated(ended);
    Outcome { log: cluster.log(), steps: cluster.steps(), simulated: clock::elapsed(), violation: cluster.violation() }
}

async fn course(cluster: Arc<Cluster>, nodes: Vec<String>, mut chance: Chance) -> Result<(), String> {
    let mut fabric = Fabric::new(cluster.clone(), nodes.clone());
    let users = Users::new(cluster.clone(), nodes.clone());
    let neighbours = Neighbours::new(cluster.clone(), nodes.clone());
    let mut actors = Actors::new(cluster.clone());
    let mut names: Vec<String> = CONTROLLERS.iter().map(ToString::to_string).collect();
    names.extend(nodes.iter().map(|node| format!("agent-{node}")));
    for name in &names {
        actors.start(name);
    }
    let control_plane = tokio::spawn(control_plane(cluster.clone()));
    sleep(chance.between(0, 20_000)).await;

    cluster.faulty.store(true, Ordering::Relaxed);
    let end = Instant::now() + FAULTS;
    // What is to be undone, and when.
    let mut later: Vec<(Instant, String, bool)> = Vec::new();
    while Instant::now() < end {
        sleep(chance.between(10, 2_000)).await;
        let (due, rest) = later.into_iter().partition(|(at, ..)| *at <= Instant::now());
        later = rest;
        for (_, name, was_killed) in due {
            if was_killed { actors.start(&name) } else { actors.go_on(&name) }
        }
        let busy = |name: &String| later.iter().any(|(_, other, _)| other == name);
        match chance.below(24) {
            0..=6 => users.edit(&mut chance),
            7..=9 => fabric.use_lun(&mut chance),
            10..=12 => fabric.fail(&mut chance),
            kind @ 13..=16 => {
                let controllers = chance.once_in(2);
                let name = names[if controllers { chance.index(2) } else { 2 + chance.index(nodes.len()) }].clone();
                if !busy(&name) {
                    let until = Instant::now() + chance.between(0, 30_000);
                    if kind < 15 {
                        actors.kill(&name);
                    } else {
                        actors.hold(&name);
                    }
                    later.push((until, name, kind < 15));
                }
            }
            17 => {
                let name = names[chance.index(names.len())].clone();
                let offset = i64::try_from(chance.below(7_200_000)).unwrap() - 3_600_000;
                actors.set_clock(&name, offset);
            }
            18 => {
                cluster.change(|api| api.compact(api.version()));
                cluster.step(format_args!("a fault: the history is compacted"));
            }
            19 | 20 => fabric.change_luns(&mut chance),
            21 | 22 => neighbours.act(&mut chance),
            _ => {}
        }
        settled::deletions(&cluster)?;
    }

    cluster.faulty.store(false, Ordering::Relaxed);
    for name in &names {
        actors.go_on(name);
        actors.start(name);
    }
    fabric.heal();
    fabric.close_luns();
    users.restore_secret();
    cluster.step(format_args!("the faults stop"));
    let took = settle(&cluster, settled::flaws).await?;
    if let Some((node, path)) = neighbours.log_out_a_planned_one(&mut chance) {
        settle(&cluster, |cluster| {
            let unnamed = settled::unnamed_logout(cluster, &node, &path);
            settled::flaws(cluster).into_iter().chain(unnamed).collect()
        })
        .await?;
    }
    if took > SETTLES_SOON {
        // A warning about interference ends by itself, but not while nothing may be written.
        settle(&cluster, settled::interfered).await?;
    }
    sleep(CALM).await;
    let (writes, reads) = (cluster.writes(), cluster.reads());
    sleep(IDLE).await;
    control_plane.abort();
    let more = cluster.writes() - writes;
    read_seldom(&reads, &cluster.reads())?;
    if more > 0 {
        return Err(format!("7: {more} writes though nothing has happened"));
    }
    let flaws = settled::memory(&cluster);
    if flaws.is_empty() { Ok(()) } else { Err(format!("8: {}", flaws.join("; "))) }
}

/// Nobody has read much between two counts of the reads of each actor.
fn read_seldom(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> Result<(), String> {
    let since = |(actor, count): (&String, &u64)| (actor.clone(), count - before.get(actor).unwrap_or(&0));
    match after.iter().map(since).find(|(_, count)| *count > MOST_READS) {
        Some((actor, count)) => Err(format!("7: {actor} reads {count} times though nothing has happened")),
        None => Ok(()),
    }
}

/// Waits until there are no such flaws, and returns how long that has taken.
async fn settle(cluster: &Cluster, flaws: impl Fn(&Cluster) -> Vec<String>) -> Result<Duration, String> {
    let quiet = Instant::now();
    loop {
        let flaws = flaws(cluster);
        if flaws.is_empty() {
            cluster.step(format_args!("everything is settled after {:?}", quiet.elapsed()));
            return Ok(quiet.elapsed());
        }
        if quiet.elapsed() > SETTLES_WITHIN {
            return Err(format!("7: not settled after {SETTLES_WITHIN:?}: {}", flaws.join("; ")));
        }
        settled::deletions(cluster)?;
        sleep(Duration::from_secs(5)).await;
    }
}

async fn control_plane(cluster: Arc<Cluster>) {
    loop {
        sleep(cluster.draw(|chance| chance.between(50, 3_000))).await;
        cluster.collect_garbage();
    }
}
