//! What the host says: acknowledgments, requests, directives and the end.

use super::operators::Operator;
use quick_xml::escape::escape;

/// Why a message is refused (`ACK.R01`, type AE).
///
/// Codes are those of HL7 table 0357; the text beside them says it in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// `ACK.error_detail_cd`.
    pub code: &'static str,
    /// `ACK.note_txt`.
    pub text: &'static str,
}

/// The answer to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Accepted (AA).
    Accept,
    /// Refused (AE).
    Refuse(Fault),
}

/// Writes the host's messages; control ids count up from 1.
#[derive(Debug, Default)]
pub struct Speech {
    time: String,
    last_id: u64,
}

impl Speech {
    /// The time of day for `HDR.creation_dttm` of what follows, as ISO 8601 writes it (`2026-01-02T03:04:05+01:00`).
    pub fn set_time(&mut self, time: &str) {
        self.time.clear();
        self.time.push_str(time);
    }

    /// `ACK.R01` for the message of this control id.
    pub fn acknowledge(&mut self, control_id: &str, answer: Answer) -> Vec<u8> {
        let id = escape(control_id);
        let body = match answer {
            Answer::Accept => {
                format!("<ACK><ACK.type_cd V=\"AA\"/><ACK.ack_control_id V=\"{id}\"/></ACK>")
            }
            Answer::Refuse(Fault { code, text }) => format!(
                "<ACK><ACK.type_cd V=\"AE\"/><ACK.ack_control_id V=\"{id}\"/><ACK.note_txt V=\"{text}\"/>\
                 <ACK.error_detail_cd V=\"{code}\"/></ACK>"
            ),
        };
        self.message("ACK.R01", &body).0
    }

    /// `REQ.R01` for the stored observations (`ROBS`), and its control id.
    pub fn request(&mut self) -> (Vec<u8>, u64) {
        self.message("REQ.R01", "<REQ><REQ.request_cd V=\"ROBS\"/></REQ>")
    }

    /// `DTV.R01` `START_CONTINUOUS`: from now on the device sends by itself. And its control id.
    pub fn start_continuous(&mut self) -> (Vec<u8>, u64) {
        self.message("DTV.R01", "<DTV><DTV.command_cd V=\"START_CONTINUOUS\"/></DTV>")
    }

    /// `DTV.R02` `SET_TIME` to the time of day as it was last told, and its control id.
    pub fn set_clock(&mut self) -> (Vec<u8>, u64) {
        let body =
            format!("<DTV><DTV.command_cd V=\"SET_TIME\"/></DTV><TM><TM.dttm V=\"{}\"/></TM>", escape(&self.time));
        self.message("DTV.R02", &body)
    }

    /// `OPL.R01`: these people may use the device, and its control id. A list may take several messages.
    pub fn operators(&mut self, operators: &[Operator]) -> (Vec<u8>, u64) {
        let body: String = operators.iter().map(entry).collect();
        self.message("OPL.R01", &body)
    }

    /// `EOT.R01`: all of the operator list has been sent.
    pub fn end_of_operators(&mut self) -> Vec<u8> {
        self.message("EOT.R01", "<EOT><EOT.topic_cd V=\"OP_LST\"/></EOT>").0
    }

    /// `END.R01`: the conversation is over in the normal way. And its control id.
    pub fn end(&mut self) -> (Vec<u8>, u64) {
        self.message("END.R01", "<TRM><TRM.reason_cd V=\"NRM\"/></TRM>")
    }

    /// `ESC.R01`: the host cannot do what the message of this control id asks for.
    pub fn escape(&mut self, control_id: &str) -> Vec<u8> {
        let id = escape(control_id);
        self.message("ESC.R01", &format!("<ESC><ESC.esc_control_id V=\"{id}\"/><ESC.detail_cd V=\"OTH\"/></ESC>")).0
    }

    /// A whole message. `HDR.message_type` equals the root: a DCA Vantage that got another answered with error 300.
    fn message(&mut self, root: &str, body: &str) -> (Vec<u8>, u64) {
        self.last_id += 1;
        let (id, time) = (self.last_id, escape(&self.time));
        let text = format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><{root}><HDR><HDR.message_type V=\"{root}\"/>\
             <HDR.control_id V=\"{id}\"/><HDR.version_id V=\"POCT1\"/><HDR.creation_dttm V=\"{time}\"/></HDR>\
             {body}</{root}>"
        );
        (text.into_bytes(), id)
    }
}

/// An operator in an `OPL.R01`.
pub fn entry(operator: &Operator) -> String {
    let Operator { id, name, permission } = operator;
    let mut entry = format!("<OPR><OPR.operator_id V=\"{}\"/>", escape(id));
    if !name.is_empty() {
        entry.push_str(&format!("<OPR.name V=\"{}\"/>", escape(name)));
    }
    if !permission.is_empty() {
        entry.push_str(&format!("<ACC><ACC.permission_level_cd V=\"{}\"/></ACC>", escape(permission)));
    }
    entry + "</OPR>"
}
