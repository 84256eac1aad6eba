use super::*;
use crate::button::Event as Press;
use crate::definition::builtin;

struct Bench {
    panel: Panel,
    seen: Seen,
    sensed: Sensed,
    now: Duration,
    said: Vec<Event>,
}

impl Bench {
    fn new() -> Bench {
        let definition = Definition::parse("cm4", builtin("cm4-carrier-1").unwrap()).unwrap();
        let seen = Seen {
            box_state: BoxState::Well,
            analyzer: Heard::Heard,
            hospital: Heard::Heard,
            name: "bench-1".to_string(),
            address: Some("10.0.0.5".to_string()),
            ..Seen::default()
        };
        let sensed = Sensed { button: Some(false), temperature: Some(Temperature(300)) };
        Bench { panel: Panel::new(&definition), seen, sensed, now: Duration::ZERO, said: Vec::new() }
    }

    fn turn(&mut self) -> Face {
        let face = self.panel.turn(&self.seen, &self.sensed, self.now);
        self.said.extend(std::iter::from_fn(|| self.panel.poll_event()));
        face
    }

    /// Lets time pass, turned at each deadline and every 20 ms while the button is in use.
    fn wait(&mut self, time: Duration) -> Face {
        let end = self.now + time;
        let mut face = self.turn();
        while self.now < end {
            let due = self.panel.poll_timeout().unwrap_or(end);
            assert!(due > self.now, "it would turn for ever");
            self.now = due.min(self.now + Duration::from_millis(500)).min(end);
            face = self.turn();
        }
        face
    }

    fn press(&mut self, time: Duration) -> Face {
        self.sensed.button = Some(true);
        self.turn();
        let face = self.wait(time);
        self.sensed.button = Some(false);
        self.turn();
        self.wait(Duration::from_millis(50));
        face
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn each_layer_shows_what_the_box_knows() {
    let mut bench = Bench::new();
    let face = bench.turn();
    assert_eq!((face.box_state, face.lit, face.beeps), (BoxState::Well, [true, true, true], false));
    bench.seen.hospital = Heard::Lost;
    bench.seen.analyzer = Heard::None;
    let face = bench.turn();
    assert_eq!((face.analyzer, face.hospital, face.lit[1]), (Heard::None, Heard::Lost, false));
    let face = bench.wait(Duration::from_millis(250));
    assert!(!face.lit[2], "it blinks");
    bench.seen.alerts = vec!["silence: chemistry".to_string()];
    assert_eq!(bench.turn().box_state, BoxState::Attention);
    bench.seen.box_state = BoxState::Off;
    let face = bench.turn();
    assert_eq!((face.lit, face.screen, face.beeps), ([false; 3], Screen::Blank, false));
}

#[test]
fn a_box_that_is_well_goes_dark_for_a_moment_only_as_long_as_it_is_turned() {
    let mut bench = Bench::new();
    let mut lit = Vec::new();
    for _ in 0..40 {
        lit.push(bench.turn().lit[0]);
        bench.now += Duration::from_millis(50);
    }
    assert_eq!(lit.iter().filter(|lit| !**lit).count(), 2);
    // Whoever hangs turns nothing: what was lit stays so, and the moment does not come.
}

#[test]
fn no_results_is_heard_once() {
    let mut bench = Bench::new();
    bench.wait(SECOND);
    bench.seen.box_state = BoxState::Fault;
    assert!(bench.turn().beeps);
    let mut beeps = 0;
    for _ in 0..100 {
        beeps += u32::from(bench.wait(Duration::from_millis(100)).beeps);
    }
    assert!((10..14).contains(&beeps), "{beeps}");
    assert_eq!(bench.turn().box_state, BoxState::Fault);
}

#[test]
fn a_press_shows_which_box_it_is_and_another_one_ends_that() {
    let mut bench = Bench::new();
    bench.wait(SECOND);
    bench.press(Duration::from_millis(200));
    let face = bench.turn();
    assert_eq!((face.box_state, face.screen.word()), (BoxState::Identify, "identify"));
    assert_eq!(face.condition, BoxState::Well, "a relay does not move for it");
    bench.press(Duration::from_millis(200));
    assert_eq!(bench.turn().box_state, BoxState::Well);
    bench.panel.identify(bench.now);
    assert_eq!(bench.wait(IDENTIFY - SECOND).box_state, BoxState::Identify);
    assert_eq!(bench.wait(2 * SECOND).box_state, BoxState::Well);
    assert_eq!(bench.said, [Event::Button(Press::Identify), Event::Button(Press::Identify)]);
}

#[test]
fn a_hold_shows_how_the_box_is_set_up() {
    let mut bench = Bench::new();
    bench.seen.enrolment_code = Some("7H2K-9QWD-0M3X-VT5A".to_string());
    bench.seen.page_url = Some("https://10.0.0.5/".to_string());
    bench.wait(SECOND);
    let face = bench.press(6 * SECOND);
    assert_eq!(face.screen, Screen::Button { hint: Hint::SetUp { left_s: Some(9) } });
    let mut pages = Vec::new();
    for _ in 0..4 {
        pages.push(bench.turn().screen.word());
        bench.wait(PAGE);
    }
    assert_eq!(pages, ["code", "address", "status", "code"]);
    assert_eq!(bench.turn().box_state, BoxState::SetUp);
    assert_eq!(bench.wait(SET_UP).box_state, BoxState::Well);
    assert_eq!(bench.said, [Event::Button(Press::SetUp)]);
}

#[test]
fn a_factory_reset_is_seen_coming_and_takes_two_holds() {
    let mut bench = Bench::new();
    bench.wait(SECOND);
    let face = bench.press(16 * SECOND);
    assert_eq!((face.box_state, face.screen), (BoxState::ResetArmed, Screen::Button { hint: Hint::LetGo }));
    let face = bench.press(6 * SECOND);
    assert_eq!(face.box_state, BoxState::Well);
    assert_eq!(bench.said, [Event::Button(Press::ResetArmed), Event::Button(Press::FactoryReset)]);
}

#[test]
fn pages_follow_each_other_and_alerts_have_one() {
    let mut bench = Bench::new();
    let words = |bench: &mut Bench, number: usize| {
        let mut pages = Vec::new();
        for _ in 0..number {
            pages.push(bench.turn().screen.word());
            bench.wait(PAGE);
        }
        pages
    };
    assert_eq!(words(&mut bench, 2), ["status", "status"]);
    bench.seen.alerts = vec!["disk".to_string()];
    bench.seen.page_url = Some("https://10.0.0.5/".to_string());
    assert_eq!(words(&mut bench, 4), ["status", "address", "alerts", "status"]);
    bench.seen.enrolment_code = Some("7H2K-9QWD".to_string());
    assert_eq!(words(&mut bench, 4), ["code", "status", "address", "alerts"]);
}

#[test]
fn a_stick_says_what_became_of_it_and_hides_nothing_that_wants_a_person() {
    let mut bench = Bench::new();
    let shown = |bench: &mut Bench, stick: Option<Stick>, alerts: &[&str]| {
        bench.seen.stick = stick;
        bench.seen.alerts = alerts.iter().map(|alert| alert.to_string()).collect();
        let face = bench.turn();
        (face.box_state, face.screen.word())
    };
    let refused = || Some(Stick::NotTaken("no operator of this box who may has signed it".to_string()));
    assert_eq!(shown(&mut bench, Some(Stick::Runs(3)), &[]), (BoxState::StickRuns, "stick"));
    assert_eq!(shown(&mut bench, Some(Stick::Runs(3)), &["disk"]).0, BoxState::Attention);
    assert_eq!(shown(&mut bench, refused(), &["disk"]), (BoxState::StickRefused, "stick"));
    assert_eq!(shown(&mut bench, None, &[]), (BoxState::Well, "status"));
    bench.seen.box_state = BoxState::Fault;
    assert_eq!(shown(&mut bench, refused(), &[]).0, BoxState::Fault);
}

#[test]
fn a_box_that_is_too_warm_says_so_and_goes_on() {
    let mut bench = Bench::new();
    bench.turn();
    bench.sensed.temperature = Some(Temperature(712));
    let face = bench.turn();
    assert_eq!((face.box_state, face.condition), (BoxState::Attention, BoxState::Attention));
    let face = bench.wait(PAGE);
    assert_eq!(face.screen, Screen::Alerts { alerts: vec!["too warm: 71 C".to_string()] });
    bench.sensed.temperature = Some(Temperature(600));
    assert_eq!(bench.turn().box_state, BoxState::Well);
    assert_eq!(bench.said, [Event::TooWarm(Temperature(712)), Event::CooledDown(Temperature(600))]);
}

#[test]
fn a_supply_that_goes_stops_the_box_and_then_it_is_dark() {
    let mut bench = Bench::new();
    bench.wait(SECOND);
    bench.seen.supply_is_lost = true;
    let face = bench.turn();
    assert_eq!((face.box_state, face.screen), (BoxState::Stopping, Screen::SUPPLY_LOST));
    // Whoever was asked has stopped acknowledging and written its checkpoint.
    bench.seen.box_state = BoxState::Off;
    assert_eq!(bench.turn().lit, [false; 3]);
}

#[test]
fn a_display_that_nobody_looks_at_is_dim() {
    let mut bench = Bench::new();
    assert!(!bench.wait(DIM_AFTER - SECOND).dim);
    assert!(bench.wait(2 * SECOND).dim);
    bench.press(Duration::from_millis(100));
    assert!(!bench.turn().dim);
}

#[test]
fn a_board_without_parts_is_turned_all_the_same() {
    let definition = Definition::parse("x86", builtin("x86-1").unwrap()).unwrap();
    let mut panel = Panel::new(&definition);
    let face = panel.turn(&Seen::default(), &Sensed::default(), Duration::ZERO);
    assert_eq!((face.box_state, face.screen), (BoxState::Off, Screen::Blank));
    assert_eq!(panel.poll_event(), None);
}
