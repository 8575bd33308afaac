//! `/dev/mapper/control`. With `loop_device` the only module with unsafe code.
//!
//! The device mapper's only interface is an ioctl, and every crate that wraps it needs libclang. This module calls only
//! `DM_TABLE_STATUS`, which changes nothing. The structures are those of Linux's `include/uapi/linux/dm-ioctl.h`,
//! version 4.0.0. They are read and written as bytes, so only the call itself is unsafe.

#![allow(unsafe_code)]

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use rustix::{
    io::Errno,
    ioctl::{Opcode, Updater, ioctl, opcode},
};

use super::{DeviceMapper, MapStatus};

/// `struct dm_ioctl`.
const HEADER: usize = 312;
/// The size of the header and the answer. A map with 64 paths needs 3 KiB.
const BUFFER: usize = 16 * 1024;
/// `_IOWR(DM_IOCTL, DM_TABLE_STATUS_CMD, struct dm_ioctl)`.
const TABLE_STATUS: Opcode = opcode::read_write::<[u8; HEADER]>(0xfd, 12);
/// `DM_NOFLUSH_FLAG`: do not flush I/O to read the status.
const NO_FLUSH: u32 = 1 << 11;
/// `DM_BUFFER_FULL_FLAG`: the answer did not fit.
const BUFFER_FULL: u32 = 1 << 8;

// Offsets of the fields of `struct dm_ioctl`.
const VERSION: usize = 0;
const DATA_SIZE: usize = 12;
const DATA_START: usize = 16;
const TARGET_COUNT: usize = 20;
const OPEN_COUNT: usize = 24;
const FLAGS: usize = 28;
const UUID: usize = 176;
/// The size of the field, with the final zero.
const UUID_LENGTH: usize = 129;

// Offsets of the fields of `struct dm_target_spec`, which precedes the status line of each target.
const NEXT: usize = 20;
const TARGET_TYPE: usize = 24;
const TARGET_TYPE_LENGTH: usize = 16;
const TARGET_SPEC: usize = 40;

/// The kernel's device mapper.
#[derive(Debug)]
pub struct Control {
    device: PathBuf,
}

/// Aligned like the kernel's structures.
#[repr(C, align(8))]
struct Buffer([u8; BUFFER]);

impl Control {
    /// The device mapper of the host whose device nodes are in `dev`.
    #[must_use]
    pub fn new(dev: &Path) -> Self {
        Control { device: dev.join("mapper/control") }
    }
}

impl DeviceMapper for Control {
    fn status(&self, uuid: &str) -> io::Result<Option<MapStatus>> {
        let control =
            File::options().read(true).write(true).open(&self.device).map_err(|error| {
                io::Error::new(error.kind(), format!("cannot open {}: {error}", self.device.display()))
            })?;
        let mut buffer = Box::new(Buffer(request(uuid)?));
        // SAFETY: TABLE_STATUS reads and writes as many bytes as DATA_SIZE says, which is the length of the buffer; the
        // buffer is aligned as `struct dm_ioctl`, and every content of it is valid.
        let answered = unsafe { ioctl(&control, Updater::<TABLE_STATUS, Buffer>::new(&mut buffer)) };
        match answered {
            Ok(()) => parse_answer(&buffer.0).map(Some),
            Err(Errno::NXIO) => Ok(None),
            Err(error) => {
                let what = format!("{} does not tell the status of the map {uuid}: {error}", self.device.display());
                Err(io::Error::new(io::Error::from(error).kind(), what))
            }
        }
    }
}

fn request(uuid: &str) -> io::Result<[u8; BUFFER]> {
    if uuid.len() >= UUID_LENGTH {
        return Err(malformed("a UUID that is longer than the device mapper allows"));
    }
    let mut buffer = [0; BUFFER];
    put(&mut buffer, VERSION, 4);
    put(&mut buffer, DATA_SIZE, u32::try_from(BUFFER).map_err(|_| malformed("a buffer"))?);
    put(&mut buffer, DATA_START, u32::try_from(HEADER).map_err(|_| malformed("a header"))?);
    put(&mut buffer, FLAGS, NO_FLUSH);
    buffer[UUID..UUID + uuid.len()].copy_from_slice(uuid.as_bytes());
    Ok(buffer)
}

fn parse_answer(buffer: &[u8]) -> io::Result<MapStatus> {
    let field = |at| number(buffer, at).ok_or_else(|| malformed("an answer that ends early"));
    if field(FLAGS)? & BUFFER_FULL != 0 {
        return Err(malformed("an answer longer than 16 KiB"));
    }
    let start = size(field(DATA_START)?);
    let mut targets = Vec::new();
    let mut at = start;
    for _ in 0..field(TARGET_COUNT)? {
        let kind = text(buffer, at + TARGET_TYPE, TARGET_TYPE_LENGTH);
        let line = text(buffer, at + TARGET_SPEC, BUFFER);
        let (Some(kind), Some(line)) = (kind, line) else { return Err(malformed("an answer that ends early")) };
        targets.push((kind, line));
        let next = start + size(field(at + NEXT)?);
        if next <= at {
            return Err(malformed("an answer whose targets are not in order"));
        }
        at = next;
    }
    Ok(MapStatus { open_count: field(OPEN_COUNT)?, targets })
}

fn put(buffer: &mut [u8], at: usize, number: u32) {
    buffer[at..at + 4].copy_from_slice(&number.to_ne_bytes());
}

fn number(buffer: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*buffer.get(at..)?.first_chunk()?))
}

/// A text in a field of `length` bytes; it ends with a zero or fills the field.
fn text(buffer: &[u8], at: usize, length: usize) -> Option<String> {
    let bytes = buffer.get(at..)?;
    let bytes = &bytes[..bytes.len().min(length)];
    let bytes = bytes.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(bytes).into_owned())
}

fn size(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn malformed(found: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the device mapper: found {found}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::{Parsed, fuzz};

    /// An answer as `table_status` and `retrieve_status` of Linux's `drivers/md/dm-ioctl.c` lay it out.
    fn answered(open_count: u32, flags: u32, targets: &[(&str, &str)]) -> Vec<u8> {
        let mut buffer = request("mpath-3600a").unwrap().to_vec();
        put(&mut buffer, OPEN_COUNT, open_count);
        put(&mut buffer, FLAGS, flags);
        put(&mut buffer, TARGET_COUNT, u32::try_from(targets.len()).unwrap());
        let mut at = HEADER;
        for (kind, line) in targets {
            buffer[at + TARGET_TYPE..at + TARGET_TYPE + kind.len()].copy_from_slice(kind.as_bytes());
            let text = at + TARGET_SPEC;
            buffer[text..text + line.len()].copy_from_slice(line.as_bytes());
            let end = (text + line.len() + 1).next_multiple_of(8);
            put(&mut buffer, at + NEXT, u32::try_from(end - HEADER).unwrap());
            at = end;
        }
        buffer
    }

    #[test]
    fn the_ioctl_number_is_the_one_in_the_kernels_header() {
        assert_eq!(TABLE_STATUS, 0xc138_fd0c);
    }

    #[test]
    fn the_request_contains_only_the_uuid_of_the_map() {
        let asked = request("mpath-3600a").unwrap();
        let words: Vec<u32> = (0..48).step_by(4).map(|at| number(&asked, at).unwrap()).collect();
        assert_eq!(words, [4, 0, 0, 16384, 312, 0, 0, 1 << 11, 0, 0, 0, 0]);
        assert_eq!(text(&asked, UUID, UUID_LENGTH).unwrap(), "mpath-3600a");
        assert!(asked[48..UUID].iter().chain(&asked[HEADER..]).all(|byte| *byte == 0));
        assert!(request(&"x".repeat(UUID_LENGTH)).is_err());
    }

    #[test]
    fn the_open_count_and_every_target_are_read() {
        let targets = [("multipath", "2 0 0 0 1 1 A 0 1 0 8:0 A 0 "), ("a-type-of-15-chr", ""), ("error", "x")];
        let found = parse_answer(&answered(3, 0, &targets)).unwrap();
        let targets = targets.iter().map(|(kind, line)| ((*kind).to_owned(), (*line).to_owned())).collect();
        assert_eq!(found, MapStatus { open_count: 3, targets });
        assert_eq!(parse_answer(&answered(0, 0, &[])).unwrap().targets, []);
    }

    #[test]
    fn a_truncated_answer_is_an_error() {
        let targets = [("multipath", "2 0 0 0 0 0")];
        assert!(
            parse_answer(&answered(0, BUFFER_FULL, &targets)).unwrap_err().to_string().contains("longer than 16 KiB")
        );
        let mut beyond = answered(0, 0, &targets);
        put(&mut beyond, TARGET_COUNT, 2);
        put(&mut beyond, HEADER + NEXT, u32::MAX);
        assert!(parse_answer(&beyond).unwrap_err().to_string().contains("ends early"));
    }

    #[test]
    fn a_missing_device_node_is_an_error_that_names_it() {
        let error = Control::new(Path::new("/nonexistent")).status("mpath-3600a").unwrap_err();
        assert!(error.to_string().starts_with("cannot open /nonexistent/mapper/control: "), "{error}");
    }

    #[test]
    fn a_target_that_points_to_itself_is_an_error() {
        let mut endless = answered(0, 0, &[("multipath", "2 0 0 0 0 0")]);
        put(&mut endless, TARGET_COUNT, u32::MAX);
        put(&mut endless, HEADER + NEXT, 0);
        assert!(parse_answer(&endless).unwrap_err().to_string().contains("not in order"));
    }

    fuzz! {
        any_answer_of_the_device_mapper_is_read: "dm-answer" => |input| match parse_answer(input) {
            Ok(status) => Parsed::new().texts(status.targets.iter().flat_map(|(kind, line)| [kind, line])),
            Err(error) => Parsed::new().shown([error]),
        };
    }
}
