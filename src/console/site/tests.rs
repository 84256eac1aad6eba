use super::*;
use crate::access::{AccountAt, Code, Role, Stamp, password, totp};
use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::BodyExt;
use hyper::header::HeaderValue;
use jiff::Timestamp;
use std::net::Ipv4Addr;
use std::sync::mpsc;

const PASSWORD: &str = "correct horse battery";
/// Another machine, and this one.
const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn empty() -> (tempfile::TempDir, Arc<ConsoleSite>) {
    let dir = tempfile::tempdir().unwrap();
    let console = Console::new(dir.path().join("afferent.toml"));
    let site = ConsoleSite::new(console, "bench-1".to_string(), dir.path(), false).unwrap();
    (dir, site)
}

/// A site at which Anna has an account.
fn with_anna() -> (tempfile::TempDir, Arc<ConsoleSite>) {
    let (dir, site) = empty();
    let kept = password::hash(PASSWORD, &[9; 16]).unwrap();
    let secret = totp::text(&[7; totp::SECRET_BYTES]);
    let (invited, stamp, now_s) = (Stamp::of(&[1; 16]), Stamp::of(&[2; 16]), Timestamp::now().as_second());
    let made = site.change(|all| {
        all.add("anna", Role::View, &Code::of(&[1; 15]), invited.clone(), now_s)?;
        // As of a while ago, so that the code that is shown now counts.
        let shown = totp::shown(&secret, now_s - 60);
        all.accept(AccountAt { name: "anna", stamp: &invited }, &kept, (&secret, &shown), (&[], stamp), now_s - 60)?;
        Ok(())
    });
    made.unwrap();
    (dir, site)
}

fn post(path: &str, peer: IpAddr, session: &str, fields: &[(&str, &str)]) -> Asked {
    let mut headers = headers(&[("host", "box.lab"), ("origin", "https://box.lab")]);
    headers.insert(header::COOKIE, HeaderValue::from_str(session).unwrap());
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    Asked { method: Method::POST, path: path.to_string(), headers, body: Ok(Bytes::from(body)), peer }
}

fn log_in(peer: IpAddr, password: &str) -> Asked {
    post("/login", peer, "", &[("name", "anna"), ("password", password)])
}

async fn told(site: &Arc<ConsoleSite>, asked: Asked) -> (u16, HeaderMap, String) {
    let (head, body) = site.clone().answer(asked).await.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status.as_u16(), head.headers, String::from_utf8(body.to_vec()).unwrap())
}

/// The cookie that a browser is told to keep, as it says it.
fn kept(headers: &HeaderMap) -> String {
    headers[header::SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_string()
}

/// The session of a cookie, as it stands.
fn session(site: &ConsoleSite, cookie: &str) -> Option<Session> {
    let accounts = site.accounts().unwrap();
    site.door().find(&accounts, cookie.split_once('=').unwrap().1, true, site.now())
}

/// Anna is in: her cookie, and what her forms say.
async fn inside(site: &Arc<ConsoleSite>) -> (String, String) {
    let half = kept(&told(site, log_in(HERE, PASSWORD)).await.1);
    let form = session(site, &half).unwrap().form().to_string();
    let code = shown(Timestamp::now().as_second());
    let (status, headers, page) =
        told(site, post("/second-factor", HERE, &half, &[("form", &form), ("code", &code)])).await;
    assert_eq!(status, 303, "{page}");
    let whole = kept(&headers);
    let form = session(site, &whole).unwrap().form().to_string();
    (whole, form)
}

#[tokio::test]
async fn who_hangs_up_takes_back_neither_the_work_nor_the_count() {
    let (_dir, site) = with_anna();
    let (go, may_go) = mpsc::channel::<()>();
    let work = site.in_turn(None, move |_| {
        may_go.recv().unwrap();
        Ok(())
    });
    assert!(work.now_or_never().is_none());
    for _ in 0..20 {
        assert!(site.clone().answer(log_in(HERE, PASSWORD)).now_or_never().is_none());
        assert_eq!(site.turn.available_permits(), 0, "one at a time, also of those who hang up");
    }
    go.send(()).unwrap();
    for _ in 0..5 {
        drop(site.turn.acquire().await.unwrap());
        assert!(site.clone().answer(log_in(HERE, "incorrect horse battery")).now_or_never().is_none());
        // Nobody waits for the answer any more.
    }
    assert_eq!(told(&site, log_in(HERE, PASSWORD)).await.0, 403, "all five of them count");
    assert_eq!(told(&site, log_in(THERE, PASSWORD)).await.0, 303, "and for nobody elsewhere");
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_for_their_turn_is_told_to_come_again() {
    let (_dir, site) = with_anna();
    let turn = site.turn.acquire().await.unwrap();
    let (status, headers, says) = told(&site, log_in(HERE, PASSWORD)).await;
    assert_eq!((status, headers[header::RETRY_AFTER].to_str().unwrap()), (503, "10"), "{says}");
    drop(turn);
    assert_eq!(told(&site, log_in(HERE, PASSWORD)).await.0, 303);
}

#[tokio::test]
async fn i10_few_wait_for_their_turn_and_the_others_are_answered_at_once() {
    let (_dir, site) = with_anna();
    let (whole, form) = inside(&site).await;
    let turn = site.turn.acquire().await.unwrap();
    let mut all: Vec<_> = (0..48).map(|_| site.clone().answer(log_in(HERE, PASSWORD))).collect();
    let answered: Vec<_> = all.iter_mut().filter_map(FutureExt::now_or_never).collect();
    assert_eq!(answered.len(), 48 - WAITING_MAX);
    assert!(answered.iter().all(|answer| answer.status() == 503 && answer.headers().contains_key(header::RETRY_AFTER)));
    let page = Asked { method: Method::GET, ..post("/login", HERE, "", &[]) };
    assert_eq!(told(&site, page).await.0, 200, "whoever looks waits for nobody");
    let change = post("/account", HERE, &whole, &[("form", &form), ("what", "codes"), ("code", "000000")]);
    let mut change = site.clone().answer(change);
    assert!((&mut change).now_or_never().is_none(), "who is in has a place among those who wait");
    drop((turn, all));
    assert_eq!(change.await.status(), 403, "and a turn");
    assert_eq!(told(&site, log_in(HERE, PASSWORD)).await.0, 303, "who hangs up waits no more");
}

#[tokio::test]
async fn an_address_has_so_many_tries_but_who_is_in_and_who_comes_through_ssh() {
    let (_dir, site) = with_anna();
    let (whole, form) = inside(&site).await;
    let nobody = |peer| post("/invitation", peer, "", &[("code", "A")]);
    let mut refused = 0;
    while told(&site, nobody(THERE)).await.0 != 429 {
        refused += 1;
        assert!(refused < 100, "nothing stops it");
    }
    let (status, headers, _) = told(&site, log_in(THERE, PASSWORD)).await;
    assert!(status == 429 && headers.contains_key(header::RETRY_AFTER));
    for _ in 0..100 {
        assert_eq!(told(&site, nobody(HERE)).await.0, 403, "everybody who comes through ssh comes from there");
    }
    let of_anna = |form: &str| post("/account", THERE, &whole, &[("form", form), ("what", "none")]);
    assert_eq!(told(&site, of_anna(&form)).await.0, 400, "who is in goes on");
    assert_eq!(told(&site, of_anna("0")).await.0, 429, "with a form of theirs");
    let half = kept(&told(&site, log_in(HERE, PASSWORD)).await.1);
    for (cookie, form) in [(&half, session(&site, &half).unwrap().form()), (&whole, form.as_str())] {
        let leaves = |form| post("/logout", THERE, cookie, &[("form", form)]);
        assert_eq!(told(&site, leaves("0")).await.0, 403);
        assert_eq!(told(&site, leaves(form)).await.0, 303, "whoever wants to leave may");
        assert!(session(&site, cookie).is_none());
    }
}

#[tokio::test]
async fn a_code_that_does_not_count_is_told_so_and_makes_no_wait_longer() {
    let (_dir, site) = with_anna();
    let (whole, own_form) = inside(&site).await;
    let half = kept(&told(&site, log_in(HERE, PASSWORD)).await.1);
    let form = session(&site, &half).unwrap().form().to_string();
    let mut told_to_wait = 0;
    for n in 0..40 {
        let (status, _, page) =
            told(&site, post("/second-factor", HERE, &half, &[("form", &form), ("code", "none")])).await;
        assert_eq!(status, 403);
        let waits = page.contains("did not count");
        assert_eq!(waits, n >= 5, "{n}: {page}");
        told_to_wait += usize::from(waits);
    }
    assert_eq!(told_to_wait, 35);
    let guesses = session(&site, &half).unwrap();
    // Five failures are five seconds; one more for the time that this took.
    assert!(site.door().counts_again(&guesses, site.now() + Duration::from_secs(5)), "as if there had been five");
    for fields in [[("what", "password"), ("present", "wrong")], [("what", "codes"), ("code", "none")]] {
        let asked = post("/account", HERE, &whole, &[&[("form", own_form.as_str())], &fields[..]].concat());
        let (status, _, page) = told(&site, asked).await;
        assert!(status == 403 && !page.contains("did not count"), "who is in waits for nobody who is not: {page}");
    }
}

/// What Anna's telephone shows at this moment, Unix seconds.
fn shown(at_s: i64) -> String {
    totp::shown(&totp::text(&[7; totp::SECRET_BYTES]), at_s)
}

#[tokio::test]
async fn who_shows_two_codes_at_once_has_used_one() {
    let (_dir, site) = with_anna();
    let now_s = Timestamp::now().as_second();
    let [first, second] = [now_s, now_s + 30].map(shown);
    let half = kept(&told(&site, log_in(HERE, PASSWORD)).await.1);
    let form = session(&site, &half).unwrap().form().to_string();
    let ask = |half: &str, form: &str, code: &str| {
        site.clone().answer(post("/second-factor", HERE, half, &[("form", form), ("code", code)]))
    };
    let turn = site.turn.acquire().await.unwrap();
    let mut both = [&first, &second].map(|code| ask(&half, &form, code));
    assert!(both.iter_mut().all(|asked| asked.now_or_never().is_none()), "they wait for their turn");
    drop(turn);
    let [first, again] = both;
    assert_eq!((first.await.status().as_u16(), again.await.status().as_u16()), (303, 403));
    let half = kept(&told(&site, log_in(HERE, PASSWORD)).await.1);
    let form = session(&site, &half).unwrap().form().to_string();
    assert_eq!(ask(&half, &form, &second).await.status(), 303, "it counts still");
}

#[tokio::test]
async fn who_has_other_recovery_codes_goes_on_under_another_id_and_everybody_else_is_out() {
    let (_dir, site) = with_anna();
    let (whole, form) = inside(&site).await;
    let code = shown(Timestamp::now().as_second() + 30);
    let fields = [("form", form.as_str()), ("what", "codes"), ("code", &code)];
    let (status, headers, page) = told(&site, post("/account", HERE, &whole, &fields)).await;
    assert_eq!((status, page.matches("<li class").count()), (200, 10), "{page}");
    assert!(session(&site, &whole).is_none() && session(&site, &kept(&headers)).unwrap().is_whole());
}

#[tokio::test]
async fn whoever_logs_in_anew_is_nobody_else_any_more() {
    let (_dir, site) = with_anna();
    let (whole, _) = inside(&site).await;
    let fields = [("name", "anna"), ("password", PASSWORD)];
    assert_eq!(told(&site, post("/login", HERE, &whole, &[fields[0], ("password", "wrong")])).await.0, 403);
    assert!(session(&site, &whole).is_some(), "a wrong password changes nothing");
    assert_eq!(told(&site, post("/login", HERE, &whole, &fields)).await.0, 303);
    assert!(session(&site, &whole).is_none());
}

#[tokio::test]
async fn accounts_that_cannot_be_used_are_told_of_in_the_log_alone() {
    let (dir, site) = with_anna();
    let whole = std::fs::read(dir.path().join("console.json")).unwrap();
    std::fs::write(dir.path().join("console.json"), "{").unwrap();
    for _ in 0..2 {
        let (status, _, says) = told(&site, log_in(THERE, PASSWORD)).await;
        assert_eq!((status, says.as_str()), (503, "accounts cannot be used now; the log of the box says why\n"));
        let told = site.told().clone();
        assert!(told.contains("damaged") && told.contains("console.json"), "{told}");
    }
    std::fs::write(dir.path().join("console.json"), whole).unwrap();
    assert_eq!(told(&site, log_in(THERE, PASSWORD)).await.0, 303);
    assert!(!site.told().is_empty(), "that they can be read does not say that they can be written");
    inside(&site).await;
    assert!(site.told().is_empty(), "the next trouble is told of anew");
}

#[test]
fn i10_the_log_has_a_line_a_second_of_who_was_refused_and_their_number() {
    let mut refusals = Refusals::default();
    let at = |ms| Duration::from_millis(ms);
    for (ms, untold) in
        [(0, Some(0)), (0, None), (1, None), (999, None), (1000, Some(3)), (1999, None), (5000, Some(1))]
    {
        assert_eq!(refusals.more(at(ms)), untold, "{ms}");
    }
}

#[tokio::test]
async fn whether_a_wrong_password_can_be_noted_says_nothing_of_who_has_an_account() {
    let (dir, site) = with_anna();
    std::fs::write(dir.path().join("audit"), "no folder").unwrap();
    let wrong = |name| post("/login", THERE, "", &[("name", name), ("password", "incorrect horse battery")]);
    let (known, unknown) = (told(&site, wrong("anna")).await, told(&site, wrong("nobody")).await);
    assert_eq!((known.0, unknown.0), (403, 403));
    assert_eq!(known.2, unknown.2);
}

#[tokio::test]
async fn what_cannot_be_noted_is_not_done() {
    let (dir, site) = with_anna();
    std::fs::write(dir.path().join("audit"), "no folder").unwrap();
    let half = kept(&told(&site, log_in(HERE, PASSWORD)).await.1);
    let form = session(&site, &half).unwrap().form().to_string();
    let code = shown(Timestamp::now().as_second());
    let (status, headers, _) =
        told(&site, post("/second-factor", HERE, &half, &[("form", &form), ("code", &code)])).await;
    assert!(status == 503 && !headers.contains_key(header::SET_COOKIE), "nobody is let in");
    let told_of = site.told().clone();
    assert!(told_of.contains("record"), "{told_of}");
    let page = Asked { method: Method::GET, ..post("/login", HERE, "", &[]) };
    assert_eq!(told(&site, page).await.0, 200);
    assert_eq!(*site.told(), told_of, "it is the same trouble still, and not told of twice");
    std::fs::remove_file(dir.path().join("audit")).unwrap();
    // The code was not used either.
    let (whole, form) = inside(&site).await;
    std::fs::remove_dir_all(dir.path().join("audit")).unwrap();
    std::fs::write(dir.path().join("audit"), "no folder").unwrap();
    assert_eq!(told(&site, post("/logout", HERE, &whole, &[("form", &form)])).await.0, 303);
    assert!(session(&site, &whole).is_none(), "but whoever leaves is out");
}

fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
    let named =
        |(name, value): &(&'static str, &'static str)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    let mut headers = HeaderMap::new();
    for (name, value) in all.iter().map(named) {
        headers.append(name, value);
    }
    headers
}

#[test]
fn a_form_is_of_a_page_of_this_host() {
    const HOST: (&str, &str) = ("host", "box.lab:9440");
    const SITE: &str = "sec-fetch-site";
    for (said, answer) in [
        (&[HOST, (SITE, "same-origin"), ("origin", "null")][..], true),
        (&[HOST, (SITE, "same-origin"), ("origin", "https://box.lab:9440")], true),
        (&[HOST, (SITE, "same-origin")], true),
        (&[HOST, ("origin", "https://box.lab:9440")], true),
        (&[HOST], false),
        (&[HOST, ("origin", "null")], false),
        (&[HOST, ("origin", "http://box.lab:9440")], false),
        (&[HOST, ("origin", "https://box.lab")], false),
        (&[HOST, ("origin", "https://box.lab:9440.evil")], false),
        (&[HOST, (SITE, "same-site"), ("origin", "https://box.lab:9440")], false),
        (&[HOST, (SITE, "cross-site"), ("origin", "null")], false),
        (&[HOST, (SITE, "none")], false),
        (&[HOST, (SITE, "same-origin"), ("origin", "https://evil")], false),
        (&[("origin", "https://box.lab:9440")], false),
        (&[], false),
    ] {
        assert_eq!(is_from_here(&headers(said)), answer, "{said:?}");
    }
}
