//! Everything bad that a box may be given: each is named in the log, shown on LEDs and display as far as there are any, and
//! results go on from the analyzer to the EHR's acknowledgement. `afferent check` and the doctor say the same before that.

use crate::broker::{Broker, until};
use crate::commands::key;
use crate::config::{BOX, Site, sealed};
use crate::ports::free_port;
use afferent_board::definition::{Definition, builtin};
use afferent_board::folder::Folder;
use afferent_board::parts::Hardware;
use afferent_board::screen::Screen;
use afferent_board::seen::Stick;
use std::path::Path;
use std::sync::Arc;

/// What is bad.
enum Bad {
    /// The file of the definition, by its name.
    Definition(&'static str),
    /// A part of the board that is not there.
    Absent(&'static str),
    /// The board is another one than this machine, which has none.
    Machine,
    /// A stick with a configuration that a stranger has signed.
    Stick,
    /// A journal of this schema.
    Schema(u32),
}

/// Which bad thing, what the log says, what the LED of the box stands for, and what the display shows. Nothing is lit where
/// it is not known which pins are the box's.
type Row = (Bad, String, Option<&'static str>, Option<Screen>);

/// A part that is not there: somebody should look, and the display says at what.
fn absent(file: &'static str, part: &str) -> Row {
    let screen = Screen::Alerts { alerts: vec![format!("board: {part}")] };
    (Bad::Absent(file), format!("board: {part}: "), Some("attention"), Some(screen).filter(|_| part != "display"))
}

fn rows() -> Vec<Row> {
    let stranger = "no operator of this box who may has signed it";
    let mut rows: Vec<Row> = vec![
        (Bad::Definition("nowhere.toml"), "nowhere.toml: No such file".to_string(), None, None),
        (Bad::Definition("wrong.toml"), "unknown variant `fly`".to_string(), None, None),
        (Bad::Machine, "name the definition of this board; nothing is driven until then".to_string(), None, None),
        absent("led-analyzer", "analyzer LED"),
        absent("button", "button"),
        absent("supply", "supply"),
        absent("relay-well", "relay well"),
        absent("port-serial-1-0", "port serial-1"),
        absent("display.pbm", "display"),
        absent("temperature", "temperature"),
        absent("rtc", "rtc"),
        (
            Bad::Stick,
            format!("the configuration on the stick is not taken: {stranger}"),
            Some("stick-refused"),
            Some(Screen::Stick { stick: Stick::NotTaken(stranger.to_string()) }),
        ),
    ];
    let newest = afferent::journal::SCHEMA;
    let old = |schema| {
        let named = format!("the journal was of schema {schema}, and is of schema {newest} now");
        (Bad::Schema(schema), named, Some("well"), None)
    };
    // A journal of an earlier schema is what a death in the middle of the next change leaves.
    rows.extend((1..newest as u32).filter(|_| cfg!(debug_assertions)).map(old));
    rows
}

/// The picture of a screen, as the folder keeps it.
fn picture(screen: &Screen) -> String {
    let (dir, carrier) = (tempfile::tempdir().unwrap(), "cm4-carrier-1");
    let definition = Definition::parse(carrier, builtin(carrier).unwrap()).unwrap();
    let mut folder = Folder::open(dir.path()).unwrap();
    folder
        .display(&definition.display.unwrap())
        .unwrap_or_else(|(why, _)| panic!("{why}"))
        .show(screen, false)
        .unwrap();
    std::fs::read_to_string(dir.path().join("display.pbm")).unwrap()
}

async fn is_named_and_shown_and_results_go_on(broker: &Broker, (bad, named, led, screen): Row) {
    let mut site = Site::new(broker, 4).await;
    let at = |name: &str| site.dir.path().join(name);
    let (board, stick) = (at("board"), at("stick"));
    for folder in [&board, &stick] {
        std::fs::create_dir(folder).unwrap();
    }
    std::fs::write(
        at("wrong.toml"),
        "[board]\nname = \"b\"\nrevision = \"1\"\n[button]\npin = \"A\"\nmay = [\"fly\"]\n",
    )
    .unwrap();
    let mut definition = Path::new("cm4-carrier-1").to_path_buf();
    let mut folder = format!("folder = {board:?}\n");
    match &bad {
        Bad::Definition(file) => definition = at(file),
        Bad::Machine => folder.clear(),
        Bad::Absent(part) => std::fs::write(board.join(part), "absent").unwrap(),
        Bad::Stick | Bad::Schema(_) => {}
    }
    let line = site.own.lines().find(|line| line.starts_with("broker")).unwrap().to_string();
    site.own = site.own.replace(&line, &format!("broker = \"localhost:{}\"\nstick = {stick:?}", free_port()));
    site.own += &format!("[board]\ndefinition = {definition:?}\n{folder}");
    std::fs::write(site.file(), format!("{}{}", site.own, site.text(&[]))).unwrap();
    if let Bad::Schema(schema) = &bad {
        let place = format!("migration:{}", schema + 1);
        site.run(Some(&place));
        site.died(&place);
        let journal = rusqlite::Connection::open(site.dir.path().join("data/journal.db")).unwrap();
        let found: u32 = journal.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!(found, *schema);
    }
    site.run(None);
    if let Bad::Stick = bad {
        let sealed = sealed(&site.desired(1, &site.text(&[])), &key("eve"));
        std::fs::write(stick.join(afferent::fleet::stick::file_name(BOX)), sealed).unwrap();
    }

    site.send().await;
    site.everything_arrives();
    until(&named, || site.log().contains(&named));
    let shown = || std::fs::read_to_string(board.join("shown")).unwrap_or_default();
    match led {
        Some(state) => until(&named, || shown().lines().any(|line| line == format!("box {state}"))),
        None => assert!(!board.join("led-box").exists(), "{named}: nothing is driven"),
    }
    if let Some(picture) = screen.as_ref().map(picture) {
        until(&named, || std::fs::read_to_string(board.join("display.pbm")).is_ok_and(|shown| shown == picture));
    }
    // It goes on as long as that is so.
    site.send().await;
    site.everything_arrives();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn i12_whatever_is_bad_is_named_and_shown_and_results_go_on() {
    let Some(broker) = Broker::start() else { return println!("left out: bad input (no mosquitto here)") };
    let (broker, turns) = (Arc::new(broker), Arc::new(tokio::sync::Semaphore::new(6)));
    let rows = rows().into_iter().map(|row| {
        let (broker, turns) = (broker.clone(), turns.clone());
        tokio::spawn(async move {
            let _turn = turns.acquire().await.unwrap();
            is_named_and_shown_and_results_go_on(&broker, row).await;
        })
    });
    for row in rows.collect::<Vec<_>>() {
        row.await.unwrap();
    }
}
