//! Command sets (PS3.7 section 6.3): what a DIMSE message wants, or answers, before its data set.
//!
//! A command set is always Implicit VR Little Endian, group 0000 alone, group length first. [`Command`] keeps every
//! element it was given, also those that nobody here reads, and writes them in the order of their tags. Reading is
//! lenient where nothing depends on it: a missing or wrong group length, an odd length, a UID padded with a space.

use std::collections::BTreeMap;

/// Longest command set that is read, in bytes. The longest one in use carries a list of attributes and stays below 4 KB.
pub const COMMAND_MAX: usize = 64 * 1024;
/// Longest Error Comment (0000,0902), in characters (LO).
pub const ERROR_COMMENT_MAX: usize = 64;
/// Command Data Set Type (0000,0800) when no data set follows; any other value says that one does.
const NO_DATA_SET: u16 = 0x0101;
/// Command Data Set Type when a data set follows.
const DATA_SET: u16 = 0x0001;
/// Set in the Command Field of every response.
const RESPONSE: u16 = 0x8000;
/// Priority medium (0000,0700).
const MEDIUM: u16 = 0;

/// Values of Command Field (0000,0100), PS3.7 Annex E.1. A response is its request with 8000H added.
pub mod field {
    /// C-STORE-RQ.
    pub const C_STORE_RQ: u16 = 0x0001;
    /// C-GET-RQ.
    pub const C_GET_RQ: u16 = 0x0010;
    /// C-FIND-RQ.
    pub const C_FIND_RQ: u16 = 0x0020;
    /// C-MOVE-RQ.
    pub const C_MOVE_RQ: u16 = 0x0021;
    /// C-ECHO-RQ.
    pub const C_ECHO_RQ: u16 = 0x0030;
    /// C-CANCEL-RQ, which has no response of its own.
    pub const C_CANCEL_RQ: u16 = 0x0FFF;
    /// N-EVENT-REPORT-RQ.
    pub const N_EVENT_REPORT_RQ: u16 = 0x0100;
    /// N-GET-RQ.
    pub const N_GET_RQ: u16 = 0x0110;
    /// N-SET-RQ.
    pub const N_SET_RQ: u16 = 0x0120;
    /// N-ACTION-RQ.
    pub const N_ACTION_RQ: u16 = 0x0130;
    /// N-CREATE-RQ.
    pub const N_CREATE_RQ: u16 = 0x0140;
    /// N-DELETE-RQ.
    pub const N_DELETE_RQ: u16 = 0x0150;
}

/// Values of Status (0000,0900), PS3.7 Annex C and PS3.4.
pub mod status {
    /// Success.
    pub const SUCCESS: u16 = 0x0000;
    /// Processing failure.
    pub const PROCESSING_FAILURE: u16 = 0x0110;
    /// Duplicate SOP instance.
    pub const DUPLICATE_INSTANCE: u16 = 0x0111;
    /// No such object instance.
    pub const NO_SUCH_INSTANCE: u16 = 0x0112;
    /// Invalid object instance: the SOP Instance UID breaks the rules of a UID.
    pub const INVALID_INSTANCE: u16 = 0x0117;
    /// SOP class not supported.
    pub const CLASS_NOT_SUPPORTED: u16 = 0x0122;
    /// There is no such event type.
    pub const NO_SUCH_EVENT: u16 = 0x0113;
    /// An argument of the request is wrong.
    pub const INVALID_ARGUMENT: u16 = 0x0115;
    /// There is no such action type.
    pub const NO_SUCH_ACTION: u16 = 0x0123;
    /// Refused: not authorised.
    pub const NOT_AUTHORISED: u16 = 0x0124;
    /// Unrecognised operation.
    pub const UNRECOGNISED_OPERATION: u16 = 0x0211;
    /// Resource limitation.
    pub const RESOURCE_LIMITATION: u16 = 0x0213;
    /// Refused: out of resources (C-STORE, C-FIND).
    pub const OUT_OF_RESOURCES: u16 = 0xA700;
    /// Error: data set does not match SOP class (C-STORE), identifier does not match SOP class (C-FIND).
    pub const DOES_NOT_MATCH_CLASS: u16 = 0xA900;
    /// Error: cannot understand (C-STORE), unable to process (C-FIND).
    pub const CANNOT_UNDERSTAND: u16 = 0xC000;
    /// Matching terminated by a C-CANCEL.
    pub const CANCELLED: u16 = 0xFE00;
    /// Matches are continuing, and every optional key was supported.
    pub const PENDING: u16 = 0xFF00;
    /// Matches are continuing, and an optional key was not supported.
    pub const PENDING_KEYS_IGNORED: u16 = 0xFF01;

    /// True for the two statuses after which more responses come.
    pub fn is_pending(status: u16) -> bool {
        matches!(status, PENDING | PENDING_KEYS_IGNORED)
    }

    /// True when the peer did what was asked, perhaps with a warning (0001, 0107, 0116, Bxxx; PS3.7 Annex C).
    pub fn is_done(status: u16) -> bool {
        matches!(status, SUCCESS | 0x0001 | 0x0107 | 0x0116 | 0xB000..=0xBFFF)
    }
}

/// Element numbers of group 0000.
mod element {
    pub const GROUP_LENGTH: u16 = 0x0000;
    pub const AFFECTED_SOP_CLASS_UID: u16 = 0x0002;
    pub const REQUESTED_SOP_CLASS_UID: u16 = 0x0003;
    pub const COMMAND_FIELD: u16 = 0x0100;
    pub const MESSAGE_ID: u16 = 0x0110;
    pub const MESSAGE_ID_RESPONDED_TO: u16 = 0x0120;
    pub const MOVE_DESTINATION: u16 = 0x0600;
    pub const PRIORITY: u16 = 0x0700;
    pub const DATA_SET_TYPE: u16 = 0x0800;
    pub const STATUS: u16 = 0x0900;
    pub const ERROR_COMMENT: u16 = 0x0902;
    pub const ERROR_ID: u16 = 0x0903;
    pub const AFFECTED_SOP_INSTANCE_UID: u16 = 0x1000;
    pub const REQUESTED_SOP_INSTANCE_UID: u16 = 0x1001;
    pub const EVENT_TYPE_ID: u16 = 0x1002;
    pub const ATTRIBUTE_IDENTIFIER_LIST: u16 = 0x1005;
    pub const ACTION_TYPE_ID: u16 = 0x1008;
    pub const MOVE_ORIGINATOR_AE_TITLE: u16 = 0x1030;
    pub const MOVE_ORIGINATOR_MESSAGE_ID: u16 = 0x1031;
}

/// Why bytes are no command set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommandFault {
    /// An element is cut short.
    #[error("the command set is cut short")]
    Truncated,
    /// An element of another group, as in a data set or in Explicit VR.
    #[error("the command set holds an element outside of group 0000")]
    Group,
    /// No Command Field (0000,0100), or one that is no number.
    #[error("the command set has no Command Field")]
    NoField,
    /// More than [`COMMAND_MAX`] bytes.
    #[error("the command set is too long")]
    TooLong,
}

/// A DIMSE command set.
#[derive(Clone, PartialEq, Eq)]
pub struct Command {
    /// Values by element number, without the group length, which is counted when writing.
    elements: BTreeMap<u16, Vec<u8>>,
}

impl Command {
    /// Reads a command set, all of it.
    ///
    /// # Errors
    /// [`CommandFault`] for bytes that are none.
    pub fn read(mut bytes: &[u8]) -> Result<Command, CommandFault> {
        if bytes.len() > COMMAND_MAX {
            return Err(CommandFault::TooLong);
        }
        let mut elements = BTreeMap::new();
        while !bytes.is_empty() {
            let (header, rest) = bytes.split_first_chunk::<8>().ok_or(CommandFault::Truncated)?;
            let [g0, g1, e0, e1, length @ ..] = *header;
            if u16::from_le_bytes([g0, g1]) != 0 {
                return Err(CommandFault::Group);
            }
            let length = u32::from_le_bytes(length) as usize;
            let (value, rest) = rest.split_at_checked(length).ok_or(CommandFault::Truncated)?;
            elements.insert(u16::from_le_bytes([e0, e1]), value.to_vec());
            bytes = rest;
        }
        elements.remove(&element::GROUP_LENGTH);
        let command = Command { elements };
        command.number(element::COMMAND_FIELD).ok_or(CommandFault::NoField)?;
        Ok(command)
    }

    /// The bytes of the command set.
    pub fn write(&self) -> Vec<u8> {
        let length: usize = self.elements.values().map(|value| 8 + value.len()).sum();
        let mut bytes = Vec::with_capacity(12 + length);
        let mut put = |number: u16, value: &[u8]| {
            bytes.extend_from_slice(&[0, 0]);
            bytes.extend_from_slice(&number.to_le_bytes());
            bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
            bytes.extend_from_slice(value);
        };
        put(element::GROUP_LENGTH, &(length as u32).to_le_bytes());
        self.elements.iter().for_each(|(number, value)| put(*number, value));
        bytes
    }

    /// Command Field (0000,0100); see [`field`].
    pub fn field(&self) -> u16 {
        self.number(element::COMMAND_FIELD).unwrap_or_default()
    }

    /// True for a response.
    pub fn is_response(&self) -> bool {
        self.field() & RESPONSE != 0
    }

    /// Message ID (0000,0110) of a request; 0 when it has none.
    pub fn message_id(&self) -> u16 {
        self.number(element::MESSAGE_ID).unwrap_or_default()
    }

    /// Message ID Being Responded To (0000,0120) of a response or a C-CANCEL-RQ.
    pub fn message_id_responded_to(&self) -> Option<u16> {
        self.number(element::MESSAGE_ID_RESPONDED_TO)
    }

    /// Affected SOP Class UID (0000,0002), else Requested SOP Class UID (0000,0003), without padding.
    pub fn sop_class_uid(&self) -> Option<String> {
        self.text(element::AFFECTED_SOP_CLASS_UID).or_else(|| self.text(element::REQUESTED_SOP_CLASS_UID))
    }

    /// Affected SOP Instance UID (0000,1000), else Requested SOP Instance UID (0000,1001), without padding. It is what
    /// the peer wrote, which may be no UID at all: see [`super::uid::is_uid`].
    pub fn sop_instance_uid(&self) -> Option<String> {
        self.text(element::AFFECTED_SOP_INSTANCE_UID).or_else(|| self.text(element::REQUESTED_SOP_INSTANCE_UID))
    }

    /// Status (0000,0900) of a response; see [`status`].
    pub fn status(&self) -> Option<u16> {
        self.number(element::STATUS)
    }

    /// True when a data set follows; also when the element that says so is missing from a C-STORE-RQ, which is nothing
    /// without one.
    pub fn has_data_set(&self) -> bool {
        match self.number(element::DATA_SET_TYPE) {
            Some(kind) => kind != NO_DATA_SET,
            None => self.field() == field::C_STORE_RQ,
        }
    }

    /// Priority (0000,0700): 0 medium, 1 high, 2 low.
    pub fn priority(&self) -> u16 {
        self.number(element::PRIORITY).unwrap_or(MEDIUM)
    }

    /// Event Type ID (0000,1002).
    pub fn event_type_id(&self) -> Option<u16> {
        self.number(element::EVENT_TYPE_ID)
    }

    /// Action Type ID (0000,1008).
    pub fn action_type_id(&self) -> Option<u16> {
        self.number(element::ACTION_TYPE_ID)
    }

    /// Error Comment (0000,0902) of a response.
    pub fn error_comment(&self) -> Option<String> {
        self.text(element::ERROR_COMMENT)
    }

    /// Error ID (0000,0903) of a response.
    pub fn error_id(&self) -> Option<u16> {
        self.number(element::ERROR_ID)
    }

    /// Move Destination (0000,0600), an AE title.
    pub fn move_destination(&self) -> Option<String> {
        self.text(element::MOVE_DESTINATION)
    }

    /// Move Originator AE Title (0000,1030) of a C-STORE-RQ that a C-MOVE caused.
    pub fn move_originator_ae_title(&self) -> Option<String> {
        self.text(element::MOVE_ORIGINATOR_AE_TITLE)
    }

    /// Move Originator Message ID (0000,1031).
    pub fn move_originator_message_id(&self) -> Option<u16> {
        self.number(element::MOVE_ORIGINATOR_MESSAGE_ID)
    }

    /// Attribute Identifier List (0000,1005) of an N-GET-RQ: group and element of each attribute.
    pub fn attribute_identifiers(&self) -> Vec<(u16, u16)> {
        let value = self.elements.get(&element::ATTRIBUTE_IDENTIFIER_LIST).map_or(&[][..], Vec::as_slice);
        let pairs = value.chunks_exact(4);
        pairs.map(|tag| (u16::from_le_bytes([tag[0], tag[1]]), u16::from_le_bytes([tag[2], tag[3]]))).collect()
    }

    /// C-ECHO-RQ.
    pub fn echo_request(message_id: u16) -> Command {
        Command::request(field::C_ECHO_RQ, message_id).uid(element::AFFECTED_SOP_CLASS_UID, super::uid::VERIFICATION)
    }

    /// C-STORE-RQ; the instance follows.
    pub fn store_request(message_id: u16, sop_class_uid: &str, sop_instance_uid: &str) -> Command {
        Command::request(field::C_STORE_RQ, message_id)
            .affected(sop_class_uid, Some(sop_instance_uid))
            .set(element::PRIORITY, MEDIUM)
            .with_data_set()
    }

    /// C-FIND-RQ; the identifier follows.
    pub fn find_request(message_id: u16, sop_class_uid: &str) -> Command {
        Command::query(field::C_FIND_RQ, message_id, sop_class_uid)
    }

    /// C-GET-RQ; the identifier follows.
    pub fn get_request(message_id: u16, sop_class_uid: &str) -> Command {
        Command::query(field::C_GET_RQ, message_id, sop_class_uid)
    }

    /// C-MOVE-RQ to the application entity of this title; the identifier follows.
    pub fn move_request(message_id: u16, sop_class_uid: &str, destination: &str) -> Command {
        Command::query(field::C_MOVE_RQ, message_id, sop_class_uid)
            .put(element::MOVE_DESTINATION, padded(destination, b' '))
    }

    /// C-CANCEL-RQ for the request of this message ID.
    pub fn cancel_request(message_id: u16) -> Command {
        Command { elements: BTreeMap::new() }
            .set(element::COMMAND_FIELD, field::C_CANCEL_RQ)
            .set(element::MESSAGE_ID_RESPONDED_TO, message_id)
            .set(element::DATA_SET_TYPE, NO_DATA_SET)
    }

    /// N-CREATE-RQ; the attribute list follows. Without an instance UID the peer makes one.
    pub fn create_request(message_id: u16, sop_class_uid: &str, sop_instance_uid: Option<&str>) -> Command {
        Command::request(field::N_CREATE_RQ, message_id).affected(sop_class_uid, sop_instance_uid).with_data_set()
    }

    /// N-SET-RQ; the modification list follows.
    pub fn set_request(message_id: u16, sop_class_uid: &str, sop_instance_uid: &str) -> Command {
        Command::request(field::N_SET_RQ, message_id).requested(sop_class_uid, sop_instance_uid).with_data_set()
    }

    /// N-GET-RQ for these attributes, all when there are none.
    pub fn attributes_request(
        message_id: u16,
        sop_class_uid: &str,
        sop_instance_uid: &str,
        attributes: &[(u16, u16)],
    ) -> Command {
        let command = Command::request(field::N_GET_RQ, message_id).requested(sop_class_uid, sop_instance_uid);
        if attributes.is_empty() {
            return command;
        }
        let tags = attributes.iter().flat_map(|(group, number)| [group.to_le_bytes(), number.to_le_bytes()]);
        command.put(element::ATTRIBUTE_IDENTIFIER_LIST, tags.flatten().collect())
    }

    /// N-ACTION-RQ; the action's information follows.
    pub fn action_request(
        message_id: u16,
        sop_class_uid: &str,
        sop_instance_uid: &str,
        action_type_id: u16,
    ) -> Command {
        Command::request(field::N_ACTION_RQ, message_id)
            .requested(sop_class_uid, sop_instance_uid)
            .set(element::ACTION_TYPE_ID, action_type_id)
            .with_data_set()
    }

    /// N-EVENT-REPORT-RQ; the event's information follows.
    pub fn event_report_request(
        message_id: u16,
        sop_class_uid: &str,
        sop_instance_uid: &str,
        event_type_id: u16,
    ) -> Command {
        Command::request(field::N_EVENT_REPORT_RQ, message_id)
            .affected(sop_class_uid, Some(sop_instance_uid))
            .set(element::EVENT_TYPE_ID, event_type_id)
            .with_data_set()
    }

    /// N-DELETE-RQ.
    pub fn delete_request(message_id: u16, sop_class_uid: &str, sop_instance_uid: &str) -> Command {
        Command::request(field::N_DELETE_RQ, message_id).requested(sop_class_uid, sop_instance_uid)
    }

    /// The response to this request, without a data set. SOP class, SOP instance, event and action type are those of the
    /// request, where it has them.
    pub fn response(request: &Command, status: u16) -> Command {
        let mut response = Command { elements: BTreeMap::new() }
            .set(element::COMMAND_FIELD, request.field() | RESPONSE)
            .set(element::MESSAGE_ID_RESPONDED_TO, request.message_id())
            .set(element::DATA_SET_TYPE, NO_DATA_SET)
            .set(element::STATUS, status);
        let kept = [
            (element::AFFECTED_SOP_CLASS_UID, element::REQUESTED_SOP_CLASS_UID),
            (element::AFFECTED_SOP_INSTANCE_UID, element::REQUESTED_SOP_INSTANCE_UID),
            (element::EVENT_TYPE_ID, element::EVENT_TYPE_ID),
            (element::ACTION_TYPE_ID, element::ACTION_TYPE_ID),
        ];
        for (affected, requested) in kept {
            let value = request.elements.get(&affected).or_else(|| request.elements.get(&requested));
            if let Some(value) = value {
                response.elements.insert(affected, value.clone());
            }
        }
        response
    }

    /// The same, under this Message ID (0000,0110).
    pub fn with_message_id(self, message_id: u16) -> Command {
        self.set(element::MESSAGE_ID, message_id)
    }

    /// The same, with a data set behind it.
    pub fn with_data_set(self) -> Command {
        self.set(element::DATA_SET_TYPE, DATA_SET)
    }

    /// The same, for the instance of this UID: of a response to an N-CREATE-RQ that left its UID to us.
    pub fn with_sop_instance_uid(self, uid: &str) -> Command {
        self.uid(element::AFFECTED_SOP_INSTANCE_UID, uid)
    }

    /// The same, saying why. Cut to [`ERROR_COMMENT_MAX`] characters, and to ASCII: a command set knows no other.
    pub fn with_error_comment(self, comment: &str) -> Command {
        let plain = comment.chars().map(|c| if matches!(c, ' '..='~') && c != '\\' { c } else { '?' });
        let text: String = plain.take(ERROR_COMMENT_MAX).collect();
        self.put(element::ERROR_COMMENT, padded(&text, b' '))
    }

    /// The same, with an Error ID (0000,0903) that tells more than the status does.
    pub fn with_error_id(self, id: u16) -> Command {
        self.set(element::ERROR_ID, id)
    }

    /// The same C-STORE-RQ, on behalf of a C-MOVE.
    pub fn with_move_originator(self, ae_title: &str, message_id: u16) -> Command {
        self.put(element::MOVE_ORIGINATOR_AE_TITLE, padded(ae_title, b' '))
            .set(element::MOVE_ORIGINATOR_MESSAGE_ID, message_id)
    }

    fn request(command_field: u16, message_id: u16) -> Command {
        Command { elements: BTreeMap::new() }
            .set(element::COMMAND_FIELD, command_field)
            .set(element::MESSAGE_ID, message_id)
            .set(element::DATA_SET_TYPE, NO_DATA_SET)
    }

    fn query(command_field: u16, message_id: u16, sop_class_uid: &str) -> Command {
        Command::request(command_field, message_id)
            .affected(sop_class_uid, None)
            .set(element::PRIORITY, MEDIUM)
            .with_data_set()
    }

    fn affected(self, sop_class_uid: &str, sop_instance_uid: Option<&str>) -> Command {
        let command = self.uid(element::AFFECTED_SOP_CLASS_UID, sop_class_uid);
        match sop_instance_uid {
            Some(uid) => command.uid(element::AFFECTED_SOP_INSTANCE_UID, uid),
            None => command,
        }
    }

    fn requested(self, sop_class_uid: &str, sop_instance_uid: &str) -> Command {
        self.uid(element::REQUESTED_SOP_CLASS_UID, sop_class_uid)
            .uid(element::REQUESTED_SOP_INSTANCE_UID, sop_instance_uid)
    }

    fn uid(self, number: u16, uid: &str) -> Command {
        self.put(number, padded(uid, 0))
    }

    fn set(self, number: u16, value: u16) -> Command {
        self.put(number, value.to_le_bytes().to_vec())
    }

    fn put(mut self, number: u16, value: Vec<u8>) -> Command {
        self.elements.insert(number, value);
        self
    }

    fn number(&self, number: u16) -> Option<u16> {
        let value = self.elements.get(&number)?;
        <[u8; 2]>::try_from(value.as_slice()).ok().map(u16::from_le_bytes)
    }

    fn text(&self, number: u16) -> Option<String> {
        let text = String::from_utf8_lossy(self.elements.get(&number)?);
        let text = text.trim_matches(['\0', ' ']);
        (!text.is_empty()).then(|| text.to_string())
    }
}

impl std::fmt::Debug for Command {
    /// Never prints UIDs or comments: an instance's UID leads to a patient (invariant I8).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Command({:04X}, {} elements)", self.field(), self.elements.len())
    }
}

/// Text of even length.
fn padded(text: &str, with: u8) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    if bytes.len() % 2 == 1 {
        bytes.push(with);
    }
    bytes
}

#[cfg(test)]
mod tests;
