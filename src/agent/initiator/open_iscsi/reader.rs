//! Reads sessions, disks, maps and interfaces of the host.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};

use super::{
    disks,
    sessions::{SessionEntry, sessions},
};
#[cfg(test)]
use crate::agent::host::block_node::BlockNodes;
use crate::agent::{
    host::{
        device_mapper::{Control, DeviceMapper, MapEntry, maps},
        device_users::DeviceUsers,
        interfaces,
        mount_points::MountPoints,
        sysctls,
        sysfs::{BlockDevice, DeviceNumber},
    },
    initiator::{DeviceUser, Disk, Facts, InterfaceFilter, Inventory, LiveSettings, Map, PathError, Session},
};

/// What was read of the host at one time.
#[derive(Clone, Debug)]
pub struct Read {
    /// The sessions as sysfs shows them.
    pub sessions: Vec<SessionEntry>,
    /// The same sessions, in the same order, and the maps over their disks.
    pub inventory: Inventory,
}

/// Reads the host. It caches nothing.
#[derive(Clone, Debug)]
pub struct Reader {
    mount_points: MountPoints,
    mapper: Arc<dyn DeviceMapper>,
    users: DeviceUsers,
}

impl Reader {
    /// A reader of the host with these mount points.
    #[must_use]
    pub fn new(mount_points: MountPoints) -> Self {
        let mapper = Arc::new(Control::new(&mount_points.dev));
        let users = DeviceUsers::new(mount_points.clone());
        Reader { mount_points, mapper, users }
    }

    /// A reader with a fake device mapper and fake answers about device nodes.
    #[cfg(test)]
    pub(super) fn with_fakes(
        mount_points: MountPoints,
        mapper: impl DeviceMapper + 'static,
        nodes: impl BlockNodes + 'static,
    ) -> Self {
        let users = DeviceUsers::with_nodes(mount_points.clone(), nodes);
        Reader { mount_points, mapper: Arc::new(mapper), users }
    }

    /// Reads sessions, disks and maps; see [`Initiator::inventory`](crate::agent::initiator::Initiator::inventory).
    ///
    /// # Errors
    /// If sysfs cannot be read.
    pub async fn inventory(&self, with_users_of: &BTreeSet<u32>) -> Result<Read, PathError> {
        let reader = self.clone();
        let with_users_of = with_users_of.clone();
        blocking(move || reader.read(&with_users_of)).await
    }

    /// Reads only the sessions, which is fast.
    ///
    /// # Errors
    /// If sysfs cannot be read.
    pub async fn sessions(&self) -> Result<Vec<SessionEntry>, PathError> {
        let sys = self.mount_points.sys.clone();
        blocking(move || sessions(&sys)).await
    }

    /// Reads the host's interfaces, with warnings about them. The facts about the initiator are empty.
    ///
    /// # Errors
    /// If the kernel does not answer, or a sysctl cannot be read.
    pub async fn facts(&self, filter: &InterfaceFilter) -> Result<Facts, PathError> {
        let interfaces = interfaces::read(&self.mount_points.sys, filter).await?;
        let warnings = sysctls::warnings(&self.mount_points.proc, filter, &interfaces)?;
        Ok(Facts { interfaces, warnings, ..Facts::default() })
    }

    pub(super) fn read(&self, with_users_of: &BTreeSet<u32>) -> io::Result<Read> {
        let sys = &self.mount_points.sys;
        let sessions = sessions(sys)?;
        let maps = maps(sys, &*self.mapper, sessions.iter().flat_map(|session| &session.disks))?;
        let inspected = sessions.iter().filter(|session| with_users_of.contains(&session.id));
        let users = self.users.of(inspected.flat_map(|session| &session.disks), &maps)?;
        let in_map: BTreeSet<Arc<str>> = maps.iter().flat_map(|map| &map.paths).map(|path| path.disk.clone()).collect();
        let disk = |device: BlockDevice| Disk {
            users: users.get(&device.number).cloned(),
            lun: disks::lun(&device),
            size: device.size(),
            wwid: if in_map.contains(&device.name) { None } else { disks::wwid(&device) },
            name: device.name,
        };
        let inventory = Inventory {
            sessions: sessions.iter().map(|entry| session(entry.clone(), disk)).collect(),
            maps: maps.into_iter().map(|map| map_with_users(map, &users)).collect(),
        };
        Ok(Read { sessions, inventory })
    }
}

/// Reads in a thread of its own: there may be many processes, and sysfs blocks while something else changes it.
async fn blocking<T: Send + 'static>(read: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, PathError> {
    let result = tokio::task::spawn_blocking(read).await;
    let result = result.map_err(|error| PathError::internal(format!("reading the host was broken off: {error}")))?;
    Ok(result?)
}

fn session(entry: SessionEntry, disk: impl Fn(BlockDevice) -> Disk) -> Session {
    let owner = entry.owner();
    let SessionEntry { id, path, connected_to: _, tpgt, record: _, state, credentials, replacement_timeout, disks } =
        entry;
    let live_settings =
        replacement_timeout.map(|replacement_timeout_seconds| LiveSettings { replacement_timeout_seconds });
    let disks = disks.into_iter().map(disk).collect();
    let (refused, stored_credentials, record_is_kept) = (None, None, None);
    Session {
        id,
        dialled: path.portal.clone(),
        path,
        tpgt,
        owner,
        state,
        refused,
        credentials,
        stored_credentials,
        live_settings,
        record_is_kept,
        disks,
    }
}

fn map_with_users(entry: MapEntry, users: &BTreeMap<DeviceNumber, Vec<DeviceUser>>) -> Map {
    let MapEntry { block, name, wwid, open_count, paths, partitions: _, unknown } = entry;
    let (size, is_known) = (block.size(), unknown.is_none());
    let unknown = unknown.into_iter().map(DeviceUser::Unknown);
    let users = unknown.chain(users.get(&block.number).into_iter().flatten().cloned()).collect();
    Map { name, wwid, open_count, users, paths, size, is_known }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::MetadataExt as _, path::Path};

    use super::*;
    use crate::agent::{
        host::block_node::number,
        initiator::{
            MapPath, SessionState,
            open_iscsi::fixtures::{FakeHost, MuteMapper, MuteNodes},
        },
    };

    const A: &str = "iqn.2003-01.org.example:a";
    const BOTH_ACTIVE: (&str, &str) = ("multipath", "2 0 0 0 1 1 A 0 2 2 8:0 A 0 0 1 8:16 A 0 0 1 ");
    const SECOND_FAILED: (&str, &str) = ("multipath", "2 0 0 0 1 1 A 0 2 2 8:0 A 0 0 1 8:16 F 2 0 1 ");
    const MAP: (&str, &str) = ("dm-0", "253:0");
    const UUID: &str = "mpath-3600140512345678";

    /// Two sessions to one LUN, and a map over both disks.
    fn two_paths(open_count: u32, status: (&str, &str)) -> FakeHost {
        let mut host = FakeHost::new();
        host.session(1, "mb.ens1", A, "10.0.1.10").disk(1, 0, "sda", "8:0");
        host.session(2, "mb.ens2", A, "10.0.2.10").disk(2, 0, "sdb", "8:16");
        host.map(MAP, "mpatha", UUID, open_count, status);
        host.stack("dm-0", "sda").stack("dm-0", "sdb");
        host
    }

    fn all() -> BTreeSet<u32> {
        BTreeSet::from([1, 2])
    }

    fn read(host: &FakeHost) -> Inventory {
        host.reader().read(&all()).unwrap().inventory
    }

    /// The users of the disks of session 1, and of the first map.
    fn users(host: &FakeHost) -> (Vec<String>, Vec<String>) {
        let inventory = read(host);
        let words = |users: &[DeviceUser]| users.iter().map(ToString::to_string).collect();
        let disk = inventory.sessions[0].disks[0].users.as_deref().unwrap();
        (words(disk), inventory.maps.first().map(|map| words(&map.users)).unwrap_or_default())
    }

    #[test]
    fn a_recorded_host_is_read_with_ipv6_luns_chap_and_lost_sessions() {
        let inventory = read(&FakeHost::recorded(include_str!("fixtures/two-lost.txt")));
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
            "1 iqn.2026-11.com.example:alpha at 10.0.101.1:3260 through san1 Free sda sdb",
            "2 iqn.2026-11.com.example:alpha at [fd00:102::1]:3260 through san2 LoggedIn sdc sdd",
            "3 iqn.2026-11.com.example:beta at [fd00:101::2]:3260 through san1 LoggedIn sde",
            "4 iqn.2026-11.com.example:beta at 10.0.102.2:3260 through san2 Free sdf",
            "5 iqn.2026-11.com.example:one-way at 10.0.101.3:3260 through san1 LoggedIn sdg with CHAP",
            "6 iqn.2026-11.com.example:mutual at 10.0.102.3:3260 through san2 LoggedIn sdh with CHAP",
            "7 eui.02004567a425678d at 10.0.101.4:3260 through san1 LoggedIn sdi",
            "8 naa.52004567ba64678d at [fd00:102::4]:3260 through san2 LoggedIn sdj",
        ];
        assert_eq!(sessions, expected);
        let five_seconds = Some(LiveSettings { replacement_timeout_seconds: 5 });
        assert!(inventory.sessions.iter().all(|session| session.is_own() && session.live_settings == five_seconds));

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
            size: 0,
            is_known: true,
        };
        assert_eq!(read(&host).maps, [expected]);
    }

    #[test]
    fn an_unused_map_is_not_a_user_of_its_disks() {
        assert_eq!(users(&two_paths(0, BOTH_ACTIVE)), (vec![], vec![]));
    }

    #[test]
    fn users_are_looked_for_only_where_that_is_asked() {
        let host = two_paths(1, BOTH_ACTIVE);
        host.process(7, "qemu", "1", "9 1 253:0 / /data rw - ext4 /dev/mapper/mpatha rw\n", &[]);
        let inventory = host.reader().read(&BTreeSet::new()).unwrap().inventory;
        assert!(inventory.sessions.iter().all(|session| session.disks.iter().all(|disk| disk.users.is_none())));
        assert_eq!((inventory.maps[0].open_count, &*inventory.maps[0].users), (1, &[][..]));
        let of_second = host.reader().read(&BTreeSet::from([2])).unwrap().inventory;
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
    fn a_map_that_vanishes_while_it_is_read_is_left_out() {
        let host = two_paths(0, BOTH_ACTIVE);
        // It is still in sysfs, but the device mapper does not know it any more.
        let forgetful = FakeHost::new();
        let reader = Reader::with_fakes(host.mount_points(), forgetful.mapper(), host.nodes());
        assert_eq!(reader.read(&all()).unwrap().inventory.maps, []);
    }

    #[test]
    fn a_map_without_a_readable_status_counts_as_used_and_without_paths() {
        let check = |inventory: Inventory, words: &str| {
            let map = &inventory.maps[0];
            assert!(map.open_count > 0 && map.paths.iter().all(|path| !path.active), "{map:?}");
            assert!(map.users[0].to_string().contains(words), "{map:?}");
        };
        let host = two_paths(0, BOTH_ACTIVE);
        let mute = Reader::with_fakes(host.mount_points(), MuteMapper, host.nodes());
        check(mute.read(&BTreeSet::new()).unwrap().inventory, "perhaps in use (cannot open /dev/mapper/control");
        check(read(&two_paths(0, ("multipath", "2 0 0 0 1 1"))), "found \"2 0 0 0 1 1\"");
    }

    #[test]
    fn the_device_mapper_is_not_asked_if_there_is_no_map() {
        let host = FakeHost::new();
        host.session(1, "mb.ens1", A, "10.0.1.10").disk(1, 0, "sda", "8:0");
        let inventory =
            Reader::with_fakes(host.mount_points(), MuteMapper, host.nodes()).read(&all()).unwrap().inventory;
        assert_eq!((inventory.sessions.len(), inventory.maps.len()), (1, 0));
        assert_eq!(inventory.sessions[0].state, SessionState::LoggedIn);
    }

    #[test]
    fn a13b_of_a_stack_of_devices_the_topmost_is_the_user() {
        let mut host = two_paths(1, BOTH_ACTIVE);
        host.map(("dm-3", "253:3"), "luks", "CRYPT-LUKS2-1", 1, ("crypt", ""));
        host.map(("dm-4", "253:4"), "vg-data", "LVM-1", 0, ("linear", ""));
        host.stack("dm-3", "dm-0").stack("dm-4", "dm-3");
        assert_eq!(users(&host), (vec![], vec!["held by dm-4 (vg-data)".to_owned()]));

        let host = FakeHost::new();
        host.session(1, "mb.ens1", A, "10.0.1.10").disk(1, 0, "sda", "8:0").partition("sda", "sda1", "8:1");
        host.device("md127", "9:127", &[]).stack("md127", "sda/sda1");
        assert_eq!(users(&host).0, ["held by md127"], "also on a partition");
    }

    #[test]
    fn a_partition_map_of_kpartx_counts_only_if_it_is_used() {
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
    fn a13b_mounts_count_in_every_mount_namespace() {
        let disk = || {
            let host = FakeHost::new();
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
    fn an_ending_process_does_not_hide_the_mounts_of_its_namespace() {
        let host = FakeHost::new();
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
    }

    /// A host whose session 1 has the disk `sda`, without a map.
    fn bare_disk() -> FakeHost {
        let host = FakeHost::new();
        host.session(1, "mb.ens1", A, "10.0.1.10").disk(1, 0, "sda", "8:0").partition("sda", "sda1", "8:1");
        host
    }

    #[test]
    fn a13b_a_loop_device_counts_by_the_device_behind_it() {
        // The path is kubelet's, for a block volume: it tells nothing of the device.
        let path = ("loop/backing_file", "/var/lib/kubelet/plugins/csi/volumeDevices/pvc-1/dev/uid");
        let looped = |file_system: &str, device: Option<&str>| {
            let mut host = bare_disk();
            host.device("loop0", "7:0", &[path]).device("loop1", "7:1", &[]);
            host.put_behind("loop0", file_system, device);
            users(&host).0
        };
        assert_eq!(looped("0:5", Some("8:0")), ["behind loop0"], "over the device");
        assert_eq!(looped("0:5", Some("8:1")), ["behind loop0"], "over a partition");
        assert_eq!(looped("8:0", None), ["behind loop0"], "over a file that is on the device");
        assert_eq!(looped("0:5", Some("8:16")), [""; 0], "over another device");
        assert_eq!(looped("254:0", None), [""; 0], "over another file");
    }

    #[test]
    fn a13b_a_claim_counts_even_if_nothing_shows_whose_it_is() {
        let mut host = bare_disk();
        host.claim("sda");
        let found = users(&host).0;
        assert!(found.len() == 1 && found[0].starts_with("claimed by a part of the kernel"), "{found:?}");
        // If a user is known, the kernel is not asked: the question is a claim for a moment.
        host.proc("swaps", "Filename Type Size Used Priority\n/dev/sda partition 1048572 0 -2\n");
        assert_eq!(users(&host).0, ["used as swap"]);
    }

    #[test]
    fn the_claim_of_a_multipath_map_is_no_use_of_its_paths() {
        let mut host = two_paths(0, BOTH_ACTIVE);
        host.claim("sda");
        assert_eq!(users(&host), (vec![], vec![]));
    }

    #[test]
    fn if_the_kernel_does_not_tell_a_disk_may_be_in_use() {
        let host = bare_disk();
        let mute = || Reader::with_fakes(host.mount_points(), host.mapper(), MuteNodes);
        let found = || mute().read(&all()).unwrap().inventory.sessions[0].disks[0].users.clone().unwrap();
        assert_eq!(found(), [DeviceUser::Unknown("opening sda takes longer than 2 s".into())]);
        host.device("loop0", "7:0", &[("loop/backing_file", "/var/lib/images/disk")]);
        assert_eq!(found(), [DeviceUser::Unknown("opening loop0 takes longer than 2 s".into())]);
    }

    #[test]
    fn a13b_every_device_of_a_btrfs_file_system_counts() {
        let host = bare_disk();
        for device in ["sda1", "sdz"] {
            host.sysfs(&format!("fs/btrfs/0d0f-11/devices/{device}/size"), "1");
        }
        host.sysfs("fs/btrfs/features/raid56", "0");
        assert_eq!(users(&host).0, ["held by the btrfs file system 0d0f-11"]);
    }

    /// The device of the file system of temporary files, as the kernel shows it.
    fn file_system_of(file: &Path) -> String {
        let DeviceNumber { major, minor } = number(std::fs::metadata(file).unwrap().dev());
        format!("{major}:{minor}")
    }

    #[test]
    fn a13b_an_open_file_counts_after_a_lazy_unmount() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let disk = || {
            let host = FakeHost::new();
            let number = file_system_of(file.path());
            host.session(1, "mb.ens1", A, "10.0.1.10").disk(1, 0, "sda", &number);
            host
        };
        let host = disk();
        host.process(70, "writer", "11", "", &[file.path()]);
        assert_eq!(users(&host).0, ["used through a file that is open in writer (process 70)"]);

        let host = disk();
        host.process(71, "mapper", "11", "", &[]).maps(71, 0x40_0000, file.path());
        assert_eq!(users(&host).0, ["used through a file that is open in mapper (process 71)"], "only mapped");

        // While it is mounted, the mount tells enough.
        let host = disk();
        let mounts = format!("30 1 {} / /data rw - ext4 /dev/sda rw\n", file_system_of(file.path()));
        host.process(70, "writer", "11", &mounts, &[file.path()]);
        assert_eq!(users(&host).0, ["mounted at /data"]);
    }

    #[test]
    fn the_agents_own_references_to_a_disk_do_not_count() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let host = FakeHost::new();
        host.session(1, "mb.ens1", A, "10.0.1.10").disk(1, 0, "sda", &file_system_of(file.path()));
        host.process(70, "multibond-node", "11", "", &[file.path()]);
        assert_eq!(users(&host).0.len(), 1);
        std::os::unix::fs::symlink("70", host.mount_points().proc.join("self")).unwrap();
        assert_eq!(users(&host).0, [""; 0]);
    }

    #[test]
    fn a13b_files_of_threads_count_after_the_first_thread_has_ended() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let host = FakeHost::new();
        host.session(1, "mb.ens1", A, "10.0.1.10").disk(1, 0, "sda", &file_system_of(file.path()));
        host.process(70, "writer", "11", "", &[]);
        host.thread(70, 70, &[]).thread(70, 71, &[file.path()]);
        assert_eq!(users(&host).0, ["used through a file that is open in writer (process 70)"]);
    }

    #[test]
    fn a13b_the_scsi_device_of_a_disk_counts_as_the_disk() {
        let null = std::fs::metadata("/dev/null").unwrap();
        let DeviceNumber { major, minor } = number(null.rdev());
        for class in ["scsi_generic/sg0", "bsg/1:0:0:0"] {
            let host = bare_disk();
            host.sysfs(&format!("block/sda/device/{class}/dev"), &format!("{major}:{minor}"));
            host.process(70, "qemu", "11", "", &[Path::new("/dev/null")]);
            assert_eq!(users(&host).0, ["open in qemu (process 70)"], "{class}");
        }
    }

    #[test]
    fn a13b_a_disk_that_the_kernel_serves_counts() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let host = FakeHost::new();
        host.session(1, "mb.ens1", A, "10.0.1.10").disk(1, 0, "sda", &file_system_of(file.path()));
        host.sysfs("module/nvmet/refcnt", "1");
        assert!(users(&host).0[0].starts_with("perhaps in use (cannot read "), "{:?}", users(&host));
        let namespace = "1/root/sys/kernel/config/nvmet/subsystems/nqn.x/namespaces/1";
        host.proc(&format!("{namespace}/enable"), "1\n").proc(&format!("{namespace}/device_path"), "/disk.img\n");
        host.proc("1/root/disk.img", "");
        assert_eq!(users(&host).0, ["served by nvmet (nqn.x, namespace 1)"]);
    }

    #[test]
    fn a13b_an_object_whose_device_is_gone_counts_only_for_bare_disks() {
        let serves_gone = |host: FakeHost| {
            host.sysfs("module/nvmet/refcnt", "1");
            let namespace = "1/root/sys/kernel/config/nvmet/subsystems/nqn.x/namespaces/1";
            host.proc(&format!("{namespace}/enable"), "1\n").proc(&format!("{namespace}/device_path"), "/dev/gone\n");
            host
        };
        let bare = users(&serves_gone(bare_disk())).0;
        assert!(bare[0].starts_with("perhaps in use (perhaps served by nvmet (nqn.x, namespace 1): "), "{bare:?}");
        // Its open count has whoever serves it.
        assert_eq!(users(&serves_gone(two_paths(0, BOTH_ACTIVE))), (vec![], vec![]));
    }

    #[test]
    fn open_files_that_are_not_block_devices_do_not_count() {
        let host = two_paths(0, BOTH_ACTIVE);
        let gone = Path::new("/nonexistent");
        host.process(70, "shell", "11", "", &[Path::new("/dev/null"), Path::new("/"), gone]);
        assert_eq!(users(&host), (vec![], vec![]));
    }

    #[test]
    fn without_the_hosts_processes_every_disk_may_be_in_use() {
        let host = two_paths(0, BOTH_ACTIVE);
        host.sees_processes_of("pid:[4026532201]");
        let (disk, map) = users(&host);
        assert!(disk[0].starts_with("perhaps in use (") && disk[0].contains("hostPID"), "{disk:?}");
        assert_eq!(disk, map);
    }

    #[test]
    fn if_a_process_cannot_be_read_every_disk_may_be_in_use() {
        let host = two_paths(0, BOTH_ACTIVE);
        host.process(70, "shell", "11", "", &[]);
        let mounts = host.mount_points().proc.join("70/mountinfo");
        std::fs::remove_file(&mounts).unwrap();
        std::fs::create_dir(&mounts).unwrap();
        let (disk, map) = users(&host);
        assert!(disk[0].starts_with("perhaps in use (cannot read "), "{disk:?}");
        assert!(map[0].starts_with("perhaps in use (cannot read "), "{map:?}");
    }
}
