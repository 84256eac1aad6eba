//! Somebody new: the code of the invitation, a password, a telephone that knows the secret, recovery codes. Nothing is of
//! the account before the telephone has shown a right code.

use super::answer::Answer;
use super::change::{changed, new_codes, new_password};
use super::layout::{codes, field, token, told};
use super::site::{ConsoleSite, Stop, Visit};
use crate::access::totp::{self, SECRET_BYTES};
use crate::access::{Draft, Refusal, Session, Stage, Stamp, password, random};
use crate::audit::AccountChange;
use hyper::StatusCode;
use jiff::Timestamp;
use maud::{Markup, html};
use qrcodegen::{QrCode, QrCodeEcc};
use std::fmt::Write as _;
use std::sync::Arc;
use zeroize::Zeroizing;

const TITLE: &str = "Invitation";
/// Light modules around the code (ISO/IEC 18004, 9.1).
const QUIET: i32 = 4;

/// The form of the step that somebody has come to.
pub(super) fn shown(site: &ConsoleSite, visit: &Visit) -> Answer {
    page(site, visit, StatusCode::OK, None)
}

/// What somebody filled in at that step.
pub(super) async fn take(site: &Arc<ConsoleSite>, visit: &Arc<Visit>) -> Result<Answer, Stop> {
    let taken = match invited(visit) {
        None => show(site, visit),
        Some((session, None)) => choose(site, visit, session).await,
        Some((session, Some(_))) => confirm(site, visit, session).await,
    };
    match taken {
        Err(Stop::Refused(why)) => {
            let account = visit.session.as_ref().map_or("nobody", |session| session.name.as_str());
            site.tell(account, visit.peer, "an invitation was refused");
            Ok(page(site, visit, StatusCode::FORBIDDEN, Some(&why.to_string())))
        }
        taken => taken,
    }
}

/// The code of the invitation.
fn show(site: &ConsoleSite, visit: &Visit) -> Result<Answer, Stop> {
    let name = visit.accounts.invited(visit.field("code"), Timestamp::now().as_second());
    let name = name.ok_or(Refusal::Invitation)?;
    let fresh = site.fresh()?;
    let passed = site.door().invited(&visit.accounts, (name, visit.peer), &fresh, site.now());
    let passed = passed.ok_or(Refusal::Invitation)?;
    // Whoever comes with an invitation is not somebody else any more.
    site.door().close(visit.cookie());
    Ok(Answer::on_to("/invitation").with_session(site.cookie(), passed.cookie()))
}

/// The password.
async fn choose(site: &Arc<ConsoleSite>, visit: &Visit, session: &Session) -> Result<Answer, Stop> {
    let password = match new_password(site, visit, session).await? {
        Ok(password) => password,
        Err(why) => return Ok(page(site, visit, StatusCode::FORBIDDEN, Some(&why))),
    };
    let secret = Zeroizing::new(random::<SECRET_BYTES>()?);
    site.door().choose(visit.cookie(), Draft { password, secret: totp::text(&secret) });
    Ok(Answer::on_to("/invitation"))
}

/// The telephone's first code.
async fn confirm(site: &Arc<ConsoleSite>, visit: &Arc<Visit>, session: &Session) -> Result<Answer, Stop> {
    let asked = visit.clone();
    let accepted = site.in_turn(Some(session), move |site| {
        let session = site.session_of(&asked)?;
        let Stage::Invited(Some(draft)) = &session.stage else { return Err(Refusal::Changed.into()) };
        let (spare, stamp, now_s) = (new_codes()?, Stamp::of(&random()?), Timestamp::now().as_second());
        let shown = (draft.secret.as_str(), asked.field("code"));
        site.change(|all| {
            all.accept(session.account(), &draft.password, shown, (&spare, stamp.clone()), now_s)?;
            site.note(&session.name, changed(&session.name, AccountChange::Accepted, asked.peer))
        })?;
        Ok((spare, site.pass(&asked, &stamp)?))
    });
    let (spare, passed) = accepted.await?;
    tracing::info!(event = "console-login", account = session.name, peer = %visit.peer, "somebody was invited and came");
    let done = html! {
        div class="sheet" {
            p class="done" role="status" { "Your account is ready, and you are in." }
            (codes(&spare))
            p class="screen" { a href="/" { "Go on" } }
        }
    };
    let answer = Answer::page(StatusCode::OK, site.frame().outside("Recovery codes", done));
    Ok(match passed {
        Some(passed) => answer.with_session(site.cookie(), passed.cookie()),
        None => answer,
    })
}

fn invited(visit: &Visit) -> Option<(&Session, Option<&Draft>)> {
    match visit.session.as_ref() {
        Some(session @ Session { stage: Stage::Invited(draft), .. }) => Some((session, draft.as_ref())),
        _ => None,
    }
}

fn page(site: &ConsoleSite, visit: &Visit, status: StatusCode, wrong: Option<&str>) -> Answer {
    let form = match invited(visit) {
        None => html! {
            // Who is in and opens an invitation becomes whose that is.
            @if let Some(session) = &visit.session { (token(session)) }
            (field("code", "Code of your invitation", "text", "off"))
            button { "Go on" }
        },
        Some((session, None)) => html! {
            (token(session))
            p { "You are " strong { (session.name) } ". Choose a password of at least " (password::CHARACTERS_MIN) " characters; \
                 four or five words are easy to keep." }
            // For managers of passwords, which keep both together.
            input type="hidden" name="name" autocomplete="username" value=(session.name);
            (field("password", "New password", "password", "new-password"))
            (field("again", "The same again", "password", "new-password"))
            button { "Go on" }
        },
        Some((session, Some(draft))) => html! {
            (token(session))
            p { "Take an authenticator application on your telephone, and have it read this:" }
            (square(&totp::uri(site.place(), &session.name, &draft.secret)))
            p { "Or type this into it (by time, six digits):" }
            p class="secret" { (draft.secret.as_str()) }
            (field("code", "Code that it shows now", "text", "one-time-code"))
            button { "Done" }
        },
    };
    let form = html! { form class="sheet" method="post" action="/invitation" { (told(wrong)) (form) } };
    Answer::page(status, site.frame().outside(TITLE, form))
}

/// A code for a telephone, black on white also in the dark; a run of dark modules is a rectangle.
fn square(text: &str) -> Markup {
    // A name of 64 characters and one of a box fit ten times over.
    let Ok(code) = QrCode::encode_text(text, QrCodeEcc::Medium) else { return html! {} };
    let (size, mut path) = (code.size(), String::new());
    for y in 0..size {
        let mut x = 0;
        while x < size {
            let run = (x..size).take_while(|x| code.get_module(*x, y)).count() as i32;
            if run > 0 {
                let _ = write!(path, "M{} {}h{run}v1h-{run}z", x + QUIET, y + QUIET);
            }
            x += run.max(1);
        }
    }
    let side = size + 2 * QUIET;
    html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {side} {side}")) role="img"
            aria-label="The secret as a code for the camera" shape-rendering="crispEdges" {
            rect width=(side) height=(side) fill="#fff" {}
            path d=(path) fill="#000" {}
        }
    }
}
