//! The host's network devices, asked of the kernel by netlink (`rtnetlink(7)`), in the network namespace of the agent,
//! which is the host's.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io,
    net::IpAddr,
    path::Path,
    sync::Arc,
    time::Duration,
};

use futures::TryStreamExt as _;
use ipnet::{IpNet, Ipv4Net};
use rtnetlink::packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope},
    link::{InfoKind, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage},
};
use tokio::time::timeout;

use super::sysfs::attribute;
use crate::{
    agent::initiator::PathError,
    api::{
        HostInterface, HostWarning,
        reason::{PathReason, PreparedReason},
    },
};

/// Devices that matter by name, and the Host that says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceFilter {
    /// The name of the Host that is served.
    pub host: Option<Arc<str>>,
    /// Devices that `Host.spec.interfaces` names: reported whatever they are.
    pub in_spec: BTreeSet<Arc<str>>,
    /// Devices that the plan's paths go through: reported also without an address, so that the lack of the address
    /// can be told from the lack of the device.
    pub in_plan: BTreeSet<Arc<str>>,
}

/// How many interfaces a Host can have in its status.
const MOST: usize = 64;
/// The kernel answers at once, or not at all.
const PATIENCE: Duration = Duration::from_secs(5);

/// What several devices in one subnet need: the setting, what is wanted of it, and whether a value is good.
type Setting = (&'static str, &'static str, fn(u8) -> bool);
const SETTINGS: [Setting; 3] = [
    ("rp_filter", "0 or 2", |value| value != 1),
    ("arp_ignore", "1", |value| value != 0),
    ("arp_announce", "2", |value| value == 2),
];

/// Devices that can carry storage by their kind and have an address, and named ones whatever they are; sorted by name.
///
/// # Errors
/// When the kernel does not answer.
pub async fn read(sys: &Path, named: &InterfaceFilter) -> Result<Vec<HostInterface>, PathError> {
    let failed = |error: String| {
        PathError::new(PathReason::Internal, format!("cannot ask the kernel for the network devices: {error}"))
    };
    let dump = async {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(|error| failed(error.to_string()))?;
        let connection = tokio::spawn(connection);
        // Counters are most of an answer's bytes, and nobody looks at them.
        let links = handle.link().get().set_filter_mask(AddressFamily::Unspec, vec![LinkExtentMask::SkipStats]);
        let links: Result<Vec<LinkMessage>, _> = links.execute().try_collect().await;
        let addresses: Result<Vec<AddressMessage>, _> = handle.address().get().execute().try_collect().await;
        connection.abort();
        let error = |error: rtnetlink::Error| failed(error.to_string());
        Ok((links.map_err(error)?, addresses.map_err(error)?))
    };
    let (links, addresses) = timeout(PATIENCE, dump).await.map_err(|_| failed("it does not answer".into()))??;
    let has_device = |name: &str| sys.join("class/net").join(name).join("device").exists();
    Ok(select(&links, &addresses, has_device, named))
}

/// Pure; `has_device` tells whether there is hardware behind a network device.
fn select(
    links: &[LinkMessage],
    addresses: &[AddressMessage],
    has_device: impl Fn(&str) -> bool,
    named: &InterfaceFilter,
) -> Vec<HostInterface> {
    let mut usable: BTreeMap<u32, BTreeSet<(IpAddr, u8)>> = BTreeMap::new();
    for message in addresses {
        if let Some(address) = usable_address(message) {
            usable.entry(message.header.index).or_default().insert((address, message.header.prefix_len));
        }
    }
    let mut found: Vec<(bool, HostInterface)> = links
        .iter()
        .filter_map(|link| {
            let interface = interface(link, usable.get(&link.header.index))?;
            let is_named = is_named(named, &interface.name);
            let can_carry = || !interface.addresses.is_empty() && (is_stackable(link) || has_device(&interface.name));
            (is_named || can_carry()).then_some((!is_named, interface))
        })
        .collect();
    found.sort_by(|(a_other, a), (b_other, b)| (a_other, &a.name).cmp(&(b_other, &b.name)));
    found.truncate(MOST);
    let mut interfaces: Vec<HostInterface> = found.into_iter().map(|(_, interface)| interface).collect();
    interfaces.sort_by(|a, b| a.name.cmp(&b.name));
    interfaces
}

fn is_named(named: &InterfaceFilter, device: &str) -> bool {
    named.in_spec.contains(device) || named.in_plan.contains(device)
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
    (!interface.name.is_empty()).then_some(interface)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().enumerate().fold(String::new(), |mut text, (index, byte)| {
        let colon = if index == 0 { "" } else { ":" };
        let _ = write!(text, "{colon}{byte:02x}");
        text
    })
}

/// Devices without hardware of their own that storage traffic commonly goes through.
fn is_stackable(link: &LinkMessage) -> bool {
    link.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.iter().any(|info| {
            matches!(info, LinkInfo::Kind(InfoKind::Vlan | InfoKind::Bond | InfoKind::Team | InfoKind::Bridge))
        }),
        _ => false,
    })
}

/// A global address that stays and can be used. In IPv6 the flag of a secondary address means a temporary one.
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

/// What the kernel's settings make of devices that share an IPv4 subnet with another: only for devices that a Host or a
/// plan names, since others carry no storage.
///
/// # Errors
/// When the settings are there and cannot be read.
pub fn warnings(proc: &Path, named: &InterfaceFilter, interfaces: &[HostInterface]) -> io::Result<Vec<HostWarning>> {
    let mut subnets: BTreeMap<Ipv4Net, BTreeSet<&str>> = BTreeMap::new();
    for interface in interfaces {
        for address in &interface.addresses {
            if let Ok(IpNet::V4(address)) = address.parse() {
                subnets.entry(address.trunc()).or_default().insert(&interface.name);
            }
        }
    }
    let mut warnings = Vec::new();
    for (subnet, devices) in subnets.iter().filter(|(_, devices)| devices.len() > 1) {
        let mut unsuitable = Vec::new();
        for device in devices.iter().filter(|device| is_named(named, device)) {
            unsuitable.extend(unsuitable_settings(proc, device)?);
        }
        if !unsuitable.is_empty() {
            let devices: Vec<&str> = devices.iter().copied().collect();
            let message = format!(
                "{} have addresses in {subnet}, where answers may come in on another device than expected; {}; or use \
                 one subnet for each device",
                devices.join(" and "),
                unsuitable.join(", "),
            );
            warnings.push(HostWarning { reason: PreparedReason::ReversePathFilter, message });
        }
    }
    Ok(warnings)
}

/// Of each setting the kernel uses the greater of the device's and that of `all` (`ip-sysctl.rst`).
fn unsuitable_settings(proc: &Path, device: &str) -> io::Result<Vec<String>> {
    let mut unsuitable = Vec::new();
    for (setting, wanted, is_good) in SETTINGS {
        let read = |device: &str| {
            let file = proc.join("sys/net/ipv4/conf").join(device).join(setting);
            Ok::<_, io::Error>(attribute(&file)?.and_then(|text| text.parse::<u8>().ok()))
        };
        let Some(value) = read("all")?.max(read(device)?) else { continue };
        if !is_good(value) {
            // sysctl(8) takes a slash for the dot in a name such as `eth0.100`.
            let device = device.replace('.', "/");
            unsuitable.push(format!("set net.ipv4.conf.{device}.{setting} to {wanted} (it is {value})"));
        }
    }
    Ok(unsuitable)
}

#[cfg(test)]
mod tests {
    use std::{fs, net::IpAddr};

    use super::*;

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
    fn an_interface_is_told_with_its_mac_mtu_state_and_addresses() {
        let addresses = [address(2, "fd00:1::21/64"), address(2, "10.0.1.21/24"), address(3, "10.0.9.9/24")];
        let found = select(&[link(2, "ens1", None)], &addresses, |_| true, &InterfaceFilter::default());
        let expected = HostInterface {
            name: "ens1".into(),
            mac: "02:00:00:00:ab:02".into(),
            mtu: 9000,
            up: true,
            addresses: vec!["10.0.1.21/24".into(), "fd00:1::21/64".into()],
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
    fn devices_that_can_carry_storage_are_physical_vlan_bond_team_and_bridge_devices_with_an_address() {
        let kinds = [
            ("ens1", None),
            ("ens1.100", Some(InfoKind::Vlan)),
            ("bond0", Some(InfoKind::Bond)),
            ("team0", Some(InfoKind::Team)),
            ("br0", Some(InfoKind::Bridge)),
            ("lo", None),
            ("veth1", Some(InfoKind::Veth)),
            ("dummy0", Some(InfoKind::Dummy)),
            ("tun0", Some(InfoKind::Tun)),
            ("vxlan0", Some(InfoKind::Vxlan)),
            ("wg0", Some(InfoKind::Wireguard)),
        ];
        let links: Vec<_> = kinds.into_iter().zip(1..).map(|((name, kind), index)| link(index, name, kind)).collect();
        let addresses: Vec<_> = (1..=11).map(|index| address(index, "10.0.1.21/24")).collect();
        let is_physical = |name: &str| name == "ens1";
        let found = select(&links, &addresses, is_physical, &InterfaceFilter::default());
        assert_eq!(names(&found), ["bond0", "br0", "ens1", "ens1.100", "team0"]);
        assert!(select(&links, &[], is_physical, &InterfaceFilter::default()).is_empty(), "without an address");
        let found = select(&links, &[], is_physical, &named(&["dummy0"], &["ens1", "gone"]));
        assert_eq!(names(&found), ["dummy0", "ens1"], "named ones whatever they are");
    }

    #[test]
    fn only_global_addresses_that_stay_and_work_count() {
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
    fn the_address_of_a_point_to_point_device_is_its_own_and_not_the_peers() {
        let mut message = address(1, "10.9.9.9/32");
        message.attributes.push(AddressAttribute::Local(IpAddr::from([10, 0, 1, 21])));
        let found = select(&[link(1, "ens1", None)], &[message], |_| true, &InterfaceFilter::default());
        assert_eq!(found[0].addresses, ["10.0.1.21/32"]);
    }

    #[test]
    fn at_most_64_interfaces_are_told_named_ones_first() {
        let links: Vec<_> = (1..=70).map(|index| link(index, &format!("ens{index:02}"), None)).collect();
        let addresses: Vec<_> = (1..=70).map(|index| address(index, "10.0.1.21/24")).collect();
        let found = select(&links, &addresses, |_| true, &named(&["ens70"], &["ens69"]));
        assert_eq!(
            (found.len(), names(&found)[61], names(&found)[62..].to_vec()),
            (64, "ens62", vec!["ens69", "ens70"])
        );
    }

    #[tokio::test]
    async fn the_kernel_is_asked_for_real() {
        let named = named(&["lo"], &[]);
        let found = read(Path::new("/sys"), &named).await.unwrap();
        let loopback = found.iter().find(|interface| &*interface.name == "lo").unwrap();
        assert_eq!((loopback.mac.as_str(), loopback.mtu > 0), ("00:00:00:00:00:00", true));
        let unnamed = read(Path::new("/sys"), &InterfaceFilter::default()).await.unwrap();
        assert!(!names(&unnamed).contains(&"lo"));
    }

    /// The warnings about `ens1`, which the plan names, and `ens2.7`, by settings such as `ens1/rp_filter=1`.
    fn warned(settings: &[&str], addresses: [&str; 2]) -> Vec<String> {
        let proc = tempfile::tempdir().unwrap();
        for setting in settings {
            let (name, value) = setting.split_once('=').unwrap();
            let file = proc.path().join("sys/net/ipv4/conf").join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, format!("{value}\n")).unwrap();
        }
        let interface = |name: &str, address: &str| HostInterface {
            name: name.into(),
            addresses: vec![address.into(), "fd00::1/64".into()],
            ..HostInterface::default()
        };
        let interfaces = [interface("ens1", addresses[0]), interface("ens2.7", addresses[1])];
        let found = warnings(proc.path(), &named(&["ens2.7"], &["ens1"]), &interfaces).unwrap();
        assert!(found.iter().all(|warning| warning.reason == PreparedReason::ReversePathFilter));
        found.into_iter().map(|warning| warning.message).collect()
    }

    const ONE_SUBNET: [&str; 2] = ["10.0.1.21/24", "10.0.1.22/24"];
    const GOOD_ARP: [&str; 2] = ["all/arp_ignore=1", "all/arp_announce=2"];

    #[test]
    fn a35_interfaces_in_one_subnet_need_settings_that_take_answers_on_either() {
        let with = |settings: &[&str]| warned(&[&GOOD_ARP, settings].concat(), ONE_SUBNET);
        assert_eq!(with(&["all/rp_filter=0", "ens1/rp_filter=0", "ens2.7/rp_filter=2"]), [""; 0]);
        assert_eq!(with(&["all/rp_filter=2", "ens1/rp_filter=1", "ens2.7/rp_filter=1"]), [""; 0], "the greater counts");
        let expected = "ens1 and ens2.7 have addresses in 10.0.1.0/24, where answers may come in on another device \
                        than expected; set net.ipv4.conf.ens2/7.rp_filter to 0 or 2 (it is 1); or use one subnet for \
                        each device";
        assert_eq!(with(&["all/rp_filter=0", "ens1/rp_filter=2", "ens2.7/rp_filter=1"]), [expected]);
        let strict = with(&["all/rp_filter=1", "ens1/rp_filter=0", "ens2.7/rp_filter=0"]);
        assert!(strict[0].contains("ens1.rp_filter") && strict[0].contains("ens2/7.rp_filter"), "{strict:?}");
    }

    #[test]
    fn a35_arp_settings_count_too() {
        let loose =
            ["all/rp_filter=2", "all/arp_ignore=0", "ens1/arp_ignore=1", "ens2.7/arp_ignore=0", "all/arp_announce=1"];
        let found = warned(&loose, ONE_SUBNET).remove(0);
        assert!(found.contains("set net.ipv4.conf.ens1.arp_announce to 2 (it is 1)"), "{found}");
        assert!(found.contains("set net.ipv4.conf.ens2/7.arp_ignore to 1 (it is 0)"), "{found}");
        assert!(!found.contains("ens1.arp_ignore"), "{found}");
    }

    #[test]
    fn a35_interfaces_in_different_subnets_need_nothing() {
        let strict = ["all/rp_filter=1", "all/arp_ignore=0", "all/arp_announce=0"];
        assert_eq!(warned(&strict, ["10.0.1.21/24", "10.0.2.22/24"]), [""; 0]);
    }

    #[test]
    fn interfaces_that_nobody_names_carry_no_storage_and_are_not_warned_about() {
        let proc = tempfile::tempdir().unwrap();
        let conf = proc.path().join("sys/net/ipv4/conf/all");
        fs::create_dir_all(&conf).unwrap();
        fs::write(conf.join("rp_filter"), "1\n").unwrap();
        let interface = |name: &str| HostInterface {
            name: name.into(),
            addresses: vec!["10.0.1.21/24".into()],
            ..HostInterface::default()
        };
        let both = [interface("eth0"), interface("eth1")];
        assert_eq!(warnings(proc.path(), &InterfaceFilter::default(), &both).unwrap(), []);
        assert_eq!(warnings(proc.path(), &named(&[], &["eth1"]), &both).unwrap().len(), 1);
    }
}
