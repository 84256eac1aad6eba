use super::*;

fn origin() -> Origin {
    Origin { facility: 16, host: "bench-1".to_owned(), process: 4711 }
}

fn alert(began: bool, trouble: Trouble, of: &str) -> Alert {
    Alert { began, trouble, of: of.to_owned(), figure: 3600, limit: 1800 }
}

fn at(quality: Quality) -> (Timestamp, Quality) {
    ("2026-11-27T08:09:10.123456Z".parse().unwrap(), quality)
}

/// The name of structured data, and its values by name.
type Element = (String, Vec<(String, String)>);

/// Reads a message by the grammar of RFC 5424, 6, and nothing else: PRI, the six fields of the header, structured data as
/// names and values, MSG. Panics on what is none.
fn parsed(text: &str) -> (u16, [String; 5], Vec<Element>, String) {
    let (priority, rest) = text.strip_prefix('<').unwrap().split_once('>').unwrap();
    let priority: u16 = priority.parse().unwrap();
    assert!(priority <= 191);
    let mut rest = rest.strip_prefix("1 ").unwrap();
    let mut header: [String; 5] = Default::default();
    for (field, longest) in header.iter_mut().zip([64, 255, 48, 128, 32]) {
        let (found, behind) = rest.split_once(' ').unwrap();
        assert!((1..=longest).contains(&found.len()) && found.bytes().all(|byte| byte.is_ascii_graphic()), "{found}");
        (*field, rest) = (found.to_owned(), behind);
    }
    let mut elements = Vec::new();
    while let Some(element) = rest.strip_prefix('[') {
        let end = element.find([' ', ']']).unwrap();
        let (id, mut inside) = element.split_at(end);
        assert!(id.len() <= 32 && !id.contains(['=', '"']));
        let mut values = Vec::new();
        while let Some(value) = inside.strip_prefix(' ') {
            let (name, value) = value.split_once("=\"").unwrap();
            assert!(name.len() <= 32 && name.bytes().all(|byte| byte.is_ascii_graphic()));
            let (mut plain, mut chars) = (String::new(), value.char_indices());
            let end = loop {
                match chars.next().unwrap() {
                    (at, '"') => break at,
                    (_, ']') => panic!("a bracket that is not escaped"),
                    (_, '\\') => plain.push(chars.next().unwrap().1),
                    (_, c) => plain.push(c),
                }
            };
            values.push((name.to_owned(), plain));
            inside = &value[end + 1..];
        }
        rest = inside.strip_prefix(']').unwrap();
        elements.push((id.to_owned(), values));
    }
    assert!(!elements.is_empty());
    let message = rest.strip_prefix(" \u{feff}").unwrap().to_owned();
    (priority, header, elements, message)
}

#[test]
fn a_message_is_that_of_the_standard() {
    let text = message(&origin(), &alert(true, Trouble::Silence, "chemistry"), at(Quality::Trusted), 1);
    assert_eq!(
        text,
        "<132>1 2026-11-27T08:09:10.123Z bench-1 afferent 4711 silence [afferent@32473 event=\"began\" of=\"chemistry\" \
         figure=\"3600\" limit=\"1800\"][timeQuality tzKnown=\"1\" isSynced=\"1\"][meta sequenceId=\"1\"] \
         \u{feff}silence of chemistry: nothing came for 3600 s, where messages used to come"
    );
    let (priority, header, data, said) =
        parsed(&message(&origin(), &alert(false, Trouble::Certificate, "a\"b]c\\d"), at(Quality::Floor), u32::MAX));
    assert_eq!((priority, header[4].as_str()), (133, "certificate"));
    assert_eq!(data[0].1[1], ("of".to_owned(), "a\"b]c\\d".to_owned()), "what stands in names is escaped");
    assert_eq!(data[1].1[1], ("isSynced".to_owned(), "0".to_owned()));
    assert!(said.ends_with(": over"), "{said}");
    let unset =
        message(&Origin { host: String::new(), ..origin() }, &alert(true, Trouble::Disk, ""), at(Quality::Unset), 2);
    let (priority, header, data, _) = parsed(&unset);
    assert_eq!((priority, header[0].as_str(), header[1].as_str()), (131, "-", "-"));
    assert_eq!(data[0].1[1].0, "figure");
}

#[test]
fn every_trouble_has_an_id_that_a_header_can_carry() {
    for trouble in Trouble::ALL {
        for began in [true, false] {
            let (_, header, ..) = parsed(&message(&origin(), &alert(began, trouble, "x"), at(Quality::Trusted), 1));
            assert_eq!(header[4], trouble.word());
        }
    }
}

#[test]
fn a_way_is_read_as_it_is_written_and_no_other_way() {
    let way = |to: &str| Config { to: to.to_owned(), ..Config::default() }.way();
    assert_eq!(way("udp://log.example:514"), Some(To::Udp("log.example".to_owned(), 514)));
    assert_eq!(way("tls://[::1]:6514"), Some(To::Tls("::1".to_owned(), 6514)));
    assert_eq!(way("unix:///dev/log"), Some(To::Local("/dev/log".into())));
    for wrong in
        ["", "local", "log.example:514", "udp://log.example", "udp://:514", "tcp://log.example:0", "unix://log"]
    {
        assert_eq!(way(wrong), None, "{wrong}");
    }
}

#[tokio::test(start_paused = true)]
async fn i7_what_a_dead_connection_took_is_sent_again() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = format!("tcp://{}", listener.local_addr().unwrap());
    let clock = Clock::open(std::path::Path::new("/nonexistent"), true);
    let config = Config { to, ..Config::default() };
    let mut syslog = Syslog::start(&config, &clock, &tokio::runtime::Handle::current()).unwrap();
    let read = async |stream: &mut tokio::net::TcpStream| {
        let (mut length, mut digit) = (0, [0]);
        loop {
            stream.read_exact(&mut digit).await.unwrap();
            match digit[0] {
                b' ' => break,
                digit => length = length * 10 + usize::from(digit - b'0'),
            }
        }
        let mut message = vec![0; length];
        stream.read_exact(&mut message).await.unwrap();
        parsed(std::str::from_utf8(&message).unwrap()).2[2].1[0].1.clone()
    };
    syslog.tell(&alert(true, Trouble::Silence, "chemistry"));
    let (mut first, _) = listener.accept().await.unwrap();
    assert_eq!(read(&mut first).await, "1");
    drop(first);
    let (mut second, _) = listener.accept().await.unwrap();
    assert_eq!(read(&mut second).await, "1", "nobody said that it was kept");
    syslog.tell(&alert(false, Trouble::Silence, "chemistry"));
    assert_eq!(read(&mut second).await, "2");
}
