//! Datagrams on their way into a connection: copied, or lent by the caller.

use bytes::{Bytes, BytesMut};
use quinn_proto as q;

/// No DATAGRAM frame is longer: it must fit a UDP payload.
pub const LARGEST_DATAGRAM: usize = 65_535;

/// Queues the payloads, as `own` makes them one's own; None is one outside its memory. Returns how many were queued, too large, blocked,
/// and unsendable.
pub fn queue<'a>(
    mut datagrams: q::Datagrams<'_>,
    payloads: impl Iterator<Item = Option<&'a [u8]>>,
    mut own: impl FnMut(&'a [u8]) -> Bytes,
) -> [u32; 4] {
    let mut results = [0; 4];
    for payload in payloads {
        let index = match payload {
            None => 3,
            Some(payload) if payload.len() > LARGEST_DATAGRAM => 1,
            Some(payload) => match datagrams.send(own(payload), false) {
                Ok(()) => 0,
                Err(q::SendDatagramError::TooLarge) => 1,
                Err(q::SendDatagramError::Blocked(_)) => 2,
                Err(_) => 3,
            },
        };
        results[index] += 1;
    }
    results
}

/// `queue` of copies. All are made before the first is split off, which is a locked instruction: it waits until what was written before
/// has left the processor.
pub fn queue_copies<'a, P: Iterator<Item = Option<&'a [u8]>>>(
    datagrams: q::Datagrams<'_>,
    payloads: impl Fn() -> P,
) -> [u32; 4] {
    let fit = || payloads().flatten().filter(|payload| payload.len() <= LARGEST_DATAGRAM);
    let mut batch = BytesMut::with_capacity(fit().map(<[u8]>::len).sum());
    fit().for_each(|payload| batch.extend_from_slice(payload));
    queue(datagrams, payloads(), |payload| batch.split_to(payload.len()).freeze())
}

/// The payload itself, without a copy.
///
/// # Safety
/// The memory stays where it is for as long as the connection it is queued on exists.
pub unsafe fn lent(payload: &[u8]) -> Bytes {
    Bytes::from_static(unsafe { std::slice::from_raw_parts(payload.as_ptr(), payload.len()) })
}
