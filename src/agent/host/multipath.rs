//! dm-multipath: flushes maps, and warns about multipathd. The agent never changes `multipath.conf`.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::Mutex;

use super::{error::HostError, host_root::HostRoot, tools::HostTools};
use crate::{
    api::{HostWarning, reason::PreparedReason},
    ops::one_line,
};

const DAEMON: &str = "multipathd";
/// The timeout of multipath and multipathd.
const TOOL_TIMEOUT: Duration = Duration::from_secs(15);
/// The value of `find_multipaths` that makes multipathd ignore unknown LUNs.
const STRICT: &str = "strict";
/// The configuration of multipathd, below the root directory.
const CONFIG_FILES: [&str; 2] = ["etc/multipath.conf", "etc/multipath/conf.d"];

/// The first pause before multipathd is asked again if its answer may change soon. It doubles up to the maximum.
const FIRST_RECHECK: Duration = Duration::from_secs(5);
const MAX_RECHECK: Duration = Duration::from_secs(600);

/// The host's dm-multipath.
#[derive(Debug)]
pub struct Multipath {
    tools: HostTools,
    setting: Mutex<Option<CachedSetting>>,
    first_recheck: Duration,
}

/// The value of `find_multipaths` that multipathd reported.
#[derive(Debug)]
struct CachedSetting {
    source: ConfigSource,
    value: Option<String>,
    read_at: Instant,
    /// The pause before asking again although the source is the same; none if the value will not change.
    recheck_after: Option<Duration>,
}

impl CachedSetting {
    fn is_valid_for(&self, source: &ConfigSource) -> bool {
        self.source == *source && self.recheck_after.is_none_or(|pause| self.read_at.elapsed() < pause)
    }
}

/// The process and the files that multipathd's configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ConfigSource {
    pid: u32,
    /// The modification time of each file.
    modified: Vec<Option<SystemTime>>,
}

impl Multipath {
    /// The dm-multipath of the host with these tools.
    #[must_use]
    pub fn new(tools: HostTools) -> Self {
        Multipath { tools, setting: Mutex::default(), first_recheck: FIRST_RECHECK }
    }

    /// Removes a map; `exists` returns whether it still exists.
    ///
    /// # Errors
    /// If the map still exists afterwards. The result of the tool does not count.
    pub async fn flush(&self, map: &str, exists: impl Fn() -> bool) -> Result<(), HostError> {
        if !exists() {
            return Ok(());
        }
        let access = self.tools.access(DAEMON)?;
        let output = self.tools.run(&access, "multipath", &["-f", map], TOOL_TIMEOUT).await?;
        if !exists() {
            return Ok(());
        }
        let printed = format!("{}{}", output.stderr, output.stdout);
        Err(HostError::MapNotFlushed { map: map.to_owned(), message: first_line(&printed) })
    }

    /// Makes a map again that was removed; `exists` returns whether it exists.
    ///
    /// # Errors
    /// If the map does not exist afterwards. The result of the tool does not count.
    pub async fn restore(&self, map: &str, exists: impl Fn() -> bool) -> Result<(), HostError> {
        if exists() {
            return Ok(());
        }
        let access = self.tools.access(DAEMON)?;
        let output = self.tools.run(&access, DAEMON, &["add", "map", map], TOOL_TIMEOUT).await?;
        if exists() {
            return Ok(());
        }
        let printed = format!("{}{}", output.stderr, output.stdout);
        Err(HostError::MapNotRestored { map: map.to_owned(), message: first_line(&printed) })
    }

    /// Asks multipathd to take a disk as a path of its map, which it makes if its configuration wants it. Does nothing if
    /// multipathd does not run: it makes its maps when it starts.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub async fn add_disk(&self, disk: &str) -> Result<(), HostError> {
        if self.tools.daemon(DAEMON).is_some() {
            let access = self.tools.access(DAEMON)?;
            self.tools.run(&access, DAEMON, &["add", "path", disk], TOOL_TIMEOUT).await?;
        }
        Ok(())
    }

    /// Warnings about multipathd: it does not run, or ignores new LUNs.
    pub async fn warnings(&self) -> Vec<HostWarning> {
        let Some(pid) = self.tools.daemon(DAEMON) else {
            let message = format!(
                "multipathd does not run: every path is a disk of its own, and none takes over for another; install and \
                 start multipath-tools (device-mapper-multipath){}",
                self.tools.ignored_daemon(DAEMON)
            );
            return vec![HostWarning { reason: PreparedReason::MultipathdMissing, message }];
        };
        match self.find_multipaths(pid).await.as_deref() {
            Some(STRICT) => {
                let message = "multipathd has find_multipaths \"strict\" and ignores LUNs that are not listed in \
                               /etc/multipath/wwids; set find_multipaths to no or greedy in the defaults of \
                               /etc/multipath.conf, and run multipathd reconfigure";
                vec![HostWarning { reason: PreparedReason::FindMultipaths, message: message.into() }]
            }
            _ => Vec::new(),
        }
    }

    /// The value of `find_multipaths` that multipathd uses. It is cached, to start no tool on an idle host.
    ///
    /// multipathd reads a changed file only when an administrator tells it to, and nothing announces that. So after a
    /// change of a file it is asked again from time to time; also while it does not answer, and while its value causes a
    /// warning.
    async fn find_multipaths(&self, pid: u32) -> Option<String> {
        let access = self.tools.access(DAEMON).ok()?;
        let root = self.tools.root(&access).ok()?;
        let modified = CONFIG_FILES.iter().map(|file| modified(&root, file)).collect();
        let source = ConfigSource { pid, modified };
        let mut cached = self.setting.lock().await;
        if let Some(setting) = cached.as_ref().filter(|setting| setting.is_valid_for(&source)) {
            return setting.value.clone();
        }
        let answer = self.tools.run(&access, DAEMON, &["show", "config", "local"], TOOL_TIMEOUT).await;
        let value = answer.as_ref().ok().and_then(|output| find_multipaths(&output.stdout));
        let recheck_after = match &*cached {
            Some(last) if last.source == source => last.recheck_after.map(next_recheck),
            Some(last) if last.source.pid == source.pid => Some(self.first_recheck),
            _ => None,
        };
        let may_change = answer.is_err() || value.as_deref() == Some(STRICT);
        let recheck_after = recheck_after.or_else(|| may_change.then_some(self.first_recheck));
        *cached = Some(CachedSetting { source, value: value.clone(), read_at: Instant::now(), recheck_after });
        value
    }
}

fn next_recheck(pause: Duration) -> Duration {
    (pause * 2).min(MAX_RECHECK)
}

/// Whether a device-mapper map with this name exists.
#[must_use]
pub fn map_exists(sys: &Path, name: &str) -> bool {
    let devices = fs::read_dir(sys.join("class/block")).into_iter().flatten().flatten();
    devices
        .filter_map(|device| fs::read_to_string(device.path().join("dm/name")).ok())
        .any(|found| found.trim_end() == name)
}

/// Whether something is stacked on a disk, such as its map.
#[must_use]
pub fn has_holder(sys: &Path, disk: &str) -> bool {
    let holders = sys.join("class/block").join(disk).join("holders");
    fs::read_dir(holders).is_ok_and(|mut holders| holders.next().is_some())
}

fn modified(root: &HostRoot, file: &str) -> Option<SystemTime> {
    root.metadata(file).and_then(|metadata| metadata.modified()).ok()
}

/// The first line that a tool has printed, for a message.
fn first_line(printed: &str) -> String {
    one_line(printed.lines().next().unwrap_or("multipath does not say why"))
}

/// The value of `find_multipaths` in the section `defaults` of a printed configuration.
fn find_multipaths(config: &str) -> Option<String> {
    let defaults = config.lines().map(str::trim).skip_while(|line| !line.starts_with("defaults")).skip(1);
    let mut settings = defaults.take_while(|line| !line.starts_with('}'));
    let value = settings.find_map(|line| line.strip_prefix("find_multipaths"))?;
    Some(value.trim().trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::{
        agent::host::processes::fake::process,
        api::reason::PathReason,
        fuzz::{Parsed, fuzz, lossy},
    };

    const STRICT_CONFIG: &str = "defaults {\n\tverbosity 2\n\tfind_multipaths \"strict\"\n}\nblacklist {\n}\n";

    /// A host whose multipathd answers with this configuration, and logs each call.
    fn host(root: &Path, config: &str) -> HostTools {
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::create_dir_all(root.join("etc")).unwrap();
        process(&root.join("proc"), "1", "systemd", "host");
        process(&root.join("proc"), "50", "multipathd", "host");
        fs::write(root.join("config"), config).unwrap();
        let script = format!("#!/bin/sh\necho asked >> {0}/asked\ncat {0}/config\n", root.display());
        fs::write(root.join("bin/multipathd"), script).unwrap();
        fs::set_permissions(root.join("bin/multipathd"), fs::Permissions::from_mode(0o755)).unwrap();
        HostTools::in_directory(root)
    }

    fn reasons(warnings: &[HostWarning]) -> Vec<PreparedReason> {
        warnings.iter().map(|warning| warning.reason).collect()
    }

    #[tokio::test]
    async fn strict_find_multipaths_is_warned_about_and_read_once() {
        let root = tempfile::tempdir().unwrap();
        let multipath = Multipath::new(host(root.path(), STRICT_CONFIG));
        for _ in 0..3 {
            assert_eq!(reasons(&multipath.warnings().await), [PreparedReason::FindMultipaths]);
        }
        let asked = || fs::read_to_string(root.path().join("asked")).unwrap().lines().count();
        assert_eq!(asked(), 1);
        fs::write(root.path().join("config"), STRICT_CONFIG.replace("strict", "yes")).unwrap();
        fs::write(root.path().join("etc/multipath.conf"), "defaults {}").unwrap();
        assert_eq!(reasons(&multipath.warnings().await), [], "the file has changed");
        assert_eq!(asked(), 2);
    }

    #[tokio::test]
    async fn a_setting_that_multipathd_reads_later_is_still_noticed() {
        let root = tempfile::tempdir().unwrap();
        let mut multipath = Multipath::new(host(root.path(), &STRICT_CONFIG.replace("strict", "no")));
        multipath.first_recheck = Duration::ZERO;
        assert_eq!(reasons(&multipath.warnings().await), []);
        fs::write(root.path().join("etc/multipath.conf"), "defaults {}").unwrap();
        assert_eq!(reasons(&multipath.warnings().await), [], "it has not been told to read it");
        fs::write(root.path().join("config"), STRICT_CONFIG).unwrap();
        assert_eq!(reasons(&multipath.warnings().await), [PreparedReason::FindMultipaths]);
        fs::write(root.path().join("config"), STRICT_CONFIG.replace("strict", "greedy")).unwrap();
        assert_eq!(reasons(&multipath.warnings().await), []);
    }

    #[tokio::test]
    async fn multipathd_is_asked_less_often_while_a_warning_lasts() {
        let root = tempfile::tempdir().unwrap();
        let recheck_after = async |multipath: Multipath| {
            multipath.warnings().await;
            multipath.setting.lock().await.as_ref().and_then(|setting| setting.recheck_after)
        };
        assert_eq!(recheck_after(Multipath::new(host(root.path(), STRICT_CONFIG))).await, Some(FIRST_RECHECK));
        let settled = Multipath::new(host(root.path(), &STRICT_CONFIG.replace("strict", "no")));
        assert_eq!(recheck_after(settled).await, None, "an idle agent starts no tool");
        assert_eq!([next_recheck(FIRST_RECHECK), next_recheck(MAX_RECHECK)], [FIRST_RECHECK * 2, MAX_RECHECK]);
    }

    #[tokio::test]
    async fn a_multipathd_that_does_not_run_is_warned_about() {
        let root = tempfile::tempdir().unwrap();
        let multipath = Multipath::new(HostTools::in_directory(root.path()));
        assert_eq!(reasons(&multipath.warnings().await), [PreparedReason::MultipathdMissing]);
        process(&root.path().join("proc"), "1", "systemd", "host");
        process(&root.path().join("proc"), "70", "multipathd", "pod");
        let ignored = multipath.warnings().await.remove(0).message;
        assert!(ignored.contains("; a process is named multipathd and is ignored, because it is in "), "{ignored}");
    }

    #[test]
    fn only_the_defaults_section_counts() {
        assert_eq!(find_multipaths(STRICT_CONFIG).as_deref(), Some("strict"));
        assert_eq!(find_multipaths("blacklist {\n}\ndefaults {\n\tfind_multipaths yes\n}\n").as_deref(), Some("yes"));
        assert_eq!(find_multipaths("defaults {\n}\noverrides {\n\tfind_multipaths yes\n}\n"), None);
        assert_eq!(find_multipaths(""), None);
    }

    #[tokio::test]
    async fn a_map_is_made_again_only_if_it_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let multipath = Multipath::new(host(root.path(), ""));
        let made = || root.path().join("asked").exists();
        multipath.restore("mpatha", || true).await.unwrap();
        assert!(!made(), "it exists");
        multipath.restore("mpatha", made).await.unwrap();
        assert!(made());
        let error = multipath.restore("mpatha", || false).await.unwrap_err();
        assert!(error.to_string().starts_with("the multipath map mpatha was not made again: "), "{error}");
    }

    #[tokio::test]
    async fn multipathd_is_asked_for_the_map_of_a_disk_only_while_it_runs() {
        let root = tempfile::tempdir().unwrap();
        let multipath = Multipath::new(host(root.path(), ""));
        multipath.add_disk("sda").await.unwrap();
        assert_eq!(fs::read_to_string(root.path().join("asked")).unwrap(), "asked\n");
        process(&root.path().join("proc"), "50", "another", "host");
        multipath.add_disk("sda").await.unwrap();
        assert_eq!(fs::read_to_string(root.path().join("asked")).unwrap(), "asked\n");
        let sys = root.path().join("sys");
        assert!(!has_holder(&sys, "sda"));
        fs::create_dir_all(sys.join("class/block/sda/holders/dm-0")).unwrap();
        assert!(has_holder(&sys, "sda"));
    }

    #[tokio::test]
    async fn a_map_is_flushed_only_when_the_kernel_says_so() {
        let root = tempfile::tempdir().unwrap();
        let dm = root.path().join("sys/class/block/dm-3/dm");
        fs::create_dir_all(&dm).unwrap();
        fs::write(dm.join("name"), "mpatha\n").unwrap();
        let host = host(root.path(), "");
        fs::copy("/bin/true", root.path().join("bin/multipath")).unwrap();
        let multipath = Multipath::new(host);
        let sys = root.path().join("sys");
        let error = multipath.flush("mpatha", || map_exists(&sys, "mpatha")).await.unwrap_err();
        assert_eq!(error.reason(), PathReason::InUse);
        assert_eq!(multipath.flush("mpathb", || map_exists(&sys, "mpathb")).await, Ok(()));
    }

    fuzz! {
        any_configuration_of_multipathd_is_read: "multipath-config" => |input| {
            Parsed::new().texts(find_multipaths(&lossy(input)))
        };
        any_complaint_of_multipath_fits_a_message: "multipath-flush" => |input| {
            Parsed::new().shown([first_line(&lossy(input))])
        };
    }
}
