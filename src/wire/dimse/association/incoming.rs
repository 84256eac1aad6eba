//! Puts messages together again (PS3.8 Annex E): a command in one or more fragments, then its data set, on one
//! presentation context. A data set is handed on piece by piece.

use crate::wire::dimse::Command;
use crate::wire::dimse::command::COMMAND_MAX;
use crate::wire::dimse::pdu::Fragment;

/// What a fragment was good for.
pub enum Step<'a> {
    /// A command set is whole.
    Command(Command),
    /// A piece of the data set of the last command.
    Data {
        /// The piece; may be empty.
        bytes: &'a [u8],
        /// True when the data set ends with it.
        last: bool,
    },
}

/// What is under way.
#[derive(Debug, Default)]
pub enum Incoming {
    /// Nothing.
    #[default]
    Idle,
    /// A command.
    Command {
        /// Its presentation context.
        context: u8,
        /// What there is of it.
        bytes: Vec<u8>,
    },
    /// The data set of a command.
    DataSet {
        /// Its presentation context.
        context: u8,
    },
    /// Nothing is missing, but a data set that a command announced by mistake may still come.
    Stray,
}

impl Incoming {
    /// True in the middle of a message.
    pub fn is_inside(&self) -> bool {
        matches!(self, Incoming::Command { .. } | Incoming::DataSet { .. })
    }

    /// The command that was just handed out needs no data set, whatever it says.
    pub fn needs_no_data_set(&mut self) {
        if let Incoming::DataSet { .. } = self {
            *self = Incoming::Stray;
        }
    }

    /// Takes a fragment, or a piece of one.
    ///
    /// # Errors
    /// Why it does not belong here.
    pub fn take<'a>(&mut self, fragment: Fragment<'a>) -> Result<Option<Step<'a>>, &'static str> {
        let Fragment { context: on, is_command, bytes: piece, last } = fragment;
        match self {
            Incoming::Stray if !is_command => {
                if last {
                    *self = Incoming::Idle;
                }
                Ok(None)
            }
            Incoming::Idle | Incoming::Stray if is_command => self.command(on, Vec::new(), piece, last),
            Incoming::Idle | Incoming::Stray => Err("a data set without a command"),
            Incoming::Command { context, .. } | Incoming::DataSet { context } if *context != on => {
                Err("two messages are mixed")
            }
            Incoming::Command { bytes, .. } if is_command => {
                let bytes = std::mem::take(bytes);
                self.command(on, bytes, piece, last)
            }
            Incoming::Command { .. } => Err("a data set in the middle of a command"),
            Incoming::DataSet { .. } if is_command => Err("a command in the middle of a data set"),
            Incoming::DataSet { .. } => {
                if last {
                    *self = Incoming::Idle;
                }
                Ok(Some(Step::Data { bytes: piece, last }))
            }
        }
    }

    fn command(
        &mut self,
        context: u8,
        mut bytes: Vec<u8>,
        piece: &[u8],
        last: bool,
    ) -> Result<Option<Step<'static>>, &'static str> {
        bytes.extend_from_slice(piece);
        if bytes.len() > COMMAND_MAX {
            return Err("a command set that is too long");
        }
        if !last {
            *self = Incoming::Command { context, bytes };
            return Ok(None);
        }
        let command = Command::read(&bytes).map_err(|_| "a command set that cannot be read")?;
        *self = if command.has_data_set() { Incoming::DataSet { context } } else { Incoming::Idle };
        Ok(Some(Step::Command(command)))
    }
}
