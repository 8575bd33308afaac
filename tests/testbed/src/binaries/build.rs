//! Builds from source: `go build` in `tests/control-plane`.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{Tool, install};
use crate::command::say;
use crate::supervisor::Supervisor;

/// How often a running build reports: a silent CI job looks like a dead one.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// A main package of a Go module below `tests/control-plane`, or among that module's dependencies.
pub(super) struct Program {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    /// The directory of the module, relative to `tests/control-plane`.
    pub(super) module: &'static str,
    pub(super) package: &'static str,
    pub(super) linker_flags: String,
}

impl Program {
    fn of(tool: Tool) -> Result<Self> {
        let (module, package) = match tool {
            Tool::Etcd => (".", "./cmd/etcd"),
            Tool::KubeApiserver => (".", "k8s.io/kubernetes/cmd/kube-apiserver"),
            Tool::KubeControllerManager => (".", "k8s.io/kubernetes/cmd/kube-controller-manager"),
            Tool::Kubectl => (".", "k8s.io/kubernetes/cmd/kubectl"),
            Tool::Helm => ("helm", "helm.sh/helm/v4/cmd/helm"),
            Tool::KubeScheduler => (".", "k8s.io/kubernetes/cmd/kube-scheduler"),
            Tool::Kubelet => (".", "k8s.io/kubernetes/cmd/kubelet"),
            Tool::Containerd => ("containerd", "github.com/containerd/containerd/v2/cmd/containerd"),
            Tool::ContainerdShim => ("containerd", "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"),
            Tool::Ctr => ("containerd", "github.com/containerd/containerd/v2/cmd/ctr"),
        };
        let version = tool.version()?;
        Ok(Self { name: tool.name(), version, module, package, linker_flags: linker_flags(tool, version) })
    }
}

/// Builds the `tools` that are missing in `cache`.
pub(super) fn build_tools(tools: &[Tool], cache: &Path) -> Result<()> {
    let programs: Vec<_> = tools.iter().map(|tool| Program::of(*tool)).collect::<Result<_>>()?;
    build(&programs, cache)
}

/// Builds `programs` into `cache`.
pub(super) fn build(programs: &[Program], cache: &Path) -> Result<()> {
    if programs.is_empty() {
        return Ok(());
    }
    check_go(programs)?;
    say(&format!("building {} from source, once; with an empty Go cache this takes minutes", names(programs)));
    for program in programs {
        build_one(program, cache)?;
    }
    Ok(())
}

fn build_one(program: &Program, cache: &Path) -> Result<()> {
    let Program { name, version, module, package, linker_flags } = program;
    let target = cache.join(format!(".{name}"));
    let started = Instant::now();
    let mut command = Command::new("go");
    command
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../control-plane").join(module))
        .args(["build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", linker_flags])
        .arg("-o")
        .arg(&target)
        .arg(package)
        // Go settings that people use for their own projects must not affect this build.
        .env("CGO_ENABLED", "0")
        .env("GOWORK", "off")
        .env_remove("GOFLAGS")
        .env_remove("GOOS")
        .env_remove("GOARCH")
        .process_group(Supervisor::get()?.group())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let child = command.spawn().context("cannot start `go build`")?;
    let (done, finished) = channel();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            while finished.recv_timeout(HEARTBEAT) == Err(RecvTimeoutError::Timeout) {
                say(&format!("  {name} {version}: still building after {} s", started.elapsed().as_secs()));
            }
        });
        let output = child.wait_with_output();
        drop::<std::sync::mpsc::Sender<()>>(done);
        output
    })
    .context("cannot wait for `go build`")?;
    if !output.status.success() {
        bail!("`go build {package}` failed, {}:\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    install(&target, name, cache)?;
    say(&format!("  {name} {version}: built in {} s", started.elapsed().as_secs()));
    Ok(())
}

/// Without these, a binary reports version v0.0.0, and clients rely on it.
fn linker_flags(tool: Tool, version: &str) -> String {
    let mut flags = vec!["-s -w".to_owned()];
    let mut set = |variable: &str, value: &str| flags.push(format!("-X {variable}={value}"));
    match tool {
        Tool::Etcd => {}
        Tool::Helm => set("helm.sh/helm/v4/internal/version.version", version),
        Tool::Containerd | Tool::ContainerdShim | Tool::Ctr => {
            set("github.com/containerd/containerd/v2/version.Version", version);
        }
        Tool::KubeApiserver | Tool::KubeControllerManager | Tool::Kubectl | Tool::KubeScheduler | Tool::Kubelet => {
            let mut numbers = version.trim_start_matches('v').split('.');
            let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
            for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
                set(&format!("{package}.gitVersion"), version);
                set(&format!("{package}.gitMajor"), major);
                set(&format!("{package}.gitMinor"), minor);
            }
        }
    }
    flags.join(" ")
}

/// From Go 1.21 on, an older Go fetches the one that a module asks for.
fn check_go(programs: &[Program]) -> Result<()> {
    let advice = "install Go 1.26 or newer (https://go.dev/dl), or set KUBEBUILDER_ASSETS to a directory with them";
    let Ok(output) = Command::new("go").args(["env", "GOVERSION"]).env("GOTOOLCHAIN", "local").output() else {
        bail!(
            "{}: not in the cache, no download possible, and there is no `go` to build them: {advice}",
            names(programs)
        );
    };
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let minor =
        version.strip_prefix("go1.").and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
    match minor {
        Some(0..21) => bail!("{}: {version} is too old to build them: {advice}", names(programs)),
        // A version that is not of this form is a newer one, or Go's own business.
        _ => Ok(()),
    }
}

fn names(programs: &[Program]) -> String {
    programs.iter().map(|program| program.name).collect::<Vec<_>>().join(", ")
}
