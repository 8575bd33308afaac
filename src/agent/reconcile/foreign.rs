//! What others have made that leads to planned targets: sessions, and records that open-iscsi logs in by itself. It is left
//! alone, and named. Pure.

use std::fmt::Display;

use super::plan::Plan;
use crate::{
    agent::initiator::{AutomaticRecord, Facts, Inventory, SessionOwner},
    api::{HostWarning, reason::PreparedReason},
};

/// The number of sessions or records that a message names.
const SHOWN: usize = 3;

/// The warnings about what others have made.
#[must_use]
pub fn warnings(plan: &Plan, inventory: &Inventory, facts: &Facts) -> Vec<HostWarning> {
    [foreign_sessions(plan, inventory), automatic_records(plan, facts)].into_iter().flatten().collect()
}

/// A session on a planned path of the default network is that path: nobody can tell who made it, and nobody has to.
fn foreign_sessions(plan: &Plan, inventory: &Inventory) -> Option<HostWarning> {
    let mut found = Vec::new();
    for session in &inventory.sessions {
        let SessionOwner::Other(record) = &session.owner else { continue };
        let path = &session.path;
        let is_default_path = path.interface.is_none() && plan.paths.contains_key(path);
        if plan.has_target(&path.target) && !is_default_path {
            found.push(format!("to {path}, with the interface record {record} ({})", maker(record)));
        }
    }
    let (sessions, shown) = counted(found, "a session", "sessions")?;
    let message = format!(
        "{sessions} to planned targets not made by Multibond: {shown}. Multibond leaves it alone; it may put paths over \
         another network into the multipath maps, and its maker may log it out at any time. Give each target one keeper \
         (docs/workloads.md)"
    );
    Some(HostWarning { reason: PreparedReason::ForeignSession, message })
}

/// Who probably made an interface record. kubelet makes one for each volume, `PORTAL:VOLUME`, if the volume has an initiator
/// name.
fn maker(record: &str) -> &'static str {
    if record == "default" {
        "probably kubelet, a CSI driver, or iscsiadm by hand"
    } else if record.starts_with("mb.") {
        "Multibond's name, used by something else"
    } else if record.contains(':') {
        "probably kubelet"
    } else {
        "probably made by hand"
    }
}

fn automatic_records(plan: &Plan, facts: &Facts) -> Option<HostWarning> {
    let is_planned = |AutomaticRecord { target, portal, .. }: &&AutomaticRecord| {
        plan.paths.keys().any(|path| path.target == *target && path.portal == *portal)
    };
    let found: Vec<&AutomaticRecord> = facts.automatic_records.iter().filter(is_planned).collect();
    let (records, shown) = counted(found, "a record", "records")?;
    let message = format!(
        "{records} by which open-iscsi logs in to planned portals when the host boots, and logs out when it is shut down: \
         {shown}. Set node.startup and node.conn[0].startup to manual there (iscsiadm -m node -T TARGET -p PORTAL -I RECORD \
         --op=update -n node.startup -v manual), and in iscsid.conf"
    );
    Some(HostWarning { reason: PreparedReason::AutomaticRecords, message })
}

/// How many there are, and the first few. None if there are none.
fn counted(found: Vec<impl Display>, one: &str, many: &str) -> Option<(String, String)> {
    let count = match found.len() {
        0 => return None,
        1 => format!("there is {one}"),
        count => format!("there are {count} {many}"),
    };
    let more = found.len().saturating_sub(SHOWN);
    let mut shown: Vec<String> = found.into_iter().take(SHOWN).map(|it| it.to_string()).collect();
    shown.extend((more > 0).then(|| format!("and {more} more")));
    Some((count, shown.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::{
        fixtures::{facts, foreign, inventory, path, plan, session},
        initiator::Session,
    };

    fn messages(plan: &Plan, sessions: Vec<Session>, records: Vec<AutomaticRecord>) -> Vec<(PreparedReason, String)> {
        let facts = Facts { automatic_records: records, ..facts(&["ens1"]) };
        let warnings = warnings(plan, &inventory(sessions, vec![]), &facts);
        warnings.into_iter().map(|warning| (warning.reason, warning.message)).collect()
    }

    fn made_with(record: &str, session: Session) -> Session {
        Session { owner: SessionOwner::Other(record.into()), ..session }
    }

    #[test]
    fn a51_a_foreign_session_to_a_planned_target_is_named_with_its_path_and_record() {
        let wanted = plan("r", &[path("a", "1", "ens1")]);
        let unplanned = foreign(session(1, path("b", "1", "-")));
        assert_eq!(messages(&wanted, vec![session(2, path("a", "1", "ens1")), unplanned], vec![]), []);
        let records = [
            ("default", "kubelet, a CSI driver"),
            ("10.0.1.10:3260:pv-1", "kubelet"),
            ("mb.ens2", "else"),
            ("hand", "by hand"),
        ];
        for (record, maker) in records {
            let theirs = made_with(record, session(1, path("a", "1", "-")));
            let (reason, message) = messages(&wanted, vec![theirs], vec![]).remove(0);
            assert_eq!(reason, PreparedReason::ForeignSession);
            assert!(message.contains("there is a session to planned targets") && message.contains(maker), "{message}");
            assert!(message.contains(record) && message.contains("10.0.1.10:3260"), "{message}");
        }
    }

    #[test]
    fn a51_a_default_session_on_a_planned_default_path_is_not_named() {
        let wanted = plan("r", &[path("a", "1", "-"), path("a", "2", "ens2")]);
        assert_eq!(messages(&wanted, vec![foreign(session(1, path("a", "1", "-")))], vec![]), []);
        let bound = foreign(session(1, path("a", "2", "ens2")));
        assert_eq!(messages(&wanted, vec![bound], vec![]).len(), 1, "its maker may log it out at any time");
    }

    #[test]
    fn a51_many_foreign_sessions_are_counted_and_the_first_named() {
        let wanted = plan("r", &[path("a", "1", "ens1")]);
        let sessions = (1..=5).map(|id| foreign(session(id, path("a", &id.to_string(), "-")))).collect();
        let (_, message) = messages(&wanted, sessions, vec![]).remove(0);
        assert!(message.contains("there are 5 sessions") && message.contains("and 2 more"), "{message}");
    }

    #[test]
    fn a55_automatic_records_to_planned_portals_are_named() {
        let wanted = plan("r", &[path("a", "1", "ens1")]);
        let record = |target: &str, portal: &str| {
            let path = path(target, portal, "-");
            AutomaticRecord { target: path.target, portal: path.portal, record: "default".into() }
        };
        assert_eq!(messages(&wanted, vec![], vec![record("a", "2"), record("b", "1")]), [], "not planned");
        let (reason, message) = messages(&wanted, vec![], vec![record("a", "1")]).remove(0);
        assert_eq!(reason, PreparedReason::AutomaticRecords);
        assert!(message.contains("iqn.2003-01.org.example:a at 10.0.1.10:3260 through default"), "{message}");
    }
}
