//! Closed sets of words: one macro makes the enum, its spelling in the API and the list of all words.

/// Defines an enum whose words the API spells as the variants' names.
macro_rules! closed_set {
    ($(#[$meta:meta])* $name:ident { $($(#[$word_meta:meta])* $word:ident),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(
            serde::Serialize, serde::Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
            schemars::JsonSchema,
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
