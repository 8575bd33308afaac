//! Addresses in canonical form: what is equal is written equally.

use std::net::IpAddr;

use ipnet::IpNet;

/// Address and port as the plan, sysfs and people write them: `10.0.1.10:3260`, `[fd00::10]:3260`, `san.example:3260`.
#[must_use]
pub fn canonical_portal(address: &str, port: u16) -> String {
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => format!("{ip}:{port}"),
        Ok(IpAddr::V6(ip)) => format!("[{ip}]:{port}"),
        Err(_) => format!("{address}:{port}"),
    }
}

/// The address of an interface, with or without its prefix length.
pub(super) fn host_address(text: &str) -> Option<IpAddr> {
    text.split('/').next()?.parse().ok()
}

/// Subnets, host bits ignored. What the schema lets through parses.
pub(super) fn subnets(texts: &[String]) -> Vec<IpNet> {
    texts.iter().filter_map(|text| text.parse::<IpNet>().ok()).map(|subnet| subnet.trunc()).collect()
}
