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
    /// It is missing, unreadable or incomplete; the message is for the user.
    Unusable(String),
}

/// Why a Secret holds no usable CHAP credentials. The messages follow "the Secret NAME cannot be used: ".
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
        Ok(Credentials { outgoing, incoming: account(data, USERNAME_IN, PASSWORD_IN)? })
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
    match std::str::from_utf8(bytes) {
        Ok(text) if text.contains(['\n', '\r', '\0']) => Err(CredentialsError::LineBreak { key }),
        Ok(text) => Ok(Some(Password(text.into()))),
        Err(_) => Err(CredentialsError::NotText { key }),
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
