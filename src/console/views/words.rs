//! Small pieces that all views share: states in words, with a mark and a colour; never by colour alone.

use jiff::Timestamp;
use maud::{Markup, html};

use crate::api::{ConnectionState, PathCounts, Phase};
use crate::console::pages::Filter;
use crate::overview::{self, ConditionView};

/// How a state is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// All is well.
    Good,
    /// Not yet, or not quite.
    Warning,
    /// It has failed.
    Bad,
    /// Neither.
    Quiet,
}

impl Mood {
    /// Its class in the style.
    pub fn class(self) -> &'static str {
        match self {
            Mood::Good => "good",
            Mood::Warning => "warning",
            Mood::Bad => "bad",
            Mood::Quiet => "quiet",
        }
    }

    fn mark(self) -> &'static str {
        match self {
            Mood::Good => "✓",
            Mood::Warning => "▲",
            Mood::Bad => "✕",
            Mood::Quiet => "○",
        }
    }
}

/// A state.
pub fn badge(mood: Mood, text: &str) -> Markup {
    html! { span .badge .(mood.class()) { span aria-hidden="true" { (mood.mark()) } " " (text) } }
}

/// A host's phase.
pub fn phase(phase: Option<Phase>) -> Markup {
    match phase {
        Some(phase) => badge(mood_of_phase(phase), spelled(phase)),
        None => badge(Mood::Quiet, "not looked at yet"),
    }
}

/// A phase as people write it.
pub fn spelled(phase: Phase) -> &'static str {
    if phase == Phase::NonOperational { "Non Operational" } else { phase.as_str() }
}

fn mood_of_phase(phase: Phase) -> Mood {
    match phase {
        Phase::Up => Mood::Good,
        Phase::Unassigned | Phase::NonOperational => Mood::Bad,
        Phase::Connecting | Phase::Degraded | Phase::Unknown => Mood::Warning,
        Phase::Maintenance => Mood::Quiet,
    }
}

/// How a path's state is taken; one that the agent has not reported is only planned.
pub fn mood_of_state(state: Option<ConnectionState>) -> Mood {
    match state {
        Some(ConnectionState::Connected) => Mood::Good,
        Some(ConnectionState::Failed) => Mood::Bad,
        Some(ConnectionState::Connecting | ConnectionState::Disconnecting | ConnectionState::Retained) => Mood::Warning,
        None => Mood::Quiet,
    }
}

/// Whether an object is Ready.
pub fn ready(conditions: &[ConditionView]) -> Markup {
    match overview::ready(conditions) {
        Some(true) if overview::complaints(conditions).is_empty() => badge(Mood::Good, "Ready"),
        Some(true) => badge(Mood::Warning, "Ready"),
        Some(false) => badge(Mood::Bad, "not Ready"),
        None => badge(Mood::Quiet, "not looked at yet"),
    }
}

/// The first thing that is wrong, in one line.
pub fn first_complaint(conditions: &[ConditionView]) -> Markup {
    let complaints = overview::complaints(conditions);
    html! { @if let Some(first) = complaints.first() { span .why title=(first.message) { (first.message) } } }
}

/// Everything that is wrong.
pub fn complaints(conditions: &[ConditionView]) -> Markup {
    html! {
        @for ConditionView { r#type, status, reason, message } in overview::complaints(conditions) {
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
