//! Pieces that all views share. A state is always a word with a mark and a colour, never a colour alone.

use jiff::Timestamp;
use maud::{Markup, Render, html};

use crate::api::condition::Status;
use crate::api::{ConnectionState, PathCounts, Phase};
use crate::console::attention::host_needs_attention;
use crate::console::location::Filter;
use crate::status_view::{self, ConditionView, HostView, NOT_PROCESSED};

/// The severity of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// As it should be.
    Good,
    /// Not as it should be yet, or only in part.
    Warning,
    /// Failed.
    Bad,
    /// No statement.
    Quiet,
}

impl Severity {
    /// The class in the style sheet.
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

/// A state with its mark.
pub fn badge(severity: Severity, text: &str) -> Markup {
    html! { span .badge .(severity.class()) { span aria-hidden="true" { (severity.mark()) } " " (text) } }
}

/// The phase of a host.
pub fn phase(phase: Option<Phase>) -> Markup {
    match phase {
        Some(phase) => badge(severity_of_phase(phase), spelled(phase)),
        None => badge(Severity::Quiet, NOT_PROCESSED),
    }
}

/// A phase as text.
pub fn spelled(phase: Phase) -> &'static str {
    if phase == Phase::NonOperational { "Non Operational" } else { phase.as_str() }
}

fn severity_of_phase(phase: Phase) -> Severity {
    match phase {
        Phase::Up => Severity::Good,
        Phase::Unassigned | Phase::Lost | Phase::NonOperational => Severity::Bad,
        Phase::Connecting | Phase::Degraded | Phase::Unknown => Severity::Warning,
        Phase::Maintenance => Severity::Quiet,
    }
}

/// The severity of a path's state. Without a state the path is planned, and the agent has not reported it yet.
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

/// A badge that shows whether an object is Ready.
pub fn ready(conditions: &[ConditionView]) -> Markup {
    match status_view::ready(conditions) {
        Some(true) if status_view::unmet_conditions(conditions).is_empty() => badge(Severity::Good, "Ready"),
        Some(true) => badge(Severity::Warning, "Ready"),
        Some(false) => badge(Severity::Bad, "not Ready"),
        None => badge(Severity::Quiet, NOT_PROCESSED),
    }
}

/// The message of the first condition that is not True.
pub fn first_message(conditions: &[ConditionView]) -> Markup {
    let unmet = status_view::unmet_conditions(conditions);
    html! { @if let Some(first) = unmet.first() { span .why title=(first.message) { (first.message) } } }
}

/// A notice for each condition that is not True.
pub fn notices(conditions: &[ConditionView]) -> Markup {
    html! {
        @for ConditionView { r#type, status, reason, message } in status_view::unmet_conditions(conditions) {
            p .notice .(if *status == Status::False.as_str() { "bad" } else { "warning" }) {
                strong { (r#type) " " (status) ", " (reason) } ": " (message)
            }
        }
    }
}

/// A number, or a dash when there is none.
pub fn optional(number: Option<impl Render>) -> Markup {
    html! { @match number { Some(number) => (number), None => "–" } }
}

/// Connected and planned paths, such as `3/4`; a dash until the controller has counted them.
pub fn fraction(counts: Option<PathCounts>) -> Markup {
    html! { @match counts {
        Some(PathCounts { desired, connected }) => span .(if connected < desired { "short" } else { "full" }) { (connected) "/" (desired) },
        None => "–",
    } }
}

/// A time. The script of the page turns it into an age, such as `5 min ago`; without the script it stays a time.
pub fn age(since: Timestamp, ago: bool) -> Markup {
    html! { time datetime=(since) data-age=(if ago { "ago" } else { "for" }) { (since) } }
}

/// The filters above a table of hosts: all, those that need attention, each phase that occurs, and names.
pub fn host_filters(address: &str, filter: &Filter, hosts: &[HostView]) -> Markup {
    let all = !filter.wrong && filter.phase.is_none();
    let wrong = hosts.iter().filter(|host| host_needs_attention(host)).count();
    let in_phase = |phase: Phase| hosts.iter().filter(|host| host.phase == Some(phase)).count();
    let phases = Phase::ALL.iter().map(|&phase| (phase, in_phase(phase))).filter(|(_, count)| *count > 0);
    html! {
        div .filters {
            nav aria-label="Filters" {
                (choice(address, all, &format!("All {}", hosts.len())))
                (choice(&format!("{address}?show=wrong"), filter.wrong, &format!("Wrong {wrong}")))
                @for (phase, count) in phases {
                    (choice(&format!("{address}?show={}", phase.as_str()), filter.phase == Some(phase), &format!("{} {count}", spelled(phase))))
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

/// A link that sets a filter.
pub fn choice(address: &str, chosen: bool, text: &str) -> Markup {
    html! { a href=(address) aria-current=[chosen.then_some("true")] { (text) } }
}

/// An address with a query.
pub fn with_query<N: AsRef<str>, V: AsRef<str>>(address: &str, query: &[(N, V)]) -> String {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    format!("{address}?{query}")
}
