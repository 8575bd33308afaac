//! The minimum cost for any controller: the same number of statuses, of the same size, under the same CRD, written by a
//! client that does nothing else.
//!
//! The objects use a copy of the Host CRD in another group: nobody watches them and no policy matches them, so a pass
//! can be measured between two edits while the controller and the agents run.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
    core::{ApiResource, DynamicObject, GroupVersionKind, Object},
    runtime::{conditions, wait::await_condition},
};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::{
    site::{BenchSite, IN_FLIGHT, host_name},
    usage,
};

/// How a status can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// PUT of the whole object, with the known resourceVersion.
    Put,
    /// A JSON merge patch of the writer's own fields.
    MergePatch,
    /// Server-side apply of the writer's own fields.
    Apply,
}

impl Verb {
    /// All of them.
    pub const ALL: [Verb; 3] = [Verb::Put, Verb::MergePatch, Verb::Apply];

    /// Its name in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Put => "PUT with the known resourceVersion",
            Verb::MergePatch => "merge patch",
            Verb::Apply => "server-side apply",
        }
    }
}

/// The time of one pass over all objects.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    pub wall: Duration,
    /// CPU time of the API server, which does not depend on other work of the machine.
    pub server_cpu: Duration,
}

/// The bare client and its objects.
pub struct Floor {
    api: Api<DynamicObject>,
    /// The same, for answers of which only the version is read.
    brief: Api<Object<IgnoredAny, IgnoredAny>>,
    resource: ApiResource,
    spec: Value,
    /// The status of a real host, and the controller's part of it.
    status: Value,
    part: Value,
    versions: Vec<String>,
    passes: usize,
}

impl Floor {
    /// Creates the objects, with the current spec and status of a host.
    pub async fn new(site: &BenchSite) -> Self {
        let client = site.cluster.client().await.unwrap();
        let resource = copy_crd(&client).await;
        let hosts: Api<DynamicObject> =
            Api::namespaced_with(client.clone(), &site.namespace, &ApiResource::erase::<multibond::api::Host>(&()));
        let model = hosts.get(&host_name(site.hosts - 1)).await.unwrap().data;
        let mut part = model["status"].clone();
        for field in ["agent", "interfaces", "connections", "multipath"] {
            part.as_object_mut().unwrap().remove(field);
        }
        let mut floor = Floor {
            api: Api::namespaced_with(client.clone(), "default", &resource),
            brief: Api::namespaced_with(client, "default", &resource),
            resource,
            spec: model["spec"].clone(),
            status: model["status"].clone(),
            part,
            versions: Vec::new(),
            passes: 0,
        };
        floor.create(site.hosts).await;
        floor.pass(Verb::Put, site).await;
        floor
    }

    /// The bytes of the controller's part of a status.
    pub fn size(&self) -> usize {
        self.part.to_string().len()
    }

    async fn create(&mut self, count: usize) {
        let made = stream::iter(0..count).map(async |number| {
            let object = DynamicObject::new(&host_name(number), &self.resource).data(json!({"spec": self.spec}));
            let made = self.api.create(&PostParams::default(), &object).await;
            made.map(|object| object.metadata.resource_version.unwrap_or_default())
        });
        self.versions = made.buffered(IN_FLIGHT).try_collect().await.unwrap();
    }

    /// Writes a changed status into every object.
    pub async fn pass(&mut self, verb: Verb, site: &BenchSite) -> Pass {
        let (status, part) = self.changed();
        let server = site.cluster.api_server_id().unwrap();
        let (began, used) = (Instant::now(), usage::cpu(server));
        let written = stream::iter(self.versions.iter().enumerate());
        let written = written.map(async |(number, version)| self.write(verb, number, version, &status, &part).await);
        self.versions = written.buffered(IN_FLIGHT).try_collect().await.unwrap();
        Pass { wall: began.elapsed(), server_cpu: usage::cpu(server).saturating_sub(used) }
    }

    /// How long two writes of one object take, one after the other: an edit and its plan need as many.
    pub async fn two_writes(&mut self) -> Duration {
        let began = Instant::now();
        for _ in 0..2 {
            let (status, part) = self.changed();
            self.write(Verb::MergePatch, 0, "", &status, &part).await.unwrap();
        }
        began.elapsed()
    }

    /// A status that no object has yet, and the controller's part of it.
    fn changed(&mut self) -> (Value, Value) {
        self.passes += 1;
        let mut part = self.part.clone();
        part["plan"]["revision"] = json!(format!("{:08x}", self.passes));
        for path in part["plan"]["paths"].as_array_mut().unwrap() {
            path["bonds"] = json!([format!("bond-{:04}", self.passes)]);
        }
        let mut status = self.status.clone();
        status.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
        (status, part)
    }

    async fn write(
        &self,
        verb: Verb,
        number: usize,
        version: &str,
        status: &Value,
        part: &Value,
    ) -> kube::Result<String> {
        let name = host_name(number);
        let manager = PatchParams { field_manager: Some("floor".to_owned()), ..PatchParams::default() };
        let written = match verb {
            Verb::Put => {
                let parameters = PostParams { field_manager: manager.field_manager, ..PostParams::default() };
                let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
                let mut object =
                    DynamicObject::new(&name, &self.resource).data(json!({"spec": self.spec, "status": status}));
                object.metadata = ObjectMeta { resource_version: Some(version.to_owned()), ..metadata };
                self.brief.replace_subresource("status", &name, &parameters, &object).await?
            }
            Verb::MergePatch => {
                self.brief.patch_status(&name, &manager, &Patch::Merge(json!({"status": part}))).await?
            }
            Verb::Apply => {
                let object = DynamicObject::new(&name, &self.resource).data(json!({"status": part}));
                self.brief.patch_status(&name, &manager.force(), &Patch::Apply(object)).await?
            }
        };
        Ok(written.metadata.resource_version.unwrap_or_default())
    }
}

/// The Host CRD, in a group of its own.
async fn copy_crd(client: &Client) -> ApiResource {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut crd = crds.get("hosts.multibond.dev").await.unwrap();
    let group = "floor.example.com";
    let name = format!("hosts.{group}");
    crd.metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
    group.clone_into(&mut crd.spec.group);
    crd.spec.names.short_names = None;
    crd.spec.names.categories = None;
    crd.status = None;
    crds.create(&PostParams::default(), &crd).await.unwrap();
    await_condition(crds, &name, conditions::is_crd_established()).await.unwrap();
    // A new kind is served only a moment after it is established.
    tokio::time::sleep(Duration::from_secs(2)).await;
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, "v1alpha1", "Host"), "hosts")
}
