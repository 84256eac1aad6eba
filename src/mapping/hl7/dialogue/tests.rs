//! Promises of the dialogues, each message as a whole.

use super::*;
use crate::clinical::{Coding, OrderNumber, Patient, Specimen, WorkOrder};
use crate::message::hl7::query;

const NAMES: Names<'_> = Names { gateway: "bench", link: "chemistry", time: "20260102030405+0000" };

fn work(key: i64, placer: &str, tests: &[Coding]) -> Work {
    let mut order = WorkOrder { placer_order_number: OrderNumber::new(placer), ..WorkOrder::default() };
    order.patient.patient = Patient {
        id: Phi::new("PAT7"),
        id_authority: "HOSP".into(),
        family: Phi::new("Müller"),
        given: Phi::new("Anna|Eva"),
        birth_date: Phi::new("19700101"),
        sex: "F".into(),
        ..Patient::default()
    };
    order.specimen =
        Specimen { id: Phi::new("TUBE1"), type_code: Some(Coding::local("SER", "Serum")), ..Specimen::default() };
    order.priority = "S".into();
    let (placed, changed) = ("20260102030000+0000".to_string(), "20260102030100+0000".to_string());
    Work { key, order, tests: tests.to_vec(), placed, changed }
}

fn glucose() -> Coding {
    Coding::local("GLU", "Glucose")
}

fn asked(raw: &str, work: &[Work]) -> (HostQuery, Vec<OnSpecimen>) {
    let query = query::query(raw.replace('\n', "\r").as_bytes(), None).unwrap();
    let specimens = match &query.wanted {
        Wanted::Specimens(ids) => ids.iter().map(|id| OnSpecimen { id: id.clone(), work: work.to_vec() }).collect(),
        Wanted::All if work.is_empty() => Vec::new(),
        Wanted::All => vec![OnSpecimen { id: Phi::new("TUBE1"), work: work.to_vec() }],
        Wanted::Place(_) | Wanted::Unanswerable(_) => Vec::new(),
    };
    (query, specimens)
}

/// The reply and what follows it, a line for each segment; our own message ids are masked.
fn told(raw: &str, work: &[Work]) -> Vec<String> {
    let (query, specimens) = asked(raw, work);
    let reply = reply(&query, &specimens, &NAMES).unwrap();
    let all = std::iter::once(&reply.message).chain(reply.follow.iter().map(|dispatch| &dispatch.message));
    all.map(|message| masked(message)).collect()
}

fn masked(message: &[u8]) -> String {
    let text = String::from_utf8(message.to_vec()).unwrap();
    let id = text.split('|').nth(9).unwrap();
    assert_eq!(id.len(), 20);
    text.replacen(id, "ID", 1).trim_end().replace('\r', "\n")
}

const WOS: &str = "MSH|^~\\&|AN^1|LAB|GW|HOSP|20260102||QBP^Q11^QBP_Q11|Q1|P|2.5.1|||ER|AL||UNICODE UTF-8|||LAB-27^IHE\n\
    QPD|WOS^Work Order Step^IHELAW|TAG1|TUBE1\nRCP|I||R^^HL70394\n";

/// Every kind of message an instrument is told, for `tests/judges/run`.
#[test]
fn what_instruments_are_told_is_what_the_judges_passed() {
    let orders = [work(1, "A1", &[glucose()]), work(2, "A2", &[Coding::loinc("2160-0", "Creatinine")])];
    let one = [work(1, "A1", &[Coding::local("2", "Glucose")])];
    let display =
        "MSH|^~\\&|Mindray|BS-200E|||2026||QRY^Q02|7|P|2.3.1||||||ASCII\nQRD|2026|R|D|1|||RD|TUBE1|OTH|||T|\n";
    let order = "MSH|^~\\&|BC-5380|Mindray|||2026||ORM^O01|4|P|2.3.1||||||UNICODE\nORC|RF||TUBE1||IP\n";
    let genexpert =
        "MSH|^~\\&|ICU^GeneXpert||LIS||2026||QBP^Z03^QBP_Z03|M1|P|2.5\nQPD|Z03^HOST QUERY|T|P|TUBE1\nRCP|I\n";
    let nameless = WOS.replace("|TUBE1", "|");
    let (query, _) = asked(WOS, &orders);
    let cancel = law_orders(&query.peer, &Phi::new("TUBE1"), &orders, Control::Cancel, &NAMES).unwrap();
    let mut said = vec![("law-cancel", vec![masked(&cancel.message)])];
    for (story, raw, work) in [
        ("law", WOS, &orders[..]),
        ("law-nothing", WOS, &[][..]),
        ("law-fault", nameless.as_str(), &[][..]),
        ("display", display, &one[..]),
        ("display-nothing", display, &[][..]),
        ("order", order, &one[..]),
        ("order-nothing", order, &[][..]),
        ("genexpert", genexpert, &one[..]),
        ("genexpert-nothing", genexpert, &[][..]),
    ] {
        said.push((story, told(raw, work)));
    }
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogue");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    for (story, messages) in said {
        for (at, message) in messages.iter().enumerate() {
            let file = folder.join(format!("{story}.{}.hl7", at + 1));
            let text = format!("{message}\n");
            if update {
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(&file, &text).unwrap();
            }
            let expected = std::fs::read_to_string(&file).unwrap_or_default();
            assert_eq!(text, expected, "{}: UPDATE_GOLDEN=1 rewrites it", file.display());
        }
    }
}

#[test]
fn law_is_told_that_it_was_heard_and_then_of_the_orders() {
    let told = told(WOS, &[work(1, "A1", &[glucose()]), work(2, "A2", &[Coding::loinc("2160-0", "Creatinine")])]);
    let [response, orders] = &told[..] else { panic!("{told:?}") };
    assert_eq!(
        response,
        "MSH|^~\\&|GW|HOSP|AN^1|LAB|20260102030405+0000||RSP^K11^RSP_K11|ID|P|2.5.1|||ER|NE||UNICODE UTF-8|||LAB-27^IHE\n\
         MSA|AA|Q1\nQAK|TAG1|OK|WOS^Work Order Step^IHELAW\nQPD|WOS^Work Order Step^IHELAW|TAG1|TUBE1"
    );
    assert_eq!(
        orders,
        "MSH|^~\\&|GW|HOSP|AN^1|LAB|20260102030100+0000||OML^O33^OML_O33|ID|P|2.5.1|||ER|AL||UNICODE UTF-8|||LAB-28^IHE\n\
         PID|1||PAT7^^^HOSP^MR||Müller^Anna\\F\\Eva||19700101|F\n\
         SPM|1|TUBE1||SER^Serum^L|||||||P^Patient^HL70369\nSAC|||TUBE1\n\
         ORC|NW|A1|||||||20260102030000+0000\nTQ1|||||||||S^^HL70485\nOBR||A1||GLU^Glucose^L\n\
         ORC|NW|A2|||||||20260102030000+0000\nTQ1|||||||||S^^HL70485\nOBR||A2||2160-0^Creatinine^LN"
    );
}

#[test]
fn law_is_told_that_there_is_nothing_to_do() {
    let told = told(WOS, &[]);
    assert!(told[0].contains("\nQAK|TAG1|NF|"));
    assert_eq!(
        told[1],
        "MSH|^~\\&|GW|HOSP|AN^1|LAB|20260102030405+0000||OML^O33^OML_O33|ID|P|2.5.1|||ER|AL||UNICODE UTF-8|||LAB-28^IHE\n\
         SPM|1|||\"\"|||||||U^Unknown^HL70369\nSAC|||TUBE1\nORC|DC||||||||20260102030405+0000"
    );
}

#[test]
fn nobodys_orders_go_to_what_names_no_specimen() {
    for (parameters, why) in [
        ("WOS^^IHELAW|T|", "names no specimen"),
        ("WOS^^IHELAW|T|\"\"", "names no specimen"),
        ("WOS^^IHELAW|T|  ", "names no specimen"),
        ("WOS_BY_RACK^^IHELAW|T||R1|", "names no place"),
        ("WOS_BY_TRAY^^IHELAW|T||R1|4", "names no place"),
        ("WOX^^IHELAW|T|TUBE1", "not known here"),
    ] {
        let raw = WOS.replace("WOS^Work Order Step^IHELAW|TAG1|TUBE1", parameters);
        let told = told(&raw, &[work(1, "A1", &[glucose()])]);
        assert_eq!(told.len(), 1, "{parameters}: {told:?}");
        assert!(told[0].contains("\nMSA|AE|Q1\n") && told[0].contains("|AE|") && told[0].contains(why), "{told:?}");
    }
    // A line that is no segment: what the query says cannot be relied on.
    let damaged = WOS.replace("RCP|", "\u{7}x|");
    assert_eq!(told(&damaged, &[work(1, "A1", &[glucose()])]).len(), 1);
}

/// LAB-27 wants a negative query response wherever there is no work, and which tube stands in a place only the analyzer
/// knows: it asks again with the id once it has read the label.
#[test]
fn for_a_place_on_a_rack_or_a_tray_there_is_nothing_to_do() {
    for (parameters, sac) in [
        ("WOS_BY_RACK^Work Order Step By Rack^IHELAW|T||R&1|4", "SAC||||||||||R&1|4"),
        ("WOS_BY_TRAY^Work Order Step By Tray^IHELAW|T||||TR1|4", "SAC|||||||||||||TR1|4"),
    ] {
        let raw = WOS.replace("WOS^Work Order Step^IHELAW|TAG1|TUBE1", parameters);
        let told = told(&raw, &[work(1, "A1", &[glucose()])]);
        let [response, nothing] = &told[..] else { panic!("{told:?}") };
        assert!(response.contains("\nMSA|AA|Q1\n") && response.contains("\nQAK|T|NF|"), "{response}");
        let lines: Vec<&str> = nothing.lines().collect();
        assert_eq!(lines[1..], ["SPM|1|||\"\"|||||||U^Unknown^HL70369", sac, "ORC|DC||||||||20260102030405+0000"]);
    }
}

#[test]
fn everything_is_told_by_specimen() {
    let raw = WOS.replace("WOS^Work Order Step^IHELAW|TAG1|TUBE1", "WOS_ALL^Work Order Step All^IHELAW|TAG1");
    assert_eq!(told(&raw, &[work(1, "A1", &[glucose()])]).len(), 2);
    let none = told(&raw, &[]);
    assert_eq!(none.len(), 1, "there is no specimen to say of that nothing is to be done: {none:?}");
}

#[test]
fn i5_the_same_orders_have_the_same_message_whoever_asks_and_whenever() {
    let (query, specimens) = asked(WOS, &[work(1, "A1", &[glucose()])]);
    let later = Names { time: "20260102040000+0000", ..NAMES };
    let (one, other) = (reply(&query, &specimens, &NAMES).unwrap(), reply(&query, &specimens, &later).unwrap());
    assert_eq!(one.follow, other.follow);
    let (_, changed) = asked(WOS, &[work(1, "A1", &[Coding::local("GLU2", "")])]);
    assert_ne!(masked(&one.follow[0].message), "");
    assert_ne!(one.follow[0].message, reply(&query, &changed, &NAMES).unwrap().follow[0].message);
    let orders = [work(1, "A1", &[glucose()])];
    let cancel = law_orders(&query.peer, &Phi::new("TUBE1"), &orders, Control::Cancel, &NAMES).unwrap();
    assert!(masked(&cancel.message).contains("\nORC|CA|A1|"));
    assert_ne!(id_of(&cancel.message), id_of(&one.follow[0].message));
}

fn id_of(message: &[u8]) -> String {
    String::from_utf8_lossy(message).split('|').nth(9).unwrap().to_string()
}

#[test]
fn an_answer_says_what_became_of_each_order() {
    let orders = [work(1, "A1", &[glucose()]), work(2, "A2", &[glucose(), Coding::local("CRE", "")])];
    let (query, specimens) = asked(WOS, &orders);
    let dispatch = &reply(&query, &specimens, &NAMES).unwrap().follow[0];
    let said = |text: &str| {
        let raw = format!("MSH|^~\\&|AN|LAB|GW|HOSP|2026||ORL^O34^ORL_O34|R1|P|2.5.1\r{text}");
        outcomes(dispatch, &query::answer(raw.as_bytes(), None).unwrap())
    };
    use Outcome::{Accepted, Refused};
    assert_eq!(said("MSA|AA|X\r"), [(1, Accepted), (2, Accepted)]);
    assert_eq!(said("MSA|AR|X\r"), [(1, Refused), (2, Refused)]);
    let by_order = "MSA|AA|X\rSPM|1\rSAC|||TUBE1\rORC|UA|A1\rORC|OK|A2\rOBR||A2\r";
    assert_eq!(said(by_order), [(1, Refused), (2, Accepted)]);
    // The second test of A2 has a number of its own; one of the two is enough.
    assert_eq!(said("MSA|AA|X\rORC|UA|A2\rORC|OK||\rOBR||A2-2\r"), [(1, Accepted), (2, Accepted)]);
    assert_eq!(said("MSA|AA|X\rORC|UA|A2\rORC|UA|A2-2\r"), [(1, Accepted), (2, Refused)]);
}

#[test]
fn a_display_query_is_answered_line_by_line() {
    let raw = "MSH|^~\\&|Mindray|BS-200E|||20070723170707||QRY^Q02|7|P|2.3.1||||||ASCII|||\n\
        QRD|20070723170707|R|D|1|||RD|TUBE1|OTH|||T|\nQRF|BS-200E|||||RCT|COR|ALL||\n";
    let both = told(raw, &[work(1, "A1", &[Coding::local("2", "Glucose")])]);
    assert_eq!(
        both[0],
        "MSH|^~\\&|||Mindray|BS-200E|20260102030405+0000||QCK^Q02|ID|P|2.3.1||||||ASCII\n\
         MSA|AA|7|Message accepted|||0\nERR|0\nQAK|SR|OK"
    );
    let lines: Vec<&str> = both[1].lines().collect();
    assert_eq!(lines[4..6], ["QRD|20070723170707|R|D|1|||RD|TUBE1|OTH|||T|", "QRF|BS-200E|||||RCT|COR|ALL||"]);
    assert_eq!((lines.len(), *lines.last().unwrap()), (6 + 29 + 1, "DSC"));
    for line in
        ["DSP|1||PAT7", "DSP|4||19700101", "DSP|5||F", "DSP|21||TUBE1", "DSP|24||Y", "DSP|26||serum", "DSP|29||2^^^"]
    {
        assert!(lines.contains(&line), "{line}: {}", both[1]);
    }
    assert!(lines.contains(&"DSP|3"), "a name that ASCII lacks is left out, not spelt otherwise");
    let none = told(raw, &[]);
    assert_eq!(none.len(), 1);
    assert!(none[0].ends_with("QAK|SR|NF"));
}

#[test]
fn an_order_query_is_answered_with_the_order() {
    let raw = "MSH|^~\\&|BC-5380|Mindray|||20250220141500||ORM^O01|4|P|2.3.1||||||UNICODE\nORC|RF||TUBE1||IP\n";
    assert_eq!(
        told(raw, &[work(1, "A1", &[Coding::local("CBC+DIFF", "")])]),
        ["MSH|^~\\&|||BC-5380|Mindray|20260102030405+0000||ORR^O02|ID|P|2.3.1||||||UNICODE\nMSA|AA|4\n\
          PID|1||PAT7^^^HOSP^MR||Müller^Anna\\F\\Eva||19700101|F\nPV1|1|U\nORC|AF|TUBE1\nOBR|1|TUBE1||CBC+DIFF^^L||||||||||||||||||||HM\n\
          OBX|1|IS|08003^Test Mode^99MRC||CBC+DIFF||||||F"]
    );
    let none = told(raw, &[]);
    assert!(none[0].ends_with("\nMSA|AR|4"), "{none:?}");
    assert!(told(&raw.replace("TUBE1", ""), &[work(1, "A1", &[glucose()])])[0].ends_with("\nMSA|AR|4"));
}

#[test]
fn a_genexpert_is_told_in_the_reply_itself() {
    let raw = "MSH|^~\\&|ICU^GeneXpert^1.0||LIS||20070521100245||QBP^Z03^QBP_Z03|M1|P|2.5\n\
        QPD|Z03^HOST QUERY|TAG1|PAT7|TUBE1|\nRCP|I\n";
    assert_eq!(
        told(raw, &[work(1, "A1", &[Coding::local("FLUA", "")])]),
        ["MSH|^~\\&|LIS||ICU^GeneXpert^1.0||20260102030405+0000||RSP^Z02|ID|P|2.5|||NE|NE\nMSA|AA|M1\n\
          QAK|TAG1|OK|Z03^HOST QUERY\nQPD|Z03^HOST QUERY|TAG1|PAT7|TUBE1|\n\
          PID|1||PAT7^^^HOSP^MR||^^^^^^U||19700101|F\nORC|NW|1|||||||20260102030000+0000\nOBR|1|||FLUA|||||||A\n\
          TQ1|||||||||S\nSPM|1|TUBE1||ORH|||||||P"]
    );
    assert_eq!(told(raw, &[])[0].lines().count(), 4, "no orders, and still OK: that is how it is told");
}

#[test]
fn a_query_in_other_delimiters_is_answered_in_the_usual_ones() {
    let raw = WOS.replace('^', "@");
    let told = told(&raw, &[]);
    assert!(told[0].contains("\nQPD|WOS^Work Order Step^IHELAW|TAG1|TUBE1"), "{}", told[0]);
}

#[test]
fn the_authority_of_a_record_number_is_written_as_hd() {
    for (authority, written) in [
        ("HOSP", "4711^^^HOSP^MR"),
        ("^http://hospital.example^URI", "4711^^^&http://hospital.example&URI^MR"),
        ("^1.2.3^ISO", "4711^^^&1.2.3&ISO^MR"),
        ("HOSP^1.2.3^ISO", "4711^^^HOSP&1.2.3&ISO^MR"),
        ("", "4711^^^^MR"),
    ] {
        assert_eq!(super::super::record_number("4711", authority), written);
    }
}
