//! Closed sets of words: one macro makes the enum, its spelling in the API and the list of all words.

/// Defines an enum whose words the API spells as the variants' names.
///
/// A set of words that are in a status says with `else` how an unknown word is read: a newer version may have written it.
macro_rules! closed_set {
    ($(#[$meta:meta])* $name:ident { $($words:tt)+ } else $other:ident) => {
        $crate::api::closed_set::closed_set!(@define [$(#[$meta])*] $name { $($words)+ });

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let word = std::borrow::Cow::<str>::deserialize(deserializer)?;
                Ok(Self::ALL.iter().find(|known| known.as_str() == word).copied().unwrap_or($name::$other))
            }
        }
    };
    ($(#[$meta:meta])* $name:ident { $($words:tt)+ }) => {
        $crate::api::closed_set::closed_set!(@define [$(#[$meta])* #[derive(serde::Deserialize)]] $name { $($words)+ });
    };
    (@define [$($meta:tt)*] $name:ident { $($(#[$word_meta:meta])* $word:ident),+ $(,)? }) => {
        $($meta)*
        #[derive(
            serde::Serialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, schemars::JsonSchema,
        )]
        pub enum $name { $($(#[$word_meta])* $word),+ }

        impl $name {
            /// Every word of the set.
            pub const ALL: &'static [$name] = &[$($name::$word),+];

            /// The word as the API writes it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $($name::$word => stringify!($word)),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl From<$name> for &'static str {
            fn from(word: $name) -> Self {
                word.as_str()
            }
        }
    };
}

pub(super) use closed_set;

#[cfg(test)]
mod tests {
    use super::super::{ConnectionState, Pairing, Phase, reason::PathReason};

    #[test]
    fn an_unknown_word_in_a_status_is_read_and_in_a_spec_refused() {
        fn read<T: serde::de::DeserializeOwned>(word: &str) -> Option<T> {
            serde_json::from_value(serde_json::json!(word)).ok()
        }
        assert_eq!((read::<Phase>("Up"), read("Away")), (Some(Phase::Up), Some(Phase::Unknown)));
        assert_eq!(read("Away"), Some(ConnectionState::Connecting), "neither connected nor failed");
        assert_eq!(read("ByMoon"), Some(PathReason::Internal));
        assert_eq!(read::<Pairing>("ByMoon"), None);
    }
}
