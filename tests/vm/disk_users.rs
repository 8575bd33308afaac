//! The kinds of use of a bare disk: each keeps the disk's session, and its end lets the session go.

use serde_json::{Value, json};

use crate::{
    by_hand::{ALPHA, BETA, until_sessions},
    logout::{EUI, NAA, plan_storage, session, until_kept, until_no_trace},
    node::{ALPHA_ON_BOTH_FABRICS, RealNode},
};

/// A kind of use, of one disk of its own session.
struct Use {
    name: &'static str,
    /// The session goes to this portal of the first or second fabric.
    portal: (u8, u8),
    target: &'static str,
    /// The place of the disk among those of the session.
    disk: usize,
    /// Begins the use of `$disk`.
    begin: &'static str,
    /// How the agent describes it.
    words: &'static str,
    end: &'static str,
}

/// Where there is no content of a use, several use the same LUN, each through a disk of its own.
const USES: [Use; 14] = [
    Use {
        name: "a mount",
        portal: (1, 1),
        target: ALPHA,
        disk: 0,
        begin: "mkfs.ext4 -q $disk; mkdir -p /mnt/plain; mount $disk /mnt/plain",
        words: "mounted at /mnt/plain",
        end: "umount /mnt/plain",
    },
    Use {
        name: "a mount in another mount namespace",
        portal: (1, 2),
        target: ALPHA,
        disk: 1,
        begin: "mkfs.ext4 -q $disk; systemd-run --quiet --unit=apart --property=PrivateMounts=yes \
                sh -c \"mount $disk /srv && exec sleep infinity\"
                until grep -q ' /srv ' /proc/$(systemctl show --value --property=MainPID apart)/mountinfo
                do sleep 0.1; done",
        words: "mounted at /srv",
        end: "systemctl stop apart",
    },
    Use {
        name: "a file system that was unmounted lazily, with an open file",
        portal: (1, 3),
        target: BETA,
        disk: 0,
        begin: "mkfs.ext4 -q $disk; mkdir -p /mnt/lazy; mount $disk /mnt/lazy; echo text >/mnt/lazy/file
                systemd-run --quiet --unit=lazy sh -c 'exec sleep infinity <>/mnt/lazy/file'
                until ls -l /proc/$(systemctl show --value --property=MainPID lazy)/fd | grep -q lazy; do sleep 0.1; done
                umount --lazy /mnt/lazy",
        words: "used through a file that is open in sleep",
        end: "systemctl stop lazy",
    },
    Use {
        name: "a mapping whose descriptor is closed",
        portal: (1, 4),
        target: EUI,
        disk: 0,
        // The linker maps a library, and closes it.
        begin: "dd if=/lib/x86_64-linux-gnu/libdl.so.2 of=$disk bs=4096 conv=fsync status=none
                systemd-run --quiet --unit=mapper --setenv=LD_PRELOAD=$disk sleep infinity
                until grep -q $disk /proc/$(systemctl show --value --property=MainPID mapper)/maps; do sleep 0.1; done",
        words: "open in sleep",
        end: "systemctl stop mapper",
    },
    Use {
        name: "the journal of a file system on another device, while the disk is offline",
        portal: (1, 5),
        target: EUI,
        disk: 0,
        begin: "mke2fs -q -b 4096 -O journal_dev $disk; truncate --size=64M /root/fs
                mkfs.ext4 -q -b 4096 -J device=$disk /root/fs; mkdir -p /mnt/journal; mount -o loop /root/fs /mnt/journal
                echo offline >/sys/block/$(basename $disk)/device/state",
        words: "claimed by a part of the kernel",
        end: "umount /mnt/journal",
    },
    Use {
        name: "swap",
        portal: (1, 6),
        target: NAA,
        disk: 0,
        begin: "mkswap --quiet $disk; swapon $disk",
        words: "used as swap",
        end: "swapoff --all",
    },
    Use {
        name: "a loop device",
        portal: (1, 7),
        target: NAA,
        disk: 0,
        begin: "losetup --find $disk",
        words: "behind loop",
        end: "losetup --detach $(losetup --associated $disk --noheadings --output=NAME)",
    },
    Use {
        name: "a loop device over a node of kubelet",
        portal: (1, 8),
        target: NAA,
        disk: 0,
        begin: "mkdir -p /var/lib/kubelet/plugins; cd /var/lib/kubelet/plugins
                mknod uid b $(tr : ' ' <\"/sys/block/$(basename $disk)/dev\"); losetup --find uid",
        words: "behind loop",
        end: "losetup --detach $(losetup --associated /var/lib/kubelet/plugins/uid --noheadings --output=NAME)",
    },
    Use {
        name: "a process that has it open for reading",
        portal: (2, 1),
        target: BETA,
        disk: 0,
        begin: "systemd-run --quiet --unit=reader sh -c \"exec sleep infinity <$disk\"",
        words: "open in sleep",
        end: "systemctl stop reader",
    },
    Use {
        name: "a process that has its SCSI device open",
        portal: (2, 2),
        target: BETA,
        disk: 0,
        begin: "modprobe sg; sg=/dev/$(ls /sys/block/$(basename $disk)/device/scsi_generic)
                until [ -c $sg ]; do sleep 0.1; done
                systemd-run --quiet --unit=passthrough sh -c \"exec sleep infinity <$sg\"",
        words: "open in sleep",
        end: "systemctl stop passthrough",
    },
    Use {
        name: "a member of an md array",
        portal: (2, 3),
        target: BETA,
        disk: 0,
        begin: "modprobe --all md_mod raid1; echo md99 >/sys/module/md_mod/parameters/new_array; cd /sys/block/md99/md
                echo none >metadata_version; echo raid1 >level; echo 1 >raid_disks
                cat /sys/block/$(basename $disk)/dev >new_dev",
        words: "held by md99",
        end: "echo clear >/sys/block/md99/md/array_state",
    },
    Use {
        name: "a disk that LIO serves as a file",
        portal: (2, 4),
        target: EUI,
        disk: 0,
        begin: "modprobe target_core_file; object=/sys/kernel/config/target/core/fileio_0/kept; mkdir -p $object
                echo fd_dev_name=$disk,fd_dev_size=1048576 >$object/control; echo 1 >$object/enable",
        words: "served by LIO (fileio_0/kept)",
        end: "cd /sys/kernel/config/target/core; rmdir fileio_0/kept fileio_0",
    },
    Use {
        name: "a disk that LIO serves as a block device",
        portal: (2, 5),
        target: EUI,
        disk: 0,
        begin: "modprobe target_core_iblock; object=/sys/kernel/config/target/core/iblock_0/kept; mkdir -p $object
                echo udev_path=$disk >$object/control; printf $disk >$object/udev_path; echo 1 >$object/enable",
        words: "served by LIO (iblock_0/kept)",
        end: "cd /sys/kernel/config/target/core; rmdir iblock_0/kept iblock_0",
    },
    Use {
        name: "a disk that nvmet serves",
        portal: (2, 6),
        target: NAA,
        disk: 0,
        begin: "modprobe nvmet; subsystem=/sys/kernel/config/nvmet/subsystems/kept; mkdir $subsystem
                mkdir $subsystem/namespaces/1; cd $subsystem/namespaces/1
                printf $disk >device_path; echo 1 >enable",
        words: "served by nvmet (kept, namespace 1)",
        end: "cd /sys/kernel/config/nvmet/subsystems; echo 0 >kept/namespaces/1/enable; rmdir kept/namespaces/1 kept",
    },
];

/// Starts a program in a mount namespace of its own, whose `/dev` has no node of a disk.
const AS_IN_A_POD: &str =
    "unshare --mount bash -c 'mount -t tmpfs tmpfs /dev && mknod -m 666 /dev/null c 1 3 && exec \"$@\"' pod";

/// The portals of sessions whose disk nobody uses, to the target alpha. The disks of the second are offline.
const UNUSED: [(u8, u8); 2] = [(2, 7), (2, 8)];

fn address((fabric, number): (u8, u8)) -> String {
    format!("10.0.10{fabric}.{number}")
}

/// Every session that is needed, each through a portal of its own.
fn storage() -> Value {
    let used = USES.iter().map(|kind| (kind.target, kind.portal));
    let all: Vec<(&str, (u8, u8))> = used.chain(UNUSED.map(|portal| (ALPHA, portal))).collect();
    let targets = [ALPHA, BETA, EUI, NAA].map(|target| {
        let own = all.iter().filter(|(of, _)| *of == target);
        let portals: Vec<Value> = own.map(|(_, portal)| json!({"address": address(*portal)})).collect();
        json!({"iqn": target, "portals": portals})
    });
    json!({"name": "array", "targets": targets})
}

/// The disks of the session through a portal, by LUN.
async fn disks_through(node: &RealNode, portal: (u8, u8)) -> Vec<String> {
    let each = format!(
        "cd /sys/class/iscsi_session
        for session in session*; do
          connection=/sys/class/iscsi_connection/connection${{session#session}}:0
          [ $(cat $connection/persistent_address) = {} ] || continue
          for disk in $session/device/target*/*/block/*; do echo /dev/$(basename $disk); done
        done",
        address(portal)
    );
    node.guest.run_ok(&each).await.unwrap().lines().map(str::to_owned).collect()
}

async fn run(node: &RealNode, kind: &Use, command: &str) {
    let disk = disks_through(node, kind.portal).await.swap_remove(kind.disk);
    let result = node.guest.run_ok(&format!("set -e; disk={disk}; {command}")).await;
    result.unwrap_or_else(|error| panic!("{}: {error:#}", kind.name));
}

#[tokio::test]
async fn a13b_every_kind_of_use_of_a_bare_disk_keeps_its_session() {
    let node = RealNode::new("uses").await;
    node.site.apply(ALPHA_ON_BOTH_FABRICS).await;
    node.start_agent_by(AS_IN_A_POD, "--lease-duration 4s --lease-renew-interval 1s").await;
    node.guest
        .run_ok(
            "systemctl stop multipathd.socket multipathd.service; modprobe --all loop configfs
             mountpoint --quiet /sys/kernel/config || mount -t configfs configfs /sys/kernel/config",
        )
        .await
        .unwrap();
    plan_storage(&node, &[storage()]).await;
    let all = USES.len() + UNUSED.len();
    node.until_paths(&format!("{all}/{all}")).await;
    for kind in &USES {
        run(&node, kind, kind.begin).await;
    }
    for disk in disks_through(&node, UNUSED[1]).await {
        let disk = disk.trim_start_matches("/dev/");
        node.guest.run_ok(&format!("echo offline >/sys/block/{disk}/device/state")).await.unwrap();
    }

    plan_storage(&node, &[]).await;
    for kind in &USES {
        until_kept(&node, &format!("{}:3260", address(kind.portal)), kind.words).await;
    }
    let mut kept: Vec<_> = USES.iter().map(|kind| session(kind.portal.0, kind.portal.1, kind.target)).collect();
    kept.sort();
    until_sessions(&node.guest, &kept).await;

    node.guest.write("/root/maps-new-files", MAPS_NEW_FILES).await.unwrap();
    let program = "exec nice setpriv --reuid=65534 --clear-groups perl </root/maps-new-files";
    node.guest.spawn("maps-new-files", program).await.unwrap();
    let maps = "until cat /proc/$(systemctl show --value --property=MainPID maps-new-files)/task/*/maps | grep -q memfd
        do sleep 0.1; done";
    node.guest.run_ok(maps).await.unwrap();
    for kind in &USES {
        run(&node, kind, kind.end).await;
    }
    until_no_trace(&node).await;
    node.guest.run_ok("systemctl stop maps-new-files").await.unwrap();
}

/// A program without privileges that maps one new file (`memfd_create`) after the other, 64 at a time: whoever looks at its
/// mappings finds that some have vanished. Its first thread has ended.
const MAPS_NEW_FILES: &str = r#"
use POSIX ();
use threads;
my ($mmap, $munmap, $exit, $ftruncate, $memfd_create) = (9, 11, 60, 77, 319);
threads->create(sub {
    my ($name, @mapped) = "new";
    while (1) {
        my $file = syscall($memfd_create, $name, 0);
        syscall($ftruncate, $file, 4096);
        push @mapped, syscall($mmap, 0, 4096, 1, 1, $file, 0);
        POSIX::close($file);
        syscall($munmap, shift @mapped, 4096) if @mapped > 64;
    }
});
syscall($exit, 0);
"#;
