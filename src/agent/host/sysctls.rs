//! Settings of the kernel that break storage traffic through several interfaces in one subnet.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
};

use ipnet::{IpNet, Ipv4Net};

use super::{interfaces::InterfaceFilter, sysfs::attribute};
use crate::api::{HostInterface, HostWarning, reason::PreparedReason};

/// A sysctl of an interface, as several interfaces in one subnet need it.
struct Sysctl {
    name: &'static str,
    /// The values that work, for messages.
    expected: &'static str,
    is_suitable: fn(u8) -> bool,
}

const SYSCTLS: [Sysctl; 3] = [
    Sysctl { name: "rp_filter", expected: "0 or 2", is_suitable: |value| value != 1 },
    Sysctl { name: "arp_ignore", expected: "1", is_suitable: |value| value != 0 },
    Sysctl { name: "arp_announce", expected: "2", is_suitable: |value| value == 2 },
];

/// Warnings about sysctls that break interfaces in a common IPv4 subnet. Only for interfaces that the filter names: the
/// others carry no storage traffic.
///
/// # Errors
/// If a sysctl exists and cannot be read.
pub fn warnings(proc: &Path, filter: &InterfaceFilter, interfaces: &[HostInterface]) -> io::Result<Vec<HostWarning>> {
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
        for device in devices.iter().filter(|device| filter.names(device)) {
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

/// The settings to change on an interface. The kernel uses the greater of the interface's value and the value of `all`
/// (`ip-sysctl.rst`).
fn unsuitable_settings(proc: &Path, device: &str) -> io::Result<Vec<String>> {
    let mut unsuitable = Vec::new();
    for Sysctl { name, expected, is_suitable } in SYSCTLS {
        let Some(value) = sysctl(proc, "all", name)?.max(sysctl(proc, device, name)?) else { continue };
        if !is_suitable(value) {
            // sysctl(8) takes a slash for the dot in a name such as `eth0.100`.
            let device = device.replace('.', "/");
            unsuitable.push(format!("set net.ipv4.conf.{device}.{name} to {expected} (it is {value})"));
        }
    }
    Ok(unsuitable)
}

fn sysctl(proc: &Path, device: &str, name: &str) -> io::Result<Option<u8>> {
    let file = proc.join("sys/net/ipv4/conf").join(device).join(name);
    Ok(attribute(&file)?.and_then(|text| text.parse().ok()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn named(in_spec: &[&str], in_plan: &[&str]) -> InterfaceFilter {
        let set = |names: &[&str]| names.iter().map(|name| (*name).into()).collect();
        InterfaceFilter { host: None, in_spec: set(in_spec), in_plan: set(in_plan) }
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
    fn a35_a_strict_rp_filter_in_a_common_subnet_is_warned_about() {
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
    fn a35_unsuitable_arp_sysctls_are_warned_about() {
        let loose =
            ["all/rp_filter=2", "all/arp_ignore=0", "ens1/arp_ignore=1", "ens2.7/arp_ignore=0", "all/arp_announce=1"];
        let found = warned(&loose, ONE_SUBNET).remove(0);
        assert!(found.contains("set net.ipv4.conf.ens1.arp_announce to 2 (it is 1)"), "{found}");
        assert!(found.contains("set net.ipv4.conf.ens2/7.arp_ignore to 1 (it is 0)"), "{found}");
        assert!(!found.contains("ens1.arp_ignore"), "{found}");
    }

    #[test]
    fn a35_interfaces_in_different_subnets_need_no_sysctls() {
        let strict = ["all/rp_filter=1", "all/arp_ignore=0", "all/arp_announce=0"];
        assert_eq!(warned(&strict, ["10.0.1.21/24", "10.0.2.22/24"]), [""; 0]);
    }

    #[test]
    fn interfaces_that_are_not_named_are_not_warned_about() {
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
