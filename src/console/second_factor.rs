//! What the telephone shows, or a recovery code. That it was used is on the disk before anybody is let in.

use super::answer::Answer;
use super::layout::{field, token, told};
use super::site::{ConsoleSite, Stop, Visit};
use crate::access::{AccessError, Refusal, Session};
use hyper::StatusCode;
use jiff::Timestamp;
use maud::html;
use zeroize::Zeroizing;

/// The form.
pub(super) fn shown(site: &ConsoleSite, session: &Session) -> Answer {
    page(site, session, StatusCode::OK, None)
}

/// Somebody whose password was right shows a code.
pub(super) async fn take(site: &ConsoleSite, visit: &Visit, session: &Session) -> Result<Answer, Stop> {
    let _turn = site.turn().await?;
    let (name, typed) = (session.name.clone(), Zeroizing::new(visit.field("code").to_string()));
    let is_used = if site.door().counts(&name, site.now()) {
        let now_s = Timestamp::now().as_second();
        site.change(move |all| all.use_code(&name, &typed, now_s)).await
    } else {
        Err(Stop::Access(AccessError::Refused(Refusal::SecondFactor)))
    };
    match is_used {
        Ok(()) => {
            let passed = site.door().pass(&*site.accounts()?, visit.cookie(), &site.fresh()?, site.now());
            tracing::info!(event = "console-login", account = session.name, peer = %visit.peer, "somebody logged in");
            Ok(passed
                .map_or_else(|| Answer::on_to("/login"), |passed| Answer::on_to("/").with_session(passed.cookie())))
        }
        Err(Stop::Access(AccessError::Refused(why))) => {
            site.door().failed(&session.name, site.now());
            let account = session.name.as_str();
            tracing::warn!(event = "console-refused", account, peer = %visit.peer, "a second factor was refused");
            Ok(page(site, session, StatusCode::FORBIDDEN, Some(&why.to_string())))
        }
        Err(stop) => Err(stop),
    }
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
