//! All data centers.

use maud::{Markup, html};

use super::text::{Severity, badge, choice, first_message, notices, ready};
use crate::api::Phase;
use crate::console::attention::{data_center_is_wrong, host_is_wrong};
use crate::console::fragment::{Fragment, Table};
use crate::console::location::{DataCenterRef, Filter, Tab};
use crate::console::model::Model;
use crate::console::page::Page;
use crate::status_view::{self, DataCenterView};

/// The first page.
pub fn data_centers(model: &Model, filter: &Filter) -> Page {
    let all = &model.status_view.data_centers;
    let wrong = all.iter().filter(|view| data_center_is_wrong(view)).count();
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
    let shown = all.iter().filter(|view| !filter.wrong || data_center_is_wrong(view));
    let table = Table {
        id: "data-centers",
        caption: "Data centers".to_owned(),
        head: vec!["Name", "Namespace", "Verdict", "Hosts", "Storage", "Networks", "iSCSI Bonds", "What is wrong"],
        rows: shown.map(|view| (format!("{}.{}", view.namespace, view.name), row(view))).collect(),
        empty: html! { p { @if filter.wrong { "Nothing is wrong." } @else { "There is no data center here yet." } } },
    };
    Page {
        title: "Data Centers".to_owned(),
        above: Vec::new(),
        found: true,
        parts: vec![Fragment::Block { id: "head", content: head }, Fragment::Table(table)],
    }
}

fn row(view: &DataCenterView) -> Markup {
    let dc = DataCenterRef { namespace: view.namespace.clone(), name: view.name.clone() };
    let up = view.hosts.iter().filter(|host| host.phase == Some(Phase::Up)).count();
    html! {
        th scope="row" { a href=(dc.path(Tab::Storage.path())) { (view.name) } }
        td { (view.namespace) }
        td { (verdict(view)) }
        td .number { a href=(dc.path(Tab::Hosts.path())) { (up) "/" (view.hosts.len()) " Up" } }
        td .number { (view.storage.len()) }
        td .number { (view.networks.len()) }
        td .number { a href=(dc.path(Tab::Bonds.path())) { (view.bonds.len()) } }
        td { (why(view)) }
    }
}

/// A data center in one word.
pub fn verdict(view: &DataCenterView) -> Markup {
    let with = |phase: Phase| view.hosts.iter().any(|host| host.phase == Some(phase));
    match status_view::ready(&view.conditions) {
        _ if !view.exists => badge(Severity::Bad, "does not exist"),
        Some(false) => ready(&view.conditions),
        None => badge(Severity::Quiet, "not looked at yet"),
        Some(true) if with(Phase::NonOperational) => badge(Severity::Bad, "Hosts Non Operational"),
        Some(true) if data_center_is_wrong(view) => badge(Severity::Warning, "Degraded"),
        Some(true) => badge(Severity::Good, "Up"),
    }
}

fn why(view: &DataCenterView) -> Markup {
    let hosts = view.hosts.iter().filter(|host| host_is_wrong(host)).count();
    html! {
        (first_message(&view.conditions))
        @if hosts > 0 {
            a href={ "/dc/" (view.namespace) "/" (view.name) "/hosts?show=wrong" } {
                (hosts) @if hosts == 1 { " host" } @else { " hosts" }
            }
        }
    }
}

/// What is wrong with a data center, above its tabs.
pub fn wrong(view: &DataCenterView) -> Markup {
    html! {
        @if !view.exists {
            p .notice .bad { "There is no DataCenter of this name, or you may not see it; others name it." }
        }
        (notices(&view.conditions))
    }
}
