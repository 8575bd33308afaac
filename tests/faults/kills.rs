//! Controllers and agents killed at random moments of random edits, over and over: each time everything ends as the
//! planner says for the objects that there are, and every session is accounted for.

use std::time::{Duration, Instant};

use super::{
    alone,
    edits::{Data, NODES},
    random::Random,
    replica::Replica,
    settled::{held, until_settled},
    site::Site,
};

const ROUNDS: u32 = 50;
/// In each round, before somebody is killed.
const EDITS_AT_MOST: u64 = 6;
/// The seed of the run, to repeat one.
const SEED: &str = "FAULTS_SEED";

#[tokio::test]
async fn a26_whoever_is_killed_at_whatever_point_of_whatever_edits_the_end_is_the_planned_one() {
    let (cluster, _turn) = alone().await;
    let mut random = Random::from_environment(SEED);
    println!("to repeat this run: {SEED}={}", random.seed());
    let site = Site::on(cluster, "kills").await;
    let mut data = Data::new(&site).await;
    let mut agents = site.agents(&NODES).await;
    let mut controllers = [Replica::start(cluster, "one").await, Replica::start(cluster, "two").await];
    until_settled(&site).await;

    let begun = Instant::now();
    for round in 1..=ROUNDS {
        println!("round {round}, after {:.1} s", begun.elapsed().as_secs_f32());
        data.restore(&mut random).await;
        for _ in 0..=random.below(EDITS_AT_MOST) {
            println!("  {}", data.edit(&mut random).await);
            tokio::time::sleep(Duration::from_millis(random.below(150))).await;
        }
        tokio::time::sleep(Duration::from_millis(random.below(600))).await;
        let whom = random.below(4);
        if whom != 0 {
            println!("  kill the agents");
            agents.kill();
            agents = site.simulate();
        }
        if whom < 2 {
            let victim = random.pick(&[0, 1]);
            println!("  kill controller {}", controllers[victim].name);
            controllers[victim].process.kill();
            controllers[victim] = Replica::start(cluster, random.pick(&["one", "two", "three", "four"])).await;
        }
        println!("  {}", data.edit(&mut random).await);
        data.end_faults();
        until_settled(&site).await;
        println!("  {} sessions", NODES.iter().map(|node| held(&site, node).len()).sum::<usize>());
    }
    println!("{ROUNDS} rounds in {:.1} s", begun.elapsed().as_secs_f32());
}
