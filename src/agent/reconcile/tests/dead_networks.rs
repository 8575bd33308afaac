//! What dead portals cost the others: the decisions of many steps, with logins that take a known time.

use super::*;

/// The time of a login that succeeds, and of one that nobody answers, in milliseconds.
const GOOD: u64 = 1000;
const DEAD: u64 = 7000;
const TICK: u64 = 100;

/// What a host's logins came to, in milliseconds after the start.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    last_good: u64,
    last_failed: u64,
    most_at_once: usize,
}

/// Lets a host connect all paths; none of those that `is_dead` says is answered.
fn connect(paths: &[IscsiPath], is_dead: impl Fn(&IscsiPath) -> bool) -> Outcome {
    let mut host = Harness::new(plan("r", paths));
    let mut outcome = Outcome::default();
    let mut ends: BTreeMap<IscsiPath, u64> = BTreeMap::new();
    let (good, dead): (BTreeSet<_>, BTreeSet<_>) = paths.iter().cloned().partition(|path| !is_dead(path));
    let mut now = 0;
    while now < 120_000 {
        let ended: Vec<IscsiPath> = ends.iter().filter(|(_, end)| **end <= now).map(|(path, _)| path.clone()).collect();
        for path in ended {
            ends.remove(&path);
            if dead.contains(&path) {
                let nobody = PathError::new(PathReason::PortalUnreachable, "nobody answers");
                host.reconciler.login_ended(path, Err(nobody));
            } else {
                host.sessions.push(session(u32::try_from(host.sessions.len()).unwrap(), path.clone()));
                host.reconciler.login_ended(path, Ok(()));
            }
        }
        let step = host.step();
        for path in logins(&step) {
            let takes = if dead.contains(&path) { DEAD } else { GOOD };
            ends.insert(path, now + takes);
        }
        outcome.most_at_once = outcome.most_at_once.max(ends.len());
        let in_state = |state| {
            let paths = step.connections.iter().filter(move |connection| connection.state == state);
            paths.map(IscsiPath::from).collect::<BTreeSet<_>>()
        };
        if outcome.last_good == 0 && in_state(Connected) == good {
            outcome.last_good = now;
        }
        if outcome.last_failed == 0 && in_state(Failed) == dead {
            outcome.last_failed = now;
        }
        if outcome.last_good > 0 && outcome.last_failed > 0 {
            return outcome;
        }
        host.clock.pass(TICK);
        now += TICK;
    }
    panic!("not settled after two minutes: {outcome:?}")
}

/// A path to each of these targets through each device, to portals of its own or to shared ones.
fn paths(targets: usize, devices: &[&str], portal: impl Fn(usize) -> usize) -> Vec<IscsiPath> {
    let to = |target: usize, device: &str| {
        let address = format!("10.{}.{}.1:3260", device.trim_start_matches("ens"), portal(target));
        IscsiPath { portal: address.as_str().into(), ..path(&format!("t{target:02}"), "1", device) }
    };
    devices.iter().flat_map(|device| (0..targets).map(move |target| (target, *device))).map(|(t, d)| to(t, d)).collect()
}

fn through(device: &str) -> impl Fn(&IscsiPath) -> bool {
    move |path| path.interface.as_deref() == Some(device)
}

#[test]
fn a22_good_paths_come_up_at_half_speed_at_least_whatever_is_dead() {
    // The dead network's paths sort first. Eight logins at once remain for the good one.
    for (targets, last_good) in [(4, 1000), (16, 2000), (32, 4000), (64, 8000)] {
        let outcome = connect(&paths(targets, &["ens1", "ens2"], |target| target), through("ens1"));
        assert!(outcome.last_good <= last_good, "{targets} targets: {outcome:?}");
        assert!(outcome.most_at_once <= 16, "{targets} targets: {outcome:?}");
    }
    let shared = connect(&paths(64, &["ens1", "ens2"], |target| target % 16), through("ens1"));
    assert!(shared.last_good <= 8000, "{shared:?}");
}

#[test]
fn a22_dead_paths_fail_within_ten_seconds_however_many_there_are() {
    for targets in [4, 16, 32, 64] {
        let outcome = connect(&paths(targets, &["ens1", "ens2"], |target| target), through("ens1"));
        assert!(outcome.last_failed <= 10_000, "{targets} targets: {outcome:?}");
    }
}

#[test]
fn a22_two_dead_networks_of_three_leave_the_third_its_slots() {
    let is_dead = |path: &IscsiPath| !through("ens3")(path);
    let outcome = connect(&paths(32, &["ens1", "ens2", "ens3"], |target| target), is_dead);
    assert!(outcome.last_good <= 32_000 / 5 + 1000 && outcome.last_failed <= 10_000, "{outcome:?}");
}

#[test]
fn a22_dead_portals_of_one_network_delay_the_good_ones_little() {
    // Eight targets behind each of eight portals, half of which are dead.
    let is_dead = |path: &IscsiPath| (0..4).any(|dead| path.portal.starts_with(&format!("10.1.{dead}.")));
    let outcome = connect(&paths(64, &["ens1"], |target| target % 8), is_dead);
    assert!(outcome.last_good <= 4000 && outcome.last_failed <= 10_000, "{outcome:?}");
}

#[test]
fn a22_a_path_that_waits_behind_good_ones_does_not_fail() {
    let paths = paths(64, &["ens1"], |target| target);
    let mut host = Harness::new(plan("r", &paths));
    let first = logins(&host.step());
    host.logged_in(1, &first[0]);
    for path in &first[1..] {
        host.reconciler.login_ended(path.clone(), Err(PathError::new(PathReason::PortalUnreachable, "nobody")));
    }
    let waiting = host.step().connections.iter().filter(|connection| connection.state == Connecting).count();
    assert_eq!(waiting, 48, "one portal answers through this device");
}

#[test]
fn a22_a_path_that_fails_with_its_device_keeps_its_turn() {
    let paths = paths(40, &["ens1"], |target| target);
    let mut host = Harness::new(plan("r", &paths[..20]));
    let first = logins(&host.step());
    for path in &first {
        host.reconciler.login_ended(path.clone(), Err(PathError::new(PathReason::PortalUnreachable, "nobody")));
    }
    let step = host.step_after(5000);
    let message = "it has no answer yet; none of the 16 portals that were tried through its device has answered";
    assert_eq!(states(&step), [bad(PathReason::PortalUnreachable); 20]);
    assert_eq!(step.connections[19].message.as_deref(), Some(message));
    assert_eq!(
        (logins(&step), acknowledged(&step)),
        (paths[16..20].to_vec(), Some("r")),
        "before those that were tried"
    );
    host.plan = plan("s", &paths);
    let step = host.step_after(1000);
    assert_eq!(states(&step)[20..], [ok(Connecting); 20], "new paths are not judged before they have waited");
    assert_eq!(states(&host.step_after(1000))[20..], [bad(PathReason::PortalUnreachable); 20]);
    assert_eq!(states(&host.logged_in(1, &paths[16]))[16], ok(Connected));
}
