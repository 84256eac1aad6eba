//! Every screen as a picture, as the simulator of `embedded-graphics` has it. `UPDATE_GOLDEN=1 cargo test -p
//! afferent-board` draws `goldens/` anew; the pictures are the review.

use afferent_board::button::Hint;
use afferent_board::led::{BoxState, Heard};
use afferent_board::screen::{HEIGHT, Screen, WIDTH};
use afferent_board::seen::{Seen, Stick, Temperature};
use embedded_graphics::pixelcolor::BinaryColor;
use embedded_graphics::prelude::{Point, Size};
use embedded_graphics_simulator::{OutputSettings, SimulatorDisplay};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens")
}

fn address(page_url: Option<&str>) -> Screen {
    Screen::Address { address: "192.168.100.200".to_string(), page_url: page_url.map(str::to_string) }
}

const UNSIGNED: &str = "no operator of this box who may has signed it";

fn screens() -> Vec<(&'static str, Screen)> {
    let seen = Seen {
        analyzer: Heard::Heard,
        hospital: Heard::Heard,
        name: "bench-1".to_string(),
        address: Some("192.168.100.200".to_string()),
        ..Seen::default()
    };
    let warm = Some(Temperature(413));
    let trouble = Seen {
        analyzer: Heard::Lost,
        hospital: Heard::Lost,
        name: "a-box-with-a-very-long-name".to_string(),
        address: Some("2001:db8:85a3:8d3:1319:8a2e:370:7348".to_string()),
        ..seen.clone()
    };
    let fresh = Seen { analyzer: Heard::Waiting, hospital: Heard::None, address: None, ..seen.clone() };
    let alerts = |number: usize| {
        let all = ["silence: chemistry", "refusing: ehr", "certificate: fleet.tls.cert", "disk", "no-link: pcr"];
        Screen::Alerts { alerts: all[..number].iter().map(|a| (*a).to_string()).collect() }
    };
    vec![
        ("status-well", Screen::status(&seen, BoxState::Well, warm)),
        ("status-fault", Screen::status(&trouble, BoxState::Fault, Some(Temperature(-52)))),
        ("status-fresh", Screen::status(&fresh, BoxState::Attention, None)),
        ("status-set-up", Screen::status(&seen, BoxState::SetUp, warm)),
        ("alerts-one", alerts(1)),
        ("alerts-four", alerts(4)),
        ("alerts-many", alerts(5)),
        ("address-small-code", address(Some("https://10.0.0.5:8443/"))),
        ("address-code", address(Some("https://192.168.100.200:8443/"))),
        ("address-large-code", address(Some("https://bench-1.lab.example/setup"))),
        ("address-cut", address(Some("http://[2001:db8:85a3:8d3:1319:8a2e:370:7348]:8443"))),
        ("address-no-code", address(Some("https://bench-1.lab.hospital.example/setup?code=7H2K-9QWD"))),
        ("address-no-page", address(None)),
        ("stick-runs", Screen::Stick { stick: Stick::Runs(12) }),
        ("stick-not-taken", Screen::Stick { stick: Stick::NotTaken(UNSIGNED.to_string()) }),
        ("code", Screen::Code { code: "7H2K-9QWD-0M3X-VT5A".to_string() }),
        ("code-short", Screen::Code { code: "7H2K-9QWD".to_string() }),
        ("identify", Screen::Identify { name: "bench-1".to_string() }),
        ("button-holding", Screen::Button { hint: Hint::Holding { left_s: 4 } }),
        ("button-set-up", Screen::Button { hint: Hint::SetUp { left_s: Some(10) } }),
        ("button-set-up-only", Screen::Button { hint: Hint::SetUp { left_s: None } }),
        ("button-let-go", Screen::Button { hint: Hint::LetGo }),
        ("button-armed", Screen::Button { hint: Hint::Armed { left_s: 9 } }),
        ("button-confirming", Screen::Button { hint: Hint::Confirming { left_s: 3 } }),
        ("starting", Screen::STARTING),
        ("stopping", Screen::STOPPING),
        ("supply-lost", Screen::SUPPLY_LOST),
        ("blank", Screen::Blank),
    ]
}

fn drawn(screen: &Screen) -> SimulatorDisplay<BinaryColor> {
    // Lit all over before, so that a screen that leaves something of the last one is seen.
    let mut display = SimulatorDisplay::with_default_color(Size::new(WIDTH, HEIGHT), BinaryColor::On);
    screen.draw(&mut display).unwrap();
    display
}

#[test]
fn every_screen_is_the_picture_that_was_looked_at() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut names = BTreeSet::new();
    for (name, screen) in screens() {
        names.insert(format!("{name}.png"));
        let file = goldens().join(format!("{name}.png"));
        let display = drawn(&screen);
        if update {
            std::fs::create_dir_all(goldens()).unwrap();
            display.to_grayscale_output_image(&OutputSettings::default()).save_png(&file).unwrap();
            continue;
        }
        let golden = SimulatorDisplay::<BinaryColor>::load_png(&file);
        let golden = golden.unwrap_or_else(|error| panic!("{}: {error}; UPDATE_GOLDEN=1 draws it", file.display()));
        let off = (0..HEIGHT as i32)
            .flat_map(|y| (0..WIDTH as i32).map(move |x| Point::new(x, y)))
            .find(|at| golden.get_pixel(*at) != display.get_pixel(*at));
        assert_eq!(off, None, "{name}: the first pixel that differs; UPDATE_GOLDEN=1 draws it anew");
    }
    let there: BTreeSet<String> =
        std::fs::read_dir(goldens()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(there, names, "a picture of each screen and no other");
}

#[test]
fn a_telephone_reads_the_code_on_the_display() {
    for (url, read) in [
        ("https://10.0.0.5:8443/", "HTTPS://10.0.0.5:8443"),
        ("https://192.168.100.200:8443/", "HTTPS://192.168.100.200:8443"),
        ("https://bench-1.lab.example/setup", "https://bench-1.lab.example/setup"),
        ("https://[2001:db8:85a3:8d3:1319:8a2e:370:7348]:8443", "https://[2001:DB8:85A3:8D3:1319:8A2E:370:7348]:8443"),
    ] {
        let display = drawn(&address(Some(url)));
        // As a camera sees it: the panel lit, each pixel a few of the camera's.
        const SCALE: usize = 4;
        let lit = |x: usize, y: usize| {
            let at = Point::new((x / SCALE) as i32 - 8, (y / SCALE) as i32 - 8);
            let is_inside = (0..WIDTH as i32).contains(&at.x) && (0..HEIGHT as i32).contains(&at.y);
            is_inside && display.get_pixel(at).is_on()
        };
        let (width, height) = ((WIDTH as usize + 16) * SCALE, (HEIGHT as usize + 16) * SCALE);
        let mut image =
            rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| if lit(x, y) { 255 } else { 0 });
        let grids = image.detect_grids();
        assert_eq!(grids.len(), 1, "{url}");
        let (_, content) = grids[0].decode().unwrap();
        assert!(content.eq_ignore_ascii_case(read), "{content}");
    }
}
