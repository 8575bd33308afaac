//! The file behind a loop device. Beside `device_mapper::control` the only module with unsafe code: sysfs shows only the
//! path of the file, as it was in the mount namespace of whoever set the loop device up (kubelet has its own paths for
//! block volumes). The device that the path means is told by an ioctl alone.

#![allow(unsafe_code)]

use std::fs::File;

use rustix::{
    fs::{major, minor},
    io::Errno,
    ioctl::{Getter, Opcode, ioctl},
};

use super::sysfs::DeviceNumber;

/// `LOOP_GET_STATUS64` of Linux's `include/uapi/linux/loop.h`.
const GET_STATUS: Opcode = 0x4c05;
/// `struct loop_info64` of the same file has 232 bytes, and its first fields are 64-bit numbers.
type LoopInfo = [u64; 29];
/// The index of `lo_device`: the device of the file system that the file is in.
const FILE_SYSTEM: usize = 0;
/// The index of `lo_rdevice`: the device that the file is, if it is a device node.
const DEVICE: usize = 2;

/// The file behind a loop device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackingFile {
    /// The device of the file system that the file is in.
    pub file_system: DeviceNumber,
    /// The device that the file is; none if it is an ordinary file.
    pub device: Option<DeviceNumber>,
}

/// The file behind an open loop device; none if there is none.
///
/// # Errors
/// If the kernel does not answer.
pub fn backing_file(device: &File) -> Result<Option<BackingFile>, Errno> {
    // SAFETY: GET_STATUS only writes a `struct loop_info64`, which has the size of LoopInfo; every content is valid.
    match unsafe { ioctl(device, Getter::<GET_STATUS, LoopInfo>::new()) } {
        Ok(info) => Ok(Some(parse(&info))),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error),
    }
}

fn parse(info: &LoopInfo) -> BackingFile {
    let number = |at: usize| DeviceNumber { major: major(info[at]), minor: minor(info[at]) };
    BackingFile { file_system: number(FILE_SYSTEM), device: (info[DEVICE] != 0).then(|| number(DEVICE)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_has_the_size_of_the_kernels_structure() {
        // Five 64-bit and four 32-bit numbers, texts of 64, 64 and 32 bytes, and two 64-bit numbers.
        assert_eq!(size_of::<LoopInfo>(), 5 * 8 + 4 * 4 + 64 + 64 + 32 + 2 * 8);
    }

    #[test]
    fn numbers_are_those_of_the_file_system_and_of_the_device() {
        let mut info = [0; 29];
        info[FILE_SYSTEM] = 0xfd03;
        let file_system = DeviceNumber { major: 253, minor: 3 };
        assert_eq!(parse(&info), BackingFile { file_system, device: None });
        // Minor numbers above 255 continue beyond the major number.
        info[DEVICE] = 0x0010_0810;
        let device = Some(DeviceNumber { major: 8, minor: 272 });
        assert_eq!(parse(&info), BackingFile { file_system, device });
    }

    #[test]
    fn a_file_that_is_no_loop_device_is_an_error() {
        assert!(backing_file(&File::open("/dev/null").unwrap()).is_err());
    }
}
