//! Sets of small numbers, such as the indices of bonds, as bits.

/// A set of numbers below the length that it was made with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bits(Box<[u64]>);

impl Bits {
    /// An empty set of numbers below `length`.
    pub(super) fn new(length: usize) -> Self {
        Bits(vec![0; length.div_ceil(64)].into())
    }

    pub(super) fn insert(&mut self, number: usize) {
        if let Some(word) = self.0.get_mut(number / 64) {
            *word |= 1 << (number % 64);
        }
    }

    pub(super) fn contains(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word & (1 << (number % 64)) != 0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// How many numbers are in it.
    pub(super) fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Adds the numbers of a set of the same length.
    pub(super) fn add(&mut self, other: &Bits) {
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word |= other);
    }

    /// Removes the numbers that are not in a set of the same length.
    pub(super) fn keep(&mut self, other: &Bits) {
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word &= other);
    }

    /// Whether the sets have a number in common.
    pub(super) fn meets(&self, other: &Bits) -> bool {
        self.0.iter().zip(&other.0).any(|(word, other)| word & other != 0)
    }

    /// The numbers, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(at, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let next = (left != 0).then(|| at * 64 + left.trailing_zeros() as usize)?;
                left &= left - 1;
                Some(next)
            })
        })
    }

    /// The number of machine words that an operation on the set costs.
    pub(super) fn words(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(numbers: &[usize]) -> Bits {
        let mut bits = Bits::new(200);
        for number in numbers {
            bits.insert(*number);
        }
        bits
    }

    #[test]
    fn a_set_has_what_was_added_and_kept() {
        let mut set = bits(&[0, 63, 64, 130]);
        set.add(&bits(&[199]));
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 63, 64, 130, 199]);
        assert_eq!((set.count(), set.contains(64), set.contains(65), set.contains(5000)), (5, true, false, false));
        assert!(set.meets(&bits(&[1, 130])) && !set.meets(&bits(&[1, 2])));
        set.keep(&bits(&[63, 199, 7]));
        assert_eq!(set.iter().collect::<Vec<_>>(), [63, 199]);
        assert!(!set.is_empty() && Bits::new(200).is_empty());
    }
}
