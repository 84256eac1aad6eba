//! Reading from the same server, with the same log-in: what the EHR is asked for instead of told.

use super::{Fhir, failure};
use crate::delivery::Outcome;
use reqwest::{Method, StatusCode, Url};

/// Nothing was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// Why, for a log: made of codes and constants, never of the server's text (invariant I8).
    pub reason: String,
    /// True when it may be read later; false when the server will not give it, or the address is none of its own.
    pub may_pass: bool,
}

impl Fhir {
    /// What is at an address: one below the server's base, such as `Patient/7` or `ServiceRequest?status=active`, or a
    /// whole one, as a Bundle names its next page. Of 8 MB at most; `None` when there is nothing (404, 410).
    ///
    /// # Errors
    /// Why nothing is known.
    pub async fn read(&mut self, address: &str) -> Result<Option<Vec<u8>>, Unread> {
        let link = self.link().map_err(|reason| Unread { reason, may_pass: true })?;
        let Some(url) = within(&link.base, address) else {
            return Err(Unread { reason: "the address leads to another server".to_owned(), may_pass: false });
        };
        let answer = self.request(&link, Method::GET, url, None, Vec::new()).await.map_err(|failed| unread(&failed))?;
        match answer.status {
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(None),
            status if status.is_success() => Ok(Some(answer.body)),
            // A chart that this log-in may not see.
            StatusCode::FORBIDDEN => Err(Unread { may_pass: false, ..unread(&failure(&answer)) }),
            _ => Err(unread(&failure(&answer))),
        }
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
        Outcome::Retry { reason, .. } => Unread { reason: reason.clone(), may_pass: true },
        Outcome::Delivered { answer: reason } | Outcome::Doubted { reason } | Outcome::Refused { reason } => {
            Unread { reason: reason.clone(), may_pass: false }
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
