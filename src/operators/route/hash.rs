//! Where a key goes: a fixed hash, and two ways from a hash to a partition.
//!
//! The hash is part of the interface: the code here must return the same numbers forever, in every process and on every
//! machine, as the golden values in the tests check. It is not the standard library's, which may change with a release.
//!
//! Its input depends on the key's type. Integers are passed one by one, but slices of them, and so vectors and arrays,
//! as the bytes that they have in memory: in the byte order of the machine, and those of `usize` in its width. For
//! bytes, strings and tuples that makes no difference.
//!
//! [`FixedHasher`] takes a key in little-endian words of 64 bits; the rest is padded with zeros. Each word is added by
//! `state = (rotate_left(state, 5) ^ word) * 0x517c_c1b7_2722_0a95`, the hash that Firefox and rustc have used for
//! long; the finalizer of MurmurHash3 follows, without which the lowest bits would depend on little of the key. Numbers
//! shorter than 64 bits are one word; `usize` counts as 64 bits. It does not protect against an attacker who chooses
//! keys that all go to one partition.

use std::hash::{Hash, Hasher};

const MULTIPLIER: u64 = 0x517c_c1b7_2722_0a95;

pub(super) struct FixedHasher {
    state: u64,
}

impl FixedHasher {
    #[inline]
    fn word(&mut self, word: u64) {
        self.state = (self.state.rotate_left(5) ^ word).wrapping_mul(MULTIPLIER);
    }
}

/// The hash of `key`.
#[inline]
pub(super) fn fixed_hash<K: Hash + ?Sized>(seed: u64, key: &K) -> u64 {
    let mut hasher = FixedHasher { state: seed };
    key.hash(&mut hasher);
    hasher.finish()
}

impl Hasher for FixedHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.word(u64::from_le_bytes(*word)));
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.word(u64::from_le_bytes(word));
        }
    }

    #[inline]
    fn write_u8(&mut self, n: u8) {
        self.word(n.into());
    }

    #[inline]
    fn write_u16(&mut self, n: u16) {
        self.word(n.into());
    }

    #[inline]
    fn write_u32(&mut self, n: u32) {
        self.word(n.into());
    }

    #[inline]
    fn write_u64(&mut self, n: u64) {
        self.word(n);
    }

    #[inline]
    fn write_u128(&mut self, n: u128) {
        self.write(&n.to_le_bytes());
    }

    #[inline]
    fn write_usize(&mut self, n: usize) {
        self.word(n as u64);
    }

    #[inline]
    fn write_isize(&mut self, n: isize) {
        // With its sign, whatever its width.
        self.word(n as i64 as u64);
    }

    #[inline]
    fn finish(&self) -> u64 {
        let mut hash = self.state;
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^ (hash >> 33)
    }
}

/// The jump consistent hash of Lamping and Veach, "A Fast, Minimal Memory, Consistent Hash Algorithm" (2014),
/// <https://arxiv.org/abs/1406.2294>: when the number of partitions grows from n to n + 1, one key in n + 1 moves,
/// always to the new one.
pub(super) fn jump(mut hash: u64, partitions: usize) -> usize {
    let (mut here, mut next) = (0, 0);
    while next < partitions as u64 {
        here = next;
        hash = hash.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        let ratio = (1u64 << 31) as f64 / ((hash >> 33) + 1) as f64;
        next = ((here + 1) as f64 * ratio) as u64;
    }
    here as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_key_never_changes() {
        let golden: [(u64, u64); 9] = [
            (fixed_hash(0, &0u64), 0x0000_0000_0000_0000),
            (fixed_hash(0, &1u64), 0x37e8_d294_6949_7cd2),
            (fixed_hash(0, &-1i32), 0x7c0b_8a20_13f9_72d8),
            (fixed_hash(0, &-1isize), fixed_hash(0, &u64::MAX)),
            (fixed_hash(0, "customer-42"), 0xb6b5_fa94_033e_99b8),
            (fixed_hash(0, ""), 0xb1e6_4737_24cb_ac6f),
            (fixed_hash(0, &(7u8, 'x')), 0xb2f9_572e_2f53_f089),
            (fixed_hash(0, &u128::MAX), 0x8ccd_aa09_2a54_abf1),
            (fixed_hash(9, &1u64), 0xb1bf_1cda_cfd7_5c33),
        ];
        for (hash, expected) in golden {
            assert_eq!(hash, expected, "{hash:#018x} is not {expected:#018x}");
        }
    }

    #[test]
    fn owned_and_borrowed_keys_have_the_same_hash() {
        assert_eq!(fixed_hash(0, "key"), fixed_hash(0, &String::from("key")));
        assert_eq!(fixed_hash(0, &[1u8, 2][..]), fixed_hash(0, &vec![1u8, 2]));
        assert_eq!(fixed_hash(0, &[1u32, 2][..]), fixed_hash(0, &vec![1u32, 2]));
    }

    #[test]
    fn adding_a_partition_moves_few_keys_and_only_to_the_new_one() {
        const KEYS: u64 = 20_000;
        for n in 1..40 {
            let mut moved = 0;
            for key in 0..KEYS {
                let hash = fixed_hash(0, &key);
                let (before, after) = (jump(hash, n), jump(hash, n + 1));
                assert!(before < n);
                assert!(after == before || after == n, "a key moved from {before} to {after} of {}", n + 1);
                moved += u64::from(after != before);
            }
            let expected = KEYS as f64 / (n + 1) as f64;
            // Five standard deviations.
            let spread = 5.0 * (expected * (1.0 - 1.0 / (n + 1) as f64)).sqrt();
            assert!((moved as f64 - expected).abs() < spread, "from {n}: {moved} moved, not about {expected}");
        }
    }

    #[test]
    fn keys_that_differ_in_some_bits_only_are_spread_evenly() {
        let strides = [1, 4, 64, 1 << 20, 1 << 56];
        for (stride, n) in strides.into_iter().flat_map(|stride| [2, 4, 16].map(|n| (stride, n))) {
            let keys = (0..10_000u64).map(|i| i.wrapping_mul(stride));
            let distinct = if stride == 1 << 56 { 256 } else { 10_000 };
            let mut counts = vec![0u64; n];
            keys.take(distinct).for_each(|key| counts[(fixed_hash(0, &key) % n as u64) as usize] += 1);
            let mean = distinct as f64 / n as f64;
            for count in counts {
                assert!((count as f64 - mean).abs() < 5.0 * mean.sqrt(), "stride {stride}, {n}: {count}, not {mean}");
            }
        }
    }
}
