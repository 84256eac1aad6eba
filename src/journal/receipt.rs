//! The proof of custody.

use crate::wire::{Custody, Token};

/// Proof that the bytes of one custody request were committed with `synchronous=FULL`.
///
/// Its field is private and its only constructor is visible to the journal alone, so nothing else in the program can
/// acknowledge data (invariant I1).
#[derive(Debug, PartialEq, Eq)]
pub struct Receipt {
    token: Token,
}

impl Receipt {
    /// Called once the writer reported the commit of the request `token`.
    pub(super) fn after_commit(token: Token) -> Self {
        Receipt { token }
    }
}

impl Custody for Receipt {
    fn token(&self) -> Token {
        self.token
    }
}
