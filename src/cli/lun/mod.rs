//! `multibond lun`: the LUNs that hosts see, and volumes from them.

mod list;
mod pv;
mod size;
mod volume;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use kube::Client;

use super::{ANSWER_WITHIN, Asking, Global, in_runtime, status};
use crate::status_view::luns::LunList;

/// Lists the LUNs that hosts see, and makes volumes from them
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  multibond lun list -n frankfurt
  multibond lun pv 3600c0ff000000000000000000000001 -n frankfurt > volume.yaml")]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

/// What to do.
#[derive(Subcommand, Debug)]
enum Action {
    List(list::Arguments),
    Pv(pv::Arguments),
}

/// Where to look, and how long to wait.
#[derive(Args, Debug)]
struct Place {
    /// The namespace of the data center; default: that of the kubeconfig's context
    #[arg(short, long, env = "MULTIBOND_NAMESPACE")]
    namespace: Option<String>,
    #[command(flatten)]
    asking: Asking,
}

pub(super) fn run(arguments: Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    in_runtime(async {
        match arguments.action {
            Action::List(arguments) => list::run(arguments, global).await,
            Action::Pv(arguments) => pv::run(arguments, global).await,
        }
    })
}

/// A client, and the LUNs of a namespace, or of all.
async fn read(place: Place, everywhere: bool, global: &Global) -> anyhow::Result<Found> {
    let config = place.asking.cluster(global, ANSWER_WITHIN).await?;
    let url = config.cluster_url.to_string();
    let namespace = (!everywhere).then(|| place.namespace.unwrap_or_else(|| config.default_namespace.clone()));
    let client = Client::try_from(config)?;
    let snapshot = status::read(&client, &url, namespace.as_deref()).await?;
    Ok(Found { luns: LunList::from(&snapshot), data_centers: snapshot.data_centers, namespace, client })
}

/// What [`read`] has found.
struct Found {
    luns: LunList,
    data_centers: Vec<std::sync::Arc<crate::api::DataCenter>>,
    /// `None` for all namespaces.
    namespace: Option<String>,
    client: Client,
}
