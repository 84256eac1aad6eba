//! How a message of the EHR is answered: ORL, ORR or ACK (HL7 v2 chapters 2.13 and 4.4). Pure, and the same again for
//! the same message: its own time and name are made of the message and the moment of its custody.

use super::fault::{self, Fault};
use super::read::{Asked, Request};
use crate::journal::{OrderOutcome, StoredOrders};
use crate::mapping::message_id;
use crate::wire::mllp::{Answer, Msh, Reply, Verdict};

/// Answers a message. `stored` are the outcomes of all changes of `asked`, in order.
pub fn answer(raw: &[u8], msh: &Msh<'_>, asked: &Result<Asked, Fault>, stored: &StoredOrders) -> Reply {
    let mut outcomes = stored.outcomes.iter().copied();
    let requests: &[Request] = asked.as_ref().map_or(&[], |asked| &asked.requests);
    let told: Vec<(&Request, Option<Fault>)> =
        requests.iter().map(|request| (request, refusal(request, &mut outcomes))).collect();
    let faults: Vec<Fault> = match asked {
        Err(fault) => vec![*fault],
        Ok(_) => told.iter().filter_map(|(_, fault)| *fault).collect(),
    };
    let verdict = match (asked, faults.first()) {
        (_, None) => Verdict::Accepted,
        (Err(fault), _) if fault.is_rejection => Verdict::Rejected,
        _ => Verdict::Failed,
    };
    let kind: [&[u8]; 3] = match (msh.component(9, 1), msh.component(9, 2)) {
        (b"OML", b"O21") => [b"ORL", b"O22", b"ORL_O22"],
        (b"OML", b"O33") => [b"ORL", b"O34", b"ORL_O34"],
        (b"OMI", _) => [b"ORI", b"O24", b"ORI_O24"],
        (b"ORM", _) => [b"ORR", b"O02", b"ORR_O02"],
        (_, event) => [b"ACK", event, b"ACK"],
    };
    let time = jiff::Timestamp::from_millisecond(stored.received_ms).unwrap_or_default();
    let time = time.to_zoned(jiff::tz::TimeZone::UTC).strftime("%Y%m%d%H%M%S%z").to_string();
    let text = faults.first().map_or("", |fault| fault.text);
    // Entries are counted anew in a new journal.
    let control_id = message_id(&[b"answer", raw, &stored.received_ms.to_be_bytes(), &stored.entry.0.to_be_bytes()]);
    let mut answer = Answer::begin(msh, &kind, verdict.application_code(), &control_id, &time, text);
    for fault in &faults {
        let mut place = Vec::new();
        if let Some((segment, sequence, field)) = fault.place {
            place.extend([segment.to_string(), sequence.to_string()]);
            place.extend((field > 0).then(|| field.to_string()));
        }
        let place: Vec<&[u8]> = place.iter().map(String::as_bytes).collect();
        answer.error(msh, &place, (fault.code, fault.meaning), fault.text);
    }
    if kind[0] != b"ACK" && !told.is_empty() {
        echo(raw, msh, kind[1] == b"O34", &told, &mut answer);
    }
    Reply { verdict, message: answer.finish() }
}

/// Why a request was not carried out; takes as many outcomes as it has changes.
fn refusal(request: &Request, outcomes: &mut impl Iterator<Item = OrderOutcome>) -> Option<Fault> {
    let changes = match &request.changes {
        Ok(changes) => changes,
        Err(fault) => return Some(*fault),
    };
    let mut refused = None;
    for outcome in outcomes.by_ref().take(changes.len()) {
        refused = refused.or(match outcome {
            OrderOutcome::Accepted => None,
            OrderOutcome::Unknown => Some(fault::unknown_order(request.orc)),
            OrderOutcome::Duplicate => Some(fault::duplicate_order(request.orc)),
            OrderOutcome::TooLate => Some(fault::too_late(request.orc)),
        });
    }
    refused
}

/// Patient, specimens and orders of the message, each order with what became of it.
fn echo(raw: &[u8], msh: &Msh<'_>, with_specimens: bool, told: &[(&Request, Option<Fault>)], answer: &mut Answer) {
    let separator = msh.field_separator;
    let lines = || raw.split(|b| matches!(b, b'\r' | b'\n')).map(<[u8]>::trim_ascii_start);
    let is = |line: &[u8], name: &[u8]| line.strip_prefix(name).is_some_and(|rest| rest.first() == Some(&separator));
    let field =
        |line: &[u8], n: usize| -> Vec<u8> { line.split(|b| *b == separator).nth(n).unwrap_or_default().to_vec() };
    let (mut orcs, mut has_patient) = (0, false);
    for line in lines() {
        let is_patient = is(line, b"PID") && !std::mem::replace(&mut has_patient, true);
        if is_patient || with_specimens && (is(line, b"SPM") || is(line, b"SAC")) {
            answer.echo(line);
        } else if is(line, b"ORC") {
            orcs += 1;
            for (request, fault) in told.iter().filter(|(request, _)| request.orc == orcs) {
                let obr = request.obr.checked_sub(1).and_then(|at| lines().filter(|line| is(line, b"OBR")).nth(at));
                let [mut placer, filler, group] = [2, 3, 4].map(|n| field(line, n));
                if placer.is_empty() {
                    placer = obr.map(|obr| field(obr, 2)).unwrap_or_default();
                }
                let code = response(&request.control, fault.is_none());
                answer.segment(&[b"ORC", code.as_bytes(), &placer, &filler, &group]);
                if let Some(obr) = obr {
                    let [number, placer, filler, service] = [1, 2, 3, 4].map(|n| field(obr, n));
                    answer.segment(&[b"OBR", &number, &placer, &filler, &service]);
                    // ORI^O24 names the steps again; no other answer has an IPC.
                    let behind = lines().skip_while(|line| !std::ptr::eq(*line, obr)).skip(1);
                    let own = behind.take_while(|line| !is(line, b"ORC") && !is(line, b"OBR"));
                    own.filter(|line| is(line, b"IPC")).for_each(|ipc| answer.echo(ipc));
                }
            }
        }
    }
}

/// ORC-1 of the answer (table 0119).
fn response(control: &str, done: bool) -> &'static str {
    match (control, done) {
        ("CA" | "OC", true) => "CR",
        ("CA" | "OC", false) => "UC",
        ("DC" | "OD", true) => "DR",
        ("DC" | "OD", false) => "UD",
        ("XO", true) => "XR",
        ("XO", false) => "UX",
        ("RP", true) => "RQ",
        ("RP", false) => "UM",
        (_, true) => "OK",
        (_, false) => "UA",
    }
}

#[cfg(test)]
mod tests;
