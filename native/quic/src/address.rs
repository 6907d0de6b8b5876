//! Socket addresses as five words (four of IPv6, IPv4 mapped into it, and the port), as `src/base/address.ts` packs them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Words of one packed socket address.
pub const ADDRESS_WORDS: usize = 5;

/// fd53:616c:6c79::/48, the range the driver numbers relay channels in; no such address ever goes on a wire.
const VIRTUAL_PREFIX: [u16; 3] = [0xfd53, 0x616c, 0x6c79];

/// `words` holds at least [`ADDRESS_WORDS`]. A v4-mapped address becomes IPv4.
pub fn read(words: &[u32]) -> SocketAddr {
    let bits = words[..4].iter().fold(0u128, |acc, word| acc << 32 | u128::from(*word));
    let ip = Ipv6Addr::from(bits);
    let ip = ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4);
    SocketAddr::new(ip, words[4] as u16)
}

pub fn write(address: SocketAddr, words: &mut [u32]) {
    let bits = u128::from(match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    });
    for (i, word) in words[..4].iter_mut().enumerate() {
        *word = (bits >> (96 - 32 * i)) as u32;
    }
    words[4] = address.port().into();
}

pub fn is_virtual(address: SocketAddr) -> bool {
    matches!(address.ip(), IpAddr::V6(ip) if ip.segments()[..3] == VIRTUAL_PREFIX)
}

/// Who is counted as one source of handshakes: an IPv4 address, an IPv6 /64 (what one host gets), or one channel.
pub fn source_key(address: SocketAddr) -> IpAddr {
    match address.ip() {
        IpAddr::V6(ip) if !is_virtual(address) => IpAddr::V6(Ipv6Addr::from(u128::from(ip) >> 64 << 64)),
        IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from(u32::from(ip))),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_addresses_convert_both_ways() {
        for text in ["192.0.2.7:4433", "[2001:db8::1]:1", "[fd53:616c:6c79::5]:65535"] {
            let address: SocketAddr = text.parse().unwrap();
            let mut words = [0; ADDRESS_WORDS];
            write(address, &mut words);
            assert_eq!(read(&words), address);
        }
        let mut words = [0; ADDRESS_WORDS];
        write("192.0.2.7:4433".parse().unwrap(), &mut words);
        assert_eq!(words, [0, 0, 0xffff, 0xc000_0207, 4433]);
    }

    #[test]
    fn one_ipv6_host_is_one_source_and_one_channel_is_one_source() {
        let key = |text: &str| source_key(text.parse().unwrap());
        assert_eq!(key("[2001:db8::1]:1"), key("[2001:db8::2]:9"));
        assert_ne!(key("[2001:db8::1]:1"), key("[2001:db8:0:1::1]:1"));
        assert_ne!(key("[fd53:616c:6c79::1]:1"), key("[fd53:616c:6c79::2]:1"));
        assert_ne!(key("192.0.2.1:1"), key("192.0.2.2:1"));
    }
}
