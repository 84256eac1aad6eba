//! Reading from the same server, with the same log-in: what the EHR is asked for instead of told.

use super::{BodyFault, Fhir, failure};
use crate::delivery::Outcome;
use reqwest::{Method, StatusCode, Url};

/// Nothing was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// Why, for a log: made of codes and constants, never of the server's text (invariant I8).
    pub reason: String,
    /// True when it may be read later; false when the server will not give it, or the address is none of its own.
    pub may_pass: bool,
    /// True when it is there and larger than what is read.
    pub is_too_long: bool,
}

/// What is at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// This.
    There(Vec<u8>),
    /// It was there, and is not any more (410).
    Gone,
    /// Nothing is known there (404). It may be the wrong address, of a server that is being set up, or of none at all.
    Nowhere,
}

impl Fhir {
    /// What is at an address: one below the server's base, such as `Patient/7`, or a whole one. Of 8 MB at most.
    ///
    /// # Errors
    /// Why nothing is known.
    pub async fn read(&mut self, address: &str) -> Result<Found, Unread> {
        self.get(address, "handling=lenient").await
    }

    /// The same of a search, such as `ServiceRequest?status=active`, or its next page as a Bundle names it. `is_strict`
    /// asks the server to refuse what it would ignore otherwise (FHIR R4 3.1.1.3).
    ///
    /// # Errors
    /// As those of [`Fhir::read`].
    pub async fn search(&mut self, address: &str, is_strict: bool) -> Result<Found, Unread> {
        self.get(address, if is_strict { "handling=strict" } else { "handling=lenient" }).await
    }

    async fn get(&mut self, address: &str, prefer: &'static str) -> Result<Found, Unread> {
        let link = self.link().map_err(|reason| Unread { may_pass: true, ..Unread::of(reason) })?;
        let Some(url) = within(&link.base, address) else {
            return Err(Unread::of("the address leads to another server".to_owned()));
        };
        let answer = self.ask(&link, Method::GET, url, prefer, None, Vec::new()).await;
        let answer = match answer.map_err(|failed| unread(&failed))? {
            Ok(answer) => answer,
            Err(BodyFault::TooLong) => {
                return Err(Unread { is_too_long: true, ..Unread::of(BodyFault::TooLong.to_string()) });
            }
            Err(fault) => return Err(Unread { may_pass: true, ..Unread::of(fault.to_string()) }),
        };
        match answer.status {
            StatusCode::NOT_FOUND => Ok(Found::Nowhere),
            StatusCode::GONE => Ok(Found::Gone),
            status if status.is_success() => Ok(Found::There(answer.body)),
            // A chart that this log-in may not see.
            StatusCode::FORBIDDEN => Err(Unread { may_pass: false, ..unread(&failure(&answer)) }),
            _ => Err(unread(&failure(&answer))),
        }
    }
}

impl Found {
    /// What is there.
    pub fn there(self) -> Option<Vec<u8>> {
        match self {
            Found::There(bytes) => Some(bytes),
            Found::Gone | Found::Nowhere => None,
        }
    }
}

impl Unread {
    fn of(reason: String) -> Unread {
        Unread { reason, may_pass: false, is_too_long: false }
    }
}

/// The address, when it stays with the server: what it names is asked for with our log-in.
fn within(base: &Url, address: &str) -> Option<Url> {
    let is_whole = ["http://", "https://"].iter().any(|scheme| address.starts_with(scheme));
    let whole = match is_whole {
        true => Url::parse(address).ok()?,
        false => Url::parse(&format!("{}/{address}", base.as_str().trim_end_matches('/'))).ok()?,
    };
    let stays = whole.origin() == base.origin() && whole.username().is_empty() && whole.password().is_none();
    stays.then_some(whole)
}

fn unread(failed: &Outcome) -> Unread {
    match failed {
        Outcome::Retry { reason, .. } => Unread { may_pass: true, ..Unread::of(reason.clone()) },
        Outcome::Delivered { answer: reason } | Outcome::Doubted { reason } | Outcome::Refused { reason } => {
            Unread::of(reason.clone())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_in_is_shown_to_no_other_server() {
        let base = Url::parse("https://ehr.example/fhir").unwrap();
        let at = |address: &str| within(&base, address).map(|url| url.to_string());
        assert_eq!(at("Patient/7").as_deref(), Some("https://ehr.example/fhir/Patient/7"));
        let search = "ServiceRequest?category=http://snomed.info/sct|363679005";
        assert_eq!(at(search).unwrap(), format!("https://ehr.example/fhir/{search}"));
        // Some servers page outside their base.
        assert_eq!(at("https://ehr.example/page?id=2").as_deref(), Some("https://ehr.example/page?id=2"));
        for elsewhere in
            ["https://other.example/fhir?page=2", "http://ehr.example/fhir", "https://a:b@ehr.example/fhir"]
        {
            assert_eq!(at(elsewhere), None, "{elsewhere}");
        }
    }
}
