//! Addresses and subnets, parsed.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::api::address::parse_ip;

/// The address of an interface, with or without its prefix length.
pub(super) fn host_address(text: &str) -> Option<IpAddr> {
    parse_ip(text.split('/').next()?)
}

/// Subnets, host bits ignored. Every subnet that the schema accepts parses.
pub(super) fn subnets(texts: &[String]) -> Vec<IpNet> {
    texts.iter().filter_map(|text| text.parse::<IpNet>().ok()).map(|subnet| subnet.trunc()).collect()
}
