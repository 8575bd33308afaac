//! The LUNs of data centers, each once, with the hosts that see it and those that do not.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt as _;
use serde::Serialize;

use super::Snapshot;
use crate::api::{DataCenter, HealthyLun, Host, HostLuns, LunAddress, LunProblem, LunProblemKind};

/// What `multibond lun list` shows; with `-o json` exactly this.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LunList {
    /// Those with a problem first, then by namespace, data center, storage and number.
    pub luns: Vec<LunView>,
    /// One line for each kind or object that could not be read, and for each host that lists only a part of its LUNs.
    pub unreadable: Vec<String>,
}

/// A LUN of a data center.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LunView {
    /// The namespace of the data center.
    pub namespace: String,
    /// The name of the `DataCenter`.
    pub data_center: String,
    /// The World Wide Identifier, as multipath has it.
    pub wwid: String,
    /// The names in `spec.storage` of what has a target that shows it.
    pub storage: BTreeSet<String>,
    /// The targets that show it, and its number there.
    pub at: BTreeSet<LunAddress>,
    /// The largest size that a host sees, in bytes.
    pub size_bytes: u64,
    /// The hosts that see it, sorted by name.
    pub hosts: Vec<LunOnHost>,
    /// The hosts in service that do not see it, or whose agents report no LUNs, sorted.
    pub missing_on: Vec<String>,
}

/// A LUN as a host sees it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LunOnHost {
    /// The name of the `Host`.
    pub name: String,
    /// The name of its Node.
    pub node: String,
    /// Paths over which I/O goes.
    pub active: u32,
    /// All paths, also those that should be there.
    pub paths: u32,
    /// In bytes.
    pub size_bytes: u64,
    /// What is wrong, as the agent says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<LunProblemKind>,
    /// The problem in words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl LunView {
    /// Whether hosts see different sizes.
    #[must_use]
    pub fn sizes_differ(&self) -> bool {
        self.hosts.iter().any(|host| host.size_bytes != self.size_bytes)
    }

    /// The worst problem that a host has with it, and the hosts that have this one.
    #[must_use]
    pub fn worst(&self) -> Option<(LunProblemKind, Vec<&LunOnHost>)> {
        let worst = self.hosts.iter().filter_map(|host| host.problem).min()?;
        Some((worst, self.hosts.iter().filter(|host| host.problem == Some(worst)).collect()))
    }

    /// The host with the fewest paths that work, and of those the one that lacks the most.
    #[must_use]
    pub fn fewest_paths(&self) -> Option<&LunOnHost> {
        self.hosts.iter().min_by_key(|host| (host.active, std::cmp::Reverse(host.paths)))
    }

    /// The hosts in service that should see it.
    #[must_use]
    pub fn wanted_on(&self) -> usize {
        self.hosts.len() + self.missing_on.len()
    }

    fn rank(&self) -> impl Ord + '_ {
        let problem = self.worst().map(|(problem, _)| problem);
        let rank = match (problem, self.sizes_differ(), self.missing_on.is_empty()) {
            (Some(_), _, _) => 0,
            (None, true, _) => 1,
            (None, false, false) => 2,
            (None, false, true) => 3,
        };
        let number = self.at.iter().map(|at| at.lun).min();
        (rank, problem, &self.namespace, &self.data_center, &self.storage, number, &self.wwid)
    }
}

impl From<&Snapshot> for LunList {
    fn from(snapshot: &Snapshot) -> Self {
        let mut luns = Vec::new();
        let mut unreadable = snapshot.unreadable.clone();
        let mut centers: BTreeMap<(String, &str), Vec<&Host>> = BTreeMap::new();
        for host in &snapshot.hosts {
            let key = (host.namespace().unwrap_or_default(), host.spec.data_center.as_str());
            centers.entry(key).or_default().push(host);
        }
        for ((namespace, name), mut hosts) in centers {
            hosts.sort_by_key(|host| host.name_any());
            let is_it =
                |center: &&DataCenter| center.namespace().unwrap_or_default() == namespace && center.name_any() == name;
            let center = snapshot.data_centers.iter().map(AsRef::as_ref).find(is_it);
            let found = of_data_center(&hosts, &mut unreadable);
            luns.extend(found.into_iter().map(|(wwid, view)| LunView {
                namespace: namespace.clone(),
                data_center: name.to_owned(),
                storage: center.map(|center| storage(center, &view.at)).unwrap_or_default(),
                wwid,
                ..view
            }));
        }
        luns.sort_by(|a, b| a.rank().cmp(&b.rank()));
        LunList { luns, unreadable }
    }
}

/// The LUNs of the hosts of a data center, by WWID.
fn of_data_center(hosts: &[&Host], unreadable: &mut Vec<String>) -> BTreeMap<String, LunView> {
    let mut luns: BTreeMap<String, LunView> = BTreeMap::new();
    for host in hosts {
        let Some(reported) = reported(host) else { continue };
        if reported.left_out > 0 {
            unreadable.push(format!("Host {}: {} of its LUNs are not listed", host.name_any(), reported.left_out));
        }
        for (wwid, at, seen) in seen(host, reported, unreadable) {
            let lun = luns.entry(wwid).or_default();
            lun.size_bytes = lun.size_bytes.max(seen.size_bytes);
            lun.at.extend(at);
            lun.hosts.push(seen);
        }
    }
    // A host that does not list all of its LUNs may see it.
    let may_lack = |host: &&&Host| is_in_service(host) && reported(host).is_none_or(|luns| luns.left_out == 0);
    for lun in luns.values_mut() {
        let sees_it = |host: &&&Host| lun.hosts.iter().any(|seen| seen.name == host.name_any());
        let lacking = hosts.iter().filter(may_lack).filter(|host| !sees_it(host));
        lun.missing_on = lacking.map(|host| host.name_any()).collect();
    }
    luns
}

fn reported(host: &Host) -> Option<&HostLuns> {
    host.status.as_ref()?.luns.as_ref()
}

fn is_in_service(host: &Host) -> bool {
    !host.spec.maintenance && host.metadata.deletion_timestamp.is_none()
}

/// The LUNs that a host lists: the WWID, where it is, and how the host sees it.
fn seen(host: &Host, luns: &HostLuns, unreadable: &mut Vec<String>) -> Vec<(String, Vec<LunAddress>, LunOnHost)> {
    let on_host = |size_bytes, active, paths| LunOnHost {
        name: host.name_any(),
        node: host.spec.node_name.clone(),
        active,
        paths,
        size_bytes,
        problem: None,
        message: String::new(),
    };
    let with_problem = |lun: &LunProblem| {
        let size = u64::try_from(lun.size_bytes).unwrap_or_default();
        let seen = on_host(size, lun.active, lun.disks.max(lun.expected));
        let seen = LunOnHost { problem: Some(lun.problem), message: lun.message.clone(), ..seen };
        (lun.wwid.clone(), lun.at.clone(), seen)
    };
    let mut all: Vec<_> = luns.problems.iter().map(with_problem).collect();
    for text in &luns.healthy {
        match text.parse() {
            Ok(HealthyLun { wwid, size_bytes, active, paths, at }) => {
                all.push((wwid, at, on_host(size_bytes, active, paths)));
            }
            Err(error) => unreadable.push(format!("Host {}: LUN {text:?}: {error}", host.name_any())),
        }
    }
    all
}

fn storage(center: &DataCenter, at: &BTreeSet<LunAddress>) -> BTreeSet<String> {
    let shows = |iqn: &str| at.iter().any(|at| at.target.as_str() == iqn);
    let storage = center.spec.storage.iter();
    storage
        .filter(|storage| storage.targets.iter().any(|target| shows(&target.iqn)))
        .map(|it| it.name.clone())
        .collect()
}

#[cfg(test)]
pub(crate) mod fixture {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::Snapshot;

    pub(crate) const GIB: u64 = 1 << 30;

    /// A Host of the data center `frankfurt` with the LUNs that its agent reports.
    pub(crate) fn host(name: &str, luns: &Value) -> Value {
        json!({
            "metadata": {"namespace": "storage", "name": name},
            "spec": {"dataCenter": "frankfurt", "nodeName": name},
            "status": {"luns": luns},
        })
    }

    /// LUN `number` with all four paths.
    pub(crate) fn healthy(number: u64) -> String {
        format!("3600a{number} {} 4/4 iqn.2003-01.org.example:array-a#{number}", number * 100 * GIB)
    }

    /// A data center with this `spec.hosts`, and hosts.
    pub(crate) fn snapshot(template: &Value, hosts: Vec<Value>) -> Snapshot {
        let center = json!({
            "metadata": {"namespace": "storage", "name": "frankfurt"},
            "spec": {
                "hosts": template,
                "storage": [{"name": "array-a", "targets": [{"iqn": "iqn.2003-01.org.example:array-a", "portals": []}]}],
            },
        });
        let hosts = hosts.into_iter().map(|host| Arc::new(serde_json::from_value(host).unwrap())).collect();
        let data_centers = vec![Arc::new(serde_json::from_value(center).unwrap())];
        Snapshot { data_centers, hosts, ..Snapshot::default() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{fixture::*, *};

    fn list(hosts: Vec<Value>) -> LunList {
        LunList::from(&snapshot(&Value::Null, hosts))
    }

    #[test]
    fn a50_a_lun_is_listed_once_with_the_hosts_that_see_it_and_those_that_do_not() {
        let both = json!({"summary": "2/2", "healthy": [healthy(1), healthy(2)]});
        let one = json!({"summary": "1/1", "healthy": [healthy(1)]});
        let mut maintained = host("w4", &Value::Null);
        maintained["spec"]["maintenance"] = true.into();
        let found = list(vec![host("w2", &one), host("w1", &both), host("w3", &Value::Null), maintained]);
        let told = |lun: &LunView| {
            let hosts: Vec<String> = lun.hosts.iter().map(|host| host.name.clone()).collect();
            (lun.wwid.clone(), hosts.join(","), lun.missing_on.join(","), lun.wanted_on())
        };
        let expected = [("3600a1", "w1,w2", "w3", 3), ("3600a2", "w1", "w2,w3", 3)];
        let expected = expected.map(|(wwid, on, not, of)| (wwid.to_owned(), on.to_owned(), not.to_owned(), of));
        assert_eq!(found.luns.iter().map(told).collect::<Vec<_>>(), expected);
        let first = &found.luns[0];
        assert_eq!(first.at.iter().map(ToString::to_string).collect::<Vec<_>>(), ["iqn.2003-01.org.example:array-a#1"]);
        assert_eq!((first.storage.first().unwrap().as_str(), first.size_bytes), ("array-a", 100 * GIB));
        assert!(found.unreadable.is_empty(), "{found:?}");
    }

    #[test]
    fn a50_what_hosts_see_differently_comes_first() {
        let fine = json!({"summary": "3/3", "healthy": [healthy(1), healthy(2), healthy(3)]});
        let problem = json!({
            "problem": "NoActivePath", "wwid": "3600a3", "sizeBytes": 300 * GIB, "disks": 3, "active": 0, "expected": 4,
            "at": [{"target": "iqn.2003-01.org.example:array-a", "lun": 3}], "message": "no path of it works",
        });
        let grown = format!("3600a2 {} 4/4 iqn.2003-01.org.example:array-a#2", 500 * GIB);
        let other = json!({"summary": "2/3", "healthy": [healthy(1), grown], "problems": [problem]});
        let found = list(vec![host("w1", &fine), host("w2", &other)]);
        let order: Vec<&str> = found.luns.iter().map(|lun| lun.wwid.as_str()).collect();
        assert_eq!(order, ["3600a3", "3600a2", "3600a1"]);
        let (kind, hosts) = found.luns[0].worst().unwrap();
        assert_eq!((kind, hosts.len(), hosts[0].name.as_str()), (LunProblemKind::NoActivePath, 1, "w2"));
        let fewest = found.luns[0].fewest_paths().unwrap();
        assert_eq!((fewest.active, fewest.paths), (0, 4));
        assert!(found.luns[1].sizes_differ() && !found.luns[2].sizes_differ());
    }

    #[test]
    fn a50_a_host_that_lists_only_a_part_lacks_nothing_and_is_named() {
        let part = json!({"summary": "600/600", "healthy": [healthy(1)], "leftOut": 599});
        let newer = json!({"summary": "1/1", "healthy": [healthy(2), "something=new"]});
        let found = list(vec![host("w1", &part), host("w2", &newer)]);
        assert!(found.luns.iter().any(|lun| lun.wwid == "3600a2" && lun.missing_on.is_empty()), "{found:?}");
        assert_eq!(found.unreadable.len(), 2, "{found:?}");
    }
}
