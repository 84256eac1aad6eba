//! Reading from the same server, with the same log-in: what the EHR is asked for instead of told.

use super::{Answer, BodyFault, Fhir, Link, failure, transport_reason};
use crate::delivery::Outcome;
use reqwest::{Method, StatusCode, Url};
use std::time::Duration;

/// No answer that is read piece by piece may take longer.
const LISTING_MAX: Duration = Duration::from_secs(600);

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
        self.get(address, prefer(false)).await
    }

    /// The same of a search, such as `ServiceRequest?status=active`, or its next page as a Bundle names it. `is_strict`
    /// asks the server to refuse what it would ignore otherwise (FHIR R4 3.1.1.3).
    ///
    /// # Errors
    /// As those of [`Fhir::read`].
    pub async fn search(&mut self, address: &str, is_strict: bool) -> Result<Found, Unread> {
        self.get(address, prefer(is_strict)).await
    }

    /// The same of a search whose answer may have any length: `each` gets it piece by piece, and [`Found::There`] is empty.
    /// It may take ten minutes.
    ///
    /// # Errors
    /// As those of [`Fhir::read`]. What came before is in `each` then.
    pub async fn list(
        &mut self,
        address: &str,
        is_strict: bool,
        each: &mut (impl FnMut(&[u8]) + Send),
    ) -> Result<Found, Unread> {
        let (client, base) = super::client(&self.config, None).map_err(passing)?;
        let url = within(&base, address).ok_or_else(elsewhere)?;
        let link = Link { client, base };
        let listed = async {
            let answer = self.respond(&link, Method::GET, url, prefer(is_strict), None, Vec::new()).await;
            let mut answer = answer.map_err(|failed| unread(&failed))?;
            if !answer.status().is_success() {
                let answer = Answer::read(answer).await.map_err(fault)?;
                return found(answer);
            }
            while let Some(piece) = answer.chunk().await.map_err(|error| passing(transport_reason(&error)))? {
                each(&piece);
            }
            Ok(Found::There(Vec::new()))
        };
        let in_time = tokio::time::timeout(LISTING_MAX, listed).await;
        in_time.unwrap_or_else(|_| Err(passing("the answer takes more than ten minutes".to_owned())))
    }

    async fn get(&mut self, address: &str, prefer: &'static str) -> Result<Found, Unread> {
        let link = self.link().map_err(passing)?;
        let url = within(&link.base, address).ok_or_else(elsewhere)?;
        let answer = self.ask(&link, Method::GET, url, prefer, None, Vec::new()).await;
        found(answer.map_err(|failed| unread(&failed))?.map_err(fault)?)
    }
}

fn found(answer: Answer) -> Result<Found, Unread> {
    match answer.status {
        StatusCode::NOT_FOUND => Ok(Found::Nowhere),
        StatusCode::GONE => Ok(Found::Gone),
        status if status.is_success() => Ok(Found::There(answer.body)),
        // A chart that this log-in may not see.
        StatusCode::FORBIDDEN => Err(Unread { may_pass: false, ..unread(&failure(&answer)) }),
        _ => Err(unread(&failure(&answer))),
    }
}

fn prefer(is_strict: bool) -> &'static str {
    if is_strict { "handling=strict" } else { "handling=lenient" }
}

fn fault(fault: BodyFault) -> Unread {
    match fault {
        BodyFault::TooLong => Unread { is_too_long: true, ..Unread::odd(fault.to_string()) },
        BodyFault::Broken(_) => passing(fault.to_string()),
    }
}

fn passing(reason: String) -> Unread {
    Unread { may_pass: true, ..Unread::odd(reason) }
}

fn elsewhere() -> Unread {
    Unread::odd("the address leads to another server".to_owned())
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
    /// What was read is not what was asked for.
    pub fn odd(reason: impl Into<String>) -> Unread {
        Unread { reason: reason.into(), may_pass: false, is_too_long: false }
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
        Outcome::Retry { reason, .. } => passing(reason.clone()),
        Outcome::Delivered { answer: reason } | Outcome::Doubted { reason } | Outcome::Refused { reason } => {
            Unread::odd(reason.clone())
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
