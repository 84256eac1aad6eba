//! What is long and told at once: the configuration of a box, without what would let somebody in, and lines of its log.

use super::{LogFacts, Text};
use crate::config::Config;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use serde_json::Value;

/// Longest text, in bytes, of what is told compressed: with what stands around it a line of the desk's records.
const PACKED_MAX: usize = 32 * 1024;
/// Longest JSON that is taken out of it.
const UNPACKED_MAX: usize = 4 << 20;
/// How hard it is compressed, of 10.
const LEVEL: u8 = 9;
/// In place of a value that is not told.
const WITHHELD: &str = "(withheld)";
/// What names of settings with secrets end in. There are none: secrets lie in files, which settings name.
const SECRETS: [&str; 4] = ["password", "passphrase", "secret", "token"];

/// JSON, compressed (zlib, RFC 1950), in base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Packed(Text);

impl Packed {
    /// None when it is too long.
    fn of(told: &impl Serialize) -> Option<Packed> {
        let json = serde_json::to_vec(told).ok()?;
        let text = BASE64_STANDARD.encode(miniz_oxide::deflate::compress_to_vec_zlib(&json, LEVEL));
        (text.len() <= PACKED_MAX).then(|| Packed(Text(text.into())))
    }

    /// What a box packed; `None` for what no box packs.
    pub fn unpack(text: &str) -> Option<Value> {
        let bytes = BASE64_STANDARD.decode(text).ok()?;
        let json = miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(&bytes, UNPACKED_MAX).ok()?;
        serde_json::from_slice(&json).ok()
    }

    /// The last lines of the log, the newest last: as many of the newest as there is room for.
    pub fn lines(all: &[LogFacts]) -> Option<Packed> {
        let halves = std::iter::successors(Some(all), |lines| {
            let half = lines.len() / 2;
            (half > 0).then(|| &lines[lines.len() - half..])
        });
        halves.map(|lines| Packed::of(&lines)).find_map(|packed| packed)
    }

    /// The configuration that runs: every setting, as it is understood. None when it is too long.
    pub fn settings(config: &Config) -> Option<Packed> {
        Packed::of(&Settings::of(config)?)
    }
}

/// A configuration without what would let somebody in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Settings(Value);

impl Settings {
    /// Every setting, as it is understood.
    pub fn of(config: &Config) -> Option<Settings> {
        let mut json = serde_json::to_value(config).ok()?;
        withhold(&mut json);
        Some(Settings(json))
    }
}

fn withhold(value: &mut Value) {
    match value {
        Value::Object(settings) => {
            for (name, value) in settings {
                match value {
                    Value::String(text) if SECRETS.iter().any(|end| name.ends_with(end)) => *text = WITHHELD.into(),
                    value => withhold(value),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(withhold),
        Value::String(text) => {
            // A name and a password may stand in an address (RFC 3986, 3.2.1).
            if let Some((scheme, rest)) = text.split_once("://")
                && let Some((login, _)) = rest.split(['/', '?', '#']).next().and_then(|host| host.rsplit_once('@'))
            {
                *text = format!("{scheme}://{WITHHELD}{}", &rest[login.len()..]);
            }
            // And a token in its query (RFC 6750, 2.3).
            if text.contains("://")
                && let Some(query) = text.find('?')
            {
                text.replace_range(query + 1.., WITHHELD);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn all_settings_are_told_but_what_would_let_somebody_in() {
        let text = "[[link]]\nname = \"chemistry\"\nprotocol = \"astm\"\nlisten = \"127.0.0.1:4001\"\n\
                    [[destination]]\nname = \"ehr\"\naddress = \"127.0.0.1:9\"\n";
        let config = config::parse("box.toml", text).unwrap_or_else(|faults| panic!("{faults}")).config;
        let packed = Packed::settings(&config).unwrap();
        let told = Packed::unpack(&packed.0.0).unwrap();
        assert_eq!((&told["link"][0]["name"], &told["destination"][0]["name"]), (&"chemistry".into(), &"ehr".into()));
        let mut json = serde_json::json!({
            "url": "https://ann:geheim@ehr.example/fhir?api-key=geheim@c", "password": "geheim", "key_file": "/etc/key",
            "token_url": "https://ehr.example/token", "nested": [{ "api_token": "geheim" }], "address": "a@b:1",
        });
        withhold(&mut json);
        assert!(!json.to_string().contains("geheim"), "{json}");
        assert_eq!(json["url"], "https://(withheld)@ehr.example/fhir?(withheld)");
        assert_eq!((&json["token_url"], &json["key_file"]), (&"https://ehr.example/token".into(), &"/etc/key".into()));
    }

    #[test]
    fn what_is_too_long_is_not_told_and_what_no_box_packs_is_not_read() {
        let random: Vec<u64> =
            (0..20_000u64).map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(n as u32 % 64)).collect();
        assert_eq!(Packed::of(&random), None);
        let bomb = miniz_oxide::deflate::compress_to_vec_zlib(&vec![b' '; UNPACKED_MAX + 1], 1);
        for text in ["", "%", "AAAA", &BASE64_STANDARD.encode(bomb)] {
            assert_eq!(Packed::unpack(text), None);
        }
    }
}
