//! Multipath maps: which there are stands in sysfs, how often they are open and which of their paths work only the
//! device mapper knows. It is asked by its ioctl, as `dmsetup status` does, without a process of its own.

mod control;
mod status;

use std::{collections::BTreeMap, fmt, io, path::Path, sync::Arc};

pub use control::Control;
pub use status::active_paths;

use super::sysfs::{Block, Number};

/// How a map of multipathd is told from others: its uuid is this and the WWID.
const MULTIPATH_UUID: &str = "mpath-";
/// How a map of a partition is told: kpartx makes its uuid from the number and the map's uuid, as in `part1-mpath-3600a`.
const PARTITION_UUID: &str = "part";

/// What the device mapper knows of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapStatus {
    /// How often it is open, what is stacked on it included.
    pub open_count: u32,
    /// Type and status line of each target of its table.
    pub targets: Vec<(String, String)>,
}

/// Who is asked: the kernel, or in tests a record of what a kernel said.
pub trait DeviceMapper: fmt::Debug + Send + Sync {
    /// What is known of the map with this uuid; none when there is no such map.
    ///
    /// # Errors
    /// When the device mapper cannot be asked.
    fn status(&self, uuid: &str) -> io::Result<Option<MapStatus>>;
}

/// A multipath map, before it is known by name what uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapEntry {
    /// The device.
    pub block: Block,
    /// Its device-mapper name.
    pub name: Arc<str>,
    /// Its World Wide Identifier.
    pub wwid: String,
    /// How often it is open, maps of partitions that nothing uses aside.
    pub open_count: u32,
    /// Its paths.
    pub paths: Vec<MapPath>,
    /// Maps of its partitions that nothing uses: they go with it.
    pub partitions: Vec<Block>,
    /// Why it is not known whether anything uses it.
    pub unknown: Option<String>,
}

/// A path of a multipath map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapPath {
    /// The disk.
    pub disk: Arc<str>,
    /// Whether dm-multipath would send I/O over it.
    pub active: bool,
}

/// Whether a device is a multipath map.
///
/// # Errors
/// When sysfs cannot be read.
pub fn is_multipath(block: &Block) -> io::Result<bool> {
    Ok(block.map_uuid()?.is_some_and(|uuid| uuid.starts_with(MULTIPATH_UUID)))
}

/// The multipath maps over disks, sorted by device.
///
/// # Errors
/// When sysfs cannot be read. A map that the device mapper cannot be asked for is in use, as far as anybody knows.
pub fn maps<'a>(
    sys: &Path,
    mapper: &dyn DeviceMapper,
    disks: impl Iterator<Item = &'a Block>,
) -> io::Result<Vec<MapEntry>> {
    let mut found: BTreeMap<Number, Block> = BTreeMap::new();
    for disk in disks {
        found.extend(disk.holders(sys)?.into_iter().map(|holder| (holder.number, holder)));
    }
    let mut maps = Vec::new();
    for block in found.into_values() {
        maps.extend(read(sys, mapper, block)?);
    }
    Ok(maps)
}

fn read(sys: &Path, mapper: &dyn DeviceMapper, block: Block) -> io::Result<Option<MapEntry>> {
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

fn multipath(status: &MapStatus) -> io::Result<Vec<Number>> {
    let lines = status.targets.iter().filter(|(kind, _)| kind == "multipath");
    let paths = lines.map(|(_, line)| {
        active_paths(line).ok_or_else(|| {
            let expected = "the status of a multipath target as Linux's drivers/md/dm-mpath.c writes it";
            io::Error::new(io::ErrorKind::InvalidData, format!("expected {expected}, and found {line:?}"))
        })
    });
    Ok(paths.collect::<io::Result<Vec<_>>>()?.concat())
}

/// kpartx makes a map for each partition of a LUN as soon as it sees it, and removes it with the map: as long as
/// nothing uses such a map it is no use of the map below, though it keeps it open.
fn idle_partitions(sys: &Path, mapper: &dyn DeviceMapper, map: &Block, uuid: &str) -> io::Result<Vec<Block>> {
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
