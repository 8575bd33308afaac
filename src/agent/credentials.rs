//! CHAP credentials: read from a Secret, handed to the initiator, shown to nobody.

use std::{
    collections::BTreeMap,
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, LazyLock},
};

use k8s_openapi::{ByteString, api::core::v1::Secret};

/// The Secret type that Kubernetes defines for iSCSI (`k8s.io/kubernetes/pkg/volume/iscsi`), keys included.
pub const SECRET_TYPE: &str = "kubernetes.io/iscsi-chap";

const USERNAME: &str = "node.session.auth.username";
const PASSWORD: &str = "node.session.auth.password";
const USERNAME_IN: &str = "node.session.auth.username_in";
const PASSWORD_IN: &str = "node.session.auth.password_in";

/// Hashes of credentials cannot be compared across processes, so that one that leaks tells nothing.
static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Password(Arc<str>);

impl Password {
    /// The text, for the one who has to type it.
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

/// A name and its password.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Account {
    /// The name; not shown either, since it is kept in a Secret.
    pub name: Password,
    /// The password.
    pub password: Password,
}

/// What a session is authenticated with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// The initiator's, shown to the target.
    pub outgoing: Account,
    /// The target's, for mutual CHAP.
    pub incoming: Option<Account>,
}

/// Tells credentials apart without holding them. Comparable within one process only.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(u64);

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// What is known of a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SecretState {
    /// It has not been read yet.
    #[default]
    Unread,
    /// It has been read.
    Read(Credentials),
    /// It is missing, unreadable or incomplete: in words for the user.
    Unusable(String),
}

impl Credentials {
    /// Tells these credentials from others.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(KEY.hash_one(self))
    }

    /// Reads the credentials out of a Secret.
    ///
    /// # Errors
    /// When the Secret has another type, lacks a key, has half of a pair, or has bytes that are no text: in words for
    /// the user, without the Secret's content.
    pub fn from_secret(secret: &Secret) -> Result<Self, String> {
        let found = secret.type_.as_deref().unwrap_or("Opaque");
        if found != SECRET_TYPE {
            return Err(format!("it has type {found}, and must have type {SECRET_TYPE}"));
        }
        let empty = BTreeMap::new();
        let data = secret.data.as_ref().unwrap_or(&empty);
        let outgoing =
            account(data, USERNAME, PASSWORD)?.ok_or_else(|| format!("it lacks {USERNAME} and {PASSWORD}"))?;
        Ok(Credentials { outgoing, incoming: account(data, USERNAME_IN, PASSWORD_IN)? })
    }
}

/// Both of a pair, or neither.
fn account(data: &BTreeMap<String, ByteString>, name: &str, password: &str) -> Result<Option<Account>, String> {
    match (text(data, name)?, text(data, password)?) {
        (Some(name), Some(password)) => Ok(Some(Account { name, password })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(format!("it has {name} and lacks {password}")),
        (None, Some(_)) => Err(format!("it has {password} and lacks {name}")),
    }
}

/// An empty value counts as absent: open-iscsi cannot tell them apart.
fn text(data: &BTreeMap<String, ByteString>, key: &str) -> Result<Option<Password>, String> {
    let Some(ByteString(bytes)) = data.get(key).filter(|value| !value.0.is_empty()) else { return Ok(None) };
    match std::str::from_utf8(bytes) {
        Ok(text) if text.contains(['\n', '\r', '\0']) => Err(format!("{key} has a line break; `echo -n` makes none")),
        Ok(text) => Ok(Some(Password(text.into()))),
        Err(_) => Err(format!("{key} is not text")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a23_a_bad_secret_is_refused_with_the_key_and_without_its_content() {
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
            assert_eq!(Credentials::from_secret(&secret(pairs)).unwrap_err(), message);
        }
        let opaque = Secret { type_: Some("Opaque".into()), ..secret(&BOTH) };
        assert!(Credentials::from_secret(&opaque).unwrap_err().contains("must have type kubernetes.io/iscsi-chap"));
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
    fn a_fingerprint_tells_a_rotated_secret_from_the_old_one() {
        let old = Credentials::from_secret(&secret(&BOTH)).unwrap();
        let new = Credentials::from_secret(&secret(&[BOTH[0], (PASSWORD, "hunter3"), BOTH[2], BOTH[3]])).unwrap();
        assert_ne!(old.fingerprint(), new.fingerprint());
        assert_eq!(old.fingerprint(), old.clone().fingerprint());
    }
}
