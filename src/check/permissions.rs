//! The permissions that installing the chart needs.

use super::Check;

/// A permission on all objects of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Permission {
    /// The check that needs it.
    pub check: Check,
    pub verb: &'static str,
    pub group: &'static str,
    pub plural: &'static str,
    /// It is needed in the release's namespace only.
    pub namespaced: bool,
}

/// A kind of object in the chart.
struct ChartKind {
    check: Check,
    group: &'static str,
    plural: &'static str,
    #[cfg(test)]
    name: &'static str,
    namespaced: bool,
}

macro_rules! chart_kinds {
    ($($check:ident: $scope:ident $name:ident = $group:literal / $plural:literal;)+) => {
        const CHART_KINDS: &[ChartKind] = &[$(ChartKind {
            check: Check::$check,
            group: $group,
            plural: $plural,
            #[cfg(test)]
            name: stringify!($name),
            namespaced: chart_kinds!(@ $scope),
        }),+];
    };
    (@ clustered) => { false };
    (@ namespaced) => { true };
}

chart_kinds! {
    MayDefineKinds: clustered CustomResourceDefinition = "apiextensions.k8s.io" / "customresourcedefinitions";
    MayMakeRoles: clustered ClusterRole = "rbac.authorization.k8s.io" / "clusterroles";
    MayMakeRoles: clustered ClusterRoleBinding = "rbac.authorization.k8s.io" / "clusterrolebindings";
    MayMakePolicies: clustered ValidatingAdmissionPolicy =
        "admissionregistration.k8s.io" / "validatingadmissionpolicies";
    MayMakePolicies: clustered ValidatingAdmissionPolicyBinding =
        "admissionregistration.k8s.io" / "validatingadmissionpolicybindings";
    MayMakeObjects: namespaced Role = "rbac.authorization.k8s.io" / "roles";
    MayMakeObjects: namespaced RoleBinding = "rbac.authorization.k8s.io" / "rolebindings";
    MayMakeObjects: namespaced ServiceAccount = "" / "serviceaccounts";
    MayMakeObjects: namespaced Service = "" / "services";
    MayMakeObjects: namespaced Deployment = "apps" / "deployments";
    MayMakeObjects: namespaced DaemonSet = "apps" / "daemonsets";
    MayMakeObjects: namespaced PodDisruptionBudget = "policy" / "poddisruptionbudgets";
    MayMakeObjects: namespaced Job = "batch" / "jobs";
    // Helm's own record of the release.
    MayMakeObjects: namespaced Secret = "" / "secrets";
}

/// The verbs that Helm uses on each kind during installation, upgrade and uninstallation.
const VERBS: [&str; 3] = ["create", "patch", "delete"];

/// The verbs that allow a caller to grant permissions that the caller does not have.
const GRANTING: [(&str, &str); 4] =
    [("escalate", "clusterroles"), ("bind", "clusterroles"), ("escalate", "roles"), ("bind", "roles")];

/// Needed only where the namespace does not exist yet.
pub(crate) const NAMESPACE: Permission =
    Permission { check: Check::MayMakeObjects, verb: "create", group: "", plural: "namespaces", namespaced: false };

/// All permissions that are checked.
pub(crate) fn required() -> Vec<Permission> {
    let of_kinds = CHART_KINDS.iter().flat_map(|kind| {
        let ChartKind { check, group, plural, namespaced, .. } = *kind;
        VERBS.map(|verb| Permission { check, verb, group, plural, namespaced })
    });
    let granting = GRANTING.map(|(verb, plural)| Permission {
        check: Check::MayGrant,
        verb,
        group: "rbac.authorization.k8s.io",
        plural,
        namespaced: plural == "roles",
    });
    of_kinds.chain(granting).chain([NAMESPACE]).collect()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    #[test]
    fn permissions_cover_every_kind_of_the_chart() {
        let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/multibond/templates");
        let files = fs::read_dir(templates).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
        let texts: Vec<String> = files.collect();
        let mut made: BTreeSet<&str> =
            texts.iter().flat_map(|text| text.lines()).filter_map(|line| line.strip_prefix("kind: ")).collect();
        // The policies' bindings, and the CRDs, are templates of their own.
        made.extend(["ValidatingAdmissionPolicyBinding", "CustomResourceDefinition"]);
        for optional in ["ServiceMonitor", "PrometheusRule", "ConfigMap"] {
            assert!(made.remove(optional), "{optional}");
        }
        made.insert("Secret");
        assert_eq!(CHART_KINDS.iter().map(|kind| kind.name).collect::<BTreeSet<_>>(), made);
    }
}
