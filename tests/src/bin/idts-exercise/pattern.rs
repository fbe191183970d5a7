// SPDX-License-Identifier: GPL-2.0
//! Bytes that tell their place: one that is lost, doubled, moved or of another stream is seen.

use anyhow::{bail, Result};

/// A stream of bytes, each a function of its place and the seed.
#[derive(Clone)]
pub struct Pattern {
    seed: u64,
    at: u64,
}

impl Pattern {
    /// From the beginning.
    pub fn new(seed: u64) -> Self {
        let seed = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self { seed, at: 0 }
    }

    /// How far it is.
    pub fn position(&self) -> u64 {
        self.at
    }

    fn word(&self, number: u64) -> u64 {
        let mixed = number.wrapping_mul(0xd6e8_feb8_6659_fd93) ^ self.seed;
        mixed ^ (mixed >> 32)
    }

    /// The next `buffer.len()` bytes.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        let mut rest = buffer;
        while !rest.is_empty() {
            let word = self.word(self.at / 8).to_le_bytes();
            let piece = &word[(self.at % 8) as usize..];
            let count = piece.len().min(rest.len());
            rest[..count].copy_from_slice(&piece[..count]);
            rest = &mut rest[count..];
            self.at += count as u64;
        }
    }

    /// Takes note that only `used` of the last `filled` bytes were used.
    pub fn unfill(&mut self, filled: usize, used: usize) {
        self.at -= (filled - used) as u64;
    }

    /// Compares the next bytes with these.
    pub fn check(&mut self, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let word = self.word(self.at / 8).to_le_bytes();
            let piece = &word[(self.at % 8) as usize..];
            let count = piece.len().min(rest.len());
            if rest[..count] != piece[..count] {
                bail!(
                    "near byte {}: {:02x?} came, {:02x?} is right",
                    self.at,
                    &rest[..count],
                    &piece[..count]
                );
            }
            rest = &rest[count..];
            self.at += count as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_the_whole() {
        let mut whole = [0; 100];
        Pattern::new(7).fill(&mut whole);
        let mut pieces = Pattern::new(7);
        for size in [1, 7, 8, 9, 30, 45] {
            let mut piece = vec![0; size];
            let at = pieces.position() as usize;
            pieces.fill(&mut piece);
            assert_eq!(piece, whole[at..at + size]);
        }
        let mut checker = Pattern::new(7);
        checker.check(&whole[..33]).unwrap();
        checker.check(&whole[33..]).unwrap();
    }

    #[test]
    fn a_wrong_byte_is_found() {
        let mut bytes = [0; 4096];
        Pattern::new(1).fill(&mut bytes);
        assert!(Pattern::new(2).check(&bytes).is_err());
        assert!(Pattern::new(1).check(&bytes[8..]).is_err());
        bytes[4095] ^= 1;
        assert!(Pattern::new(1).check(&bytes).is_err());
    }
}
