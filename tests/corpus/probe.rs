//! What a probe says of every capture: protocol and driver.

use crate::captures;
use afferent::driver::Registry;
use afferent::workbench::probe::findings::Place;
use afferent::workbench::probe::spoken::Spoken::{self, *};
use afferent::workbench::probe::{Manner, Probe};
use std::time::Instant;

/// Capture, what is spoken, and the driver that knows the instrument. A file that is no capture of a line says what a
/// line would have to carry it as.
const EXPECTED: &[(&str, Option<Spoken>, &str)] = &[
    ("_no-licence/osmometer-osmo1/result.astm", Some(AstmBare), "advanced-osmo1"),
    ("_no-licence/sat5000-query/query.astm", Some(AstmBare), ""),
    ("_no-licence/siemens-dca-vantage-poct1a/conversation.txt", Some(Poct1a), "siemens-dca-vantage-poct1a"),
    ("_no-licence/siemens-dca-vantage-poct1a/dca_basic_conversation_flow.pcapng", None, ""),
    ("biomerieux-mini-vidas/mini_vidas.txt", Some(StxEtx), "biomerieux-mini-vidas"),
    ("biorad-ih1000/bloodtype.astm", Some(AstmBare), "biorad-ih1000"),
    ("biorad-ih1000/bloodtype_por.astm", Some(AstmBare), "biorad-ih1000"),
    ("cepheid-genexpert/genexpert.txt", Some(Astm), "cepheid-genexpert"),
    ("esr-analyzer-binary/esr_server_data.bin", None, ""),
    ("esr-analyzer-binary/esr_server_data.txt", Some(Printed), ""),
    ("esr-astm/esr.txt", Some(AstmBare), ""),
    ("file-abaxis-vetscan-csv/VetScanVS2.csv", Some(Csv), ""),
    ("file-bd-facscalibur-exp/Facscalibur.exp", Some(Csv), ""),
    ("file-cepheid-genexpert-csv/GenExpert.csv", Some(Printed), ""),
    ("file-roche-cobas-c111-csv/C111_exportfile.csv", Some(Csv), ""),
    ("file-roche-taqman48-rsf/DBS0714.rsf", Some(Csv), ""),
    ("file-sysmex-xt2000i-csv/2000i_exported_files.txt", Some(Csv), ""),
    ("file-sysmex-xt4000i-e1238/2012-05-09_CBDB6A.txt", Some(AstmBare), "sysmex-xt4000i"),
    ("file-thermo-quantstudio3-csv/quaintStudioSampleOutput.csv", Some(Csv), ""),
    ("horiba-yumizen-h500/yumizen_h500.txt", Some(Astm), "horiba-yumizen-h500"),
    ("horiba-yumizen-h550/result.astm", Some(AstmBare), "horiba-yumizen-h500"),
    ("immucor-galileo-echo/order.astm", Some(AstmBare), ""),
    ("immucor-galileo-echo/result.astm", Some(AstmBare), "immucor-galileo-echo"),
    ("lis02-standard-style/RepeatFields.txt", Some(Printed), ""),
    ("lis02-standard-style/example_lis2a2_01.txt", Some(AstmBare), ""),
    ("lis02-standard-style/example_lis2a2_02.txt", Some(AstmBare), ""),
    ("phadia-prime/PhadiaLIS2SampleMessage.txt", Some(AstmBare), "thermo-phadia-prime"),
    ("roche-cobas-c111/cobas_c111.txt", Some(Astm), "roche-cobas-c111"),
    ("roche-cobas-c311/cobas_c311.txt", Some(Astm), "roche-cobas-c311"),
    ("roche-cobas-e411/d10_error.bin", Some(Astm), "roche-cobas-e411"),
    ("roche-cobas-e411/roche_enquiry.txt", Some(Astm), "roche-cobas-e411"),
    ("roche-cobas-e411/roche_multi_frame_bytes.bin", Some(Astm), "roche-cobas-e411"),
    ("roche-cobas-e411/roche_query_for_non_existent_sample.txt", Some(Astm), "roche-cobas-e411"),
    ("roche-cobas-e411/roche_result.txt", Some(Astm), "roche-cobas-e411"),
    ("roche-cobas-psm/sample_message.txt", Some(AstmBare), "roche-cobas-psm"),
    ("sensititre-swin/lis2a.txt", Some(AstmBare), ""),
    ("siemens-clinitek-status/siemens_clinitek.txt", Some(Mllp), "siemens-clinitek"),
    ("siemens-clinitek-status/siemens_control.txt", Some(Hl7Bare), "siemens-clinitek"),
    ("siemens-dca-vantage/dca_vantage.txt", Some(Astm), "siemens-dca-vantage"),
    ("synthetic-openelis/horiba-micros60-cbc.astm", Some(AstmBare), ""),
    ("sysmex-xn550/sysmex_550_sample_qc.txt", Some(Astm), "sysmex-xn"),
    ("sysmex-xn550/sysmex_xn550.txt", Some(Astm), "sysmex-xn"),
];

#[test]
fn a_probe_knows_the_protocol_and_the_driver_of_every_capture() {
    let captures = captures();
    let registry = Registry::builtin();
    let mut wrong = Vec::new();
    for (name, raw) in &captures {
        let Some((_, spoken, driver)) = EXPECTED.iter().find(|(known, ..)| known == name) else { continue };
        let mut probe = Probe::network(Instant::now(), Manner::Listen);
        probe.hear_bytes(Instant::now(), raw);
        let found = probe.findings(Place::Listen("0.0.0.0:4001".to_string()), &registry);
        if (found.spoken, found.driver.as_deref().unwrap_or("")) != (*spoken, *driver) {
            wrong.push(format!("{name}: {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let looked_at = EXPECTED.iter().filter(|(known, ..)| captures.iter().any(|(name, _)| name == known)).count();
    assert!(captures.is_empty() || looked_at == EXPECTED.len(), "only {looked_at} captures were looked at");
}
