//! A portal as one line of text, as forms and tables show it.

use std::net::Ipv6Addr;

use crate::api::PortalSpec;

/// Writes a portal as one line.
pub fn format(PortalSpec { address, port, tpgt, network }: &PortalSpec) -> String {
    let mut line = match (address.contains(':'), port) {
        (_, 3260) => address.clone(),
        (true, port) => format!("[{address}]:{port}"),
        (false, port) => format!("{address}:{port}"),
    };
    if *tpgt != 1 {
        line.extend([",", &tpgt.to_string()]);
    }
    if let Some(network) = network {
        line.extend([" ", network]);
    }
    line
}

/// A line that is not a portal.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("“{0}”: expected ADDRESS, ADDRESS:PORT or [IPV6]:PORT, and at most the name of a network after it")]
pub struct NotAPortal(String);

/// Reads a portal from a line `ADDRESS[:PORT][,TPGT] [NETWORK]`, the form of `iscsiadm`.
///
/// # Errors
/// If the line does not have this form.
pub fn parse(line: &str) -> Result<PortalSpec, NotAPortal> {
    let wrong = || NotAPortal(line.to_owned());
    let mut words = line.split_whitespace();
    let endpoint = words.next().ok_or_else(wrong)?;
    let network = words.next().map(str::to_owned);
    if words.next().is_some() {
        return Err(wrong());
    }
    let mut portal = PortalSpec { network, ..PortalSpec::default() };
    let endpoint = match endpoint.rsplit_once(',') {
        Some((endpoint, tpgt)) => {
            portal.tpgt = tpgt.parse().map_err(|_| wrong())?;
            endpoint
        }
        None => endpoint,
    };
    let (address, port) =
        match endpoint.strip_prefix('[').map(|rest| rest.split_once(']').ok_or_else(wrong)).transpose()? {
            Some((address, "")) => (address, None),
            Some((address, rest)) => (address, Some(rest.strip_prefix(':').ok_or_else(wrong)?)),
            // Two colons and no brackets: an IPv6 address, and no port.
            None if endpoint.matches(':').count() > 1 => (endpoint, None),
            None => endpoint.split_once(':').map_or((endpoint, None), |(address, port)| (address, Some(port))),
        };
    // Anything else could not be written as a line again.
    let is_name = !address.is_empty() && !address.contains([':', '[', ']', ',']);
    if !is_name && address.parse::<Ipv6Addr>().is_err() {
        return Err(wrong());
    }
    address.clone_into(&mut portal.address);
    if let Some(port) = port {
        portal.port = port.parse().map_err(|_| wrong())?;
    }
    Ok(portal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::{Parsed, fuzz, lossy};

    fn portal_of(address: &str, port: u16, tpgt: u16, network: Option<&str>) -> PortalSpec {
        PortalSpec { address: address.to_owned(), port, tpgt, network: network.map(str::to_owned) }
    }

    #[test]
    fn a_portal_is_written_and_read_back_as_one_line() {
        let cases = [
            ("10.0.1.10", portal_of("10.0.1.10", 3260, 1, None)),
            ("10.0.1.10:3261 san-a", portal_of("10.0.1.10", 3261, 1, Some("san-a"))),
            ("array.example.com:860,2", portal_of("array.example.com", 860, 2, None)),
            ("fd00::10", portal_of("fd00::10", 3260, 1, None)),
            ("[fd00::10]:3261,2 san-b", portal_of("fd00::10", 3261, 2, Some("san-b"))),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), Ok(expected.clone()), "{text}");
            assert_eq!(format(&expected), text);
        }
        assert_eq!(parse("[fd00::10]"), parse("fd00::10"));
    }

    #[test]
    fn a_bad_line_is_quoted_with_the_expected_form() {
        for text in ["10.0.1.10:port", "10.0.1.10 san-a san-b", "[fd00::10", "[fd00::10]3260", "10.0.1.10,x", "a:70000"]
        {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(text) && error.contains("expected ADDRESS"), "{error}");
        }
    }

    fuzz! {
        any_line_is_a_portal_or_refused: "portal-lines" => |input| {
            let text = lossy(input);
            let portals: Vec<PortalSpec> = text.lines().filter_map(|line| parse(line).ok()).collect();
            for portal in &portals {
                assert_eq!(parse(&format(portal)).as_ref(), Ok(portal), "a round trip of {}", format(portal));
            }
            Parsed::new().texts(portals.iter().map(format))
        };
    }
}
