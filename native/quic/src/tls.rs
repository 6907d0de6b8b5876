//! TLS 1.3 for both roles: mutual authentication against one CA, no resumption, no tickets, no early data, and a wall
//! clock that the caller sets (RFC 8446, RFC 9001).

use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::TimeSource;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{CipherSuite, ClientConfig, RootCertStore, ServerConfig};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since the epoch, as the caller last said.
#[derive(Debug, Default)]
pub struct WallClock(AtomicU64);

impl WallClock {
    pub fn set(&self, millis: u64) {
        self.0.store(millis, Ordering::Relaxed);
    }

    fn since_epoch(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

impl TimeProvider for WallClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(self.since_epoch()))
    }
}

impl TimeSource for WallClock {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + self.since_epoch()
    }
}

/// What both roles are made of. `identity` is the certificate chain and the private key, both PEM.
pub struct Material<'a> {
    pub ca: &'a str,
    pub identity: Option<(&'a str, &'a str)>,
    pub alpn: &'a str,
    /// `aes128` (the preferred one), `chacha20` or `aes256` alone; all three when absent.
    pub suite: Option<&'a str>,
    pub clock: Arc<WallClock>,
}

type Failure = String;

pub fn server(material: &Material) -> Result<QuicServerConfig, Failure> {
    let provider = provider(material.suite)?;
    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots(material.ca)?, provider.clone()).build().map_err(text)?;
    let (certificate, key) = material.identity.ok_or("a server needs a certificate and a key")?;
    let mut config = ServerConfig::builder_with_details(provider, material.clock.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(text)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain(certificate)?, private_key(key)?)
        .map_err(text)?;
    config.alpn_protocols = vec![material.alpn.as_bytes().to_vec()];
    config.ignore_client_order = true;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    QuicServerConfig::try_from(config).map_err(text)
}

pub fn client(material: &Material) -> Result<QuicClientConfig, Failure> {
    let builder = ClientConfig::builder_with_details(provider(material.suite)?, material.clock.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(text)?
        .with_root_certificates(roots(material.ca)?);
    let mut config = match material.identity {
        Some((certificate, key)) => {
            builder.with_client_auth_cert(chain(certificate)?, private_key(key)?).map_err(text)?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![material.alpn.as_bytes().to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    QuicClientConfig::try_from(config).map_err(text)
}

/// AES-128-GCM first: the fastest here, and required for Initial packets whatever is negotiated (RFC 9001 §5.2).
fn provider(only: Option<&str>) -> Result<Arc<CryptoProvider>, Failure> {
    let wanted: &[CipherSuite] = match only {
        None => &[
            CipherSuite::TLS13_AES_128_GCM_SHA256,
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
            CipherSuite::TLS13_AES_256_GCM_SHA384,
        ],
        Some("aes128") => &[CipherSuite::TLS13_AES_128_GCM_SHA256],
        Some("chacha20") => &[CipherSuite::TLS13_CHACHA20_POLY1305_SHA256, CipherSuite::TLS13_AES_128_GCM_SHA256],
        Some("aes256") => &[CipherSuite::TLS13_AES_256_GCM_SHA384, CipherSuite::TLS13_AES_128_GCM_SHA256],
        Some(other) => return Err(format!("unknown cipher suite {other}")),
    };
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    let all = std::mem::take(&mut provider.cipher_suites);
    for suite in wanted {
        provider.cipher_suites.extend(all.iter().find(|s| s.suite() == *suite));
    }
    Ok(Arc::new(provider))
}

fn roots(pem: &str) -> Result<Arc<RootCertStore>, Failure> {
    let mut store = RootCertStore::empty();
    for certificate in chain(pem)? {
        store.add(certificate).map_err(text)?;
    }
    Ok(Arc::new(store))
}

fn chain(pem: &str) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err("no certificate in the PEM text".into()),
        Ok(chain) => Ok(chain),
        Err(error) => Err(format!("certificate PEM: {error}")),
    }
}

fn private_key(pem: &str) -> Result<PrivateKeyDer<'static>, Failure> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| format!("private key PEM: {error}"))
}

fn text(error: impl std::fmt::Display) -> Failure {
    error.to_string()
}
