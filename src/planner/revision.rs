//! The revision of a plan: a hash of the work of a host.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::api::{HeldPortals, Iqn, PlannedPath, Revision, SessionSettings};

/// Computes the revision. It changes if and only if the work of the host changes: the names of bonds, networks and
/// storages are not part of it.
///
/// Stable across versions of the program: the text that is hashed is fixed here and tested literally. Each part
/// is followed by a tab or a line feed. No part contains either, so different plans have different texts.
pub(super) fn revision(
    paths: &[PlannedPath],
    hold: &[Iqn],
    hold_portals: &[HeldPortals],
    session: SessionSettings,
) -> Revision {
    let mut text = String::with_capacity(128 * (paths.len() + hold.len()));
    let SessionSettings {
        login_timeout_seconds,
        replacement_timeout_seconds,
        noop_interval_seconds,
        noop_timeout_seconds,
    } = session;
    for PlannedPath { target, portal, tpgt, interface, chap_secret, network: _, storage: _, bonds: _ } in paths {
        let interface = interface.as_deref().unwrap_or_default();
        let secret = chap_secret.as_deref().unwrap_or_default();
        for part in ["path", target, portal, &tpgt.to_string(), interface] {
            text.push_str(part);
            text.push('\t');
        }
        text.push_str(secret);
        text.push('\n');
    }
    if !paths.is_empty() {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "session\t{login_timeout_seconds}\t{replacement_timeout_seconds}\t{noop_interval_seconds}\t{noop_timeout_seconds}"
        );
    }
    for target in hold {
        let _ = writeln!(text, "hold\t{target}");
    }
    for HeldPortals { target, portals } in hold_portals {
        for portal in portals {
            let _ = writeln!(text, "hold\t{target}\t{portal}");
        }
    }
    let digest = Sha256::digest(text.as_bytes());
    digest.first_chunk().map(|first| format!("{:08x}", u32::from_be_bytes(*first)).into()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn path(interface: Option<&str>) -> PlannedPath {
        PlannedPath {
            target: "iqn.2003-01.org.example:a".into(),
            portal: "10.0.1.10:3260".into(),
            tpgt: 1,
            interface: interface.map(Into::into),
            network: Some("san-a".into()),
            storage: "array".into(),
            bonds: vec!["storage".into()],
            chap_secret: None,
        }
    }

    fn held(portal: &str) -> HeldPortals {
        HeldPortals { target: "iqn.x".into(), portals: vec![portal.into()] }
    }

    #[test]
    fn is_the_same_in_every_version_of_the_program() {
        assert_eq!(revision(&[], &[], &[], SessionSettings::default()), "e3b0c442");
        assert_eq!(revision(&[path(Some("ens1"))], &["iqn.x".into()], &[], SessionSettings::default()), "90275b75");
    }

    #[test]
    fn ignores_names_and_knows_everything_that_a_host_does() {
        let base = revision(&[path(Some("ens1"))], &[], &[], SessionSettings::default());
        let renamed =
            PlannedPath { network: Some("other".into()), storage: "b".into(), bonds: vec![], ..path(Some("ens1")) };
        assert_eq!(revision(&[renamed], &[], &[], SessionSettings::default()), base);
        let different = [
            revision(&[path(None)], &[], &[], SessionSettings::default()),
            revision(&[PlannedPath { tpgt: 2, ..path(Some("ens1")) }], &[], &[], SessionSettings::default()),
            revision(
                &[PlannedPath { chap_secret: Some("s".into()), ..path(Some("ens1")) }],
                &[],
                &[],
                SessionSettings::default(),
            ),
            revision(&[path(Some("ens1"))], &["iqn.x".into()], &[], SessionSettings::default()),
            revision(&[path(Some("ens1"))], &["iqn.x".into()], &[held("10.0.1.10:3260")], SessionSettings::default()),
            revision(&[path(Some("ens1"))], &["iqn.x".into()], &[held("10.0.2.10:3260")], SessionSettings::default()),
            revision(
                &[path(Some("ens1"))],
                &[],
                &[],
                SessionSettings { noop_timeout_seconds: 6, ..SessionSettings::default() },
            ),
        ];
        let all: BTreeSet<_> = different.iter().chain([&base]).collect();
        assert_eq!(all.len(), different.len() + 1, "{different:?}");
    }
}
