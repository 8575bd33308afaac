//! The volume of a LUN, and its claim: which LUN, whether it may be one, and the manifests. Pure.

use std::{collections::BTreeMap, fmt::Write as _, str::FromStr};

use anyhow::bail;
use clap::ValueEnum;
use k8s_openapi::{
    api::core::v1::{
        LocalVolumeSource, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, ObjectReference, PersistentVolume,
        PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeSpec, VolumeNodeAffinity,
        VolumeResourceRequirements,
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::LabelSelector},
};
use kube::api::ObjectMeta;

use super::size::{quantity, rounded};
use crate::{
    api::first_few,
    status_view::luns::{LunList, LunView},
};

/// The label of a Node with its name.
const HOSTNAME: &str = "kubernetes.io/hostname";
/// The most WWIDs, or hosts, that a refusal names.
const SHOWN: usize = 5;
/// The longest name of a `PersistentVolume`.
const NAME_LENGTH: usize = 253;

/// What a person wants of a volume.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub name: Option<String>,
    pub claim: Option<ClaimName>,
    pub storage_class: Option<String>,
    pub access: Option<Access>,
    pub filesystem: bool,
}

/// Who may use a volume at a time. A local volume has no attach, so nothing else could hold two nodes apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub(super) enum Access {
    /// All pods on all nodes: for a virtual machine that migrates
    ReadWriteMany,
    /// One pod of the cluster
    ReadWriteOncePod,
}

impl Access {
    fn as_str(self) -> &'static str {
        match self {
            Access::ReadWriteMany => "ReadWriteMany",
            Access::ReadWriteOncePod => "ReadWriteOncePod",
        }
    }
}

/// The namespace and the name of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClaimName {
    namespace: String,
    name: String,
}

impl FromStr for ClaimName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name)) if is_name(namespace) && !namespace.contains('.') && is_name(name) => {
                Ok(ClaimName { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err("expected the namespace and the name of the claim, such as shop/database".to_owned()),
        }
    }
}

/// The LUN with this WWID in a namespace.
pub(super) fn find<'a>(
    list: &'a LunList,
    wwid: &str,
    namespace: &str,
    data_center: Option<&str>,
) -> anyhow::Result<&'a LunView> {
    let of_center = |lun: &&LunView| data_center.is_none_or(|name| lun.data_center == name);
    let known: Vec<&LunView> = list.luns.iter().filter(of_center).collect();
    let found: Vec<&&LunView> = known.iter().filter(|lun| lun.wwid == wwid).collect();
    match found.as_slice() {
        [lun] => Ok(lun),
        [] => {
            let place = data_center.map_or_else(String::new, |name| format!(" data center {name} of"));
            let there = match known.as_slice() {
                [] => "none reports a LUN".to_owned(),
                known => format!("they report {}", first_few(known, SHOWN, |lun| lun.wwid.clone())),
            };
            bail!("no host of{place} namespace {namespace} reports a LUN {wwid}: {there} (multibond lun list)")
        }
        several => {
            let centers = first_few(several, SHOWN, |lun| lun.data_center.clone());
            bail!("several data centers have the LUN {wwid}: {centers}; name one with --data-center")
        }
    }
}

/// Why a LUN should not become a volume now.
pub(super) fn objection(lun: &LunView) -> Option<String> {
    let LunView { wwid, missing_on, .. } = lun;
    if let Some((kind, hosts)) = lun.worst() {
        let host = hosts.first()?;
        return Some(format!("the LUN {wwid} has a problem on host {}: {kind}: {}", host.name, host.message));
    }
    if lun.sizes_differ() {
        let sizes = first_few(&lun.hosts, SHOWN, |host| format!("{} on {}", rounded(host.size_bytes), host.name));
        return Some(format!("the LUN {wwid} has different sizes: {sizes}; rescan the sessions of the smaller"));
    }
    if !missing_on.is_empty() {
        let hosts = first_few(missing_on, SHOWN, Clone::clone);
        return Some(format!(
            "the LUN {wwid} is missing on {hosts}, where a pod with the volume would not start; let the array show it to \
             them, or take them out of service"
        ));
    }
    (lun.size_bytes == 0).then(|| format!("no host knows the size of the LUN {wwid}"))
}

/// The volume. `nodes` selects the data center's nodes; without it the nodes of the hosts that see the LUN are named.
pub(super) fn persistent_volume(
    lun: &LunView,
    nodes: Option<&LabelSelector>,
    wanted: &Wanted,
) -> anyhow::Result<PersistentVolume> {
    if wanted.filesystem && wanted.access == Some(Access::ReadWriteMany) {
        bail!("a file system is for one pod: two nodes that mount it destroy it; leave --access or --filesystem out");
    }
    let name = wanted.name.clone().unwrap_or_else(|| default_name(&lun.wwid));
    if !is_name(&name) {
        bail!(
            "--name {name:?}: expected at most {NAME_LENGTH} lower-case letters, digits, '-' and '.', such as lun-database"
        );
    }
    let claim = wanted.claim.as_ref().map(|claim| ObjectReference {
        namespace: Some(claim.namespace.clone()),
        name: Some(claim.name.clone()),
        ..ObjectReference::default()
    });
    let usual = if wanted.filesystem { Access::ReadWriteOncePod } else { Access::ReadWriteMany };
    let term = NodeSelectorTerm { match_expressions: Some(on_nodes(lun, nodes)), ..NodeSelectorTerm::default() };
    let required = NodeSelector { node_selector_terms: vec![term] };
    Ok(PersistentVolume {
        metadata: ObjectMeta { name: Some(name), ..ObjectMeta::default() },
        spec: Some(PersistentVolumeSpec {
            capacity: Some(storage(lun.size_bytes)),
            volume_mode: Some(if wanted.filesystem { "Filesystem" } else { "Block" }.to_owned()),
            access_modes: Some(vec![wanted.access.unwrap_or(usual).as_str().to_owned()]),
            persistent_volume_reclaim_policy: Some("Retain".to_owned()),
            storage_class_name: Some(wanted.storage_class.clone().unwrap_or_default()),
            claim_ref: claim,
            local: Some(LocalVolumeSource { path: device(&lun.wwid), fs_type: None }),
            node_affinity: Some(VolumeNodeAffinity { required: Some(required) }),
            ..PersistentVolumeSpec::default()
        }),
        status: None,
    })
}

/// The claim that binds the volume, if one is wanted.
pub(super) fn claim(volume: &PersistentVolume, wanted: &Wanted) -> Option<PersistentVolumeClaim> {
    let ClaimName { namespace, name } = wanted.claim.clone()?;
    let spec = volume.spec.as_ref()?;
    Some(PersistentVolumeClaim {
        metadata: ObjectMeta { namespace: Some(namespace), name: Some(name), ..ObjectMeta::default() },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: spec.access_modes.clone(),
            resources: Some(VolumeResourceRequirements { requests: spec.capacity.clone(), limits: None }),
            storage_class_name: spec.storage_class_name.clone(),
            volume_mode: spec.volume_mode.clone(),
            volume_name: volume.metadata.name.clone(),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    })
}

fn storage(bytes: u64) -> BTreeMap<String, Quantity> {
    BTreeMap::from([("storage".to_owned(), Quantity(quantity(bytes)))])
}

/// udev's link to the map. The device mapper writes what udev does not allow in a name as `\xNN` (libdevmapper, string
/// mangling `hex`), so whatever a host reports is one file of that directory.
fn device(wwid: &str) -> String {
    let mut path = "/dev/disk/by-id/dm-uuid-mpath-".to_owned();
    for byte in wwid.bytes() {
        if byte.is_ascii_alphanumeric() || b"#+-.:=@_".contains(&byte) {
            path.push(char::from(byte));
        } else {
            let _ = write!(path, "\\x{byte:02x}");
        }
    }
    path
}

/// A name for the volume, whatever letters a WWID has.
fn default_name(wwid: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = "lun-".chars().chain(wwid.chars().map(letter)).take(NAME_LENGTH).collect();
    name.trim_end_matches('-').to_owned()
}

/// The form of a name in Kubernetes: a DNS subdomain (RFC 1123).
fn is_name(name: &str) -> bool {
    let is_end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let is_label = |label: &str| {
        let all = label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        all && is_end(label.chars().next()) && is_end(label.chars().last())
    };
    name.len() <= NAME_LENGTH && name.split('.').all(is_label)
}

/// The nodes of a data center, as requirements on their labels.
fn on_nodes(lun: &LunView, nodes: Option<&LabelSelector>) -> Vec<NodeSelectorRequirement> {
    let requirement = |key: &str, operator: &str, values: Option<Vec<String>>| NodeSelectorRequirement {
        key: key.to_owned(),
        operator: operator.to_owned(),
        values,
    };
    let Some(selector) = nodes else {
        let names = lun.hosts.iter().map(|host| host.node.clone()).collect();
        return vec![requirement(HOSTNAME, "In", Some(names))];
    };
    let labels = selector.match_labels.iter().flatten();
    let labels = labels.map(|(key, value)| requirement(key, "In", Some(vec![value.clone()])));
    let expressions = selector.match_expressions.iter().flatten();
    let expressions = expressions.map(|it| requirement(&it.key, &it.operator, it.values.clone()));
    let all: Vec<NodeSelectorRequirement> = labels.chain(expressions).collect();
    // A term without requirements matches no node.
    if all.is_empty() { vec![requirement(HOSTNAME, "Exists", None)] } else { all }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        ops,
        status_view::luns::fixture::{GIB, healthy, host, snapshot},
    };

    fn list(hosts: Vec<Value>) -> LunList {
        LunList::from(&snapshot(&Value::Null, hosts))
    }

    fn two_hosts() -> LunList {
        let luns = json!({"summary": "1/1", "healthy": [healthy(1)]});
        list(vec![host("w1", &luns), host("w2", &luns)])
    }

    fn selector(value: Value) -> LabelSelector {
        serde_json::from_value(value).unwrap()
    }

    fn manifests(nodes: Option<&LabelSelector>, wanted: &Wanted) -> String {
        let list = two_hosts();
        let volume = persistent_volume(&list.luns[0], nodes, wanted).unwrap();
        let claim = claim(&volume, wanted).map(|claim| format!("---\n{}", ops::yaml(&claim).unwrap()));
        ops::yaml(&volume).unwrap() + &claim.unwrap_or_default()
    }

    #[test]
    fn a52_a_lun_is_a_block_volume_on_the_nodes_of_its_data_center() {
        let nodes = selector(json!({
            "matchLabels": {"storage.example.com/san": "true"},
            "matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["c"]}],
        }));
        insta::assert_snapshot!(manifests(Some(&nodes), &Wanted::default()));
    }

    #[test]
    fn a52_a_file_system_is_for_one_pod_and_one_claim() {
        let wanted = Wanted {
            name: Some("database".to_owned()),
            claim: Some("shop/database".parse().unwrap()),
            storage_class: Some("luns".to_owned()),
            filesystem: true,
            ..Wanted::default()
        };
        insta::assert_snapshot!(manifests(None, &wanted));
        let list = two_hosts();
        let both = Wanted { access: Some(Access::ReadWriteMany), ..wanted };
        let error = persistent_volume(&list.luns[0], None, &both).unwrap_err().to_string();
        assert!(error.contains("a file system is for one pod"), "{error}");
    }

    #[test]
    fn a52_an_empty_selector_is_every_node() {
        let text = manifests(Some(&LabelSelector::default()), &Wanted::default());
        assert!(text.contains("key: kubernetes.io/hostname") && text.contains("operator: Exists"), "{text}");
    }

    #[test]
    fn a52_a_lun_that_is_not_whole_everywhere_is_refused_and_says_where() {
        let problem = json!({
            "problem": "NoActivePath", "wwid": "3600a1", "sizeBytes": 100 * GIB, "message": "no path of it works",
            "at": [{"target": "iqn.2003-01.org.example:array-a", "lun": 1}],
        });
        let fine = json!({"summary": "1/1", "healthy": [healthy(1)]});
        let grown = format!("3600a1 {} 4/4 iqn.2003-01.org.example:array-a#1", 200 * GIB);
        let others = [
            (json!({"summary": "0/1", "problems": [problem]}), "on host w2: NoActivePath: no path of it works"),
            (json!({"summary": "1/1", "healthy": [grown]}), "different sizes: 100Gi on w1, 200Gi on w2"),
            (json!({"summary": "0/0"}), "is missing on w2"),
        ];
        for (other, expected) in others {
            let list = list(vec![host("w1", &fine), host("w2", &other)]);
            let found = objection(&list.luns[0]).unwrap();
            assert!(found.contains("3600a1") && found.contains(expected), "{found}");
        }
        assert_eq!(objection(&two_hosts().luns[0]), None);
    }

    #[test]
    fn a52_a_wwid_that_is_not_there_is_refused_with_those_that_are() {
        let list = two_hosts();
        let error = |wwid, center| find(&list, wwid, "storage", center).unwrap_err().to_string();
        let found = error("3600b", None);
        assert!(found.contains("no host of namespace storage") && found.contains("they report 3600a1"), "{found}");
        assert!(error("3600a1", Some("paris")).contains("none reports a LUN"));
        assert_eq!(find(&list, "3600a1", "storage", Some("frankfurt")).unwrap().wwid, "3600a1");
    }

    #[test]
    fn a52_whatever_a_host_reports_is_one_file_of_udevs_directory() {
        assert_eq!(device("3600c0ff0"), "/dev/disk/by-id/dm-uuid-mpath-3600c0ff0");
        assert_eq!(device("../../x y"), r"/dev/disk/by-id/dm-uuid-mpath-..\x2f..\x2fx\x20y");
        assert_eq!(default_name("1ATA_Disk__"), "lun-1ata-disk");
    }

    #[test]
    fn a52_a_claim_needs_its_namespace() {
        assert!("shop/database".parse::<ClaimName>().is_ok());
        for bad in ["database", "shop/", "/database", "shop/Database", "sh.op/x", "a/b/c"] {
            assert!(bad.parse::<ClaimName>().is_err(), "{bad}");
        }
    }
}
