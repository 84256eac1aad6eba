//! Under which code an instrument knows a test that the EHR orders.

use super::Driver;
use crate::clinical::{Coding, CodingSystem, OrderedTest};

impl Driver {
    /// The code to order a test with.
    ///
    /// A code that this driver lists is the instrument's own. A LOINC is turned into the one instrument code that is
    /// mapped to it; where none is, or several are, there is no answer: it is for another instrument, or nobody can
    /// tell which. Any other code goes as the EHR sent it, because sites give their instruments the codes of their EHR.
    pub fn code_to_order(&self, test: &OrderedTest) -> Option<Coding> {
        let listed = |coding: &&Coding| self.schema.analyte.iter().any(|analyte| analyte.code == coding.code);
        if let Some(coding) = test.codings().find(listed) {
            return Some(coding.clone());
        }
        if let Some(coding) = test.codings().find(|coding| coding.system != CodingSystem::Loinc) {
            return Some(coding.clone());
        }
        let loinc = test.codings().next()?;
        let mut codes: Vec<&str> = Vec::new();
        for analyte in self.schema.analyte.iter().filter(|analyte| analyte.loinc == loinc.code) {
            if !codes.contains(&analyte.code.as_str()) {
                codes.push(&analyte.code);
            }
        }
        match codes[..] {
            [code] => Some(Coding::local(code, &loinc.text)),
            // A driver without any code knows nothing of the instrument's: it may well speak LOINC.
            [] if self.schema.analyte.is_empty() => Some(loinc.clone()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Registry;

    fn ordered(codings: &[Coding]) -> OrderedTest {
        OrderedTest { universal_service_id: codings[0].clone(), alternate: codings.get(1).cloned() }
    }

    #[test]
    fn a_test_is_ordered_by_the_code_the_instrument_knows() {
        const TEXT: &str = "[identity]\nvendor = \"A\"\nmodel = \"B\"\nprotocol = \"hl7\"\nheader = [\"A\"]\nevidence = [\"C\"]\n\
            [[analyte]]\ncode = \"GLU\"\nloinc = \"2345-7\"\n[[analyte]]\ncode = \"CRE1\"\nloinc = \"2160-0\"\n\
            [[analyte]]\ncode = \"CRE2\"\nloinc = \"2160-0\"\n";
        let driver = Driver::parse("acme", TEXT).unwrap();
        let code = |codings: &[Coding]| driver.code_to_order(&ordered(codings)).map(|coding| coding.code);
        assert_eq!(code(&[Coding::local("GLU", "")]).as_deref(), Some("GLU"));
        assert_eq!(code(&[Coding::local("1234", ""), Coding::local("GLU", "")]).as_deref(), Some("GLU"));
        assert_eq!(code(&[Coding::loinc("2345-7", "Glucose")]).as_deref(), Some("GLU"));
        assert_eq!(code(&[Coding::local("SITE-7", "")]).as_deref(), Some("SITE-7"));
        assert_eq!(code(&[Coding::loinc("2160-0", "")]), None, "two codes measure it: nobody can tell which");
        assert_eq!(code(&[Coding::loinc("718-7", "")]), None, "this instrument does not measure it");
        let registry = Registry::builtin();
        let generic = registry.generic(crate::driver::Protocol::Hl7);
        let loinc = generic.code_to_order(&ordered(&[Coding::loinc("718-7", "")]));
        assert_eq!(loinc.map(|coding| coding.code).as_deref(), Some("718-7"));
    }
}
