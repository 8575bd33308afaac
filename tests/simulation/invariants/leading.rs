//! Invariant 4: a replica begins no write after its own deadline of leading, and no two lead at once.

use std::{collections::BTreeMap, time::Duration};

use http::Method;

use super::Sent;
use crate::{actors::RENEW_DEADLINE, clock};

const LEADER_LEASE: &str = "multibond-controller";

/// What each replica knows of its own lead.
#[derive(Default)]
pub struct Leading(BTreeMap<String, Candidate>);

#[derive(Default)]
struct Candidate {
    /// When it has begun its last attempt to get or to renew the lease.
    attempt: Duration,
    /// Until when it may act.
    until: Option<Duration>,
}

impl Leading {
    pub fn begins(&mut self, sent: &Sent) -> Result<(), String> {
        if !sent.is_of_controller() {
            return Ok(());
        }
        let candidate = self.0.entry(sent.actor.clone()).or_default();
        if sent.plural == "leases" && (sent.name == LEADER_LEASE || sent.method == Method::POST) {
            if sent.is_read {
                candidate.attempt = clock::elapsed();
            }
            return Ok(());
        }
        let now = clock::elapsed();
        if sent.is_read || candidate.until.is_some_and(|until| now < until) {
            return Ok(());
        }
        let until = candidate.until.map_or("it has never led".to_owned(), |until| format!("it led until {until:?}"));
        Err(format!("4: {sent} is begun at {now:?} without the lead: {until}"))
    }

    pub fn written(&mut self, sent: &Sent) -> Result<(), String> {
        if !sent.is_of_controller() || sent.plural != "leases" {
            return Ok(());
        }
        let spec = &sent.body["spec"];
        let holds = spec["holderIdentity"].as_str().is_some_and(|holder| !holder.is_empty() && sent.actor == holder);
        if !holds {
            return Ok(());
        }
        let now = clock::elapsed();
        let leads = |candidate: &Candidate| candidate.until.is_some_and(|until| now < until);
        let other = self.0.iter().find(|(name, candidate)| **name != sent.actor && leads(candidate));
        if let Some((name, Candidate { until, .. })) = other {
            return Err(format!("4: {sent} takes the lead at {now:?}, and {name} leads until {until:?}"));
        }
        let candidate = self.0.entry(sent.actor.clone()).or_default();
        candidate.until = Some(candidate.attempt + RENEW_DEADLINE);
        Ok(())
    }
}
