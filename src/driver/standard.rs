//! Where the standards put things, for whatever a driver does not say.

use super::Protocol;
use super::path::Paths;
use super::schema::Fields;

impl Fields {
    /// Fills every list a driver left empty with the standard's own place.
    pub(super) fn fill(&mut self, protocol: Protocol) {
        for (paths, astm, hl7) in self.standard() {
            if paths.is_empty() {
                *paths = Paths::of(match protocol {
                    Protocol::Astm => astm,
                    Protocol::Hl7 => hl7,
                });
            }
        }
    }

    /// Each list with its places in LIS02-A2 and in HL7 v2.
    ///
    /// `OBR` and `OBX` among the ASTM places serve E1238 hybrids. OBX-19 (analysis time) goes before OBX-14
    /// (observation time), which analyzers also fill with the time of collection.
    #[rustfmt::skip]
    fn standard(&mut self) -> Vec<(&mut Paths, &'static [&'static str], &'static [&'static str])> {
        vec![
            (&mut self.specimen_id, &["O.3.1", "OBR.3.1"], &["SPM.2.1.1", "SPM.2.2.1", "SAC.3.1"]),
            (&mut self.specimen_type, &["O.16.1"], &["SPM.4.1", "OBR.15.1.1"]),
            (&mut self.position, &["O.4.2"], &["SAC.11.1"]),
            (&mut self.collected, &["O.8", "OBR.7"], &["SPM.17.1", "OBR.7.1"]),
            (&mut self.patient_id, &["P.4", "P.3"], &["PID.3.1", "PID.2.1"]),
            (&mut self.patient_id_authority, &[], &["PID.3.4.1"]),
            (&mut self.family, &["P.6.1"], &["PID.5.1.1"]),
            (&mut self.given, &["P.6.2"], &["PID.5.2"]),
            (&mut self.birth_date, &["P.8"], &["PID.7.1"]),
            (&mut self.sex, &["P.9"], &["PID.8.1"]),
            (&mut self.location, &["P.26"], &["PV1.3.1"]),
            (&mut self.placer_order_number, &["OBR.2"], &["ORC.2.1", "OBR.2.1"]),
            (&mut self.filler_order_number, &[], &["ORC.3.1", "OBR.3.1"]),
            (&mut self.service, &["O.5.4", "O.5.1", "OBR.4.1"], &["OBR.4.1"]),
            (&mut self.priority, &["O.6"], &["TQ1.9.1", "OBR.5.1", "OBR.27.6"]),
            (&mut self.test_code, &["R.3.4", "R.3.5", "R.3.1", "R.3.2", "OBX.3.1"], &["OBX.3.1", "OBX.3.4", "OBX.3.2"]),
            (&mut self.test_name, &[], &["OBX.3.2", "OBX.3.5"]),
            (&mut self.value, &["R.4", "OBX.5"], &["OBX.5"]),
            (&mut self.unit, &["R.5", "OBX.6"], &["OBX.6.1"]),
            (&mut self.reference_range, &["R.6", "OBX.7"], &["OBX.7"]),
            (&mut self.flag, &["R.7", "OBX.8"], &["OBX.8"]),
            (&mut self.result_status, &["R.9", "OBX.11"], &["OBX.11.1"]),
            (&mut self.completed, &["R.13", "OBX.14", "OBX.12"], &["OBX.19.1", "OBX.14.1"]),
            (&mut self.operator, &["R.11"], &["OBX.16.1"]),
            (&mut self.comment, &["C.4"], &["NTE.3"]),
            (&mut self.instrument_name, &["H.5.1"], &["MSH.3.1"]),
            (&mut self.serial_number, &[], &["OBX.18.1"]),
            (&mut self.software_version, &[], &[]),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_standard_place_is_a_path() {
        for (_, astm, hl7) in Fields::default().standard() {
            assert_eq!(Paths::of(astm).iter().count(), astm.len());
            assert_eq!(Paths::of(hl7).iter().count(), hl7.len());
        }
    }
}
