//! One's own account: another password, other recovery codes.

use super::answer::Answer;
use super::change::{changed, new_codes, new_password};
use super::layout::{codes, field, token, told};
use super::second_factor::{REFUSED, WAIT, spend_code};
use super::site::{ConsoleSite, Stop, Visit};
use crate::access::{Account, Code, Session, Stamp, password, random};
use crate::audit::{AccountChange, Act, Outcome};
use hyper::StatusCode;
use maud::{Markup, html};
use std::sync::Arc;

const PAGE: &str = "/account";
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
pub(super) async fn take(site: &Arc<ConsoleSite>, visit: &Arc<Visit>, session: &Session) -> Result<Answer, Stop> {
    match visit.field("what") {
        "password" => change_password(site, visit, session).await,
        "codes" => change_codes(site, visit, session).await,
        _ => Ok(Answer::sentence(StatusCode::BAD_REQUEST, "this is no form of this page")),
    }
}

async fn change_password(site: &Arc<ConsoleSite>, visit: &Arc<Visit>, session: &Session) -> Result<Answer, Stop> {
    let told = |why: &str| Ok(page(site, visit, session, &Told { of_password: Some(why), ..Told::default() }));
    let asked = visit.clone();
    if let Err(why) = site.in_turn(Some(session), move |site| knows_password(site, &asked)).await? {
        return told(why);
    }
    let kept = match new_password(site, visit, session).await? {
        Ok(kept) => kept,
        Err(why) => return told(&why),
    };
    let asked = visit.clone();
    let passed = site.in_turn(Some(session), move |site| {
        let (session, stamp) = (site.session_of(&asked)?, Stamp::of(&random()?));
        site.change(|all| {
            all.set_password(session.account(), &kept, stamp.clone())?;
            site.note(&session.name, changed(&session.name, AccountChange::Password, asked.peer))
        })?;
        site.pass(&asked, &stamp)
    });
    // Everybody else who is in with it is put out; this one goes on, under another id.
    Ok(match passed.await? {
        Some(passed) => Answer::on_to(PAGE).with_session(site.cookie(), passed.cookie()),
        None => Answer::on_to("/login"),
    })
}

/// Whether the present password was typed, or why not; a wrong one counts as a wrong code does. In their turn.
fn knows_password(site: &ConsoleSite, visit: &Visit) -> Result<Result<(), &'static str>, Stop> {
    let session = site.session_of(visit)?;
    if !site.door().counts_again(&session, site.now()) {
        return Ok(Err(WAIT));
    }
    let name = &session.name;
    if password::is_right(visit.field("present"), site.accounts()?.password_of(name)) {
        return Ok(Ok(()));
    }
    site.door().failed_again(&session, site.now());
    let (account, from) = (name.clone(), visit.peer);
    site.note(name, Act::LogIn { account, from, page: PAGE, outcome: Outcome::Wrong })?;
    Ok(Err(WRONG_PASSWORD))
}

async fn change_codes(site: &Arc<ConsoleSite>, visit: &Arc<Visit>, session: &Session) -> Result<Answer, Stop> {
    let asked = visit.clone();
    let made = site.in_turn(Some(session), move |site| {
        let session = site.session_of(&asked)?;
        let (spare, stamp) = (new_codes()?, Stamp::of(&random()?));
        let spent = spend_code(site, &asked, &session, PAGE, |all| {
            all.set_recovery(session.account(), &spare, stamp.clone())?;
            site.note(&session.name, changed(&session.name, AccountChange::RecoveryCodes, asked.peer))
        });
        Ok(match spent? {
            Ok(()) => Ok((spare, site.pass(&asked, &stamp)?)),
            Err(why) => Err(why),
        })
    });
    let (spare, passed) = match made.await? {
        Ok(made) => made,
        Err(why) => {
            site.tell(&session.name, visit.peer, REFUSED);
            return Ok(page(site, visit, session, &Told { of_codes: Some(&why), ..Told::default() }));
        }
    };
    let answer = Answer::page(StatusCode::OK, site.frame().outside("Recovery codes", fresh(&spare)));
    Ok(match passed {
        Some(passed) => answer.with_session(site.cookie(), passed.cookie()),
        None => answer,
    })
}

fn fresh(spare: &[Code]) -> Markup {
    html! {
        div class="sheet" {
            p class="done" role="status" { "These are your recovery codes now; those of before count no more." }
            (codes(spare))
            p class="screen" { a href="/account" { "Go on" } }
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
                p class="hint" {
                    "New codes take the place of those that are left. You stay in; wherever else you are logged in, you are \
                     not any more."
                }
                button { "Make new codes" }
            }
        }
    };
    let is_wrong = told_of.of_password.is_some() || told_of.of_codes.is_some();
    let status = if is_wrong { StatusCode::FORBIDDEN } else { StatusCode::OK };
    Answer::page(status, site.frame().inside("Account", session, false, main))
}
