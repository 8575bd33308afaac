//! The Linux host of the node, whichever iSCSI initiator it has.
//!
//! What is read needs no tool and no fork: block devices are in [`sysfs`], multipath maps are asked of the
//! [`device_mapper`], what uses a device is in `/proc` ([`device_users`]), [`interfaces`] and [`events`] come by netlink.
//! What is done is done by the host's own [`tools`].

pub mod access;
pub mod device_mapper;
pub mod device_users;
pub mod events;
pub mod exec;
pub mod interfaces;
pub mod mount_points;
pub mod multipath;
pub mod run_tool;
pub mod sysfs;
pub mod tools;
