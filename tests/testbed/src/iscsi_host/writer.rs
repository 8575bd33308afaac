//! Continuous I/O on a multipath device, which notices every error and every wrong byte.

use crate::{Guest, eventually};

use super::by_hand::PATIENCE;

/// `tests/vm/image/root/usr/local/sbin/writer`, running on a device.
pub struct Writer<'a> {
    guest: &'a Guest,
}

impl<'a> Writer<'a> {
    /// Starts it, and returns when it has written and read for the first time.
    pub async fn start(guest: &'a Guest, device: &str) -> Self {
        guest.spawn("writer", &format!("exec writer {device}")).await.unwrap();
        let writer = Self { guest };
        writer.until_passes(1).await;
        writer
    }

    /// Waits until it has written and read this number of times from now on.
    pub async fn until_passes(&self, more: usize) {
        let before = self.passes().await;
        eventually(&format!("{more} more passes of the writer"), PATIENCE, async || {
            let now = self.passes().await;
            if now >= before + more { Ok(()) } else { Err(format!("{} of them\n{}", now - before, self.log().await)) }
        })
        .await;
    }

    /// Ends it after it has read back its last pass.
    ///
    /// # Panics
    /// If there was an I/O error, or a wrong byte.
    pub async fn finish(self) {
        let result = self.guest.run_ok("systemctl show --property=ActiveState,ExecMainStatus writer").await.unwrap();
        assert_eq!(result, "ExecMainStatus=0\nActiveState=active\n", "{}", self.log().await);
        self.guest.run_ok("systemctl stop writer").await.unwrap();
        let failed = self.guest.run("systemctl is-failed writer").await.unwrap();
        assert_ne!(failed.stdout, "failed\n", "{}", self.log().await);
    }

    /// Its last line about a pass: the time that it took, and the longest time so far.
    pub async fn last_pass(&self) -> String {
        let log = self.log().await;
        log.lines().rfind(|line| line.starts_with("pass ")).unwrap_or_default().to_owned()
    }

    async fn passes(&self) -> usize {
        self.log().await.lines().filter(|line| line.starts_with("pass ")).count()
    }

    async fn log(&self) -> String {
        self.guest.log("writer").await.unwrap()
    }
}
