use super::*;
use crate::button::Event as Press;
use crate::definition::builtin;
use crate::folder::Folder;
use crate::led::Heard;
use std::path::Path;

fn definition(name: &str) -> Definition {
    Definition::parse(name, builtin(name).unwrap()).unwrap()
}

fn seen() -> Seen {
    Seen {
        box_state: BoxState::Well,
        analyzer: Heard::Heard,
        hospital: Heard::Waiting,
        name: "bench-1".to_string(),
        ..Seen::default()
    }
}

fn board(folder: &Path, name: &str) -> Board {
    let definition = definition(name);
    let parts = Parts::find(&definition, &BTreeMap::new(), &mut Folder::open(folder).unwrap());
    Board::new(&definition, parts)
}

fn read(folder: &Path, part: &str) -> String {
    std::fs::read_to_string(folder.join(part)).unwrap().trim().to_string()
}

/// Turns it at its deadlines for so long.
fn run(board: &mut Board, seen: &Seen, now: &mut Duration, time: Duration) -> Turn {
    let end = *now + time;
    let mut all = Turn::default();
    while *now < end {
        let turn = board.turn(seen, *now);
        // Here time passes faster than on a bus.
        board.settle(Duration::from_secs(60));
        all.events.extend(turn.events);
        all.troubles.extend(turn.troubles);
        all.mended.extend(turn.mended);
        all.changes.extend(turn.changes);
        let next = board.next(*now);
        assert!(next > *now);
        *now = next;
    }
    all
}

#[test]
fn every_definition_shows_what_the_box_knows() {
    for (name, _) in definition::BUILTIN {
        let dir = tempfile::tempdir().unwrap();
        let (mut board, mut now) = (board(dir.path(), name), Duration::ZERO);
        let turn = run(&mut board, &seen(), &mut now, Duration::from_millis(100));
        assert_eq!(turn.changes, ["box well", "analyzer heard", "hospital waiting", "screen status"], "{name}");
        assert_eq!(turn.troubles, [], "{name}");
        for led in definition(name).leds {
            assert_eq!(read(dir.path(), &format!("led-{}", led.layer.get_ref().word())), "on", "{name}");
        }
        if definition(name).display.is_some() {
            let picture = read(dir.path(), "display.pbm");
            assert!(picture.starts_with("P1\n# status\n128 64\n") && picture.contains('0') && picture.contains('1'));
        }
    }
}

#[test]
fn mode_pins_and_relays_are_as_the_definition_says() {
    let dir = tempfile::tempdir().unwrap();
    let definition = definition("cm4-carrier-1");
    let modes = |all: &[(&str, Mode)]| all.iter().map(|(name, mode)| ((*name).to_string(), *mode)).collect();
    let mut folder = Folder::open(dir.path()).unwrap();
    let parts = Parts::find(&definition, &modes(&[("serial-2", Mode::Rs485)]), &mut folder);
    assert_eq!(parts.troubles(), []);
    let pins = ["port-serial-1-0", "port-serial-1-1", "port-serial-2-0", "port-serial-2-1"];
    assert_eq!(pins.map(|pin| read(dir.path(), pin)), ["off", "off", "on", "off"]);

    let wrong = modes(&[("serial-1", Mode::Rs422), ("serial-9", Mode::Rs485)]);
    let parts = Parts::find(&definition, &wrong, &mut folder);
    let told: Vec<String> = parts.troubles().iter().map(ToString::to_string).collect();
    let first = "port serial-1: it cannot be rs422, and is rs232; choose one of: rs232, rs485, rs485-terminated";
    let second = "port serial-9: this board has no such port; this board has the ports: serial-1, serial-2";
    assert_eq!(told, [first, second]);

    let (mut board, mut now) = (Board::new(&definition, parts), Duration::ZERO);
    let mut sound = Seen { box_state: BoxState::Well, ..Seen::default() };
    board.standing.clear();
    board.parts.troubles.clear();
    board.turn(&sound, now);
    assert_eq!(read(dir.path(), "relay-well"), "on");
    now += Duration::from_secs(1);
    sound.box_state = BoxState::Fault;
    board.turn(&sound, now);
    assert_eq!((read(dir.path(), "relay-well"), read(dir.path(), "buzzer")), ("off".to_string(), "on".to_string()));
}

#[test]
fn a_part_that_is_not_there_is_told_once_and_the_rest_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    for part in ["display.pbm", "led-analyzer", "temperature", "rtc"] {
        std::fs::write(dir.path().join(part), "absent").unwrap();
    }
    let (mut board, mut now) = (board(dir.path(), "cm4-carrier-1"), Duration::ZERO);
    let turn = run(&mut board, &seen(), &mut now, Duration::from_secs(60));
    let parts: Vec<&str> = turn.troubles.iter().map(|trouble| trouble.part.as_str()).collect();
    assert_eq!(parts, ["analyzer LED", "display", "temperature", "rtc"]);
    assert_eq!(turn.changes[0], "box attention", "somebody should look");
    std::fs::write(dir.path().join("button"), "on").unwrap();
    run(&mut board, &seen(), &mut now, Duration::from_millis(200));
    std::fs::write(dir.path().join("button"), "off").unwrap();
    let turn = run(&mut board, &seen(), &mut now, Duration::from_millis(200));
    assert_eq!(turn.events, [Event::Button(Press::Identify)]);
}

#[test]
fn a_part_that_fails_is_tried_again_and_told_when_it_works() {
    let dir = tempfile::tempdir().unwrap();
    let (mut board, mut now) = (board(dir.path(), "cm4-carrier-1"), Duration::ZERO);
    run(&mut board, &seen(), &mut now, Duration::from_secs(1));
    std::fs::write(dir.path().join("button"), "maybe").unwrap();
    let turn = run(&mut board, &seen(), &mut now, Duration::from_secs(30));
    assert_eq!(turn.troubles.len(), 1, "{:?}", turn.troubles);
    assert!(turn.troubles[0].to_string().starts_with("button: `maybe` is neither"), "{}", turn.troubles[0]);
    assert_eq!(turn.events, [], "nobody pressed it");
    std::fs::write(dir.path().join("button"), "off").unwrap();
    let turn = run(&mut board, &seen(), &mut now, Duration::from_secs(11));
    assert_eq!((turn.mended, turn.changes[0].as_str()), (vec!["button".to_string()], "box well"));
}
