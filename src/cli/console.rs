//! `multibond console`: serves the web console on this machine, for the person who starts it.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Args;
use kube::Client;

use super::{Global, handover::Handover, in_runtime, output, process, status};
use crate::console::{Scope, Server};
use crate::ops;

/// Shows data centers, bonds, hosts and paths in the browser, live, and changes them by forms
///
/// It uses your kubeconfig, so you can see and change what you can with kubectl, and nothing else. It prints an address
/// that works once, in one browser.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  multibond console --open
  multibond console -A --listen 127.0.0.1:8090")]
pub struct Arguments {
    /// The namespace to show; without it, that of the kubeconfig's context
    #[arg(short, long, env = "MULTIBOND_NAMESPACE")]
    namespace: Option<String>,
    /// Show all namespaces; --namespace is ignored
    #[arg(short = 'A', long, env = "MULTIBOND_ALL_NAMESPACES")]
    all_namespaces: bool,
    /// The address to listen on. At an address other than loopback, other machines reach it, without encryption
    #[arg(long, env = "MULTIBOND_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Open the browser
    #[arg(long, env = "MULTIBOND_OPEN")]
    open: bool,
}

/// Serves until Ctrl-C or SIGTERM.
pub fn run(arguments: Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    let Arguments { namespace, all_namespaces, listen, open } = arguments;
    in_runtime(async {
        let shutdown = process::shutdown()?;
        let config = global.cluster().await?;
        let cluster = config.cluster_url.to_string();
        let namespace = (!all_namespaces).then(|| namespace.unwrap_or_else(|| config.default_namespace.clone()));
        let client = Client::try_from(config)?;
        // Fails here when nothing could be shown, before a browser is opened.
        status::read(&client, &cluster, namespace.as_deref()).await?;
        let listener = ops::bind(listen).await?;
        let server = Server::new(client, Scope { cluster, namespace }, listener, shutdown)?;
        if !listen.ip().is_loopback() {
            output::complain(format_args!("other machines can reach {listen}, and the connection is not encrypted"));
        }
        let url = server.url();
        output::print(&format!("Open the console at this address, which works once:\n\n  {url}\n\nCtrl-C ends it.\n"))?;
        // The file that the browser opens has to exist as long as the console.
        let handover = open.then(|| hand_over(&url));
        if let Some(Err(error)) = &handover {
            output::complain(format_args!("the browser cannot be opened ({error}); open the address above"));
        }
        server.serve().await;
        Ok(ExitCode::SUCCESS)
    })
}

fn hand_over(url: &str) -> std::io::Result<Handover> {
    let handover = Handover::new(url)?;
    handover.open_browser()?;
    Ok(handover)
}
