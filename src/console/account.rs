//! One's own account: another password, other recovery codes.

use super::answer::Answer;
use super::invitation::{new_codes, new_password};
use super::layout::{codes, field, token, told};
use super::second_factor::{WAIT, spend_code};
use super::site::{ConsoleSite, Stop, Visit};
use crate::access::{Account, Code, Session, Stamp, password, random};
use crate::audit::{AccountChange, Act, Outcome};
use hyper::StatusCode;
use maud::{Markup, html};
use std::net::IpAddr;
use std::sync::Arc;
use zeroize::Zeroizing;

const WRONG_PASSWORD: &str = "your present password is wrong";

/// The forms.
pub(super) fn shown(site: &ConsoleSite, visit: &Visit, session: &Session) -> Answer {
    page(site, visit, session, &Told::default())
}

/// What a page says besides its forms.
#[derive(Default)]
struct Told<'a> {
    of_password: Option<&'a str>,
    of_codes: Option<&'a str>,
}

/// One of the forms.
pub(super) async fn take(site: &Arc<ConsoleSite>, visit: &Visit, session: &Session) -> Result<Answer, Stop> {
    match visit.field("what") {
        "password" => change_password(site, visit, session).await,
        "codes" => change_codes(site, visit, session).await,
        _ => Ok(Answer::sentence(StatusCode::BAD_REQUEST, "this is no form of this page")),
    }
}

async fn change_password(site: &Arc<ConsoleSite>, visit: &Visit, session: &Session) -> Result<Answer, Stop> {
    let told = |why: &str| Ok(page(site, visit, session, &Told { of_password: Some(why), ..Told::default() }));
    if let Err(why) = knows_password(site, visit, session).await? {
        return told(why);
    }
    let kept = match new_password(site, visit, session).await? {
        Ok(kept) => kept,
        Err(why) => return told(&why),
    };
    let stamp = Stamp::of(&random()?);
    let (owner, from, after) = (session.clone(), visit.peer, stamp.clone());
    site.change_beside(move |site, all| {
        all.set_password(owner.account(), &kept, after)?;
        site.note(&owner.name, changed(&owner.name, AccountChange::Password, from))
    })
    .await?;
    let (accounts, fresh) = (site.accounts()?, site.fresh()?);
    let passed = site.door().pass(&accounts, (visit.cookie(), visit.peer), &stamp, &fresh, site.now());
    // Everybody else who is in with it is put out; this one goes on, under another id.
    Ok(match passed {
        Some(passed) => Answer::on_to("/account").with_session(site.cookie(), passed.cookie()),
        None => Answer::on_to("/login"),
    })
}

/// What is noted of a change that somebody makes to their own account.
pub(super) fn changed(name: &str, change: AccountChange, from: IpAddr) -> Act {
    Act::Account { account: name.to_string(), change, role: None, from: Some(from) }
}

/// Whether the present password was typed, or why not; a wrong one counts as a wrong code does.
async fn knows_password(
    site: &Arc<ConsoleSite>,
    visit: &Visit,
    session: &Session,
) -> Result<Result<(), &'static str>, Stop> {
    let (typed, session, from) = (Zeroizing::new(visit.field("present").to_string()), session.clone(), visit.peer);
    let known = site.in_turn(move |site| {
        if !site.door().counts_again(&session, site.now()) {
            return Ok(Err(WAIT));
        }
        let name = &session.name;
        if password::is_right(&typed, site.accounts()?.password_of(name)) {
            return Ok(Ok(()));
        }
        site.door().failed_again(&session, site.now());
        site.note(name, Act::LogIn { account: name.clone(), from, outcome: Outcome::Wrong })?;
        Ok(Err(WRONG_PASSWORD))
    });
    known.await
}

async fn change_codes(site: &Arc<ConsoleSite>, visit: &Visit, session: &Session) -> Result<Answer, Stop> {
    if let Err(why) = spend_code(site, visit, session).await? {
        return Ok(page(site, visit, session, &Told { of_codes: Some(&why), ..Told::default() }));
    }
    let (owner, from, spare) = (session.clone(), visit.peer, new_codes()?);
    let spare = site.change_beside(move |site, all| {
        all.set_recovery(owner.account(), &spare)?;
        site.note(&owner.name, changed(&owner.name, AccountChange::RecoveryCodes, from))?;
        Ok(spare)
    });
    let spare = spare.await?;
    Ok(Answer::page(StatusCode::OK, site.frame().inside("Recovery codes", session, false, fresh(&spare))))
}

fn fresh(spare: &[Code]) -> Markup {
    html! {
        main {
            div class="sheet" {
                p class="done" role="status" { "These are your recovery codes now; those of before count no more." }
                (codes(spare))
                p class="screen" { a href="/account" { "Go on" } }
            }
        }
    }
}

fn page(site: &ConsoleSite, visit: &Visit, session: &Session, told_of: &Told<'_>) -> Answer {
    let left = visit.accounts.get(&session.name).map_or(0, Account::recovery_codes);
    let main = html! {
        main {
            p { "You are " strong { (session.name) } ", and your role is " strong { (session.role) } "." }
            form class="sheet" method="post" action="/account" {
                h2 { "Password" }
                (told(told_of.of_password))
                (token(session))
                input type="hidden" name="what" value="password";
                (field("present", "Present password", "password", "current-password"))
                (field("password", "New password", "password", "new-password"))
                (field("again", "The same again", "password", "new-password"))
                p class="hint" { "You stay in; wherever else you are logged in, you are not any more." }
                button { "Change the password" }
            }
            form class="sheet" method="post" action="/account" {
                h2 { "Recovery codes" }
                (told(told_of.of_codes))
                (token(session))
                input type="hidden" name="what" value="codes";
                p { (left) " of them are left." }
                (field("code", "Code that your telephone shows", "text", "one-time-code"))
                p class="hint" { "New codes take the place of those that are left." }
                button { "Make new codes" }
            }
        }
    };
    let is_wrong = told_of.of_password.is_some() || told_of.of_codes.is_some();
    let status = if is_wrong { StatusCode::FORBIDDEN } else { StatusCode::OK };
    Answer::page(status, site.frame().inside("Account", session, false, main))
}
