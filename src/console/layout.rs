//! What all pages have: head, name of the box, ways to the other pages; and parts of forms.

use crate::access::{Code, Session, hash};
use crate::page::document::FOLLOW;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use maud::{DOCTYPE, Markup, html};

const STYLE: &str = include_str!("page.css");
/// In front of the script: how it asks.
const ASK: &str = include_str!("ask.js");
const SCRIPT: &str = include_str!("page.js");
/// Where they are.
pub const ASSETS: &str = "/assets/";
/// Bytes of the digest in the path of an asset: another release has other paths.
const DIGEST_BYTES: usize = 8;

/// Style and script, and where a browser finds them.
pub struct Assets {
    /// CSS.
    pub style: Asset,
    /// JavaScript, of the page with what is live.
    pub script: Asset,
}

/// A file that is the same for everybody.
pub struct Asset {
    /// Where it is.
    pub path: String,
    /// What is in it.
    pub text: String,
}

impl Assets {
    /// Those of this release.
    pub fn new() -> Assets {
        let asset = |end: &str, text: String| {
            let digest = BASE64_URL_SAFE_NO_PAD.encode(&hash(&text)[..DIGEST_BYTES]);
            Asset { path: format!("{ASSETS}{digest}.{end}"), text }
        };
        Assets { style: asset("css", STYLE.to_string()), script: asset("js", [ASK, FOLLOW, SCRIPT].concat()) }
    }
}

/// How a page is framed.
pub struct Frame<'a> {
    /// Of this release.
    pub assets: &'a Assets,
    /// The name of the box.
    pub place: &'a str,
}

impl Frame<'_> {
    /// A page for somebody who is not in.
    pub fn outside(&self, title: &str, main: Markup) -> Markup {
        self.whole(title, None, false, html! { main { h2 { (title) } (main) } })
    }

    /// A page for somebody who is in. `live`: with the script.
    pub fn inside(&self, title: &str, session: &Session, live: bool, main: Markup) -> Markup {
        self.whole(title, Some(session), live, main)
    }

    fn whole(&self, title: &str, session: Option<&Session>, live: bool, main: Markup) -> Markup {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (title) " · " (self.place) }
                    link rel="stylesheet" href=(self.assets.style.path);
                    @if live { script src=(self.assets.script.path) defer {} }
                }
                body {
                    header {
                        h1 id="place" { (self.place) }
                        @if live { span id="state" role="status" { "Asking the box …" } }
                        @if let Some(session) = session {
                            nav aria-label="Pages" {
                                a href="/" { "Overview" }
                                a href="/account" { (session.name) " (" (session.role) ")" }
                                form method="post" action="/logout" {
                                    (token(session))
                                    button { "Log out" }
                                }
                            }
                        }
                    }
                    (main)
                }
            }
        }
    }
}

/// What says in a form which session it was made for.
pub fn token(session: &Session) -> Markup {
    html! { input type="hidden" name="form" value=(session.form()); }
}

/// What was wrong, in front of a form.
pub fn told(wrong: Option<&str>) -> Markup {
    html! { @if let Some(wrong) = wrong { p class="wrong" role="alert" { (wrong) } } }
}

/// A field of a form. `kind` is its type, `fill` what a browser may fill in (HTML, 4.10.18.7).
pub fn field(name: &str, label: &str, kind: &str, fill: &str) -> Markup {
    html! {
        label for=(name) { (label) }
        input id=(name) name=(name) type=(kind) autocomplete=(fill) autocapitalize="none" spellcheck="false" required;
    }
}

/// Recovery codes: this is the only time that they are shown.
pub fn codes(codes: &[Code]) -> Markup {
    html! {
        p {
            "Each of these recovery codes lets you in once in the place of your telephone. Print this page or write them \
             down, and keep them where nobody else finds them: they are not shown again."
        }
        ol class="codes" { @for code in codes { li class="secret" { (code.text()) } } }
    }
}
