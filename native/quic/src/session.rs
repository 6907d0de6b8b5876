//! Sessions of rustls whose application keys show each packet to the connection's ledger: on its way out before it is sealed, on
//! its way in after it was opened, so that nobody but the peer can have written what the ledger reads.

use crate::ledger::Ledger;
use bytes::BytesMut;
use q::crypto::{CryptoError, ExportKeyingMaterialError, KeyPair, Keys, PacketKey, UnsupportedVersion};
use q::transport_parameters::TransportParameters;
use quinn_proto as q;
use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type SharedLedger = Arc<Mutex<Ledger>>;

fn locked(ledger: &SharedLedger) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Packets and bytes that the ledger of a connection has counted as lost.
pub fn lost(connection: &q::Connection) -> (u64, u64) {
    let ledger = connection.crypto_session().handshake_data().and_then(|data| data.downcast::<SharedLedger>().ok());
    ledger.map_or((0, 0), |ledger| {
        let ledger = locked(&ledger);
        (ledger.lost, ledger.lost_bytes)
    })
}

/// Configuration of either role whose sessions keep a ledger.
pub struct Keeping<T>(pub Arc<T>);

impl<T: q::crypto::ServerConfig> q::crypto::ServerConfig for Keeping<T> {
    fn initial_keys(&self, version: u32, id: &q::ConnectionId) -> Result<Keys, UnsupportedVersion> {
        self.0.initial_keys(version, id)
    }
    fn retry_tag(&self, version: u32, id: &q::ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.0.retry_tag(version, id, packet)
    }
    fn start_session(self: Arc<Self>, version: u32, params: &TransportParameters) -> Box<dyn q::crypto::Session> {
        Session::boxed(self.0.clone().start_session(version, params))
    }
}

impl<T: q::crypto::ClientConfig> q::crypto::ClientConfig for Keeping<T> {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn q::crypto::Session>, q::ConnectError> {
        Ok(Session::boxed(self.0.clone().start_session(version, name, params)?))
    }
}

/// A session like `inner`; only its application keys differ.
struct Session {
    inner: Box<dyn q::crypto::Session>,
    /// Keys that `write_handshake` gave: Handshake first, then those of 1-RTT packets.
    keys: u32,
    ledger: SharedLedger,
}

impl Session {
    fn boxed(inner: Box<dyn q::crypto::Session>) -> Box<dyn q::crypto::Session> {
        Box::new(Self { inner, keys: 0, ledger: Arc::default() })
    }

    fn keeping(&self, pair: KeyPair<Box<dyn PacketKey>>) -> KeyPair<Box<dyn PacketKey>> {
        let key = |inner| Box::new(Key { inner, ledger: self.ledger.clone() });
        KeyPair { local: key(pair.local), remote: key(pair.remote) }
    }
}

impl q::crypto::Session for Session {
    fn initial_keys(&self, id: &q::ConnectionId, side: q::Side) -> Keys {
        self.inner.initial_keys(id, side)
    }
    /// The ledger: nothing else that was negotiated is asked for.
    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        Some(Box::new(self.ledger.clone()))
    }
    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.inner.peer_identity()
    }
    fn early_crypto(&self) -> Option<(Box<dyn q::crypto::HeaderKey>, Box<dyn PacketKey>)> {
        self.inner.early_crypto()
    }
    fn early_data_accepted(&self) -> Option<bool> {
        self.inner.early_data_accepted()
    }
    fn is_handshaking(&self) -> bool {
        self.inner.is_handshaking()
    }
    fn read_handshake(&mut self, bytes: &[u8]) -> Result<bool, q::TransportError> {
        self.inner.read_handshake(bytes)
    }
    fn transport_parameters(&self) -> Result<Option<TransportParameters>, q::TransportError> {
        self.inner.transport_parameters()
    }
    fn write_handshake(&mut self, bytes: &mut Vec<u8>) -> Option<Keys> {
        let keys = self.inner.write_handshake(bytes)?;
        self.keys += 1;
        let is_application = self.keys == 2;
        Some(if is_application { Keys { header: keys.header, packet: self.keeping(keys.packet) } } else { keys })
    }
    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        let pair = self.inner.next_1rtt_keys()?;
        Some(self.keeping(pair))
    }
    fn is_valid_retry(&self, id: &q::ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.inner.is_valid_retry(id, header, payload)
    }
    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.inner.export_keying_material(output, label, context)
    }
}

/// Seals and opens packets like `inner`, and shows them to the ledger.
struct Key {
    inner: Box<dyn PacketKey>,
    ledger: SharedLedger,
}

impl PacketKey for Key {
    fn encrypt(&self, packet: u64, bytes: &mut [u8], header_length: usize) {
        let frames = &bytes[header_length..bytes.len() - self.inner.tag_len()];
        locked(&self.ledger).sent(packet, bytes.len(), frames);
        self.inner.encrypt(packet, bytes, header_length);
    }
    fn decrypt(&self, packet: u64, header: &[u8], payload: &mut BytesMut) -> Result<(), CryptoError> {
        self.inner.decrypt(packet, header, payload)?;
        if let Some(changed) = locked(&self.ledger).received(payload) {
            *payload = changed;
        }
        Ok(())
    }
    fn tag_len(&self) -> usize {
        self.inner.tag_len()
    }
    fn confidentiality_limit(&self) -> u64 {
        self.inner.confidentiality_limit()
    }
    fn integrity_limit(&self) -> u64 {
        self.inner.integrity_limit()
    }
}
