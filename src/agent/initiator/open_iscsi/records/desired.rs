//! What the agent wants in its records, and what it reads from them. Pure.

use super::{
    database::{TCP, TRANSPORT},
    settings::{Setting, Settings, Value},
};
use crate::{
    agent::{
        initiator::{AutomaticRecord, Login, open_iscsi::record::DEFAULT_RECORD},
        types::{
            IscsiPath,
            credentials::{Account, Credentials, Password},
        },
    },
    api::{Portal, SessionSettings, address::parse_ip},
    ops::one_line,
};

/// What every record of the agent has, for as long as it exists.
pub(super) fn identity() -> [Setting; 5] {
    [
        plain(TRANSPORT, TCP),
        plain(MARK[0], MARK[1]),
        // Only the agent logs in and out; nothing does so at boot or shutdown.
        plain(STARTUP[0], "manual"),
        plain(STARTUP[1], "manual"),
        // A discovery of another tool writes what the portal's name and the mark would mean then.
        plain(DISCOVERY[0], DISCOVERY[1]),
    ]
}

/// A record, if open-iscsi logs in by it when the host boots.
pub(super) fn automatic(settings: &Settings) -> Option<AutomaticRecord> {
    let is_automatic = |name: &str| settings.get(name).is_some_and(|startup| startup == "automatic");
    let port = settings.get("node.conn[0].port")?.parse().ok()?;
    let record = settings.get("iface.iscsi_ifacename").map_or(DEFAULT_RECORD, String::as_str);
    STARTUP.into_iter().any(is_automatic).then_some(AutomaticRecord {
        target: one_line(settings.get("node.name")?).into(),
        portal: Portal::new(&one_line(settings.get("node.conn[0].address")?), port),
        record: one_line(record).into(),
    })
}

/// Whether open-iscsi logs in by itself when the host boots.
const STARTUP: [&str; 2] = ["node.startup", "node.conn[0].startup"];

/// The agent's mark. A setting that open-iscsi does not know would be lost when iscsiadm changes another one, so it is one
/// that open-iscsi keeps and does not use in records that no discovery has made. There iscsiadm writes 0, and it refuses
/// to change it. The value is "mb" in ASCII.
const MARK: [&str; 2] = ["node.discovery_port", "28002"];

pub(super) fn has_mark(settings: &Settings) -> bool {
    settings.get(MARK[0]).is_some_and(|value| *value == MARK[1])
}

/// The settings that a record should have; an empty value unsets a setting.
pub(super) fn desired_settings(login: &Login) -> Vec<Setting> {
    let SessionSettings {
        login_timeout_seconds,
        replacement_timeout_seconds,
        noop_interval_seconds,
        noop_timeout_seconds,
    } = login.settings;
    let mut settings = identity().to_vec();
    settings.extend([
        // iscsid gives up after this many times the login timeout. The agent retries, and reports the path meanwhile.
        plain("node.session.initial_login_retry_max", "1"),
        plain("node.conn[0].timeo.login_timeout", &login_timeout_seconds.to_string()),
        plain("node.session.timeo.replacement_timeout", &replacement_timeout_seconds.to_string()),
        plain("node.conn[0].timeo.noop_out_interval", &noop_interval_seconds.to_string()),
        plain("node.conn[0].timeo.noop_out_timeout", &noop_timeout_seconds.to_string()),
        plain(AUTH_METHOD, if login.credentials.is_some() { CHAP } else { "None" }),
    ]);
    let outgoing = login.credentials.as_ref().map(|Credentials { outgoing, .. }| outgoing);
    let incoming = login.credentials.as_ref().and_then(|Credentials { incoming, .. }| incoming.as_ref());
    settings.extend(account(OUTGOING, outgoing));
    settings.extend(account(INCOMING, incoming));
    settings.push(portal_name(&login.path));
    // The defaults of a host may request several sessions, or none of their disks.
    settings.extend([plain(SESSIONS, "1"), plain(SCAN, "auto")]);
    settings
}

/// The DNS name of a portal, in its record by address. open-iscsi reads this setting only for portals that it has
/// discovered, and keeps it for all.
pub(super) const PORTAL_NAME: &str = "node.discovery_address";

/// How a record was discovered: not at all.
const DISCOVERY: [&str; 2] = ["node.discovery_type", "static"];
const AUTH_METHOD: &str = "node.session.auth.authmethod";

const CHAP: &str = "CHAP";

/// The settings of the accounts: name and password.
const OUTGOING: [&str; 2] = ["node.session.auth.username", "node.session.auth.password"];

const INCOMING: [&str; 2] = ["node.session.auth.username_in", "node.session.auth.password_in"];

/// Settings that old versions do not know. They are changed only if a record has them.
const SESSIONS: &str = "node.session.nr_sessions";

const SCAN: &str = "node.session.scan";

/// Empty for a portal that is an address.
pub(super) fn portal_name(path: &IscsiPath) -> Setting {
    plain(PORTAL_NAME, if path.portal.has_name() { path.portal.host() } else { "" })
}

/// The DNS name in a record by address; none if the setting has its other meaning.
pub(super) fn stored_name(settings: &Settings) -> Option<&String> {
    let is_discovered = settings.get(DISCOVERY[0]).is_some_and(|how| how != DISCOVERY[1]);
    settings.get(PORTAL_NAME).filter(|name| !is_discovered && parse_ip(name).is_none())
}

fn plain(name: &'static str, value: &str) -> Setting {
    Setting { name, value: Value::Plain(value.to_owned()) }
}

fn secret(name: &'static str, value: Option<&Password>) -> Setting {
    value.map_or_else(|| plain(name, ""), |value| Setting { name, value: Value::Secret(value.clone()) })
}

fn account([name, password]: [&'static str; 2], account: Option<&Account>) -> [Setting; 2] {
    [secret(name, account.map(|account| &account.name)), secret(password, account.map(|account| &account.password))]
}

/// The credentials in a record.
pub(super) fn credentials(settings: &Settings) -> Option<Credentials> {
    let account = |names: [&str; 2]| {
        let [name, password] = names.map(|name| settings.get(name).cloned().map(Password::from));
        Some(Account { name: name?, password: password? })
    };
    settings.get(AUTH_METHOD).filter(|method| *method == CHAP)?;
    Some(Credentials { outgoing: account(OUTGOING)?, incoming: account(INCOMING) })
}

/// The desired settings that differ from the current ones.
pub(super) fn settings_to_change(desired: &[Setting], current: &Settings) -> Vec<Setting> {
    desired.iter().filter(|setting| must_change(setting, current)).cloned().collect()
}

fn must_change(setting: &Setting, current: &Settings) -> bool {
    let found = current.get(setting.name);
    let is_unknown = [SESSIONS, SCAN].contains(&setting.name) && found.is_none();
    !is_unknown && found.map_or("", String::as_str) != setting.value.reveal()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::fixtures::path;

    fn login(credentials: Option<Credentials>) -> Login {
        let settings =
            SessionSettings { login_timeout_seconds: 7, noop_timeout_seconds: 8, ..SessionSettings::default() };
        let (portals, siblings) = Default::default();
        let path = path("a", "1", "ens1");
        let (seed, subnets) = Default::default();
        Login {
            path,
            network: None,
            settings,
            credentials,
            portals,
            siblings,
            expected_tpgt: 1,
            only_tpgt: None,
            seed,
            subnets,
        }
    }

    fn chap(password: &str) -> Credentials {
        let account = |name: &str, password: &str| Account {
            name: Password::from(name.to_owned()),
            password: Password::from(password.to_owned()),
        };
        Credentials { outgoing: account("ann", password), incoming: Some(account("box", "sesame")) }
    }

    fn record_of(settings: &[Setting]) -> Settings {
        let set = settings.iter().filter(|setting| !setting.value.reveal().is_empty());
        set.map(|setting| (setting.name.to_owned(), setting.value.reveal().to_owned())).collect()
    }

    fn shown(settings: &[Setting]) -> Vec<String> {
        settings.iter().map(|setting| format!("{}={}", setting.name, setting.value.reveal())).collect()
    }

    #[test]
    fn a_record_has_the_settings_of_the_data_center_and_one_attempt() {
        let settings = shown(&desired_settings(&login(None)));
        for expected in [
            "node.startup=manual",
            "node.session.initial_login_retry_max=1",
            "node.conn[0].timeo.login_timeout=7",
            "node.session.timeo.replacement_timeout=15",
            "node.conn[0].timeo.noop_out_interval=5",
            "node.conn[0].timeo.noop_out_timeout=8",
            "node.session.auth.authmethod=None",
            "node.session.auth.password=",
        ] {
            assert!(settings.contains(&expected.to_owned()), "{expected}: {settings:?}");
        }
    }

    #[test]
    fn a_record_says_for_which_name_it_is_until_it_is_for_none() {
        let by_address = desired_settings(&login(None));
        let path = IscsiPath { portal: "san.example.com:3260".into(), ..path("a", "1", "ens1") };
        let by_name = desired_settings(&Login { path, ..login(None) });
        let renamed = shown(&settings_to_change(&by_name, &record_of(&by_address)));
        assert_eq!(renamed, ["node.discovery_address=san.example.com"]);
        let renamed = shown(&settings_to_change(&by_address, &record_of(&by_name)));
        assert_eq!(renamed, ["node.discovery_address="]);
    }

    #[test]
    fn a_record_that_a_discovery_has_rewritten_gets_its_name_back() {
        let path = IscsiPath { portal: "san.example.com:3260".into(), ..path("a", "1", "ens1") };
        let by_name = desired_settings(&Login { path, ..login(None) });
        let mut discovered = record_of(&by_name);
        discovered.insert("node.discovery_type".to_owned(), "send_targets".to_owned());
        discovered.insert("node.discovery_address".to_owned(), "portal.example.com".to_owned());
        assert_eq!(stored_name(&discovered), None, "it is the discovery's");
        assert_eq!(
            shown(&settings_to_change(&by_name, &discovered)),
            ["node.discovery_type=static", "node.discovery_address=san.example.com"]
        );
        assert_eq!(
            shown(&settings_to_change(&desired_settings(&login(None)), &discovered)),
            ["node.discovery_type=static", "node.discovery_address="]
        );
    }

    #[test]
    fn a23_only_differing_settings_change_and_unused_chap_is_cleared() {
        let mutual = desired_settings(&login(Some(chap("hunter2"))));
        let record = record_of(&mutual);
        assert_eq!(settings_to_change(&mutual, &record), [], "nothing");
        let rotated = desired_settings(&login(Some(chap("hunter3"))));
        assert_eq!(shown(&settings_to_change(&rotated, &record)), ["node.session.auth.password=hunter3"]);
        let none = desired_settings(&login(None));
        assert_eq!(
            shown(&settings_to_change(&none, &record)),
            [
                "node.session.auth.authmethod=None",
                "node.session.auth.username=",
                "node.session.auth.password=",
                "node.session.auth.username_in=",
                "node.session.auth.password_in=",
            ]
        );
        assert!(!format!("{mutual:?}").contains("hunter2"));
        assert_eq!(credentials(&record), Some(chap("hunter2")));
        assert_eq!(credentials(&record_of(&none)), None);
    }

    #[test]
    fn a55_a_record_of_anybody_by_which_open_iscsi_logs_in_by_itself_is_found() {
        let record = |startup: &str, more: &[(&str, &str)]| {
            let pairs = [("node.name", "iqn.a"), ("node.conn[0].address", "fd00::10"), ("node.conn[0].port", "3260")];
            let pairs = pairs.iter().chain(more).copied().chain([("node.startup", startup)]);
            let pairs: Settings = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            automatic(&pairs).map(|record| record.to_string())
        };
        assert_eq!(record("manual", &[]), None);
        assert_eq!(record("automatic", &[]).unwrap(), "iqn.a at [fd00::10]:3260 through default");
        let of_connection = [("node.conn[0].startup", "automatic"), ("iface.iscsi_ifacename", "hand\u{1b}")];
        assert_eq!(record("manual", &of_connection).unwrap(), "iqn.a at [fd00::10]:3260 through hand\u{fffd}");
    }

    #[test]
    fn an_optional_setting_changes_only_if_a_record_has_it() {
        let desired = desired_settings(&login(None));
        let names = |found: &Settings| -> Vec<_> {
            settings_to_change(&desired, found)
                .iter()
                .map(|setting| setting.name)
                .filter(|name| *name == SCAN)
                .collect()
        };
        let with = |value: &str| Settings::from([(SCAN.to_owned(), value.to_owned())]);
        assert_eq!(names(&Settings::new()), [""; 0]);
        assert_eq!(names(&with("auto")), [""; 0]);
        assert_eq!(names(&with("manual")), [SCAN]);
    }
}
