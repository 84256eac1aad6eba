//! The drivers compiled in. A plain list: a new folder under `drivers/` needs one line here, and `tests/drivers.rs`
//! fails when it is missing.

/// Id of the driver for ASTM instruments nobody wrote one for.
pub const GENERIC_ASTM: &str = "generic-astm";
/// Id of the driver for HL7 instruments nobody wrote one for.
pub const GENERIC_HL7: &str = "generic-hl7";
/// Id of the driver for POCT1-A devices nobody wrote one for.
pub const GENERIC_POCT1A: &str = "generic-poct1a";
/// Id of the driver for lines that follow no standard and are not recognised.
pub const GENERIC_LINES: &str = "generic-lines";
/// Id of the driver for tables in files nobody wrote one for.
pub const GENERIC_TABLE: &str = "generic-table";

/// Id and text of every driver.
pub const DRIVERS: &[(&str, &str)] = &[
    (GENERIC_ASTM, include_str!("../../drivers/generic-astm/driver.toml")),
    (GENERIC_HL7, include_str!("../../drivers/generic-hl7/driver.toml")),
    (GENERIC_LINES, include_str!("../../drivers/generic-lines/driver.toml")),
    ("advanced-osmo1", include_str!("../../drivers/advanced-osmo1/driver.toml")),
    ("biorad-ih1000", include_str!("../../drivers/biorad-ih1000/driver.toml")),
    ("abbott-afinion", include_str!("../../drivers/abbott-afinion/driver.toml")),
    ("abbott-alinity-ci", include_str!("../../drivers/abbott-alinity-ci/driver.toml")),
    ("abbott-architect", include_str!("../../drivers/abbott-architect/driver.toml")),
    ("beckman-access", include_str!("../../drivers/beckman-access/driver.toml")),
    (GENERIC_POCT1A, include_str!("../../drivers/generic-poct1a/driver.toml")),
    (GENERIC_TABLE, include_str!("../../drivers/generic-table/driver.toml")),
    ("cepheid-genexpert", include_str!("../../drivers/cepheid-genexpert/driver.toml")),
    ("horiba-yumizen-h500", include_str!("../../drivers/horiba-yumizen-h500/driver.toml")),
    ("immucor-galileo-echo", include_str!("../../drivers/immucor-galileo-echo/driver.toml")),
    ("mindray-bc", include_str!("../../drivers/mindray-bc/driver.toml")),
    ("mindray-bs", include_str!("../../drivers/mindray-bs/driver.toml")),
    ("radiometer-abl", include_str!("../../drivers/radiometer-abl/driver.toml")),
    ("roche-cobas-6000", include_str!("../../drivers/roche-cobas-6000/driver.toml")),
    ("roche-cobas-c111", include_str!("../../drivers/roche-cobas-c111/driver.toml")),
    ("roche-cobas-c311", include_str!("../../drivers/roche-cobas-c311/driver.toml")),
    ("roche-cobas-e411", include_str!("../../drivers/roche-cobas-e411/driver.toml")),
    ("roche-cobas-psm", include_str!("../../drivers/roche-cobas-psm/driver.toml")),
    ("sensititre-swin", include_str!("../../drivers/sensititre-swin/driver.toml")),
    ("siemens-clinitek", include_str!("../../drivers/siemens-clinitek/driver.toml")),
    ("siemens-dca-vantage", include_str!("../../drivers/siemens-dca-vantage/driver.toml")),
    ("abaxis-vetscan-vs2", include_str!("../../drivers/abaxis-vetscan-vs2/driver.toml")),
    ("cepheid-genexpert-csv", include_str!("../../drivers/cepheid-genexpert-csv/driver.toml")),
    ("roche-cobas-c111-csv", include_str!("../../drivers/roche-cobas-c111-csv/driver.toml")),
    ("roche-taqman48", include_str!("../../drivers/roche-taqman48/driver.toml")),
    ("thermo-quantstudio3", include_str!("../../drivers/thermo-quantstudio3/driver.toml")),
    ("sysmex-cs", include_str!("../../drivers/sysmex-cs/driver.toml")),
    ("siemens-dca-vantage-poct1a", include_str!("../../drivers/siemens-dca-vantage-poct1a/driver.toml")),
    ("sysmex-xn", include_str!("../../drivers/sysmex-xn/driver.toml")),
    ("thermo-phadia-prime", include_str!("../../drivers/thermo-phadia-prime/driver.toml")),
    ("sysmex-xp", include_str!("../../drivers/sysmex-xp/driver.toml")),
    ("bd-bactec", include_str!("../../drivers/bd-bactec/driver.toml")),
    ("mindray-bs-hl7", include_str!("../../drivers/mindray-bs-hl7/driver.toml")),
    ("ortho-vision", include_str!("../../drivers/ortho-vision/driver.toml")),
    ("pixcell-hemoscreen", include_str!("../../drivers/pixcell-hemoscreen/driver.toml")),
    ("roche-cobas-8000", include_str!("../../drivers/roche-cobas-8000/driver.toml")),
    ("siemens-advia-centaur", include_str!("../../drivers/siemens-advia-centaur/driver.toml")),
    ("siemens-epoc", include_str!("../../drivers/siemens-epoc/driver.toml")),
    ("abbott-emerald", include_str!("../../drivers/abbott-emerald/driver.toml")),
    ("analyticon-combiscan", include_str!("../../drivers/analyticon-combiscan/driver.toml")),
    ("arkray-spotchem", include_str!("../../drivers/arkray-spotchem/driver.toml")),
    ("bd-facscalibur", include_str!("../../drivers/bd-facscalibur/driver.toml")),
    ("beckman-au", include_str!("../../drivers/beckman-au/driver.toml")),
    ("biomerieux-mini-vidas", include_str!("../../drivers/biomerieux-mini-vidas/driver.toml")),
    ("diatron-abacus", include_str!("../../drivers/diatron-abacus/driver.toml")),
    ("sysmex-xt2000i", include_str!("../../drivers/sysmex-xt2000i/driver.toml")),
    ("sysmex-xt4000i", include_str!("../../drivers/sysmex-xt4000i/driver.toml")),
    ("unnamed-esr", include_str!("../../drivers/unnamed-esr/driver.toml")),
    ("snibe-maglumi", include_str!("../../drivers/snibe-maglumi/driver.toml")),
    ("trinity-premier-hb9210", include_str!("../../drivers/trinity-premier-hb9210/driver.toml")),
];

/// True for the driver (`id` or `id@version`) that only guesses what a test is: its codes may be parts of a name, so they
/// are not listed where patients are not shown (invariant I8).
pub fn guesses_codes(driver: &str) -> bool {
    driver.split('@').next() == Some(GENERIC_LINES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Driver;

    #[test]
    fn every_driver_compiled_in_loads() {
        for (id, text) in DRIVERS {
            if let Err(error) = Driver::parse(id, text) {
                panic!("{error}");
            }
        }
    }
}
