//! Random numbers that repeat: a simulation is named by its seed.

/// SplitMix64: small, fast, and the same on every machine. Not for secrets.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`; 0 when that is 0. The bias is of no matter for test traffic.
    pub fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.bits() % limit).unwrap_or_default()
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        // 53 bits are what a double holds.
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64 <= probability && probability > 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_names_its_sequence() {
        let numbers =
            |seed| std::iter::repeat_with(move || seed).take(5).scan(Random::new(seed), |r, _| Some(r.bits()));
        assert_eq!(numbers(7).collect::<Vec<_>>(), numbers(7).collect::<Vec<_>>());
        assert_ne!(numbers(7).collect::<Vec<_>>(), numbers(8).collect::<Vec<_>>());
    }

    #[test]
    fn chances_are_roughly_kept() {
        let mut random = Random::new(1);
        let hits = (0..10_000).filter(|_| random.chance(0.1)).count();
        assert!((900..1100).contains(&hits), "{hits}");
        assert!(!(0..1000).any(|_| random.chance(0.0)));
    }
}
