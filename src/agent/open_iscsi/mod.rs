//! The open-iscsi of a real host.
//!
//! Reading ([`Reader`]) needs no tool and no fork: sessions and disks are in [`sysfs`], maps are asked of the
//! [`device_mapper`], what uses a device is in `/proc` ([`uses`]), [`interfaces`] and [`events`] come by netlink.

pub mod device_mapper;
pub mod events;
pub mod interfaces;
mod reader;
pub mod sysfs;
pub mod uses;

pub use reader::{Reader, Roots};

#[cfg(test)]
mod fixtures;
