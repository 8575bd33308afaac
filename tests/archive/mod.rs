//! The image, as `make image` makes it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Makes the image anew around programs without optimization, with the dependencies that are compiled already, and
/// returns the directory where its archive is.
pub fn make() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    Command::new(root.join("image/build")).arg("dev").status().map(|status| assert!(status.success())).unwrap();
    let target = Command::new(root.join("tests/check.sh")).arg("target").output().unwrap().stdout;
    Path::new(String::from_utf8(target).unwrap().trim()).join("image/dev")
}

/// Where the archive is in that directory.
pub fn file(directory: &Path) -> PathBuf {
    directory.join(format!("multibond-{}.oci.tar", env!("CARGO_PKG_VERSION")))
}
