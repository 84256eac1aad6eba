//! `afferent config jwks`: what is registered with an authorization server is what the gateway signs with.

use afferent::delivery::config::{Algorithm, OAuth};
use afferent::delivery::oauth::SigningKey;
use afferent::sim::ehr::{Ehr, EhrOptions, LogIn};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA384, RsaPublicKeyComponents, UnparsedPublicKey};
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::site::{Running, TIME_SCALE, free_port, until, until_served};
use crate::{afferent, err, out};

/// A FHIR destination that logs in.
fn destination(name: &str, url: &str, oauth: &OAuth) -> String {
    format!(
        "[[destination]]\nname = \"{name}\"\nprotocol = \"fhir\"\nurl = \"{url}\"\nretry_min_ms = 20\n\
         retry_max_ms = 200\n[destination.oauth]\n{}",
        toml::to_string(oauth).unwrap()
    )
}

fn configuration(dir: &Path, port: u16, destinations: &str) -> String {
    let text = format!(
        "[gateway]\ndata = {:?}\n[journal]\nfree_min_mb = 0\n[[link]]\nname = \"ward\"\nprotocol = \"hl7\"\n\
         listen = \"127.0.0.1:{port}\"\nclock_limit_s = 0\n{destinations}",
        dir.join("data")
    );
    let file = dir.join("afferent.toml");
    std::fs::write(&file, text).unwrap();
    file.display().to_string()
}

/// A key of this kind with its settings. An RSA key can only be made with openssl; `None` where that is missing.
fn log_in(dir: &Path, algorithm: Algorithm) -> Option<OAuth> {
    let key_file = dir.join(format!("{algorithm:?}.key"));
    match algorithm {
        Algorithm::ES384 => {
            let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
            std::fs::write(&key_file, key.serialize_pem()).unwrap();
        }
        Algorithm::RS384 => {
            let mut make = Command::new("openssl");
            make.args(["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out"]);
            let made = make.arg(&key_file).output().ok()?;
            assert!(made.status.success(), "{made:?}");
        }
    }
    let kid = format!("2026-{algorithm:?}");
    Some(OAuth {
        client_id: "bench-1".into(),
        kid,
        key_file,
        algorithm,
        scope: "system/*.cud".into(),
        ..OAuth::default()
    })
}

/// Whether this JSON Web Key verifies the assertion.
fn verifies(key: &Value, assertion: &str) -> bool {
    let part = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
    let member = |name: &str| part(key[name].as_str().unwrap());
    let (signed, signature) = assertion.rsplit_once('.').unwrap();
    match key["kty"].as_str().unwrap() {
        "EC" => {
            let point = [&[4][..], &member("x"), &member("y")].concat();
            let public = UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point);
            public.verify(signed.as_bytes(), &part(signature)).is_ok()
        }
        _ => {
            let public = RsaPublicKeyComponents { n: member("n"), e: member("e") };
            public.verify(&RSA_PKCS1_2048_8192_SHA384, signed.as_bytes(), &part(signature)).is_ok()
        }
    }
}

#[test]
fn the_printed_key_set_verifies_what_the_gateway_signs_and_tells_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    for algorithm in [Algorithm::ES384, Algorithm::RS384] {
        let Some(oauth) = log_in(dir.path(), algorithm) else {
            println!("left out: a key set for {algorithm:?} (no openssl)");
            continue;
        };
        let config = configuration(dir.path(), 4001, &destination("ehr", "https://ehr.example/fhir", &oauth));
        let printed = afferent(&["config", "jwks", "--config", &config]);
        assert_eq!(printed.status.code(), Some(0), "{}", err(&printed));
        let set: Value = serde_json::from_slice(&printed.stdout).unwrap();
        let key = &set["keys"][0];
        assert_eq!((set.as_object().unwrap().len(), set["keys"].as_array().unwrap().len()), (1, 1));

        let assertion = SigningKey::load(&oauth).unwrap();
        let assertion = assertion.assertion("bench-1", "https://ehr.example/token", SystemTime::now()).unwrap();
        let header = URL_SAFE_NO_PAD.decode(assertion.split('.').next().unwrap()).unwrap();
        let header: Value = serde_json::from_slice(&header).unwrap();
        assert_eq!((&key["kid"], &key["alg"]), (&header["kid"], &header["alg"]), "as the client sends them");
        assert!(verifies(key, &assertion), "{algorithm:?}");
        let altered = assertion.replacen('.', "x.", 1);
        assert!(!verifies(key, &altered), "{algorithm:?}: a key that verifies everything verifies nothing");

        // RFC 7518 6.2.1, 6.3.1: the public members, and none of `d`, `p`, `q`, `dp`, `dq`, `qi`, `oth`, `k`.
        let mut members: Vec<&str> = key.as_object().unwrap().keys().map(String::as_str).collect();
        members.sort_unstable();
        let public: &[&str] = match algorithm {
            Algorithm::ES384 => &["alg", "crv", "key_ops", "kid", "kty", "use", "x", "y"],
            Algorithm::RS384 => &["alg", "e", "key_ops", "kid", "kty", "n", "use"],
        };
        assert_eq!(members, public);
        assert_eq!((&key["use"], &key["key_ops"]), (&"sig".into(), &serde_json::json!(["verify"])));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_given_the_key_set_lets_the_gateway_in() {
    for algorithm in [Algorithm::ES384, Algorithm::RS384] {
        let dir = tempfile::tempdir().unwrap();
        let Some(oauth) = log_in(dir.path(), algorithm) else {
            println!("left out: a log-in with {algorithm:?} (no openssl)");
            continue;
        };
        let (ward, fhir) = (free_port(), free_port());
        let url = format!("http://127.0.0.1:{fhir}/fhir");
        let config = configuration(dir.path(), ward, &destination("ehr", &url, &oauth));
        let printed = afferent(&["config", "jwks", "--config", &config]);
        let log_in = LogIn {
            client_id: "bench-1".into(),
            key_set: out(&printed),
            audience: Some(format!("http://127.0.0.1:{fhir}/token")),
            token_life: Duration::from_secs(300),
        };
        let options =
            EhrOptions { fhir: Some(format!("127.0.0.1:{fhir}")), log_in: Some(log_in), ..EhrOptions::default() };
        let ehr = Ehr::start(options).await.unwrap();
        tokio::task::spawn_blocking(move || {
            let log = dir.path().join("gateway.log");
            let _gateway = Running::start(&["run", "--config", &config], Some(&log));
            until_served(&dir.path().join("data"), &log);
            let address = format!("127.0.0.1:{ward}");
            let sim = ["sim", "instrument", "--protocol", "hl7", "--time-scale", TIME_SCALE, "-n", "1"];
            let sent = afferent(&[&sim[..], &["--corrections", "0", "--connect", &address]].concat());
            assert_eq!(sent.status.code(), Some(0), "{}", err(&sent));
            until("the results are in the chart", || ehr.account().results == 4);
        })
        .await
        .unwrap();
    }
}

#[test]
fn the_destination_that_is_meant_must_be_clear() {
    let dir = tempfile::tempdir().unwrap();
    let first = log_in(dir.path(), Algorithm::ES384).unwrap();
    let second = OAuth { kid: "other".into(), ..first.clone() };
    let plain = "[[destination]]\nname = \"archive\"\naddress = \"127.0.0.1:2575\"\n";
    let two = [
        destination("ehr", "https://ehr.example/fhir", &first),
        destination("repository", "https://b.example", &second),
    ];
    let config = configuration(dir.path(), 4001, &(two.concat() + plain));
    let jwks = |options: &[&str]| afferent(&[&["config", "jwks", "--config", &config], options].concat());
    for (options, told) in [
        (&[][..], "name one with --destination: ehr, repository"),
        (&["--destination", "archive"], "no destination `archive` logs in; those that do: ehr, repository"),
    ] {
        let refused = jwks(options);
        assert_eq!((refused.status.code(), out(&refused).as_str()), (Some(2), ""));
        assert!(err(&refused).contains(told), "{}", err(&refused));
    }
    let chosen: Value = serde_json::from_slice(&jwks(&["--destination", "repository"]).stdout).unwrap();
    assert_eq!(chosen["keys"][0]["kid"], "other");

    configuration(dir.path(), 4001, plain);
    let none = jwks(&[]);
    assert_eq!(none.status.code(), Some(2));
    assert!(err(&none).contains("has a [destination.oauth]"), "{}", err(&none));
}

#[test]
fn a_key_that_cannot_sign_is_told_with_its_remedy_by_jwks_and_by_check() {
    let dir = tempfile::tempdir().unwrap();
    let oauth = OAuth { algorithm: Algorithm::RS384, ..log_in(dir.path(), Algorithm::ES384).unwrap() };
    let config = configuration(dir.path(), 4001, &destination("ehr", "https://ehr.example/fhir", &oauth));
    let refused = afferent(&["config", "jwks", "--config", &config]);
    assert_eq!((refused.status.code(), out(&refused).as_str()), (Some(1), ""));
    assert!(err(&refused).contains("openssl genpkey -algorithm RSA"), "{}", err(&refused));
    let checked = afferent(&["check", &config]);
    assert_eq!(checked.status.code(), Some(2));
    let told = err(&checked);
    for part in ["error: ", "does not hold a PKCS#8 key for RS384", "key_file = ", "openssl genpkey -algorithm RSA"] {
        assert!(told.contains(part), "{part} is not in\n{told}");
    }
    std::fs::remove_file(&oauth.key_file).unwrap();
    let refused = afferent(&["config", "jwks", "--config", &config]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(err(&refused).contains("cannot read") && err(&refused).contains("ES384.key"), "{}", err(&refused));
    assert_eq!(afferent(&["check", &config]).status.code(), Some(0), "a missing one is a warning");
}
