//! The transmit memory as quinn sees it: a vector that it writes packets to.

use std::mem::ManuallyDrop;

/// Memory that a run is written to directly. Quinn writes more than it keeps in two places, before it knows that it does not fit: ACK
/// frames (64 ranges, some 1,100 bytes), and the token of a Retry in an Initial (as long as the UDP datagram that brought it).
pub const WHOLE: usize = 65_536 + 4096;

/// Where a run is written to when less is free.
#[derive(Default)]
pub struct Aside(Vec<u8>);

impl Aside {
    /// Calls `write` with an empty vector. What it wrote is at the beginning of `memory` afterwards; None, and nothing is there, when it
    /// does not fit.
    pub fn fill<R>(&mut self, memory: &mut [u8], write: impl FnOnce(&mut Vec<u8>) -> Option<R>) -> Option<R> {
        if memory.len() >= WHOLE {
            // SAFETY: bytes are written and read, nothing else: the vector is neither dropped nor, having room for all that quinn writes
            // at once, grown.
            let mut packets = ManuallyDrop::new(unsafe { Vec::from_raw_parts(memory.as_mut_ptr(), 0, memory.len()) });
            let result = write(&mut packets);
            assert_eq!(packets.capacity(), memory.len(), "a run outgrew the transmit memory");
            return result;
        }
        self.0.clear();
        let result = write(&mut self.0)?;
        memory.get_mut(..self.0.len())?.copy_from_slice(&self.0);
        Some(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(count: usize) -> impl FnOnce(&mut Vec<u8>) -> Option<usize> {
        move |packets| {
            packets.resize(count, 1);
            Some(count)
        }
    }

    #[test]
    fn what_is_written_is_at_the_beginning_of_memory_of_any_size() {
        for size in [0, 1, 3, 4, WHOLE - 1, WHOLE, WHOLE + 1] {
            let mut memory = vec![9; size];
            assert_eq!(Aside::default().fill(&mut memory, write(3)).is_some(), size >= 3);
            assert_eq!(memory.iter().filter(|&&byte| byte != 9).count(), if size < 3 { 0 } else { 3 });
        }
    }

    #[test]
    fn a_run_that_outgrows_small_memory_is_lost_and_nothing_else() {
        let mut aside = Aside::default();
        let mut memory = vec![9; 1000];
        assert_eq!(aside.fill(&mut memory, write(100_000)), None);
        assert!(memory.iter().all(|&byte| byte == 9));
        assert_eq!(aside.fill(&mut memory, write(1)), Some(1));
        assert_eq!(memory[..2], [1, 9]);
    }
}
