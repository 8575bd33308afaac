//! CHAP credentials: read from a Secret, passed to the initiator, and never shown.

use std::{
    collections::BTreeMap,
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, LazyLock},
};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use thiserror::Error;

/// The Secret type that Kubernetes defines for iSCSI (`k8s.io/kubernetes/pkg/volume/iscsi`), keys included.
pub const SECRET_TYPE: &str = "kubernetes.io/iscsi-chap";

const USERNAME: &str = "node.session.auth.username";
const PASSWORD: &str = "node.session.auth.password";
const USERNAME_IN: &str = "node.session.auth.username_in";
const PASSWORD_IN: &str = "node.session.auth.password_in";

/// The longest value that open-iscsi keeps. Its record has room for one byte more; but a restarted iscsid reads the
/// credentials of its sessions from sysfs, and takes a value that fills its buffer for none.
const MAX_BYTES: usize = 254;
/// What open-iscsi drops at the ends of a value: its `isspace`.
const BLANKS: [char; 6] = [' ', '\t', '\n', '\u{b}', '\u{c}', '\r'];
/// The kernel shows these words for a value that is not set, and open-iscsi takes whatever begins with them for one.
const UNSET: [&str; 2] = ["<NULL>", "(null)"];
/// What iscsiadm prints for a value that is not set.
const EMPTY: &str = "<empty>";

/// A random key for each process: a hash that leaks into a log cannot be used to guess the credentials.
static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// A text that is never shown in logs or debug output.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Password(Arc<str>);

impl Password {
    /// The text itself, for the initiator's tool.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Password {
    fn from(text: String) -> Self {
        Password(text.into())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A CHAP name and its password.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Account {
    /// The name. It is not shown either, because it comes from a Secret.
    pub name: Password,
    /// The password.
    pub password: Password,
}

/// The CHAP accounts of a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// The account with which the initiator authenticates to the target.
    pub outgoing: Account,
    /// The account with which the target authenticates to the initiator; only for mutual CHAP.
    pub incoming: Option<Account>,
}

/// A hash of credentials, to compare them without keeping them. It is valid within one process only.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(u64);

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The state of a Secret, as the agent has read it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SecretState {
    /// It has not been read yet.
    #[default]
    Unread,
    /// It has been read.
    Read(Credentials),
    /// It is missing, unreadable, incomplete, or has a value that cannot be used. Which of these is only in the agent's
    /// log: who may read the Host need not be allowed to read the Secret.
    Unusable,
}

/// What every Secret with credentials must be, in one sentence that is the same whatever is wrong.
#[must_use]
pub fn requirements() -> String {
    format!(
        "it must be in the data center's namespace, have type {SECRET_TYPE} and the keys {USERNAME} and {PASSWORD} (for \
         mutual CHAP also {USERNAME_IN} and {PASSWORD_IN}, with another password), and the agents must be allowed to read it; the agent's log \
         says what is wrong"
    )
}

/// Why a Secret holds no usable CHAP credentials. The messages are for the agent's log.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CredentialsError {
    /// The Secret has another type.
    #[error("it has type {found}, and must have type {SECRET_TYPE}")]
    WrongType {
        /// Its type.
        found: String,
    },
    /// The initiator's account is missing.
    #[error("it lacks {USERNAME} and {PASSWORD}")]
    NoAccount,
    /// An account has only one of its two keys.
    #[error("it has {present} and lacks {missing}")]
    HalfAccount {
        /// The key that it has.
        present: &'static str,
        /// The key that it lacks.
        missing: &'static str,
    },
    /// A value has a line break or a NUL, which no CHAP name or password may have.
    #[error("{key} has a line break; `echo -n` makes none")]
    LineBreak {
        /// The key of the value.
        key: &'static str,
    },
    /// A value begins or ends with a blank.
    #[error("{key} begins or ends with a blank, which open-iscsi does not store")]
    OuterBlank {
        /// The key of the value.
        key: &'static str,
    },
    /// A value is too long.
    #[error("{key} has more than the {MAX_BYTES} bytes that open-iscsi keeps")]
    TooLong {
        /// The key of the value.
        key: &'static str,
    },
    /// A value is one that open-iscsi or the kernel takes for none.
    #[error("{key} begins with a word that open-iscsi takes for no value: {}, {} or {EMPTY}", UNSET[0], UNSET[1])]
    Unset {
        /// The key of the value.
        key: &'static str,
    },
    /// Both passwords are the same. Then a target proves nothing by its answer, so RFC 7143 forbids it (section 9.2.1), and
    /// open-iscsi and targets refuse such a login.
    #[error("{PASSWORD} and {PASSWORD_IN} are the same, which iSCSI forbids: give the target another one")]
    SamePasswords,
    /// A value is not UTF-8.
    #[error("{key} is not text")]
    NotText {
        /// The key of the value.
        key: &'static str,
    },
}

impl Credentials {
    /// A hash that differs for other credentials.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(KEY.hash_one(self))
    }

    /// Reads the credentials from a Secret.
    ///
    /// # Errors
    /// See [`CredentialsError`]. The message does not contain the Secret's content.
    pub fn from_secret(secret: &Secret) -> Result<Self, CredentialsError> {
        let found = secret.type_.as_deref().unwrap_or("Opaque");
        if found != SECRET_TYPE {
            return Err(CredentialsError::WrongType { found: found.to_owned() });
        }
        let empty = BTreeMap::new();
        let data = secret.data.as_ref().unwrap_or(&empty);
        let outgoing = account(data, USERNAME, PASSWORD)?.ok_or(CredentialsError::NoAccount)?;
        let incoming = account(data, USERNAME_IN, PASSWORD_IN)?;
        if incoming.as_ref().is_some_and(|incoming| incoming.password == outgoing.password) {
            return Err(CredentialsError::SamePasswords);
        }
        Ok(Credentials { outgoing, incoming })
    }
}

/// An account from its two keys; None if both are absent.
fn account(
    data: &BTreeMap<String, ByteString>,
    name: &'static str,
    password: &'static str,
) -> Result<Option<Account>, CredentialsError> {
    match (text(data, name)?, text(data, password)?) {
        (Some(name), Some(password)) => Ok(Some(Account { name, password })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(CredentialsError::HalfAccount { present: name, missing: password }),
        (None, Some(_)) => Err(CredentialsError::HalfAccount { present: password, missing: name }),
    }
}

/// The text of a key. An empty value counts as absent, because open-iscsi cannot tell them apart.
fn text(data: &BTreeMap<String, ByteString>, key: &'static str) -> Result<Option<Password>, CredentialsError> {
    let Some(ByteString(bytes)) = data.get(key).filter(|value| !value.0.is_empty()) else { return Ok(None) };
    let text = std::str::from_utf8(bytes).map_err(|_| CredentialsError::NotText { key })?;
    check_storable(text, key)?;
    Ok(Some(Password(text.into())))
}

/// A value that open-iscsi stores otherwise than it is given would make a session that never has the Secret's
/// credentials. Its records are lines that it strips (`idbm_recinfo_config`), and it reads sessions back from sysfs
/// (`sysfs_attr_get_value`).
fn check_storable(text: &str, key: &'static str) -> Result<(), CredentialsError> {
    if text.contains(['\n', '\r', '\0']) {
        Err(CredentialsError::LineBreak { key })
    } else if text.starts_with(BLANKS) || text.ends_with(BLANKS) {
        Err(CredentialsError::OuterBlank { key })
    } else if text.len() > MAX_BYTES {
        Err(CredentialsError::TooLong { key })
    } else if UNSET.iter().any(|word| text.starts_with(word)) || text == EMPTY {
        Err(CredentialsError::Unset { key })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::{Parsed, fuzz};

    fn secret(pairs: &[(&str, &str)]) -> Secret {
        let data = pairs.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec())));
        Secret { type_: Some(SECRET_TYPE.into()), data: Some(data.collect()), ..Secret::default() }
    }

    const BOTH: [(&str, &str); 4] =
        [(USERNAME, "ann"), (PASSWORD, "hunter2"), (USERNAME_IN, "box"), (PASSWORD_IN, "sesame")];

    #[test]
    fn a23_one_way_and_mutual_credentials_are_read() {
        let one_way = Credentials::from_secret(&secret(&BOTH[..2])).unwrap();
        assert_eq!((one_way.outgoing.password.reveal(), one_way.incoming.is_none()), ("hunter2", true));
        let mutual = Credentials::from_secret(&secret(&BOTH)).unwrap();
        assert_eq!(mutual.incoming.unwrap().name.reveal(), "box");
    }

    #[test]
    fn a23_a_bad_secret_is_refused_by_key_without_its_content() {
        let cases = [
            (&BOTH[..1], "it has node.session.auth.username and lacks node.session.auth.password"),
            (&BOTH[1..2], "it has node.session.auth.password and lacks node.session.auth.username"),
            (&BOTH[..0], "it lacks node.session.auth.username and node.session.auth.password"),
            (&BOTH[..3], "it has node.session.auth.username_in and lacks node.session.auth.password_in"),
            (
                &[(USERNAME, "ann"), (PASSWORD, "hunter2\n")],
                "node.session.auth.password has a line break; `echo -n` makes none",
            ),
        ];
        for (pairs, message) in cases {
            assert_eq!(Credentials::from_secret(&secret(pairs)).unwrap_err().to_string(), message);
        }
        let opaque = Secret { type_: Some("Opaque".into()), ..secret(&BOTH) };
        assert!(
            Credentials::from_secret(&opaque)
                .unwrap_err()
                .to_string()
                .contains("must have type kubernetes.io/iscsi-chap")
        );
    }

    #[test]
    fn a23_mutual_chap_with_one_password_for_both_is_refused() {
        let pairs = [BOTH[0], BOTH[1], BOTH[2], (PASSWORD_IN, BOTH[1].1)];
        let error = Credentials::from_secret(&secret(&pairs)).unwrap_err();
        assert_eq!(error, CredentialsError::SamePasswords);
        let same_names = [BOTH[0], BOTH[1], (USERNAME_IN, BOTH[0].1), BOTH[3]];
        assert!(Credentials::from_secret(&secret(&same_names)).is_ok(), "names may be the same");
    }

    #[test]
    fn a23_a_value_that_open_iscsi_does_not_keep_as_it_is_is_refused() {
        let long = "x".repeat(255);
        let cases = [
            ("hunter2 ", "begins or ends with a blank, which open-iscsi does not store"),
            (" hunter2", "begins or ends with a blank, which open-iscsi does not store"),
            ("hunter2\t", "begins or ends with a blank, which open-iscsi does not store"),
            ("\u{b}hunter2", "begins or ends with a blank, which open-iscsi does not store"),
            (&long, "has more than the 254 bytes that open-iscsi keeps"),
            (&"é".repeat(128), "has more than the 254 bytes that open-iscsi keeps"),
            ("(null)", "begins with a word that open-iscsi takes for no value: <NULL>, (null) or <empty>"),
            ("<NULL>hunter2", "begins with a word that open-iscsi takes for no value: <NULL>, (null) or <empty>"),
            ("<empty>", "begins with a word that open-iscsi takes for no value: <NULL>, (null) or <empty>"),
        ];
        for (value, message) in cases {
            for (index, key) in [USERNAME, PASSWORD, USERNAME_IN, PASSWORD_IN].into_iter().enumerate() {
                let mut pairs = BOTH;
                pairs[index].1 = value;
                let error = Credentials::from_secret(&secret(&pairs)).unwrap_err().to_string();
                assert_eq!(error, format!("{key} {message}"), "{value:?}");
            }
        }
    }

    #[test]
    fn a23_a_value_that_open_iscsi_keeps_is_taken_as_it_is() {
        let long = "x".repeat(254);
        for value in
            ["a b", "#a", "a=b", "=", "\"a\"", "'a'", "\\a\\", "-v", "a\tb", "%s", "\u{a0}a\u{a0}", "x (null)", &long]
        {
            let read = Credentials::from_secret(&secret(&[(USERNAME, value), (PASSWORD, value)])).unwrap();
            assert_eq!((read.outgoing.name.reveal(), read.outgoing.password.reveal()), (value, value));
        }
    }

    #[test]
    fn a23_nothing_secret_is_in_debug_output() {
        let credentials = Credentials::from_secret(&secret(&BOTH)).unwrap();
        let shown = format!("{credentials:?} {:?}", credentials.fingerprint());
        for (_, value) in BOTH {
            assert!(!shown.contains(value), "{shown}");
        }
    }

    #[test]
    fn the_fingerprint_of_new_credentials_differs() {
        let old = Credentials::from_secret(&secret(&BOTH)).unwrap();
        let new = Credentials::from_secret(&secret(&[BOTH[0], (PASSWORD, "hunter3"), BOTH[2], BOTH[3]])).unwrap();
        assert_ne!(old.fingerprint(), new.fingerprint());
        assert_eq!(old.fingerprint(), old.clone().fingerprint());
    }

    fuzz! {
        any_secret_is_read_and_never_shown: "secret" => |input| {
            let values = input.split(|byte| *byte == b'\n').map(|value| ByteString(value.to_vec()));
            let keys = [USERNAME, PASSWORD, USERNAME_IN, PASSWORD_IN].map(str::to_owned);
            let data = keys.into_iter().zip(values).collect();
            let secret = Secret { type_: Some(SECRET_TYPE.into()), data: Some(data), ..Secret::default() };
            match Credentials::from_secret(&secret) {
                Ok(credentials) => Parsed::new().shown([format!("{credentials:?}").replace("[redacted]", "")]),
                Err(error) => Parsed::new().shown([error]),
            }
        };
    }
}
