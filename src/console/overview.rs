//! How the box is. The script fills it in from the stream of events, and goes on doing so.

use super::answer::Answer;
use super::site::ConsoleSite;
use crate::access::Session;
use hyper::StatusCode;
use maud::html;

/// The page.
pub(super) fn shown(site: &ConsoleSite, session: &Session) -> Answer {
    let main = html! {
        main {
            noscript {
                p class="wrong" {
                    "This browser runs no script, and what is here is live. On the box, " code { "afferent doctor" }
                    " says the same."
                }
            }
            section id="alerts" aria-label="Unusual now" hidden {}
            section id="box" aria-label="The box" {}
            section id="lines" aria-label="Links and destinations" {}
        }
        footer id="heard" {}
    };
    Answer::page(StatusCode::OK, site.frame().inside("Overview", session, true, main))
}
