//! The kinds that are served: those of `crds/`, and the core kinds that Multibond uses.

use serde::Deserialize;
use serde_json::Value;

use super::schema::Schema;

/// A kind of object.
#[expect(clippy::struct_field_names, reason = "it is the field `kind` of the objects")]
pub struct Kind {
    /// Empty for the core group.
    pub group: &'static str,
    /// Such as `v1`.
    pub version: &'static str,
    /// Such as `Host`.
    pub kind: &'static str,
    /// Such as `hosts`.
    pub plural: &'static str,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// What decides how its objects are admitted.
    pub form: Form,
}

/// What decides how the objects of a kind are admitted.
pub enum Form {
    /// The schema of a `CustomResourceDefinition`.
    Custom {
        /// The schema of the whole object.
        schema: Box<Schema>,
        /// The fields by which one may select, as paths.
        selectable: Vec<String>,
    },
    /// Go code in the API server.
    Core(Core),
}

/// A core kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Core {
    /// `v1` Namespace.
    Namespace,
    /// `v1` Node.
    Node,
    /// `v1` Secret.
    Secret,
    /// `coordination.k8s.io/v1` Lease.
    Lease,
    /// `events.k8s.io/v1` Event.
    Event,
}

impl Kind {
    const fn core(core: Core) -> Self {
        let (group, version, kind, plural, namespaced) = match core {
            Core::Namespace => ("", "v1", "Namespace", "namespaces", false),
            Core::Node => ("", "v1", "Node", "nodes", false),
            Core::Secret => ("", "v1", "Secret", "secrets", true),
            Core::Lease => ("coordination.k8s.io", "v1", "Lease", "leases", true),
            Core::Event => ("events.k8s.io", "v1", "Event", "events", true),
        };
        Kind { group, version, kind, plural, namespaced, form: Form::Core(core) }
    }

    /// Group and version, such as `multibond.dev/v1alpha1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Such as `hosts.multibond.dev`.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// Whether it has a status that is written on its own.
    pub fn has_status(&self) -> bool {
        matches!(self.form, Form::Custom { .. } | Form::Core(Core::Node | Core::Namespace))
    }

    /// Whether an object may be replaced without its resourceVersion.
    pub fn replaced_unseen(&self) -> bool {
        matches!(self.form, Form::Core(Core::Namespace | Core::Node | Core::Secret | Core::Event))
    }

    /// Whether a replacement of an object that does not exist creates it.
    pub fn created_by_replacement(&self) -> bool {
        matches!(self.form, Form::Core(Core::Lease | Core::Event))
    }
}

/// All kinds.
pub struct Kinds(Vec<Kind>);

/// The parts of a `CustomResourceDefinition` that count here.
#[derive(Deserialize)]
struct Definition {
    spec: DefinitionSpec,
}

#[derive(Deserialize)]
struct DefinitionSpec {
    names: Names,
    scope: String,
    versions: Vec<Version>,
}

#[derive(Deserialize)]
struct Names {
    kind: String,
    plural: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    name: String,
    schema: VersionSchema,
    #[serde(default)]
    selectable_fields: Vec<Field>,
    subresources: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VersionSchema {
    #[serde(rename = "openAPIV3Schema")]
    whole: Schema,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Field {
    json_path: String,
}

/// Names, which the Rust types of the kinds have as constants.
const CUSTOM: [(&str, &str, &str); 4] = [
    ("DataCenter", "datacenters", include_str!("../../../crds/datacenters.multibond.dev.yaml")),
    ("Network", "networks", include_str!("../../../crds/networks.multibond.dev.yaml")),
    ("IscsiBond", "iscsibonds", include_str!("../../../crds/iscsibonds.multibond.dev.yaml")),
    ("Host", "hosts", include_str!("../../../crds/hosts.multibond.dev.yaml")),
];

impl Kinds {
    /// All kinds.
    pub fn new() -> Self {
        let core = [Core::Namespace, Core::Node, Core::Secret, Core::Lease, Core::Event].map(Kind::core);
        let custom = CUSTOM.map(|(kind, plural, yaml)| custom(kind, plural, yaml));
        Kinds(core.into_iter().chain(custom).collect())
    }

    /// The kind that a path names.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Kind> {
        self.0.iter().find(|kind| (kind.group, kind.version, kind.plural) == (group, version, plural))
    }

    /// The kind with this plural.
    pub fn by_plural(&self, plural: &str) -> Option<&Kind> {
        self.0.iter().find(|kind| kind.plural == plural)
    }
}

fn custom(kind: &'static str, plural: &'static str, yaml: &str) -> Kind {
    let read: Definition = serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("the CRD of {kind}: {error}"));
    let [version] = &read.spec.versions[..] else {
        panic!("the model knows kinds with one version; {kind} has others")
    };
    assert_eq!((&*read.spec.names.kind, &*read.spec.names.plural), (kind, plural), "the names of {kind}");
    assert_eq!((&*read.spec.scope, &*version.name), ("Namespaced", "v1alpha1"), "scope and version of {kind}");
    assert!(version.subresources.get("status").is_some(), "{kind} has a status subresource");
    let DefinitionSpec { versions, .. } = read.spec;
    let Some(Version { schema, selectable_fields, .. }) = versions.into_iter().next() else { unreachable!() };
    let selectable = selectable_fields.into_iter().map(|field| field.json_path.trim_start_matches('.').to_owned());
    let form = Form::Custom { schema: Box::new(schema.whole.prepared()), selectable: selectable.collect() };
    Kind { group: "multibond.dev", version: "v1alpha1", kind, plural, namespaced: true, form }
}
