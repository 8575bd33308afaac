//! Controllers and agents killed at random moments of random edits, over and over: each time everything ends as the
//! planner says for the objects that there are, and every session is accounted for.

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
/// In each round, before somebody is killed.
const EDITS_AT_MOST: u64 = 6;

#[tokio::test]
async fn a26_whoever_is_killed_at_whatever_point_of_whatever_edits_the_end_is_the_planned_one() {
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
