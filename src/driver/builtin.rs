//! The drivers compiled in. A plain list: a new folder under `drivers/` needs one line here, and `tests/drivers.rs`
//! fails when it is missing.

/// Id of the driver for ASTM instruments nobody wrote one for.
pub const GENERIC_ASTM: &str = "generic-astm";
/// Id of the driver for HL7 instruments nobody wrote one for.
pub const GENERIC_HL7: &str = "generic-hl7";

/// Id and text of every driver.
pub const DRIVERS: &[(&str, &str)] = &[
    (GENERIC_ASTM, include_str!("../../drivers/generic-astm/driver.toml")),
    (GENERIC_HL7, include_str!("../../drivers/generic-hl7/driver.toml")),
];

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
