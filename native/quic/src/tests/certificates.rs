//! Certificates: changed PEM in our own files is an error with words; changed DER from a peer ends that handshake only.

use super::pair::{clock, core, options, Pair, CA, CERTIFICATE, KEY};
use super::{rounds, Random};
use crate::config::Configs;
use crate::endpoint::Core;
use quinn_proto as q;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, SignatureScheme};
use std::sync::Arc;

#[test]
fn changed_pem_is_an_error_and_never_a_panic() {
    let mut random = Random::new("PEM");
    let mut refused = 0;
    for _ in 0..rounds(2_000) {
        let mut bad = options();
        let field = random.below(3);
        let mut bytes = [CA, CERTIFICATE, KEY][field].as_bytes().to_vec();
        random.mutate(&mut bytes);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        match field {
            0 => bad.ca = text,
            1 => bad.certificate = Some(text),
            _ => bad.key = Some(text),
        }
        if let Err(words) = Configs::new(&bad, clock()) {
            assert!(!words.is_empty());
            refused += 1;
        }
    }
    assert!(refused > 100, "{refused} were refused");
}

/// Shows a certificate that nobody has looked at.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
    fn has_certs(&self) -> bool {
        true
    }
}

#[test]
fn changed_der_of_a_peer_is_refused() {
    let mut random = Random::new("DER");
    let der = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap();
    let mut server_tried = 0.0;
    for round in 0..rounds(600) {
        let mut bytes = der.to_vec();
        // The first is untouched, so that a harness that connects nobody does not pass.
        if round > 0 {
            random.mutate(&mut bytes);
        }
        let untouched = bytes == der.as_ref();
        let mut pair = Pair::new(core(&options()), showing(bytes));
        pair.connect();
        pair.run(6, |_, _| {});
        assert_eq!(pair.sides[0].connected.len(), usize::from(untouched), "round {round}");
        server_tried += pair.sides[0].core.counters[crate::codes::counter::ACCEPTED];
    }
    assert_eq!(server_tried, rounds(600) as f64);
}

/// A client that is right in everything but its certificate.
fn showing(certificate: Vec<u8>) -> Core {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(CA.as_bytes()).unwrap()).unwrap();
    let mut tls = rustls::ClientConfig::builder_with_details(provider, clock())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(Shows(Arc::new(CertifiedKey::new(vec![certificate.into()], key)))));
    tls.alpn_protocols = vec![b"fuzz".to_vec()];
    let options = options();
    let mut configs = Configs::new(&options, clock()).unwrap();
    let crypto = q::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    configs.client = Some(q::ClientConfig::new(Arc::new(crypto)));
    Core::new(configs, &options)
}
