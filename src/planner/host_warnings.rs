//! What wants attention on a host and stops nothing, as far as it shows together with other objects. The controller
//! reports it in the condition `HostPrepared`, beside the warnings of the agent.

use std::net::IpAddr;

use super::{
    address::host_address,
    names::{HOST_SHOWN, UnknownName},
    plan::HostPlan,
    view::{NetworkView, View},
};
use crate::api::{
    CarriedNetwork, Host, HostInterface, HostWarning, InterfaceNetworks, SecretName, first_few, reason::PreparedReason,
};

/// The warnings about a host that its data center explains. `view` is its data center.
#[must_use]
pub fn host_warnings(view: &View, host: &Host, plan: &HostPlan) -> Vec<HostWarning> {
    let mut warnings: Vec<HostWarning> =
        [unknown_networks(view, host), outside_subnets(view, host), unusable_secrets(host, plan)]
            .into_iter()
            .flatten()
            .collect();
    warnings.extend(mtu_mismatches(view, host, &plan.networks));
    warnings
}

/// The warning of a host whose initiator name another host has too. An array identifies a host by this name: each of the
/// two ends the sessions of the other. Who may read one namespace learns nothing of another one: `namespace` is that of the host
/// with the warning.
#[must_use]
pub fn duplicate_initiator_name(name: &str, namespace: &str, other: &Host) -> HostWarning {
    let metadata = &other.metadata;
    let host = if metadata.namespace.as_deref() == Some(namespace) {
        format!("Host {namespace}/{} on node {}", metadata.name.as_deref().unwrap_or_default(), other.spec.node_name)
    } else {
        "a Host of another namespace".to_owned()
    };
    let message = format!(
        "{host} has the initiator name {name} too, so arrays take the two for one: write a unique name (`iscsi-iname` prints one) into /etc/iscsi/initiatorname.iscsi on one of them, and restart iscsid"
    );
    HostWarning { reason: PreparedReason::DuplicateInitiatorName, message }
}

fn interfaces(host: &Host) -> &[HostInterface] {
    host.status.as_ref().and_then(|status| status.interfaces.as_deref()).unwrap_or_default()
}

/// Networks of `spec.interfaces` that do not exist. The host does not use the device for them, and everything else may
/// look as it should.
fn unknown_networks(view: &View, host: &Host) -> Option<HostWarning> {
    let unknown_of = |interface: &'_ InterfaceNetworks| -> Vec<(String, String)> {
        let unknown = interface.networks.iter().filter(|name| view.network(name).is_none());
        unknown.map(|network| (network.clone(), interface.name.clone())).collect()
    };
    let mut unknown: Vec<(String, String)> = host.spec.interfaces.iter().flat_map(unknown_of).collect();
    unknown.sort_unstable();
    let names = first_few(&unknown, HOST_SHOWN, |(network, interface)| {
        format!("{} on {interface}", UnknownName::of_network(view, network).describe())
    });
    let data_center = &host.spec.data_center;
    (!unknown.is_empty()).then(|| HostWarning {
        reason: PreparedReason::NetworkNotFound,
        message: format!(
            "spec.interfaces names networks that data center {data_center} does not have: {names}; create the Network, or correct spec.interfaces"
        ),
    })
}

/// Networks of `spec.interfaces` whose subnets contain no address of the device. Portals in these subnets are probably
/// not reached through it.
fn outside_subnets(view: &View, host: &Host) -> Option<HostWarning> {
    if view.too_large.is_some() {
        return None;
    }
    let mut outside: Vec<(&HostInterface, &NetworkView)> = Vec::new();
    for named in &host.spec.interfaces {
        let device = interfaces(host).iter().find(|device| *device.name == *named.name);
        // A device without an address has failed paths that say so.
        let Some(device) = device.filter(|device| !device.addresses.is_empty()) else { continue };
        let addresses: Vec<IpAddr> = device.addresses.iter().filter_map(|address| host_address(address)).collect();
        if addresses.iter().any(is_simulated) {
            continue;
        }
        let inside: Vec<usize> = addresses.iter().flat_map(|address| view.subnets.networks_of(*address)).collect();
        let networks = named.networks.iter().filter_map(|name| view.network(name));
        let missed = networks.filter(|at| view.networks[*at].has_subnets && !inside.contains(at));
        outside.extend(missed.map(|at| (device, &view.networks[at])));
    }
    outside.sort_by(|a, b| (&a.0.name, &a.1.name).cmp(&(&b.0.name, &b.1.name)));
    let names = first_few(&outside, HOST_SHOWN, |(device, network)| {
        let mut addresses = device.addresses.clone();
        addresses.sort_unstable();
        let addresses = first_few(&addresses, HOST_SHOWN, Clone::clone);
        format!("{} ({addresses}) for {}", device.name, network.name)
    });
    (!outside.is_empty()).then(|| HostWarning {
        reason: PreparedReason::AddressOutsideSubnets,
        message: format!(
            "spec.interfaces names devices without an address in the network's subnets: {names}; correct spec.interfaces, the address of the device, or the subnets of the Network"
        ),
    })
}

/// Whether an address is one that `multibond simulate` gives to a device about which it knows nothing else: it is in a
/// range that no real host uses (240.0.0.0/4, RFC 1112 section 4).
fn is_simulated(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if address.octets()[0] >= 240)
}

/// Secrets of the plan that the agent cannot use. Sessions that live go on, and nothing else shows what is about to
/// happen.
fn unusable_secrets(host: &Host, plan: &HostPlan) -> Option<HostWarning> {
    let reported = host.status.as_ref()?.agent.as_ref()?.unusable_secrets.as_slice();
    // What was reported on an earlier plan may be out of date.
    let planned = |secret: &&SecretName| plan.paths.iter().any(|path| path.chap_secret.as_ref() == Some(*secret));
    let unusable: Vec<&SecretName> = reported.iter().filter(planned).collect();
    let namespace = host.metadata.namespace.as_deref().unwrap_or_default();
    let names = first_few(&unusable, HOST_SHOWN, ToString::to_string);
    (!unusable.is_empty()).then(|| HostWarning {
        reason: PreparedReason::SecretNotFound,
        message: format!(
            "the Secret {names} cannot be used (the agent's log says why), so no session to its targets is made again after it is lost, or after a reboot; create it with its keys (docs/first-data-center.md#chap), and allow the agents of the release in multibond-system to read it: `kubectl create rolebinding multibond-chap-reader --namespace {namespace} --clusterrole multibond-chap-reader --serviceaccount multibond-system:multibond-agent`"
        ),
    })
}

/// A warning of each interface whose MTU differs from the MTU of its network. An MTU of 0 was not reported.
fn mtu_mismatches(view: &View, host: &Host, networks: &[CarriedNetwork]) -> Vec<HostWarning> {
    let warning = |attached: &CarriedNetwork| {
        let CarriedNetwork { name, interface, .. } = attached;
        let needed = view.networks[view.network(name)?].mtu?;
        let found = interfaces(host).iter().find(|reported| reported.name == *interface)?.mtu;
        let message = format!("{interface} carries {name} with MTU {found}, and the network needs {needed}");
        (found != 0 && found != needed).then_some(HostWarning { reason: PreparedReason::MTUMismatch, message })
    };
    networks.iter().filter_map(warning).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::HostSpec;

    #[test]
    fn a56_a_host_of_another_namespace_with_the_same_name_is_not_named() {
        let mut other = Host::new("secret-host", HostSpec { node_name: "secret-node".into(), ..HostSpec::default() });
        other.metadata.namespace = Some("munich".into());
        let message = |namespace| duplicate_initiator_name("iqn.a", namespace, &other).message;
        assert!(
            message("munich").starts_with("Host munich/secret-host on node secret-node has the initiator name iqn.a")
        );
        assert!(message("frankfurt").starts_with("a Host of another namespace has the initiator name iqn.a"));
        assert!(!message("frankfurt").contains("secret"));
    }
}
