//! Chance that a seed repeats.

use std::{cell::Cell, io::Read as _, time::Duration};

/// A random number generator (SplitMix64): the same seed draws the same.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// A generator with a seed. Its first number is where it begins: otherwise the numbers of a seed would be those of the
    /// one before, but for the first.
    pub fn new(seed: u64) -> Self {
        Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)).fork()
    }

    /// Another generator, so that what one part draws changes nothing for another part.
    pub fn fork(&mut self) -> Self {
        Chance(self.next())
    }

    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// True once in so many times.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// A duration between two others, in milliseconds.
    pub fn between(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from + 1))
    }

    /// One of these.
    pub fn one_of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.index(all.len())]
    }

    /// An index into so many.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap()
    }

    /// Any subset of these, in their order.
    pub fn any_of<T: Clone>(&mut self, all: &[T]) -> Vec<T> {
        all.iter().filter(|_| self.once_in(2)).cloned().collect()
    }
}

thread_local! {
    /// What the system's chance is in this thread, if a seed decides it.
    static SYSTEM: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Lets a seed decide what this thread gets from the system's chance: the order of its hash maps, which task `select!`
/// looks at first, and whatever else the standard library and tokio draw.
pub fn seed_this_thread(seed: u64) {
    SYSTEM.set(Some(seed));
}

/// The system's chance, in place of the C library's function: the standard library looks it up by its name.
///
/// # Safety
/// As the C library's: `buffer` has `length` bytes.
#[unsafe(no_mangle)]
#[allow(unsafe_code, reason = "the standard library calls it like this")]
unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    // SAFETY: the caller gives a buffer of this length.
    let buffer = unsafe { std::slice::from_raw_parts_mut(buffer, length) };
    if let Some(seed) = SYSTEM.get() {
        let mut chance = Chance::new(seed);
        buffer.fill_with(|| chance.next().to_le_bytes()[0]);
        SYSTEM.set(Some(chance.next()));
    } else {
        let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(buffer));
        if read.is_err() {
            return -1;
        }
    }
    isize::try_from(length).unwrap_or(-1)
}
