//! Under which codes an instrument knows a test that the EHR orders: one answer for every protocol.

use super::worklist::why;
use super::{Driver, Protocol};
use crate::clinical::{Coding, CodingSystem, OrderedTest};
use std::collections::BTreeMap;

/// Code of the EHR = codes of the instrument, as a link's `order_codes` has them.
pub type SiteCodes = BTreeMap<String, Vec<String>>;

impl Driver {
    /// The codes to order a test with; a panel has several. Only codes the site or this driver lists are sent
    /// (invariant I13):
    ///
    /// - what the link's `order_codes`, else the driver's `[orders.codes]`, say the EHR's code stands for;
    /// - the one code whose analyte has the LOINC that is ordered. A code of the instrument that the EHR sends beside
    ///   it decides between several.
    ///
    /// A code of the EHR alone means nothing to an instrument: that it reads like one of the instrument's own may be
    /// chance, as with the numbers that chemistry analyzers use.
    ///
    /// Where tests are ordered by codes of the laboratory (`site_codes`), only the first of these counts.
    ///
    /// An HL7 driver that lists nothing (the generic one) knows nothing of the instrument's codes: then the EHR's own
    /// goes out, because sites give such instruments the codes of their EHR. ASTM codes are the maker's.
    ///
    /// # Errors
    /// One of [`why`].
    pub fn codes_to_order(&self, site: &SiteCodes, test: &OrderedTest) -> Result<Vec<Coding>, &'static str> {
        let (table, text) = (&self.order_layout().codes, test.universal_service_id.text.as_str());
        let mapped = |map: &SiteCodes| test.codings().find_map(|coding| map.get(&coding.code).cloned());
        if let Some(codes) = mapped(site).or_else(|| mapped(table)) {
            return match codes.as_slice() {
                [] => Err(why::UNKNOWN),
                [only] => Ok(vec![Coding::local(only, text)]),
                panel => Ok(panel.iter().map(|code| Coding::local(code, "")).collect()),
            };
        }
        if self.order_layout().site_codes {
            return Err(why::UNKNOWN);
        }
        let analytes = &self.schema.analyte;
        let (loincs, locals): (Vec<&Coding>, Vec<&Coding>) =
            test.codings().partition(|coding| coding.system == CodingSystem::Loinc);
        if analytes.is_empty() && table.is_empty() && self.protocol() == Protocol::Hl7 {
            let first = locals.first().or(loincs.first());
            return first.map(|&coding| vec![coding.clone()]).ok_or(why::UNKNOWN);
        }
        let measures = |loinc: &str| loincs.iter().any(|coding| coding.code == loinc);
        let fitting =
            || analytes.iter().filter(|analyte| measures(&analyte.loinc)).map(|analyte| analyte.code.as_str());
        let is_own = |code: &str| locals.iter().any(|coding| coding.code == code);
        let only = |codes: Vec<&str>| match codes.as_slice() {
            [] => None,
            [only] => Some(Ok(vec![Coding::local(*only, text)])),
            _ => Some(Err(why::AMBIGUOUS)),
        };
        let own = only(distinct(fitting().filter(|code| is_own(code))));
        own.or_else(|| only(distinct(fitting()))).unwrap_or(Err(why::UNKNOWN))
    }
}

fn distinct<'c>(codes: impl Iterator<Item = &'c str>) -> Vec<&'c str> {
    let mut distinct: Vec<&str> = codes.collect();
    distinct.sort_unstable();
    distinct.dedup();
    distinct
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Registry;

    const TEXT: &str = "[identity]\nvendor = \"A\"\nmodel = \"B\"\nprotocol = \"hl7\"\nheader = [\"A\"]\nevidence = [\"C\"]\n\
        [[analyte]]\ncode = \"GLU\"\nloinc = \"2345-7\"\n[[analyte]]\ncode = \"CRE1\"\nloinc = \"2160-0\"\n\
        [[analyte]]\ncode = \"CRE2\"\nloinc = \"2160-0\"\n";

    fn ordered(codings: &[Coding]) -> OrderedTest {
        OrderedTest { universal_service_id: codings[0].clone(), alternate: codings.get(1).cloned() }
    }

    fn asked(driver: &Driver, site: &[(&str, &[&str])], codings: &[Coding]) -> Result<Vec<String>, &'static str> {
        let list = |codes: &&[&str]| codes.iter().map(ToString::to_string).collect();
        let site = site.iter().map(|(ordered, codes)| (ordered.to_string(), list(codes))).collect();
        let codes = driver.codes_to_order(&site, &ordered(codings))?;
        Ok(codes.into_iter().map(|coding| coding.code).collect())
    }

    fn one(code: &str) -> Result<Vec<String>, &'static str> {
        Ok(vec![code.to_string()])
    }

    #[test]
    fn a_test_is_ordered_by_the_code_the_instrument_knows() {
        let driver = Driver::parse("acme", TEXT).unwrap();
        let code = |codings: &[Coding]| asked(&driver, &[], codings);
        assert_eq!(code(&[Coding::loinc("2345-7", "Glucose")]), one("GLU"));
        assert_eq!(code(&[Coding::loinc("2160-0", "")]), Err(why::AMBIGUOUS), "nobody can tell which");
        assert_eq!(code(&[Coding::loinc("2160-0", ""), Coding::local("CRE2", "")]), one("CRE2"), "the EHR tells");
        assert_eq!(code(&[Coding::loinc("718-7", "")]), Err(why::UNKNOWN), "this instrument does not measure it");
    }

    #[test]
    fn i13_a_code_the_driver_does_not_list_is_not_sent() {
        let driver = Driver::parse("acme", TEXT).unwrap();
        let code = |codings: &[Coding]| asked(&driver, &[], codings);
        assert_eq!(code(&[Coding::local("SITE-7", "")]), Err(why::UNKNOWN));
        assert_eq!(code(&[Coding::local("GLU", "")]), Err(why::UNKNOWN), "the same word of the EHR's is chance");
        assert_eq!(code(&[Coding::local("1234", ""), Coding::local("GLU", "")]), Err(why::UNKNOWN));
        assert_eq!(asked(&driver, &[("GLU", &["GLU"])], &[Coding::local("GLU", "")]), one("GLU"), "the site says so");
        assert_eq!(code(&[Coding::local("SITE-7", ""), Coding::loinc("718-7", "")]), Err(why::UNKNOWN));
        assert_eq!(code(&[Coding::local("GLU", ""), Coding::loinc("718-7", "")]), Err(why::UNKNOWN), "they disagree");
        let site: &[(&str, &[&str])] = &[("SITE-7", &["GLU", "CRE1"]), ("NONE", &[])];
        let panel = Ok(vec!["GLU".to_string(), "CRE1".to_string()]);
        assert_eq!(asked(&driver, site, &[Coding::local("SITE-7", "")]), panel, "the site says what it stands for");
        assert_eq!(asked(&driver, site, &[Coding::local("NONE", "")]), Err(why::UNKNOWN));
    }

    #[test]
    fn i13_an_astm_instrument_is_never_told_in_the_ehrs_codes() {
        let registry = Registry::builtin();
        let generic = registry.generic(Protocol::Astm);
        assert_eq!(asked(generic, &[], &[Coding::local("HB", "")]), Err(why::UNKNOWN));
        assert_eq!(asked(generic, &[("HB", &["7"])], &[Coding::local("HB", "")]), one("7"));
    }

    #[test]
    fn an_hl7_driver_that_lists_nothing_passes_on_what_the_ehr_sends() {
        let registry = Registry::builtin();
        let generic = registry.generic(Protocol::Hl7);
        assert_eq!(asked(generic, &[], &[Coding::loinc("718-7", ""), Coding::local("HB", "")]), one("HB"));
        assert_eq!(asked(generic, &[], &[Coding::loinc("718-7", "")]), one("718-7"));
        assert_eq!(asked(generic, &[("HB", &["7"])], &[Coding::local("HB", "")]), one("7"));
    }
}
