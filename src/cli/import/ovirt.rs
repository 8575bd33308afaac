//! `multibond import ovirt`: converts the iSCSI bonds of an oVirt engine, with their networks, storage and hosts.

mod convert;
mod engine;
mod names;
mod networks;
mod storage;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use self::convert::Manifests;
use self::engine::OvirtEngine;
use super::super::{output, plan::input};

/// Writes manifests from the JSON of an oVirt engine's REST API
///
/// Reads unchanged answers of the API, in any order and any number of files. What has no counterpart is reported on
/// standard error, object by object. Exit code 0: everything was imported; 2: manifests were written, and there are
/// such remarks; 1: the input cannot be read.
#[derive(Args, Debug)]
#[command(after_help = "\
Answers to read, of https://ENGINE/ovirt-engine/api/ with the header Accept: application/json:
  datacenters, clusters, networks, hosts?follow=nics, storageconnections, datacenters/ID/iscsibonds of each;
  storagedomains?follow=storage_connections is optional, and names the storage

Examples:
  multibond import ovirt -f engine/ | multibond plan -f -
  multibond import ovirt -f engine/ --data-center Frankfurt --out-dir manifests")]
pub struct Arguments {
    /// A file of JSON, a directory of such files (*.json), or - for standard input; may be repeated
    #[arg(short, long = "filename", env = "MULTIBOND_FILENAME", value_name = "FILE|DIR|-", required = true)]
    filename: Vec<PathBuf>,
    /// Import only the data center with this name
    #[arg(long, env = "MULTIBOND_DATA_CENTER", value_name = "NAME")]
    data_center: Option<String>,
    /// Write one file for each data center into this directory, which is created if necessary, instead of printing them
    #[arg(long, env = "MULTIBOND_OUT_DIR", value_name = "DIR")]
    out_dir: Option<PathBuf>,
}

/// Writes the manifests, and reports what could not be imported.
pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { filename, data_center, out_dir } = arguments;
    let mut engine = OvirtEngine::default();
    for argument in filename {
        for source in input::sources(&argument, false)? {
            engine.read(&input::text(&source)?).with_context(|| source.to_string())?;
        }
    }
    let Manifests { data_centers, remarks } = convert::convert(&engine, data_center.as_deref())?;
    for remark in &remarks {
        output::complain(format_args!("{remark}"));
    }
    match out_dir {
        Some(directory) => write(&directory, &data_centers)?,
        None => output::print(&data_centers.into_iter().map(|(_, yaml)| yaml).collect::<Vec<_>>().join("---\n"))?,
    }
    Ok(ExitCode::from(if remarks.is_empty() { 0 } else { 2 }))
}

fn write(directory: &Path, data_centers: &[(String, String)]) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory).with_context(|| format!("creating the directory {}", directory.display()))?;
    for (name, yaml) in data_centers {
        let file = directory.join(format!("{name}.yaml"));
        std::fs::write(&file, yaml).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::plan::document,
        fuzz::{Parsed, fuzz, lossy},
    };

    fuzz! {
        any_answer_of_an_engine_is_imported_or_refused: "ovirt" => |input| {
            let mut engine = OvirtEngine::default();
            let read = engine.read(&lossy(input));
            let converted = read.and_then(|()| convert::convert(&engine, None));
            let Manifests { data_centers, remarks } = match converted {
                Ok(manifests) => manifests,
                Err(error) => return Parsed::new().printed([format!("{error:#}")]),
            };
            for document in data_centers.iter().flat_map(|(_, yaml)| document::read(yaml)) {
                assert_eq!(document.content.unwrap().duplicates, [""; 0]);
            }
            Parsed::new().path_parts(data_centers.iter().map(|(name, _)| name)).printed(remarks)
        };
    }
}
