//! `[[order_feed]]`: a FHIR server that is asked for imaging orders.

use crate::delivery::config::{OAuth, Problem, Protocol};
use crate::delivery::{self};
use crate::tls::ClientTls;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Shortest and longest pause between two questions, in seconds.
const POLL_S: std::ops::RangeInclusive<u32> = 1..=86_400;
/// The longest look back: a century.
const FIRST_DAYS_MAX: u32 = 36_525;
/// What a feed says of its search by itself.
const OWN_PARAMETERS: [&str; 5] = ["_lastUpdated", "_sort", "_count", "_elements", "_summary"];
/// What is asked for at log-in unless the site says otherwise.
const SCOPE: &str = "system/ServiceRequest.rs system/Patient.rs";

/// A FHIR R4 server that is asked for ServiceRequests, which are orders for imaging.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Name of the feed, unique among these, `[[orders]]` and the links; it appears in logs and commands.
    pub name: String,
    /// Base URL of the FHIR server, for example `https://ehr.example/fhir`. The box dials the EHR.
    pub url: String,
    /// Which ServiceRequests are for imaging, as the server's search parameters. Without `status`: what is revoked or
    /// completed must be seen. One that is deleted leaves the worklist within minutes: 50 open ones are looked at in
    /// each round.
    pub query: String,
    /// Seconds between two questions, from 1 to 86400.
    pub poll_s: u32,
    /// How many days back the first question looks.
    pub first_days: u32,
    /// Must be true to fetch patient data without TLS from another machine. Only for a fenced network.
    pub plain: bool,
    /// How to check the server and how to show who we are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClientTls>,
    /// Log-in at the server (SMART Backend Services).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oauth: Option<OAuth>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            name: String::new(),
            url: String::new(),
            query: "category=http://snomed.info/sct|363679005".to_owned(),
            poll_s: 30,
            first_days: 30,
            plain: false,
            tls: None,
            oauth: None,
        }
    }
}

impl Config {
    /// The server as the FHIR client knows it.
    pub fn server(&self) -> delivery::Config {
        // Where the site names no scope the right to write would be asked for, and many servers would not give it.
        let oauth = self.oauth.clone().map(|oauth| match oauth.scope == delivery::config::default_scope() {
            true => OAuth { scope: SCOPE.to_owned(), ..oauth },
            false => oauth,
        });
        delivery::Config {
            url: Some(self.url.clone()),
            plain: self.plain,
            tls: self.tls.clone(),
            oauth,
            ..delivery::Config::new(&self.name, Protocol::Fhir)
        }
    }

    /// Everything that is wrong with these settings, without looking at any file or network.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = self.server().problems();
        let mut wrong = |key, text: String| problems.push(Problem { key, text });
        if !POLL_S.contains(&self.poll_s) {
            wrong("poll_s", format!("must be between {} and {} seconds", POLL_S.start(), POLL_S.end()));
        }
        if self.first_days > FIRST_DAYS_MAX {
            wrong("first_days", format!("must be at most {FIRST_DAYS_MAX}"));
        }
        if let Some(problem) = self.query_problem() {
            wrong("query", problem);
        }
        problems
    }

    fn query_problem(&self) -> Option<String> {
        for parameter in self.query.split('&').filter(|_| !self.query.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or_default();
            let name = name.split(':').next().unwrap_or_default();
            if name.is_empty() || value.is_empty() || parameter.contains(['?', '#', ' ']) {
                return Some("write search parameters, such as \"category=imaging\"".to_owned());
            }
            if OWN_PARAMETERS.contains(&name) {
                return Some(format!("leave `{name}` out: the feed sets it itself"));
            }
            if name == "status" {
                let why = "leave the status out: what is revoked or completed must be seen to leave the worklist";
                return Some(why.to_owned());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feed_needs_a_protected_server_and_search_parameters() {
        let feed = |url: &str, query: &str| Config {
            name: "ehr".into(),
            url: url.into(),
            query: query.into(),
            ..Config::default()
        };
        let keys = |config: Config| config.problems().into_iter().map(|p| p.key).collect::<Vec<_>>();
        assert!(keys(feed("https://ehr.example/fhir", "")).is_empty());
        assert_eq!(keys(feed("http://ehr.example/fhir", "a b")), ["url", "query"]);
        assert_eq!(keys(feed("", "category=x&_lastUpdated=gt2026")), ["url", "query"]);
        assert_eq!(keys(feed("https://ehr.example/fhir", "category=imaging&status=active")), ["query"]);
        let out_of_bounds = Config { poll_s: 0, first_days: u32::MAX, ..feed("https://ehr.example/fhir", "") };
        assert_eq!(keys(out_of_bounds), ["poll_s", "first_days"]);
        let given =
            OAuth { client_id: "box".into(), kid: "1".into(), scope: "system/*.cud".into(), ..OAuth::default() };
        let logged_in = Config { oauth: Some(given), ..feed("https://ehr.example/fhir", "") };
        assert_eq!(logged_in.server().oauth.unwrap().scope, SCOPE, "no right to write is asked for");
    }
}
