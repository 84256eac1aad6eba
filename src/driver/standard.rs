//! Where the standards put things, for whatever a driver does not say.

use super::Protocol;
use super::path::Paths;
use super::schema::{Fields, Qc};

/// Places as constants.
type Places = &'static [&'static str];

impl Fields {
    /// Fills every list a driver left empty with the standard's own place.
    pub(super) fn fill(&mut self, protocol: Protocol) {
        if protocol == Protocol::Lines {
            return self.fill_by_name();
        }
        for (paths, astm, hl7, poct1a) in self.standard() {
            if paths.is_empty() {
                *paths = Paths::of(match protocol {
                    Protocol::Astm => astm,
                    Protocol::Hl7 => hl7,
                    Protocol::Poct1a => poct1a,
                    // A table has no standard; only what a wide one says by its shape is known.
                    Protocol::Table => &[],
                    Protocol::Lines => &[],
                });
            }
        }
        if protocol == Protocol::Table {
            for (paths, places) in self.of_wide_tables().into_iter().filter(|(paths, _)| paths.is_empty()) {
                *paths = Paths::of(places);
            }
        }
    }

    fn of_wide_tables(&mut self) -> [(&mut Paths, Places); 3] {
        [(&mut self.test_code, &["[@name]"]), (&mut self.value, &["[@]"]), (&mut self.unit, &["[@unit]", "[@next]"])]
    }

    /// Each list with its places in LIS02-A2, in HL7 v2 and in POCT1-A.
    ///
    /// `OBR` and `OBX` among the ASTM places serve E1238 hybrids. OBX-19 (analysis time) goes before OBX-14
    /// (observation time), which analyzers also fill with the time of collection.
    #[rustfmt::skip]
    fn standard(&mut self) -> Vec<(&mut Paths, Places, Places, Places)> {
        vec![
            (&mut self.specimen_id, &["O.3.1", "OBR.3.1"], &["SPM.2.1.1", "SPM.2.2.1", "SAC.3.1"], &[]),
            (&mut self.specimen_type, &["O.16.1"], &["SPM.4.1", "OBR.15.1.1"], &["SPC.type_cd"]),
            (&mut self.position, &["O.4.2"], &["SAC.11.1"], &[]),
            (&mut self.collected, &["O.8", "OBR.7"], &["SPM.17.1", "OBR.7.1"], &["SPC.specimen_dttm"]),
            (&mut self.patient_id, &["P.4", "P.3"], &["PID.3.1", "PID.2.1"], &["PT.patient_id"]),
            (&mut self.patient_id_authority, &[], &["PID.3.4.1"], &[]),
            (&mut self.family, &["P.6.1"], &["PID.5.1.1"], &["PT.name/FAM"]),
            (&mut self.given, &["P.6.2"], &["PID.5.2"], &["PT.name/GIV"]),
            (&mut self.birth_date, &["P.8"], &["PID.7.1"], &["PT.birth_date"]),
            (&mut self.sex, &["P.9"], &["PID.8.1"], &["PT.gender_cd"]),
            (&mut self.location, &["P.26"], &["PV1.3.1"], &["PT.location"]),
            (&mut self.placer_order_number, &["OBR.2"], &["ORC.2.1", "OBR.2.1"], &["ORD.order_id"]),
            (&mut self.filler_order_number, &[], &["ORC.3.1", "OBR.3.1"], &[]),
            (&mut self.service, &["O.5.4", "O.5.1", "OBR.4.1"], &["OBR.4.1"], &["ORD.universal_service_id"]),
            (&mut self.priority, &["O.6"], &["TQ1.9.1", "OBR.5.1", "OBR.27.6"], &[]),
            (&mut self.test_code, &["R.3.4", "R.3.5", "R.3.1", "R.3.2", "OBX.3.1"], &["OBX.3.1", "OBX.3.4", "OBX.3.2"], &["OBS.observation_id"]),
            (&mut self.test_name, &[], &["OBX.3.2", "OBX.3.5"], &["OBS.observation_id/TRANSLTN"]),
            (&mut self.qualitative, &[], &[], &["OBS.qualitative_value"]),
            (&mut self.value, &["R.4", "OBX.5"], &["OBX.5"], &["OBS.value", "OBS.qualitative_value"]),
            (&mut self.unit, &["R.5", "OBX.6"], &["OBX.6.1"], &["OBS.value@U"]),
            (&mut self.reference_range, &["R.6", "OBX.7"], &["OBX.7"], &["OBS.normal_lo-hi_limit"]),
            (&mut self.flag, &["R.7", "OBX.8"], &["OBX.8"], &["OBS.interpretation_cd"]),
            (&mut self.result_status, &["R.9", "OBX.11"], &["OBX.11.1"], &["OBS.status_cd"]),
            (&mut self.completed, &["R.13", "OBX.14", "OBX.12"], &["OBX.19.1", "OBX.14.1"], &["SVC.observation_dttm"]),
            (&mut self.operator, &["R.11"], &["OBX.16.1"], &["OPR.operator_id"]),
            (&mut self.comment, &["C.4"], &["NTE.3"], &["NTE.text"]),
            (&mut self.instrument_name, &["H.5.1"], &["MSH.3.1"], &["DEV.device_id"]),
            (&mut self.serial_number, &[], &["OBX.18.1"], &["DEV.serial_id"]),
            (&mut self.equipment, &["R.14.1"], &["OBX.18.1"], &[]),
            (&mut self.software_version, &[], &[], &["DEV.sw_version"]),
        ]
    }
}

impl Qc {
    /// Fills what a driver left empty: only POCT1-A has places of its own for a control.
    pub(super) fn fill(&mut self, protocol: Protocol) {
        if protocol == Protocol::Lines {
            return self.fill_by_name();
        }
        if protocol == Protocol::Poct1a {
            for (paths, places) in self.standard().into_iter().filter(|(paths, _)| paths.is_empty()) {
                *paths = Paths::of(places);
            }
        }
    }

    fn standard(&mut self) -> [(&mut Paths, Places); 3] {
        [
            (&mut self.control_name, &["CTC.name"]),
            (&mut self.control_lot, &["CTC.lot_number"]),
            (&mut self.control_level, &["CTC.level_cd"]),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_standard_place_is_a_path() {
        for (_, astm, hl7, poct1a) in Fields::default().standard() {
            for places in [astm, hl7, poct1a] {
                assert_eq!(Paths::of(places).iter().count(), places.len());
            }
        }
        for (_, wide) in Fields::default().of_wide_tables() {
            assert_eq!(Paths::of(wide).iter().count(), wide.len());
        }
        for (_, poct1a) in Qc::default().standard() {
            assert_eq!(Paths::of(poct1a).iter().count(), poct1a.len());
        }
    }
}
