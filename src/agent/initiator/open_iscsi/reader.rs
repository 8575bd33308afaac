//! Everything that is read of a host, put together.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};

use super::sessions::{SessionEntry, sessions};
use crate::{
    agent::{
        host::{
            device_mapper::{Control, DeviceMapper, MapEntry, maps},
            device_users::InQuestion,
            interfaces,
            mount_points::Roots,
            sysfs::{Block, Number},
        },
        initiator::{DeviceUser, Disk, Facts, InterfaceFilter, Inventory, Map, PathError, Session},
    },
    api::reason::PathReason,
};

/// Reads a host. It keeps nothing: every reading is new.
#[derive(Clone, Debug)]
pub struct Reader {
    roots: Roots,
    mapper: Arc<dyn DeviceMapper>,
}

impl Reader {
    /// A reader of the host whose file systems are there.
    #[must_use]
    pub fn new(roots: Roots) -> Self {
        let mapper = Arc::new(Control::new(&roots.dev));
        Reader { roots, mapper }
    }

    /// The same with another device mapper.
    #[cfg(test)]
    pub(super) fn with_mapper(roots: Roots, mapper: impl DeviceMapper + 'static) -> Self {
        Reader { roots, mapper: Arc::new(mapper) }
    }

    /// Sessions, disks and maps, and what uses the disks of some sessions, by number. See
    /// [`Initiator::inventory`](crate::agent::initiator::Initiator::inventory).
    ///
    /// # Errors
    /// When sysfs cannot be read.
    pub async fn inventory(&self, in_question: &BTreeSet<u32>) -> Result<Inventory, PathError> {
        let reader = self.clone();
        let in_question = in_question.clone();
        read(move || reader.read(&in_question)).await
    }

    /// The sessions alone, without what uses their disks.
    ///
    /// # Errors
    /// When sysfs cannot be read.
    pub async fn sessions(&self) -> Result<Vec<Session>, PathError> {
        let sys = self.roots.sys.clone();
        let sessions = read(move || sessions(&sys)).await?;
        Ok(sessions.into_iter().map(|session| whole_session(session, &BTreeMap::new())).collect())
    }

    /// The host's interfaces, and warnings about them; the initiator's part is left open.
    ///
    /// # Errors
    /// When the kernel does not answer, or its settings cannot be read.
    pub async fn facts(&self, named: &InterfaceFilter) -> Result<Facts, PathError> {
        let interfaces = interfaces::read(&self.roots.sys, named).await?;
        let warnings = interfaces::warnings(&self.roots.proc, named, &interfaces)
            .map_err(|error| PathError::new(PathReason::Internal, error.to_string()))?;
        Ok(Facts { interfaces, warnings, ..Facts::default() })
    }

    fn read(&self, in_question: &BTreeSet<u32>) -> io::Result<Inventory> {
        let sys = &self.roots.sys;
        let sessions = sessions(sys)?;
        let maps = maps(sys, &*self.mapper, sessions.iter().flat_map(|session| &session.disks))?;
        let users = {
            let asked = sessions.iter().filter(|session| in_question.contains(&session.id));
            InQuestion::of(asked.flat_map(|session| &session.disks), &maps)?.look(&self.roots)
        };
        Ok(Inventory {
            sessions: sessions.into_iter().map(|session| whole_session(session, &users)).collect(),
            maps: maps.into_iter().map(|map| whole_map(map, &users)).collect(),
        })
    }
}

/// Hundreds of files, each for microseconds; but processes may be many, and sysfs waits for who changes it.
async fn read<T: Send + 'static>(reading: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, PathError> {
    tokio::task::spawn_blocking(reading)
        .await
        .map_err(|error| PathError::new(PathReason::Internal, format!("reading the host was broken off: {error}")))?
        .map_err(|error| PathError::new(PathReason::Internal, error.to_string()))
}

fn whole_session(entry: SessionEntry, users: &BTreeMap<Number, Vec<DeviceUser>>) -> Session {
    let SessionEntry { id, path, record, state, credentials, replacement_timeout, disks } = entry;
    let disk = |disk: Block| Disk { users: users.get(&disk.number).cloned(), name: disk.name };
    Session { id, path, record, state, credentials, replacement_timeout, disks: disks.into_iter().map(disk).collect() }
}

fn whole_map(entry: MapEntry, users: &BTreeMap<Number, Vec<DeviceUser>>) -> Map {
    let MapEntry { block, name, wwid, open_count, paths, partitions: _, unknown } = entry;
    let users = unknown
        .into_iter()
        .map(DeviceUser::Unknown)
        .chain(users.get(&block.number).into_iter().flatten().cloned())
        .collect();
    Map { name, wwid, open_count, users, paths }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::agent::initiator::{
        MapPath, SessionState,
        open_iscsi::fixtures::{Host, Mute},
    };

    const A: &str = "iqn.2003-01.org.example:a";
    const BOTH_ACTIVE: (&str, &str) = ("multipath", "2 0 0 0 1 1 A 0 2 2 8:0 A 0 0 1 8:16 A 0 0 1 ");
    const SECOND_FAILED: (&str, &str) = ("multipath", "2 0 0 0 1 1 A 0 2 2 8:0 A 0 0 1 8:16 F 2 0 1 ");
    const MAP: (&str, &str) = ("dm-0", "253:0");
    const UUID: &str = "mpath-3600140512345678";

    /// Two sessions to one LUN, and a map over both disks.
    fn two_paths(open_count: u32, status: (&str, &str)) -> Host {
        let mut host = Host::new();
        host.session(1, "mb.ens1", A, "10.0.1.10").disk(1, 0, "sda", "8:0");
        host.session(2, "mb.ens2", A, "10.0.2.10").disk(2, 0, "sdb", "8:16");
        host.map(MAP, "mpatha", UUID, open_count, status);
        host.stack("dm-0", "sda").stack("dm-0", "sdb");
        host
    }

    fn all() -> BTreeSet<u32> {
        BTreeSet::from([1, 2])
    }

    fn read(host: &Host) -> Inventory {
        host.reader().read(&all()).unwrap()
    }

    /// What uses the disks of session 1, and the first map.
    fn users(host: &Host) -> (Vec<String>, Vec<String>) {
        let inventory = read(host);
        let words = |users: &[DeviceUser]| users.iter().map(ToString::to_string).collect();
        let disk = inventory.sessions[0].disks[0].users.as_deref().unwrap();
        (words(disk), inventory.maps.first().map(|map| words(&map.users)).unwrap_or_default())
    }

    #[test]
    fn a_real_host_is_read_with_ipv6_several_luns_chap_and_lost_sessions() {
        let inventory = read(&Host::recorded(include_str!("fixtures/two-lost.txt")));
        let sessions: Vec<String> = inventory
            .sessions
            .iter()
            .map(|session| {
                let disks: Vec<&str> = session.disks.iter().map(|disk| &*disk.name).collect();
                let chap = if session.credentials.is_some() { " with CHAP" } else { "" };
                format!("{} {} {:?} {}{chap}", session.id, session.path, session.state, disks.join(" "))
            })
            .collect();
        let expected = [
            "1 iqn.2026-11.com.example:alpha at 10.0.101.1:3260,1 through san1 Free sda sdb",
            "2 iqn.2026-11.com.example:alpha at [fd00:102::1]:3260,1 through san2 LoggedIn sdc sdd",
            "3 iqn.2026-11.com.example:beta at [fd00:101::2]:3260,1 through san1 LoggedIn sde",
            "4 iqn.2026-11.com.example:beta at 10.0.102.2:3260,1 through san2 Free sdf",
            "5 iqn.2026-11.com.example:one-way at 10.0.101.3:3260,1 through san1 LoggedIn sdg with CHAP",
            "6 iqn.2026-11.com.example:mutual at 10.0.102.3:3260,1 through san2 LoggedIn sdh with CHAP",
            "7 eui.02004567a425678d at 10.0.101.4:3260,1 through san1 LoggedIn sdi",
            "8 naa.52004567ba64678d at [fd00:102::4]:3260,1 through san2 LoggedIn sdj",
        ];
        assert_eq!(sessions, expected);
        assert!(inventory.sessions.iter().all(|session| session.is_own() && session.replacement_timeout == Some(5)));

        let path = |path: &MapPath| format!("{}{}", if path.active { "" } else { "!" }, path.disk);
        let maps: Vec<(String, Vec<String>)> =
            inventory.maps.iter().map(|map| (map.wwid.clone(), map.paths.iter().map(path).collect())).collect();
        let expected = [
            ("360000000000000000e00000000020002", vec!["!sdb", "sdd"]),
            ("360000000000000000e00000000020001", vec!["!sda", "sdc"]),
            ("360000000000000000e00000000030001", vec!["sde", "!sdf"]),
            ("360000000000000000e00000000050001", vec!["sdg"]),
            ("360000000000000000e00000000040001", vec!["sdh"]),
            ("360000000000000000e00000000010001", vec!["sdi"]),
            ("360000000000000000e00000000060001", vec!["sdj"]),
        ];
        let expected = expected.map(|(wwid, paths)| (wwid.to_owned(), paths.into_iter().map(str::to_owned).collect()));
        assert_eq!(maps, expected);
        assert!(inventory.maps.iter().all(|map| map.open_count == 0 && *map.name == *map.wwid));
    }

    #[test]
    fn a_map_has_its_name_wwid_open_count_and_the_state_of_each_path() {
        let host = two_paths(1, SECOND_FAILED);
        let path = |disk: &str, active| MapPath { disk: disk.into(), active };
        let expected = Map {
            name: "mpatha".into(),
            wwid: "3600140512345678".into(),
            open_count: 1,
            users: vec![],
            paths: vec![path("sda", true), path("sdb", false)],
        };
        assert_eq!(read(&host).maps, [expected]);
    }

    #[test]
    fn an_unused_map_is_no_use_of_its_disks() {
        assert_eq!(users(&two_paths(0, BOTH_ACTIVE)), (vec![], vec![]));
    }

    #[test]
    fn nobody_looks_at_the_use_of_devices_that_are_not_in_question() {
        let host = two_paths(1, BOTH_ACTIVE);
        host.process(7, "qemu", "1", "9 1 253:0 / /data rw - ext4 /dev/mapper/mpatha rw\n", &[]);
        let inventory = host.reader().read(&BTreeSet::new()).unwrap();
        assert!(inventory.sessions.iter().all(|session| session.disks.iter().all(|disk| disk.users.is_none())));
        assert_eq!((inventory.maps[0].open_count, &*inventory.maps[0].users), (1, &[][..]));
        let of_second = host.reader().read(&BTreeSet::from([2])).unwrap();
        let disks: Vec<_> = of_second.sessions.iter().map(|session| session.disks[0].users.clone()).collect();
        assert_eq!(disks, [None, Some(vec![])]);
        assert_eq!(of_second.maps[0].users, [DeviceUser::Mount("/data".into())]);
    }

    #[test]
    fn maps_of_several_luns_are_told_apart() {
        let mut host = two_paths(0, BOTH_ACTIVE);
        host.disk(1, 1, "sdc", "8:32");
        host.map(("dm-1", "253:1"), "mpathb", "mpath-3600b", 2, ("multipath", "2 0 0 0 1 1 A 0 1 0 8:32 A 0 "));
        host.stack("dm-1", "sdc");
        let found: Vec<_> = read(&host)
            .maps
            .iter()
            .map(|map| (map.wwid.clone(), map.open_count, map.paths.iter().filter(|path| path.active).count()))
            .collect();
        assert_eq!(found, [("3600140512345678".to_owned(), 0, 2), ("3600b".to_owned(), 2, 1)]);
    }

    #[test]
    fn a_map_that_goes_while_it_is_read_is_left_out() {
        let host = two_paths(0, BOTH_ACTIVE);
        // It is still in sysfs, and the device mapper does not know it any more.
        let forgetful = Host::new();
        let reader = Reader::with_mapper(host.roots(), forgetful.mapper());
        assert_eq!(reader.read(&all()).unwrap().maps, []);
    }

    #[test]
    fn a_map_of_which_nothing_can_be_learnt_is_taken_for_used_and_for_no_other_path() {
        let check = |inventory: Inventory, words: &str| {
            let map = &inventory.maps[0];
            assert!(map.open_count > 0 && map.paths.iter().all(|path| !path.active), "{map:?}");
            assert!(map.users[0].to_string().contains(words), "{map:?}");
        };
        let host = two_paths(0, BOTH_ACTIVE);
        let mute = Reader::with_mapper(host.roots(), Mute);
        check(mute.read(&BTreeSet::new()).unwrap(), "perhaps in use (cannot open /dev/mapper/control");
        check(read(&two_paths(0, ("multipath", "2 0 0 0 1 1"))), "found \"2 0 0 0 1 1\"");
    }

    #[test]
    fn without_maps_the_device_mapper_is_not_asked() {
        let host = Host::new();
        host.session(1, "mb.ens1", A, "10.0.1.10").disk(1, 0, "sda", "8:0");
        let inventory = Reader::with_mapper(host.roots(), Mute).read(&all()).unwrap();
        assert_eq!((inventory.sessions.len(), inventory.maps.len()), (1, 0));
        assert_eq!(inventory.sessions[0].state, SessionState::LoggedIn);
    }

    #[test]
    fn a13b_what_is_stacked_is_named_by_what_is_on_top() {
        let mut host = two_paths(1, BOTH_ACTIVE);
        host.map(("dm-3", "253:3"), "luks", "CRYPT-LUKS2-1", 1, ("crypt", ""));
        host.map(("dm-4", "253:4"), "vg-data", "LVM-1", 0, ("linear", ""));
        host.stack("dm-3", "dm-0").stack("dm-4", "dm-3");
        assert_eq!(users(&host), (vec![], vec!["held by dm-4 (vg-data)".to_owned()]));

        let host = Host::new();
        host.session(1, "mb.ens1", A, "10.0.1.10").disk(1, 0, "sda", "8:0").partition("sda", "sda1", "8:1");
        host.device("md127", "9:127", &[]).stack("md127", "sda/sda1");
        assert_eq!(users(&host).0, ["held by md127"], "also on a partition");
    }

    #[test]
    fn maps_that_kpartx_made_of_partitions_keep_a_map_only_when_they_are_used() {
        let partitioned = |open_count| {
            let mut host = two_paths(1, BOTH_ACTIVE);
            host.map(("dm-5", "253:5"), "mpatha-part1", &format!("part1-{UUID}"), open_count, ("linear", ""));
            host.stack("dm-5", "dm-0");
            host
        };
        let idle = partitioned(0);
        assert_eq!((read(&idle).maps[0].open_count, users(&idle)), (0, (vec![], vec![])));
        let used = partitioned(1);
        assert_eq!(read(&used).maps[0].open_count, 1);
        assert_eq!(users(&used).1, ["held by dm-5 (mpatha-part1)"]);
    }

    #[test]
    fn a13b_mounts_count_in_every_mount_namespace_and_also_by_source() {
        let disk = || {
            let host = Host::new();
            host.session(1, "mb.ens1", A, "10.0.1.10").disk(1, 0, "sda", "8:0").partition("sda", "sda1", "8:1");
            host.process(1, "init", "10", "20 1 254:0 / / rw - ext4 /dev/vda rw\n", &[]);
            host
        };
        assert_eq!(users(&disk()).0, [""; 0]);
        let cases = [
            ("30 1 8:0 / /data rw,relatime shared:1 - ext4 /dev/sda rw", "mounted at /data"),
            ("30 1 8:1 / /mnt/a\\040b rw - xfs /dev/sda1 rw", "mounted at /mnt/a b"),
            ("30 1 0:55 /@ /data rw - btrfs /dev/sda1 rw,subvol=/@", "mounted at /data"),
        ];
        for (line, expected) in cases {
            let host = disk();
            host.process(70, "pod", "11", &format!("{line}\n"), &[]);
            assert_eq!(users(&host).0, [expected], "{line}");
        }
        let host = disk();
        let line = "30 1 8:0 / /data rw - ext4 /dev/sda rw\n";
        host.process(70, "pod", "11", line, &[]).process(71, "pod", "11", line, &[]).process(
            72,
            "pod",
            "12",
            line,
            &[],
        );
        assert_eq!(users(&host).0, ["mounted at /data"], "named once");
    }

    #[test]
    fn a_process_that_is_ending_does_not_hide_the_mounts_of_its_namespace() {
        let host = Host::new();
        host.session(1, "mb.ens1", A, "10.0.1.10").disk(1, 0, "sda", "8:0");
        host.process(70, "ending", "11", "", &[]);
        host.process(71, "pod", "11", "30 1 8:0 / /data rw - ext4 /dev/sda rw\n", &[]);
        assert_eq!(users(&host).0, ["mounted at /data"]);
    }

    #[test]
    fn a13b_swap_and_loop_devices_count() {
        let host = two_paths(1, BOTH_ACTIVE);
        host.proc("swaps", "Filename Type Size Used Priority\n/dev/dm-0 partition 1048572 0 -2\n");
        assert_eq!(users(&host), (vec![], vec!["used as swap".to_owned()]));

        let host = Host::new();
        host.session(1, "mb.ens1", A, "10.0.1.10").disk(1, 0, "sda", "8:0");
        host.device("loop0", "7:0", &[("loop/backing_file", "/var/lib/images/other")]);
        host.device("loop1", "7:1", &[("loop/backing_file", "/dev/sda")]);
        assert_eq!(users(&host).0, ["behind loop1"]);
    }

    #[test]
    fn open_files_that_are_no_block_devices_are_no_use() {
        let host = two_paths(0, BOTH_ACTIVE);
        let gone = Path::new("/nonexistent");
        host.process(70, "shell", "11", "", &[Path::new("/dev/null"), Path::new("/"), gone]);
        assert_eq!(users(&host), (vec![], vec![]));
    }

    #[test]
    fn in_a_pod_without_the_hosts_processes_every_disk_may_be_in_use() {
        let host = two_paths(0, BOTH_ACTIVE);
        host.sees_processes_of("pid:[4026532201]");
        let (disk, map) = users(&host);
        assert!(disk[0].starts_with("perhaps in use (") && disk[0].contains("hostPID"), "{disk:?}");
        assert_eq!(disk, map);
    }

    #[test]
    fn when_processes_cannot_be_looked_at_the_disk_may_be_in_use() {
        let host = two_paths(0, BOTH_ACTIVE);
        host.process(70, "shell", "11", "", &[]);
        let mounts = host.roots().proc.join("70/mountinfo");
        std::fs::remove_file(&mounts).unwrap();
        std::fs::create_dir(&mounts).unwrap();
        let (disk, map) = users(&host);
        assert!(disk[0].starts_with("perhaps in use (cannot read "), "{disk:?}");
        assert!(map[0].starts_with("perhaps in use (cannot read "), "{map:?}");
    }
}
