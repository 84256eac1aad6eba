//! The journal's own protocol (systemd's "Native Journal Protocol"): each line with its fields, so that `journalctl
//! LINK=chemistry` finds it, and with a stable id for each kind of event, so that `journalctl MESSAGE_ID=...` does.
//!
//! A line names its kind by a field `event`, a word of [`KINDS`]: every error does, and of the others those
//! that a machine has a use for.
//! Fields `link` and `destination` are `LINK` and `DESTINATION`, others `AFFERENT_<NAME>`. What the journal does not take
//! at once goes to standard error, and what that does not take either is lost and counted: no line waits for anybody
//! (invariant I12).

use super::stderr::{LINE_MAX, Stderr};
use super::{lost_lines, priority};
use std::fmt::{self, Write as _};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// Where the journal listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// Kinds of events and their ids. An id is never changed and never given to another kind.
pub const KINDS: [(&str, &str); 56] = [
    ("gateway-ready", "5d693b7a1b014d37968bd6177cedc6a1"),
    ("gateway-stopping", "f165a60b6fc544b7986cd5c1b960d86d"),
    ("config-changed", "cbaca6af378949b994988c68ff591eef"),
    ("link-open", "9c3a24ae83e34286a3290eccaddd7381"),
    ("link-lost", "a78b723049ce4912981a76c9f9a7482c"),
    ("link-refused", "0a7243b001e045088f0c3ddad6be1339"),
    ("link-odd", "0d64bafdf1824a5483f0a9ee1e94d303"),
    ("link-trouble", "858864495ec244a48ddd9b0e88c8f35c"),
    ("destination-away", "94829c03ff4a475e84ff29cc0118ffb5"),
    ("destination-back", "5f8fff927cfc4c13901556f953e1f297"),
    ("delivery-turned-down", "2296eb4193a14759966b2ad41a54d879"),
    ("delivery-refused", "387494edab8640d5a93a1d02d402dd9a"),
    ("journal-filling", "8b821c9298e149df82048d3d744f33c7"),
    ("journal-full", "63de28852e954200911d2e8060032079"),
    ("journal-roomy", "40d14b0618484408acc12bf47f0fc542"),
    ("alert-began", "99d834afd9544606ad264394810dd629"),
    ("alert-ended", "ca8c32e5e2ff4ca9bcbe1fa047d4936a"),
    ("command", "787a5d2b68d8435b9f6f6867f3dd48ef"),
    ("command-refused", "4354cf1aefa746538bf694eddcca76f9"),
    ("reset", "ed4f73e903ca4b13926474bef86c260c"),
    ("restored", "32b68f64cd444c25a788b31081f80eb2"),
    ("reset-failed", "a20650c608d04c048a9f1f12192bca4e"),
    ("delivery-panicked", "d648d98348954cc090c40ebca610cbba"),
    ("desk-trouble", "c9e2f668e07b443f9d13ce1b9463f81a"),
    ("fleet-down", "10d63e4cf4f24cd89e459363e214471c"),
    ("fleet-connected", "f471f976666f4e4789802ae82409dbc4"),
    ("fleet-trouble", "8402cdbeb4e84b55947b05f6fe717454"),
    ("certificate-tried", "505ac45f33034443a51a8eb36f4c836e"),
    ("config-trouble", "b558db2899ee4b269e6690bcc1f3ab6f"),
    ("config-phase", "deba50894f62496ca97ada467601422a"),
    ("config-reverted", "72d32f6988734a9d979488df70c1581e"),
    ("identity-trouble", "b700b291637e457b8b32fb4ad65d5928"),
    ("stored-damaged", "1201991c747444d484b9f0a6610f2846"),
    ("commitment-failed", "0f264184dcc642b8bfac210f2e72c769"),
    ("storage-trouble", "e0d4ffd46bd24607a89d30b59fc82a97"),
    ("not-carried", "d140d9e8215f4915b19650fa247f120d"),
    ("account-unbalanced", "231a2eed53b143fc86db6a3d85c48f84"),
    ("message-parked", "72955db159844ed392659ac657fe7aac"),
    ("message-given-up", "eabc0d7f19174f59b944b806c72093e2"),
    ("images-refused", "81e365a836e44b29a24bdf898cb64b73"),
    ("images-taken", "f7c3a10fc8554d36b1dd1a1bdc1c2b16"),
    ("storage-failed", "d07d131e50ea43b7a8c4f66c28f4fdc5"),
    ("storage-back", "9ce46578455c4597888e12709df4f307"),
    ("metrics-trouble", "c2037a6d0f6c4df490d10eafc91234b9"),
    ("update-trouble", "1c75a50599784f36aa6ad3ce0a1352a2"),
    ("update-reverted", "c996d2347a784e2787ee6697f94658a3"),
    ("update-confirmed", "09e1af59aa6549548744b90d1ad567b6"),
    ("stuck", "d936315f7a7741b98e8e080ecf3569c3"),
    ("alerts-untold", "a714e3a62f9740eda55ce02fd83b06b9"),
    ("board-trouble", "d17ca44ac58e4c669946dc4ee294e579"),
    ("board-mended", "464043918b784787b4f13909b1c127f2"),
    ("board-asked", "8b6a037b9ae3473fb4058a6e1314dde1"),
    ("stick", "901fcfb150234559beda49988b99ba63"),
    ("supply-lost", "55b13465c2a94bde8782fcb62a4c63e2"),
    ("console-login", "d9b73749a8664a22a4c1a0bae28603d9"),
    ("console-tried", "021fd5d7b4ce4b5d99667d25b6085cc6"),
];

/// A layer that tells the journal. A datagram may have more than a line has.
pub struct Native {
    socket: UnixDatagram,
    stderr: Stderr,
}

impl Native {
    /// The way to the journal; none where standard error does not lead there, or it cannot be reached.
    pub fn connect() -> Option<Native> {
        if !leads_to_the_journal(&std::env::var("JOURNAL_STREAM").ok()?, &std::io::stderr()) {
            return None;
        }
        Native::to(&socket()).ok()
    }

    /// The way to a socket.
    pub fn to(socket: &std::path::Path) -> std::io::Result<Native> {
        let ours = UnixDatagram::unbound()?;
        ours.connect(socket)?;
        ours.set_nonblocking(true)?;
        let lost = |lost| format!("<{}>afferent: {}", priority(Level::WARN), lost_lines(lost));
        Ok(Native { socket: ours, stderr: Stderr::new(std::io::stderr(), lost) })
    }
}

/// Where the journal listens. A debug build can be told another, so that a test has a journal of its own.
fn socket() -> PathBuf {
    #[cfg(debug_assertions)]
    if let Some(socket) = std::env::var_os("AFFERENT_JOURNAL_SOCKET") {
        return socket.into();
    }
    SOCKET.into()
}

/// systemd names the device and inode of the stream that it gave: whoever has sent it elsewhere since is believed.
fn leads_to_the_journal(stream: &str, stderr: &impl std::os::fd::AsFd) -> bool {
    let Ok(file) = stderr.as_fd().try_clone_to_owned() else { return false };
    let about = std::fs::File::from(file).metadata();
    about.is_ok_and(|about| stream == format!("{}:{}", about.dev(), about.ino()))
}

impl<S: Subscriber> Layer<S> for Native {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let about = event.metadata();
        let mut line = Line::default();
        event.record(&mut line);
        let mut bytes = Vec::new();
        let priority = priority(*about.level());
        field(&mut bytes, "PRIORITY", &priority.to_string());
        field(&mut bytes, "SYSLOG_IDENTIFIER", "afferent");
        field(&mut bytes, "AFFERENT_MODULE", about.target());
        field(&mut bytes, "CODE_FILE", about.file().unwrap_or_default());
        field(&mut bytes, "CODE_LINE", &about.line().unwrap_or_default().to_string());
        if let Some((_, id)) = KINDS.iter().find(|(kind, _)| *kind == line.kind) {
            field(&mut bytes, "MESSAGE_ID", id);
        }
        let mut text = line.text;
        for (name, value) in &line.fields {
            field(&mut bytes, name, value);
            // Whoever reads the text alone sees them too.
            let _ = write!(text, " {}={value}", name.strip_prefix("AFFERENT_").unwrap_or(name).to_lowercase());
        }
        field(&mut bytes, "MESSAGE", &text);
        let is_taken = bytes.len() <= LINE_MAX && {
            self.tell_lost();
            self.socket.send(&bytes).is_ok()
        };
        if !is_taken {
            self.stderr.line(format!("<{priority}>{} {text}", about.target()).as_bytes());
        }
    }
}

impl Native {
    /// The journal is told of lines that neither it nor standard error took; where it takes none still, standard error says
    /// so later.
    fn tell_lost(&self) {
        let lost = self.stderr.take_lost();
        if lost == 0 {
            return;
        }
        let mut bytes = Vec::new();
        field(&mut bytes, "PRIORITY", &priority(Level::WARN).to_string());
        field(&mut bytes, "SYSLOG_IDENTIFIER", "afferent");
        field(&mut bytes, "MESSAGE", &lost_lines(lost));
        if self.socket.send(&bytes).is_err() {
            self.stderr.give_back(lost);
        }
    }
}

/// `NAME=value` and a new line; a value with one in it has its length before it.
fn field(bytes: &mut Vec<u8>, name: &str, value: &str) {
    bytes.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        bytes.push(b'\n');
        bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        bytes.push(b'=');
    }
    bytes.extend_from_slice(value.as_bytes());
    bytes.push(b'\n');
}

/// What a line says.
#[derive(Default)]
struct Line {
    text: String,
    kind: String,
    fields: Vec<(String, String)>,
}

impl Line {
    fn take(&mut self, name: &str, value: String) {
        match name {
            "message" => self.text = value,
            "event" => self.kind = value,
            "link" => self.fields.push(("LINK".to_owned(), value)),
            "destination" => self.fields.push(("DESTINATION".to_owned(), value)),
            name => {
                let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
                self.fields.push((format!("AFFERENT_{}", name.to_ascii_uppercase()), value));
            }
        }
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field.name(), format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use tracing_subscriber::layer::SubscriberExt;

    fn told(say: impl FnOnce()) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let journal = UnixDatagram::bind(dir.path().join("socket")).unwrap();
        let native = Native::to(&dir.path().join("socket")).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(native), say);
        let mut bytes = vec![0; LINE_MAX];
        let length = journal.recv(&mut bytes).unwrap();
        bytes.truncate(length);
        bytes
    }

    #[test]
    fn a_line_has_its_fields_and_the_id_of_its_kind() {
        let bytes = told(|| {
            tracing::warn!(event = "destination-away", destination = "ehr", failures = 3, "it takes no messages");
        });
        let text = String::from_utf8(bytes).unwrap();
        let id = KINDS.iter().find(|(kind, _)| *kind == "destination-away").unwrap().1;
        for field in [
            "PRIORITY=4\n",
            "SYSLOG_IDENTIFIER=afferent\n",
            &format!("MESSAGE_ID={id}\n"),
            "DESTINATION=ehr\n",
            "AFFERENT_FAILURES=3\n",
            "MESSAGE=it takes no messages destination=ehr failures=3\n",
        ] {
            assert!(text.contains(field), "{field}: {text}");
        }
    }

    #[test]
    fn a_value_with_new_lines_cannot_make_fields() {
        let bytes = told(|| tracing::info!(link = "chemistry\nPRIORITY=0", "said"));
        let wanted = [&b"LINK\n"[..], &20_u64.to_le_bytes(), b"chemistry\nPRIORITY=0\n"].concat();
        assert!(bytes.windows(wanted.len()).any(|part| part == wanted), "{}", String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn ids_are_ids_and_every_kind_that_is_logged_has_one() {
        let ids: BTreeSet<&str> = KINDS.iter().map(|(_, id)| *id).collect();
        assert_eq!(ids.len(), KINDS.len());
        assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))));
        let mut logged = BTreeSet::new();
        let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if entry.is_dir() {
                    folders.push(entry);
                    continue;
                }
                let text = std::fs::read_to_string(&entry).unwrap_or_default();
                let (code, _) = text.split_once("#[cfg(test)]\nmod tests {").unwrap_or((&text, ""));
                for error in code.split(concat!("tracing::", "error!(")).skip(1) {
                    let line = error.lines().next().unwrap();
                    assert!(error.trim_start().starts_with("event = \""), "{}: no event: {line}", entry.display());
                }
                for found in text.split("event = \"").skip(1) {
                    logged.insert(found.split('"').next().unwrap().to_owned());
                }
            }
        }
        let known: BTreeSet<String> = KINDS.iter().map(|(kind, _)| (*kind).to_owned()).collect();
        assert_eq!(logged, known);
    }

    #[test]
    fn a_stream_that_leads_elsewhere_is_not_the_journal() {
        let file = tempfile::tempfile().unwrap();
        let about = file.metadata().unwrap();
        assert!(leads_to_the_journal(&format!("{}:{}", about.dev(), about.ino()), &file));
        assert!(!leads_to_the_journal(&format!("{}:{}", about.dev(), about.ino() + 1), &file));
        assert!(!leads_to_the_journal("", &file));
    }
}
