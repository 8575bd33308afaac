//! Saying once what is wrong, and once that it is over, instead of at every attempt.

use std::fmt::Display;

use tracing::{info, warn};

/// Something that may go wrong again and again.
#[derive(Debug)]
pub struct Complaint {
    what: String,
    last: Option<String>,
}

impl Complaint {
    /// About what, as in `cannot {what}`.
    #[must_use]
    pub fn about(what: impl Into<String>) -> Self {
        Complaint { what: what.into(), last: None }
    }

    /// It went wrong: logged unless it went wrong the same way last time.
    pub fn raise(&mut self, error: impl Display) {
        let error = error.to_string();
        if self.last.as_ref() != Some(&error) {
            warn!(%error, "cannot {}; trying again", self.what);
            self.last = Some(error);
        }
    }

    /// It went well.
    pub fn settle(&mut self) {
        if self.last.take().is_some() {
            info!("can {} again", self.what);
        }
    }
}
