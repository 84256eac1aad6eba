//! What the telephone shows, or a recovery code. That it was used is on the disk before anybody is let in.

use super::answer::Answer;
use super::layout::{field, token, told};
use super::site::{ConsoleSite, Stop, Visit};
use crate::access::{AccessError, AccountAt, Accounts, Passed, Refusal, Session};
use crate::audit::{Act, Outcome};
use hyper::StatusCode;
use jiff::Timestamp;
use maud::html;
use std::sync::Arc;

const PAGE: &str = "/second-factor";
/// As the log says it.
pub(super) const REFUSED: &str = "a second factor was refused";
/// Of what does not count, so that nobody takes it for wrong.
pub(super) const WAIT: &str = "This did not count: after five wrong ones each next one counts only after a while, at most a \
                               quarter of an hour. Wait, and try again.";

/// The form.
pub(super) fn shown(site: &ConsoleSite, session: &Session) -> Answer {
    page(site, session, StatusCode::OK, None)
}

/// Somebody whose password was right shows a code.
pub(super) async fn take(site: &Arc<ConsoleSite>, visit: &Arc<Visit>, session: &Session) -> Result<Answer, Stop> {
    let asked = visit.clone();
    match site.in_turn(Some(session), move |site| try_it(site, &asked)).await? {
        Ok(Some(passed)) => {
            tracing::info!(event = "console-login", account = session.name, peer = %visit.peer, "somebody logged in");
            Ok(Answer::on_to("/").with_session(site.cookie(), passed.cookie()))
        }
        Ok(None) => Ok(Answer::on_to("/login")),
        Err(why) => {
            site.tell(&session.name, visit.peer, REFUSED);
            Ok(page(site, session, StatusCode::FORBIDDEN, Some(&why)))
        }
    }
}

fn try_it(site: &ConsoleSite, visit: &Visit) -> Result<Result<Option<Passed>, String>, Stop> {
    let session = site.session_of(visit)?;
    let AccountAt { name, stamp } = session.account();
    let (account, from, outcome) = (|| name.to_string(), visit.peer, Outcome::Right);
    let spent = spend_code(site, visit, &session, PAGE, |_| {
        site.note(name, Act::LogIn { account: account(), from, page: "/login", outcome })?;
        site.note(name, Act::SecondFactor { account: account(), from, page: PAGE, outcome })
    });
    Ok(match spent? {
        Ok(()) => Ok(site.pass(visit, stamp)?),
        Err(why) => Err(why),
    })
}

/// Uses the code of a form of this page, or says why it does not count. That it was used, and what is done with it, is
/// on the disk then; where that cannot be done, it is not used. In their turn.
pub(super) fn spend_code(
    site: &ConsoleSite,
    visit: &Visit,
    session: &Session,
    page: &'static str,
    then: impl FnOnce(&mut Accounts) -> Result<(), AccessError> + Send,
) -> Result<Result<(), String>, Stop> {
    if !site.door().counts_again(session, site.now()) {
        return Ok(Err(WAIT.to_string()));
    }
    let now_s = Timestamp::now().as_second();
    let spent = site.change(|all| {
        all.use_code(session.account(), visit.field("code"), now_s)?;
        then(all)
    });
    let why = match spent {
        Ok(()) => return Ok(Ok(())),
        Err(AccessError::Refused(why @ Refusal::SecondFactor)) => why,
        Err(error) => return Err(error.into()),
    };
    site.door().failed_again(session, site.now());
    let account = session.name.clone();
    site.note(&session.name, Act::SecondFactor { account, from: visit.peer, page, outcome: Outcome::Wrong })?;
    Ok(Err(why.to_string()))
}

fn page(site: &ConsoleSite, session: &Session, status: StatusCode, wrong: Option<&str>) -> Answer {
    let form = html! {
        form class="sheet" method="post" action="/second-factor" {
            (told(wrong))
            (token(session))
            (field("code", "Code that your telephone shows", "text", "one-time-code"))
            p class="hint" { "Without your telephone: one of your recovery codes. Each code counts once." }
            button { "Go on" }
        }
    };
    Answer::page(status, site.frame().outside("Second factor", form))
}
