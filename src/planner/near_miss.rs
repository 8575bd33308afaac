//! Names that are probably a mistyped form of each other.
//!
//! A name is a near miss of another if they are equal but for case and punctuation, or if one character is inserted or
//! left out, or two neighbours are swapped. A replaced character is no near miss: names such as `array-a` and `array-b`
//! differ on purpose.

use std::collections::{HashMap, HashSet};

/// The number of names that a message shows as what was probably meant.
const SHOWN: usize = 2;

/// Known names, indexed. A search costs as much as the name is long, however many names are known, and however many of
/// them it is a near miss of.
#[derive(Clone, Debug, Default)]
pub(super) struct NearMisses {
    known: Vec<String>,
    /// Indices of names by the hash of the name.
    by_name: HashMap<u64, Vec<usize>>,
    /// Indices of names by the hash of the name with one character left out, for each character.
    by_shorter: HashMap<u64, Vec<usize>>,
    /// Indices of names by what is left of the name without case and punctuation.
    by_letters: HashMap<String, Vec<usize>>,
}

/// The known names that some names are near misses of, collected name by name.
#[derive(Debug, Default)]
pub(super) struct NearlyNamed {
    names: HashSet<usize>,
    letters: HashSet<String>,
}

impl NearMisses {
    /// Indexes these names.
    pub(super) fn of<'a>(known: impl IntoIterator<Item = &'a str>) -> Self {
        let mut index =
            NearMisses { known: known.into_iter().map(ToOwned::to_owned).collect(), ..NearMisses::default() };
        for (at, name) in index.known.iter().enumerate() {
            let hashes = Hashes::of(name);
            index.by_name.entry(hashes.whole()).or_default().push(at);
            for shorter in hashes.shorter().collect::<HashSet<_>>() {
                index.by_shorter.entry(shorter).or_default().push(at);
            }
            index.by_letters.entry(letters(name)).or_default().push(at);
        }
        index
    }

    /// The first few known names that `name`, which is not known, is a near miss of.
    pub(super) fn search(&self, name: &str) -> Vec<&str> {
        self.note(name, &mut NearlyNamed::default())
    }

    /// The same, and notes all of them.
    pub(super) fn note(&self, name: &str, noted: &mut NearlyNamed) -> Vec<&str> {
        let hashes = Hashes::of(name);
        let at = |index: &'_ HashMap<u64, Vec<usize>>, hash: u64| index.get(&hash).cloned().unwrap_or_default();
        let longer = at(&self.by_shorter, hashes.whole());
        let others = hashes.shorter().chain(hashes.swapped()).flat_map(|hash| at(&self.by_name, hash));
        // Equal hashes do not prove equal names.
        let edited = longer.into_iter().chain(others).filter(|at| is_near_miss(name, &self.known[*at]));
        let mut found: Vec<usize> = edited.collect();
        noted.names.extend(&found);
        // Very many names may have the same letters.
        let letters = letters(name);
        if let Some(alike) = self.by_letters.get(&letters) {
            found.extend(alike.iter().filter(|at| self.known[**at] != name).take(SHOWN));
            noted.letters.insert(letters);
        }
        found.sort_unstable();
        found.dedup();
        found.truncate(SHOWN);
        found.into_iter().map(|at| self.known[at].as_str()).collect()
    }

    /// Whether a noted name is a near miss of the known name with this index.
    pub(super) fn is_noted(&self, at: usize, noted: &NearlyNamed) -> bool {
        noted.names.contains(&at) || (!noted.letters.is_empty() && noted.letters.contains(&letters(&self.known[at])))
    }
}

/// Whether one of two different names is probably a mistyped form of the other.
fn is_near_miss(one: &str, other: &str) -> bool {
    one != other && (letters(one) == letters(other) || one_edit_apart(one.as_bytes(), other.as_bytes()))
}

/// A name without case and punctuation.
fn letters(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

fn one_edit_apart(one: &[u8], other: &[u8]) -> bool {
    let (shorter, longer) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    let same = shorter.iter().zip(longer).take_while(|(a, b)| a == b).count();
    match longer.len() - shorter.len() {
        1 => shorter[same..] == longer[same + 1..],
        0 => {
            let (a, b) = (&shorter[same..], &longer[same..]);
            a.len() >= 2 && a[0] == b[1] && a[1] == b[0] && a[2..] == b[2..]
        }
        _ => false,
    }
}

/// Hashes of a name's beginnings, from which the hash of each edited form follows without another pass.
struct Hashes<'a> {
    bytes: &'a [u8],
    /// The hash of the first `n` bytes.
    beginnings: Vec<u64>,
    /// `BASE` to the power of `n`.
    powers: Vec<u64>,
}

/// Odd, so that multiplication loses nothing.
const BASE: u64 = 0x9E37_79B9_7F4A_7C15;

impl<'a> Hashes<'a> {
    fn of(name: &'a str) -> Self {
        let bytes = name.as_bytes();
        let mut beginnings = vec![0_u64];
        let mut powers = vec![1_u64];
        for &byte in bytes {
            beginnings.push(push(beginnings[beginnings.len() - 1], byte));
            powers.push(powers[powers.len() - 1].wrapping_mul(BASE));
        }
        Hashes { bytes, beginnings, powers }
    }

    fn whole(&self) -> u64 {
        self.beginnings[self.bytes.len()]
    }

    /// The hash of `beginning` followed by what the name has from `from` on.
    fn followed(&self, beginning: u64, from: usize) -> u64 {
        let rest = self.powers[self.bytes.len() - from];
        let end = self.whole().wrapping_sub(self.beginnings[from].wrapping_mul(rest));
        beginning.wrapping_mul(rest).wrapping_add(end)
    }

    /// Of the name with one byte left out.
    fn shorter(&self) -> impl Iterator<Item = u64> {
        (0..self.bytes.len()).map(|at| self.followed(self.beginnings[at], at + 1))
    }

    /// Of the name with two neighbours swapped.
    fn swapped(&self) -> impl Iterator<Item = u64> {
        (1..self.bytes.len()).map(|at| {
            let swapped = push(push(self.beginnings[at - 1], self.bytes[at]), self.bytes[at - 1]);
            self.followed(swapped, at + 1)
        })
    }
}

fn push(hash: u64, byte: u8) -> u64 {
    // A zero byte counts too.
    hash.wrapping_mul(BASE).wrapping_add(u64::from(byte) + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{NearMisses, NearlyNamed, is_near_miss};

    #[test]
    fn case_punctuation_one_character_and_swaps_are_near_misses() {
        for mistyped in ["san-A", "sana", "san_a", "sann-a", "sn-a", "an-a", "san-", "san-ab", "sna-a", "sa-na"] {
            assert!(is_near_miss(mistyped, "san-a") && is_near_miss("san-a", mistyped), "{mistyped}");
        }
    }

    #[test]
    fn a_replaced_character_the_same_name_and_two_edits_are_no_near_misses() {
        for other in ["san-a", "san-b", "san-abc", "n-a", "asn-ab", "lan-a", ""] {
            assert!(!is_near_miss(other, "san-a"), "{other}");
        }
    }

    #[test]
    fn of_many_names_with_the_same_letters_few_are_shown_and_all_are_noted() {
        let known: Vec<String> =
            (0..4096_u32).map(|n| format!("a{n:012b}").replace('0', "-").replace('1', "_")).collect();
        let index = NearMisses::of(known.iter().map(String::as_str));
        let mut noted = NearlyNamed::default();
        assert_eq!(index.note("A", &mut noted).len(), 2);
        assert!((0..known.len()).all(|at| index.is_noted(at, &noted)));
    }

    proptest! {
        #[test]
        fn the_index_finds_what_comparing_with_each_name_finds(
            known in proptest::collection::hash_set("[a-cA\\-\\u{e9}]{0,5}", 0..30),
            name in "[a-cA\\-\\u{e9}]{0,5}",
        ) {
            prop_assume!(!known.contains(&name));
            let known: Vec<String> = known.into_iter().collect();
            let expected: Vec<usize> = (0..known.len()).filter(|at| is_near_miss(&name, &known[*at])).collect();
            let index = NearMisses::of(known.iter().map(String::as_str));
            let mut noted = NearlyNamed::default();
            let shown = index.note(&name, &mut noted);
            let found: Vec<usize> = (0..known.len()).filter(|at| index.is_noted(*at, &noted)).collect();
            prop_assert_eq!(&found, &expected);
            let first: Vec<&str> = expected.iter().take(2).map(|at| known[*at].as_str()).collect();
            prop_assert_eq!(shown, first);
        }
    }
}
