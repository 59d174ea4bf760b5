//! Numbers that look random and are the same for the same seed, on every machine and with every version of a library.

use std::time::Duration;

/// splitmix64.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Begins at a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// Below `bound`, which is above zero.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.word() % bound as u64) as usize
    }

    /// One of several.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// From nothing to `most`.
    pub fn up_to(&mut self, most: Duration) -> Duration {
        most.mul_f64((self.word() >> 11) as f64 / (1u64 << 53) as f64)
    }

    /// Dice of somebody else, who then throws independently of these.
    pub fn fork(&mut self) -> Self {
        Self(self.word())
    }
}
