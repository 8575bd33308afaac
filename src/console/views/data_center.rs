//! A data center and its tabs.

use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt as _;
use maud::{Markup, html};

use super::data_centers::{verdict, wrong};
use super::frame::home;
use super::text::{self, age, first_message, fraction, host_filters, phase, ready, with_query};
use crate::api::{DataCenter, Network, Phase};
use crate::console::attention::host_is_wrong;
use crate::console::fragment::{Fragment, Table};
use crate::console::location::{DataCenterRef, Filter, Tab};
use crate::console::model::Model;
use crate::console::page::Page;
use crate::console::portal_line;
use crate::status_view::{BondView, DataCenterView, HostView, NetworkView};

/// How many events are shown, the newest first.
const EVENTS: usize = 200;

/// A tab of a data center.
pub fn data_center(model: &Model, dc: &DataCenterRef, tab: Tab, filter: &Filter) -> Option<Page> {
    let view = model.view(dc)?;
    let spec = model.data_center(dc);
    let mut parts = vec![
        Fragment::Block { id: "head", content: head(view, spec, dc) },
        Fragment::Block { id: "tabs", content: tabs(view, dc, tab) },
        Fragment::Block { id: "tools", content: tools(view, dc, tab, filter) },
    ];
    parts.push(Fragment::Table(match tab {
        Tab::Storage => storage(spec, dc),
        Tab::Networks => networks(model, view, dc),
        Tab::Bonds => bonds(view, dc, filter),
        Tab::Hosts => hosts("hosts", view.hosts.iter().filter(|host| filter.takes(host)), dc),
        Tab::Events => events(model, view),
    }));
    Some(Page { title: view.name.clone(), above: home(), found: true, parts })
}

fn head(view: &DataCenterView, spec: Option<&DataCenter>, dc: &DataCenterRef) -> Markup {
    html! {
        div .title {
            h1 { (view.name) }
            div role="status" { (verdict(view)) }
            @if view.exists {
                div .toolbar {
                    a .button href=(dc.path("edit/data-center")) { "Edit" }
                    a .button href=(dc.path("delete/data-center")) { "Remove" }
                }
            }
        }
        @if let Some(description) = spec.and_then(|spec| spec.spec.description.as_ref()) { p .description { (description) } }
        (wrong(view))
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
        nav .tabs aria-label="Of the data center" {
            @for tab in Tab::ALL {
                a href=(dc.path(tab.path())) aria-current=[(tab == current).then_some("page")] {
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
        Tab::Hosts => {
            let phases = Phase::ALL
                .iter()
                .copied()
                .map(|phase| (phase, view.hosts.iter().filter(|host| host.phase == Some(phase)).count()));
            let phases: Vec<_> = phases.filter(|(_, count)| *count > 0).collect();
            let wrong = view.hosts.iter().filter(|host| host_is_wrong(host)).count();
            host_filters(&dc.path("hosts"), filter, view.hosts.len(), wrong, &phases)
        }
        Tab::Storage | Tab::Events => html! {},
    }
}

/// The two things that can be done with a row.
fn actions(dc: &DataCenterRef, what: &str, name: &str, query: &[(&str, &str)]) -> Markup {
    let link = |action: &str, text: &str| {
        let address = with_query(&dc.path(&format!("{action}/{what}")), query);
        html! { a href=(address) aria-label={ (text) " " (name) } { (text) } }
    };
    html! { td .actions { (link("edit", "Edit")) " " (link("delete", "Remove")) } }
}

fn storage(spec: Option<&DataCenter>, dc: &DataCenterRef) -> Table {
    let storages = spec.map(|spec| spec.spec.storage.as_slice()).unwrap_or_default();
    let targets = storages.iter().flat_map(|storage| storage.targets.iter().map(move |target| (storage, target)));
    let rows = targets.map(|(storage, target)| {
        let cells = html! {
            th scope="row" { (storage.name) }
            td .code { (target.iqn) }
            td { ul .plain { @for portal in &target.portals { li .code { (portal_line::format(portal)) } } } }
            td { @match &target.chap { Some(chap) => { "Secret " span .code { (chap.secret_ref.name) } }, None => "–" } }
            (actions(dc, "storage", &target.iqn, &[("storage", &storage.name), ("target", &target.iqn)]))
        };
        (format!("{}.{}", storage.name, target.iqn), cells)
    });
    Table {
        id: "storage",
        caption: "iSCSI storage".to_owned(),
        head: vec!["Storage", "Target", "Portals", "CHAP", "Actions"],
        rows: rows.collect(),
        empty: html! { p { "No iSCSI storage is attached to this data center yet: " strong { "New" } " adds some." } },
    }
}

fn networks(model: &Model, view: &DataCenterView, dc: &DataCenterRef) -> Table {
    let specs = model.networks(dc);
    let spec = |name: &str| specs.iter().find(|spec| spec.name_any() == name).copied();
    let rows =
        view.networks.iter().map(|network| (network.name.clone(), network_row(network, spec(&network.name), dc)));
    Table {
        id: "networks",
        caption: "Networks".to_owned(),
        head: vec![
            "Name",
            "Description",
            "Subnets",
            "MTU",
            "Hosts",
            "iSCSI Bonds",
            "Ready",
            "What is wrong",
            "Actions",
        ],
        rows: rows.collect(),
        empty: html! { p { "This data center has no networks yet: " strong { "New" } " adds one." } },
    }
}

fn network_row(view: &NetworkView, network: Option<&Network>, dc: &DataCenterRef) -> Markup {
    let NetworkView { name, subnets, hosts, conditions } = view;
    let spec = network.map(|network| &network.spec);
    let bonds = network.and_then(|network| network.status.as_ref()).map(|status| status.bonds.join(", "));
    html! {
        th scope="row" { (name) }
        td { (spec.and_then(|spec| spec.description.as_deref()).unwrap_or_default()) }
        td .code { (subnets.join(", ")) }
        td .number { @match spec.and_then(|spec| spec.mtu) { Some(mtu) => (mtu), None => "–" } }
        td .number { @match hosts { Some(hosts) => (hosts), None => "–" } }
        td { (bonds.unwrap_or_default()) }
        td { (ready(conditions)) }
        td { (first_message(conditions)) }
        (actions(dc, "network", name, &[("name", name)]))
    }
}

fn bonds(view: &DataCenterView, dc: &DataCenterRef, filter: &Filter) -> Table {
    let shown = view.bonds.iter().filter(|bond| bond.name.contains(&filter.name));
    Table {
        id: "bonds",
        caption: "iSCSI bonds".to_owned(),
        head: vec!["Name", "Networks", "Storage targets", "Hosts", "Paths", "Ready", "What is wrong", "Actions"],
        rows: shown.map(|bond| (bond.name.clone(), bond_row(bond, dc))).collect(),
        empty: html! {
            p { "This data center has no iSCSI bond: its hosts use their default network. " strong { "New" } " adds a bond." }
        },
    }
}

fn bond_row(bond: &BondView, dc: &DataCenterRef) -> Markup {
    let BondView { name, networks, targets, hosts, paths, conditions } = bond;
    html! {
        th scope="row" { a href=(dc.path(&format!("bonds/{name}"))) { (name) } }
        td { @if networks.is_empty() { "none" } @else { (networks.join(", ")) } }
        td { @if targets.is_empty() { "all" } @else { ul .plain { @for target in targets { li .code { (target) } } } } }
        td .number { @match hosts { Some(hosts) => { (hosts.connected) "/" (hosts.total) }, None => "–" } }
        td .number { (fraction(*paths)) }
        td { (ready(conditions)) }
        td { (first_message(conditions)) }
        (actions(dc, "bond", name, &[("name", name)]))
    }
}

/// A table of hosts.
pub fn hosts<'a>(id: &'static str, hosts: impl Iterator<Item = &'a HostView>, dc: &DataCenterRef) -> Table {
    let row = |host: &HostView| {
        let HostView { name, node, phase: its_phase, counts, conditions, paths } = host;
        let carried: std::collections::BTreeSet<&str> =
            paths.iter().filter_map(|path| path.network.as_deref()).collect();
        let default = paths.iter().any(|path| path.planned && path.interface.is_none());
        html! {
            th scope="row" { a href=(dc.path(&format!("hosts/{name}"))) { (name) } }
            td { @if node != name { (node) } }
            td { (phase(*its_phase)) }
            td .number { (fraction(*counts)) }
            td {
                (carried.into_iter().collect::<Vec<_>>().join(", "))
                @if default { span .quiet-text { "default network" } }
            }
            td { (first_message(conditions)) }
        }
    };
    Table {
        id,
        caption: "Hosts".to_owned(),
        head: vec!["Name", "Node", "Phase", "Paths", "Through", "What is wrong"],
        rows: hosts.map(|host| (host.name.clone(), row(host))).collect(),
        empty: html! { p { "No host is like this." } },
    }
}

fn events(model: &Model, view: &DataCenterView) -> Table {
    let ours = |event: &&Event| {
        let about = event.regarding.as_ref();
        let (kind, name) = about
            .map_or(("", ""), |it| (it.kind.as_deref().unwrap_or_default(), it.name.as_deref().unwrap_or_default()));
        event.metadata.namespace.as_deref() == Some(&*view.namespace)
            && match kind {
                "DataCenter" => name == view.name,
                "Network" => view.networks.iter().any(|its| its.name == name),
                "IscsiBond" => view.bonds.iter().any(|its| its.name == name),
                "Host" => view.hosts.binary_search_by(|its| its.name.as_str().cmp(name)).is_ok(),
                _ => false,
            }
    };
    let mut events: Vec<&Event> = model.events.iter().map(AsRef::as_ref).filter(ours).collect();
    events.sort_by_key(|event| std::cmp::Reverse(last_seen(event)));
    let rows = events.into_iter().take(EVENTS).map(|event| {
        let about = event.regarding.clone().unwrap_or_default();
        let severity =
            if event.type_.as_deref() == Some("Warning") { text::Severity::Warning } else { text::Severity::Quiet };
        let cells = html! {
            td { @if let Some(seen) = last_seen(event) { (age(seen, true)) } }
            td { (about.kind.unwrap_or_default()) " " strong { (about.name.unwrap_or_default()) } }
            td { (text::badge(severity, event.reason.as_deref().unwrap_or_default())) }
            td { (event.note.as_deref().unwrap_or_default()) }
        };
        (event.name_any(), cells)
    });
    Table {
        id: "events",
        caption: "Events, the newest first".to_owned(),
        head: vec!["When", "Object", "Reason", "What happened"],
        rows: rows.collect(),
        empty: html! { p { "Nothing has happened here lately." } },
    }
}

fn last_seen(event: &Event) -> Option<jiff::Timestamp> {
    let series = event.series.as_ref().map(|series| series.last_observed_time.0);
    let created = event.metadata.creation_timestamp.as_ref().map(|time| time.0);
    series.or(event.event_time.as_ref().map(|time| time.0)).or(created)
}
