//! Log-in to FHIR servers: SMART Backend Services (`client_credentials` with `private_key_jwt`).
//!
//! HL7 SMART App Launch 2.2, "Backend Services" and "Client Authentication: Asymmetric": a signed assertion (ES384 or
//! RS384, RFC 7523) that lives at most five minutes is exchanged for an access token. There is no refresh token; a new
//! assertion is made shortly before the token ends. Keys, assertions and tokens are never logged and never part of an
//! error.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64_URL;
use reqwest::header::{ACCEPT, CONTENT_TYPE, DATE, HeaderValue};
use reqwest::{Client, Url};
use ring::rand::{SecureRandom, SystemRandom};
use ring::rsa::PublicKeyComponents;
use ring::signature::{self, EcdsaKeyPair, KeyPair as _, RsaKeyPair};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::json;

use super::config::{Algorithm, OAuth};
use super::fhir::body_within;
use crate::tls;

/// How long an assertion is good for. The standard's limit is five minutes; the rest is room for a slow clock.
const ASSERTION_LIFE: Duration = Duration::from_secs(240);
/// A token without `expires_in` is used this long (the standard recommends at most 300 s).
const TOKEN_LIFE_DEFAULT: Duration = Duration::from_secs(300);
/// A token is renewed this long before it ends, or after four fifths of its life when that is earlier.
const RENEW_BEFORE: Duration = Duration::from_secs(60);
/// Token answers and discovery documents are small.
const ANSWER_MAX_BYTES: usize = 256 * 1024;
/// A difference between our clock and the server's that is worth telling.
const SKEW_WORTH_TELLING_S: u64 = 60;
/// Random bits in an assertion's `jti`.
const JTI_BYTES: usize = 16;

/// Error codes of RFC 6749 5.2. Any other text of a server is not repeated.
const ERROR_CODES: [&str; 6] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
];

/// Why there is no token. Safe to log.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The key file cannot be read.
    #[error(transparent)]
    File(#[from] tls::TlsError),
    /// The key file does not hold a key of the configured kind.
    #[error("{file} does not hold a PKCS#8 key for {algorithm:?}; make one with `{remedy}`")]
    Key {
        /// The file.
        file: std::path::PathBuf,
        /// The configured algorithm.
        algorithm: Algorithm,
        /// A command that makes a fitting key.
        remedy: &'static str,
    },
    /// The system has no random numbers, or the key cannot sign.
    #[error("the assertion cannot be signed")]
    Sign,
    /// The token endpoint is not known.
    #[error("the server's smart-configuration names no token_endpoint: {0}")]
    Discovery(String),
    /// The token endpoint could not be reached.
    #[error("the token endpoint cannot be reached: {0}")]
    Unreachable(String),
    /// The authorization server gave no token.
    #[error("the token endpoint refused: {status}{code}{skew}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The OAuth error code, with a blank before it, or nothing.
        code: String,
        /// What is odd about the clocks, or nothing.
        skew: String,
    },
}

/// The tokens of one destination: at most one is being fetched at any time.
pub struct Tokens {
    config: OAuth,
    base: Url,
    current: tokio::sync::Mutex<Current>,
}

/// An access token. `Debug` does not show it.
#[derive(Clone)]
pub struct Bearer {
    header: HeaderValue,
    number: u64,
}

#[derive(Default)]
struct Current {
    token_url: Option<String>,
    token: Option<(Bearer, Instant)>,
    fetched: u64,
}

/// A private key that can sign assertions.
pub struct SigningKey {
    key: Key,
    kid: String,
}

enum Key {
    Ec(Box<EcdsaKeyPair>),
    Rsa(Box<RsaKeyPair>),
}

impl Tokens {
    /// Nothing is fetched yet. `base` is the FHIR server's base URL, for discovery.
    pub fn new(config: OAuth, base: Url) -> Self {
        let current = Current { token_url: config.token_url.clone(), ..Current::default() };
        Tokens { config, base, current: tokio::sync::Mutex::new(current) }
    }

    /// A token that is still good, fetched when there is none.
    ///
    /// # Errors
    /// [`TokenError`]. The next call tries again.
    pub async fn bearer(&self, client: &Client) -> Result<Bearer, TokenError> {
        let mut current = self.current.lock().await;
        if let Some((bearer, renew_at)) = &current.token
            && Instant::now() < *renew_at
        {
            return Ok(bearer.clone());
        }
        current.token = None;
        let token_url = match &current.token_url {
            Some(known) => known.clone(),
            None => current.token_url.insert(discover(client, &self.base).await?).clone(),
        };
        let asked = Instant::now();
        let (header, life) = self.fetch(client, &token_url).await?;
        current.fetched += 1;
        let bearer = Bearer { header, number: current.fetched };
        let renew_after = life.saturating_sub(RENEW_BEFORE).max(life / 5 * 4);
        current.token = Some((bearer.clone(), asked + renew_after));
        Ok(bearer)
    }

    /// The server did not take this token: the next [`Self::bearer`] fetches another, unless somebody already did.
    pub async fn refused(&self, bearer: &Bearer) {
        let mut current = self.current.lock().await;
        if current.token.as_ref().is_some_and(|(known, _)| known.number == bearer.number) {
            current.token = None;
        }
    }

    async fn fetch(&self, client: &Client, token_url: &str) -> Result<(HeaderValue, Duration), TokenError> {
        // The key is read each time, so that a rotated one is used without a restart.
        let key = SigningKey::load(&self.config)?;
        let assertion = key.assertion(&self.config.client_id, token_url, SystemTime::now())?;
        let form = form(&[
            ("grant_type", "client_credentials"),
            ("scope", &self.config.scope),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", &assertion),
        ])?;
        let unreachable = |e: reqwest::Error| TokenError::Unreachable(super::fhir::transport_reason(&e));
        let request = client.post(token_url).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let response = request.header(ACCEPT, "application/json").body(form).send().await.map_err(unreachable)?;
        let status = response.status();
        let date = response.headers().get(DATE).and_then(|d| d.to_str().ok()).map(str::to_owned);
        let body = body_within(response, ANSWER_MAX_BYTES).await.map_err(|e| TokenError::Unreachable(e.to_string()))?;
        let answer: TokenAnswer = serde_json::from_slice(&body).unwrap_or_default();
        let refused = || TokenError::Refused {
            status: status.as_u16(),
            code: answer.known_error().map(|c| format!(" {c}")).unwrap_or_default(),
            skew: date.as_deref().and_then(skew).unwrap_or_default(),
        };
        if !status.is_success() || !answer.token_type.eq_ignore_ascii_case("bearer") || answer.access_token.is_empty() {
            return Err(refused());
        }
        let mut header = HeaderValue::try_from(format!("Bearer {}", answer.access_token)).map_err(|_| refused())?;
        header.set_sensitive(true);
        Ok((header, answer.expires_in.map_or(TOKEN_LIFE_DEFAULT, Duration::from_secs)))
    }
}

impl Bearer {
    /// The `Authorization` header, marked as sensitive.
    pub fn header(&self) -> HeaderValue {
        self.header.clone()
    }
}

impl std::fmt::Debug for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bearer #{}", self.number)
    }
}

impl SigningKey {
    /// Reads the key file of `config`.
    ///
    /// # Errors
    /// [`TokenError::File`] or [`TokenError::Key`].
    pub fn load(config: &OAuth) -> Result<Self, TokenError> {
        let pem = zeroize::Zeroizing::new(tls::read_pem(&config.key_file)?);
        let key = read_key(&pem, config.algorithm).ok_or_else(|| wrong_key(&config.key_file, config.algorithm))?;
        Ok(SigningKey { key, kid: config.kid.clone() })
    }

    /// A signed assertion for `audience`, the token endpoint.
    ///
    /// # Errors
    /// [`TokenError::Sign`].
    pub fn assertion(&self, client_id: &str, audience: &str, now: SystemTime) -> Result<String, TokenError> {
        let random = SystemRandom::new();
        let mut jti = [0_u8; JTI_BYTES];
        random.fill(&mut jti).map_err(|_| TokenError::Sign)?;
        let expires = now.duration_since(UNIX_EPOCH).map_err(|_| TokenError::Sign)? + ASSERTION_LIFE;
        let header = json!({ "alg": self.algorithm(), "typ": "JWT", "kid": self.kid });
        // No `iat` or `nbf`: on a box whose clock runs ahead they would only be a reason to refuse.
        let claims = json!({
            "iss": client_id,
            "sub": client_id,
            "aud": audience,
            "exp": expires.as_secs(),
            "jti": BASE64_URL.encode(jti),
        });
        let signed = format!("{}.{}", BASE64_URL.encode(header.to_string()), BASE64_URL.encode(claims.to_string()));
        let signature = match &self.key {
            Key::Ec(key) => key.sign(&random, signed.as_bytes()).map_err(|_| TokenError::Sign)?.as_ref().to_vec(),
            Key::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&signature::RSA_PKCS1_SHA384, &random, signed.as_bytes(), &mut signature)
                    .map_err(|_| TokenError::Sign)?;
                signature
            }
        };
        Ok(format!("{signed}.{}", BASE64_URL.encode(signature)))
    }

    /// The public half as a JSON Web Key set, to be registered at the authorization server.
    pub fn key_set(&self) -> serde_json::Value {
        let mut jwk = match &self.key {
            Key::Ec(key) => {
                // SEC 1 uncompressed point: 04, x, y.
                let point = key.public_key().as_ref().get(1..).unwrap_or_default();
                let (x, y) = point.split_at(point.len() / 2);
                json!({ "kty": "EC", "crv": "P-384", "x": BASE64_URL.encode(x), "y": BASE64_URL.encode(y) })
            }
            Key::Rsa(key) => {
                let public = PublicKeyComponents::<Vec<u8>>::from(key.public());
                json!({ "kty": "RSA", "n": BASE64_URL.encode(public.n), "e": BASE64_URL.encode(public.e) })
            }
        };
        if let Some(members) = jwk.as_object_mut() {
            members.insert("kid".to_owned(), json!(self.kid));
            members.insert("alg".to_owned(), json!(self.algorithm()));
            members.insert("use".to_owned(), json!("sig"));
            members.insert("key_ops".to_owned(), json!(["verify"]));
        }
        json!({ "keys": [jwk] })
    }

    fn algorithm(&self) -> &'static str {
        match self.key {
            Key::Ec(_) => "ES384",
            Key::Rsa(_) => "RS384",
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenAnswer {
    access_token: String,
    token_type: String,
    expires_in: Option<u64>,
    error: String,
}

impl TokenAnswer {
    fn known_error(&self) -> Option<&'static str> {
        ERROR_CODES.into_iter().find(|c| *c == self.error)
    }
}

#[derive(Deserialize)]
struct SmartConfiguration {
    token_endpoint: String,
}

async fn discover(client: &Client, base: &Url) -> Result<String, TokenError> {
    let url = format!("{}/.well-known/smart-configuration", base.as_str().trim_end_matches('/'));
    let unreachable = |e: reqwest::Error| TokenError::Discovery(super::fhir::transport_reason(&e));
    let response = client.get(url).header(ACCEPT, "application/json").send().await.map_err(unreachable)?;
    if !response.status().is_success() {
        return Err(TokenError::Discovery(response.status().as_u16().to_string()));
    }
    let body = body_within(response, ANSWER_MAX_BYTES).await.map_err(|e| TokenError::Discovery(e.to_string()))?;
    let not_json = |_| TokenError::Discovery("the answer is not JSON with a token_endpoint".to_owned());
    let found: SmartConfiguration = serde_json::from_slice(&body).map_err(not_json)?;
    // A signed assertion is a log-in: it goes to where the connection is checked, or not at all.
    let endpoint =
        Url::parse(&found.token_endpoint).ok().filter(|u| u.scheme() == "https" || u.scheme() == base.scheme());
    endpoint.map(String::from).ok_or_else(|| TokenError::Discovery("the token_endpoint is not an https URL".to_owned()))
}

fn read_key(pem: &[u8], algorithm: Algorithm) -> Option<Key> {
    let der = PrivatePkcs8KeyDer::from_pem_slice(pem).ok()?;
    let der = der.secret_pkcs8_der();
    match algorithm {
        Algorithm::ES384 => {
            let curve = &signature::ECDSA_P384_SHA384_FIXED_SIGNING;
            EcdsaKeyPair::from_pkcs8(curve, der, &SystemRandom::new()).ok().map(|key| Key::Ec(Box::new(key)))
        }
        Algorithm::RS384 => RsaKeyPair::from_pkcs8(der).ok().map(|key| Key::Rsa(Box::new(key))),
    }
}

fn wrong_key(file: &Path, algorithm: Algorithm) -> TokenError {
    let remedy = match algorithm {
        Algorithm::ES384 => "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384",
        Algorithm::RS384 => "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072",
    };
    TokenError::Key { file: file.to_owned(), algorithm, remedy }
}

/// `application/x-www-form-urlencoded`, by the URL library's own rules.
fn form(pairs: &[(&str, &str)]) -> Result<String, TokenError> {
    let mut url = Url::parse("form:/").map_err(|_| TokenError::Sign)?;
    url.query_pairs_mut().extend_pairs(pairs);
    Ok(url.query().unwrap_or_default().to_owned())
}

/// What is odd about our clock, judged by the server's `Date`: on a box without a battery the usual cause of a refusal.
fn skew(date: &str) -> Option<String> {
    let theirs = super::fhir::http_date(date)?.as_second();
    let ours = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()?;
    let apart = theirs.abs_diff(ours);
    (apart > SKEW_WORTH_TELLING_S).then(|| format!("; our clock is {apart} s apart from the server's"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{KeyPair, PKCS_ECDSA_P384_SHA384};

    fn oauth(dir: &Path) -> OAuth {
        let key_file = dir.join("oauth.key");
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        OAuth { client_id: "bench-1".into(), kid: "2026".into(), key_file, ..OAuth::default() }
    }

    #[test]
    fn an_assertion_is_short_lived_unique_and_for_one_audience() {
        let dir = tempfile::tempdir().unwrap();
        let key = SigningKey::load(&oauth(dir.path())).unwrap();
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let claims = |jwt: &str| -> serde_json::Value {
            let part = jwt.split('.').nth(1).unwrap();
            serde_json::from_slice(&BASE64_URL.decode(part).unwrap()).unwrap()
        };
        let first = claims(&key.assertion("bench-1", "https://ehr.example/token", now).unwrap());
        let second = claims(&key.assertion("bench-1", "https://ehr.example/token", now).unwrap());
        assert_eq!(first["iss"], "bench-1");
        assert_eq!(first["sub"], first["iss"]);
        assert_eq!(first["aud"], "https://ehr.example/token");
        assert_eq!(first["exp"], 1_800_000_240_u64);
        assert_ne!(first["jti"], second["jti"]);
    }

    /// Runs openssl; `None` when it is not installed.
    fn openssl(arguments: &[&std::ffi::OsStr]) -> Option<std::process::Output> {
        std::process::Command::new("openssl").args(arguments).output().ok()
    }

    /// The ASN.1 form of an ECDSA signature, which is what openssl reads (JWS has r and s side by side).
    fn der(signature: &[u8]) -> Vec<u8> {
        let integer = |bytes: &[u8]| {
            let from = bytes.iter().position(|b| *b != 0).unwrap();
            let pad: &[u8] = if bytes[from] & 0x80 != 0 { &[0] } else { &[] };
            let value = [pad, &bytes[from..]].concat();
            [&[2, value.len() as u8], &value[..]].concat()
        };
        let (r, s) = signature.split_at(signature.len() / 2);
        let both = [integer(r), integer(s)].concat();
        [&[0x30, both.len() as u8], &both[..]].concat()
    }

    #[test]
    fn openssl_verifies_our_assertions() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let kinds =
            [(Algorithm::ES384, "EC", "ec_paramgen_curve:P-384"), (Algorithm::RS384, "RSA", "rsa_keygen_bits:2048")];
        for (algorithm, kind, option) in kinds {
            let key_file = path("key.pem");
            let make = ["genpkey", "-quiet", "-algorithm", kind, "-pkeyopt", option, "-out"];
            let mut make: Vec<&std::ffi::OsStr> = make.iter().map(std::ffi::OsStr::new).collect();
            make.push(key_file.as_os_str());
            let Some(made) = openssl(&make) else {
                return println!("left out: assertions against openssl (none here)");
            };
            assert!(made.status.success(), "{made:?}");
            let config =
                OAuth { client_id: "bench-1".into(), kid: "k".into(), key_file, algorithm, ..OAuth::default() };
            let key = SigningKey::load(&config).unwrap();
            let jwt = key.assertion("bench-1", "https://ehr.example/token", SystemTime::now()).unwrap();
            let (signed, signature) = jwt.rsplit_once('.').unwrap();
            let signature = BASE64_URL.decode(signature).unwrap();
            let signature = if algorithm == Algorithm::ES384 { der(&signature) } else { signature };
            std::fs::write(path("signed"), signed).unwrap();
            std::fs::write(path("signature"), signature).unwrap();
            let [key_file, signed, signature] = [config.key_file.clone(), path("signed"), path("signature")];
            let verify = ["dgst".as_ref(), "-sha384".as_ref(), "-prverify".as_ref(), key_file.as_os_str()];
            let verify = [&verify[..], &["-signature".as_ref(), signature.as_os_str(), signed.as_os_str()]].concat();
            let verified = openssl(&verify).unwrap();
            assert!(verified.status.success(), "{algorithm:?}: {verified:?}");
        }
    }

    #[test]
    fn a_key_of_the_wrong_kind_is_named_with_its_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let right = oauth(dir.path());
        let wrong = SigningKey::load(&OAuth { algorithm: Algorithm::RS384, ..right.clone() });
        let text = wrong.err().unwrap().to_string();
        assert!(text.contains("oauth.key") && text.contains("openssl genpkey -algorithm RSA"), "{text}");
        std::fs::write(&right.key_file, "not a key").unwrap();
        assert!(SigningKey::load(&right).is_err());
    }

    #[test]
    fn i8_tokens_are_never_printed() {
        let bearer = Bearer { header: HeaderValue::from_static("Bearer secret"), number: 3 };
        assert_eq!(format!("{bearer:?}"), "Bearer #3");
    }
}
