//! Reads the host's network interfaces from the kernel by netlink (`rtnetlink(7)`). The agent must run in the host's
//! network namespace.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io,
    net::IpAddr,
    path::Path,
    time::Duration,
};

use futures::TryStreamExt as _;
use ipnet::IpNet;
use rtnetlink::packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope},
    link::{InfoKind, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage},
};
use tokio::time::timeout;

use crate::api::{HostInterface, InterfaceName, ObjectName};

/// Interfaces that are reported because they are named, and the Host that names them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceFilter {
    /// The name of the Host that the agent serves.
    pub host: Option<ObjectName>,
    /// The interfaces in `Host.spec.interfaces`: reported even if their kind usually carries no storage traffic.
    pub in_spec: BTreeSet<InterfaceName>,
    /// The interfaces of the planned paths: reported even without an address, to distinguish a missing address from a
    /// missing interface.
    pub in_plan: BTreeSet<InterfaceName>,
}

impl InterfaceFilter {
    pub(super) fn names(&self, interface: &str) -> bool {
        self.in_spec.contains(interface) || self.in_plan.contains(interface)
    }
}

/// The largest number of interfaces in the status of a Host.
const MAX_INTERFACES: usize = 64;
/// The longest name of a network device, in bytes (`IFNAMSIZ` without its zero).
const MAX_NAME: usize = 15;
/// The kernel answers at once, or not at all.
const NETLINK_TIMEOUT: Duration = Duration::from_secs(5);

/// The interfaces to report, sorted by name: interfaces with an address whose kind can carry storage traffic, and the
/// interfaces that the filter names.
///
/// # Errors
/// If the kernel does not answer.
pub async fn read(sys: &Path, filter: &InterfaceFilter) -> io::Result<Vec<HostInterface>> {
    let (links, addresses) = match timeout(NETLINK_TIMEOUT, links_and_addresses()).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(read_error(&error)),
        Err(_) => return Err(read_error("it does not answer")),
    };
    let is_hardware = |name: &str| sys.join("class/net").join(name).join("device").exists();
    Ok(select(&links, &addresses, is_hardware, filter))
}

async fn links_and_addresses() -> Result<(Vec<LinkMessage>, Vec<AddressMessage>), String> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(|error| error.to_string())?;
    let connection = tokio::spawn(connection);
    // Without the counters, which are most of an answer's bytes.
    let links = handle.link().get().set_filter_mask(AddressFamily::Unspec, vec![LinkExtentMask::SkipStats]);
    let links: Result<Vec<LinkMessage>, _> = links.execute().try_collect().await;
    let addresses: Result<Vec<AddressMessage>, _> = handle.address().get().execute().try_collect().await;
    connection.abort();
    Ok((links.map_err(|error| error.to_string())?, addresses.map_err(|error| error.to_string())?))
}

fn read_error(error: &str) -> io::Error {
    io::Error::other(format!("cannot ask the kernel for the network devices: {error}"))
}

/// Pure; `is_hardware` tells whether an interface is a physical device.
fn select(
    links: &[LinkMessage],
    addresses: &[AddressMessage],
    is_hardware: impl Fn(&str) -> bool,
    filter: &InterfaceFilter,
) -> Vec<HostInterface> {
    let mut usable: BTreeMap<u32, BTreeSet<(IpAddr, u8)>> = BTreeMap::new();
    for message in addresses {
        if let Some(address) = usable_address(message) {
            usable.entry(message.header.index).or_default().insert((address, message.header.prefix_len));
        }
    }
    let uplinked: BTreeSet<u32> = links.iter().filter(|link| !leads_to_a_pod(link)).filter_map(controller).collect();
    let mut found: Vec<(bool, HostInterface)> = links
        .iter()
        .filter_map(|link| {
            let interface = HostInterface {
                beside: beside(link, links, &usable),
                ..interface(link, usable.get(&link.header.index))?
            };
            let is_named = filter.names(&interface.name);
            let can_carry_storage = !interface.addresses.is_empty()
                && interface.beside.is_none()
                && (leads_out(link, &interface.name, &uplinked) || is_hardware(&interface.name));
            (is_named || can_carry_storage).then_some((!is_named, interface))
        })
        .collect();
    found.sort_by(|(a_other, a), (b_other, b)| (a_other, &a.name).cmp(&(b_other, &b.name)));
    found.truncate(MAX_INTERFACES);
    let mut interfaces: Vec<HostInterface> = found.into_iter().map(|(_, interface)| interface).collect();
    interfaces.sort_by(|a, b| a.name.cmp(&b.name));
    interfaces
}

fn interface(link: &LinkMessage, addresses: Option<&BTreeSet<(IpAddr, u8)>>) -> Option<HostInterface> {
    let mut interface = HostInterface {
        up: link.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        addresses: addresses.into_iter().flatten().map(|(address, length)| format!("{address}/{length}")).collect(),
        ..HostInterface::default()
    };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name = name.as_str().into(),
            LinkAttribute::Mtu(mtu) => interface.mtu = *mtu,
            LinkAttribute::Address(bytes) => interface.mac = hexadecimal(bytes),
            _ => {}
        }
    }
    is_device_name(&interface.name).then_some(interface)
}

/// Whether this is a name that the kernel gives a network device (`dev_valid_name` in `net/core/dev.c`), and that can be
/// shown. It becomes part of a path below `/proc/sys`.
fn is_device_name(name: &str) -> bool {
    let is_special = |letter: char| letter.is_whitespace() || letter.is_control() || matches!(letter, '/' | ':');
    (1..=MAX_NAME).contains(&name.len()) && ![".", ".."].contains(&name) && !name.contains(is_special)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().enumerate().fold(String::new(), |mut text, (index, byte)| {
        let colon = if index == 0 { "" } else { ":" };
        let _ = write!(text, "{colon}{byte:02x}");
        text
    })
}

/// Open vSwitch's own ports, which are the host's interfaces of a virtual switch.
const OPEN_VSWITCH: &str = "openvswitch";
/// The ports that OVN-Kubernetes makes for the network of pods.
const OVN_KUBERNETES: &str = "ovn-k8s-";

/// Whether this is a virtual interface of a kind that leads out of the host: over a physical one, or through a switch.
///
/// Those that a network plugin makes lead to pods: one end of a pair (veth, netkit), a tunnel, a dummy for addresses of
/// services, a bridge with nothing but pods behind it (`uplinked` are the others), or the port of OVN-Kubernetes. A macvlan
/// or ipvlan of a pod is in the pod's network namespace.
fn leads_out(link: &LinkMessage, name: &str, uplinked: &BTreeSet<u32>) -> bool {
    match kind(link) {
        Some(
            InfoKind::Vlan
            | InfoKind::Bond
            | InfoKind::Team
            | InfoKind::MacVlan
            | InfoKind::IpVlan
            | InfoKind::MacSec
            | InfoKind::Ipoib,
        ) => true,
        Some(InfoKind::Bridge) => uplinked.contains(&link.header.index),
        Some(InfoKind::Other(kind)) => kind == OPEN_VSWITCH && !name.starts_with(OVN_KUBERNETES),
        _ => false,
    }
}

/// For a macvlan or ipvlan with an address in a subnet of the interface that it is stacked on: that interface. It carries the
/// subnet; this one is there so that the host reaches its own pods or virtual machines. What is planned does not count, so
/// that it makes no difference which of the two had its address first.
fn beside(
    link: &LinkMessage,
    links: &[LinkMessage],
    addresses: &BTreeMap<u32, BTreeSet<(IpAddr, u8)>>,
) -> Option<InterfaceName> {
    if !matches!(kind(link), Some(InfoKind::MacVlan | InfoKind::IpVlan)) {
        return None;
    }
    let lower = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Link(index) => Some(*index),
        _ => None,
    })?;
    let subnets = |index: u32| -> BTreeSet<IpNet> {
        let of = addresses.get(&index).into_iter().flatten();
        of.filter_map(|(address, length)| Some(IpNet::new(*address, *length).ok()?.trunc())).collect()
    };
    if subnets(link.header.index).is_disjoint(&subnets(lower)) {
        return None;
    }
    Some(interface(links.iter().find(|link| link.header.index == lower)?, None)?.name)
}

/// Whether a port of a bridge has a pod or a virtual machine at its other end.
fn leads_to_a_pod(link: &LinkMessage) -> bool {
    matches!(kind(link), Some(InfoKind::Veth | InfoKind::Netkit | InfoKind::Tun))
}

fn kind(link: &LinkMessage) -> Option<&InfoKind> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.iter().find_map(|info| match info {
            LinkInfo::Kind(kind) => Some(kind),
            _ => None,
        }),
        _ => None,
    })
}

/// The index of the bridge, bond or switch that a link is a port of.
fn controller(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Controller(index) => Some(*index),
        _ => None,
    })
}

/// The address, if it is global, permanent and usable. For IPv6 the flag `secondary` means a temporary address.
fn usable_address(message: &AddressMessage) -> Option<IpAddr> {
    let flags = message.header.flags;
    let mut local = None;
    let mut address = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            _ => {}
        }
    }
    let ip = local.or(address)?;
    let is_temporary = ip.is_ipv6() && flags.contains(AddressHeaderFlags::Secondary);
    let is_unverified =
        flags.contains(AddressHeaderFlags::Tentative) && !flags.contains(AddressHeaderFlags::Optimistic);
    let is_refused = flags.contains(AddressHeaderFlags::Dadfailed);
    let is_usable = message.header.scope == AddressScope::Universe && !is_temporary && !is_unverified && !is_refused;
    is_usable.then_some(ip)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use rtnetlink::{
        packet_core::{NetlinkBuffer, NetlinkMessage, NetlinkPayload},
        packet_route::RouteNetlinkMessage,
    };

    use super::*;
    use crate::fuzz::{Parsed, fuzz};

    fn link(index: u32, name: &str, kind: Option<InfoKind>) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = LinkFlags::Up | LinkFlags::LowerUp;
        message.attributes = vec![
            LinkAttribute::IfName(name.into()),
            LinkAttribute::Mtu(9000),
            LinkAttribute::Address(vec![2, 0, 0, 0, 0xab, u8::try_from(index).unwrap()]),
        ];
        message.attributes.extend(kind.map(|kind| LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)])));
        message
    }

    /// A link that is stacked on another one.
    fn stacked(mut link: LinkMessage, lower: u32) -> LinkMessage {
        link.attributes.push(LinkAttribute::Link(lower));
        link
    }

    #[test]
    fn a_macvlan_beside_its_own_interface_carries_nothing_unless_it_is_named() {
        let links = [link(1, "ens1", None), stacked(link(2, "shim", Some(InfoKind::MacVlan)), 1)];
        let found = |of_shim: &str, filter: &InterfaceFilter| -> Vec<String> {
            let addresses = [address(1, "10.0.1.21/24"), address(2, of_shim)];
            let found = select(&links, &addresses, |name| name == "ens1", filter);
            found.iter().map(|interface| interface.name.to_string()).collect()
        };
        assert_eq!(found("10.0.1.22/24", &named(&[], &[])), ["ens1"]);
        assert_eq!(found("10.0.1.22/24", &named(&["shim"], &[])), ["ens1", "shim"]);
        let filter = named(&[], &["shim"]);
        let planned = select(&links, &[address(1, "10.0.1.21/24"), address(2, "10.0.1.22/24")], |_| false, &filter);
        assert_eq!(planned[0].beside.as_deref(), Some("ens1"), "planned while ens1 had no address");
        assert_eq!(found("10.0.2.22/24", &named(&[], &[])), ["ens1", "shim"], "it has a network of its own");
    }

    fn address(index: u32, text: &str) -> AddressMessage {
        let (ip, length) = text.split_once('/').unwrap();
        let mut message = AddressMessage::default();
        message.header.index = index;
        message.header.prefix_len = length.parse().unwrap();
        message.attributes = vec![AddressAttribute::Address(ip.parse().unwrap())];
        message
    }

    fn flagged(mut message: AddressMessage, flags: AddressHeaderFlags) -> AddressMessage {
        message.header.flags = flags;
        message
    }

    fn scoped(mut message: AddressMessage, scope: AddressScope) -> AddressMessage {
        message.header.scope = scope;
        message
    }

    fn named(in_spec: &[&str], in_plan: &[&str]) -> InterfaceFilter {
        let set = |names: &[&str]| names.iter().map(|name| (*name).into()).collect();
        InterfaceFilter { host: None, in_spec: set(in_spec), in_plan: set(in_plan) }
    }

    fn names(interfaces: &[HostInterface]) -> Vec<&str> {
        interfaces.iter().map(|interface| &*interface.name).collect()
    }

    #[test]
    fn an_interface_has_its_mac_mtu_state_and_addresses() {
        let addresses = [address(2, "fd00:1::21/64"), address(2, "10.0.1.21/24"), address(3, "10.0.9.9/24")];
        let found = select(&[link(2, "ens1", None)], &addresses, |_| true, &InterfaceFilter::default());
        let expected = HostInterface {
            name: "ens1".into(),
            mac: "02:00:00:00:ab:02".into(),
            mtu: 9000,
            up: true,
            addresses: vec!["10.0.1.21/24".into(), "fd00:1::21/64".into()],
            beside: None,
        };
        assert_eq!(found, [expected]);
    }

    #[test]
    fn a_device_without_carrier_is_not_up() {
        let mut down = link(2, "ens1", None);
        down.header.flags = LinkFlags::Up;
        let found = select(&[down], &[address(2, "10.0.1.21/24")], |_| true, &InterfaceFilter::default());
        assert!(!found[0].up);
    }

    #[test]
    fn interfaces_carry_storage_except_what_a_network_plugin_makes() {
        let kinds = [
            ("ens1", None),
            ("ens1.100", Some(InfoKind::Vlan)),
            ("bond0", Some(InfoKind::Bond)),
            ("team0", Some(InfoKind::Team)),
            ("br0", Some(InfoKind::Bridge)),
            ("stor0", Some(InfoKind::MacVlan)),
            ("stor1", Some(InfoKind::IpVlan)),
            ("br-ex", Some(InfoKind::Other("openvswitch".into()))),
            ("ovn-k8s-mp0", Some(InfoKind::Other("openvswitch".into()))),
            ("cni0", Some(InfoKind::Bridge)),
            ("docker0", Some(InfoKind::Bridge)),
            ("lo", None),
            ("veth1", Some(InfoKind::Veth)),
            ("dummy0", Some(InfoKind::Dummy)),
            ("tun0", Some(InfoKind::Tun)),
            ("vxlan0", Some(InfoKind::Vxlan)),
            ("wg0", Some(InfoKind::Wireguard)),
        ];
        let mut links: Vec<_> =
            kinds.into_iter().zip(1..).map(|((name, kind), index)| link(index, name, kind)).collect();
        // A VLAN in br0, a pod behind cni0, nothing behind docker0.
        for (port, bridge) in [("ens1.100", "br0"), ("veth1", "cni0")] {
            let (port, bridge) = (position_of(&links, port), position_of(&links, bridge));
            let index = links[bridge].header.index;
            links[port].attributes.push(LinkAttribute::Controller(index));
        }
        let addresses: Vec<_> = (1..=17).map(|index| address(index, "10.0.1.21/24")).collect();
        let is_physical = |name: &str| name == "ens1";
        let found = select(&links, &addresses, is_physical, &InterfaceFilter::default());
        assert_eq!(names(&found), ["bond0", "br-ex", "br0", "ens1", "ens1.100", "stor0", "stor1", "team0"]);
        assert!(select(&links, &[], is_physical, &InterfaceFilter::default()).is_empty(), "without an address");
        let found = select(&links, &[], is_physical, &named(&["dummy0"], &["ens1", "gone"]));
        assert_eq!(names(&found), ["dummy0", "ens1"], "named ones whatever they are");
    }

    /// The position of the link with this name.
    fn position_of(links: &[LinkMessage], name: &str) -> usize {
        let is_name = |attribute: &LinkAttribute| *attribute == LinkAttribute::IfName(name.into());
        links.iter().position(|link| link.attributes.iter().any(is_name)).unwrap()
    }

    #[test]
    fn only_global_permanent_usable_addresses_count() {
        let usable = [
            address(1, "10.0.1.21/24"),
            flagged(address(1, "10.0.1.22/24"), AddressHeaderFlags::Secondary | AddressHeaderFlags::Permanent),
            flagged(address(1, "fd00::1/64"), AddressHeaderFlags::Permanent),
            flagged(address(1, "fd00::2/64"), AddressHeaderFlags::Tentative | AddressHeaderFlags::Optimistic),
        ];
        let unusable = [
            scoped(address(1, "fe80::1/64"), AddressScope::Link),
            scoped(address(1, "127.0.0.1/8"), AddressScope::Host),
            flagged(address(1, "fd00::a/64"), AddressHeaderFlags::Secondary),
            flagged(address(1, "fd00::b/64"), AddressHeaderFlags::Tentative),
            flagged(address(1, "fd00::c/64"), AddressHeaderFlags::Dadfailed | AddressHeaderFlags::Permanent),
        ];
        let all: Vec<_> = unusable.into_iter().chain(usable).collect();
        let found = select(&[link(1, "ens1", None)], &all, |_| true, &InterfaceFilter::default());
        assert_eq!(found[0].addresses, ["10.0.1.21/24", "10.0.1.22/24", "fd00::1/64", "fd00::2/64"]);
    }

    #[test]
    fn a_point_to_point_interface_has_its_own_address_not_the_peers() {
        let mut message = address(1, "10.9.9.9/32");
        message.attributes.push(AddressAttribute::Local(IpAddr::from([10, 0, 1, 21])));
        let found = select(&[link(1, "ens1", None)], &[message], |_| true, &InterfaceFilter::default());
        assert_eq!(found[0].addresses, ["10.0.1.21/32"]);
    }

    #[test]
    fn at_most_64_interfaces_are_reported_named_ones_first() {
        let links: Vec<_> = (1..=70).map(|index| link(index, &format!("ens{index:02}"), None)).collect();
        let addresses: Vec<_> = (1..=70).map(|index| address(index, "10.0.1.21/24")).collect();
        let found = select(&links, &addresses, |_| true, &named(&["ens70"], &["ens69"]));
        assert_eq!(
            (found.len(), names(&found)[61], names(&found)[62..].to_vec()),
            (64, "ens62", vec!["ens69", "ens70"])
        );
    }

    #[tokio::test]
    async fn the_real_kernel_answers() {
        let named = named(&["lo"], &[]);
        let found = read(Path::new("/sys"), &named).await.unwrap();
        let loopback = found.iter().find(|interface| &*interface.name == "lo").unwrap();
        assert_eq!((loopback.mac.as_str(), loopback.mtu > 0), ("00:00:00:00:00:00", true));
        let unnamed = read(Path::new("/sys"), &InterfaceFilter::default()).await.unwrap();
        assert!(!names(&unnamed).contains(&"lo"));
    }

    /// Links and addresses as the kernel sends them, one message after the other.
    fn decode(mut input: &[u8]) -> (Vec<LinkMessage>, Vec<AddressMessage>) {
        let (mut links, mut addresses) = (Vec::new(), Vec::new());
        while let Ok(buffer) = NetlinkBuffer::new_checked(&input) {
            let length = usize::try_from(buffer.length()).unwrap();
            match NetlinkMessage::<RouteNetlinkMessage>::deserialize(&input[..length]).map(|message| message.payload) {
                Ok(NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link))) => links.push(link),
                Ok(NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(address))) => addresses.push(address),
                Ok(_) | Err(_) => {}
            }
            input = input.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        (links, addresses)
    }

    #[test]
    fn recorded_messages_of_the_kernel_are_understood() {
        let (links, addresses) = decode(include_bytes!("../../../tests/corpus/netlink/links-and-addresses"));
        let found = select(&links, &addresses, |_| true, &InterfaceFilter::default());
        assert_eq!(names(&found), ["ens1", "ens2"]);
    }

    fuzz! {
        any_netlink_message_is_read: "netlink" => |input| {
            let (links, addresses) = decode(input);
            let found = select(&links, &addresses, |_| true, &named(&["ens1"], &["ens2"]));
            assert!(found.len() <= MAX_INTERFACES);
            let names = || found.iter().map(|interface| interface.name.to_string());
            Parsed::new().shown(names()).path_parts(names()).texts(found.iter().flat_map(|interface| &interface.addresses))
        };
    }
}
