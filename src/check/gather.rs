//! Requests the facts from a cluster. Requests are independent: one that fails does not stop the others.

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
    core::Status,
};
use serde::de::DeserializeOwned;

use super::{
    Stage,
    facts::{ClusterFacts, Fact, Listed, Unavailable},
    permissions::{Permission, required},
};
use crate::{
    api::{self, Readable},
    ops::{self, errors::causes},
};

/// Concurrent permission reviews.
const REQUESTS: usize = 16;

/// Requests all facts of a stage. If the API server does not answer, nothing more is requested.
pub(crate) async fn gather(client: &Client, url: &str, namespace: &str, stage: Stage) -> ClusterFacts {
    let mut facts = ClusterFacts::not_asked(namespace, ops::time_of_day());
    match server(client, url).await {
        Ok((server, time)) => {
            facts.server = Ok(server);
            facts.now = time.unwrap_or(facts.now);
        }
        Err(unavailable) => facts.server = Err(unavailable),
    }
    if let Err(Unavailable::Failed(_)) = facts.server {
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
    (facts.release_namespace, facts.controller, facts.agents, facts.leases, facts.nodes) = tokio::join!(
        fact(format!("get namespace {namespace}"), namespaces.get_opt(namespace)),
        fact(in_namespace("get Deployments"), controllers.get_opt("multibond-controller")),
        fact(in_namespace("get DaemonSets"), agents.get_opt("multibond-agent")),
        fact(in_namespace("list leases"), items(leases)),
        fact("list Nodes", items(Api::all(client.clone()))),
    );
    (facts.data_centers, facts.networks, facts.hosts, facts.bonds) =
        tokio::join!(list(client), list(client), list(client), list(client));
    if stage == Stage::Before {
        facts.permissions = fact("review your permissions", allowed(client, namespace)).await;
    }
    facts
}

/// The answer to a request, or why there is none; `what` describes the request, such as `list Nodes`.
async fn fact<T>(what: impl Into<String>, request: impl Future<Output = kube::Result<T>>) -> Fact<T> {
    request.await.map_err(|error| Unavailable::new(&what.into(), &error))
}

/// The version of the API server, and the time of its clock.
async fn server(client: &Client, url: &str) -> Fact<(Info, Option<Timestamp>)> {
    let failed = |why: String| Unavailable::Failed(format!("{url}: {why}"));
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
        403 => Err(Unavailable::Forbidden("get the version of the API server".to_owned())),
        200..300 => match serde_json::from_slice(&body) {
            Ok(info) => Ok((info, time)),
            Err(error) => Err(failed(format!("this is not a Kubernetes API server: {error}"))),
        },
        _ => {
            let said = serde_json::from_slice::<Status>(&body).map(|status| status.message);
            Err(failed(format!("it answers {status}: {}", said.unwrap_or_default())))
        }
    }
}

async fn policies(client: &Client) -> Fact<bool> {
    match fact(
        "discover the kinds of the API server",
        client.list_api_group_resources("admissionregistration.k8s.io/v1"),
    )
    .await
    {
        Ok(list) => Ok(list.resources.iter().any(|resource| resource.name == "validatingadmissionpolicies")),
        Err(Unavailable::UnknownKind) => Ok(false),
        Err(unavailable) => Err(unavailable),
    }
}

/// Names of the admission policies that exist and have a binding.
async fn policies_in_force(client: &Client) -> Fact<Vec<String>> {
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let (policies, bindings) = tokio::try_join!(
        fact("list ValidatingAdmissionPolicies", items(policies)),
        fact("list ValidatingAdmissionPolicyBindings", items(bindings)),
    )?;
    let bound = |name: &String| {
        bindings.iter().any(|binding| binding.spec.as_ref().and_then(|spec| spec.policy_name.as_ref()) == Some(name))
    };
    Ok(policies.into_iter().filter_map(|policy| policy.metadata.name).filter(bound).collect())
}

/// Our CRDs, one request for each: a cluster may have many other CRDs, and they are large.
async fn definitions(client: &Client) -> Fact<Vec<CustomResourceDefinition>> {
    let there: Api<CustomResourceDefinition> = Api::all(client.clone());
    let ours = api::crds();
    let asked = ours.iter().map(|crd| there.get_opt(crd.metadata.name.as_deref().unwrap_or_default()));
    let found = futures::future::try_join_all(asked);
    Ok(fact("get CRDs", found).await?.into_iter().flatten().collect())
}

async fn items<K>(api: Api<K>) -> kube::Result<Vec<K>>
where
    K: Clone + DeserializeOwned + Debug,
{
    Ok(api.list(&ListParams::default()).await?.items)
}

/// All objects of one of our kinds.
async fn list<K>(client: &Client) -> Fact<Listed<K>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let what = format!("list {} in all namespaces", K::plural(&()));
    let mut listed = Listed { objects: Vec::new(), broken: Vec::new() };
    for Readable { object, status_error } in fact(what, items(Api::<Readable<K>>::all(client.clone()))).await? {
        match object {
            Ok(object) => {
                listed.broken.extend(status_error.map(|error| (object.meta().clone(), error)));
                listed.objects.push(object);
            }
            Err(broken) => listed.broken.push((broken.metadata, broken.error)),
        }
    }
    listed.objects.sort_by_key(|object| (object.namespace(), object.name_any()));
    Ok(listed)
}

/// Reviews each permission of the caller.
async fn allowed(client: &Client, namespace: &str) -> kube::Result<Vec<(Permission, bool)>> {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let ask = async |right: Permission| {
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
    stream::iter(required().into_iter().map(ask)).buffered(REQUESTS).try_collect().await
}
