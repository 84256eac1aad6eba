//! The simulated EHR's token endpoint: it checks a client assertion the way an authorization server must.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64_URL;
use hyper::header::HeaderMap;
use reqwest::Url;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA384, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::{Value, json};

/// No assertion may live longer (SMART App Launch 2.2).
const ASSERTION_LIFE_MAX_S: u64 = 300;
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The log-in a FHIR server demands.
#[derive(Debug, Clone)]
pub struct LogIn {
    /// The one client that is known.
    pub client_id: String,
    /// Its public keys, as a JSON Web Key set.
    pub key_set: String,
    /// The audience an assertion must name. `None` takes any: the port is known only after the start.
    pub audience: Option<String>,
    /// How long a token is good for.
    pub token_life: Duration,
}

/// Issues tokens and remembers them.
pub(super) struct Issuer {
    log_in: LogIn,
    keys: Vec<Key>,
    issued: Mutex<Issued>,
}

#[derive(Default)]
struct Issued {
    tokens: HashMap<String, Instant>,
    used: HashMap<String, Instant>,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Key>,
}

#[derive(Deserialize)]
struct Key {
    kid: String,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: String,
    exp: u64,
    jti: String,
}

impl Issuer {
    /// `None` when the key set holds no usable key.
    pub(super) fn new(log_in: LogIn) -> Option<Self> {
        let set: KeySet = serde_json::from_str(&log_in.key_set).ok()?;
        (!set.keys.is_empty()).then(|| Issuer { log_in, keys: set.keys, issued: Mutex::default() })
    }

    /// Answers a token request: HTTP status and body.
    pub(super) fn issue(&self, form: &[u8]) -> (u16, Value) {
        match self.check(form) {
            Ok(()) => {
                let mut random = [0_u8; 16];
                if SystemRandom::new().fill(&mut random).is_err() {
                    return (503, json!({ "error": "server_error" }));
                }
                let token = BASE64_URL.encode(random);
                let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
                issued.tokens.insert(format!("Bearer {token}"), Instant::now() + self.log_in.token_life);
                let life = self.log_in.token_life.as_secs();
                (
                    200,
                    json!({ "access_token": token, "token_type": "bearer", "expires_in": life, "scope": "system/*.cud" }),
                )
            }
            Err(error) => (if error == "invalid_client" { 401 } else { 400 }, json!({ "error": error })),
        }
    }

    /// True when this `Authorization` header holds a token that is still good.
    pub(super) fn knows(&self, authorization: &str) -> bool {
        let issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        issued.tokens.get(authorization).is_some_and(|until| Instant::now() < *until)
    }

    /// Takes every token back.
    pub(super) fn forget(&self) {
        self.issued.lock().unwrap_or_else(PoisonError::into_inner).tokens.clear();
    }

    /// The discovery document.
    pub(super) fn configuration(&self, tls: bool, headers: &HeaderMap) -> Value {
        let scheme = if tls { "https" } else { "http" };
        json!({
            "token_endpoint": format!("{scheme}://{}/token", super::fhir::host(headers)),
            "grant_types_supported": ["client_credentials"],
            "token_endpoint_auth_methods_supported": ["private_key_jwt"],
            "token_endpoint_auth_signing_alg_values_supported": ["RS384", "ES384"],
            "capabilities": ["client-confidential-asymmetric"],
        })
    }

    fn check(&self, form: &[u8]) -> Result<(), &'static str> {
        let form = std::str::from_utf8(form).map_err(|_| "invalid_request")?;
        let url = Url::parse(&format!("form:/?{form}")).map_err(|_| "invalid_request")?;
        let fields: HashMap<_, _> = url.query_pairs().collect();
        let field = |name: &str| fields.get(name).map(|v| v.as_ref()).unwrap_or_default();
        if field("grant_type") != "client_credentials" {
            return Err("unsupported_grant_type");
        }
        if field("client_assertion_type") != ASSERTION_TYPE {
            return Err("invalid_request");
        }
        if field("scope").is_empty() {
            return Err("invalid_scope");
        }
        self.check_assertion(field("client_assertion")).ok_or("invalid_client")
    }

    fn check_assertion(&self, assertion: &str) -> Option<()> {
        let (signed, signature) = assertion.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: Header = serde_json::from_slice(&BASE64_URL.decode(header).ok()?).ok()?;
        let key = self.keys.iter().find(|k| k.kid == header.kid)?;
        key.verify(&header.alg, signed.as_bytes(), &BASE64_URL.decode(signature).ok()?)?;
        let claims: Claims = serde_json::from_slice(&BASE64_URL.decode(claims).ok()?).ok()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        let timely = claims.exp > now && claims.exp <= now + ASSERTION_LIFE_MAX_S;
        let ours = claims.iss == self.log_in.client_id && claims.sub == claims.iss;
        let here = self.log_in.audience.as_ref().is_none_or(|a| *a == claims.aud);
        // Each assertion is good for one use.
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = issued.used.insert(claims.jti, Instant::now()).is_none();
        (timely && ours && here && fresh).then_some(())
    }
}

impl Key {
    fn verify(&self, algorithm: &str, signed: &[u8], signature: &[u8]) -> Option<()> {
        let part = |text: &str| BASE64_URL.decode(text).ok();
        match algorithm {
            "ES384" => {
                let point = [&[4][..], &part(&self.x)?, &part(&self.y)?].concat();
                UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).verify(signed, signature).ok()
            }
            "RS384" => {
                let key = RsaPublicKeyComponents { n: part(&self.n)?, e: part(&self.e)? };
                key.verify(&RSA_PKCS1_2048_8192_SHA384, signed, signature).ok()
            }
            _ => None,
        }
    }
}
