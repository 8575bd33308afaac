//! Addresses in canonical form: equal addresses have equal texts.

use std::net::IpAddr;

/// A portal's address and port as plans, sysfs and people write them: `10.0.1.10:3260`, `[fd00::10]:3260`,
/// `san.example:3260`.
#[must_use]
pub fn canonical_portal(address: &str, port: u16) -> String {
    match parse_ip(address) {
        Some(IpAddr::V4(ip)) => format!("{ip}:{port}"),
        Some(IpAddr::V6(ip)) => format!("[{ip}]:{port}"),
        None => format!("{}:{port}", address.to_ascii_lowercase()),
    }
}

/// An IP address; none for a DNS name. An IPv4 address in IPv6 form (`::ffff:10.0.0.1`) counts as IPv4.
#[must_use]
pub fn parse_ip(text: &str) -> Option<IpAddr> {
    text.parse().ok().map(|ip: IpAddr| ip.to_canonical())
}
