//! The LUNs that a host sees, as its agent reports them.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Iqn, closed_set::closed_set};

/// The most LUNs that a Host lists; the others are counted.
pub const LISTED_LUNS: usize = 512;

/// The LUNs that a host sees through its planned sessions. A LUN is what the disks with one WWID are.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HostLuns {
    /// How many LUNs have no problem, of all: `12/12`.
    pub summary: String,
    /// The LUNs with a problem, the worst first; at most 512.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 512))]
    pub problems: Vec<LunProblem>,
    /// The others, sorted, each as one text: WWID, size in bytes, active of all paths, and the number of the LUN at
    /// each target, such as `3600a 1073741824 4/4 iqn.2003-01.org.example:array-a#1`. At most 512 with those above.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 512))]
    pub healthy: Vec<String>,
    /// LUNs for which there is no room in the lists; they count in `summary`.
    #[serde(skip_serializing_if = "is_zero")]
    pub left_out: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A LUN without a problem: the text of [`HostLuns::healthy`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthyLun {
    /// The LUN's World Wide Identifier, as multipath has it.
    pub wwid: String,
    /// Its size: that of its map, or of its largest disk.
    pub size_bytes: u64,
    /// Disks over which I/O goes.
    pub active: u32,
    /// Disks, or sessions that should show one if these are more.
    pub paths: u32,
    /// Where it is, sorted.
    pub at: Vec<LunAddress>,
}

impl fmt::Display for HealthyLun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HealthyLun { wwid, size_bytes, active, paths, at } = self;
        write!(f, "{wwid} {size_bytes} {active}/{paths}")?;
        at.iter().try_for_each(|at| write!(f, " {at}"))
    }
}

/// A text that is no [`HealthyLun`]: a newer agent may write more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a WWID, a size in bytes, active/paths and iqn#lun, each after a space")]
pub struct NoHealthyLun;

impl FromStr for HealthyLun {
    type Err = NoHealthyLun;

    fn from_str(text: &str) -> Result<Self, NoHealthyLun> {
        let mut parts = text.split(' ');
        let mut next = || parts.next().ok_or(NoHealthyLun);
        let (wwid, size, paths) = (next()?.to_owned(), next()?, next()?);
        let (active, paths) = paths.split_once('/').ok_or(NoHealthyLun)?;
        Ok(HealthyLun {
            wwid,
            size_bytes: size.parse().map_err(|_| NoHealthyLun)?,
            active: active.parse().map_err(|_| NoHealthyLun)?,
            paths: paths.parse().map_err(|_| NoHealthyLun)?,
            at: parts.map(str::parse).collect::<Result<_, _>>()?,
        })
    }
}

/// A LUN that is not as it should be.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LunProblem {
    /// What is wrong; if several things are, the worst.
    pub problem: LunProblemKind,
    /// The LUN's World Wide Identifier, as multipath has it.
    pub wwid: String,
    /// Where it is, sorted; at most 64 of several targets.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub at: Vec<LunAddress>,
    /// Its size: that of its map, or of its largest disk.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub size_bytes: i64,
    /// Disks of planned sessions.
    #[serde(default)]
    pub disks: u32,
    /// Those over which I/O goes.
    #[serde(default)]
    pub active: u32,
    /// Sessions that work and should show it.
    #[serde(default)]
    pub expected: u32,
    /// What was found, what was expected, and what to do.
    #[serde(default)]
    pub message: String,
}

/// A LUN of a target.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LunAddress {
    /// The target's iSCSI name.
    pub target: Iqn,
    /// The number of the LUN, as the kernel counts: a number with flat addressing is 16384 and more (SAM-5, 4.7).
    #[schemars(range(min = 0))]
    pub lun: i64,
}

impl fmt::Display for LunAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.target, self.lun)
    }
}

impl FromStr for LunAddress {
    type Err = NoHealthyLun;

    fn from_str(text: &str) -> Result<Self, NoHealthyLun> {
        let (target, lun) = text.rsplit_once('#').ok_or(NoHealthyLun)?;
        Ok(LunAddress { target: target.into(), lun: lun.parse().map_err(|_| NoHealthyLun)? })
    }
}

closed_set! {
    /// What is wrong with a LUN, the worst first.
    LunProblemKind {
        /// It has a map, and no path of it works.
        NoActivePath,
        /// A session that should show it has no disk of it.
        PathsMissing,
        /// Its disks, or its map, have different sizes.
        SizeDiffers,
        /// Something that a newer agent knows, and this version does not.
        Other,
    } else Other
}

#[cfg(test)]
mod tests {
    use super::{HealthyLun, LunAddress, NoHealthyLun};

    #[test]
    fn a_healthy_lun_is_written_and_read_back() {
        let at = |target: &str, lun| LunAddress { target: target.into(), lun };
        let lun = HealthyLun {
            wwid: "3600a".to_owned(),
            size_bytes: 1 << 30,
            active: 3,
            paths: 4,
            at: vec![at("iqn.2003-01.org.example:a", 1), at("iqn.2003-01.org.example:b", 16384)],
        };
        let text = "3600a 1073741824 3/4 iqn.2003-01.org.example:a#1 iqn.2003-01.org.example:b#16384";
        assert_eq!((lun.to_string().as_str(), text.parse().as_ref()), (text, Ok(&lun)));
        for other in ["", "3600a", "3600a big 3/4", "3600a 1 3", "3600a 1 3/4 iqn.2003-01.org.example:a"] {
            assert_eq!(other.parse::<HealthyLun>(), Err(NoHealthyLun), "{other}");
        }
    }
}
