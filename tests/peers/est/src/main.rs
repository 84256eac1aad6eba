//! usage: est-peer PORT FOLDER USER PASSWORD
//!
//! Serves EST on `localhost:PORT` for whoever logs in with USER and PASSWORD, who becomes USER, and for whoever shows a
//! certificate that was issued here. FOLDER gets `root.pem`, the authority; a line on standard output tells each request.

use axum::body::Body;
use axum::http::Request;
use est_ca::auth::{AuthBackend, Principal};
use est_ca::ca::serial::InMemorySerialStore;
use est_ca::ca::{CertProfile, Issuer};
use est_ca::est::server::EstServer;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;
use x509_cert::der::{Decode, oid::db::rfc4519::CN};

struct Known {
    user: String,
    password: String,
}

impl AuthBackend for Known {
    fn verify_bootstrap(&self, user: &str, password: &str) -> Result<Principal, String> {
        match user == self.user && password == self.password {
            true => Ok(Principal::new(user)),
            false => Err("not known here".to_string()),
        }
    }
}

/// The common name of a certificate that the handshake has verified.
fn principal(certificate: &CertificateDer<'_>) -> Option<Principal> {
    let certificate = x509_cert::Certificate::from_der(certificate).ok()?;
    let names = certificate.tbs_certificate.subject.0.into_iter().flat_map(|name| name.0.into_vec());
    let name = names.into_iter().find(|attribute| attribute.oid == CN)?;
    Some(Principal::new(std::str::from_utf8(name.value.value()).ok()?))
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let [port, folder, user, password] = std::env::args().skip(1).collect::<Vec<_>>().try_into().unwrap();
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    root.distinguished_name.push(DnType::CommonName, "authority of a hospital");
    let root_key = KeyPair::generate().unwrap();
    let signed = root.self_signed(&root_key).unwrap();
    let profile = CertProfile::client_auth_for_days(90);
    let serials = Arc::new(InMemorySerialStore::new());
    let issuer = Issuer::from_pem(&signed.pem(), &root_key.serialize_pem(), profile, serials).unwrap();

    let server_key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["localhost".to_string()]).unwrap();
    let server = server.signed_by(&server_key, &signed, &root_key).unwrap();
    // What it hands out is what it trusts: the crate signs its root again when it reads it.
    let handed_out = CertificateDer::from(issuer.ca_cert_der().to_vec());
    let mut trusted = rustls::RootCertStore::empty();
    trusted.add(handed_out).unwrap();
    let verifier = WebPkiClientVerifier::builder(Arc::new(trusted)).allow_unauthenticated().build().unwrap();
    let key = PrivateKeyDer::try_from(server_key.serialize_der()).unwrap();
    let tls = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![server.der().clone()], key)
        .unwrap();
    std::fs::write(format!("{folder}/root.pem"), signed.pem()).unwrap();

    let router = EstServer::new(issuer, Arc::new(Known { user, password })).router();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port.parse::<u16>().unwrap())).await.unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, router) = (acceptor.clone(), router.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let shown = stream.get_ref().1.peer_certificates().and_then(|chain| principal(chain.first()?));
            let service = hyper::service::service_fn(move |mut request: Request<Body>| {
                let (shown, mut router) = (shown.clone(), router.clone());
                async move {
                    let (path, name) = (request.uri().path().to_string(), shown.as_ref().map(|shown| shown.id.clone()));
                    request.extensions_mut().extend(
                        shown
                            .map(|shown| {
                                let mut extensions = axum::http::Extensions::new();
                                extensions.insert(shown);
                                extensions
                            })
                            .unwrap_or_default(),
                    );
                    let answer = hyper::service::Service::call(&mut router, request).await;
                    let status = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
                    println!("{path} {} {status}", name.as_deref().unwrap_or("-"));
                    answer
                }
            });
            let _ = hyper::server::conn::Http::new().http1_only(true).serve_connection(stream, service).await;
        });
    }
}
