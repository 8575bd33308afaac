//! What sysfs tells of a disk of a session: the number and the identity of its LUN.

use std::sync::Arc;

use crate::agent::host::sysfs::{BlockDevice, attribute};

/// The longest WWID that is taken.
const LONGEST_WWID: usize = 128;

/// The number of a disk's LUN: its directory is in that of the SCSI device, `HOST:CHANNEL:TARGET:LUN/block`.
pub(super) fn lun(disk: &BlockDevice) -> u64 {
    let device = disk.directory.iter().rev().nth(2).and_then(|name| name.to_str());
    device.and_then(|device| device.rsplit(':').next()?.parse().ok()).unwrap_or(0)
}

/// The WWID of a disk, as multipath would write it. None for a disk without VPD page 0x83, for which the kernel answers
/// ENXIO, and for one that cannot be read: it is no reason to read nothing else.
pub(super) fn wwid(disk: &BlockDevice) -> Option<Arc<str>> {
    let text = attribute(&disk.directory.join("device/wwid")).ok()??;
    let wwid = as_multipath_writes(text.trim());
    Some(wwid.chars().take(LONGEST_WWID).collect::<String>().into())
}

/// The kernel puts the kind of an identifier before it (`drivers/scsi/scsi_lib.c`, `scsi_vpd_lun_id`); udev's `scsi_id`, whose
/// text multipath uses, has a digit for the kind, and `_` for blanks.
fn as_multipath_writes(text: &str) -> String {
    let kinds = [("naa.", "3"), ("eui.", "2"), ("t10.", "1")];
    let found = kinds.iter().find_map(|(kind, digit)| Some(format!("{digit}{}", text.strip_prefix(kind)?)));
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._:-".contains(letter);
    found.unwrap_or_else(|| text.to_owned()).chars().map(|letter| if is_plain(letter) { letter } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        agent::initiator::open_iscsi::fixtures::FakeHost,
        fuzz::{Parsed, fuzz, lossy},
    };

    #[test]
    fn a_wwid_is_written_as_multipath_writes_it() {
        let cases = [
            ("naa.60000000000000000e00000000010001", "360000000000000000e00000000010001"),
            ("eui.0025385b71b0c1f2", "20025385b71b0c1f2"),
            ("t10.ATA     VBOX HARDDISK  VB1", "1ATA_____VBOX_HARDDISK__VB1"),
            ("uuid.1", "uuid.1"),
        ];
        for (kernel, multipath) in cases {
            assert_eq!(as_multipath_writes(kernel), multipath);
        }
    }

    #[test]
    fn a_disk_has_the_number_of_its_lun_its_size_and_its_wwid() {
        let host = FakeHost::new();
        host.session(1, "mb.ens1", "iqn.2003-01.org.example:a", "10.0.1.10").disk(1, 16385, "sda", "8:0");
        host.sysfs("block/sda/device/wwid", "naa.6001").sysfs("block/sda/size", "2048");
        let read = host.reader().read(&std::collections::BTreeSet::new()).unwrap();
        let disk = &read.inventory.sessions[0].disks[0];
        assert_eq!((disk.lun, disk.size, disk.wwid.as_deref()), (16385, 1 << 20, Some("36001")));
    }

    fuzz! {
        any_wwid_is_read: "wwid" => |input| {
            let wwid = as_multipath_writes(&lossy(input));
            assert!(wwid.chars().all(|letter| letter.is_ascii_graphic()), "{wwid:?}");
            Parsed::new().texts([wwid])
        };
    }
}
