//! The tests: each seed runs in a process of its own, so that nothing that another one has left changes it.

use std::{
    env, fs,
    ops::Range,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use super::seed;

/// How many seeds `make test` runs, unless `SIMULATION_SEEDS` says another number.
const SEEDS: u64 = 60;
/// In the process of a seed: which one.
const CHILD: &str = "SIMULATION_CHILD";

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}, expected a whole number")))
}

fn child(program: &Path, seed: u64, log: Option<&str>) -> Output {
    let mut command = Command::new(program);
    command.args(["--exact", "seeds::child_of_the_other_tests", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(CHILD, seed.to_string());
    if let Some(log) = log {
        command.env("SIMULATION_LOG", log);
    }
    command.output().unwrap()
}

fn this_program() -> PathBuf {
    env::current_exe().unwrap()
}

/// Runs seeds in as many processes as the machine has cores, until `ended` says that it is enough.
fn run_all(program: &Path, seeds: Range<u64>, ended: impl Fn(u64, &Output) -> bool + Sync) {
    let (next, enough) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if !seeds.contains(&seed) || enough.load(Ordering::Relaxed) {
                return;
            }
            if ended(seed, &child(program, seed, None)) {
                enough.store(true, Ordering::Relaxed);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
}

/// The first seed that fails in a program like this one, and how.
pub fn first_failure(program: &Path, within: u64) -> Option<(u64, String)> {
    let found = Mutex::new(None);
    run_all(program, 1..within + 1, |seed, output| {
        let text = told(output);
        let violation = text.lines().find_map(|line| line.split_once(" repeats it: "));
        let violation = violation.map_or(&*text, |(_, violation)| violation).to_owned();
        let failed = !output.status.success();
        if failed {
            found.lock().unwrap().get_or_insert((seed, violation));
        }
        failed
    });
    found.into_inner().unwrap()
}

/// The last lines of what a seed has printed.
fn told(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(90)..].join("\n")
}

#[test]
#[ignore = "the other tests start it, with a seed"]
fn child_of_the_other_tests() {
    let Some(seed) = number(CHILD) else { return };
    let began = Instant::now();
    let outcome = seed::run(seed);
    if let Ok(file) = env::var("SIMULATION_LOG") {
        fs::write(file, &outcome.log).unwrap();
    }
    let (steps, took) = (outcome.steps, began.elapsed().as_secs_f64());
    let simulated = outcome.simulated.as_secs();
    let memory = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let memory = memory.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("?").trim().to_owned();
    println!("\nseed {seed}: {steps} events, {simulated} simulated seconds in {took:.2} s, {memory}");
    if let Some(violation) = outcome.violation {
        let lines: Vec<&str> = outcome.log.lines().collect();
        println!("{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        panic!("SIMULATION_SEED={seed} repeats it: {violation}");
    }
}

#[test]
fn a58_no_order_of_events_breaks_an_invariant() {
    let only = number("SIMULATION_SEED");
    let first = only.or_else(|| number("SIMULATION_FIRST")).unwrap_or(1);
    let count = if only.is_some() { 1 } else { number("SIMULATION_SEEDS").unwrap_or(SEEDS) };
    let failed = Mutex::new(Vec::new());
    run_all(&this_program(), first..first + count, |seed, output| {
        let told = told(output);
        if output.status.success() {
            println!("{}", told.lines().find(|line| line.starts_with("seed ")).unwrap_or("?"));
        } else {
            println!("{told}");
            failed.lock().unwrap().push(seed);
        }
        false
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "these seeds have failed: {failed:?}");
}

#[test]
fn the_same_seed_gives_the_same_log_of_events() {
    let directory = tempfile::tempdir().unwrap();
    let log = |name: &str| {
        let file = directory.path().join(name);
        let _ = child(&this_program(), 7, file.to_str());
        fs::read_to_string(file).unwrap()
    };
    let (one, other) = (log("one"), log("other"));
    let differ = one.lines().zip(other.lines()).find(|(one, other)| one != other);
    assert!(one == other && !one.is_empty(), "the logs differ first at {differ:?}");
}
