//! `multibond console`: the web console, on this machine and for the person who starts it.

use std::net::SocketAddr;
use std::process::{Command, ExitCode, Stdio};

use clap::Args;
use kube::Client;

use super::{Global, in_runtime, output, process, status};
use crate::console::{Scope, Server};
use crate::ops;

/// Shows data centers, bonds, hosts and paths in the browser, live, and changes them by forms
///
/// It acts with your kubeconfig: you may do there what you may do with kubectl, and nothing else. The address that it
/// prints lets one browser in, once.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  multibond console --open
  multibond console -A --listen 127.0.0.1:8090")]
pub struct Arguments {
    /// The namespace to show; without it, that of the kubeconfig's context
    #[arg(short, long, env = "MULTIBOND_NAMESPACE")]
    namespace: Option<String>,
    /// Show all namespaces, whatever else is given
    #[arg(short = 'A', long, env = "MULTIBOND_ALL_NAMESPACES")]
    all_namespaces: bool,
    /// Where it listens. Other machines reach it, without encryption, only at an address other than loopback
    #[arg(long, env = "MULTIBOND_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Open the browser
    #[arg(long, env = "MULTIBOND_OPEN")]
    open: bool,
}

/// Serves until it is told to stop.
pub fn run(arguments: Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    let Arguments { namespace, all_namespaces, listen, open } = arguments;
    in_runtime(async {
        let shutdown = process::shutdown()?;
        let config = global.cluster().await?;
        let cluster = config.cluster_url.to_string();
        let namespace = (!all_namespaces).then(|| namespace.unwrap_or_else(|| config.default_namespace.clone()));
        let client = Client::try_from(config)?;
        // Says why there would be nothing to show, before a browser is opened.
        status::read(&client, &cluster, namespace.as_deref()).await?;
        let listener = ops::bind(listen).await?;
        let server = Server::new(client, Scope { cluster, namespace }, listener, shutdown)?;
        if !listen.ip().is_loopback() {
            output::complain(format_args!("{listen} is reachable from other machines, and nothing is encrypted"));
        }
        let url = server.url();
        output::print(&format!("Multibond's console, for one browser:\n\n  {url}\n\nCtrl-C ends it.\n"))?;
        if open && let Err(error) = open_browser(&url) {
            output::complain(format_args!("the browser cannot be opened (xdg-open: {error}); open the address above"));
        }
        server.serve().await;
        Ok(ExitCode::SUCCESS)
    })
}

fn open_browser(url: &str) -> std::io::Result<()> {
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    Command::new(program).arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().map(drop)
}
