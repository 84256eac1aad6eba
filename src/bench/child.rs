//! The gateway under test: this very binary as a child process, watched from outside.

use crate::demo::stage::free_ports;
use crate::journal::{self, FiledReport, Filing, Journal, Lookup, NewOutbound, Query, Reader};
use crate::wire::{Persist, Token};
use anyhow::{Context, bail};
use std::fmt::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The gateway must listen within this time.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// A gateway told to stop must be gone within this time.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// What it has taken custody of must be delivered within this time.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Threads that fill the journal; together they make groups for its writer.
const FILLERS: usize = 32;
/// Entries put into the journal at once when it is filled.
const FILL_BATCH: usize = 1024;
/// A message of the size a result has.
const MESSAGE: &str = "MSH|^~\\&|BENCH||EHR||20260301120000+0000||ORU^R01^ORU_R01|ID|P|2.5.1||||||UNICODE UTF-8\r\
    ORC|RE||SPECIMEN^bench\rOBR|1||SPECIMEN^bench|LAB^Laboratory results^L|||20260301120000+0000\r\
    OBX|1|NM|T01^T01^L||1.007|mmol/L|3.9 to 6.1|N|||F|||20260301120000+0000\r\
    OBX|2|NM|T02^T02^L||2.014|mmol/L|3.9 to 6.1|N|||F|||20260301120000+0000\rSPM|1|SPECIMEN||^Unknown\r";

/// A running gateway.
pub struct Child {
    process: std::process::Child,
    data: PathBuf,
    ports: Vec<u16>,
    started: Duration,
}

impl Child {
    /// Starts a gateway on `data` with this many ASTM links and one MLLP destination, and waits until it listens.
    pub fn start(data: &Path, links: usize, ehr: u16) -> anyhow::Result<Self> {
        Child::start_with(data, links, ehr, "", "")
    }

    /// The same; every link's table also has these lines, and there are these tables.
    pub fn start_with(data: &Path, links: usize, ehr: u16, settings: &str, tables: &str) -> anyhow::Result<Self> {
        std::fs::create_dir_all(data)?;
        let ports = free_ports(links)?;
        let mut config = format!("[gateway]\nname = \"bench\"\ndata = {data:?}\ntime_zone = \"UTC\"\n");
        for (number, port) in ports.iter().enumerate() {
            write!(
                config,
                "[[link]]\nname = \"link-{number}\"\nprotocol = \"astm\"\nlisten = \"127.0.0.1:{port}\"\n\
                 unmapped = \"send-local\"\nclock_limit_s = 0\n{settings}"
            )?;
        }
        write!(
            config,
            "[[destination]]\nname = \"ehr\"\nprotocol = \"mllp\"\naddress = \"127.0.0.1:{ehr}\"\n{tables}"
        )?;
        let path = data.with_extension("toml");
        std::fs::write(&path, config)?;
        let log = std::fs::File::create(data.with_extension("log"))?;
        let began = Instant::now();
        let process = Command::new(std::env::current_exe()?)
            .args(["run", "--log", "warn", "--config"])
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start the gateway under test")?;
        let mut child = Child { process, data: data.to_path_buf(), ports, started: Duration::ZERO };
        // Links open one after the other, so the last one that answers means all do.
        while TcpStream::connect(("127.0.0.1", child.port(links.saturating_sub(1)))).is_err() {
            if child.process.try_wait()?.is_some() || began.elapsed() > START_TIMEOUT {
                let log = std::fs::read_to_string(data.with_extension("log")).unwrap_or_default();
                bail!("the gateway under test did not start:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        child.started = began.elapsed();
        Ok(child)
    }

    /// From the start of the process to its first listener answering.
    pub fn started(&self) -> Duration {
        self.started
    }

    /// Where this link listens.
    pub fn port(&self, link: usize) -> u16 {
        self.ports.get(link).copied().unwrap_or_default()
    }

    /// The ports of all links.
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// Resident memory now, in bytes.
    pub fn rss(&self) -> anyhow::Result<u64> {
        self.status("VmRSS:")
    }

    /// Most resident memory so far, in bytes.
    pub fn peak_rss(&self) -> anyhow::Result<u64> {
        self.status("VmHWM:")
    }

    fn status(&self, key: &str) -> anyhow::Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix(key)).context("the process has no memory figures")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse()?;
        Ok(kib * 1024)
    }

    /// Processor time of all its threads so far.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        // The name in parentheses may hold blanks; utime and stime are the 12th and 13th field after it.
        let fields = text.rsplit_once(')').context("the process has no times")?.1;
        let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<u64>().ok()).sum();
        // SAFETY: asks for a constant of the system.
        let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1);
        Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
    }

    /// Waits until nothing is left to interpret or deliver.
    pub fn settle(&self) -> anyhow::Result<()> {
        let reader = Reader::open(&self.data, &journal::Config::default())?;
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        loop {
            let stats = reader.stats(0)?;
            if stats.waiting == 0 && stats.destinations.iter().all(|destination| destination.queued == 0) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("the gateway under test does not deliver");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Milliseconds to find one specimen beside the running gateway.
    pub fn search_ms(&self, specimen: &str) -> anyhow::Result<f64> {
        let reader = Reader::open(&self.data, &journal::Config::default())?;
        let began = Instant::now();
        let query = Query { id: Some((Lookup::Specimen, specimen.to_string())), limit: 10, ..Query::default() };
        let found = reader.search(&query)?;
        let took = super::ms(began.elapsed());
        if found.is_empty() {
            bail!("the specimen of the backlog was not found");
        }
        Ok(took)
    }

    /// Stops it in order.
    pub fn stop(mut self) -> anyhow::Result<()> {
        // SAFETY: a signal to a child that has not been waited for; its number cannot be anybody else's.
        unsafe { libc::kill(self.process.id() as libc::pid_t, libc::SIGTERM) };
        let deadline = Instant::now() + STOP_TIMEOUT;
        while self.process.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("the gateway under test did not stop");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Fills a fresh journal with undelivered entries for the destination, each as ingest and interpreter would.
    /// `progress` is told how many are done.
    pub fn fill(data: &Path, count: usize, progress: &dyn Fn(usize)) -> anyhow::Result<()> {
        std::fs::create_dir_all(data)?;
        let settings = journal::Config { quota_mb: 0, ..journal::Config::default() };
        let journal = Journal::open(data, &settings)?;
        let reader = journal.reader()?;
        let mut done = 0;
        while done < count {
            let batch = (count - done).min(FILL_BATCH);
            in_parallel(&(done..done + batch).collect::<Vec<_>>(), |number| keep(&journal, *number as u64))?;
            in_parallel(&reader.pending_entries(batch)?, |entry| file(&journal, entry))?;
            done += batch;
            progress(done);
        }
        journal.close();
        Ok(())
    }

    /// The specimen id of an entry of the backlog.
    pub fn filled_specimen(number: u64) -> String {
        format!("FULL-{number:08}")
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Does something with each item on several threads at once, so that the writer has groups to commit.
fn in_parallel<T: Sync>(items: &[T], work: impl Fn(&T) -> anyhow::Result<()> + Sync) -> anyhow::Result<()> {
    std::thread::scope(|scope| {
        let share = items.len().div_ceil(FILLERS).max(1);
        let work = &work;
        let threads: Vec<_> =
            items.chunks(share).map(|chunk| scope.spawn(move || chunk.iter().try_for_each(work))).collect();
        for thread in threads {
            thread.join().map_err(|_| anyhow::anyhow!("a thread of the bench died"))??;
        }
        Ok(())
    })
}

/// Takes custody of one message of two results.
fn keep(journal: &Journal, number: u64) -> anyhow::Result<()> {
    let body = MESSAGE.replace("SPECIMEN", &Child::filled_specimen(number)).into_bytes();
    let part = Persist { token: Token(number), session: 1, bytes: body, completes: true, identity: None };
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime
        .block_on(journal.persist("link-0", number + 1, part))
        .map_err(|refused| anyhow::anyhow!("the journal took no custody: {:?}", refused.reason))?;
    Ok(())
}

/// Files it for the destination.
fn file(journal: &Journal, entry: &journal::Entry) -> anyhow::Result<()> {
    let text = String::from_utf8_lossy(&entry.raw);
    let specimen = text.split(['|', '^']).find(|field| field.starts_with("FULL-")).context("not of this bench")?;
    let message_id = format!("F{:018}", entry.id.0);
    let report = FiledReport {
        answered: Vec::new(),
        orders_as_of: 0,
        subject_key: specimen.as_bytes().to_vec(),
        content_key: specimen.as_bytes().to_vec(),
        completed_at_s: None,
        repeat_of: None,
        lookups: vec![(Lookup::Specimen, specimen.to_string())],
        json: entry.raw.clone(),
        results: 2,
        decisions: String::new(),
        holds: Vec::new(),
        outbox: vec![NewOutbound {
            destination: "ehr".to_string(),
            lane: specimen.to_string(),
            body: text.replace("|ID|", &format!("|{message_id}|")).into_bytes(),
            message_id,
            results: 2,
            charted: Vec::new(),
        }],
    };
    journal.file(Filing {
        entry: entry.id,
        driver: "bench@0".to_string(),
        inbound_results: 2,
        refused: Vec::new(),
        reports: vec![report],
        covers: Vec::new(),
        placement: None,
    })?;
    Ok(())
}
