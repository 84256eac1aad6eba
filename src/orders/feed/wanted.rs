//! Which requests a feed asked for, looked at in each of them. Pure.
//!
//! FHIR lets a server ignore a search parameter it does not know (R4 3.1.1.3), and then it gives everything it has. So
//! what `category` and `code` of the query ask for is compared with each request once more. Where the query does not
//! speak of a category, what FHIR's own value set calls something else than imaging is left out.

use serde::Deserialize;

/// Code system of modalities (PS3.16 CID 29): what names one is for imaging, however its category is written.
const DICOM: &str = "http://dicom.nema.org/resources/ontology/DCM";
const SNOMED: &str = "http://snomed.info/sct";
/// The rest of the value set of `ServiceRequest.category`: laboratory, counselling, education, surgery.
const NOT_IMAGING: [&str; 4] = ["108252007", "409063005", "409073007", "387713003"];

/// What a query asks for, as far as it can be looked at in a request.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Each must be fitted by one of its tokens.
    categories: Vec<Vec<Token>>,
    codes: Vec<Vec<Token>>,
}

/// What a request says of itself.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Coded {
    category: Vec<Concept>,
    code: Concept,
    #[serde(rename = "orderDetail")]
    order_detail: Vec<Concept>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Concept {
    coding: Vec<Coding>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Coding {
    system: String,
    code: String,
}

/// A token (FHIR R4 3.1.1.4.10): `code`, `system|code`, `system|` or `|code`.
#[derive(Debug)]
struct Token {
    system: Option<String>,
    code: String,
}

impl Wanted {
    /// Of the search parameters of a feed. What has a modifier, or an escaped character, is left to the server.
    pub fn by(query: &str) -> Wanted {
        let mut wanted = Wanted::default();
        let Ok(url) = reqwest::Url::parse(&format!("http://localhost/?{query}")) else { return wanted };
        for (name, value) in url.query_pairs().filter(|(_, value)| !value.contains('\\')) {
            let tokens = || value.split(',').map(Token::read).collect();
            match &*name {
                "category" => wanted.categories.push(tokens()),
                "code" => wanted.codes.push(tokens()),
                _ => {}
            }
        }
        wanted
    }

    /// True for a request that the query is for.
    pub fn asks_for(&self, request: &Coded) -> bool {
        let categories = || request.category.iter().flat_map(|concept| &concept.coding);
        let fit = |asked: &[Vec<Token>], said: &[&Coding]| {
            asked.iter().all(|tokens| tokens.iter().any(|token| said.iter().any(|coding| token.fits(coding))))
        };
        let details = request.order_detail.iter().flat_map(|concept| &concept.coding);
        let names_a_modality = categories().chain(details).any(|coding| coding.system == DICOM);
        let is_another = |coding: &Coding| coding.system == SNOMED && NOT_IMAGING.contains(&coding.code.as_str());
        let is_imaging = match self.categories.is_empty() {
            true => !categories().any(is_another),
            false => fit(&self.categories, &categories().collect::<Vec<_>>()),
        };
        (is_imaging || names_a_modality) && fit(&self.codes, &request.code.coding.iter().collect::<Vec<_>>())
    }
}

impl Coded {
    /// Of a ServiceRequest; nothing when that cannot be read.
    pub fn read(request: &str) -> Coded {
        serde_json::from_str(request).unwrap_or_default()
    }
}

impl Token {
    fn read(text: &str) -> Token {
        match text.split_once('|') {
            Some((system, code)) => Token { system: Some(system.to_owned()), code: code.to_owned() },
            None => Token { system: None, code: text.to_owned() },
        }
    }

    fn fits(&self, coding: &Coding) -> bool {
        // Servers differ in whether case counts.
        self.system.as_ref().is_none_or(|system| *system == coding.system)
            && (self.code.is_empty() || self.code.eq_ignore_ascii_case(&coding.code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const IMAGING: (&str, &str) = (SNOMED, "363679005");
    const LABORATORY: (&str, &str) = (SNOMED, "108252007");

    fn request(category: &[(&str, &str)], code: (&str, &str), detail: &[(&str, &str)]) -> Coded {
        let concept = |(system, code): &(&str, &str)| json!({ "coding": [{ "system": system, "code": code }] });
        let all = |concepts: &[(&str, &str)]| concepts.iter().map(concept).collect::<Vec<_>>();
        Coded::read(
            &json!({ "resourceType": "ServiceRequest", "category": all(category), "code": concept(&code),
                     "orderDetail": all(detail) })
            .to_string(),
        )
    }

    #[test]
    fn what_the_query_does_not_ask_for_is_left_out_whatever_the_server_gives() {
        let (echo, glucose, ultrasound) =
            (("http://loinc.org", "34552-0"), ("http://loinc.org", "2345-7"), (DICOM, "US"));
        let default = super::super::Config::default().query;
        let default = default.as_str();
        let encoded = "category=http%3A%2F%2Fsnomed.info%2Fsct%7C363679005%2C%7Cimg";
        for (query, category, code, detail, expected) in [
            (default, &[IMAGING][..], echo, &[][..], true),
            (default, &[LABORATORY], glucose, &[], false),
            (default, &[LABORATORY, IMAGING], echo, &[], true),
            (default, &[], echo, &[], false),
            (default, &[], echo, &[ultrasound], true),
            (default, &[("http://elsewhere", "363679005")], echo, &[], false),
            (encoded, &[IMAGING], echo, &[], true),
            (encoded, &[("", "IMG")], echo, &[], true),
            (encoded, &[("http://x", "IMG")], echo, &[], false),
            ("category=imaging", &[("http://x", "Imaging")], echo, &[], true),
            ("category=http://x|", &[("http://x", "any")], echo, &[], true),
            ("category=a&category=b", &[("", "a")], echo, &[], false),
            ("category=a&category=b", &[("", "a"), ("", "b")], echo, &[], true),
            // Nothing is said of a category: what is known to be something else is left out.
            ("", &[], echo, &[], true),
            ("performer=Organization/7", &[LABORATORY], glucose, &[], false),
            ("performer=Organization/7", &[("http://x", "radiology")], echo, &[], true),
            // Who asks for it by name gets it.
            ("category=http://snomed.info/sct|387713003", &[(SNOMED, "387713003")], echo, &[], true),
            ("code=http://loinc.org|34552-0,2", &[], echo, &[], true),
            ("code=http://loinc.org|34552-0,2", &[], glucose, &[ultrasound], false),
            // What only the server can tell.
            ("code:in=http://x/ValueSet/echo", &[], echo, &[], true),
            ("code:below=http://snomed.info/sct|1", &[], echo, &[], true),
            ("code=a\\,b", &[], echo, &[], true),
        ] {
            let asked = Wanted::by(query).asks_for(&request(category, code, detail));
            assert_eq!(asked, expected, "{query}: {category:?} {code:?} {detail:?}");
        }
        assert!(!Wanted::by(default).asks_for(&Coded::read("{\"category\":7}")), "what cannot be read is no imaging");
    }
}
