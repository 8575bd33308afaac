//! The Linux host of the node, independent of its iSCSI initiator.
//!
//! Reading needs no tool and no fork: block devices come from [`sysfs`], multipath maps from the kernel's
//! [`device_mapper`], the users of a device from `/proc` and the kernel ([`device_users`], [`block_node`]), network [`interfaces`] and [`events`] from
//! netlink. Other files of the host are found below its root directory ([`host_root`]). Changes are made with the host's
//! own [`tools`].

pub mod access;
pub mod block_node;
pub mod device_mapper;
pub mod device_users;
pub mod error;
pub mod events;
pub mod exec;
pub mod host_root;
pub mod interfaces;
pub mod listener;
pub mod loop_device;
pub mod mount_points;
pub mod multipath;
pub mod private_file;
pub mod processes;
pub mod run_tool;
pub mod sysctls;
pub mod sysfs;
pub mod time_limit;
pub mod tools;
