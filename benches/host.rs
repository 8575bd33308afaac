//! The cost of the agent on a real host, compared with the tools alone: time of logins, memory, and CPU when idle.
//!
//! `cargo bench --bench host` starts the test host (`tests/vm/README.md`) and measures everything several times, in
//! turns. All times are from the request to the last session in sysfs. The host is emulated, so only the ratios are
//! meaningful.
#![allow(clippy::unwrap_used, reason = "a bench that cannot measure has nothing to tell")]

use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use multibond_testbed::Guest;
use multibond_testbed::iscsi_host::by_hand;
use multibond_testbed::iscsi_host::node::{ALPHA_ON_BOTH_FABRICS, RealNode};
use multibond_testbed::site::multibond;
use serde_json::{Value, json};

/// A target with one LUN.
const BETA: &str = "iqn.2026-11.com.example:beta";

/// What to measure.
#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// Activation with four paths.
    Few,
    /// Activation with sixteen paths.
    Many,
    /// Memory and CPU of an idle agent with sixteen paths.
    Idle,
    /// Activation with four paths, two of them to portals that drop everything.
    Dead,
    /// The same by the tools alone with open-iscsi's default timeouts, which takes two minutes.
    Patient,
}

#[derive(Parser)]
struct Arguments {
    /// What to measure
    #[arg(value_enum, default_values = ["few", "many", "idle", "dead", "patient"])]
    what: Vec<What>,
    /// How often each thing is measured
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// How long nothing happens while idle time is counted, in seconds
    #[arg(long, default_value_t = 120)]
    idle: u64,
    /// Passed by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    if !arguments.bench {
        // `cargo test --all-targets` also runs benches, to check that they start.
        return;
    }
    let node = RealNode::new("bench").await;
    node.site.apply(ALPHA_ON_BOTH_FABRICS).await;
    maintain(&node, true).await;
    node.start_agent_by("", "").await;
    node.site.until_phase("w1", "Maintenance").await;
    for what in arguments.what {
        match what {
            What::Few => all_up(&node, 2, arguments.runs).await,
            What::Many => all_up(&node, 8, arguments.runs).await,
            What::Idle => idle(&node, Duration::from_secs(arguments.idle)).await,
            What::Dead => half_dead(&node, arguments.runs).await,
            What::Patient => patient(&node).await,
        }
    }
}

/// The addresses of this number of portals in each fabric.
fn addresses(portals: usize) -> Vec<String> {
    (1..=2).flat_map(|fabric| (1..=portals).map(move |portal| format!("10.0.10{fabric}.{portal}"))).collect()
}

/// Declares the target behind this number of portals in each fabric.
async fn plan(node: &RealNode, portals: usize) {
    let portals: Vec<Value> = addresses(portals).iter().map(|address| json!({"address": address})).collect();
    let storage = json!([{"name": "array", "targets": [{"iqn": BETA, "portals": portals}]}]);
    node.site.patch("DataCenter", "dc", json!({"spec": {"storage": storage}})).await;
}

async fn maintain(node: &RealNode, maintenance: bool) {
    node.site.patch("Host", "w1", json!({"spec": {"maintenance": maintenance}})).await;
}

/// Disconnects the host, and waits until nothing is left of it.
async fn disconnect(node: &RealNode) {
    maintain(node, true).await;
    by_hand::until_sessions(&node.guest, &[]).await;
    node.until_nothing_is_connected().await;
}

/// Waits in the guest until this number of sessions is logged in, without forks, which would need CPU time.
async fn until_logged_in(guest: &Guest, sessions: usize) {
    let wait = format!(
        "exec 9<> <(:)
         while true; do
           up=0
           for file in /sys/class/iscsi_session/session*/state; do
             read -r state <$file && [[ $state == LOGGED_IN ]] && ((++up))
           done
           ((up == {sessions})) && break
           read -t 0.05 -u 9
         done 2>/dev/null"
    );
    guest.run_ok(&wait).await.unwrap();
}

async fn seconds(work: impl Future) -> f64 {
    let begun = Instant::now();
    work.await;
    begun.elapsed().as_secs_f64()
}

/// Creates records with the tools alone, as a careful script does; `settings` are those of `--op=update`.
async fn make_records(guest: &Guest, portals: usize, settings: &str) {
    let interfaces = ["san1", "san2"].map(|interface| {
        format!("iscsiadm -m iface -I hand.{interface} --op=new -n iface.net_ifacename -v {interface}")
    });
    let records =
        records(portals).flat_map(|record| [format!("{record} --op=new"), format!("{record} --op=update {settings}")]);
    let commands: Vec<String> = interfaces.into_iter().chain(records).collect();
    guest.run_ok(&commands.join(" &&\n")).await.unwrap();
}

fn records(portals: usize) -> impl Iterator<Item = String> {
    addresses(portals).into_iter().map(|address| {
        let interface = if address.starts_with("10.0.101.") { "san1" } else { "san2" };
        format!("iscsiadm -m node -T {BETA} -I hand.{interface} -p {address}:3260,1")
    })
}

/// Starts all logins at once, with the tools alone.
async fn log_in_by_hand(guest: &Guest, portals: usize) {
    let logins: Vec<_> = records(portals).map(|record| format!("{record} --login &")).collect();
    // Longer than any command of the guest may take.
    guest.spawn("logins", &format!("{}\nwait", logins.join("\n"))).await.unwrap();
}

async fn until_hand_has_ended(guest: &Guest) {
    while guest.run("systemctl is-active --quiet logins").await.unwrap().code == Some(0) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn clean_up_by_hand(guest: &Guest) {
    guest
        .run_ok("iscsiadm -m node -u || true; iscsiadm -m node --op=delete; rm /etc/iscsi/ifaces/hand.*")
        .await
        .unwrap();
    by_hand::until_sessions(guest, &[]).await;
}

const QUICK: &str = "-n node.startup -v manual -n node.session.initial_login_retry_max -v 1 \
                     -n node.conn[0].timeo.login_timeout -v 5";

/// Activation of a host whose portals all answer.
async fn all_up(node: &RealNode, portals: usize, runs: usize) {
    let paths = 2 * portals;
    plan(node, portals).await;
    println!("{paths} paths, all up: agent; records and logins by hand; logins alone; ratio to each; agent's CPU [s]");
    for _ in 0..runs {
        let before = used(&node.guest).await;
        let agent = seconds(async { tokio::join!(maintain(node, false), until_logged_in(&node.guest, paths)) }).await;
        let cpu = used(&node.guest).await - before;
        disconnect(node).await;
        let records = seconds(make_records(&node.guest, portals, QUICK)).await;
        let logins = seconds(async {
            log_in_by_hand(&node.guest, portals).await;
            until_logged_in(&node.guest, paths).await;
        })
        .await;
        until_hand_has_ended(&node.guest).await;
        clean_up_by_hand(&node.guest).await;
        let all = records + logins;
        println!("{agent:.2}; {all:.2}; {logins:.2}; {:.2}; {:.2}; {cpu:.2}", agent / all, agent / logins);
    }
}

/// The CPU time of the agent in seconds, including threads that have ended (`proc_pid_stat(5)`).
async fn used(guest: &Guest) -> f64 {
    let ticks = "awk '{ print ($14 + $15) / 100 }' /proc/$(pidof multibond-node)/stat";
    guest.run_ok(ticks).await.unwrap().trim().parse().unwrap()
}

/// The portals, one in each fabric, that drop everything.
const DEAD: [&str; 2] = ["10.0.101.2", "10.0.102.2"];

/// Activation while a portal in each fabric is dead.
async fn half_dead(node: &RealNode, runs: usize) {
    plan(node, 2).await;
    for portal in DEAD {
        node.guest.drop_packets_to(portal).await.unwrap();
    }
    println!("4 paths, 2 dead [s]");
    for _ in 0..runs {
        let begun = Instant::now();
        let (good, dead, ()) = tokio::join!(
            async {
                until_logged_in(&node.guest, 2).await;
                begun.elapsed().as_secs_f64()
            },
            async {
                for portal in DEAD {
                    node.until_path(&format!("{portal}:3260"), "Failed", Some("PortalUnreachable")).await;
                }
                begun.elapsed().as_secs_f64()
            },
            maintain(node, false),
        );
        println!("agent: good paths after {good:.2}, the dead ones Failed after {dead:.2}");
        disconnect(node).await;
        by_hand_half_dead(&node.guest, QUICK).await;
    }
    node.guest.drop_nothing().await.unwrap();
}

async fn patient(node: &RealNode) {
    for portal in DEAD {
        node.guest.drop_packets_to(portal).await.unwrap();
    }
    println!("4 paths, 2 dead, with open-iscsi's own patience [s]");
    by_hand_half_dead(&node.guest, "-n node.startup -v manual").await;
    node.guest.drop_nothing().await.unwrap();
}

async fn by_hand_half_dead(guest: &Guest, settings: &str) {
    make_records(guest, 2, settings).await;
    let begun = Instant::now();
    log_in_by_hand(guest, 2).await;
    until_logged_in(guest, 2).await;
    let good = begun.elapsed().as_secs_f64();
    until_hand_has_ended(guest).await;
    println!("by hand: good paths after {good:.2}, all after {:.2}", begun.elapsed().as_secs_f64());
    clean_up_by_hand(guest).await;
}

/// An idle agent with sixteen paths. The CPU time of an emulated processor says little about a real one, so the same
/// work is also done on this machine.
async fn idle(node: &RealNode, length: Duration) {
    const WINDOW: Duration = Duration::from_secs(10);
    plan(node, 8).await;
    maintain(node, false).await;
    node.until_paths("16/16").await;
    node.site.until_phase("w1", "Up").await;
    let slower = cpu_of_work_in(&node.guest).await / cpu_of_work_here();
    println!("the emulated processor takes {slower:.0} times the time of this machine's");
    println!("16 paths, idle: CPU in each {WINDOW:?} [ms]");
    let mut before = used(&node.guest).await;
    let begun = Instant::now();
    let mut windows = Vec::new();
    while begun.elapsed() < length {
        tokio::time::sleep(WINDOW).await;
        let now = used(&node.guest).await;
        println!("{:.0}", (now - before) * 1000.0);
        windows.push(now - before);
        before = now;
    }
    // On an emulated host it can take a minute until the maps of the new disks are complete.
    let settled = &windows[windows.len() / 2..];
    let counted = WINDOW * u32::try_from(settled.len()).unwrap();
    let share = 100.0 * settled.iter().sum::<f64>() / counted.as_secs_f64();
    println!("second half: {share:.3} % of the emulated processor, as {:.3} % of this machine's", share / slower);
    let memory = node.guest.run_ok("grep -E 'VmHWM|VmRSS|RssAnon' /proc/$(pidof multibond-node)/status").await.unwrap();
    println!("{memory}");
    disconnect(node).await;
}

/// Starts the program and lets it write schemas: memory, system calls and text, like an agent's work. The shell must
/// have no other child, because its children are counted.
const WORK: &str = "for _ in 1 2 3 4 5 6 7 8 9 10; do $BINARY crds >/dev/null; done; times";

async fn cpu_of_work_in(guest: &Guest) -> f64 {
    guest.copy_program(&multibond(), "/usr/local/bin/multibond").await.unwrap();
    children_of(&guest.run_ok(&WORK.replace("$BINARY", "multibond")).await.unwrap())
}

fn cpu_of_work_here() -> f64 {
    let work = WORK.replace("$BINARY", &multibond().display().to_string());
    let ended = std::process::Command::new("bash").args(["-c", &work]).output().unwrap();
    children_of(&String::from_utf8(ended.stdout).unwrap())
}

/// Seconds of user and system time of a shell's children, in the form that `times` prints: `0m1.234s 0m0.100s`.
fn children_of(times: &str) -> f64 {
    let seconds = |text: &str| -> f64 {
        let (minutes, seconds) = text.trim_end_matches('s').split_once('m').unwrap();
        60.0 * minutes.parse::<f64>().unwrap() + seconds.parse::<f64>().unwrap()
    };
    times.lines().last().unwrap().split_whitespace().map(seconds).sum()
}
