//! The status as a tree, for people.

use anstyle::Style;
use jiff::Timestamp;

use super::super::output::{BOLD, GREEN, RED, YELLOW, columns, paint};
use crate::api::{ConnectionState, PathCounts, Phase, reason::Reason};
use crate::ops::age;
use crate::status_view::{
    self, BondView, ConditionView, DataCenterView, HostView, NOT_PROCESSED, NetworkView, PathView, StatusView,
};

/// The tree, and a summary at its end.
pub fn tree(status: &StatusView, now: Timestamp) -> String {
    let mut text: String = status.data_centers.iter().map(|view| data_center(view, now) + "\n").collect();
    for what in &status.unreadable {
        text += &(paint(YELLOW, "not shown: ") + what + "\n");
    }
    text + &summary(status)
}

fn data_center(view: &DataCenterView, now: Timestamp) -> String {
    let DataCenterView { namespace, name, exists, storage, conditions, portals: _, networks, bonds, hosts } = view;
    let title = paint(BOLD, &format!("DataCenter {namespace}/{name}"));
    let state =
        if *exists { ready(conditions) } else { paint(RED, "does not exist, or you have no permission to read it") };
    let storage = if storage.is_empty() { String::new() } else { format!("  storage: {}\n", storage.join(", ")) };
    let rows: Vec<Vec<String>> = networks.iter().map(network).chain(bonds.iter().map(bond)).collect();
    let mut text = format!("{title}  {state}\n{}{storage}{}", unmet(conditions, "  "), columns(&rows, "  "));
    let of_networks = networks.iter().map(|view| (&view.name, &view.conditions));
    for (name, conditions) in of_networks.chain(bonds.iter().map(|view| (&view.name, &view.conditions))) {
        text += &unmet(conditions, &format!("  {name}: "));
    }
    text + &hosts.iter().map(|view| host(view, now)).collect::<String>()
}

fn network(NetworkView { name, subnets, hosts, conditions }: &NetworkView) -> Vec<String> {
    let hosts = hosts.map(|hosts| count(hosts, "host")).unwrap_or_default();
    vec!["Network".to_owned(), name.clone(), ready(conditions), hosts, subnets.join(", ")]
}

fn bond(BondView { name, networks, targets, hosts, paths, conditions }: &BondView) -> Vec<String> {
    let hosts = hosts.map(|hosts| format!("{}/{} hosts", hosts.connected, hosts.total)).unwrap_or_default();
    let paths = paths.map(|paths| format!("{}, ", fraction(paths))).unwrap_or_default();
    let over = if networks.is_empty() { "no networks".to_owned() } else { networks.join(", ") };
    let to = if targets.is_empty() { String::new() } else { format!(" to {}", targets.join(", ")) };
    vec!["IscsiBond".to_owned(), name.clone(), ready(conditions), hosts, format!("{paths}{over}{to}")]
}

fn host(view: &HostView, now: Timestamp) -> String {
    let HostView { name, node, phase, counts, conditions, paths, explained } = view;
    let phase = match phase {
        Some(phase) => paint(style_of_phase(*phase), phase.as_str()),
        None => paint(YELLOW, NOT_PROCESSED),
    };
    let node = if node == name { String::new() } else { format!(" (node {node})") };
    let counts = counts.map(|counts| format!("  {}", fraction(counts))).unwrap_or_default();
    let title = paint(BOLD, &format!("Host {name}"));
    let rows: Vec<Vec<String>> = paths.iter().map(|view| path(view, now)).collect();
    // The data center's line names the portal that fails on this and on other hosts.
    let is_said = |it: &&ConditionView| *explained && it.reason == Reason::PathsFailed.as_str();
    let conditions = conditions.iter().filter(|it| !is_said(it)).map(|condition| beside_paths(condition, paths));
    let conditions: Vec<ConditionView> = conditions.collect();
    format!("  {title}{node}  {phase}{counts}\n{}{}", unmet(&conditions, "    "), columns(&rows, "    "))
}

/// A condition as it is shown above a host's paths. The message of `PathsFailed` is shortened to a count, because the
/// paths below show the reasons.
fn beside_paths(condition: &ConditionView, paths: &[PathView]) -> ConditionView {
    let failed = paths.iter().filter(|path| path.planned && path.state == Some(ConnectionState::Failed)).count();
    let message = match (condition.reason == Reason::PathsFailed.as_str(), failed) {
        (false, _) | (true, 0) => condition.message.clone(),
        (true, 1) => "1 path has failed".to_owned(),
        (true, failed) => format!("{failed} paths have failed"),
    };
    ConditionView { message, ..condition.clone() }
}

fn path(view: &PathView, now: Timestamp) -> Vec<String> {
    let PathView {
        target,
        portal,
        tpgt,
        interface,
        network,
        bonds,
        planned,
        state,
        reason,
        message,
        since,
        retry_every,
    } = view;
    let state_text = match state {
        Some(state) => paint(style_of_state(*state), &format!("{state:?}")),
        None => paint(YELLOW, "Planned"),
    };
    let portal = if *tpgt == 1 { portal.to_string() } else { format!("{portal},{tpgt}") };
    let through = match (interface, network, planned) {
        (Some(interface), Some(network), _) => format!("{interface} ({network})"),
        (Some(interface), None, _) => interface.to_string(),
        (None, _, _) => "default network".to_owned(),
    };
    let bonds = match (planned, bonds.is_empty()) {
        (false, _) => "not planned".to_owned(),
        (true, true) => "no bond".to_owned(),
        (true, false) => bonds.join(","),
    };
    let settled = *state == Some(ConnectionState::Connected);
    let why = match (reason, message) {
        (Some(reason), Some(message)) => format!("{reason}: {message}"),
        (Some(reason), None) => reason.to_string(),
        (None, Some(message)) => message.clone(),
        (None, None) => String::new(),
    };
    let age = since.filter(|_| !settled).map(|since| format!("for {}", age(since, now)));
    let retry = retry_every.as_ref().map(|pause| format!("retried every {pause}"));
    let notes: Vec<String> = [Some(why).filter(|why| !why.is_empty()), age, retry].into_iter().flatten().collect();
    vec![state_text, target.to_string(), portal, through, bonds, notes.join(", ")]
}

/// The conditions that are not met, one line each.
fn unmet(conditions: &[ConditionView], indent: &str) -> String {
    let mut lines = String::new();
    for ConditionView { r#type, status, reason, message } in status_view::unmet_conditions(conditions) {
        let style = if status == "False" { RED } else { YELLOW };
        let what = paint(style, &format!("{type} {status}, {reason}"));
        lines.extend([indent, &what, ": ", message, "\n"]);
    }
    lines
}

fn ready(conditions: &[ConditionView]) -> String {
    match status_view::ready(conditions) {
        Some(true) => paint(GREEN, "Ready"),
        Some(false) => paint(RED, "not Ready"),
        None => paint(YELLOW, NOT_PROCESSED),
    }
}

fn summary(status: &StatusView) -> String {
    let hosts: Vec<&HostView> = status.data_centers.iter().flat_map(|view| &view.hosts).collect();
    let with = |phase: Phase| hosts.iter().filter(|host| host.phase == Some(phase)).count();
    let phases: Vec<String> = Phase::ALL
        .iter()
        .copied()
        .filter_map(|phase| Some(format!("{} {phase}", Some(with(phase)).filter(|count| *count > 0)?)))
        .collect();
    let phases = if phases.is_empty() { String::new() } else { format!(" ({})", phases.join(", ")) };
    let sum = |of: fn(&PathCounts) -> u32| hosts.iter().filter_map(|host| host.counts.as_ref()).map(of).sum::<u32>();
    let data_centers = status.data_centers.iter().filter(|view| view.exists).count();
    format!(
        "{}, {}{phases}, {} of {} paths connected\n",
        count(data_centers, "data center"),
        count(hosts.len(), "host"),
        sum(|counts| counts.connected),
        sum(|counts| counts.desired),
    )
}

fn count(number: impl TryInto<u64>, word: &str) -> String {
    match number.try_into() {
        Ok(1) => format!("1 {word}"),
        Ok(number) => format!("{number} {word}s"),
        Err(_) => format!("many {word}s"),
    }
}

fn fraction(PathCounts { desired, connected }: PathCounts) -> String {
    format!("{connected}/{desired} paths")
}

fn style_of_phase(phase: Phase) -> Style {
    match phase {
        Phase::Up => GREEN,
        Phase::Unassigned | Phase::Lost | Phase::NonOperational => RED,
        Phase::Maintenance | Phase::Connecting | Phase::Degraded | Phase::Unknown => YELLOW,
    }
}

fn style_of_state(state: ConnectionState) -> Style {
    match state {
        ConnectionState::Connected => GREEN,
        ConnectionState::Failed => RED,
        ConnectionState::Connecting | ConnectionState::Disconnecting | ConnectionState::Retained => YELLOW,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::plain;
    use crate::status_view::{Snapshot, fixture::snapshot, json::Document};

    fn now() -> Timestamp {
        "2026-01-31T12:00:00Z".parse().unwrap()
    }

    /// The tree without colours.
    fn shown(snapshot: &Snapshot) -> String {
        plain(&tree(&StatusView::from(snapshot), now()))
    }

    #[test]
    fn a_tree_shows_each_path_with_its_state_and_reason() {
        insta::assert_snapshot!(shown(&snapshot()));
    }

    #[test]
    fn colours_change_no_width() {
        let shown = shown(&snapshot());
        let coloured = tree(&StatusView::from(&snapshot()), now());
        let bare = ["1", "31", "32", "33", "0"]
            .iter()
            .fold(coloured.clone(), |text, code| text.replace(&format!("\x1b[{code}m"), ""));
        assert_eq!(bare, shown);
        assert!(coloured.contains("\x1b[31mFailed\x1b[0m"), "{coloured}");
    }

    #[test]
    fn yaml_output_is_the_status_document() {
        let view = StatusView::from(&snapshot());
        insta::assert_snapshot!(crate::ops::yaml(&Document::from(&view)).unwrap());
    }

    #[test]
    fn the_order_of_objects_does_not_matter() {
        let mut other = snapshot();
        other.hosts.reverse();
        other.bonds.reverse();
        other.networks.reverse();
        assert_eq!(shown(&other), shown(&snapshot()));
    }
}
