//! From the options that the TypeScript side gives to quinn's configuration objects.

use crate::controller::{OpenFactory, DEFAULT_CAP};
use crate::ledger::{PATIENCE, TIME_PATIENCE};
use crate::session::Keeping;
use crate::tls::{self, Material, WallClock};
use aws_lc_rs::{hkdf, hmac};
use napi_derive::napi;
use quinn_proto as q;
use std::sync::Arc;
use std::time::Duration;

/// Durations are milliseconds, sizes bytes. The defaults live in `src/quic/options.ts`.
#[napi(object, object_to_js = false)]
pub struct Options {
    pub server: bool,
    pub client: bool,
    pub alpn: String,
    pub ca: String,
    pub certificate: Option<String>,
    pub key: Option<String>,
    pub suite: Option<String>,
    pub wall_time: f64,
    /// Whether a peer may move to another address (servers only; a client's peer never may).
    pub migration: bool,
    pub idle_timeout: u32,
    pub keep_alive: Option<u32>,
    /// A handshake that takes longer is given up.
    pub handshake_timeout: u32,
    pub initial_mtu: u32,
    /// Highest UDP payload that is searched for; absent: no search.
    pub mtu_upper_bound: Option<u32>,
    pub datagram_receive_buffer: u32,
    pub datagram_send_buffer: u32,
    pub stream_window: u32,
    pub connection_window: u32,
    pub bidirectional_streams: u32,
    pub unidirectional_streams: u32,
    /// `open` or `cubic`.
    pub controller: String,
    pub in_flight_cap: Option<f64>,
    pub virtual_prefix_bytes: u32,
    /// Handshakes in flight above which an unproved address gets a Retry: 0 = always.
    pub retry_above: u32,
    pub max_handshakes: u32,
    pub max_handshakes_per_source: u32,
    /// Whether packets of no known connection are ever answered (reset, version negotiation, refusal, Retry).
    pub answer_unknown: bool,
    /// HMAC-SHA-256 key of stateless reset tokens.
    pub reset_key: Option<napi::bindgen_prelude::Uint8Array>,
    /// Two 32-bit halves that key the shape of connection ids.
    pub connection_id_key: Option<Vec<u32>>,
    pub connection_id_lifetime: Option<u32>,
    /// Tests only.
    pub seed: Option<u32>,
}

/// What `connect` and `accept` need, rebuilt when the identity changes.
pub struct Configs {
    pub endpoint: Arc<q::EndpointConfig>,
    pub server: Option<Arc<q::ServerConfig>>,
    pub client: Option<q::ClientConfig>,
    transport: Arc<q::TransportConfig>,
    token_key: Arc<hkdf::Prk>,
    clock: Arc<WallClock>,
}

/// RFC 9000 §8.1.3 asks for a short life; a client answers a Retry within a round trip.
/// Bytes of UDP payload: what `transmit` keeps room for, prefix included, is a little more.
const MAX_MTU: u16 = 2000;
const RETRY_TOKEN_LIFETIME: Duration = Duration::from_secs(60);
const RESET_KEY_BYTES: usize = 32;

impl Configs {
    pub fn new(options: &Options, clock: Arc<WallClock>) -> Result<Self, String> {
        let secret: [u8; RESET_KEY_BYTES] = random()?;
        let mut configs = Self {
            endpoint: Arc::new(endpoint(options)?),
            server: None,
            client: None,
            transport: Arc::new(transport(options)?),
            token_key: Arc::new(hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&secret)),
            clock,
        };
        let identity = options.certificate.as_deref().zip(options.key.as_deref());
        configs.set_identity(options, identity)?;
        Ok(configs)
    }

    /// New connections use the new identity; existing ones keep theirs.
    pub fn set_identity(&mut self, options: &Options, identity: Option<(&str, &str)>) -> Result<(), String> {
        let material = Material {
            ca: &options.ca,
            identity,
            alpn: &options.alpn,
            suite: options.suite.as_deref(),
            clock: self.clock.clone(),
        };
        let server = if options.server { Some(tls::server(&material)?) } else { None };
        let client = if options.client { Some(tls::client(&material)?) } else { None };
        self.server = server.map(|crypto| {
            let crypto: Arc<dyn q::crypto::ServerConfig> =
                if is_open(options) { Arc::new(Keeping(Arc::new(crypto))) } else { Arc::new(crypto) };
            let mut config = q::ServerConfig::new(crypto, self.token_key.clone());
            let mut tokens = q::ValidationTokenConfig::default();
            tokens.sent(0);
            config
                .transport_config(self.transport.clone())
                .retry_token_lifetime(RETRY_TOKEN_LIFETIME)
                .validation_token_config(tokens)
                .time_source(self.clock.clone())
                .migration(options.migration);
            Arc::new(config)
        });
        self.client = client.map(|crypto| {
            let crypto: Arc<dyn q::crypto::ClientConfig> =
                if is_open(options) { Arc::new(Keeping(Arc::new(crypto))) } else { Arc::new(crypto) };
            let mut config = q::ClientConfig::new(crypto);
            config.transport_config(self.transport.clone()).token_store(Arc::new(q::NoneTokenStore));
            config
        });
        Ok(())
    }
}

/// Whether losses are nothing to the controller: only then may they be settled.
fn is_open(options: &Options) -> bool {
    options.controller == "open"
}

fn endpoint(options: &Options) -> Result<q::EndpointConfig, String> {
    let reset_key: Vec<u8> = match &options.reset_key {
        Some(key) if key.len() < RESET_KEY_BYTES => return Err("the reset key must be 32 bytes or more".into()),
        Some(key) => key.to_vec(),
        None => random::<RESET_KEY_BYTES>()?.to_vec(),
    };
    let id_key = match options.connection_id_key.as_deref() {
        None => u64::from_ne_bytes(random()?),
        Some([high, low]) => u64::from(*high) << 32 | u64::from(*low),
        Some(_) => return Err("the connection id key is two words".into()),
    };
    let id_lifetime = options.connection_id_lifetime.map(millis);
    let mut config = q::EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &reset_key)));
    config
        .cid_generator(move || {
            let mut generator = q::HashedConnectionIdGenerator::from_key(id_key);
            if let Some(lifetime) = id_lifetime {
                generator.set_lifetime(lifetime);
            }
            Box::new(generator)
        })
        .grease_quic_bit(false)
        .supported_versions(vec![1])
        .min_reset_interval(Duration::ZERO)
        .rng_seed(options.seed.map(|seed| {
            let mut bytes = [0; 32];
            bytes[..4].copy_from_slice(&seed.to_le_bytes());
            bytes
        }))
        .max_udp_payload_size(65_527)
        .map_err(|error| error.to_string())?;
    Ok(config)
}

/// How soon the size that a path carries is searched for again after loss made it look smaller: under much random loss
/// it may only look so, and a real change is found by the same search.
const SEARCH_AGAIN: Duration = Duration::from_millis(200);

fn transport(options: &Options) -> Result<q::TransportConfig, String> {
    let mut config = q::TransportConfig::default();
    let discovery = options.mtu_upper_bound.map(|bound| {
        let mut discovery = q::MtuDiscoveryConfig::default();
        discovery.upper_bound(u16::try_from(bound).unwrap_or(MAX_MTU).min(MAX_MTU));
        discovery.black_hole_cooldown(SEARCH_AGAIN);
        discovery
    });
    let idle = millis(options.idle_timeout).try_into().map_err(|_| "idle timeout out of range")?;
    let initial_mtu = u16::try_from(options.initial_mtu).ok().filter(|mtu| *mtu <= MAX_MTU);
    let initial_mtu = initial_mtu.ok_or("initial MTU out of range")?;
    config
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(options.keep_alive.map(millis))
        .initial_mtu(initial_mtu)
        .mtu_discovery_config(discovery)
        .datagram_receive_buffer_size(Some(options.datagram_receive_buffer as usize))
        .datagram_send_buffer_size(options.datagram_send_buffer as usize)
        .stream_receive_window(options.stream_window.into())
        .receive_window(options.connection_window.into())
        .send_window(u64::from(options.connection_window))
        .max_concurrent_bidi_streams(options.bidirectional_streams.into())
        .max_concurrent_uni_streams(options.unidirectional_streams.into());
    match options.controller.as_str() {
        "open" => {
            let cap = options.in_flight_cap.map_or(DEFAULT_CAP, |bytes| bytes as u64);
            config
                .congestion_controller_factory(Arc::new(OpenFactory { cap }))
                .packet_threshold(PATIENCE)
                .time_threshold(TIME_PATIENCE);
        }
        "cubic" => {
            config.congestion_controller_factory(Arc::new(q::congestion::CubicConfig::default()));
        }
        other => return Err(format!("unknown controller {other}")),
    }
    Ok(config)
}

fn millis(n: u32) -> Duration {
    Duration::from_millis(n.into())
}

fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| "the system's random generator failed")?;
    Ok(bytes)
}
