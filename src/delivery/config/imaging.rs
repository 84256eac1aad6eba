//! What a site writes about a receiver of images, and which images go there.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Config, Protocol};
use crate::delivery::window::Windows;
use crate::mapping::imaging::ImagingProfile;
use crate::message::dicom::rewrite::Changes;

/// Longest AE title, in bytes (PS3.5 6.2, VR AE).
const AE_TITLE_MAX: usize = 16;
/// What we call ourselves unless the site says otherwise.
const AE_TITLE_DEFAULT: &str = "AFFERENT";

/// In which order the images of a study are sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Side by side over all connections; an image that has to wait holds up no other.
    #[default]
    Any,
    /// One after the other, as they came.
    Study,
}

/// What routing looks at. An attribute the image does not have is the empty text.
#[derive(Debug, Clone, Copy, Default)]
pub struct Routed<'a> {
    /// Name of the modality in the configuration.
    pub link: &'a str,
    /// AE title it called us with.
    pub calling_ae_title: &'a str,
    /// Modality (0008,0060).
    pub modality: &'a str,
    /// Body Part Examined (0018,0015).
    pub body_part: &'a str,
    /// Study Description (0008,1030).
    pub study_description: &'a str,
}

impl Config {
    /// True when it keeps images of their patients, and so may commit to them. What gets them without the patient keeps no
    /// original. One that gets them with some attributes coerced does: an archive may do so by itself (PS3.4 B.4.1), and what
    /// it commits to is the SOP instance (PS3.4 J.1), whose UIDs no rule changes; the site asked for the rest to differ. How it
    /// came stays here for as long as anything delivered does.
    pub fn is_archive(&self) -> bool {
        self.protocol.takes_images() && self.deidentify.is_none()
    }

    /// True when this image goes here: each list that is not empty must name it.
    pub fn takes_image(&self, image: &Routed<'_>) -> bool {
        let description = image.study_description.to_lowercase();
        self.protocol.takes_images()
            && self.takes_modality(image)
            && named(&self.body_parts, image.body_part)
            && (self.study_descriptions.is_empty()
                || self.study_descriptions.iter().any(|part| description.contains(&part.to_lowercase())))
    }

    /// True when the performed steps of this modality go here.
    pub fn takes_steps(&self, of: &Routed<'_>) -> bool {
        self.protocol == Protocol::Dicom && self.mpps && self.takes_modality(of)
    }

    /// True when it is told where the orders of this source stand that modalities of this link do.
    pub fn takes_order_status(&self, link: &str, source: &str) -> bool {
        self.protocol == Protocol::Mllp && self.order_status.iter().any(|of| of == source) && self.names(link)
    }

    fn takes_modality(&self, of: &Routed<'_>) -> bool {
        self.names(of.link)
            // AE titles tell capitals from small letters (PS3.5 6.2).
            && (self.calling_ae_titles.is_empty()
                || self.calling_ae_titles.iter().any(|title| title.trim() == of.calling_ae_title.trim()))
            && named(&self.modalities, of.modality)
    }

    /// True when `links` is empty or holds this name.
    pub fn names(&self, link: &str) -> bool {
        self.links.is_empty() || self.links.iter().any(|l| l == link)
    }

    /// The same for a gateway that modalities call by this AE title: a PACS knows it by that as well, unless the
    /// destination says otherwise.
    pub fn of_gateway(mut self, ae_title: &str) -> Config {
        if self.protocol == Protocol::Dicom {
            self.calling_ae_title.get_or_insert_with(|| ae_title.to_owned());
        }
        self
    }

    /// What we call ourselves.
    pub fn calling_ae_title(&self) -> &str {
        self.calling_ae_title.as_deref().unwrap_or(AE_TITLE_DEFAULT)
    }

    /// What the PACS is called.
    pub fn called_ae_title(&self) -> &str {
        self.called_ae_title.as_deref().unwrap_or_default()
    }

    /// What it gets other than it came.
    pub fn changes(&self) -> Changes {
        Changes { deidentify: self.deidentify, coerce: self.coerce.clone() }
    }

    pub(super) fn check_dicom(&self, wrong: &mut impl FnMut(&'static str, String)) {
        self.check_address("such as \"pacs.example:11112\"", wrong);
        if self.url.is_some() {
            wrong("url", "belongs to protocol = \"fhir\" or \"stow\"; a PACS has an `address`".to_owned());
        }
        if self.oauth.is_some() {
            wrong("oauth", "belongs to protocol = \"fhir\" or \"stow\"".to_owned());
        }
        if self.called_ae_title.is_none() {
            wrong("called_ae_title", "give the AE title of the PACS; its administrator knows it".to_owned());
        }
        for (key, title) in [("called_ae_title", &self.called_ae_title), ("calling_ae_title", &self.calling_ae_title)] {
            if title.as_deref().is_some_and(|title| !is_ae_title(title)) {
                wrong(key, format!("an AE title has 1 to {AE_TITLE_MAX} printable ASCII characters other than `\\`"));
            }
        }
    }

    pub(super) fn check_stow(&self, wrong: &mut impl FnMut(&'static str, String)) {
        self.check_url("give the DICOMweb server's base URL, such as \"https://pacs.example/dicom-web\"", wrong);
        if self.address.is_some() {
            wrong("address", "belongs to protocol = \"mllp\" or \"dicom\"; a DICOMweb server has a `url`".to_owned());
        }
        if self.oauth.as_ref().is_some_and(|oauth| oauth.token_url.is_none()) {
            wrong("oauth", "give `token_url`; only FHIR servers tell where tokens are issued".to_owned());
        }
    }

    /// Settings that only one kind of receiver has, and those about images themselves.
    pub(super) fn check_routing(&self, wrong: &mut impl FnMut(&'static str, String)) {
        let of_images = [
            ("calling_ae_titles", !self.calling_ae_titles.is_empty()),
            ("modalities", !self.modalities.is_empty()),
            ("body_parts", !self.body_parts.is_empty()),
            ("study_descriptions", !self.study_descriptions.is_empty()),
            ("order", self.order != Order::Any),
            ("bandwidth_kb_s", self.bandwidth_kb_s != 0),
            ("windows", !self.windows.is_empty()),
            ("deidentify", self.deidentify.is_some()),
            ("coerce", !self.coerce.is_empty()),
        ];
        let of_dicom = [
            ("called_ae_title", self.called_ae_title.is_some()),
            ("calling_ae_title", self.calling_ae_title.is_some()),
            ("mpps", self.mpps),
            ("commitment", self.commitment),
        ];
        for (key, _) in of_images.into_iter().filter(|(_, given)| *given && !self.protocol.takes_images()) {
            wrong(key, "is for images; it belongs to protocol = \"dicom\" or \"stow\"".to_owned());
        }
        for (key, _) in of_dicom.into_iter().filter(|(_, given)| *given && self.protocol != Protocol::Dicom) {
            wrong(key, "belongs to protocol = \"dicom\"".to_owned());
        }
        if self.mpps && !self.changes().is_empty() {
            wrong(
                "mpps",
                "what modalities say of their steps goes on as it came, patient and all; not where images are changed"
                    .to_owned(),
            );
        }
        if let Some(fault) = self.changes().fault() {
            wrong("coerce", fault);
        }
        let imaging = &self.imaging;
        if *imaging != ImagingProfile::default() && self.protocol.takes_images() {
            wrong("imaging", "is for receivers of results; images go as they came".to_owned());
        }
        let is_web =
            |address: &str| reqwest::Url::parse(address).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        if !imaging.wado_rs.is_empty() && !is_web(&imaging.wado_rs) {
            wrong("imaging.wado_rs", "give the base address, such as \"https://pacs.example/dicom-web\"".to_owned());
        }
        if !imaging.accession_system.is_empty() && reqwest::Url::parse(&imaging.accession_system).is_err() {
            wrong("imaging.accession_system", "give a URI, such as \"https://ris.example/accessions\"".to_owned());
        }
        if let Err(window) = Windows::parse(&self.windows) {
            wrong("windows", format!("`{window}` is no window; write \"18:00-06:00\" or \"sat-sun 00:00-24:00\""));
        }
    }
}

/// True when the list is empty or names the value, whatever the case.
fn named(list: &[String], value: &str) -> bool {
    list.is_empty() || list.iter().any(|l| l.trim().eq_ignore_ascii_case(value.trim()))
}

/// VR AE: the default repertoire without `\` and control characters, not only spaces.
pub fn is_ae_title(title: &str) -> bool {
    let printable = |b: u8| (b' '..=b'~').contains(&b) && b != b'\\';
    (1..=AE_TITLE_MAX).contains(&title.len()) && title.bytes().all(printable) && !title.trim().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::dicom::rewrite::{Profile, Rule};

    fn pacs() -> Config {
        Config {
            address: Some("127.0.0.1:11112".into()),
            called_ae_title: Some("PACS".into()),
            ..Config::new("pacs", Protocol::Dicom)
        }
    }

    fn keys(config: &Config) -> Vec<&'static str> {
        config.problems().iter().map(|p| p.key).collect()
    }

    const ECHO: Routed<'_> = Routed {
        link: "echo-1",
        calling_ae_title: "VIVID",
        modality: "US",
        body_part: "HEART",
        study_description: "Echo, transthoracic",
    };

    #[test]
    fn results_and_images_go_to_receivers_of_their_kind_only() {
        let ehr = Config::new("ehr", Protocol::Mllp);
        assert!(ehr.takes("echo-1") && !ehr.takes_image(&ECHO));
        assert!(!pacs().takes("echo-1") && pacs().takes_image(&ECHO));
        assert!(Config::new("web", Protocol::Stow).takes_image(&ECHO));
    }

    #[test]
    fn every_list_that_is_given_must_name_the_image() {
        let list = |value: &str| vec![value.to_owned()];
        let goes = |config: Config| config.takes_image(&ECHO);
        assert!(goes(Config { modalities: list("us"), body_parts: list(" HEART"), ..pacs() }));
        assert!(!goes(Config { modalities: list("us"), body_parts: list("CHEST"), ..pacs() }));
        assert!(goes(Config { study_descriptions: vec!["stress".into(), "TRANSTHORACIC".into()], ..pacs() }));
        assert!(!goes(Config { study_descriptions: list("stress"), ..pacs() }));
        assert!(goes(Config { calling_ae_titles: list("VIVID"), ..pacs() }));
        assert!(!goes(Config { calling_ae_titles: list("vivid"), ..pacs() }), "AE titles are told apart by case");
        assert!(!goes(Config { links: list("ct-1"), ..pacs() }));
        let unknown = Routed { link: "echo-1", ..Routed::default() };
        assert!(pacs().takes_image(&unknown));
        assert!(!Config { modalities: list("US"), ..pacs() }.takes_image(&unknown));
    }

    #[test]
    fn performed_steps_go_where_it_is_asked_for_and_order_status_to_who_ordered() {
        let step = Routed { body_part: "", study_description: "", ..ECHO };
        assert!(!pacs().takes_steps(&step), "many a PACS does not take them");
        let told = Config { mpps: true, body_parts: vec!["CHEST".into()], ..pacs() };
        assert!(told.takes_steps(&step), "a step names no body part");
        assert!(!Config { modalities: vec!["CT".into()], ..told.clone() }.takes_steps(&step));
        assert!(!told.takes_order_status("echo-1", "ris"));
        let ehr = Config { order_status: vec!["ris".into()], ..Config::new("ehr", Protocol::Mllp) };
        assert!(ehr.takes_order_status("echo-1", "ris") && !ehr.takes_steps(&step));
        assert!(!ehr.takes_order_status("echo-1", "lis"), "another system's order is none of its business");
        assert!(!Config::new("ehr", Protocol::Mllp).takes_order_status("echo-1", "ris"));
        assert!(!Config { links: vec!["chemistry".into()], ..ehr }.takes_order_status("echo-1", "ris"));
        assert_eq!(
            keys(&Config { mpps: true, address: Some("[::1]:1".into()), ..Config::default() }),
            ["name", "mpps"]
        );
    }

    #[test]
    fn a_pacs_needs_its_ae_title_and_a_protected_line() {
        assert_eq!(keys(&pacs()), Vec::<&str>::new());
        assert_eq!(keys(&Config { called_ae_title: None, ..pacs() }), ["called_ae_title"]);
        assert_eq!(keys(&Config { called_ae_title: Some("X".repeat(17)), ..pacs() }), ["called_ae_title"]);
        assert_eq!(keys(&Config { calling_ae_title: Some("A\\B".into()), ..pacs() }), ["calling_ae_title"]);
        assert_eq!(keys(&Config { address: Some("10.0.0.9:104".into()), ..pacs() }), ["address"]);
        assert_eq!(keys(&Config { windows: vec!["at night".into()], ..pacs() }), ["windows"]);
        let rule = |tag: &str| vec![Rule { tag: tag.into(), remove: true, ..Rule::default() }];
        assert_eq!(keys(&Config { coerce: rule("0008,0080"), ..pacs() }), Vec::<&str>::new());
        assert_eq!(keys(&Config { coerce: rule("0008,0018"), ..pacs() }), ["coerce"]);
        assert_eq!(keys(&Config { mpps: true, deidentify: Some(Profile::Basic), ..pacs() }), ["mpps"]);
    }

    #[test]
    fn a_setting_of_images_is_wrong_for_results_and_the_other_way_round() {
        let ehr = Config { address: Some("[::1]:2575".into()), ..Config::new("ehr", Protocol::Mllp) };
        let wrong =
            Config { modalities: vec!["US".into()], bandwidth_kb_s: 5, called_ae_title: Some("X".into()), ..ehr };
        assert_eq!(keys(&wrong), ["modalities", "bandwidth_kb_s", "called_ae_title"]);
        let ehr = Config { address: Some("[::1]:2575".into()), ..Config::new("ehr", Protocol::Mllp) };
        assert_eq!(keys(&Config { deidentify: Some(Profile::Basic), ..ehr }), ["deidentify"]);
        let web = Config { url: Some("https://pacs.example/dicom-web".into()), ..Config::new("web", Protocol::Stow) };
        assert_eq!(keys(&web), Vec::<&str>::new());
        assert_eq!(keys(&Config { called_ae_title: Some("X".into()), ..web }), ["called_ae_title"]);
    }
}
