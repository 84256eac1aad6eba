//! What somebody changes of their own account, whether they come with an invitation or are in: a password, recovery
//! codes, and what is noted of that.

use super::site::{ConsoleSite, Stop, Visit};
use crate::access::{AccessError, Code, RECOVERY_CODES, Session, password, random};
use crate::audit::{AccountChange, Act};
use std::net::IpAddr;
use std::sync::Arc;
use zeroize::Zeroizing;

/// How a new password, typed twice, is kept; or why it is not taken.
pub(super) async fn new_password(
    site: &Arc<ConsoleSite>,
    visit: &Visit,
    session: &Session,
) -> Result<Result<Zeroizing<String>, String>, Stop> {
    let typed = Zeroizing::new(visit.field("password").to_string());
    if let Err(weak) = password::judge(&typed, &session.name) {
        return Ok(Err(weak.to_string()));
    }
    if *typed != visit.field("again") {
        return Ok(Err("the two passwords are not the same: type the new one twice".to_string()));
    }
    let salt = random()?;
    let kept = site.in_turn(Some(session), move |_| Ok(password::hash(&typed, &salt))).await?;
    Ok(kept.map(Zeroizing::new).ok_or_else(|| "this password cannot be kept: take another one".to_string()))
}

/// Recovery codes that nobody has yet.
pub(super) fn new_codes() -> Result<Vec<Code>, AccessError> {
    (0..RECOVERY_CODES).map(|_| Ok(Code::of(&random::<10>()?))).collect()
}

/// What is noted of a change that somebody makes to their own account.
pub(super) fn changed(name: &str, change: AccountChange, from: IpAddr) -> Act {
    Act::Account { account: name.to_string(), change, role: None, from: Some(from) }
}
