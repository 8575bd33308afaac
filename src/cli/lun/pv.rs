//! `multibond lun pv`: a volume of a LUN, for Git.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::{Api, Client, ResourceExt as _, api::ListParams};

use super::{
    Found, Place,
    volume::{self, Access, ClaimName, Wanted},
};
use crate::{
    api::first_few,
    cli::{Global, output},
    ops,
};

/// The provisioner of a `StorageClass` that provisions nothing.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";
/// The most storage classes that a refusal names.
const SHOWN: usize = 5;

/// Prints a `PersistentVolume` for a LUN, and with --claim its claim
///
/// It writes nothing: the manifests are for Git, or for `kubectl apply -f -`. The volume is the LUN's multipath map, on every
/// node of the data center. A LUN is refused that has a problem, has different sizes, or is missing on a host in service.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  multibond lun pv 3600c0ff000000000000000000000001 -n frankfurt > volume.yaml
  multibond lun pv 3600c0ff000000000000000000000001 -n frankfurt --claim shop/database | kubectl apply -f -")]
pub(super) struct Arguments {
    /// The LUN, as `multibond lun list` shows it
    #[arg(env = "MULTIBOND_WWID")]
    wwid: String,
    #[command(flatten)]
    place: Place,
    /// The data center; needed only if several of the namespace have the LUN
    #[arg(long, env = "MULTIBOND_DATA_CENTER", value_name = "NAME")]
    data_center: Option<String>,
    /// The name of the `PersistentVolume`; default: `lun-` and the WWID
    #[arg(long, env = "MULTIBOND_NAME", value_name = "NAME")]
    name: Option<String>,
    /// Print the claim too, and let nobody else have the volume
    #[arg(long, env = "MULTIBOND_CLAIM", value_name = "NAMESPACE/NAME")]
    claim: Option<ClaimName>,
    /// A `StorageClass` of the cluster without a provisioner; default: none
    #[arg(long, env = "MULTIBOND_STORAGE_CLASS", value_name = "NAME")]
    storage_class: Option<String>,
    /// Who may use it at a time; default: `ReadWriteMany`, with --filesystem `ReadWriteOncePod`
    #[arg(long, env = "MULTIBOND_ACCESS", value_enum, value_name = "MODE")]
    access: Option<Access>,
    /// A file system for one pod, in place of a block device
    #[arg(long, env = "MULTIBOND_FILESYSTEM")]
    filesystem: bool,
    /// Print it also if the LUN has a problem, has different sizes, or is missing on a host
    #[arg(long, env = "MULTIBOND_FORCE")]
    force: bool,
}

pub(super) async fn run(arguments: Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    let Arguments { wwid, place, data_center, name, claim, storage_class, access, filesystem, force } = arguments;
    let found = super::read(place, false, global).await?;
    if let Some(class) = &storage_class {
        check_class(&found.client, class).await?;
    }
    let Found { luns, data_centers, namespace, .. } = found;
    for what in &luns.unreadable {
        output::complain(format_args!("not read: {what}"));
    }
    let namespace = namespace.unwrap_or_default();
    let lun = volume::find(&luns, &wwid, &namespace, data_center.as_deref())?;
    if let Some(objection) = volume::objection(lun) {
        if !force {
            bail!("{objection}; --force prints the volume all the same");
        }
        output::complain(format_args!("warning: {objection}"));
    }
    let wanted = Wanted { name, claim, storage_class, access, filesystem };
    let Some(center) = data_centers.iter().find(|center| center.name_any() == lun.data_center) else {
        bail!(
            "the DataCenter {} cannot be read, so nobody knows on which nodes the volume is; create it, or get the \
             permission to read it",
            lun.data_center
        );
    };
    let nodes = center.spec.hosts.as_ref().map(|hosts| &hosts.node_selector);
    let volume = volume::persistent_volume(lun, nodes, &wanted)?;
    if nodes.is_none() {
        output::complain(format_args!(
            "note: the data center has no hosts.nodeSelector, so the volume names its nodes, and that cannot be changed later"
        ));
    }
    output::print(&ops::yaml(&volume)?)?;
    if let Some(claim) = volume::claim(&volume, &wanted) {
        output::print(&format!("---\n{}", ops::yaml(&claim)?))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Refuses a `StorageClass` that does not exist, or that would make volumes of its own.
async fn check_class(client: &Client, name: &str) -> anyhow::Result<()> {
    let classes: Api<StorageClass> = Api::all(client.clone());
    let classes = classes.list(&ListParams::default()).await.context("listing storageclasses")?.items;
    let usable = classes.iter().filter(|class| class.provisioner == NO_PROVISIONER);
    let usable: Vec<String> = usable.map(kube::ResourceExt::name_any).collect();
    let which = match usable.as_slice() {
        [] => format!("none has; without --storage-class the volume needs none, or create one with {NO_PROVISIONER}"),
        usable => format!("those are: {}", first_few(usable, SHOWN, Clone::clone)),
    };
    match classes.iter().find(|class| class.name_any() == name) {
        None => bail!("there is no StorageClass {name}; expected one with the provisioner {NO_PROVISIONER}: {which}"),
        Some(class) if class.provisioner != NO_PROVISIONER => bail!(
            "the StorageClass {name} has the provisioner {}, which would make another volume for the claim; expected \
             {NO_PROVISIONER}: {which}",
            class.provisioner
        ),
        Some(_) => Ok(()),
    }
}
