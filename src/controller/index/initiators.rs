//! The hosts by their initiator name. Arrays identify a host by it, so no two may have the same.

use std::collections::HashMap;

use crate::api::ObjectKey;

/// The hosts that report each initiator name, in the order in which they began to. A host that joins changes nothing for
/// the others, so a thousand copies of one machine cost as many writes as they are.
#[derive(Debug, Default)]
pub(crate) struct Initiators {
    hosts: HashMap<String, Vec<ObjectKey>>,
    names: HashMap<ObjectKey, String>,
}

impl Initiators {
    /// The number of hosts that report a name.
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    /// The hosts that report this name.
    pub(crate) fn with(&self, name: &str) -> &[ObjectKey] {
        self.hosts.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Takes over the name that a host reports now. Returns the hosts that may have to say something else.
    pub(crate) fn changed(&mut self, host: &ObjectKey, now: Option<&str>) -> Vec<ObjectKey> {
        let mut affected = Vec::new();
        if self.names.get(host).map(String::as_str) == now {
            return affected;
        }
        if let Some(name) = self.names.remove(host)
            && let Some(hosts) = self.hosts.get_mut(&name)
            && let Some(at) = hosts.iter().position(|known| known == host)
        {
            hosts.remove(at);
            // The others name the first, and the first names the second.
            match at {
                0 => affected.extend(hosts.iter().cloned()),
                1 => affected.extend(hosts.first().cloned()),
                _ => {}
            }
            if hosts.is_empty() {
                self.hosts.remove(&name);
            }
        }
        if let Some(name) = now {
            self.names.insert(host.clone(), name.to_owned());
            let hosts = self.hosts.entry(name.to_owned()).or_default();
            hosts.push(host.clone());
            if hosts.len() == 2 {
                affected.push(hosts[0].clone());
            }
        }
        affected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("ns", name)
    }

    #[test]
    fn a56_a_host_that_joins_concerns_the_first_only_and_one_that_leaves_those_that_name_it() {
        let mut initiators = Initiators::default();
        let mut change = |host: &str, now| -> Vec<String> {
            initiators.changed(&key(host), now).iter().map(|key| key.name.to_string()).collect()
        };
        let none: [&str; 0] = [];
        assert_eq!(change("a", Some("iqn.a")), none);
        assert_eq!(change("b", Some("iqn.a")), ["a"]);
        assert_eq!(change("c", Some("iqn.a")), none, "they name another already");
        assert_eq!(change("d", Some("iqn.a")), none);
        assert_eq!(change("d", Some("iqn.d")), none);
        assert_eq!(change("b", None), ["a"]);
        assert_eq!(change("a", Some("iqn.x")), ["c"]);
        assert_eq!(initiators.with("iqn.a"), [key("c")]);
    }
}
