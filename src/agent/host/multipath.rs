//! dm-multipath, as far as the agent acts on it or warns of it: `multipath.conf` stays the administrator's.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::Mutex;

use super::tools::Host;
use crate::{
    agent::initiator::PathError,
    api::{
        HostWarning,
        reason::{PathReason, PreparedReason},
    },
};

/// The daemon.
const DAEMON: &str = "multipathd";
/// How long multipath and multipathd may take to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(15);
/// The `find_multipaths` with which it ignores what it has not seen before.
const IGNORES: &str = "strict";
/// Where its settings are, below the root.
const SETTINGS: [&str; 2] = ["etc/multipath.conf", "etc/multipath/conf.d"];

/// How soon multipathd is asked again for what may not last; doubled each time...
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// ...up to this.
const LAST_PAUSE: Duration = Duration::from_secs(600);

/// The host's dm-multipath.
#[derive(Debug)]
pub struct Multipath {
    host: Host,
    known: Mutex<Option<Known>>,
    first_pause: Duration,
}

/// What multipathd has said of its settings.
#[derive(Debug)]
struct Known {
    /// Of which daemon and files that is known.
    of: Seen,
    value: Option<String>,
    asked: Instant,
    /// When it has to be asked again though nothing has changed; none: that is how it is.
    again: Option<Duration>,
}

impl Known {
    fn holds_for(&self, seen: &Seen) -> bool {
        self.of == *seen && self.again.is_none_or(|pause| self.asked.elapsed() < pause)
    }
}

/// What makes multipathd's settings others when it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    pid: u32,
    changed: Vec<Option<SystemTime>>,
}

impl Multipath {
    /// That of a host.
    #[must_use]
    pub fn new(host: Host) -> Self {
        Multipath { host, known: Mutex::default(), first_pause: FIRST_PAUSE }
    }

    /// Removes a map; `is_there` tells whether it exists.
    ///
    /// # Errors
    /// `InUse` when it is still there afterwards, whatever the tool says.
    pub async fn flush(&self, map: &str, is_there: impl Fn() -> bool) -> Result<(), PathError> {
        if !is_there() {
            return Ok(());
        }
        let way = self.host.way(DAEMON)?;
        let ended = self.host.run(&way, "multipath", &["-f", map], ANSWERS_WITHIN).await?;
        if !is_there() {
            return Ok(());
        }
        let said = format!("{}{}", ended.stderr, ended.stdout);
        let said = said.lines().next().unwrap_or("multipath does not say why").trim();
        Err(PathError::new(PathReason::InUse, format!("the multipath map {map} cannot be removed: {said}")))
    }

    /// What wants attention.
    pub async fn warnings(&self) -> Vec<HostWarning> {
        let Some(pid) = self.host.daemon(DAEMON) else {
            let message = "multipathd does not run: every path is a disk of its own, and none takes over for another; \
                           install and start multipath-tools (device-mapper-multipath)";
            return vec![HostWarning { reason: PreparedReason::MultipathdMissing, message: message.into() }];
        };
        match self.find_multipaths(pid).await.as_deref() {
            Some(IGNORES) => {
                let message = "multipathd has find_multipaths \"strict\" and ignores LUNs that are not listed in \
                               /etc/multipath/wwids; set find_multipaths to no or greedy in the defaults of \
                               /etc/multipath.conf, and run multipathd reconfigure";
                vec![HostWarning { reason: PreparedReason::FindMultipaths, message: message.into() }]
            }
            _ => Vec::new(),
        }
    }

    /// The setting of the daemon, which is asked once for each of its lives. Files that change in that time count when an
    /// administrator has it read them, which nothing announces: from then on it is asked now and then, as it is while it
    /// does not answer, or while what it says is warned of.
    async fn find_multipaths(&self, pid: u32) -> Option<String> {
        let way = self.host.way(DAEMON).ok()?;
        let root = self.host.root(&way);
        let seen = Seen { pid, changed: SETTINGS.iter().map(|file| changed(&root.join(file))).collect() };
        let mut known = self.known.lock().await;
        if let Some(known) = known.as_ref().filter(|known| known.holds_for(&seen)) {
            return known.value.clone();
        }
        let answer = self.host.run(&way, DAEMON, &["show", "config", "local"], ANSWERS_WITHIN).await;
        let value = answer.as_ref().ok().and_then(|ended| find_multipaths(&ended.stdout));
        let again = match &*known {
            Some(before) if before.of == seen => before.again.map(longer),
            Some(before) if before.of.pid == seen.pid => Some(self.first_pause),
            _ => None,
        };
        let may_not_last = answer.is_err() || value.as_deref() == Some(IGNORES);
        let again = again.or_else(|| may_not_last.then_some(self.first_pause));
        *known = Some(Known { of: seen, value: value.clone(), asked: Instant::now(), again });
        value
    }
}

fn longer(pause: Duration) -> Duration {
    (pause * 2).min(LAST_PAUSE)
}

/// Whether a device-mapper device of that name exists.
#[must_use]
pub fn map_exists(sys: &Path, name: &str) -> bool {
    let devices = fs::read_dir(sys.join("class/block")).into_iter().flatten().flatten();
    let name_of = |device: PathBuf| fs::read_to_string(device.join("dm/name")).unwrap_or_default();
    devices.map(|device| device.path()).any(|device| name_of(device).trim_end() == name)
}

fn changed(file: &Path) -> Option<SystemTime> {
    fs::metadata(file).and_then(|metadata| metadata.modified()).ok()
}

/// `find_multipaths` in the section `defaults` of a configuration as multipathd prints it.
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

    const STRICT: &str = "defaults {\n\tverbosity 2\n\tfind_multipaths \"strict\"\n}\nblacklist {\n}\n";

    /// A host whose multipathd answers with a configuration, and counts how often it was asked.
    fn host(root: &Path, config: &str) -> Host {
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::create_dir_all(root.join("proc/50")).unwrap();
        fs::write(root.join("proc/50/comm"), "multipathd\n").unwrap();
        fs::write(root.join("config"), config).unwrap();
        let script = format!("#!/bin/sh\necho asked >> {0}/asked\ncat {0}/config\n", root.display());
        fs::write(root.join("bin/multipathd"), script).unwrap();
        fs::set_permissions(root.join("bin/multipathd"), fs::Permissions::from_mode(0o755)).unwrap();
        Host::in_directory(root)
    }

    fn reasons(warnings: &[HostWarning]) -> Vec<PreparedReason> {
        warnings.iter().map(|warning| warning.reason).collect()
    }

    #[tokio::test]
    async fn find_multipaths_that_ignores_luns_is_warned_of_and_asked_for_once() {
        let root = tempfile::tempdir().unwrap();
        let multipath = Multipath::new(host(root.path(), STRICT));
        for _ in 0..3 {
            assert_eq!(reasons(&multipath.warnings().await), [PreparedReason::FindMultipaths]);
        }
        let asked = || fs::read_to_string(root.path().join("asked")).unwrap().lines().count();
        assert_eq!(asked(), 1);
        fs::write(root.path().join("config"), STRICT.replace("strict", "yes")).unwrap();
        fs::write(root.path().join("etc/multipath.conf"), "defaults {}").unwrap();
        assert_eq!(reasons(&multipath.warnings().await), [], "the file has changed");
        assert_eq!(asked(), 2);
    }

    #[tokio::test]
    async fn what_multipathd_reads_later_than_it_was_written_is_seen_all_the_same() {
        let root = tempfile::tempdir().unwrap();
        let mut multipath = Multipath::new(host(root.path(), &STRICT.replace("strict", "no")));
        multipath.first_pause = Duration::ZERO;
        assert_eq!(reasons(&multipath.warnings().await), []);
        fs::write(root.path().join("etc/multipath.conf"), "defaults {}").unwrap();
        assert_eq!(reasons(&multipath.warnings().await), [], "it has not been told to read it");
        fs::write(root.path().join("config"), STRICT).unwrap();
        assert_eq!(reasons(&multipath.warnings().await), [PreparedReason::FindMultipaths]);
        fs::write(root.path().join("config"), STRICT.replace("strict", "greedy")).unwrap();
        assert_eq!(reasons(&multipath.warnings().await), []);
    }

    #[tokio::test]
    async fn a_multipathd_that_is_warned_of_is_asked_less_and_less_often() {
        let root = tempfile::tempdir().unwrap();
        let again = async |multipath: Multipath| {
            multipath.warnings().await;
            multipath.known.lock().await.as_ref().and_then(|known| known.again)
        };
        assert_eq!(again(Multipath::new(host(root.path(), STRICT))).await, Some(FIRST_PAUSE));
        let settled = Multipath::new(host(root.path(), &STRICT.replace("strict", "no")));
        assert_eq!(again(settled).await, None, "an idle agent starts no tool");
        assert_eq!([longer(FIRST_PAUSE), longer(LAST_PAUSE)], [FIRST_PAUSE * 2, LAST_PAUSE]);
    }

    #[tokio::test]
    async fn a_multipathd_that_does_not_run_is_warned_of() {
        let root = tempfile::tempdir().unwrap();
        let multipath = Multipath::new(Host::in_directory(root.path()));
        assert_eq!(reasons(&multipath.warnings().await), [PreparedReason::MultipathdMissing]);
    }

    #[test]
    fn only_the_defaults_count() {
        assert_eq!(find_multipaths(STRICT).as_deref(), Some("strict"));
        assert_eq!(find_multipaths("blacklist {\n}\ndefaults {\n\tfind_multipaths yes\n}\n").as_deref(), Some("yes"));
        assert_eq!(find_multipaths("defaults {\n}\noverrides {\n\tfind_multipaths yes\n}\n"), None);
        assert_eq!(find_multipaths(""), None);
    }

    #[tokio::test]
    async fn a_map_is_gone_only_when_the_kernel_says_so() {
        let root = tempfile::tempdir().unwrap();
        let dm = root.path().join("sys/class/block/dm-3/dm");
        fs::create_dir_all(&dm).unwrap();
        fs::write(dm.join("name"), "mpatha\n").unwrap();
        let host = host(root.path(), "");
        fs::copy("/bin/true", root.path().join("bin/multipath")).unwrap();
        let multipath = Multipath::new(host);
        let sys = root.path().join("sys");
        let error = multipath.flush("mpatha", || map_exists(&sys, "mpatha")).await.unwrap_err();
        assert_eq!(error.reason, PathReason::InUse);
        assert_eq!(multipath.flush("mpathb", || map_exists(&sys, "mpathb")).await, Ok(()));
    }
}
