//! Seeded fuzz tests of what strangers can send: no input may panic, because a panic ends the process. `FUZZ_ROUNDS=100`
//! makes every test a hundred times longer, `FUZZ_SEED=7` takes another course; a failure names its seed.

mod addresses;
mod certificates;
mod datagrams;
mod ledger;
mod pair;

/// Marsaglia's xorshift64*, so that a course can be repeated.
pub struct Random(u64);

impl Random {
    /// The course of test `name`.
    pub fn new(name: &str) -> Self {
        let seed = variable("FUZZ_SEED", 1);
        println!("{name}: FUZZ_SEED={seed}");
        let mixed = name.bytes().fold(seed, |acc, byte| acc.wrapping_mul(0x100_0000_01b3) ^ u64::from(byte));
        Self(mixed | 1)
    }

    pub fn word(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `n`, which is not 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.word() >> 11) as usize % n
    }

    pub fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.word() as u8).collect()
    }

    /// Changes a byte or some, cuts, repeats or extends `bytes`.
    pub fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len().max(1));
            match self.below(7) {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                1 if !bytes.is_empty() => bytes[at] = self.word() as u8,
                2 if !bytes.is_empty() => bytes[at] = [0, 0x3f, 0x7f, 0x80, 0xff][self.below(5)],
                3 => bytes.truncate(at),
                4 => {
                    let length = self.below(64);
                    let more = self.bytes(length);
                    bytes.extend(more);
                }
                5 => {
                    let piece = bytes[at..].to_vec();
                    bytes.splice(at..at, piece.into_iter().take(200));
                }
                _ => drop(bytes.drain(at.min(bytes.len())..(at + 8).min(bytes.len()))),
            }
        }
    }
}

/// `n` rounds of an ordinary run.
pub fn rounds(n: u64) -> u64 {
    n * variable("FUZZ_ROUNDS", 1)
}

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
