//! Addresses in canonical form: what is equal is written equally.

use std::net::IpAddr;

use ipnet::IpNet;

/// Address and port as the plan, sysfs and people write them: `10.0.1.10:3260`, `[fd00::10]:3260`, `san.example:3260`.
#[must_use]
pub fn canonical_portal(address: &str, port: u16) -> String {
    match ip(address) {
        Some(IpAddr::V4(ip)) => format!("{ip}:{port}"),
        Some(IpAddr::V6(ip)) => format!("[{ip}]:{port}"),
        None => format!("{}:{port}", address.to_ascii_lowercase()),
    }
}

/// An IP address; none for a DNS name. An IPv4 address that is written as an IPv6 one is an IPv4 address.
pub(super) fn ip(text: &str) -> Option<IpAddr> {
    text.parse().ok().map(|ip: IpAddr| ip.to_canonical())
}

/// The address of an interface, with or without its prefix length.
pub(super) fn host_address(text: &str) -> Option<IpAddr> {
    ip(text.split('/').next()?)
}

/// Subnets, host bits ignored. What the schema lets through parses.
pub(super) fn subnets(texts: &[String]) -> Vec<IpNet> {
    texts.iter().filter_map(|text| text.parse::<IpNet>().ok()).map(|subnet| subnet.trunc()).collect()
}
