//! Name and password. Whatever is wrong, the answer is the same, and takes the same time.

use super::answer::Answer;
use super::layout::{field, told};
use super::site::{ConsoleSite, Stop, Visit};
use crate::access::password;
use hyper::StatusCode;
use maud::html;
use zeroize::Zeroizing;

/// Of a name that nobody has, a wrong password, and an account that has to wait.
const REFUSED: &str = "This name and password do not let you in. After five wrong tries each next one counts only after a \
                       while, at most a quarter of an hour.";

/// The form.
pub(super) fn shown(site: &ConsoleSite, visit: &Visit) -> Answer {
    page(site, visit, StatusCode::OK, None)
}

/// Somebody says who they are.
pub(super) async fn take(site: &ConsoleSite, visit: &Visit) -> Result<Answer, Stop> {
    let name = visit.field("name").trim().to_lowercase();
    let typed = Zeroizing::new(visit.field("password").to_string());
    let _turn = site.turn().await?;
    // As it is now that it is their turn.
    let accounts = site.accounts()?;
    let kept = accounts.password_of(&name).map(str::to_string);
    let is_right = site.compute(move || password::is_right(&typed, kept.as_deref())).await?;
    match site.door().password(&accounts, &name, is_right, &site.fresh()?, site.now()) {
        Some(passed) => Ok(Answer::on_to("/second-factor").with_session(passed.cookie())),
        None => {
            // A name that nobody has may be a password in the wrong field: it is not written down.
            let account = accounts.get(&name).map_or("nobody", |_| name.as_str());
            tracing::warn!(event = "console-refused", account, peer = %visit.peer, "a log-in was refused");
            Ok(page(site, visit, StatusCode::FORBIDDEN, Some(REFUSED)))
        }
    }
}

fn page(site: &ConsoleSite, visit: &Visit, status: StatusCode, wrong: Option<&str>) -> Answer {
    let form = html! {
        form class="sheet" method="post" action="/login" {
            (told(wrong))
            (field("name", "Name", "text", "username"))
            (field("password", "Password", "password", "current-password"))
            button { "Log in" }
            p class="hint" { "You were invited? " a href="/invitation" { "Begin here" } "." }
        }
    };
    let first = html! {
        p class="sheet" {
            "Nobody has an account yet. On the box, this makes the first: "
            code { "sudo afferent console user add NAME --role admin" }
        }
        p { a href="/invitation" { "I have an invitation" } }
    };
    Answer::page(status, site.frame().outside("Log in", if visit.accounts.is_empty() { first } else { form }))
}
