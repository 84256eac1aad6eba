//! Negotiation of an association (PS3.8 section 9.3.2, PS3.7 Annex D): what is proposed and what is answered.
//!
//! Reading is lenient: items and user sub-items that nobody here knows are skipped, as the standard wants it, of the
//! protocol version only bit 0 is looked at, and a blank AE title is one. What is taken is what a gateway that stores
//! and forwards can take: every storage SOP class, also private ones, in the first transfer syntax that is proposed,
//! also private and compressed ones, so that an original stays as it is. Asynchronous operations are not answered, which
//! leaves both sides at one at a time.

use super::pdu::{self, Rejection, kind};
use super::uid::{self, is_storage_class};

/// Item types.
mod item {
    pub const APPLICATION_CONTEXT: u8 = 0x10;
    pub const PROPOSED_CONTEXT: u8 = 0x20;
    pub const ANSWERED_CONTEXT: u8 = 0x21;
    pub const ABSTRACT_SYNTAX: u8 = 0x30;
    pub const TRANSFER_SYNTAX: u8 = 0x40;
    pub const USER_INFORMATION: u8 = 0x50;
    pub const MAXIMUM_LENGTH: u8 = 0x51;
    pub const IMPLEMENTATION_CLASS_UID: u8 = 0x52;
    pub const ROLE_SELECTION: u8 = 0x54;
    pub const IMPLEMENTATION_VERSION_NAME: u8 = 0x55;
    pub const USER_IDENTITY: u8 = 0x58;
    pub const USER_IDENTITY_ANSWER: u8 = 0x59;
}

/// Bytes before the items: version, reserved, both AE titles, reserved.
const FIXED: usize = 68;
/// Bytes of an AE title.
const AE_TITLE: usize = 16;
/// The one protocol version: bit 0.
const VERSION: u16 = 1;
/// Results of a presentation context (PS3.8 table 9-18).
const ACCEPTED: u8 = 0;
const ABSTRACT_SYNTAX_NOT_SUPPORTED: u8 = 3;
const TRANSFER_SYNTAXES_NOT_SUPPORTED: u8 = 4;
/// Transfer syntaxes in which questions are asked and answered: everybody has one of them, and they need no decoder.
const OF_SERVICES: [&str; 2] = [uid::EXPLICIT_VR_LITTLE_ENDIAN, uid::IMPLICIT_VR_LITTLE_ENDIAN];
/// SOP classes of the services that are answered beside storage.
const SERVICES: [&str; 3] = [uid::MODALITY_WORKLIST, uid::PERFORMED_PROCEDURE_STEP, uid::STORAGE_COMMITMENT];
/// Most context IDs there are: the odd numbers of a byte. Even ones are wrong but harm nobody.
const CONTEXTS_MAX: usize = 256;

/// Why bytes are no association request or answer. Every text is a constant, safe to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

const CUT: Malformed = Malformed("an association request or answer is cut short");
const OVERRUN: Malformed = Malformed("an item of an association request or answer is longer than what holds it");

/// A-ASSOCIATE-RQ.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AssociateRq {
    /// Protocol version, bit by bit.
    pub version: u16,
    /// Called AE title, without padding.
    pub called_ae_title: String,
    /// Calling AE title, without padding; may be blank.
    pub calling_ae_title: String,
    /// Application context, when there is one.
    pub application_context: Option<String>,
    /// What is proposed.
    pub contexts: Vec<ProposedContext>,
    /// User information.
    pub user: UserInformation,
}

/// A presentation context that is proposed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProposedContext {
    /// Odd, 1 to 255.
    pub id: u8,
    /// A SOP class.
    pub abstract_syntax: String,
    /// In the order of preference.
    pub transfer_syntaxes: Vec<String>,
}

/// A-ASSOCIATE-AC.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AssociateAc {
    /// The presentation contexts, answered.
    pub contexts: Vec<AnsweredContext>,
    /// User information.
    pub user: UserInformation,
}

/// A presentation context that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnsweredContext {
    /// That of the proposal.
    pub id: u8,
    /// 0 for accepted.
    pub result: u8,
    /// The chosen one, when it was accepted.
    pub transfer_syntax: String,
}

/// A presentation context that both sides agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// Its ID on this association.
    pub id: u8,
    /// A SOP class.
    pub abstract_syntax: String,
    /// The one transfer syntax.
    pub transfer_syntax: String,
}

/// User information of a request or an answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UserInformation {
    /// Longest P-DATA this side takes, in bytes; 0 = no limit, also when it is not said.
    pub max_pdu: u32,
    /// Implementation class UID.
    pub implementation_class_uid: String,
    /// Implementation version name.
    pub implementation_version_name: String,
    /// Role selections.
    pub roles: Vec<Role>,
    /// What a request says of the user.
    pub identity: Option<Identity>,
    /// The answer to an identity, when there is one.
    pub identity_answer: Option<Vec<u8>>,
}

/// SCP/SCU role selection (PS3.7 section D.3.3.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// A SOP class.
    pub sop_class_uid: String,
    /// The requestor may be the user.
    pub scu: bool,
    /// The requestor may be the provider.
    pub scp: bool,
}

/// User identity (PS3.7 section D.3.3.7).
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// 1 name, 2 name and passcode, 3 Kerberos, 4 SAML, 5 JSON Web Token.
    pub kind: u8,
    /// True when the requestor wants to hear that it was accepted.
    pub wants_answer: bool,
    /// Name, ticket, assertion or token.
    pub primary: Vec<u8>,
    /// Passcode.
    pub secondary: Vec<u8>,
}

impl std::fmt::Debug for Identity {
    /// Never prints who it is.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({})", self.kind)
    }
}

impl AssociateRq {
    /// Reads the bytes behind the PDU header.
    ///
    /// # Errors
    /// [`Malformed`] when an item does not fit into what holds it.
    pub fn read(body: &[u8]) -> Result<AssociateRq, Malformed> {
        let (fixed, items) = body.split_at_checked(FIXED).ok_or(CUT)?;
        let mut request = AssociateRq {
            version: u16::from_be_bytes([fixed[0], fixed[1]]),
            called_ae_title: text(&fixed[4..4 + AE_TITLE]),
            calling_ae_title: text(&fixed[20..20 + AE_TITLE]),
            ..AssociateRq::default()
        };
        for item in Items(items) {
            match item? {
                (item::APPLICATION_CONTEXT, value) => request.application_context = Some(text(value)),
                (item::PROPOSED_CONTEXT, value) if request.contexts.len() < CONTEXTS_MAX => {
                    request.contexts.push(ProposedContext::read(value)?);
                }
                (item::USER_INFORMATION, value) => request.user = UserInformation::read(value)?,
                _ => {}
            }
        }
        Ok(request)
    }

    /// The PDU.
    pub fn write(&self) -> Vec<u8> {
        let mut body = fixed(self.version, &self.called_ae_title, &self.calling_ae_title);
        if let Some(context) = &self.application_context {
            put(&mut body, item::APPLICATION_CONTEXT, context.as_bytes());
        }
        for context in &self.contexts {
            let mut value = vec![context.id, 0, 0, 0];
            put(&mut value, item::ABSTRACT_SYNTAX, context.abstract_syntax.as_bytes());
            context.transfer_syntaxes.iter().for_each(|t| put(&mut value, item::TRANSFER_SYNTAX, t.as_bytes()));
            put(&mut body, item::PROPOSED_CONTEXT, &value);
        }
        put(&mut body, item::USER_INFORMATION, &self.user.write());
        pdu::pdu(kind::ASSOCIATE_RQ, &body)
    }

    /// What speaks against this request whoever makes it.
    pub fn rejection(&self) -> Option<(Rejection, &'static str)> {
        if self.version & VERSION == 0 {
            return Some((Rejection::PROTOCOL_VERSION, "an association of another protocol version"));
        }
        if self.application_context.as_deref() != Some(uid::APPLICATION_CONTEXT) {
            return Some((Rejection::APPLICATION_CONTEXT, "an association of another application context"));
        }
        None
    }

    /// Our answer to it, announcing this maximum length, and the contexts that were agreed on.
    pub fn answer(&self, max_pdu: u32) -> (AssociateAc, Vec<Context>) {
        let (mut answers, mut agreed): (Vec<AnsweredContext>, Vec<Context>) = (Vec::new(), Vec::new());
        for proposed in &self.contexts {
            // An ID can be answered once only.
            if answers.iter().any(|answer| answer.id == proposed.id) {
                continue;
            }
            let (result, transfer_syntax) = proposed.choose();
            answers.push(AnsweredContext { id: proposed.id, result, transfer_syntax: transfer_syntax.to_string() });
            if result == ACCEPTED {
                agreed.push(Context {
                    id: proposed.id,
                    abstract_syntax: proposed.abstract_syntax.clone(),
                    transfer_syntax: transfer_syntax.to_string(),
                });
            }
        }
        let roles = self.user.roles.iter().map(Role::answer).collect();
        let asked = self.user.identity.as_ref().is_some_and(|identity| identity.wants_answer);
        let identity_answer = asked.then(Vec::new);
        let user = UserInformation { roles, identity_answer, ..UserInformation::ours(max_pdu) };
        (AssociateAc { contexts: answers, user }, agreed)
    }
}

impl ProposedContext {
    fn read(value: &[u8]) -> Result<ProposedContext, Malformed> {
        let (head, items) = value.split_at_checked(4).ok_or(CUT)?;
        let mut context =
            ProposedContext { id: head[0], abstract_syntax: String::new(), transfer_syntaxes: Vec::new() };
        for item in Items(items) {
            match item? {
                (item::ABSTRACT_SYNTAX, value) => context.abstract_syntax = text(value),
                (item::TRANSFER_SYNTAX, value) => context.transfer_syntaxes.push(text(value)),
                _ => {}
            }
        }
        Ok(context)
    }

    /// Result, and the transfer syntax that goes with it.
    fn choose(&self) -> (u8, &str) {
        let first = || self.transfer_syntaxes.first().map_or(uid::IMPLICIT_VR_LITTLE_ENDIAN, String::as_str);
        if self.abstract_syntax == uid::VERIFICATION || is_storage_class(&self.abstract_syntax) {
            let real = || self.transfer_syntaxes.iter().filter(|syntax| uid::is_uid(syntax));
            let living = real().find(|syntax| *syntax != uid::EXPLICIT_VR_BIG_ENDIAN);
            return match living.or_else(|| real().next()) {
                Some(syntax) => (ACCEPTED, syntax),
                None => (TRANSFER_SYNTAXES_NOT_SUPPORTED, first()),
            };
        }
        if !SERVICES.contains(&self.abstract_syntax.as_str()) {
            return (ABSTRACT_SYNTAX_NOT_SUPPORTED, first());
        }
        match self.transfer_syntaxes.iter().find(|syntax| OF_SERVICES.contains(&syntax.as_str())) {
            Some(syntax) => (ACCEPTED, syntax),
            None => (TRANSFER_SYNTAXES_NOT_SUPPORTED, first()),
        }
    }
}

impl AssociateAc {
    /// Reads the bytes behind the PDU header.
    ///
    /// # Errors
    /// [`Malformed`] when an item does not fit into what holds it.
    pub fn read(body: &[u8]) -> Result<AssociateAc, Malformed> {
        let (_, items) = body.split_at_checked(FIXED).ok_or(CUT)?;
        let mut answer = AssociateAc::default();
        for item in Items(items) {
            match item? {
                (item::ANSWERED_CONTEXT, value) if answer.contexts.len() < CONTEXTS_MAX => {
                    let (head, items) = value.split_at_checked(4).ok_or(CUT)?;
                    let mut context = AnsweredContext { id: head[0], result: head[2], transfer_syntax: String::new() };
                    for item in Items(items) {
                        if let (item::TRANSFER_SYNTAX, value) = item? {
                            context.transfer_syntax = text(value);
                        }
                    }
                    answer.contexts.push(context);
                }
                (item::USER_INFORMATION, value) => answer.user = UserInformation::read(value)?,
                _ => {}
            }
        }
        Ok(answer)
    }

    /// The PDU that answers this request.
    pub fn write(&self, request: &AssociateRq) -> Vec<u8> {
        let mut body = fixed(VERSION, &request.called_ae_title, &request.calling_ae_title);
        put(&mut body, item::APPLICATION_CONTEXT, uid::APPLICATION_CONTEXT.as_bytes());
        for context in &self.contexts {
            let mut value = vec![context.id, 0, context.result, 0];
            put(&mut value, item::TRANSFER_SYNTAX, context.transfer_syntax.as_bytes());
            put(&mut body, item::ANSWERED_CONTEXT, &value);
        }
        put(&mut body, item::USER_INFORMATION, &self.user.write());
        pdu::pdu(kind::ASSOCIATE_AC, &body)
    }

    /// What was agreed on of what we proposed.
    pub fn agreed(&self, request: &AssociateRq) -> Vec<Context> {
        let proposed = |id| request.contexts.iter().find(|context| context.id == id);
        let accepted = self.contexts.iter().filter(|answer| answer.result == ACCEPTED);
        let agreed = accepted.filter_map(|answer| {
            let context = proposed(answer.id)?;
            let was_offered = context.transfer_syntaxes.contains(&answer.transfer_syntax);
            was_offered.then(|| Context {
                id: answer.id,
                abstract_syntax: context.abstract_syntax.clone(),
                transfer_syntax: answer.transfer_syntax.clone(),
            })
        });
        agreed.collect()
    }
}

impl UserInformation {
    /// Who we are.
    pub fn ours(max_pdu: u32) -> UserInformation {
        UserInformation {
            max_pdu,
            implementation_class_uid: uid::IMPLEMENTATION_CLASS.to_string(),
            implementation_version_name: uid::IMPLEMENTATION_VERSION_NAME.to_string(),
            ..UserInformation::default()
        }
    }

    fn read(value: &[u8]) -> Result<UserInformation, Malformed> {
        let mut user = UserInformation::default();
        for item in Items(value) {
            match item? {
                (item::MAXIMUM_LENGTH, value) => {
                    user.max_pdu = value.try_into().map(u32::from_be_bytes).map_err(|_| CUT)?;
                }
                (item::IMPLEMENTATION_CLASS_UID, value) => user.implementation_class_uid = text(value),
                (item::IMPLEMENTATION_VERSION_NAME, value) => user.implementation_version_name = text(value),
                (item::ROLE_SELECTION, value) => user.roles.push(Role::read(value)?),
                (item::USER_IDENTITY, value) => user.identity = Some(Identity::read(value)?),
                (item::USER_IDENTITY_ANSWER, value) => user.identity_answer = Some(counted(value)?.0.to_vec()),
                _ => {}
            }
        }
        Ok(user)
    }

    fn write(&self) -> Vec<u8> {
        let mut value = Vec::new();
        put(&mut value, item::MAXIMUM_LENGTH, &self.max_pdu.to_be_bytes());
        put(&mut value, item::IMPLEMENTATION_CLASS_UID, self.implementation_class_uid.as_bytes());
        for role in &self.roles {
            let mut part = Vec::new();
            put_counted(&mut part, role.sop_class_uid.as_bytes());
            part.extend_from_slice(&[role.scu.into(), role.scp.into()]);
            put(&mut value, item::ROLE_SELECTION, &part);
        }
        if !self.implementation_version_name.is_empty() {
            put(&mut value, item::IMPLEMENTATION_VERSION_NAME, self.implementation_version_name.as_bytes());
        }
        if let Some(identity) = &self.identity {
            let mut part = vec![identity.kind, identity.wants_answer.into()];
            put_counted(&mut part, &identity.primary);
            put_counted(&mut part, &identity.secondary);
            put(&mut value, item::USER_IDENTITY, &part);
        }
        if let Some(answer) = &self.identity_answer {
            let mut part = Vec::new();
            put_counted(&mut part, answer);
            put(&mut value, item::USER_IDENTITY_ANSWER, &part);
        }
        value
    }
}

impl Role {
    fn read(value: &[u8]) -> Result<Role, Malformed> {
        let (class, rest) = counted(value)?;
        let [scu, scp, ..] = *rest else { return Err(CUT) };
        Ok(Role { sop_class_uid: text(class), scu: scu != 0, scp: scp != 0 })
    }

    /// A requestor is the user here, but an archive that reports a commitment is its provider.
    fn answer(&self) -> Role {
        let scp = self.scp && self.sop_class_uid == uid::STORAGE_COMMITMENT;
        Role { sop_class_uid: self.sop_class_uid.clone(), scu: self.scu, scp }
    }
}

impl Identity {
    fn read(value: &[u8]) -> Result<Identity, Malformed> {
        let [kind, wants_answer, ref rest @ ..] = *value else { return Err(CUT) };
        let (primary, rest) = counted(rest)?;
        // Some senders leave out the passcode's length when there is none.
        let secondary = if rest.is_empty() { &[][..] } else { counted(rest)?.0 };
        Ok(Identity { kind, wants_answer: wants_answer != 0, primary: primary.into(), secondary: secondary.into() })
    }
}

/// Items of one level: type and value.
struct Items<'a>(&'a [u8]);

impl<'a> Iterator for Items<'a> {
    type Item = Result<(u8, &'a [u8]), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let read = || {
            let (&[kind, _, l0, l1], rest) = self.0.split_first_chunk::<4>().ok_or(CUT)?;
            let (value, rest) = rest.split_at_checked(u16::from_be_bytes([l0, l1]).into()).ok_or(OVERRUN)?;
            Ok(((kind, value), rest))
        };
        let (item, rest) = match read() {
            Ok((item, rest)) => (Ok(item), rest),
            Err(malformed) => (Err(malformed), &[][..]),
        };
        self.0 = rest;
        Some(item)
    }
}

/// A field with its length in two bytes before it, and what follows.
fn counted(value: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let (length, rest) = value.split_first_chunk::<2>().ok_or(CUT)?;
    rest.split_at_checked(u16::from_be_bytes(*length).into()).ok_or(OVERRUN)
}

fn put_counted(to: &mut Vec<u8>, value: &[u8]) {
    let value = &value[..value.len().min(u16::MAX.into())];
    to.extend_from_slice(&(value.len() as u16).to_be_bytes());
    to.extend_from_slice(value);
}

fn put(to: &mut Vec<u8>, kind: u8, value: &[u8]) {
    to.extend_from_slice(&[kind, 0]);
    put_counted(to, value);
}

fn fixed(version: u16, called_ae_title: &str, calling_ae_title: &str) -> Vec<u8> {
    let mut body = Vec::with_capacity(FIXED);
    body.extend_from_slice(&version.to_be_bytes());
    body.extend_from_slice(&[0; 2]);
    for title in [called_ae_title, calling_ae_title] {
        let mut padded = [b' '; AE_TITLE];
        let title = &title.as_bytes()[..title.len().min(AE_TITLE)];
        padded[..title.len()].copy_from_slice(title);
        body.extend_from_slice(&padded);
    }
    body.extend_from_slice(&[0; 32]);
    body
}

/// Text without padding; what is no UTF-8 is replaced.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_matches(['\0', ' ']).to_string()
}

#[cfg(test)]
mod tests;
