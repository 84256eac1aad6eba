//! The box's own page: who is let in and who is not, what it is told and when, and with which headers it answers.

#[path = "console/visitor.rs"]
mod visitor;

use crate::site::{Running, TIMERS, ended, free_port, until, until_served};
use crate::{afferent, err, out};
use serde_json::Value;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use visitor::{PASSWORD, Telephone, Visitor, read};

/// A console, and, where one is asked for, a gateway with one link, which is silent for too long after five seconds.
struct Bench {
    dir: tempfile::TempDir,
    link: u16,
    gateway: Option<Running>,
    console: Running,
    visitor: Visitor,
}

impl Bench {
    fn new() -> Bench {
        let mut bench = Bench::alone();
        bench.gateway = Some(Running::start(&["run", "--config", &bench.config()], None));
        until_served(&bench.path("data"), &bench.path("none"));
        bench
    }

    /// Without a gateway.
    fn alone() -> Bench {
        Bench::with(|_| ()).0
    }

    /// Without a gateway, and with something done to the data directory before the console is served.
    fn with<T>(prepare: impl FnOnce(&Path) -> T) -> (Bench, T) {
        let dir = tempfile::tempdir().unwrap();
        let [link, listen] = [(); 2].map(|()| free_port());
        let (config, data) = (dir.path().join("afferent.toml"), dir.path().join("data"));
        let text = format!(
            "[gateway]\nname = \"bench-1\"\ndata = {data:?}\n[journal]\nfree_min_mb = 0\n[watch]\nlook_s = 1\n\
             [[watch.link]]\nname = \"ward\"\nsilence_s = 5\n\
             [[link]]\nname = \"ward\"\nprotocol = \"hl7\"\nlisten = \"127.0.0.1:{link}\"\nclock_limit_s = 0\n{TIMERS}\
             [[destination]]\nname = \"ehr\"\naddress = \"127.0.0.1:9\"\n"
        );
        std::fs::write(&config, text).unwrap();
        std::fs::create_dir(&data).unwrap();
        let prepared = prepare(&data);
        let config = config.display().to_string();
        let console = Bench::console(dir.path(), &config, listen);
        let visitor = Visitor::at(&data, listen);
        (Bench { dir, link, gateway: None, console, visitor }, prepared)
    }

    fn console(dir: &Path, config: &str, port: u16) -> Running {
        let address = format!("127.0.0.1:{port}");
        Running::start(&["console", "--config", config, "--listen", &address], Some(&dir.join("console.log")))
    }

    /// The console ends and begins anew.
    fn begin_anew(&mut self) {
        let (config, port) = (self.config(), self.visitor.port());
        let _ = self.console.0.kill();
        let _ = self.console.0.wait();
        self.console = Bench::console(self.dir.path(), &config, port);
        self.visitor = Visitor::at(&self.path("data"), port);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn config(&self) -> String {
        self.path("afferent.toml").display().to_string()
    }

    fn user(&self, arguments: &[&str]) -> Output {
        let config = self.config();
        afferent(&[&["console", "user"], arguments, &["--config", &config]].concat())
    }

    /// Makes an account; the code of its invitation.
    fn invite(&self, name: &str, role: &str) -> String {
        let made = self.user(&["add", name, "--role", role]);
        assert_eq!(made.status.code(), Some(0), "{}", err(&made));
        code_in(&out(&made))
    }

    /// Anna is in, in the browser of the bench.
    fn anna(&mut self) -> (Telephone, Vec<String>) {
        let code = self.invite("anna", "operate");
        self.visitor.accept(&code)
    }

    /// What is in the record of the box of accounts and log-ins: the act, and what is to be known of it.
    fn noted(&self) -> Vec<String> {
        let listed = afferent(&["audit", "list", "--json", "--config", &self.config()]);
        assert_eq!(listed.status.code(), Some(0), "{}", err(&listed));
        let told = out(&listed);
        for secret in [PASSWORD, "incorrect horse", "argon2"] {
            assert!(!told.contains(secret), "{told}");
        }
        let lines = told.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["what"].take());
        let word = |of: &Value, name: &str| of[name].as_str().map(|word| format!(" {word}")).unwrap_or_default();
        let named = ["account", "change", "role", "from", "page", "outcome"];
        lines.map(|of| of["act"].as_str().unwrap().to_string() + &named.map(|name| word(&of, name)).concat()).collect()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("console.log")).unwrap()
    }

    fn send(&self) {
        let address = format!("127.0.0.1:{}", self.link);
        let sim = ["sim", "instrument", "--protocol", "hl7", "-n", "1", "--corrections", "0", "--connect", &address];
        let sent = afferent(&sim);
        assert_eq!(sent.status.code(), Some(0), "{}{}", out(&sent), err(&sent));
    }
}

/// Goes through the console with a browser (`tests/peers/console_browser.cjs`); `None`, with a word, where there is none.
fn with_a_browser(asked: &Value) -> Option<Value> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers");
    let peers = std::env::var_os("AFFERENT_PEERS").map_or(built, PathBuf::from).join("node");
    if !Path::new("/usr/bin/chromium").exists() || !peers.join("node_modules/puppeteer-core").is_dir() {
        println!("left out: the console in a browser (no chromium or no npm puppeteer-core; tests/all installs both)");
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/console_browser.cjs");
    let mut node = Command::new("node");
    node.arg(script).arg(peers.canonicalize().unwrap()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut node = node.stderr(Stdio::piped()).spawn().unwrap();
    node.stdin.take().unwrap().write_all(asked.to_string().as_bytes()).unwrap();
    let said = node.wait_with_output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    Some(serde_json::from_slice(&said.stdout).unwrap())
}

/// The code of an invitation, in what a person is told.
fn code_in(told: &str) -> String {
    let is_code = |line: &&str| line.split('-').count() == 6 && line.split('-').all(|group| group.len() == 4);
    told.lines().map(str::trim).find(is_code).unwrap_or_else(|| panic!("no code: {told}")).to_string()
}

fn alerts(now: &Value) -> &Vec<Value> {
    now["alerts"].as_array().unwrap_or_else(|| panic!("no alerts: {now}"))
}

#[test]
fn an_invitation_leads_in_once_and_nothing_of_it_is_kept_in_the_open() {
    let mut bench = Bench::alone();
    let first = bench.visitor.get("/login");
    assert!(first.body.contains("sudo afferent console user add NAME --role admin"), "{}", first.body);
    let code = bench.invite("anna", "operate");
    let (mut telephone, spare) = bench.visitor.accept(&code);
    assert_eq!(spare.len(), 10);
    let page = bench.visitor.get("/");
    assert!(
        page.status == 200 && page.body.contains("bench-1") && page.body.contains("anna (operate)"),
        "{}",
        page.body
    );
    let mut another = bench.visitor.another();
    assert_eq!(another.send("/invitation", &[("code", &code)]).status, 403, "it was good once");
    let shown = telephone.shows();
    assert_eq!(another.log_in("anna", &shown).header("location"), "/");
    let kept = bench.path("data/console.json");
    assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    let kept = std::fs::read_to_string(kept).unwrap();
    let log = bench.log();
    for secret in [&code, PASSWORD, &spare[0], &bench.visitor.cookie, &another.cookie] {
        assert!(!kept.contains(secret) && !log.contains(secret), "{log}");
    }
    assert!(kept.contains("$argon2id$v=19$m=19456,t=2,p=1$"), "{kept}");
    // Each code counts once, and a recovery code as well.
    assert_eq!(bench.visitor.another().log_in("anna", &shown).status, 403);
    assert_eq!(bench.visitor.another().log_in("anna", &spare[1]).header("location"), "/");
    assert_eq!(bench.visitor.another().log_in("anna", &spare[1]).status, 403);
    let listed = bench.user(&["list", "--json"]);
    let listed: Value = serde_json::from_str(&out(&listed)).unwrap();
    assert_eq!((&listed[0]["name"], &listed[0]["recovery_codes"]), (&"anna".into(), &9.into()), "{listed}");
    let right = ["log-in anna 127.0.0.1 /login right", "second-factor anna 127.0.0.1 /second-factor right"];
    let wrong = ["second-factor anna 127.0.0.1 /second-factor wrong"];
    let invited = ["account anna added operate", "account anna accepted 127.0.0.1"];
    assert_eq!(bench.noted(), [&invited[..], &right, &wrong, &right, &wrong].concat());
    // Another process knows of no session, but of each code that was used.
    bench.begin_anew();
    assert_eq!(another.get("/").header("location"), "/login");
    assert_eq!(bench.visitor.log_in("anna", &shown).status, 403);
    assert_eq!(bench.visitor.log_in("anna", &spare[1]).status, 403);
    assert_eq!(bench.visitor.log_in("anna", &telephone.shows()).header("location"), "/");
}

#[test]
fn who_serves_it_as_root_leaves_everything_to_the_service() {
    let (mut bench, is_given) = Bench::with(|data| {
        std::fs::set_permissions(data.parent().unwrap(), PermissionsExt::from_mode(0o711)).unwrap();
        chown(data, Some(4711), Some(4711)).is_ok()
    });
    if !is_given {
        println!("left out: a console that root serves (this is not root)");
        return;
    }
    bench.anna();
    for entry in std::fs::read_dir(bench.path("data")).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().uid(), 4711, "{}", entry.path().display());
    }
    assert!(bench.path("data/console.json").exists());
}

#[test]
fn only_who_is_in_sees_the_box_and_who_was_put_out_sees_no_more_of_it() {
    let mut bench = Bench::alone();
    let mut stranger = bench.visitor.another();
    for path in ["/", "/account", "/second-factor"] {
        let answer = stranger.get(path);
        assert_eq!((answer.status, answer.header("location")), (303, "/login"), "{path}");
    }
    assert_eq!(stranger.get("/box").status, 401);
    bench.anna();
    let cookie = bench.visitor.cookie.clone();
    for forged in ["", "0", &"0".repeat(64), &cookie[1..], &format!("{cookie}0"), &cookie.to_uppercase()] {
        stranger.cookie = forged.to_string();
        assert_eq!(stranger.get("/box").status, 401, "{forged}");
    }
    // The password alone is half of it.
    stranger.cookie.clear();
    stranger.send("/login", &[("name", " Anna "), ("password", PASSWORD)]);
    assert_eq!((stranger.get("/").header("location"), stranger.get("/box").status), ("/second-factor", 401));
    // A new log-in and a log-out leave nothing that counts.
    bench.visitor.get("/");
    assert_eq!(bench.visitor.send("/logout", &[]).header("location"), "/login");
    stranger.cookie = cookie;
    assert_eq!(stranger.get("/box").status, 401, "a cookie of before");

    let code = code_in(&out(&bench.user(&["reset", "anna"])));
    assert_eq!(stranger.send("/login", &[("name", "anna"), ("password", PASSWORD)]).status, 403, "that was reset");
    bench.visitor.accept(&code);
    let mut told = bench.visitor.told();
    assert!(told.next().is_some());
    assert_eq!(out(&bench.user(&["role", "anna", "view"])).trim(), "anna has the role view now, and logs in anew");
    assert!(told.take(20).count() < 20, "the stream ends");
    assert_eq!(bench.visitor.get("/").header("location"), "/login");
    for (verb, is_let_in) in [("disable", false), ("enable", true), ("remove", false)] {
        assert_eq!(bench.user(&[verb, "anna"]).status.code(), Some(0));
        let mut visitor = bench.visitor.another();
        let answer = visitor.send("/login", &[("name", "anna"), ("password", PASSWORD)]);
        assert_eq!(answer.status, if is_let_in { 303 } else { 403 }, "{verb}");
    }
    let nobody = bench.user(&["disable", "anna"]);
    assert!(nobody.status.code() == Some(1) && err(&nobody).contains("nobody has an account named anna"));
}

#[test]
fn a_wrong_name_and_a_wrong_password_get_the_same_answer_and_many_of_them_none() {
    let mut bench = Bench::alone();
    bench.anna();
    let mut try_it = |name: &str| {
        let mut visitor = bench.visitor.another();
        visitor.send("/login", &[("name", name), ("password", "incorrect horse battery")])
    };
    let [known, unknown] = ["anna", "nobody-here"].map(&mut try_it);
    assert_eq!((known.status, &known.body), (403, &unknown.body));
    let mut more = (0..10).map(|_| try_it("anna"));
    assert!(more.all(|answer| (answer.status, &answer.body) == (403, &known.body)));
    // It is noted beside the answer.
    let wrong = || bench.noted().into_iter().filter(|line| line == "log-in anna 127.0.0.1 /login wrong").count();
    until("those that counted are noted", || wrong() >= 5);
    assert!(wrong() < 11, "those that counted: {}", wrong());
    let log = bench.log();
    assert!(log.contains("a log-in was refused") && !log.contains("nobody-here"), "it may be a password: {log}");
    assert_eq!(bench.visitor.get("/").status, 200, "who is in stays in");
}

#[test]
fn what_does_not_come_from_a_page_of_the_box_changes_nothing() {
    let mut bench = Bench::alone();
    let (_, spare) = bench.anna();
    let page = bench.visitor.get("/account");
    let form = format!("form={}", page.between("name=\"form\" value=\"", "\"").unwrap());
    let cookie = bench.visitor.kept();
    let cookie = ("cookie", cookie.as_str());
    let (here, site) = (("origin", "https://localhost"), ("sec-fetch-site", "same-origin"));
    let (foreign, cross) = (("origin", "https://evil.example"), ("sec-fetch-site", "cross-site"));
    let long = "x".repeat(17 << 10);
    let longer = "x".repeat(600 << 10);
    let ask = |(method, path, headers, body): (&str, &str, &[(&str, &str)], &str)| {
        bench.visitor.ask(method, path, headers, body).status
    };
    for (request, status) in [
        (("POST", "/logout", &[cookie, foreign][..], &*form), 403),
        (("POST", "/logout", &[cookie, foreign, site], &form), 403),
        (("POST", "/logout", &[cookie, here, cross], &form), 403),
        (("POST", "/logout", &[cookie], &form), 403),
        (("POST", "/logout", &[cookie, here], "form=0"), 403),
        (("POST", "/logout", &[cookie, here], ""), 403),
        (("POST", "/login", &[foreign, cross], "name=anna"), 403),
        (("POST", "/account", &[cookie, here], &long), 413),
        (("POST", "/login", &[here], &longer), 413),
        (("POST", "/account", &[cookie, here], &form), 400),
        (("POST", "/", &[cookie, here], &form), 405),
        (("POST", "/box", &[cookie, here], &form), 405),
        (("GET", "/logout", &[cookie], ""), 405),
        (("PUT", "/account", &[cookie, here], &form), 405),
        (("DELETE", "/", &[cookie], ""), 405),
        (("HEAD", "/", &[cookie], ""), 405),
        (("GET", "/../etc/passwd", &[cookie], ""), 404),
        (("GET", "/assets/../../etc/passwd", &[cookie], ""), 404),
        (("GET", "/assets/%2e%2e/page.key", &[cookie], ""), 404),
        (("GET", "/assets/", &[], ""), 404),
        (("GET", "/console.json", &[cookie], ""), 404),
        (("GET", "//", &[cookie], ""), 404),
        (("GET", "/", &[cookie, cookie], ""), 303),
        (("GET", "/", &[cookie], ""), 200),
    ] {
        let (method, path, headers, _) = request;
        assert_eq!(ask(request), status, "{method} {path} {headers:?}");
    }
    // One's own account takes what only oneself knows.
    let mut anna = bench.visitor.another();
    anna.cookie = bench.visitor.cookie.clone();
    anna.get("/account");
    let new = "another horse battery";
    let change = |present: &'static str, password: &'static str| {
        [("what", "password"), ("present", present), ("password", password), ("again", new)]
    };
    for (fields, says) in [
        (change("wrong", new), "present password is wrong"),
        (change(PASSWORD, "short"), "too short"),
        (change(PASSWORD, "afferent2026"), "tried first"),
        (change(PASSWORD, "one that is not the other"), "not the same"),
    ] {
        let answer = anna.send("/account", &fields);
        assert!(answer.status == 403 && answer.body.contains(says), "{says}: {}", answer.body);
    }
    assert_eq!(anna.send("/account", &change(PASSWORD, new)).header("location"), "/account");
    assert_eq!(bench.visitor.get("/").header("location"), "/login", "wherever else she was in, she is not any more");
    anna.get("/account");
    let codes = anna.send("/account", &[("what", "codes"), ("code", &spare[0])]);
    assert!(codes.status == 200 && codes.body.contains("count no more"), "{}", codes.body);
    anna.get("/account");
    assert_eq!(anna.send("/account", &[("what", "codes"), ("code", &spare[1])]).status, 403);
    let own = [
        "log-in anna 127.0.0.1 /account wrong",
        "account anna password 127.0.0.1",
        "account anna recovery-codes 127.0.0.1",
        "second-factor anna 127.0.0.1 /account wrong",
    ];
    assert_eq!(bench.noted()[2..], own);
}

#[test]
fn every_answer_says_what_a_browser_is_to_keep_to() {
    let mut bench = Bench::alone();
    bench.anna();
    let page = bench.visitor.get("/");
    let [style, script] =
        ["href=\"/assets/", "src=\"/assets/"].map(|before| format!("/assets/{}", page.between(before, "\"").unwrap()));
    assert!(!page.body.contains("style=") && !page.body.contains("<style") && !page.body.contains("onclick"));
    let assets = [&style, &script].map(|path| bench.visitor.get(path));
    assert!(assets.iter().all(|asset| asset.status == 200 && asset.header("cache-control").contains("immutable")));
    let first: usize = page.body.len() + assets.iter().map(|asset| asset.body.len()).sum::<usize>();
    assert!(first < 60_000, "the first page is {first} bytes");
    let cookie = bench.visitor.kept();
    let here = ("origin", "https://localhost");
    for (method, path, headers, body) in [
        ("GET", "/", &[("cookie", cookie.as_str())][..], ""),
        ("GET", "/", &[], ""),
        ("GET", "/login", &[], ""),
        ("GET", "/invitation", &[], ""),
        ("GET", "/box", &[], ""),
        ("GET", "/none", &[], ""),
        ("GET", &style, &[], ""),
        ("PUT", "/login", &[], ""),
        ("POST", "/login", &[], "name=a"),
        ("POST", "/login", &[here], "name=a&password=b"),
        ("POST", "/login", &[here], &"x".repeat(17 << 10)),
        ("POST", "/logout", &[here], ""),
    ] {
        let answer = bench.visitor.ask(method, path, headers, body);
        for (name, value) in [
            (
                "content-security-policy",
                "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                 form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
            ),
            // Nobody could come to a box any more whose own certificate was made anew.
            ("strict-transport-security", ""),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
        ] {
            assert_eq!(answer.header(name), value, "{method} {path}");
        }
        let is_kept = path == style;
        assert_eq!(answer.header("cache-control") == "no-store", !is_kept, "{method} {path}");
    }
    let mut other = bench.visitor.another();
    let set = other.send("/login", &[("name", "anna"), ("password", PASSWORD)]);
    let rules = set.header("set-cookie").split_once("; ").unwrap().1;
    assert_eq!(rules, "Secure; HttpOnly; SameSite=Strict; Path=/");
}

#[test]
fn who_is_slow_keeps_nobody_waiting_and_is_told_so() {
    let bench = Bench::alone();
    let mut slow = bench.visitor.connect();
    slow.write_all(b"POST /login HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\nname=").unwrap();
    let mut slower = bench.visitor.connect();
    slower.write_all(b"GET /log").unwrap();
    assert_eq!(read(slow).status, 408);
    let mut rest = Vec::new();
    let _ = std::io::Read::read_to_end(&mut slower, &mut rest);
    assert!(!rest.starts_with(b"HTTP/1.1 2"), "who asks nothing is hung up on");
    let long = "x".repeat(17 << 10);
    assert_eq!(bench.visitor.ask("GET", "/login", &[("long", &long)], "").status, 431, "nobody fills the memory");
    // More than there is room for, each of them open.
    let _silent: Vec<_> = (0..200).map(|_| bench.visitor.dial(None)).collect();
    assert!(bench.visitor.is_let_in(), "the silent give way");
    let _half: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = bench.visitor.connect();
            let asks = b"POST /login HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\nname=";
            stream.write_all(asks).map(|()| stream)
        })
        .collect();
    assert!(bench.visitor.is_let_in(), "so do those that never come to an end");
}

#[test]
fn who_takes_no_answer_keeps_nobody_out() {
    let bench = Bench::alone();
    let ask = b"GET /login HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(200);
    let _asks: Vec<_> = (0..64)
        .map(|_| {
            let mut stream = bench.visitor.over(bench.visitor.dial(Some(4096)));
            stream.sock.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
            let _ = stream.write_all(&ask);
            stream
        })
        .collect();
    assert!(bench.visitor.is_let_in(), "they give way, as their answers were handed over");
}

#[test]
fn open_to_the_network_it_has_a_certificate_for_the_name_of_the_box_and_that_address() {
    let bench = Bench::alone();
    let port = free_port();
    let listen = format!("0.0.0.0:{port}");
    let data = bench.path("data");
    std::fs::remove_file(data.join("page.pem")).unwrap();
    let _other = Running::start(&["console", "--config", &bench.config(), "--listen", &listen], None);
    assert_eq!(Visitor::at(&data, port).get("/login").status, 200);
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_string();
    let made = std::fs::read(data.join("page.pem")).unwrap();
    afferent::page::own_certificate(&data, &[host], &[]).unwrap();
    assert_eq!(std::fs::read(data.join("page.pem")).unwrap(), made, "it is for that name already");
    let invited = out(&bench.user(&["add", "bert", "--role", "view"]));
    let at = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert!(invited.contains(&format!("https://{}:{port}/invitation", at.trim())), "{invited}");
    // One that is served for a while is not where anybody is sent.
    let brief = free_port();
    let for_a_while = format!("127.0.0.1:{brief}");
    let for_a_while = ["console", "--config", &bench.config(), "--listen", &for_a_while, "--seconds", "600"];
    let _brief = Running::start(&for_a_while, None);
    assert_eq!(Visitor::at(&data, brief).get("/login").status, 200);
    let invited = out(&bench.user(&["reset", "bert"]));
    assert!(invited.contains(&format!(":{port}/invitation")), "{invited}");
    let invited = out(&bench.user(&["reset", "bert", "--at", "bench.example:9440"]));
    assert!(invited.contains("https://bench.example:9440/invitation"), "{invited}");
    // With a certificate of the site's browsers are to insist on it.
    let (port, [cert, key]) = (free_port(), ["site.pem", "site.key"].map(|name| bench.path(name)));
    std::fs::copy(data.join("page.pem"), &cert).unwrap();
    std::fs::copy(data.join("page.key"), &key).unwrap();
    let (address, [cert, key]) = (format!("127.0.0.1:{port}"), [cert, key].map(|file| file.display().to_string()));
    let certified = ["console", "--config", &bench.config(), "--listen", &address, "--cert", &cert, "--key", &key];
    let _certified = Running::start(&certified, None);
    assert_eq!(Visitor::at(&data, port).get("/login").header("strict-transport-security"), "max-age=31536000");
    let half = afferent(&["console", "--config", &bench.config(), "--cert", "a.pem"]);
    assert!(half.status.code() == Some(2) && err(&half).contains("--key"), "{}", err(&half));
}

#[test]
fn a_certificate_that_was_renewed_counts_from_the_next_connection() {
    let mut bench = Bench::new();
    bench.anna();
    let mut watching = bench.visitor.told();
    assert!(watching.next().is_some());
    let other = tempfile::tempdir().unwrap();
    let renewed = afferent::page::own_certificate(other.path(), &[], &[]).unwrap();
    // Half of a pair is not used, and the old one goes on.
    std::fs::copy(&renewed.key, bench.path("data/page.key")).unwrap();
    assert_eq!(bench.visitor.get("/").status, 200);
    std::fs::copy(&renewed.cert, bench.path("data/page.pem")).unwrap();
    // The client trusts what lies in the folder now, and nothing else.
    assert_eq!(bench.visitor.get("/").status, 200);
    let log = bench.log();
    assert!(log.contains("a changed certificate is not used"), "{log}");
    assert!(watching.nth(1).is_some(), "who was watching goes on");
}

#[test]
fn it_shows_an_alert_while_it_stands_and_what_keeps_results_from_the_ehr() {
    let mut bench = Bench::new();
    bench.anna();
    let mut told = bench.visitor.told().filter(|now| now["alerts"].is_array());
    let standing = told.find(|now| !alerts(now).is_empty()).unwrap();
    assert_eq!((&alerts(&standing)[0]["of"], &standing["name"]), (&"ward".into(), &"bench-1".into()), "{standing}");
    let says = alerts(&standing)[0]["says"].as_str().unwrap();
    assert!(says.contains("nothing came for"), "{says}");
    bench.send();
    let over = told.find(|now| alerts(now).is_empty()).unwrap();
    let of_ehr = |now: &Value| -> Vec<Value> {
        let findings = now["findings"].as_array().unwrap();
        findings.iter().filter(|finding| finding["subject"] == "ehr" && finding["state"] == "bad").cloned().collect()
    };
    assert!(!of_ehr(&over).is_empty(), "nobody answers there: {over}");
    bench.gateway.take().unwrap().stop();
    let gone = told.find(|now| {
        let findings = now["findings"].as_array().unwrap();
        findings.iter().any(|finding| finding["layer"] == "gateway" && finding["state"] == "bad")
    });
    assert!(gone.is_some(), "the page outlives the gateway and says so");
    // A factory reset takes the accounts and the certificate, and with them whoever was in.
    std::fs::remove_file(bench.path("data/console.json")).unwrap();
    assert_eq!(bench.visitor.get("/").header("location"), "/login");
    std::fs::remove_file(bench.path("data/page.pem")).unwrap();
    assert_eq!(ended(&mut bench.console.0).code(), Some(1));
}

#[test]
fn a_person_with_a_phone_and_a_keyboard_comes_in_and_leaves() {
    let bench = Bench::new();
    let shots = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/console-shots");
    std::fs::create_dir_all(&shots).unwrap();
    let url = format!("https://localhost:{}", bench.visitor.port());
    let code = bench.invite("anna", "admin");
    let asked = serde_json::json!({ "url": url, "code": code, "password": PASSWORD, "shots": shots });
    let Some(saw) = with_a_browser(&asked) else { return };
    let titles = [
        "Log in",
        "Invitation",
        "Invitation",
        "Invitation",
        "Recovery codes",
        "bench-1",
        "Account",
        "Second factor",
        "bench-1",
        "Log in",
    ];
    let seen: Vec<&str> = saw["titles"].as_array().unwrap().iter().map(|title| title.as_str().unwrap()).collect();
    assert!(seen.iter().zip(titles).all(|(seen, title)| seen.starts_with(title)), "{seen:?}");
    assert_eq!((seen.len(), &saw["codes"], &saw["out"]), (titles.len(), &10.into(), &format!("{url}/login").into()));
    assert_eq!(saw["findings"], serde_json::json!([]), "axe-core finds nothing serious");
    assert_eq!(saw["wide"], serde_json::json!([]), "a phone scrolls no page sideways");
}
