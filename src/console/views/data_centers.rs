//! The first page: all data centers.

use maud::{Markup, html};

use super::text::{Severity, badge, choice, first_message, ready, with_query};
use crate::api::Phase;
use crate::console::attention::{data_center_needs_attention, host_needs_attention};
use crate::console::fragment::{Column, Fragment, Table};
use crate::console::location::{DataCenterRef, Filter, Tab};
use crate::console::model::Model;
use crate::console::page::Page;
use crate::status_view::{self, DataCenterView, NOT_PROCESSED};

/// The page of all data centers.
pub fn data_centers(model: &Model, filter: &Filter) -> Page {
    let all = &model.status_view.data_centers;
    let wrong = all.iter().filter(|view| data_center_needs_attention(view)).count();
    let head = html! {
        h1 { "Data Centers" }
        div .toolbar { a .button .primary href="/new/data-center" { "New" } }
        div .filters {
            nav aria-label="Filters" {
                (choice("/", !filter.wrong, &format!("All {}", all.len())))
                (choice("/?show=wrong", filter.wrong, &format!("Wrong {wrong}")))
            }
        }
    };
    let shown = all.iter().filter(|view| !filter.wrong || data_center_needs_attention(view));
    let rows = shown.map(|view| (format!("{}.{}", view.namespace, view.name), view));
    let empty = html! { p { @if filter.wrong { "Nothing is wrong." } @else { "There is no data center here yet." } } };
    let table = Table::new("data-centers", "Data centers", &columns(), rows, empty);
    Page {
        title: "Data Centers".to_owned(),
        above: Vec::new(),
        found: true,
        fragments: vec![Fragment::Block { id: "head", content: head }, Fragment::Table(table)],
    }
}

fn columns<'a>() -> Vec<Column<'a, &'a DataCenterView>> {
    vec![
        Column::new("Name", |view: &&DataCenterView| {
            html! { a href=(reference(view).tab(Tab::Storage)) { (view.name) } }
        })
        .row_header(),
        Column::new("Namespace", |view: &&DataCenterView| html! { (view.namespace) }),
        Column::new("State", |view: &&DataCenterView| state(view)),
        Column::new("Hosts", |view: &&DataCenterView| {
            let up = view.hosts.iter().filter(|host| host.phase == Some(Phase::Up)).count();
            html! { a href=(reference(view).tab(Tab::Hosts)) { (up) "/" (view.hosts.len()) " Up" } }
        })
        .class("number"),
        Column::new("Storage", |view: &&DataCenterView| html! { (view.storage.len()) }).class("number"),
        Column::new("Networks", |view: &&DataCenterView| html! { (view.networks.len()) }).class("number"),
        Column::new("iSCSI Bonds", |view: &&DataCenterView| {
            html! { a href=(reference(view).tab(Tab::Bonds)) { (view.bonds.len()) } }
        })
        .class("number"),
        Column::new("What is wrong", |view: &&DataCenterView| reasons(view)),
    ]
}

fn reference(view: &DataCenterView) -> DataCenterRef {
    DataCenterRef { namespace: view.namespace.clone(), name: view.name.clone() }
}

/// The state of a data center in one badge.
pub fn state(view: &DataCenterView) -> Markup {
    let with = |phase: Phase| view.hosts.iter().any(|host| host.phase == Some(phase));
    match status_view::ready(&view.conditions) {
        _ if !view.exists => badge(Severity::Bad, "does not exist"),
        Some(false) => ready(&view.conditions),
        None => badge(Severity::Quiet, NOT_PROCESSED),
        Some(true) if with(Phase::NonOperational) => badge(Severity::Bad, "Hosts Non Operational"),
        Some(true) if data_center_needs_attention(view) => badge(Severity::Warning, "Degraded"),
        Some(true) => badge(Severity::Good, "Up"),
    }
}

/// The first message of the data center, and a link to its hosts that need attention.
fn reasons(view: &DataCenterView) -> Markup {
    let hosts = view.hosts.iter().filter(|host| host_needs_attention(host)).count();
    html! {
        (first_message(&view.conditions))
        @if hosts > 0 {
            a href=(with_query(&reference(view).tab(Tab::Hosts), &[("show", "wrong")])) {
                (hosts) @if hosts == 1 { " host" } @else { " hosts" }
            }
        }
    }
}

/// A notice for a data center that does not exist.
pub fn missing(view: &DataCenterView) -> Markup {
    html! {
        @if !view.exists {
            p .notice .bad { "There is no DataCenter of this name, or you may not read it; other objects name it." }
        }
    }
}
