//! What the telephone shows, or a recovery code. That it was used is on the disk before anybody is let in.

use super::answer::Answer;
use super::layout::{field, token, told};
use super::site::{ConsoleSite, Stop, Visit};
use crate::access::{AccessError, Refusal, Session};
use crate::audit::{Act, Outcome};
use hyper::StatusCode;
use jiff::Timestamp;
use maud::html;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Of what does not count, so that nobody takes it for wrong.
pub(super) const WAIT: &str = "This did not count: after five wrong ones each next one counts only after a while, at most a \
                               quarter of an hour. Wait, and try again.";

/// The form.
pub(super) fn shown(site: &ConsoleSite, session: &Session) -> Answer {
    page(site, session, StatusCode::OK, None)
}

/// Somebody whose password was right shows a code.
pub(super) async fn take(site: &Arc<ConsoleSite>, visit: &Visit, session: &Session) -> Result<Answer, Stop> {
    if let Err(why) = spend_code(site, visit, session).await? {
        return Ok(page(site, session, StatusCode::FORBIDDEN, Some(&why)));
    }
    let (accounts, fresh, (name, on)) = (site.accounts()?, site.fresh()?, session.account());
    let passed = site.door().pass(&accounts, (visit.cookie(), visit.peer), on, &fresh, site.now());
    let Some(passed) = passed else { return Ok(Answer::on_to("/login")) };
    tracing::info!(event = "console-login", account = name, peer = %visit.peer, "somebody logged in");
    Ok(Answer::on_to("/").with_session(site.cookie(), passed.cookie()))
}

/// Uses the code of a form, or says why it does not count. That it was used is on the disk then.
pub(super) async fn spend_code(
    site: &Arc<ConsoleSite>,
    visit: &Visit,
    session: &Session,
) -> Result<Result<(), String>, Stop> {
    let (typed, session, from) = (Zeroizing::new(visit.field("code").to_string()), session.clone(), visit.peer);
    let spent = site.in_turn(move |site| {
        let (name, on) = session.account();
        if !site.door().counts_again(&session, site.now()) {
            return Ok(Err(WAIT.to_string()));
        }
        let now_s = Timestamp::now().as_second();
        let used = site.change(|all| all.use_code((name, on), &typed, now_s).map_err(AccessError::from));
        let act = |outcome| Act::SecondFactor { account: name.to_string(), from, outcome };
        match used {
            Ok(()) => {
                if !session.is_whole() {
                    site.note(name, Act::LogIn { account: name.to_string(), from, outcome: Outcome::Right })?;
                }
                site.note(name, act(Outcome::Right))?;
                Ok(Ok(()))
            }
            Err(AccessError::Refused(why @ Refusal::SecondFactor)) => {
                site.door().failed_again(&session, site.now());
                site.note(name, act(Outcome::Wrong))?;
                Ok(Err(why.to_string()))
            }
            Err(error) => Err(error.into()),
        }
    });
    let spent = spent.await?;
    if spent.is_err() {
        let account = visit.session.as_ref().map_or("nobody", |session| session.name.as_str());
        site.tell_refused(account, from, "a second factor was refused");
    }
    Ok(spent)
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
