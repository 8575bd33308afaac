//! The results as a Markdown table: ratios first, medians of all runs.

use std::{fmt::Write as _, time::Duration};

use crate::{
    floor::{Pass, Verb},
    scenario::{Edit, Scenario, cheapest},
};

/// One column per number of hosts.
pub fn render(measured: &[Scenario]) -> String {
    let mut table = String::new();
    let columns: Vec<String> = measured.iter().map(|scenario| format!("{} hosts", scenario.hosts)).collect();
    writeln!(table, "\n| | {} |\n|---|{}", columns.join(" | "), "---|".repeat(columns.len())).unwrap();
    let mut row = |name: &str, value: &dyn Fn(&Scenario) -> String| {
        let values: Vec<String> = measured.iter().map(value).collect();
        writeln!(table, "| {name} | {} |", values.join(" | ")).unwrap();
    };
    row("no agent runs: all plans / floor", &|s| ratios(&s.alone, |edit| ratio(edit.plans, edit.floor.wall)));
    row("no agent runs: API server CPU / that of the floor", &|s| {
        ratios(&s.alone, |edit| ratio(edit.server_cpu, edit.floor.server_cpu))
    });
    row("network added: all plans / floor", &|s| ratios(&s.added, |edit| ratio(edit.plans, edit.floor.wall)));
    row("network removed: all plans / floor", &|s| ratios(&s.removed, |edit| ratio(edit.plans, edit.floor.wall)));
    row("network added: bond Ready / floor", &|s| ratios(&s.added, |edit| ratio(edit.ready, edit.floor.wall)));
    row("network removed: bond Ready / floor", &|s| ratios(&s.removed, |edit| ratio(edit.ready, edit.floor.wall)));
    row("controller CPU / API server CPU, per edit", &|s| {
        ratios(&edits(s), |edit| ratio(edit.controller_cpu, edit.server_cpu))
    });
    row("controller writes per host and edit (plan, verdict)", &|s| {
        ratios(&edits(s), |edit| per_host(edit.writes.by_controller, s.hosts))
    });
    row("agent writes per host and edit", &|s| ratios(&edits(s), |edit| per_host(edit.writes.by_agents, s.hosts)));
    row("controller's other writes per edit (bonds, networks, data center, nodes)", &|s| {
        ratios(&edits(s), |edit| per_host(edit.writes.other, 1))
    });
    row("one Host changed: its plan, median (maximum)", &|s| spread(&s.one_host));
    row("bond edit that concerns one host: its plan, median (maximum)", &|s| spread(&s.one_of_bond));
    row("writes for 20 such edits: Host statuses by the controller, by agents, other", &|s| {
        let writes = s.one_of_bond_writes;
        format!("{}, {}, {}", writes.by_controller, writes.by_agents, writes.other)
    });
    row("idle writes (seconds)", &|s| {
        let (time, writes) = s.idle;
        format!("{} ({})", writes.by_controller + writes.by_agents + writes.other, time.as_secs())
    });
    row("lost updates", &|s| s.lost.to_string());
    row("conflicts, in all", &|s| s.conflicts.to_string());
    row("floor: the cheapest verb", &|s| cheapest(&s.verbs).as_str().to_owned());
    row("floor: one pass", &|s| time(median(edits(s).iter().map(|edit| edit.floor.wall))));
    row("network added: all plans", &|s| time(median(s.added.iter().map(|edit| edit.plans))));
    row("network removed: all plans", &|s| time(median(s.removed.iter().map(|edit| edit.plans))));
    row("network added: bond Ready", &|s| time(median(s.added.iter().map(|edit| edit.ready))));
    row("network removed: bond Ready", &|s| time(median(s.removed.iter().map(|edit| edit.ready))));
    row("controller CPU per edit", &|s| time(median(edits(s).iter().map(|edit| edit.controller_cpu))));
    row("controller CPU per host and edit, µs", &|s| {
        let cpu = median(edits(s).iter().map(|edit| edit.controller_cpu));
        format!("{:.0}", cpu.as_secs_f64() * 1e6 / f64::from(u32::try_from(s.hosts).unwrap()))
    });
    row("controller memory: settled (peak), MB", &|s| megabytes(s.settled.now, s.settled.peak));
    row("controller memory after a restart: settled (peak), MB", &|s| megabytes(s.restarted.now, s.restarted.peak));
    row("simulate, all agents: memory (peak), MB", &|s| megabytes(s.agents.now, s.agents.peak));
    row("restart: until a change made meanwhile is planned", &|s| spread(&s.restarts));
    row("first connection of all hosts", &|s| time(s.first));
    for verb in Verb::ALL {
        let of = |s: &Scenario| s.verbs.iter().find(|(v, _)| *v == verb).map(|(_, p)| p.clone()).unwrap_or_default();
        row(&format!("{}: API server CPU per write, ms (writes per s)", verb.as_str()), &|s| {
            verb_cost(&of(s), s.hosts)
        });
    }
    row("bytes of a plan and a verdict", &|s| s.size.to_string());
    row("audit log", &|s| if s.audited { "on" } else { "off" }.to_owned());
    table
}

fn edits(scenario: &Scenario) -> Vec<Edit> {
    scenario.added.iter().chain(&scenario.removed).copied().collect()
}

fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64()
}

fn per_host(count: usize, hosts: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap()) / f64::from(u32::try_from(hosts).unwrap())
}

fn ratios(edits: &[Edit], of: impl Fn(&Edit) -> f64) -> String {
    let mut all: Vec<f64> = edits.iter().map(of).collect();
    all.sort_by(f64::total_cmp);
    match all.as_slice() {
        [] => "-".to_owned(),
        [one] => format!("{one:.2}"),
        all => format!("**{:.2}** ({:.2} to {:.2})", all[all.len() / 2], all[0], all[all.len() - 1]),
    }
}

/// Zero when nothing was measured.
fn median(times: impl Iterator<Item = Duration>) -> Duration {
    let mut all: Vec<Duration> = times.collect();
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or_default()
}

/// The median of times, and the largest.
pub fn spread(times: &[Duration]) -> String {
    let most = times.iter().max().copied().unwrap_or_default();
    format!("{} ({})", time(median(times.iter().copied())), time(most))
}

fn time(duration: Duration) -> String {
    match duration.as_millis() {
        0 => "-".to_owned(),
        1..1000 => format!("{} ms", duration.as_millis()),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}

/// Memory now, and its peak.
pub fn megabytes(now: u64, peak: u64) -> String {
    let megabytes = |bytes: u64| bytes / 1_000_000;
    format!("{} ({})", megabytes(now), megabytes(peak))
}

fn verb_cost(passes: &[Pass], hosts: usize) -> String {
    let hosts = f64::from(u32::try_from(hosts).unwrap());
    let cpu = median(passes.iter().map(|pass| pass.server_cpu)).as_secs_f64() * 1000.0 / hosts;
    let rate = hosts / median(passes.iter().map(|pass| pass.wall)).as_secs_f64();
    format!("{cpu:.1} ({rate:.0})")
}
