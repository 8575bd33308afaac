//! A data center and its tabs.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use k8s_openapi::api::events::v1::Event;
use kube::{Resource as _, ResourceExt as _};
use maud::{Markup, html};

use super::data_centers::{missing, state};
use super::frame::home;
use super::text::{
    Severity, age, badge, first_message, fraction, host_filters, notices, optional, phase, ready, with_query,
};
use crate::api::{DataCenter, Host, IscsiBond, Network, Storage, Target};
use crate::console::fragment::{Column, Fragment, Table};
use crate::console::location::{DataCenterRef, Filter, Tab};
use crate::console::model::Model;
use crate::console::page::Page;
use crate::console::portal_line;
use crate::console::reach::{Reach, Reaches};
use crate::status_view::{BondView, DataCenterView, HostView, NetworkView};

/// The largest number of events that are shown.
const EVENTS: usize = 200;

/// The page of one tab of a data center; `None` if no object names the data center.
pub fn data_center(model: &Model, dc: &DataCenterRef, tab: Tab, filter: &Filter) -> Option<Page> {
    let view = model.view(dc)?;
    let spec = model.data_center(dc);
    let mut fragments = vec![
        Fragment::Block { id: "head", content: head(view, spec, dc) },
        Fragment::Block { id: "tabs", content: tabs(view, dc, tab) },
        Fragment::Block { id: "tools", content: tools(view, dc, tab, filter) },
    ];
    fragments.push(Fragment::Table(match tab {
        Tab::Storage => storage(view, spec, dc),
        Tab::Networks => networks(model, view, dc),
        Tab::Bonds => bonds(view, dc, filter),
        Tab::Hosts => hosts(view.hosts.iter().filter(|host| filter.matches(host)), dc),
        Tab::Events => events(model, view),
    }));
    Some(Page { title: view.name.clone(), above: home(), found: true, fragments })
}

fn head(view: &DataCenterView, spec: Option<&DataCenter>, dc: &DataCenterRef) -> Markup {
    html! {
        div .title {
            h1 { (view.name) }
            div role="status" { (state(view)) }
            @if view.exists {
                div .toolbar {
                    a .button href=(dc.path("edit/data-center")) { "Edit" }
                    a .button href=(dc.path("delete/data-center")) { "Remove" }
                }
            }
        }
        @if let Some(description) = spec.and_then(|spec| spec.spec.description.as_ref()) { p .description { (description) } }
        (missing(view))
        (notices(&view.conditions))
    }
}

fn tabs(view: &DataCenterView, dc: &DataCenterRef, current: Tab) -> Markup {
    let count = |tab: Tab| match tab {
        Tab::Storage => Some(view.storage.len()),
        Tab::Networks => Some(view.networks.len()),
        Tab::Bonds => Some(view.bonds.len()),
        Tab::Hosts => Some(view.hosts.len()),
        Tab::Events => None,
    };
    html! {
        nav .tabs aria-label="Data center" {
            @for tab in Tab::ALL {
                a href=(dc.tab(tab)) aria-current=[(tab == current).then_some("page")] {
                    (tab.title()) @if let Some(count) = count(tab) { " " span .count { (count) } }
                }
            }
        }
    }
}

fn tools(view: &DataCenterView, dc: &DataCenterRef, tab: Tab, filter: &Filter) -> Markup {
    let new =
        |what: &str| html! { div .toolbar { a .button .primary href=(dc.path(&format!("new/{what}"))) { "New" } } };
    match tab {
        Tab::Storage if view.exists => new("storage"),
        Tab::Networks => new("network"),
        Tab::Bonds => new("bond"),
        Tab::Hosts => host_filters(&dc.tab(Tab::Hosts), filter, &view.hosts),
        Tab::Storage | Tab::Events => html! {},
    }
}

/// The column of links that edit or remove the object of a row: `what` is the kind in the address, and `subject` gives
/// the name for screen readers and the query.
fn actions<'a, R>(
    dc: &'a DataCenterRef,
    what: &'static str,
    subject: impl Fn(&R) -> (String, Vec<(&'static str, String)>) + 'a,
) -> Column<'a, R> {
    Column::new("Actions", move |row| {
        let (name, query) = subject(row);
        let address = |action: &str| with_query(&dc.path(&format!("{action}/{what}")), &query);
        html! {
            a href=(address("edit")) aria-label={ "Edit " (name) } { "Edit" }
            " "
            a href=(address("delete")) aria-label={ "Remove " (name) } { "Remove" }
        }
    })
    .class("actions")
}

fn storage(view: &DataCenterView, spec: Option<&DataCenter>, dc: &DataCenterRef) -> Table {
    type Row<'a> = (&'a Storage, &'a Target);
    let reaches = Reaches::of(view);
    let columns = [
        Column::new("Storage", |(storage, _): &Row| html! { (storage.name) }).row_header(),
        Column::new("Target", |(_, target): &Row| html! { (target.iqn) }).class("code"),
        Column::new("Portals", |(_, target): &Row| {
            html! {
                ul .plain {
                    @for portal in &target.portals {
                        li { span .code { (portal_line::format(portal)) } " " (reached(reaches.portal(&target.iqn, portal))) }
                    }
                }
            }
        }),
        Column::new("CHAP", |(_, target): &Row| {
            html! { @match &target.chap { Some(chap) => { "Secret " span .code { (chap.secret_ref.name) } }, None => "–" } }
        }),
        actions(dc, "storage", |(storage, target): &Row| {
            let iqn = target.iqn.clone();
            (iqn.clone(), vec![("storage", storage.name.clone()), ("target", iqn)])
        }),
    ];
    let storages = spec.map(|spec| spec.spec.storage.as_slice()).unwrap_or_default();
    let rows = storages.iter().flat_map(|storage| {
        storage.targets.iter().map(move |target| (format!("{}.{}", storage.name, target.iqn), (storage, target)))
    });
    let empty = html! { p { "No iSCSI storage is attached to this data center yet: " strong { "New" } " adds some." } };
    Table::new("storage", "iSCSI storage", &columns, rows, empty)
}

/// On how many hosts a portal is reached.
fn reached(reach: Reach) -> Markup {
    let severity = match reach {
        Reach { hosts: 0, .. } => Severity::Quiet,
        Reach { connected, hosts, .. } if connected == hosts => Severity::Good,
        Reach { failed, hosts, .. } if failed == hosts => Severity::Bad,
        _ => Severity::Warning,
    };
    badge(severity, &reach.to_string())
}

fn networks(model: &Model, view: &DataCenterView, dc: &DataCenterRef) -> Table {
    type Row<'a> = (&'a NetworkView, Option<&'a Network>);
    let columns = [
        Column::new("Name", |(view, _): &Row| html! { (view.name) }).row_header(),
        Column::new("Description", |(_, network): &Row| {
            html! { (network.and_then(|it| it.spec.description.as_deref()).unwrap_or_default()) }
        }),
        Column::new("Subnets", |(view, _): &Row| html! { (view.subnets.join(", ")) }).class("code"),
        Column::new("MTU", |(_, network): &Row| optional(network.and_then(|it| it.spec.mtu))).class("number"),
        Column::new("Hosts", |(view, _): &Row| optional(view.hosts)).class("number"),
        Column::new("iSCSI Bonds", |(_, network): &Row| {
            let status = network.and_then(|it| it.status.as_ref());
            html! { (status.map(|status| status.bonds.join(", ")).unwrap_or_default()) }
        }),
        Column::new("Ready", |(view, _): &Row| ready(&view.conditions)),
        Column::new("What is wrong", |(view, _): &Row| first_message(&view.conditions)),
        actions(dc, "network", |(view, _): &Row| (view.name.clone(), vec![("name", view.name.clone())])),
    ];
    let rows = view.networks.iter().map(|it| (it.name.clone(), (it, model.network(dc, &it.name))));
    let empty = html! { p { "This data center has no networks yet: " strong { "New" } " adds one." } };
    Table::new("networks", "Networks", &columns, rows, empty)
}

fn bonds(view: &DataCenterView, dc: &DataCenterRef, filter: &Filter) -> Table {
    let columns = [
        Column::new(
            "Name",
            |bond: &&BondView| html! { a href=(dc.path(&format!("bonds/{}", bond.name))) { (bond.name) } },
        )
        .row_header(),
        Column::new("Networks", |bond: &&BondView| {
            html! { @if bond.networks.is_empty() { "none" } @else { (bond.networks.join(", ")) } }
        }),
        Column::new("Storage targets", |bond: &&BondView| {
            html! {
                @if bond.targets.is_empty() { "all" }
                @else { ul .plain { @for target in &bond.targets { li .code { (target) } } } }
            }
        }),
        Column::new("Hosts", |bond: &&BondView| {
            html! { @match bond.hosts { Some(hosts) => { (hosts.connected) "/" (hosts.total) }, None => "–" } }
        })
        .class("number"),
        Column::new("Paths", |bond: &&BondView| fraction(bond.paths)).class("number"),
        Column::new("Ready", |bond: &&BondView| ready(&bond.conditions)),
        Column::new("What is wrong", |bond: &&BondView| first_message(&bond.conditions)),
        actions(dc, "bond", |bond: &&BondView| (bond.name.clone(), vec![("name", bond.name.clone())])),
    ];
    let shown = view.bonds.iter().filter(|bond| bond.name.contains(&filter.name));
    let empty = html! {
        p { "This data center has no iSCSI bond: its hosts use their default network. " strong { "New" } " adds a bond." }
    };
    Table::new("bonds", "iSCSI bonds", &columns, shown.map(|bond| (bond.name.clone(), bond)), empty)
}

/// A table of hosts.
pub fn hosts<'a>(hosts: impl Iterator<Item = &'a HostView>, dc: &DataCenterRef) -> Table {
    let columns = [
        Column::new(
            "Name",
            |host: &&HostView| html! { a href=(dc.path(&format!("hosts/{}", host.name))) { (host.name) } },
        )
        .row_header(),
        Column::new("Node", |host: &&HostView| html! { @if host.node != host.name { (host.node) } }),
        Column::new("Phase", |host: &&HostView| phase(host.phase)),
        Column::new("Paths", |host: &&HostView| fraction(host.counts)).class("number"),
        Column::new("Through", |host: &&HostView| networks_in_use(host)),
        Column::new("What is wrong", |host: &&HostView| first_message(&host.conditions)),
    ];
    let empty = html! { p { "No host matches." } };
    Table::new("hosts", "Hosts", &columns, hosts.map(|host| (host.name.clone(), host)), empty)
}

/// The networks that a host's paths use.
fn networks_in_use(host: &HostView) -> Markup {
    let names: BTreeSet<&str> = host.paths.iter().filter_map(|path| path.network.as_deref()).collect();
    let default = host.paths.iter().any(|path| path.planned && path.interface.is_none());
    html! {
        (names.into_iter().collect::<Vec<_>>().join(", "))
        @if default { span .quiet-text { "default network" } }
    }
}

fn events(model: &Model, view: &DataCenterView) -> Table {
    let columns = [
        Column::new("When", |event: &&Event| html! { @if let Some(seen) = last_seen(event) { (age(seen, true)) } }),
        Column::new("Object", |event: &&Event| {
            let (kind, name) = regarding(event);
            html! { (kind) " " strong { (name) } }
        }),
        Column::new("Reason", |event: &&Event| {
            let warning = event.type_.as_deref() == Some("Warning");
            let severity = if warning { Severity::Warning } else { Severity::Quiet };
            badge(severity, event.reason.as_deref().unwrap_or_default())
        }),
        Column::new("What happened", |event: &&Event| html! { (event.note.as_deref().unwrap_or_default()) }),
    ];
    let mut events: Vec<&Event> = model.events.iter().map(AsRef::as_ref).filter(|it| is_about(it, view)).collect();
    events.sort_by_key(|event| Reverse(last_seen(event)));
    let rows = events.into_iter().take(EVENTS).map(|event| (event.name_any(), event));
    let empty = html! { p { "There are no recent events." } };
    Table::new("events", "Events, the newest first", &columns, rows, empty)
}

/// Whether an event is about the data center or an object of it.
fn is_about(event: &Event, view: &DataCenterView) -> bool {
    let (kind, name) = regarding(event);
    event.metadata.namespace.as_deref() == Some(&*view.namespace)
        && (kind == DataCenter::kind(&()) && name == view.name
            || kind == Network::kind(&()) && view.networks.iter().any(|it| it.name == name)
            || kind == IscsiBond::kind(&()) && view.bonds.iter().any(|it| it.name == name)
            || kind == Host::kind(&()) && view.hosts.binary_search_by(|it| it.name.as_str().cmp(name)).is_ok())
}

/// Kind and name of the object that an event is about.
fn regarding(event: &Event) -> (&str, &str) {
    let about = event.regarding.as_ref();
    let kind = about.and_then(|about| about.kind.as_deref()).unwrap_or_default();
    (kind, about.and_then(|about| about.name.as_deref()).unwrap_or_default())
}

fn last_seen(event: &Event) -> Option<jiff::Timestamp> {
    let series = event.series.as_ref().map(|series| series.last_observed_time.0);
    let created = event.metadata.creation_timestamp.as_ref().map(|time| time.0);
    series.or(event.event_time.as_ref().map(|time| time.0)).or(created)
}
