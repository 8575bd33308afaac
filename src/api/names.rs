//! Names and addresses as types of their own, so that the compiler notices when two are mixed up.
//!
//! A plan repeats the same few names thousands of times, so each is a shared text: a clone allocates nothing. Decoding
//! accepts any text: the CRD's schema validates the specs of users. A spec is what a user wrote, so its names stay
//! `String`; they get their types where a plan or a status takes them over.

use std::{borrow::Borrow, fmt, ops::Deref, sync::Arc};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::address::{canonical_portal, parse_ip};

/// Defines a text of one meaning. It reads as `str`, and looks like a string in the API.
macro_rules! name {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Serialize, Deserialize, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Default for $name {
            fn default() -> Self {
                $name(Arc::default())
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        // Hash and Ord must be equal to those of `str`, as `Borrow` requires.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&*self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                *self.0 == *other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                *self.0 == **other
            }
        }

        impl PartialEq<String> for $name {
            fn eq(&self, other: &String) -> bool {
                *self.0 == **other
            }
        }

        impl PartialEq<$name> for String {
            fn eq(&self, other: &$name) -> bool {
                **self == *other.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                $name(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                $name(text.into())
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                String::schema_name()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                String::json_schema(generator)
            }
        }
    };
}

name! {
    /// The iSCSI name of a target, such as `iqn.2003-01.org.example:array-a`.
    Iqn
}
name! {
    /// Address and port of a target in canonical form: `10.0.1.10:3260`, `[fd00::10]:3260` or `san.example:3260`.
    Portal
}
name! {
    /// The name of a network device on a host, such as `ens2f0`.
    InterfaceName
}
name! {
    /// The name of a Network.
    NetworkName
}
name! {
    /// The name of an `IscsiBond`.
    BondName
}
name! {
    /// The name of a storage in its data center.
    StorageName
}
name! {
    /// The name of a Secret.
    SecretName
}
name! {
    /// The name of a Node.
    NodeName
}
name! {
    /// The name of a namespace; empty for cluster-wide objects.
    Namespace
}
name! {
    /// The name of an object whose kind is known from the context.
    ObjectName
}
name! {
    /// The revision of a plan: changes exactly when the host has something else to do.
    Revision
}

impl Portal {
    /// The portal at an address (IPv4, IPv6 without brackets, or a DNS name) and a port.
    #[must_use]
    pub fn new(address: &str, port: u16) -> Self {
        canonical_portal(address, port).into()
    }

    /// The address or the DNS name, without port and brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        let host = self.rsplit_once(':').map_or(&**self, |(host, _)| host);
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    /// Whether it has a DNS name and no address.
    #[must_use]
    pub fn has_name(&self) -> bool {
        parse_ip(self.host()).is_none()
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> &str {
        self.rsplit_once(':').map_or("", |(_, port)| port)
    }
}

/// The name of an object that is known to be a Network.
impl From<ObjectName> for NetworkName {
    fn from(name: ObjectName) -> Self {
        NetworkName(name.0)
    }
}

/// The name of an object that is known to be a Node.
impl From<ObjectName> for NodeName {
    fn from(name: ObjectName) -> Self {
        NodeName(name.0)
    }
}
