//! Asking a cluster. Every question stands for itself: one that is not answered leaves the others.

use std::fmt::Debug;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::{Request, header::DATE};
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
        apps::v1::{DaemonSet, Deployment},
        authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
        core::v1::Namespace,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::version::Info,
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{ListParams, PostParams},
    client::Body,
    core::{DeserializeGuard, Status},
};
use serde::de::DeserializeOwned;

use super::{
    Stage,
    facts::{Facts, Listed, Seen, Unseen},
    rights::{Right, rights},
};
use crate::{api, ops::errors::causes};

/// Requests at once.
const REQUESTS: usize = 16;

/// Asks everything that a stage is about. When the API server does not answer, nothing more is asked.
pub(crate) async fn gather(client: &Client, url: &str, namespace: &str, stage: Stage) -> Facts {
    let mut facts = Facts::unasked(namespace, Timestamp::now());
    match server(client, url).await {
        Ok((server, time)) => {
            facts.server = Ok(server);
            facts.now = time.unwrap_or(facts.now);
        }
        Err(unseen) => facts.server = Err(unseen),
    }
    if let Err(Unseen::Failed(_)) = facts.server {
        return facts;
    }
    let (controllers, agents) = (
        Api::<Deployment>::namespaced(client.clone(), namespace),
        Api::<DaemonSet>::namespaced(client.clone(), namespace),
    );
    let leases = Api::namespaced(client.clone(), namespace);
    let namespaces = Api::<Namespace>::all(client.clone());
    let in_namespace = |what: &str| format!("{what} in namespace {namespace}");
    (facts.policies, facts.policies_in_force, facts.definitions) =
        tokio::join!(policies(client), policies_in_force(client), definitions(client));
    (facts.home, facts.controller, facts.agents, facts.leases, facts.nodes) = tokio::join!(
        see(format!("get namespace {namespace}"), namespaces.get_opt(namespace)),
        see(in_namespace("get Deployments"), controllers.get_opt("multibond-controller")),
        see(in_namespace("get DaemonSets"), agents.get_opt("multibond-agent")),
        see(in_namespace("list leases"), items(leases)),
        see("list Nodes", items(Api::all(client.clone()))),
    );
    (facts.data_centers, facts.networks, facts.hosts, facts.bonds) =
        tokio::join!(list(client), list(client), list(client), list(client));
    if stage == Stage::Before {
        facts.rights = see("ask what you may do", allowed(client, namespace)).await;
    }
    facts
}

/// An answer, or why there is none.
async fn see<T>(what: impl Into<String>, request: impl Future<Output = kube::Result<T>>) -> Seen<T> {
    request.await.map_err(|error| Unseen::new(&what.into(), &error))
}

/// The version of the API server, and the time by its clock.
async fn server(client: &Client, url: &str) -> Seen<(Info, Option<Timestamp>)> {
    let failed = |why: String| Unseen::Failed(format!("{url}: {why}"));
    let request = Request::get("/version").body(Body::empty()).map_err(|error| failed(causes(&error)))?;
    let response = client.send(request).await.map_err(|error| match error {
        kube::Error::Service(error) => failed(causes(&*error)),
        error => failed(causes(&error)),
    })?;
    let status = response.status();
    let time = response.headers().get(DATE).and_then(|date| date.to_str().ok());
    let time = time.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()).map(|date| date.timestamp());
    let body = response.into_body().collect_bytes().await.map_err(|error| failed(causes(&error)))?;
    match status.as_u16() {
        403 => Err(Unseen::Forbidden("get its version".to_owned())),
        200..300 => match serde_json::from_slice(&body) {
            Ok(info) => Ok((info, time)),
            Err(error) => Err(failed(format!("it is no API server of Kubernetes: {error}"))),
        },
        _ => {
            let said = serde_json::from_slice::<Status>(&body).map(|status| status.message);
            Err(failed(format!("it answers {status}: {}", said.unwrap_or_default())))
        }
    }
}

async fn policies(client: &Client) -> Seen<bool> {
    match see("discover its kinds", client.list_api_group_resources("admissionregistration.k8s.io/v1")).await {
        Ok(list) => Ok(list.resources.iter().any(|resource| resource.name == "validatingadmissionpolicies")),
        Err(Unseen::UnknownKind) => Ok(false),
        Err(unseen) => Err(unseen),
    }
}

/// Admission policies that are there and bound.
async fn policies_in_force(client: &Client) -> Seen<Vec<String>> {
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let (policies, bindings) = tokio::try_join!(
        see("list ValidatingAdmissionPolicies", items(policies)),
        see("list ValidatingAdmissionPolicyBindings", items(bindings)),
    )?;
    let bound = |name: &String| {
        bindings.iter().any(|binding| binding.spec.as_ref().and_then(|spec| spec.policy_name.as_ref()) == Some(name))
    };
    Ok(policies.into_iter().filter_map(|policy| policy.metadata.name).filter(bound).collect())
}

/// Our CRDs, one by one: a cluster may have many others, and they are large.
async fn definitions(client: &Client) -> Seen<Vec<CustomResourceDefinition>> {
    let there: Api<CustomResourceDefinition> = Api::all(client.clone());
    let ours = api::crds();
    let asked = ours.iter().map(|crd| there.get_opt(crd.metadata.name.as_deref().unwrap_or_default()));
    let found = futures::future::try_join_all(asked);
    Ok(see("get CRDs", found).await?.into_iter().flatten().collect())
}

async fn items<K>(api: Api<K>) -> kube::Result<Vec<K>>
where
    K: Clone + DeserializeOwned + Debug,
{
    Ok(api.list(&ListParams::default()).await?.items)
}

/// All objects of one of our kinds.
async fn list<K>(client: &Client) -> Seen<Listed<K>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let what = format!("list {} in all namespaces", K::plural(&()));
    let mut listed = Listed { objects: Vec::new(), broken: Vec::new() };
    for DeserializeGuard(object) in see(what, items(Api::<DeserializeGuard<K>>::all(client.clone()))).await? {
        match object {
            Ok(object) => listed.objects.push(object),
            Err(broken) => listed.broken.push((broken.metadata, broken.error)),
        }
    }
    listed.objects.sort_by_key(|object| (object.namespace(), object.name_any()));
    Ok(listed)
}

/// What whoever asks may do.
async fn allowed(client: &Client, namespace: &str) -> kube::Result<Vec<(Right, bool)>> {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let ask = async |right: Right| {
        let attributes = ResourceAttributes {
            verb: Some(right.verb.to_owned()),
            group: Some(right.group.to_owned()),
            resource: Some(right.plural.to_owned()),
            namespace: right.namespaced.then(|| namespace.to_owned()),
            ..ResourceAttributes::default()
        };
        let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
        let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
        let answer = reviews.create(&PostParams::default(), &review).await?;
        Ok::<_, kube::Error>((right, answer.status.is_some_and(|status| status.allowed)))
    };
    stream::iter(rights().into_iter().map(ask)).buffered(REQUESTS).try_collect().await
}
