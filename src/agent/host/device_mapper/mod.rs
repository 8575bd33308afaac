//! Reads multipath maps. sysfs lists the maps. The open count of a map and the state of its paths come from the device
//! mapper's ioctl, as in `dmsetup status`. No tool is started.

mod control;
mod status;

use std::{collections::BTreeMap, fmt, io, path::Path, sync::Arc};

pub use control::Control;
pub use status::active_paths;

use super::sysfs::{BlockDevice, DeviceNumber};
use crate::ops::one_line;

/// The prefix of the UUID of a multipath map; the WWID follows.
const MULTIPATH_UUID: &str = "mpath-";
/// The prefix of the UUID of a partition of a map, which kpartx makes: the partition's number and the UUID of the map
/// follow, as in `part1-mpath-3600a`.
const PARTITION_UUID: &str = "part";

/// The status of a map, from the device mapper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapStatus {
    /// The number of openers, including devices that are stacked on it.
    pub open_count: u32,
    /// The type and the status line of each target in its table.
    pub targets: Vec<(String, String)>,
}

/// Returns the status of maps: the kernel, or in tests a recording.
pub trait DeviceMapper: fmt::Debug + Send + Sync {
    /// The status of the map with this UUID; none if it does not exist.
    ///
    /// # Errors
    /// If the device mapper does not answer.
    fn status(&self, uuid: &str) -> io::Result<Option<MapStatus>>;
}

/// A multipath map, without its users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapEntry {
    /// The device.
    pub block: BlockDevice,
    /// Its device-mapper name.
    pub name: Arc<str>,
    /// Its World Wide Identifier.
    pub wwid: String,
    /// The number of openers, without unused `partitions`.
    pub open_count: u32,
    /// Its paths.
    pub paths: Vec<MapPath>,
    /// The maps of its partitions that nothing uses. Flushing the map removes them too.
    pub partitions: Vec<BlockDevice>,
    /// Why its status is not known; `None` if it is known. A map with unknown status must be treated as in use.
    pub unknown: Option<String>,
}

/// A path of a multipath map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapPath {
    /// The disk.
    pub disk: Arc<str>,
    /// True if dm-multipath sends I/O over it.
    pub active: bool,
}

/// Whether a device is a multipath map.
///
/// # Errors
/// If sysfs cannot be read.
pub fn is_multipath(block: &BlockDevice) -> io::Result<bool> {
    Ok(block.map_uuid()?.is_some_and(|uuid| uuid.starts_with(MULTIPATH_UUID)))
}

/// The multipath maps over disks, sorted by device.
///
/// # Errors
/// If sysfs cannot be read. If the device mapper does not answer, the map counts as in use.
pub fn maps<'a>(
    sys: &Path,
    mapper: &dyn DeviceMapper,
    disks: impl Iterator<Item = &'a BlockDevice>,
) -> io::Result<Vec<MapEntry>> {
    let mut found: BTreeMap<DeviceNumber, BlockDevice> = BTreeMap::new();
    for disk in disks {
        found.extend(disk.holders(sys)?.into_iter().map(|holder| (holder.number, holder)));
    }
    let mut maps = Vec::new();
    for block in found.into_values() {
        maps.extend(read(sys, mapper, block)?);
    }
    Ok(maps)
}

fn read(sys: &Path, mapper: &dyn DeviceMapper, block: BlockDevice) -> io::Result<Option<MapEntry>> {
    let (Some(name), Some(uuid)) = (block.map_name()?, block.map_uuid()?) else { return Ok(None) };
    let Some(wwid) = uuid.strip_prefix(MULTIPATH_UUID) else { return Ok(None) };
    let slaves = block.slaves(sys)?;
    let (status, partitions) = match mapper.status(&uuid) {
        Ok(None) => return Ok(None),
        Ok(Some(status)) => (Ok(status), idle_partitions(sys, mapper, &block, &uuid)?),
        Err(error) => (Err(error), Vec::new()),
    };
    let understood = status.and_then(|status| Ok((status.open_count, multipath(&status)?)));
    let (open_count, active, unknown) = match understood {
        Ok((open_count, active)) => (open_count, active, None),
        Err(error) => (1, Vec::new(), Some(error.to_string())),
    };
    let idle = u32::try_from(partitions.len()).unwrap_or(u32::MAX);
    Ok(Some(MapEntry {
        name: name.into(),
        wwid: wwid.to_owned(),
        open_count: open_count.saturating_sub(idle),
        paths: slaves
            .into_iter()
            .map(|disk| MapPath { active: active.contains(&disk.number), disk: disk.name })
            .collect(),
        partitions,
        block,
        unknown,
    }))
}

fn multipath(status: &MapStatus) -> io::Result<Vec<DeviceNumber>> {
    let lines = status.targets.iter().filter(|(kind, _)| kind == "multipath");
    let paths = lines.map(|(_, line)| {
        active_paths(line).ok_or_else(|| {
            let expected = "the status of a multipath target as Linux's drivers/md/dm-mpath.c writes it";
            io::Error::new(io::ErrorKind::InvalidData, format!("expected {expected}, and found {:?}", one_line(line)))
        })
    });
    Ok(paths.collect::<io::Result<Vec<_>>>()?.concat())
}

/// The maps of partitions that nothing uses. kpartx makes a map for each partition of a LUN when it finds the LUN, and
/// removes it with the LUN's map. Such a map keeps the LUN's map open, but it is not a user of it.
fn idle_partitions(
    sys: &Path,
    mapper: &dyn DeviceMapper,
    map: &BlockDevice,
    uuid: &str,
) -> io::Result<Vec<BlockDevice>> {
    let mut idle = Vec::new();
    for holder in map.holders(sys)? {
        let holder_uuid = holder.map_uuid()?.unwrap_or_default();
        let number =
            holder_uuid.strip_prefix(PARTITION_UUID).and_then(|rest| rest.strip_suffix(uuid)?.strip_suffix('-'));
        let is_partition = number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
        if is_partition && mapper.status(&holder_uuid).is_ok_and(|status| status.is_some_and(|s| s.open_count == 0)) {
            idle.push(holder);
        }
    }
    Ok(idle)
}
