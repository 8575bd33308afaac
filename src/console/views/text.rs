//! Small pieces that all views share: states in words, with a mark and a colour; never by colour alone.

use jiff::Timestamp;
use maud::{Markup, html};

use crate::api::{ConnectionState, PathCounts, Phase};
use crate::console::location::Filter;
use crate::status_view::{self, ConditionView};

/// How a state is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// All is well.
    Good,
    /// Not yet, or not quite.
    Warning,
    /// It has failed.
    Bad,
    /// Neither.
    Quiet,
}

impl Severity {
    /// Its class in the style.
    pub fn class(self) -> &'static str {
        match self {
            Severity::Good => "good",
            Severity::Warning => "warning",
            Severity::Bad => "bad",
            Severity::Quiet => "quiet",
        }
    }

    fn mark(self) -> &'static str {
        match self {
            Severity::Good => "✓",
            Severity::Warning => "▲",
            Severity::Bad => "✕",
            Severity::Quiet => "○",
        }
    }
}

/// A state.
pub fn badge(severity: Severity, text: &str) -> Markup {
    html! { span .badge .(severity.class()) { span aria-hidden="true" { (severity.mark()) } " " (text) } }
}

/// A host's phase.
pub fn phase(phase: Option<Phase>) -> Markup {
    match phase {
        Some(phase) => badge(severity_of_phase(phase), spelled(phase)),
        None => badge(Severity::Quiet, "not looked at yet"),
    }
}

/// A phase as people write it.
pub fn spelled(phase: Phase) -> &'static str {
    if phase == Phase::NonOperational { "Non Operational" } else { phase.as_str() }
}

fn severity_of_phase(phase: Phase) -> Severity {
    match phase {
        Phase::Up => Severity::Good,
        Phase::Unassigned | Phase::NonOperational => Severity::Bad,
        Phase::Connecting | Phase::Degraded | Phase::Unknown => Severity::Warning,
        Phase::Maintenance => Severity::Quiet,
    }
}

/// How a path's state is taken; one that the agent has not reported is only planned.
pub fn severity_of_state(state: Option<ConnectionState>) -> Severity {
    match state {
        Some(ConnectionState::Connected) => Severity::Good,
        Some(ConnectionState::Failed) => Severity::Bad,
        Some(ConnectionState::Connecting | ConnectionState::Disconnecting | ConnectionState::Retained) => {
            Severity::Warning
        }
        None => Severity::Quiet,
    }
}

/// Whether an object is Ready.
pub fn ready(conditions: &[ConditionView]) -> Markup {
    match status_view::ready(conditions) {
        Some(true) if status_view::unmet_conditions(conditions).is_empty() => badge(Severity::Good, "Ready"),
        Some(true) => badge(Severity::Warning, "Ready"),
        Some(false) => badge(Severity::Bad, "not Ready"),
        None => badge(Severity::Quiet, "not looked at yet"),
    }
}

/// The first thing that is wrong, in one line.
pub fn first_message(conditions: &[ConditionView]) -> Markup {
    let unmet = status_view::unmet_conditions(conditions);
    html! { @if let Some(first) = unmet.first() { span .why title=(first.message) { (first.message) } } }
}

/// Everything that is wrong.
pub fn notices(conditions: &[ConditionView]) -> Markup {
    html! {
        @for ConditionView { r#type, status, reason, message } in status_view::unmet_conditions(conditions) {
            p .notice .(if status == "False" { "bad" } else { "warning" }) {
                strong { (r#type) " " (status) ", " (reason) } ": " (message)
            }
        }
    }
}

/// `3/4`, when somebody has counted.
pub fn fraction(counts: Option<PathCounts>) -> Markup {
    html! { @match counts {
        Some(PathCounts { desired, connected }) => span .(if connected < desired { "short" } else { "full" }) { (connected) "/" (desired) },
        None => "–",
    } }
}

/// How long ago, counted by the script; without it the time itself.
pub fn age(since: Timestamp, ago: bool) -> Markup {
    html! { time datetime=(since) data-age=(if ago { "ago" } else { "for" }) { (since) } }
}

/// The filters above a table of hosts: all, what is wrong, each phase that there is, and names.
pub fn host_filters(address: &str, filter: &Filter, total: usize, wrong: usize, phases: &[(Phase, usize)]) -> Markup {
    let all = !filter.wrong && filter.phase.is_none();
    html! {
        div .filters {
            nav aria-label="Filters" {
                (choice(address, all, &format!("All {total}")))
                (choice(&format!("{address}?show=wrong"), filter.wrong, &format!("Wrong {wrong}")))
                @for (phase, count) in phases {
                    (choice(&format!("{address}?show={}", phase.as_str()), filter.phase == Some(*phase), &format!("{} {count}", spelled(*phase))))
                }
            }
            form method="get" action=(address) role="search" {
                label for="filter-name" { "Name" }
                input #filter-name type="search" name="name" value=(filter.name) placeholder="part of the name";
                @if filter.wrong { input type="hidden" name="show" value="wrong"; }
                @if let Some(phase) = filter.phase { input type="hidden" name="show" value=(phase.as_str()); }
                button { "Filter" }
            }
        }
    }
}

/// A filter.
pub fn choice(address: &str, chosen: bool, text: &str) -> Markup {
    html! { a href=(address) aria-current=[chosen.then_some("true")] { (text) } }
}

/// An address with a query.
pub fn with_query(address: &str, query: &[(&str, &str)]) -> String {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    format!("{address}?{query}")
}
