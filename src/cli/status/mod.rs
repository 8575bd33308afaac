//! `multibond status`: data centers, networks, bonds and hosts, and each path with its state and reason.

mod render;

use std::fmt::Debug;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::output::{self, Format};
use super::{ANSWER_WITHIN, Asking, Global, in_runtime};
use crate::api::{DataCenter, Host, IscsiBond, Network, Readable};
use crate::ops::{self, errors::causes};
use crate::status_view::json::Document;
use crate::status_view::{Snapshot, StatusView};

/// Shows data centers, bonds and hosts, and each path with its state and reason
///
/// With a link `kubectl-multibond` to this program on the PATH, `kubectl multibond status` does the same.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  multibond status -n frankfurt
  multibond status -A -o json")]
pub struct Arguments {
    /// The namespace to show; default: that of the kubeconfig's context
    #[arg(short, long, env = "MULTIBOND_NAMESPACE")]
    namespace: Option<String>,
    /// Show all namespaces; overrides --namespace
    #[arg(short = 'A', long, env = "MULTIBOND_ALL_NAMESPACES")]
    all_namespaces: bool,
    /// The output format
    #[arg(short, long, env = "MULTIBOND_OUTPUT", value_enum, default_value = "table")]
    output: Format,
    #[command(flatten)]
    asking: Asking,
}

/// Why nothing can be shown.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The API server does not answer.
    #[error("the cluster {url} cannot be reached: {reason}; check that it is the right one (--kubeconfig, --context)")]
    Unreachable { url: String, reason: String },
    /// The CRDs are missing.
    #[error(
        "Multibond is not installed on the cluster {url}: it has no {kind} of multibond.dev. Install the chart, or only the CRDs: `multibond crds | kubectl apply --server-side -f -`"
    )]
    NotInstalled { url: String, kind: String },
    /// The caller lacks the permission to list any of the kinds.
    #[error("no permission to read anything: {0}")]
    Forbidden(String),
    /// Any other error.
    #[error("listing {kind}: {reason}")]
    Other { kind: String, reason: String },
}

/// Reads the cluster once, and shows it.
pub fn run(arguments: Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    let Arguments { namespace, all_namespaces, output: format, asking } = arguments;
    in_runtime(async {
        let config = asking.cluster(global, ANSWER_WITHIN).await?;
        let url = config.cluster_url.to_string();
        let namespace = (!all_namespaces).then(|| namespace.unwrap_or_else(|| config.default_namespace.clone()));
        let client = Client::try_from(config)?;
        let status = StatusView::from(&read(&client, &url, namespace.as_deref()).await?);
        match format {
            Format::Json => output::print(&output::json(&Document::from(&status))?)?,
            Format::Yaml => output::print(&ops::yaml(&Document::from(&status))?)?,
            Format::Table if status.data_centers.is_empty() && status.unreadable.is_empty() => {
                output::print(&nothing_in(namespace.as_deref()))?;
            }
            Format::Table => output::print_styled(&render::tree(&status, ops::time_of_day()))?,
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn nothing_in(namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) => format!("Nothing of Multibond in namespace {namespace}; -A shows all namespaces.\n"),
        None => "Nothing of Multibond in any namespace.\n".to_owned(),
    }
}

/// Reads everything once.
///
/// # Errors
/// If nothing can be shown: the API server does not answer, Multibond is not installed, or the caller lacks all
/// permissions.
pub(super) async fn read(client: &Client, url: &str, namespace: Option<&str>) -> Result<Snapshot, Error> {
    let mut snapshot = Snapshot::default();
    let (data_centers, networks, bonds, hosts) = tokio::join!(
        list::<DataCenter>(client, url, namespace),
        list::<Network>(client, url, namespace),
        list::<IscsiBond>(client, url, namespace),
        list::<Host>(client, url, namespace),
    );
    let unreadable = &mut snapshot.unreadable;
    snapshot.data_centers = keep(data_centers?, unreadable);
    snapshot.networks = keep(networks?, unreadable);
    snapshot.bonds = keep(bonds?, unreadable);
    snapshot.hosts = keep(hosts?, unreadable);
    let nothing = snapshot.data_centers.is_empty()
        && snapshot.networks.is_empty()
        && snapshot.bonds.is_empty()
        && snapshot.hosts.is_empty();
    match snapshot.unreadable.first() {
        Some(reason) if nothing && snapshot.unreadable.len() == 4 => Err(Error::Forbidden(reason.clone())),
        _ => Ok(snapshot),
    }
}

/// The objects of a kind, and a line for each thing that could not be read.
type Objects<T> = (Vec<Arc<T>>, Vec<String>);

fn keep<T>((objects, problems): Objects<T>, unreadable: &mut Vec<String>) -> Vec<Arc<T>> {
    unreadable.extend(problems);
    objects
}

/// Lists a kind. A missing permission or an object that cannot be decoded is no error: it is reported beside the others.
async fn list<K>(client: &Client, url: &str, namespace: Option<&str>) -> Result<Objects<K>, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let kind = K::plural(&()).into_owned();
    let api: Api<Readable<K>> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let objects = match api.list(&kube::api::ListParams::default()).await {
        Ok(list) => list.items,
        Err(kube::Error::Api(status)) => {
            return match status.code {
                403 => Ok((Vec::new(), vec![status.message.clone()])),
                404 => Err(Error::NotInstalled { url: url.to_owned(), kind }),
                _ => Err(Error::Other { kind, reason: status.message.clone() }),
            };
        }
        Err(kube::Error::Service(error)) => {
            return Err(Error::Unreachable { url: url.to_owned(), reason: causes(&*error) });
        }
        Err(error) => return Err(Error::Other { kind, reason: causes(&error) }),
    };
    let (mut readable, mut problems) = (Vec::new(), Vec::new());
    for Readable { object, status_error } in objects {
        match object {
            Ok(object) => {
                let name = object.meta().name.clone().unwrap_or_default();
                problems.extend(status_error.map(|error| format!("{} {name}: {error}", K::kind(&()))));
                readable.push(Arc::new(object));
            }
            Err(broken) => {
                let name = broken.metadata.name.unwrap_or_default();
                problems.push(format!("{} {name}: {}", K::kind(&()), broken.error));
            }
        }
    }
    Ok((readable, problems))
}
