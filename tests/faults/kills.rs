//! Controllers and agents are killed at random moments of random edits. After each round the site converges to the
//! plan for the existing objects, and every session is explained.

use std::time::{Duration, Instant};

use multibond_testbed::{Chance, rounds};

use super::{
    alone,
    edits::{Data, NODES},
    replica::Replica,
    settled::{held, until_settled},
    site::Site,
};

/// How many rounds `make test` draws; `make long` draws more.
const ROUNDS: u32 = 8;
/// The most edits in a round before a process is killed.
const EDITS_AT_MOST: u64 = 6;

#[tokio::test]
async fn a26_crashes_during_random_edits_converge_to_the_plan() {
    let (cluster, _turn) = alone().await;
    let mut chance = Chance::new();
    let site = Site::on(cluster, "kills").await;
    let mut data = Data::new(&site).await;
    let mut agents = site.agents(&NODES).await;
    let mut controllers = [Replica::start(cluster, "one").await, Replica::start(cluster, "two").await];
    until_settled(&site).await;

    let begun = Instant::now();
    let rounds = rounds(ROUNDS);
    for round in 1..=rounds {
        println!("round {round}, after {:.1} s", begun.elapsed().as_secs_f32());
        data.restore(&mut chance).await;
        for _ in 0..=chance.below(EDITS_AT_MOST) {
            println!("  {}", data.edit(&mut chance).await);
            chance.pause(Duration::from_millis(150)).await;
        }
        chance.pause(Duration::from_millis(600)).await;
        let whom = chance.below(4);
        if whom != 0 {
            println!("  kill the agents");
            agents.kill();
            agents = site.simulate();
        }
        if whom < 2 {
            let victim = chance.one_of(&[0, 1]);
            println!("  kill controller {}", controllers[victim].name);
            controllers[victim].process.kill();
            controllers[victim] = Replica::start(cluster, chance.one_of(&["one", "two", "three", "four"])).await;
        }
        println!("  {}", data.edit(&mut chance).await);
        data.end_faults();
        until_settled(&site).await;
        println!("  {} sessions", NODES.iter().map(|node| held(&site, node).len()).sum::<usize>());
    }
    println!("{rounds} rounds in {:.1} s", begun.elapsed().as_secs_f32());
}
