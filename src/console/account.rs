//! One's own account: another password, other recovery codes.

use super::answer::Answer;
use super::invitation::{new_codes, new_password};
use super::layout::{codes, field, token, told};
use super::site::{ConsoleSite, Stop, Visit};
use crate::access::{AccessError, Account, Code, Refusal, Session, Stamp, password, random};
use hyper::StatusCode;
use jiff::Timestamp;
use maud::{Markup, html};
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
pub(super) async fn take(site: &ConsoleSite, visit: &Visit, session: &Session) -> Result<Answer, Stop> {
    match visit.field("what") {
        "password" => change_password(site, visit, session).await,
        "codes" => change_codes(site, visit, session).await,
        _ => Ok(Answer::sentence(StatusCode::BAD_REQUEST, "this is no form of this page")),
    }
}

async fn change_password(site: &ConsoleSite, visit: &Visit, session: &Session) -> Result<Answer, Stop> {
    let told = |why: &str| Ok(page(site, visit, session, &Told { of_password: Some(why), ..Told::default() }));
    if !knows_password(site, visit, session).await? {
        return told(WRONG_PASSWORD);
    }
    let kept = match new_password(site, visit, session).await? {
        Ok(kept) => kept,
        Err(why) => return told(&why),
    };
    let (name, stamp) = (session.name.clone(), Stamp::of(&random()?));
    site.change(move |all| all.set_password(&name, &kept, stamp)).await?;
    let passed = site.door().pass(&*site.accounts()?, visit.cookie(), &site.fresh()?, site.now());
    // Everybody else who is in with it is put out; this one goes on, under another id.
    Ok(match passed {
        Some(passed) => Answer::on_to("/account").with_session(passed.cookie()),
        None => Answer::on_to("/login"),
    })
}

/// Whether the present password was typed; a wrong one counts as a failure to log in.
async fn knows_password(site: &ConsoleSite, visit: &Visit, session: &Session) -> Result<bool, Stop> {
    let typed = Zeroizing::new(visit.field("present").to_string());
    let _turn = site.turn().await?;
    if !site.door().counts(&session.name, site.now()) {
        return Ok(false);
    }
    let kept = site.accounts()?.password_of(&session.name).map(str::to_string);
    let is_right = site.compute(move || password::is_right(&typed, kept.as_deref())).await?;
    if !is_right {
        site.door().failed(&session.name, site.now());
    }
    Ok(is_right)
}

async fn change_codes(site: &ConsoleSite, visit: &Visit, session: &Session) -> Result<Answer, Stop> {
    let _turn = site.turn().await?;
    let changed = if site.door().counts(&session.name, site.now()) {
        let (name, typed) = (session.name.clone(), Zeroizing::new(visit.field("code").to_string()));
        let (spare, now_s) = (new_codes()?, Timestamp::now().as_second());
        site.change(move |all| {
            all.use_code(&name, &typed, now_s)?;
            all.set_recovery(&name, &spare).map(|()| spare)
        })
        .await
    } else {
        Err(Stop::Access(AccessError::Refused(Refusal::SecondFactor)))
    };
    match changed {
        Ok(spare) => {
            Ok(Answer::page(StatusCode::OK, site.frame().inside("Recovery codes", session, false, fresh(&spare))))
        }
        Err(Stop::Access(AccessError::Refused(why))) => {
            site.door().failed(&session.name, site.now());
            let why = why.to_string();
            Ok(page(site, visit, session, &Told { of_codes: Some(&why), ..Told::default() }))
        }
        Err(stop) => Err(stop),
    }
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
