//! The Internet checksum of datagrams on their way through, while they are in the cache: what a network card does for its host.
//! RFC 1071 (any byte order will do), RFC 768 (in UDP a sum of 0 is sent as 0xffff).

/// A mark says where a checksum belongs: offset of the transport header, and of the field.
const FIELD: u32 = 0xffff;
/// Where the field is in a UDP header.
const UDP_FIELD: usize = 6;

/// One's-complement sum of `bytes` as big-endian words, the last odd byte padded; 0 only if all are 0.
pub fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(4);
    let mut last = [0; 4];
    last[..words.remainder().len()].copy_from_slice(words.remainder());
    let mut total = u64::from(u32::from_le_bytes(last));
    total += words.map(|word| u64::from(u32::from_le_bytes([word[0], word[1], word[2], word[3]]))).sum::<u64>();
    while total > 0xffff {
        total = (total >> 16) + (total & 0xffff);
    }
    (total as u16).swap_bytes()
}

/// Writes the checksum of a packet whose field holds the pseudo-header's sum. False: the mark does not fit the packet.
pub fn complete(packet: &mut [u8], mark: u32) -> bool {
    let (start, field) = ((mark >> 16) as usize, (mark & FIELD) as usize);
    if field < start || field + 2 > packet.len() {
        return false;
    }
    let checksum = match !sum(&packet[start..]) {
        0 if field - start == UDP_FIELD => 0xffff,
        checksum => checksum,
    };
    packet[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the book: big-endian pairs.
    fn slow(bytes: &[u8]) -> u16 {
        let mut total = 0u32;
        for pair in bytes.chunks(2) {
            total += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            total = (total & 0xffff) + (total >> 16);
        }
        total as u16
    }

    #[test]
    fn every_length_and_content_sums_as_by_the_book() {
        let bytes: Vec<u8> = (0..2000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for length in 0..bytes.len() {
            assert_eq!(sum(&bytes[..length]), slow(&bytes[..length]), "{length} bytes");
        }
        assert_eq!(sum(&[0xff; 1500]), 0xffff);
        assert_eq!(sum(&[0; 1500]), 0);
    }

    #[test]
    fn a_completed_packet_sums_to_all_ones_and_a_mark_outside_is_refused() {
        let mut packet: Vec<u8> = (0..61).collect();
        let before = packet.clone();
        assert!(complete(&mut packet, 20 << 16 | 36));
        assert_eq!(packet[36..38], (!slow(&before[20..])).to_be_bytes());
        let mut zero = [0u8; 28];
        zero[26..28].copy_from_slice(&0xffffu16.to_be_bytes());
        assert!(complete(&mut zero, 20 << 16 | 26));
        assert_eq!(zero[26..28], [0xff, 0xff]);
        let mut tcp = [0u8; 40];
        tcp[36..38].copy_from_slice(&0xffffu16.to_be_bytes());
        assert!(complete(&mut tcp, 20 << 16 | 36));
        assert_eq!(tcp[36..38], [0, 0]);
        assert!(!complete(&mut tcp, 20 << 16 | 39));
        assert!(!complete(&mut tcp, 20 << 16 | 19));
    }
}
