//! Any five words are an address, and an address survives both ways.

use super::{rounds, Random};
use crate::address::{self, ADDRESS_WORDS};

#[test]
fn any_words_are_an_address_that_survives() {
    let mut random = Random::new("addresses");
    for _ in 0..rounds(20_000) {
        let mut words = [0u32; ADDRESS_WORDS];
        for word in &mut words {
            *word = match random.below(4) {
                0 => 0,
                1 => 0xffff,
                2 => 0xfd53_616c,
                _ => random.word() as u32,
            };
        }
        let read = address::read(&words);
        let mut again = [0u32; ADDRESS_WORDS];
        address::write(read, &mut again);
        assert_eq!(address::read(&again), read);
        assert_eq!(again[..4], words[..4], "the address itself is never changed");
        assert_eq!(again[4], words[4] & 0xffff, "a port has 16 bits");
        // Neither judges anything that could fail.
        assert_eq!(address::source_key(read), address::source_key(address::read(&again)));
        address::is_virtual(read);
    }
}
