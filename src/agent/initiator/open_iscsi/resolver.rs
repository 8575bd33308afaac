//! The addresses of a DNS name, as the host's iscsid would find them.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use tokio::{net::lookup_host, time::timeout};

use crate::{
    agent::{
        host::{access::HostAccess, error::HostError, tools::HostTools},
        initiator::PathError,
    },
    api::{address::parse_ip, reason::PathReason},
};

const TOOL: &str = "getent";
/// A resolver asks its second server after 5 s.
const LIMIT: Duration = Duration::from_secs(10);

/// The addresses of a name, in the order of the resolver; empty if it has none. They are looked up where iscsid runs, with the files and servers that are
/// configured there.
///
/// # Errors
/// `NameNotResolved` if it takes too long; another reason if the host cannot be asked.
pub async fn resolve(tools: &HostTools, access: &HostAccess, name: &str) -> Result<Vec<IpAddr>, PathError> {
    match tools.run(access, TOOL, &["ahosts", name], LIMIT).await {
        Ok(output) if output.code == Some(0) => Ok(addresses(&output.stdout)),
        Ok(_) => Ok(Vec::new()),
        // A small host: the agent's pod has the node's network and its resolv.conf.
        Err(HostError::ToolMissing { .. }) => match timeout(LIMIT, lookup_host((name, 0))).await {
            Ok(found) => Ok(once(found.into_iter().flatten().map(|address| address.ip().to_canonical()))),
            Err(_) => Err(too_slow(name)),
        },
        Err(HostError::ToolTimedOut { .. }) => Err(too_slow(name)),
        Err(error) => Err(error.into()),
    }
}

fn too_slow(name: &str) -> PathError {
    let message = format!("the host has not resolved the portal's name {name} within {} s", LIMIT.as_secs());
    PathError::new(PathReason::NameNotResolved, message)
}

/// What `getent ahosts` prints: lines that begin with an address. One of a link has the link after a `%`.
fn addresses(printed: &str) -> Vec<IpAddr> {
    let first_words = printed.lines().filter_map(|line| line.split_whitespace().next());
    once(first_words.filter_map(|word| parse_ip(word.split('%').next()?)))
}

/// Each address once, in their order.
fn once(addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut seen = BTreeSet::new();
    addresses.filter(|address| seen.insert(*address)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::{Parsed, fuzz, lossy};

    #[test]
    fn each_address_that_getent_prints_counts_once() {
        let printed = "fd00:102::3     STREAM san.example.com\nfd00:102::3     DGRAM  \n10.0.102.3      STREAM \n\
                       fe80::1%ens1    STREAM \n::ffff:10.0.102.3 RAW\n\nno address\n";
        let found: Vec<String> = addresses(printed).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["fd00:102::3", "10.0.102.3", "fe80::1"], "in the order of the resolver");
    }

    fuzz! {
        any_answer_of_getent_is_read: "getent" => |input| Parsed::new().shown(addresses(&lossy(input)));
    }
}
