//! The page of a bond with its hosts, and of a host with a matrix of its paths for each target.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};

use super::data_center::hosts;
use super::frame::home;
use super::text::{Severity, age, badge, fraction, host_filters, notices, phase, ready, severity_of_state, with_query};
use crate::api::{ANY_TPGT, ConnectionState, Host, Pairing};
use crate::console::fragment::Fragment;
use crate::console::location::{DataCenterRef, Filter, Tab};
use crate::console::model::Model;
use crate::console::page::Page;
use crate::status_view::{HostView, PathView};

/// The pages above a bond or a host: its data center, and the tab that lists it.
fn above(dc: &DataCenterRef, tab: Tab) -> Vec<(String, String)> {
    let mut above = home();
    above.push((dc.name.clone(), dc.tab(Tab::Storage)));
    above.push((tab.title().to_owned(), dc.tab(tab)));
    above
}

/// The page of a bond: its status, and the hosts of its data center.
pub fn bond(model: &Model, dc: &DataCenterRef, name: &str, filter: &Filter) -> Option<Page> {
    let spec = &model.bond(dc, name)?.spec;
    let data_center = model.view(dc)?;
    let view = data_center.bonds.iter().find(|bond| bond.name == name)?;
    let counts = view.hosts.unwrap_or_default();
    let head = html! {
        div .title {
            h1 { (name) }
            div role="status" { (ready(&view.conditions)) }
            div .toolbar {
                a .button href=(with_query(&dc.path("edit/bond"), &[("name", name)])) { "Edit" }
                a .button href=(with_query(&dc.path("delete/bond"), &[("name", name)])) { "Remove" }
            }
        }
        @if let Some(description) = &spec.description { p .description { (description) } }
        (notices(&view.conditions))
        dl .facts {
            div { dt { "Networks" } dd { @if spec.networks.is_empty() { "none" } @else { (spec.networks.join(", ")) } } }
            div { dt { "Storage targets" } dd { @if spec.targets.is_empty() { "all" } @else { (spec.targets.join(", ")) } } }
            div { dt { "Pairing" } dd { @match spec.pairing { Pairing::Auto => "Automatic", Pairing::AllPairs => "All pairs" } } }
            div { dt { "Paths" } dd { (fraction(view.paths)) } }
            div { dt { "Hosts" } dd {
                (counts.connected) "/" (counts.total) " connected"
                @if counts.degraded > 0 { ", " (counts.degraded) " degraded" }
                @if counts.non_operational > 0 { ", " (counts.non_operational) " non operational" }
                @if counts.default > 0 { ", " (counts.default) " on their default network" }
                @if counts.unknown > 0 { ", " (counts.unknown) " unknown" }
            } }
        }
    };
    let all = &data_center.hosts;
    let filters = host_filters(&dc.path(&format!("bonds/{name}")), filter, all);
    let fragments = vec![
        Fragment::Block { id: "head", content: head },
        Fragment::Block { id: "tools", content: filters },
        Fragment::Table(hosts(all.iter().filter(|host| filter.matches(host)), dc)),
    ];
    Some(Page { title: name.to_owned(), above: above(dc, Tab::Bonds), found: true, fragments })
}

/// The page of a host: its status, and for each target a matrix of portals and networks.
pub fn host(model: &Model, dc: &DataCenterRef, name: &str) -> Option<Page> {
    let object = model.host(dc, name)?;
    let view = model.view(dc)?.hosts.iter().find(|host| host.name == name)?;
    let maintenance = with_query(&dc.path("edit/host"), &[("name", name)]);
    let head = html! {
        div .title {
            h1 { (name) }
            div role="status" { (phase(view.phase)) }
            div .toolbar {
                a .button href=(maintenance) { @if object.spec.maintenance { "Activate" } @else { "Maintenance" } }
            }
        }
        (notices(&view.conditions))
        (facts(object, view))
    };
    let targets: BTreeSet<&str> = view.paths.iter().map(|path| path.target.as_str()).collect();
    let matrices = html! {
        h2 { "Paths" }
        @if targets.is_empty() { p .empty { "No path is planned, and no session is open." } }
        @for target in targets { (matrix(target, view)) }
    };
    let fragments =
        vec![Fragment::Block { id: "head", content: head }, Fragment::Block { id: "paths", content: matrices }];
    Some(Page { title: name.to_owned(), above: above(dc, Tab::Hosts), found: true, fragments })
}

fn facts(host: &Host, view: &HostView) -> Markup {
    let status = host.status.as_ref();
    let carried = status.map(|status| &*status.networks).unwrap_or_default();
    let agent = status.and_then(|status| status.agent.as_ref());
    html! {
        dl .facts {
            div { dt { "Node" } dd { (view.node) } }
            div { dt { "Paths" } dd { (fraction(view.counts)) } }
            div { dt { "Networks" } dd {
                @if carried.is_empty() { "none" }
                @for (number, network) in carried.iter().enumerate() {
                    @if number > 0 { ", " }
                    (network.name) " on " span .code { (network.interface) }
                    @if let Some(address) = &network.address { " (" (address) ")" }
                }
            } }
            @if let Some(agent) = agent {
                div { dt { "Initiator" } dd .code { (agent.initiator_name.as_deref().unwrap_or("–")) } }
                div { dt { "Agent" } dd { (agent.version) @if let Some(initiator) = &agent.initiator { ", " (initiator) } } }
            }
            @for map in status.map(|status| status.multipath.as_slice()).unwrap_or_default() {
                div { dt { "Multipath" } dd { span .code { (map.wwid) } " " (map.active) "/" (map.paths) " active" } }
            }
        }
    }
}

/// A column of a matrix: a network device and its network. Without both it is the default network.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Column<'a> {
    network: Option<&'a str>,
    interface: Option<&'a str>,
}

/// The column of a path. A session that is not planned reports only its device, so it takes the network that other paths
/// have on this device.
fn column<'a>(path: &'a PathView, networks: &BTreeMap<&'a str, &'a str>) -> Column<'a> {
    let interface = path.interface.as_deref();
    let network = path.network.as_deref().or_else(|| networks.get(interface?).copied());
    Column { network, interface }
}

fn matrix(target: &str, view: &HostView) -> Markup {
    let named = view.paths.iter().filter_map(|path| Some((path.interface.as_deref()?, path.network.as_deref()?)));
    let networks: BTreeMap<&str, &str> = named.collect();
    let paths: Vec<&PathView> = view.paths.iter().filter(|path| path.target == target).collect();
    let columns: BTreeSet<Column<'_>> = paths.iter().map(|path| column(path, &networks)).collect();
    let portals: BTreeMap<&str, u16> = paths.iter().map(|path| (path.portal.as_str(), path.tpgt)).collect();
    let at = |portal: &str, wanted: &Column<'_>| {
        let there = |path: &&&PathView| path.portal.as_str() == portal && column(path, &networks) == *wanted;
        paths.iter().find(there).copied()
    };
    html! {
        div id={ "paths-" (target) } .scroll role="region" aria-label={ "Paths to " (target) } tabindex="0" {
            table .matrix {
                caption { "Target " span .code { (target) } }
                thead {
                    tr {
                        th scope="col" { "Portal" }
                        @for Column { network, interface } in &columns {
                            th scope="col" {
                                @match (network, interface) {
                                    (Some(network), _) => (network),
                                    (None, Some(_)) => "no network",
                                    (None, None) => "default network",
                                }
                                @if let Some(interface) = interface { " " span .device { (interface) } }
                            }
                        }
                    }
                }
                tbody {
                    @for (portal, tpgt) in portals {
                        tr {
                            th scope="row" .code { (portal) @if tpgt != ANY_TPGT { "," (tpgt) } }
                            @for wanted in &columns { (cell(at(portal, wanted))) }
                        }
                    }
                }
            }
        }
    }
}

fn cell(path: Option<&PathView>) -> Markup {
    let Some(path) = path else { return html! { td .none { span title="no path is planned here" { "–" } } } };
    let severity = severity_of_state(path.state);
    let text = path.state.map_or("Planned", ConnectionState::as_str);
    html! {
        td .(severity.class()) {
            (badge(severity, text))
            @if let Some(reason) = path.reason { " " strong .reason { (reason) } }
            @if severity != Severity::Good {
                @if let Some(message) = &path.message { p .message { (message) } }
                p .times {
                    @if let Some(since) = path.since { "for " (age(since, false)) }
                    @if let Some(pause) = &path.retry_every { ", next attempt within " (pause) }
                    @if !path.planned { " · no longer planned" }
                }
            }
        }
    }
}
