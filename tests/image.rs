//! The container image as `make image` makes it, around programs that are compiled without optimization.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what serves a test fails it")]

mod archive;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use assert_cmd::assert::OutputAssertExt as _;
use regex::Regex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The architecture of the machine that runs the tests.
const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
/// The largest program without optimization.
const MOST_BYTES: u64 = 64 << 20;

static IMAGE: LazyLock<Image> = LazyLock::new(Image::make);

/// An archive, unpacked.
struct Image {
    archive: Vec<u8>,
    packages: Value,
    /// The files of the archive.
    layout: TempDir,
    manifest: Value,
    config: Value,
    /// The files of the image.
    root: TempDir,
}

impl Image {
    fn make() -> Self {
        let directory = archive::make();
        let archive = archive::file(&directory);
        let packages = directory.join(format!("multibond-{VERSION}-{ARCHITECTURE}.cdx.json"));
        let (layout, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        unpack(&archive, layout.path());

        let index = json_in(&fs::read(layout.path().join("index.json")).unwrap());
        let manifest = json_in(&blob(layout.path(), only(&index["manifests"])));
        let manifest = json_in(&blob(layout.path(), only(&manifest["manifests"])));
        let config = json_in(&blob(layout.path(), &manifest["config"]));
        let layer = only(&manifest["layers"]);
        blob(layout.path(), layer);
        unpack(&blob_file(layout.path(), layer), root.path());
        let archive = fs::read(archive).unwrap();
        let packages = json_in(&fs::read(packages).unwrap());
        Image { archive, packages, layout, manifest, config, root }
    }

    /// A program of the image, in a root directory with no other file.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new("unshare");
        command.arg("--map-root-user").arg("--root").arg(self.root.path()).arg(name).env_clear();
        command
    }
}

fn unpack(archive: &Path, directory: &Path) {
    Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(directory).assert().success();
}

fn json_in(text: &[u8]) -> Value {
    serde_json::from_slice(text).unwrap()
}

fn only(list: &Value) -> &Value {
    let [only] = list.as_array().unwrap().as_slice() else { panic!("not one alone: {list}") };
    only
}

fn blob_file(layout: &Path, descriptor: &Value) -> PathBuf {
    layout.join("blobs").join(descriptor["digest"].as_str().unwrap().replace(':', "/"))
}

/// Reads the blob of a descriptor, and checks its size and digest.
fn blob(layout: &Path, descriptor: &Value) -> Vec<u8> {
    let blob = fs::read(blob_file(layout, descriptor)).unwrap();
    assert_eq!(descriptor["size"], blob.len(), "{descriptor}");
    assert_eq!(descriptor["digest"], digest(&blob), "{descriptor}");
    blob
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_archive_is_an_oci_layout_with_the_name_in_the_chart() {
    let image = &*IMAGE;
    let layout = image.layout.path();
    assert_eq!(json_in(&fs::read(layout.join("oci-layout")).unwrap()), json!({"imageLayoutVersion": "1.0.0"}));
    let index = json_in(&fs::read(layout.join("index.json")).unwrap());
    let values = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/charts/multibond/values.yaml")).unwrap();
    let repository = values.lines().find_map(|line| line.strip_prefix("  repository: ")).unwrap();
    let name = format!("{repository}:{VERSION}");
    assert_eq!(only(&index["manifests"])["annotations"]["org.opencontainers.image.ref.name"], name);

    assert_eq!(image.manifest["schemaVersion"], 2);
    assert_eq!(image.manifest["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    let layer = only(&image.manifest["layers"]);
    assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    let unpacked = Command::new("gzip").arg("-dc").arg(blob_file(layout, layer)).output().unwrap().stdout;
    assert_eq!(image.config["rootfs"], json!({"type": "layers", "diff_ids": [digest(&unpacked)]}));
    // Index, manifest, configuration and layer.
    assert_eq!(fs::read_dir(layout.join("blobs/sha256")).unwrap().count(), 4);
}

#[test]
fn the_image_holds_two_static_programs_and_nothing_else() {
    let root = IMAGE.root.path();
    let files: BTreeSet<_> = fs::read_dir(root).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(files, ["multibond", "multibond-node"].map(Into::into).into());
    let home = std::env::var("HOME").unwrap();
    for file in files {
        let program = fs::read(root.join(&file)).unwrap();
        let metadata = fs::metadata(root.join(&file)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o755);
        assert!(metadata.size() < MOST_BYTES, "{} bytes", metadata.size());
        assert!(!asks_for_an_interpreter(&program), "it is linked with a C library");
        for path in [env!("CARGO_MANIFEST_DIR"), &format!("{home}/.cargo")] {
            assert!(!program.windows(path.len()).any(|bytes| bytes == path.as_bytes()), "it tells of {path}");
        }
    }
}

/// Whether an ELF file of 64 bits has a program header of the type `PT_INTERP`.
fn asks_for_an_interpreter(program: &[u8]) -> bool {
    let number = |at: usize, bytes: usize| {
        program[at..at + bytes].iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
    };
    assert_eq!(&program[..5], b"\x7fELF\x02");
    let (headers, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    (0..count).any(|header| number(headers + header * size, 4) == 3)
}

#[test]
fn the_image_runs_as_an_ordinary_user_and_is_labelled() {
    let config = &IMAGE.config;
    assert_eq!(config["os"], "linux");
    assert_eq!(config["architecture"], ARCHITECTURE);
    let config = &config["config"];
    assert_eq!(config["Entrypoint"], json!(["/multibond"]));
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["Cmd"], Value::Null);
    let labels = config["Labels"].as_object().unwrap();
    let label = |name: &str| labels[&format!("org.opencontainers.image.{name}")].as_str().unwrap();
    assert_eq!(label("version"), VERSION);
    assert_eq!(label("description"), env!("CARGO_PKG_DESCRIPTION"));
    assert_eq!(label("licenses"), env!("CARGO_PKG_LICENSE"));
    assert_eq!(label("title"), "Multibond");
    assert!(Regex::new("^[0-9a-f]{40}(-dirty)?$").unwrap().is_match(label("revision")), "{labels:?}");
}

#[test]
fn the_programs_run_without_any_other_file_and_give_the_same_plans() {
    for program in ["multibond", "multibond-node"] {
        let path = format!("/{program}");
        assert_eq!(output(IMAGE.program(&path).arg("--version")), format!("{program} {VERSION}\n"));
        IMAGE.program(&path).args(["enter", "/", "sh"]).assert().code(127).stderr("there is no sh\n");
    }
    let planned = |program: Command| {
        let plan = assert_cmd::Command::from_std(program).args(["plan", "-f", "-"]).write_stdin(examples()).assert();
        String::from_utf8(plan.success().get_output().stdout.clone()).unwrap()
    };
    let plan = planned(IMAGE.program("/multibond"));
    assert!(plan.contains("ens2f0"), "{plan}");
    assert_eq!(plan, planned(Command::new(env!("CARGO_BIN_EXE_multibond"))));
}

/// All of `examples/`, as one text.
fn examples() -> String {
    let files =
        fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).unwrap().map(|file| file.unwrap().path());
    let manifests = files.filter(|file| file.extension().is_some_and(|kind| kind == "yaml"));
    manifests.map(|file| fs::read_to_string(file).unwrap()).collect::<Vec<_>>().join("\n---\n")
}

#[test]
fn the_sbom_lists_exactly_the_packages_of_the_lock_file() {
    let components = IMAGE.packages["components"].as_array().unwrap();
    let listed: BTreeMap<_, _> = components.iter().map(|package| (named(package), checksum(package))).collect();
    assert_eq!(listed.len(), components.len());

    let lock = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock")).unwrap();
    let package = Regex::new(r#"name = "(.+)"\nversion = "(.+)"\nsource = .+\nchecksum = "(.+)""#).unwrap();
    let locked = package.captures_iter(&lock).map(|package| package.extract().1);
    let locked: BTreeMap<_, _> =
        locked.map(|[name, version, checksum]| (format!("{name} v{version}"), checksum.to_owned())).collect();

    let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let mut tree = Command::new(env!("CARGO"));
    tree.args(["tree", "--locked", "--offline", "--edges=normal,no-proc-macro", "--prefix=none", "--target", &target]);
    let tree = output(tree.current_dir(env!("CARGO_MANIFEST_DIR")));
    let linked: BTreeSet<_> = tree.lines().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
    let others: Vec<_> = listed.iter().filter(|(package, checksum)| locked.get(*package) != Some(checksum)).collect();
    assert!(others.is_empty(), "not as in Cargo.lock: {others:?}");
    let own = format!("multibond v{VERSION}");
    let missing: Vec<_> = linked.iter().filter(|name| **name != own && !listed.contains_key(*name)).collect();
    assert!(missing.is_empty() && linked.len() > 100, "in the program and not listed: {missing:?}");
    assert_eq!(named(&IMAGE.packages["metadata"]["component"]), own);
}

fn named(package: &Value) -> String {
    format!("{} v{}", package["name"].as_str().unwrap(), package["version"].as_str().unwrap())
}

fn checksum(package: &Value) -> String {
    only(&package["hashes"])["content"].as_str().unwrap().to_owned()
}

#[test]
fn the_same_sources_make_the_same_archive() {
    let first = &IMAGE.archive;
    let again = fs::read(archive::file(&archive::make())).unwrap();
    assert!(*first == again, "{} and {}", digest(first), digest(&again));
}
