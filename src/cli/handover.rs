//! Hands the console's address to the browser through a file that only this user can read.
//!
//! All users of a machine can read the arguments of its processes, and the address signs in whoever opens it first. So
//! the browser gets the name of a file in its arguments, and the file sends it to the address.

use std::{
    env,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A directory with the file. It is removed with this value.
pub(super) struct Handover {
    directory: PathBuf,
}

impl Handover {
    /// Writes the file, in the user's runtime directory, or in that for temporary files if there is none.
    ///
    /// # Errors
    /// If the directory or the file cannot be written.
    pub(super) fn new(url: &str) -> io::Result<Self> {
        let parent = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|directory| directory.is_dir());
        Self::within(&parent.unwrap_or_else(env::temp_dir), url)
    }

    fn within(parent: &Path, url: &str) -> io::Result<Self> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let directory = parent.join(format!("multibond-console-{:016x}", u64::from_ne_bytes(random)));
        // It fails if the name exists: somebody else may own what is there.
        DirBuilder::new().mode(0o700).create(&directory)?;
        let handover = Handover { directory };
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(handover.file())?;
        file.write_all(page(url).as_bytes())?;
        Ok(handover)
    }

    /// The file that the browser opens.
    fn file(&self) -> PathBuf {
        self.directory.join("open.html")
    }

    /// Starts the desktop's browser.
    ///
    /// # Errors
    /// If the program that opens it cannot be started.
    pub(super) fn open_browser(&self) -> io::Result<()> {
        let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
        let mut command = Command::new(program);
        command.arg(self.file()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().map(drop)
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        // What is left behind is of no use: the address works once, and the console ends now.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A page that sends the browser to the address. The address has no character that HTML would have to escape.
fn page(url: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>Multibond console</title>\n\
         <meta http-equiv=\"refresh\" content=\"0; url={url}\">\n</head>\n\
         <body>\n<p><a href=\"{url}\">Open the console</a></p>\n</body>\n</html>\n"
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const URL: &str = "http://127.0.0.1:4711/?token=1ac3";

    #[test]
    fn only_its_user_can_read_the_file_with_the_address() {
        let parent = tempfile::tempdir().unwrap();
        let handover = Handover::within(parent.path(), URL).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&handover.directory), mode(&handover.file())), (0o700, 0o600));
        assert!(fs::read_to_string(handover.file()).unwrap().contains(&format!("content=\"0; url={URL}\"")));
    }

    #[test]
    fn the_file_is_gone_when_the_console_ends() {
        let parent = tempfile::tempdir().unwrap();
        drop(Handover::within(parent.path(), URL).unwrap());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
