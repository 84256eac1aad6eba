use super::throwaway::Authority;
use super::*;

use rustls::{ClientConnection, ServerConnection};

/// Runs a handshake in memory and says how each side ended.
fn handshake(
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    name: &str,
) -> Result<Option<rustls::HandshakeKind>, rustls::Error> {
    let mut client = ClientConnection::new(client, ServerName::try_from(name.to_owned()).unwrap())?;
    let mut server = ServerConnection::new(server)?;
    for _ in 0..10 {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok(client.handshake_kind())
}

#[test]
fn mutual_tls_connects_and_demands_the_client_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let files = Authority::new().unwrap().write(dir.path()).unwrap();
    let listening = server(&files.server).unwrap();
    handshake(client(&files.client).unwrap(), Arc::clone(&listening), "localhost").unwrap();
    handshake(client(&files.client).unwrap(), Arc::clone(&listening), "127.0.0.1").unwrap();

    let anonymous = ClientTls { cert: None, key: None, ..files.client };
    assert!(handshake(client(&anonymous).unwrap(), listening, "localhost").is_err());
}

#[test]
fn a_wrong_name_a_foreign_authority_and_an_expired_certificate_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new().unwrap();
    let files = authority.write(dir.path()).unwrap();
    let connecting = client(&files.client).unwrap();
    assert!(handshake(Arc::clone(&connecting), server(&files.server).unwrap(), "ehr.example").is_err());

    let foreign_dir = tempfile::tempdir().unwrap();
    let foreign = Authority::new().unwrap().write(foreign_dir.path()).unwrap();
    assert!(handshake(Arc::clone(&connecting), server(&foreign.server).unwrap(), "localhost").is_err());

    let (cert, key) = authority.expired_server(&["localhost"]).unwrap().write(dir.path(), "expired").unwrap();
    let expired = ServerTls { cert, key, client_ca: None };
    assert!(handshake(connecting, server(&expired).unwrap(), "localhost").is_err());
}

#[test]
fn errors_name_the_file_and_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let files = Authority::new().unwrap().write(dir.path()).unwrap();
    let other = tempfile::tempdir().unwrap();
    let stranger = Authority::new().unwrap().write(other.path()).unwrap();
    let text = |config: &ClientTls| client(config).unwrap_err().to_string();

    let missing = ClientTls { ca: Some(dir.path().join("absent.pem")), ..Default::default() };
    assert!(text(&missing).contains("absent.pem"), "{}", text(&missing));
    let empty = ClientTls { ca: Some(files.server.key.clone()), ..Default::default() };
    assert!(text(&empty).contains("holds no certificate"), "{}", text(&empty));
    let half = ClientTls { key: None, ..files.client.clone() };
    assert!(text(&half).contains("give both"), "{}", text(&half));
    let no_key = ClientTls { key: files.client.cert.clone(), ..files.client.clone() };
    assert!(text(&no_key).contains("openssl pkcs8"), "{}", text(&no_key));
    let mixed = ClientTls { key: stranger.client.key.clone(), ..files.client.clone() };
    assert!(text(&mixed).contains("cannot be used together"), "{}", text(&mixed));
    assert!(files.client.name_for("not a name").unwrap_err().to_string().contains("server_name"));
    assert!(files.client.name_for("[::1]").is_ok());
}

#[test]
fn nothing_is_resumed_in_either_direction() {
    use rustls::HandshakeKind::Full;
    let dir = tempfile::tempdir().unwrap();
    let files = Authority::new().unwrap().write(dir.path()).unwrap();
    let (connecting, listening) = (client(&files.client).unwrap(), server(&files.server).unwrap());
    // Each end with one that would resume.
    let mut eager_client = ClientConfig::clone(&connecting);
    eager_client.resumption = Resumption::in_memory_sessions(16);
    let mut eager_server = ServerConfig::clone(&listening);
    eager_server.session_storage = rustls::server::ServerSessionMemoryCache::new(16);
    eager_server.send_tls13_tickets = 2;
    let (eager_client, eager_server) = (Arc::new(eager_client), Arc::new(eager_server));
    for (client, server, is_ours) in [
        (connecting, Arc::clone(&eager_server), true),
        (Arc::clone(&eager_client), listening, true),
        (eager_client, eager_server, false),
    ] {
        handshake(Arc::clone(&client), Arc::clone(&server), "localhost").unwrap();
        let kind = handshake(client, server, "localhost").unwrap();
        assert_eq!(kind == Some(Full), is_ours, "{kind:?}");
    }
}

#[test]
fn a_renewed_certificate_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let files = Authority::new().unwrap().write(dir.path()).unwrap();
    let mut watched = files.server.files();
    assert!(!watched.changed());
    std::fs::write(&files.server.cert, "renewed").unwrap();
    assert!(watched.changed());
    assert!(!watched.changed());
    // Who names no authority trusts those of the operating system, and they are renewed as well.
    let system = ClientTls::default().files();
    assert!(SYSTEM_BUNDLES.iter().all(|bundle| system.0.iter().any(|(path, _)| path == Path::new(bundle))));
}
