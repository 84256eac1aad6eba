use super::*;
use crate::access::account::Unread;
use crate::access::tries::{FAILURES_FREE, WAIT_MAX};
use crate::access::{ACCOUNTS_MAX, Code, Refusal, totp};

/// What the password of everybody here would be kept as; it is computed elsewhere.
const KEPT: &str = "$argon2id$";
const NOW_S: i64 = 1_800_000_000;

fn stamp(n: u8) -> Stamp {
    Stamp::of(&[n; 16])
}

/// Another one each time.
fn fresh(n: u16) -> Fresh {
    let mut id = [0xab; 32];
    id[..2].copy_from_slice(&n.to_be_bytes());
    Fresh { id, form: [n as u8; 32] }
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Where everybody here comes from.
const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

fn of<'a>(name: &'a str, stamp: &'a Stamp) -> AccountAt<'a> {
    AccountAt { name, stamp }
}

/// What Anna's account is begun on once she has come through her invitation.
fn on() -> Stamp {
    stamp(2)
}

fn half(door: &mut Door, accounts: &Accounts, n: u16, now: Duration) -> Passed {
    match door.password(accounts, ("anna", HERE), true, &fresh(n), now) {
        Said::Right(passed) => passed,
        Said::Wrong | Said::Nothing => panic!("{n}: she is not led on"),
    }
}

fn secret() -> String {
    totp::text(b"12345678901234567890").to_string()
}

fn recovery() -> Vec<Code> {
    (0..10).map(|n| Code::of(&[n; 10])).collect()
}

fn invite(accounts: &mut Accounts, name: &str, role: Role) {
    accounts.add(name, role, &Code::of(name.as_bytes()), stamp(1), NOW_S).unwrap();
}

/// Somebody who has come through an invitation, at the step before this moment.
fn enrol(accounts: &mut Accounts, name: &str, role: Role) {
    invite(accounts, name, role);
    let shown = totp::shown(&secret(), NOW_S - 30);
    accounts.accept(of(name, &stamp(1)), KEPT, (&secret(), &shown), (&recovery(), on()), NOW_S).unwrap();
}

fn anna() -> Accounts {
    let mut accounts = Accounts::default();
    enrol(&mut accounts, "anna", Role::Operate);
    accounts
}

/// Anna, who is in.
fn inside(door: &mut Door, accounts: &Accounts, now: Duration) -> Passed {
    let half = half(door, accounts, 1, now);
    door.pass(accounts, (half.cookie(), HERE), &on(), &fresh(2), now).unwrap()
}

fn is_in(door: &mut Door, accounts: &Accounts, cookie: &str, now: Duration) -> bool {
    door.find(accounts, cookie, true, now).is_some_and(|session| session.is_whole())
}

#[test]
fn only_a_right_password_of_an_account_that_is_open_leads_on() {
    let mut accounts = anna();
    invite(&mut accounts, "invited", Role::View);
    enrol(&mut accounts, "out", Role::Admin);
    accounts.set_disabled("out", true, stamp(3)).unwrap();
    for (name, is_right, leads_on) in [
        ("anna", true, true),
        ("anna", false, false),
        ("Anna", true, false),
        ("nobody", true, false),
        ("nobody", false, false),
        ("", true, false),
        ("invited", true, false),
        ("out", true, false),
    ] {
        let mut door = Door::default();
        let said = door.password(&accounts, (name, HERE), is_right, &fresh(1), at(0));
        assert_eq!(matches!(said, Said::Right(_)), leads_on, "{name} {is_right}");
        assert_eq!(matches!(said, Said::Wrong), name == "anna" && !is_right, "{name} {is_right}: what counts");
        if let Said::Right(passed) = said {
            let session = door.find(&accounts, passed.cookie(), true, at(1)).unwrap();
            assert!(matches!(session.stage, Stage::Password), "half of it is not all of it");
        }
    }
}

#[test]
fn a_code_counts_once_and_a_recovery_code_in_its_place_as_well() {
    let mut accounts = anna();
    let shown = |steps: i64| totp::shown(&secret(), NOW_S + steps * 30);
    let spare = recovery();
    for (typed, answer) in [
        (shown(-1), Err(Refusal::SecondFactor)),
        (shown(0), Ok(())),
        (shown(0), Err(Refusal::SecondFactor)),
        (shown(-1), Err(Refusal::SecondFactor)),
        (shown(1), Ok(())),
        (shown(0), Err(Refusal::SecondFactor)),
        (spare[3].text().to_lowercase(), Ok(())),
        (spare[3].text().to_string(), Err(Refusal::SecondFactor)),
        (spare[4].text().replace('-', " "), Ok(())),
        (spare[4].digest(), Err(Refusal::SecondFactor)),
        (String::new(), Err(Refusal::SecondFactor)),
    ] {
        assert_eq!(accounts.use_code(of("anna", &on()), &typed, NOW_S), answer, "{typed}");
        // What is on the disk is what counts.
        accounts = Accounts::parse(&accounts.text()).unwrap();
    }
    assert_eq!(accounts.get("anna").unwrap().recovery_codes(), 8);
    assert!(accounts.use_code(of("nobody", &on()), &shown(1), NOW_S).is_err());
    accounts.set_recovery(of("anna", &on()), &[Code::of(&[77; 10])], stamp(3)).unwrap();
    let old = accounts.use_code(of("anna", &stamp(3)), spare[5].text(), NOW_S);
    assert_eq!(old, Err(Refusal::SecondFactor), "new ones take the place of the old");
}

#[test]
fn an_invitation_is_good_once_and_for_a_day() {
    let mut accounts = Accounts::default();
    invite(&mut accounts, "anna", Role::View);
    let code = Code::of(b"anna");
    let day = 24 * 3600;
    for (typed, now_s, whose) in [
        (code.text(), NOW_S, Some("anna")),
        (&code.text().to_lowercase(), NOW_S + day - 1, Some("anna")),
        (code.text(), NOW_S + day, None),
        (code.text(), NOW_S - 3600, Some("anna")),
        (code.text(), NOW_S - 3601, None),
        ("", NOW_S, None),
        (&code.digest(), NOW_S, None),
    ] {
        assert_eq!(accounts.invited(typed, now_s), whose, "{typed} {now_s}");
    }
    let is_invited = |now_s| accounts.get("anna").unwrap().is_invited(now_s);
    assert_eq!([NOW_S + day - 1, NOW_S + day].map(is_invited), [Some(true), Some(false)]);
    assert_eq!(anna().get("anna").unwrap().is_invited(NOW_S), None);
    assert!(!accounts.text().contains(&code.text().replace('-', "")), "only its digest is kept");
    let accept = |accounts: &mut Accounts, typed: &str, now_s| {
        accounts.accept(of("anna", &stamp(1)), KEPT, (&secret(), typed), (&recovery(), stamp(2)), now_s)
    };
    let shown = totp::shown(&secret(), NOW_S);
    assert_eq!(accept(&mut accounts, "000000", NOW_S), Err(Refusal::SecondFactor));
    let late = totp::shown(&secret(), NOW_S + day);
    assert_eq!(accept(&mut accounts, &late, NOW_S + day), Err(Refusal::Invitation));
    assert_eq!(accept(&mut accounts, &shown, NOW_S), Ok(()));
    assert_eq!(accept(&mut accounts, &shown, NOW_S), Err(Refusal::Changed), "it is used");
    assert_eq!(accounts.invited(code.text(), NOW_S), None);
    assert_eq!(accounts.use_code(of("anna", &on()), &shown, NOW_S), Err(Refusal::SecondFactor), "so is the code");
}

#[test]
fn a_reset_takes_all_that_somebody_had_and_keeps_them_out_who_were() {
    let mut accounts = anna();
    accounts.set_disabled("anna", true, stamp(3)).unwrap();
    accounts.reset("anna", &Code::of(&[5; 15]), stamp(4), NOW_S).unwrap();
    assert_eq!(accounts.invited(Code::of(&[5; 15]).text(), NOW_S), None, "who is disabled has no use of it");
    accounts.set_disabled("anna", false, stamp(5)).unwrap();
    let account = accounts.get("anna").unwrap();
    assert_eq!((account.role, account.is_open(), account.recovery_codes()), (Role::Operate, false, 0));
    assert_eq!(accounts.invited(Code::of(&[5; 15]).text(), NOW_S), Some("anna"));
    assert_eq!(accounts.password_of("anna"), None);
}

#[test]
fn what_cannot_be_done_to_an_account_says_why() {
    let mut accounts = anna();
    let mut add = |name: &str| accounts.add(name, Role::View, &Code::of(&[1; 15]), stamp(9), NOW_S);
    assert_eq!(add("anna"), Err(Refusal::There("anna".into())));
    for name in ["", "Anna", "a b", "a/b", "<b>", "ä", &"a".repeat(65)] {
        assert_eq!(add(name), Err(Refusal::Name(name.into())), "{name}");
    }
    for n in 1..ACCOUNTS_MAX {
        add(&format!("n{n}")).unwrap();
    }
    assert_eq!(add("one-more"), Err(Refusal::Full));
    let nobody = Err(Refusal::Nobody("nobody".into()));
    assert_eq!(accounts.remove("nobody"), nobody);
    assert_eq!(accounts.set_role("nobody", Role::Admin, stamp(1)), nobody);
    assert_eq!(accounts.set_disabled("nobody", true, stamp(1)), nobody);
    assert_eq!(accounts.set_password(of("nobody", &stamp(1)), KEPT, stamp(1)), Err(Refusal::Changed));
    assert_eq!(accounts.reset("nobody", &Code::of(&[1; 15]), stamp(1), NOW_S), nobody);
}

#[test]
fn each_role_may_do_what_the_one_before_may() {
    let order = [Role::View, Role::Operate, Role::Reprocess, Role::Admin];
    assert!(order.is_sorted());
    for role in order {
        let written = serde_json::to_string(&role).unwrap();
        assert_eq!(written, format!("\"{role}\""), "it is shown as it is kept");
    }
}

#[test]
fn a_session_ends_when_nobody_uses_it_and_after_a_day_of_work() {
    let accounts = anna();
    let idle = IDLE_MAX.as_secs();
    let mut door = Door::default();
    let passed = inside(&mut door, &accounts, at(0));
    assert!(is_in(&mut door, &accounts, passed.cookie(), at(idle - 1)));
    assert!(is_in(&mut door, &accounts, passed.cookie(), at(2 * idle - 2)));
    // What the page asks for by itself keeps it alive no longer.
    assert!(door.find(&accounts, passed.cookie(), false, at(3 * idle - 3)).is_some());
    assert!(!is_in(&mut door, &accounts, passed.cookie(), at(3 * idle - 2)));
    assert!(!is_in(&mut door, &accounts, passed.cookie(), at(0)), "what is over does not come back");
    let passed = inside(&mut door, &accounts, at(0));
    let mut now = 0;
    while is_in(&mut door, &accounts, passed.cookie(), at(now)) {
        now += 60;
    }
    assert_eq!(at(now), AGE_MAX);
    let half = half(&mut door, &accounts, 9, at(0));
    assert!(door.find(&accounts, half.cookie(), true, at(UNFINISHED_MAX.as_secs() - 1)).is_some());
    assert!(door.find(&accounts, half.cookie(), true, UNFINISHED_MAX).is_none(), "use makes half of it no older");
}

#[test]
fn an_id_of_before_the_second_factor_or_of_nobody_leads_nowhere() {
    let accounts = anna();
    let mut door = Door::default();
    let half = half(&mut door, &accounts, 1, at(0));
    assert!(!is_in(&mut door, &accounts, half.cookie(), at(0)));
    let whole = door.pass(&accounts, (half.cookie(), HERE), &on(), &fresh(2), at(0)).unwrap();
    assert_ne!(whole.cookie(), half.cookie());
    let tampered = whole.cookie().replacen('A', "B", 1);
    for (cookie, answer) in [
        (whole.cookie(), true),
        (half.cookie(), false),
        (&tampered, false),
        (&whole.cookie().to_uppercase(), false),
        (&format!("{} ", whole.cookie()), false),
        ("", false),
        (&BASE64_URL_SAFE_NO_PAD.encode(hash(whole.cookie())), false),
    ] {
        assert_eq!(is_in(&mut door, &accounts, cookie, at(1)), answer, "{cookie}");
    }
    assert!(door.pass(&accounts, (half.cookie(), HERE), &on(), &fresh(3), at(1)).is_none(), "half of it was used");
    let session = door.find(&accounts, whole.cookie(), true, at(1)).unwrap();
    assert!(session.made(session.form()));
    for form in ["", "0", &session.form().to_uppercase()[..42], half.cookie()] {
        assert!(!session.made(form), "{form}");
    }
    door.close(whole.cookie());
    assert!(!is_in(&mut door, &accounts, whole.cookie(), at(1)));
}

type Change = fn(&mut Accounts) -> Result<(), Refusal>;

/// What somebody else does to Anna's account, and whether it is the same one afterwards.
const CHANGES: [(&str, Change, bool); 8] = [
    ("nothing", |_| Ok(()), true),
    ("a code is used", |all| all.use_code(of("anna", &on()), &totp::shown(&secret(), NOW_S), NOW_S), true),
    ("new recovery codes", |all| all.set_recovery(of("anna", &on()), &recovery(), stamp(7)), false),
    ("disabled", |all| all.set_disabled("anna", true, stamp(7)), false),
    ("another role", |all| all.set_role("anna", Role::Admin, stamp(7)), false),
    ("another password", |all| all.set_password(of("anna", &on()), KEPT, stamp(7)), false),
    ("reset", |all| all.reset("anna", &Code::of(&[1; 15]), stamp(7), NOW_S), false),
    (
        "removed, and another of that name",
        |all| {
            all.remove("anna")?;
            all.add("anna", Role::Operate, &Code::of(&[1; 15]), stamp(7), NOW_S)
        },
        false,
    ),
];

#[test]
fn sessions_end_with_what_they_were_begun_on() {
    for (what, change, stays) in CHANGES {
        let (mut accounts, mut door) = (anna(), Door::default());
        let passed = inside(&mut door, &accounts, at(0));
        change(&mut accounts).unwrap();
        assert_eq!(is_in(&mut door, &accounts, passed.cookie(), at(1)), stays, "{what}");
        assert_eq!(is_in(&mut door, &anna(), passed.cookie(), at(1)), stays, "{what}: for good");
    }
}

#[test]
fn what_a_session_asks_for_is_not_done_to_an_account_that_was_changed_meanwhile() {
    let asked: [(&str, Change); 3] = [
        ("a code", |all| all.use_code(of("anna", &on()), &totp::shown(&secret(), NOW_S + 30), NOW_S)),
        ("a password", |all| all.set_password(of("anna", &on()), "$other", stamp(8))),
        ("recovery codes", |all| all.set_recovery(of("anna", &on()), &[Code::of(&[9; 10])], stamp(8))),
    ];
    for (what, change, stays) in CHANGES {
        for (asked_for, ask) in asked {
            let mut accounts = anna();
            change(&mut accounts).unwrap();
            let before = accounts.text();
            let answer = if stays { Ok(()) } else { Err(Refusal::Changed) };
            assert_eq!(ask(&mut accounts), answer, "{what}, and then {asked_for}");
            assert_eq!(accounts.text() == before, !stays, "{what}, and then {asked_for}");
        }
        // Between the code, which counts, and the look at the accounts by which they are let in.
        let (mut accounts, mut door) = (anna(), Door::default());
        let half = half(&mut door, &accounts, 1, at(0));
        change(&mut accounts).unwrap();
        let passed = door.pass(&accounts, (half.cookie(), HERE), &on(), &fresh(2), at(1));
        assert_eq!(passed.is_some(), stays, "{what}, and then in");
    }
}

#[test]
fn who_was_invited_anew_meanwhile_cannot_use_what_they_had_chosen() {
    let accept = |all: &mut Accounts| {
        all.accept(
            of("anna", &stamp(1)),
            KEPT,
            (&secret(), &totp::shown(&secret(), NOW_S)),
            (&recovery(), stamp(2)),
            NOW_S,
        )
    };
    let changes: [(&str, Change, Result<(), Refusal>); 5] = [
        ("nothing", |_| Ok(()), Ok(())),
        ("reset", |all| all.reset("anna", &Code::of(&[1; 15]), stamp(7), NOW_S), Err(Refusal::Changed)),
        ("disabled", |all| all.set_disabled("anna", true, stamp(7)), Err(Refusal::Changed)),
        ("role", |all| all.set_role("anna", Role::Admin, stamp(7)), Err(Refusal::Changed)),
        ("removed", |all| all.remove("anna"), Err(Refusal::Changed)),
    ];
    for (what, change, answer) in changes {
        let mut accounts = Accounts::default();
        invite(&mut accounts, "anna", Role::View);
        change(&mut accounts).unwrap();
        assert_eq!(accept(&mut accounts), answer, "{what}");
    }
}

#[test]
fn nobody_is_in_with_an_account_that_is_not_open() {
    let mut accounts = Accounts::default();
    invite(&mut accounts, "anna", Role::View);
    let mut door = Door::default();
    let invited = door.invited(&accounts, ("anna", HERE), &fresh(1), at(0)).unwrap();
    assert!(door.find(&accounts, invited.cookie(), true, at(0)).is_some());
    assert!(door.pass(&accounts, (invited.cookie(), HERE), &stamp(1), &fresh(2), at(0)).is_none());
}

#[test]
fn a_stolen_password_keeps_nobody_from_showing_the_second_factor_who_comes_from_elsewhere() {
    let accounts = anna();
    let mut door = Door::default();
    let theirs = half(&mut door, &accounts, 1, at(0));
    for n in 10..1_010 {
        let from = IpAddr::from([10, 0, 0, if n % 3 == 0 { 8 } else { 9 }]);
        assert!(matches!(door.password(&accounts, ("anna", from), true, &fresh(n), at(1)), Said::Right(_)));
        assert!(door.find(&accounts, theirs.cookie(), false, at(1)).is_some(), "{n}");
    }
    assert_eq!(door.sessions.len(), SESSIONS_MAX);
}

#[test]
fn who_has_half_of_it_ends_no_session_and_all_of_them_are_bounded() {
    let accounts = anna();
    let mut door = Door::default();
    let first = inside(&mut door, &accounts, at(0));
    for n in 10..10_010 {
        let half = half(&mut door, &accounts, n, at(1));
        door.choose(half.cookie(), Draft { password: String::new().into(), secret: String::new().into() });
    }
    assert_eq!(door.sessions.len(), SESSIONS_MAX + 1);
    assert!(is_in(&mut door, &accounts, first.cookie(), at(2)));
    let again = (0..SESSIONS_MAX as u16).map(|n| {
        let half = half(&mut door, &accounts, 20_000 + n, at(3));
        door.pass(&accounts, (half.cookie(), HERE), &on(), &fresh(30_000 + n), at(3)).unwrap()
    });
    let again: Vec<Passed> = again.collect();
    assert!(!is_in(&mut door, &accounts, first.cookie(), at(3)), "the one that was used longest ago gives way");
    assert!(again.iter().all(|passed| is_in(&mut door, &accounts, passed.cookie(), at(3))));
    assert!(door.sessions.len() <= 2 * SESSIONS_MAX);
}

#[test]
fn ten_thousand_wrong_passwords_grow_nothing_and_lock_nobody_out() {
    let accounts = anna();
    let mut door = Door::default();
    let mut now = at(0);
    let says = |door: &mut Door, from: IpAddr, now| {
        matches!(door.password(&accounts, ("anna", from), true, &fresh(1), now), Said::Right(_))
    };
    for n in 0..10_000_u16 {
        now += Duration::from_millis(100);
        let name = if n % 2 == 0 { "anna".to_string() } else { format!("guess-{n}") };
        assert!(!matches!(door.password(&accounts, (&name, HERE), false, &fresh(n), now), Said::Right(_)));
    }
    assert_eq!(door.sessions.len(), 0);
    assert_eq!(door.tries.remembered(), [1, 1, 0, 0, 0], "names that nobody has are not remembered");
    assert!(!says(&mut door, HERE, now), "a right one does not count while it waits");
    assert!(says(&mut door, THERE, now), "whoever comes from elsewhere waits for nobody");
    assert!(says(&mut door, HERE, now + WAIT_MAX), "tries that did not count kept nobody out");
}

#[test]
fn a_right_password_alone_does_not_begin_the_count_of_codes_anew() {
    let accounts = anna();
    let mut door = Door::default();
    let owner = inside(&mut door, &accounts, at(0));
    let owner = door.find(&accounts, owner.cookie(), true, at(0)).unwrap();
    let session = |door: &mut Door, n| {
        let half = half(door, &accounts, n, at(0));
        door.find(&accounts, half.cookie(), true, at(0)).unwrap()
    };
    for n in 0..FAILURES_FREE as u16 {
        let thief = session(&mut door, 10 + n);
        assert!(door.counts_again(&thief, at(0)));
        door.failed_again(&thief, at(0));
    }
    let thief = session(&mut door, 20);
    assert!(!door.counts_again(&thief, at(0)), "who knows the password guesses at the second factor no faster");
    assert!(door.counts_again(&owner, at(0)), "and does not keep its owner, who is in, from changing it");
    let half = half(&mut door, &accounts, 99, at(5));
    door.pass(&accounts, (half.cookie(), HERE), &on(), &fresh(100), at(5)).unwrap();
    door.failed_again(&thief, at(5));
    assert!(door.counts_again(&thief, at(5)));
}

#[test]
fn nothing_secret_is_in_what_a_damaged_file_is_said_to_be() {
    let text = anna().text().replace("\"last_step\"", "\"lost_step\"");
    let Err(Unread::Damaged(why)) = Accounts::parse(&text) else { panic!("it is damaged") };
    assert!(why.starts_with("line ") && !why.contains("lost_step") && !why.contains(&secret()), "{why}");
    for (text, answer) in [
        ("{\"version\":1,\"accounts\":{}}", Ok(())),
        ("{\"version\":1,\"accounts\":{},\"of_a_later_release\":[1]}", Ok(())),
        ("{\"version\":2,\"people\":[]}", Err(Unread::Later(2))),
    ] {
        assert_eq!(Accounts::parse(text).map(drop), answer, "{text}");
    }
}

#[test]
fn what_a_later_release_has_added_stays_until_a_reset() {
    let text = anna().text();
    let text = text.replace("\"version\"", "\"of_all\": [1, {\"a\": null}], \"version\"");
    let text = text.replace("\"stamp\"", "\"of_the_account\": {\"keys\": [\"one\"]}, \"stamp\"");
    let text = text.replace("\"last_step\"", "\"of_the_factor\": true, \"last_step\"");
    let mut accounts = Accounts::parse(&text).unwrap();
    assert!(accounts.get("anna").is_some_and(Account::is_open));
    let added = |all: &Accounts| {
        let kept: serde_json::Value = serde_json::from_str(&all.text()).unwrap();
        let anna = &kept["accounts"]["anna"];
        [&kept["of_all"], &anna["of_the_account"], &anna["second_factor"]["of_the_factor"]].map(Clone::clone)
    };
    accounts.use_code(of("anna", &on()), &totp::shown(&secret(), NOW_S), NOW_S).unwrap();
    accounts.set_role("anna", Role::Admin, stamp(3)).unwrap();
    accounts.set_password(of("anna", &stamp(3)), KEPT, stamp(4)).unwrap();
    let all = [serde_json::json!([1, { "a": null }]), serde_json::json!({ "keys": ["one"] }), true.into()];
    assert_eq!(added(&accounts), all);
    accounts.reset("anna", &Code::of(&[5; 15]), stamp(5), NOW_S).unwrap();
    let nothing = serde_json::Value::Null;
    assert_eq!(added(&accounts), [all[0].clone(), nothing.clone(), nothing], "what lets in is forgotten with the rest");
}
