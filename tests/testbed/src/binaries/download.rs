//! Downloads released binaries with `curl`, and verifies each by its published checksum.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use super::{Tool, install};
use crate::command::say;

/// The servers of the releases.
pub(super) struct Sources {
    kubernetes: String,
    etcd: String,
    helm: String,
    containerd: String,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            kubernetes: "https://dl.k8s.io/release".to_owned(),
            etcd: "https://github.com/etcd-io/etcd/releases/download".to_owned(),
            helm: "https://get.helm.sh".to_owned(),
            containerd: "https://github.com/containerd/containerd/releases/download".to_owned(),
        }
    }
}

/// One release: a file, the file with its checksum, and which part of the first is the binary (all of it, if none).
struct Release {
    url: String,
    checksum: String,
    member: Option<String>,
}

impl Sources {
    fn of(&self, tool: Tool) -> &str {
        match tool {
            Tool::KubeApiserver | Tool::KubeControllerManager | Tool::Kubectl | Tool::KubeScheduler | Tool::Kubelet => {
                &self.kubernetes
            }
            Tool::Etcd => &self.etcd,
            Tool::Helm => &self.helm,
            Tool::Containerd | Tool::ContainerdShim | Tool::Ctr => &self.containerd,
        }
    }

    fn release(&self, tool: Tool) -> Result<Release> {
        let (source, name, version) = (self.of(tool), tool.name(), tool.version()?);
        let (os, arch) = platform();
        Ok(match tool {
            Tool::KubeApiserver | Tool::KubeControllerManager | Tool::Kubectl | Tool::KubeScheduler | Tool::Kubelet => {
                let url = format!("{source}/{version}/bin/{os}/{arch}/{name}");
                Release { checksum: format!("{url}.sha256"), url, member: None }
            }
            Tool::Etcd => {
                let archive = format!("etcd-{version}-{os}-{arch}");
                Release {
                    url: format!("{source}/{version}/{archive}.tar.gz"),
                    checksum: format!("{source}/{version}/SHA256SUMS"),
                    member: Some(format!("{archive}/etcd")),
                }
            }
            Tool::Helm => {
                let url = format!("{source}/helm-{version}-{os}-{arch}.tar.gz");
                Release { checksum: format!("{url}.sha256sum"), url, member: Some(format!("{os}-{arch}/helm")) }
            }
            Tool::Containerd | Tool::ContainerdShim | Tool::Ctr => {
                let archive = format!("containerd-static-{}-{os}-{arch}.tar.gz", version.trim_start_matches('v'));
                let url = format!("{source}/{version}/{archive}");
                Release { checksum: format!("{url}.sha256sum"), url, member: Some(format!("bin/{name}")) }
            }
        })
    }
}

/// Downloads `tools` into `cache`. It reports which ones it cannot download and why: they can still be built.
pub(super) fn download(tools: &[Tool], cache: &Path, sources: &Sources) {
    let mut failed = Vec::new();
    for tool in tools {
        // A server that failed once is not tried again.
        let source = sources.of(*tool);
        if failed.contains(&source) {
            continue;
        }
        if let Err(reason) = download_one(*tool, cache, sources) {
            say(&format!("no download: {reason:#}"));
            failed.push(source);
        }
    }
}

fn download_one(tool: Tool, cache: &Path, sources: &Sources) -> Result<()> {
    let release = sources.release(tool)?;
    // The checksum first: it is small, so an unreachable server is noticed within seconds.
    let checksums = fetch(&release.checksum, None, &["--max-time", "10"])?;
    let wanted = checksum_of(&checksums, &release.url)?;
    let started = Instant::now();
    let archive = cache.join(format!(".{}.download", tool.name()));
    fetch(&release.url, Some(&archive), &["--speed-limit", "10000", "--speed-time", "30"])?;
    let found = sha256(&fs::read(&archive)?);
    ensure!(found == wanted, "{} has the checksum {found}, it should have {wanted}", release.url);
    let binary = match &release.member {
        None => archive.clone(),
        Some(member) => extract(&archive, member, &cache.join(format!(".{}.extracted", tool.name())))?,
    };
    install(&binary, tool.name(), cache)?;
    let _ = fs::remove_file(archive);
    say(&format!("  {} {}: downloaded in {} s", tool.name(), tool.version()?, started.elapsed().as_secs()));
    Ok(())
}

/// Fetches into a file, or returns the text.
fn fetch(url: &str, target: Option<&Path>, limits: &[&str]) -> Result<String> {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--location", "--connect-timeout", "3"]).args(limits);
    if let Some(target) = target {
        curl.arg("--output").arg(target);
    }
    let output =
        curl.arg(url).stdin(Stdio::null()).output().context("there is no `curl` (to have downloads, install it)")?;
    if !output.status.success() {
        bail!("{url}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The checksum of the file at `url`: the file holds it alone, or in lines with the names of files.
fn checksum_of(checksums: &str, url: &str) -> Result<String> {
    let file = url.rsplit('/').next().unwrap_or(url);
    checksums
        .lines()
        .find_map(|line| {
            let mut words = line.split_whitespace();
            let sum = words.next()?;
            words.next().is_none_or(|name| name.trim_start_matches('*') == file).then(|| sum.to_ascii_lowercase())
        })
        .filter(|sum| sum.len() == 64 && sum.chars().all(|c| c.is_ascii_hexdigit()))
        .with_context(|| format!("no checksum of {url} is published where it should be"))
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn extract(archive: &Path, member: &str, target: &Path) -> Result<std::path::PathBuf> {
    let output = Command::new("tar")
        .args(["--extract", "--gzip", "--to-stdout", "--file"])
        .arg(archive)
        .arg(member)
        .stdin(Stdio::null())
        .stdout(fs::File::create(target)?)
        .output()
        .context("there is no `tar`")?;
    ensure!(output.status.success(), "cannot extract {member}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(target.to_owned())
}

/// The name of the platform in the releases of Go projects.
fn platform() -> (&'static str, &'static str) {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    (std::env::consts::OS, arch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Tool> {
        [Tool::CONTROL_PLANE, Tool::NODES].concat()
    }

    /// A mirror on disk, with the layout of the real releases.
    struct Mirror(tempfile::TempDir);

    impl Mirror {
        fn new() -> Self {
            let mirror = Self(tempfile::tempdir().unwrap());
            let sources = mirror.sources();
            for tool in all() {
                let release = sources.release(tool).unwrap();
                let path = |url: &str| std::path::PathBuf::from(url.strip_prefix("file://").unwrap());
                let (file, sums) = (path(&release.url), path(&release.checksum));
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                let content = format!("#!/bin/sh\necho {}\n", tool.name());
                match &release.member {
                    None => fs::write(&file, content).unwrap(),
                    Some(member) => {
                        let tree = mirror.0.path().join("tree");
                        let binary = tree.join(member);
                        fs::create_dir_all(binary.parent().unwrap()).unwrap();
                        fs::write(&binary, content).unwrap();
                        // With the programs before it, where one archive has several.
                        let top = member.split('/').next().unwrap();
                        let tar = Command::new("tar").arg("-C").arg(&tree).arg("-czf").arg(&file).arg(top).status();
                        assert!(tar.unwrap().success());
                    }
                }
                let sum = sha256(&fs::read(&file).unwrap());
                let name = file.file_name().unwrap().to_str().unwrap();
                let lines = match tool {
                    Tool::Etcd => format!("{:064}  another.tar.gz\n{sum}  {name}\n", 0),
                    _ if release.member.is_some() => format!("{sum}  {name}\n"),
                    _ => sum,
                };
                fs::write(sums, lines).unwrap();
            }
            mirror
        }

        fn sources(&self) -> Sources {
            let base = format!("file://{}", self.0.path().display());
            let below = |name| format!("{base}/{name}");
            Sources { kubernetes: below("k"), etcd: below("e"), helm: below("h"), containerd: below("c") }
        }
    }

    #[test]
    fn a_release_with_the_right_checksum_is_taken() {
        let mirror = Mirror::new();
        let cache = tempfile::tempdir().unwrap();
        download(&all(), cache.path(), &mirror.sources());
        for tool in all() {
            let said = Command::new(cache.path().join(tool.name())).output().unwrap();
            assert_eq!(String::from_utf8(said.stdout).unwrap().trim(), tool.name());
        }
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), all().len(), "nothing else is left");
    }

    #[test]
    fn a_release_with_another_checksum_is_refused() {
        let mirror = Mirror::new();
        let cache = tempfile::tempdir().unwrap();
        let release = mirror.sources().release(Tool::Kubectl).unwrap();
        fs::write(release.url.strip_prefix("file://").unwrap(), "something else").unwrap();
        let error = download_one(Tool::Kubectl, cache.path(), &mirror.sources()).unwrap_err();
        assert!(error.to_string().contains("has the checksum"), "{error}");
        assert!(!cache.path().join("kubectl").exists());
    }

    #[test]
    fn a_server_that_cannot_be_reached_leaves_the_cache_as_it_is() {
        let cache = tempfile::tempdir().unwrap();
        let nowhere = || "file:///nonexistent".to_owned();
        let sources = Sources { kubernetes: nowhere(), etcd: nowhere(), helm: nowhere(), containerd: nowhere() };
        download(&all(), cache.path(), &sources);
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0);
    }
}
