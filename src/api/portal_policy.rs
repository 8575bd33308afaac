//! Which portals the hosts may dial. Pure.
//!
//! A user of a namespace names portals, and every node of the data center logs in there, from its own position in the
//! network. So an administrator decides which addresses these may be. The chart's value `portals` has the rules; the
//! admission policy `multibond-portals` applies them to the portals that an edit adds or changes, and each agent to the
//! portals of its plan, whoever wrote them and when.

use std::{collections::BTreeMap, net::IpAddr, str::FromStr, sync::Arc};

use ipnet::IpNet;
use serde::Deserialize;

use super::{Portal, address::parse_ip};

/// The rules for the portals of every namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortalPolicy {
    default: Arc<PortalRules>,
    by_namespace: BTreeMap<String, Arc<PortalRules>>,
}

/// The rules for the portals of one namespace. Without lists only addresses are refused at which no storage can be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortalRules {
    /// If there is a list, a portal must be in one of its subnets.
    allowed: Option<Vec<IpNet>>,
    /// A portal must be in none of them.
    denied: Vec<IpNet>,
}

/// The chart's value `portals`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Written {
    allowed: Vec<String>,
    denied: Vec<String>,
    by_namespace: BTreeMap<String, Vec<String>>,
}

impl FromStr for PortalPolicy {
    type Err = String;

    /// Reads the chart's value `portals` as JSON.
    fn from_str(text: &str) -> Result<Self, String> {
        let Written { allowed, denied, by_namespace } = serde_json::from_str(text).map_err(|error| {
            format!("expected JSON with allowed, denied and byNamespace, such as {{\"allowed\": [\"10.0.1.0/24\"]}}: {error}")
        })?;
        let denied = subnets(&denied)?;
        let rules = |allowed| Arc::new(PortalRules { allowed, denied: denied.clone() });
        let mut of_namespaces = BTreeMap::new();
        for (namespace, allowed) in by_namespace {
            // Who writes an empty list here means "none". The chart refuses it, because the other lists mean "all" by it; an
            // agent that is started without the chart must not stop for it.
            of_namespaces.insert(namespace, rules(Some(subnets(&allowed)?)));
        }
        let allowed = Some(subnets(&allowed)?).filter(|allowed| !allowed.is_empty());
        Ok(PortalPolicy { default: rules(allowed), by_namespace: of_namespaces })
    }
}

fn subnets(texts: &[String]) -> Result<Vec<IpNet>, String> {
    let parse = |text: &String| {
        text.parse().map_err(|_| format!("expected a subnet such as 10.0.1.0/24 or fd00:1::/64, found {text:?}"))
    };
    texts.iter().map(parse).collect()
}

impl PortalPolicy {
    /// The rules for the data centers of a namespace.
    #[must_use]
    pub fn rules(&self, namespace: &str) -> Arc<PortalRules> {
        self.by_namespace.get(namespace).unwrap_or(&self.default).clone()
    }
}

impl PortalRules {
    /// Why this address must not be dialled; `None` if it may.
    #[must_use]
    pub fn why_refused(&self, address: IpAddr) -> Option<String> {
        let address = address.to_canonical();
        let within = |subnets: &[IpNet]| subnets.iter().find(|subnet| subnet.contains(&address)).copied();
        if let Some(kind) = useless_address(address) {
            Some(format!("{address} is {kind}, where no storage can be"))
        } else if let Some(subnet) = within(&self.denied) {
            Some(format!("{address} is in {subnet}, which the administrator has denied (portals.denied of the chart)"))
        } else if let Some(allowed) = self.allowed.as_ref().filter(|allowed| within(allowed).is_none()) {
            if allowed.is_empty() {
                return Some("the administrator allows no portal for this namespace (portals.byNamespace)".to_owned());
            }
            let subnets: Vec<String> = allowed.iter().map(ToString::to_string).collect();
            let subnets = subnets.join(", ");
            Some(format!(
                "{address} is in none of the subnets that the administrator allows for this namespace: {subnets}"
            ))
        } else {
            None
        }
    }

    /// Why this portal must not be dialled, as far as its text tells. What a DNS name stands for is known only on the host:
    /// there each of its addresses is judged before one is dialled.
    #[must_use]
    pub fn why_portal_refused(&self, portal: &Portal) -> Option<String> {
        match parse_ip(portal.host()) {
            Some(address) => self.why_refused(address),
            None => useless_name(portal.host()).map(str::to_owned),
        }
    }
}

/// Why no storage can be at this portal, for any rules; `None` if there can.
#[must_use]
pub fn why_useless(portal: &Portal) -> Option<String> {
    PortalRules::default().why_portal_refused(portal)
}

fn useless_address(address: IpAddr) -> Option<&'static str> {
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    if address.is_unspecified() {
        Some("the unspecified address")
    } else if address.is_loopback() {
        Some("a loopback address")
    } else if address.is_multicast() {
        Some("a multicast address")
    } else if is_link_local {
        Some("a link-local address")
    } else if address == IpAddr::V4(std::net::Ipv4Addr::BROADCAST) {
        Some("the broadcast address")
    } else {
        None
    }
}

/// RFC 6761 section 6.3: `localhost` and every name below it stand for the loopback address.
fn useless_name(name: &str) -> Option<&'static str> {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let is_localhost = name == "localhost" || name.ends_with(".localhost");
    is_localhost.then_some("localhost is the loopback address, where no storage can be")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn portal(address: &str) -> Portal {
        Portal::new(address, 3260)
    }

    #[rstest]
    #[case("0.0.0.0", "0.0.0.0 is the unspecified address, where no storage can be")]
    #[case("::", ":: is the unspecified address, where no storage can be")]
    #[case("127.0.0.1", "127.0.0.1 is a loopback address, where no storage can be")]
    #[case("::1", "::1 is a loopback address, where no storage can be")]
    #[case("::ffff:7f00:1", "127.0.0.1 is a loopback address, where no storage can be")]
    #[case("169.254.169.254", "169.254.169.254 is a link-local address, where no storage can be")]
    #[case("fe80::211:32ff:fe2d:5bf5", "fe80::211:32ff:fe2d:5bf5 is a link-local address, where no storage can be")]
    #[case("224.0.0.1", "224.0.0.1 is a multicast address, where no storage can be")]
    #[case("ff02::1", "ff02::1 is a multicast address, where no storage can be")]
    #[case("255.255.255.255", "255.255.255.255 is the broadcast address, where no storage can be")]
    #[case("LocalHost.", "localhost is the loopback address, where no storage can be")]
    #[case("a.localhost", "localhost is the loopback address, where no storage can be")]
    fn a_portal_where_no_storage_can_be_is_useless(#[case] address: &str, #[case] why: &str) {
        assert_eq!(why_useless(&portal(address)).as_deref(), Some(why));
    }

    #[rstest]
    #[case("10.0.1.10")]
    #[case("192.168.1.1")]
    #[case("100.64.0.1")]
    #[case("fd00::10")]
    #[case("san.example.com")]
    #[case("localhost.example.com")]
    fn without_a_list_every_other_portal_may_be_dialled(#[case] address: &str) {
        assert_eq!(why_useless(&portal(address)), None);
    }

    #[test]
    fn a_list_allows_only_its_subnets_and_denied_ones_win() {
        let policy: PortalPolicy =
            r#"{"allowed": ["10.0.0.0/16", "fd00::/64"], "denied": ["10.0.9.0/24"]}"#.parse().unwrap();
        let rules = policy.rules("frankfurt");
        let refused = |address: &str| rules.why_portal_refused(&portal(address));
        assert_eq!(refused("10.0.1.10"), None);
        assert_eq!(refused("fd00::10"), None);
        assert_eq!(refused("san.example.com"), None, "its addresses are judged on the host");
        assert!(refused("localhost").is_some());
        let elsewhere = "10.1.0.1 is in none of the subnets that the administrator allows for this namespace: \
                         10.0.0.0/16, fd00::/64";
        assert_eq!(refused("10.1.0.1").as_deref(), Some(elsewhere));
        let denied = "10.0.9.1 is in 10.0.9.0/24, which the administrator has denied (portals.denied of the chart)";
        assert_eq!(refused("10.0.9.1").as_deref(), Some(denied));
        assert!(refused("::ffff:a01:1").is_some(), "an IPv4 address in IPv6 form is judged as IPv4");
    }

    #[test]
    fn a_namespace_with_a_list_of_its_own_does_not_use_the_general_one() {
        let policy: PortalPolicy =
            r#"{"allowed": ["10.0.1.0/24"], "denied": ["10.0.2.9/32"], "byNamespace": {"munich": ["10.0.2.0/24"]}}"#
                .parse()
                .unwrap();
        let may =
            |namespace: &str, address: &str| policy.rules(namespace).why_portal_refused(&portal(address)).is_none();
        assert!(may("frankfurt", "10.0.1.1") && !may("frankfurt", "10.0.2.1"));
        assert!(!may("munich", "10.0.1.1") && may("munich", "10.0.2.1") && !may("munich", "10.0.2.9"));
    }

    #[test]
    fn an_empty_list_of_a_namespace_allows_no_portal_there() {
        let policy: PortalPolicy = r#"{"byNamespace": {"guests": []}}"#.parse().unwrap();
        let why = |namespace: &str| policy.rules(namespace).why_portal_refused(&portal("10.0.1.10"));
        assert!(why("guests").unwrap().contains("allows no portal for this namespace"));
        assert_eq!(why("frankfurt"), None);
    }

    #[rstest]
    #[case("allowed", "expected JSON with allowed, denied and byNamespace")]
    #[case(r#"{"allow": []}"#, "unknown field `allow`")]
    #[case(r#"{"allowed": ["10.0.0.1"]}"#, "expected a subnet such as 10.0.1.0/24 or fd00:1::/64, found \"10.0.0.1\"")]
    fn rules_that_cannot_be_read_are_an_error(#[case] text: &str, #[case] message: &str) {
        let error = text.parse::<PortalPolicy>().unwrap_err();
        assert!(error.contains(message), "{error}");
    }
}
