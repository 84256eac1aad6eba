//! Name and password. Whatever is wrong, the answer is the same, and takes the same time.

use super::answer::Answer;
use super::layout::{field, told};
use super::site::{ConsoleSite, Stop, Visit};
use crate::access::{Said, password};
use crate::audit::{Act, Outcome};
use hyper::StatusCode;
use maud::html;
use std::net::IpAddr;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Of a name that nobody has, a wrong password, and an account that has to wait.
const REFUSED: &str = "This name and password do not let you in. After five wrong tries each next one from here counts \
                       only after a while, at most a quarter of an hour.";

/// The form.
pub(super) fn shown(site: &ConsoleSite, visit: &Visit) -> Answer {
    page(site, visit, StatusCode::OK, None)
}

/// Somebody says who they are.
pub(super) async fn take(site: &Arc<ConsoleSite>, visit: &Visit) -> Result<Answer, Stop> {
    let name = visit.field("name").trim().to_lowercase();
    let typed = Zeroizing::new(visit.field("password").to_string());
    let (said_by, from) = (name.clone(), visit.peer);
    match site.in_turn(None, move |site| try_it(site, &said_by, &typed, from)).await? {
        Said::Right(passed) => {
            site.tell(&name, from, "a password was right, the second factor is to come");
            // Whoever logs in is not somebody else any more.
            site.door().close(visit.cookie());
            Ok(Answer::on_to("/second-factor").with_session(site.cookie(), passed.cookie()))
        }
        Said::Wrong | Said::Nothing => {
            // A name that nobody has may be a password in the wrong field: it is not written down.
            let account = visit.accounts.get(&name).map_or("nobody", |_| name.as_str());
            site.tell(account, from, "a log-in was refused");
            Ok(page(site, visit, StatusCode::FORBIDDEN, Some(REFUSED)))
        }
    }
}

/// With the accounts as they are now that it is their turn.
fn try_it(site: &ConsoleSite, name: &str, typed: &str, from: IpAddr) -> Result<Said, Stop> {
    let accounts = site.accounts()?;
    let is_right = password::is_right(typed, accounts.password_of(name));
    let fresh = site.fresh()?;
    let said = site.door().password(&accounts, (name, from), is_right, &fresh, site.now());
    // The right one is noted with the second factor: alone it leads nowhere, and could be shown without end.
    if let Said::Wrong = said {
        let act = Act::LogIn { account: name.to_string(), from, page: "/login", outcome: Outcome::Wrong };
        site.note_beside(name, act);
    }
    Ok(said)
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
