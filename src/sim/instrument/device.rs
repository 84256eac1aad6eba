//! A POCT1-A device: it dials in, says hello, hands over what it stored when it is asked, and sends by itself from then
//! on, with a control before the first specimen and a keep-alive now and then.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use quick_xml::escape::escape;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::faults::Fault;
use super::line::{Plug, Stream};
use super::{Job, Ledger, Run};
use crate::wire::poct1a::document::{Element, parse};
use crate::wire::poct1a::{DOCUMENT_MAX, Framer, Item};

/// How long the device waits for the host, scaled.
const ANSWER_MAX: Duration = Duration::from_secs(15);
/// The silence that outlasts the host's timer for a document, scaled.
const STALL: Duration = Duration::from_secs(40);
/// How late an answer is that is late, scaled.
const LATE: Duration = Duration::from_secs(3);
/// Specimens that wait in the device when it connects.
const STORED: u64 = 3;
/// A keep-alive comes after so many specimens.
const KEEP_ALIVE_EVERY: u64 = 4;

impl Run {
    /// Connects and converses until everything is acknowledged.
    pub(super) async fn device(&mut self, plug: Plug) {
        let mut job = None;
        let mut number = self.settings.first;
        loop {
            let mut io = plug.connect().await;
            let ended = {
                let mut talk = Talk::on(&mut *io, self.settings.time_scale);
                let ended = self.converse(&mut talk, &mut job, &mut number).await;
                self.summary.refusals += talk.refusals;
                self.summary.violations += talk.violations;
                ended
            };
            match ended {
                Ok(()) => return,
                Err(_) => self.summary.line_losses += 1,
            }
            drop(io);
            self.pause().await;
        }
    }

    async fn converse(&mut self, talk: &mut Talk<'_>, job: &mut Option<Job>, number: &mut u64) -> io::Result<()> {
        let id = escape(&self.settings.shape.sender).into_owned();
        talk.ask("HEL.R01", &hello(&id)).await?;
        let stored = self.left(*number).min(STORED);
        talk.ask(
            "DST.R01",
            &format!("<DST><DST.new_observations_qty V=\"{stored}\"/><DST.condition_cd V=\"R\"/></DST>"),
        )
        .await?;
        loop {
            let heard = talk.hear().await?;
            let of = heard.value("HDR.control_id").to_string();
            match (heard.name.as_str(), heard.value("DTV.command_cd")) {
                ("REQ.R01", _) => {
                    talk.acknowledge(&of).await?;
                    talk.ask("OBS.R02", &control()).await?;
                    for _ in 0..stored {
                        self.deliver(talk, job, number).await?;
                    }
                    let end = format!("<EOT><EOT.eot_control_id V=\"{of}\"/><EOT.topic_cd V=\"OBS\"/></EOT>");
                    talk.say("EOT.R01", &end).await?;
                }
                ("DTV.R01", "START_CONTINUOUS") => {
                    self.answer_oddly(talk, &of).await?;
                    break;
                }
                // The end of the host's own topic is not answered.
                ("EOT.R01", _) => {}
                ("END.R01", _) => {
                    talk.acknowledge(&of).await?;
                    return if self.left(*number) == 0 { Ok(()) } else { Err(closed()) };
                }
                _ => talk.acknowledge(&of).await?,
            }
        }
        while self.left(*number) > 0 {
            self.deliver(talk, job, number).await?;
            if number.is_multiple_of(KEEP_ALIVE_EVERY) {
                talk.ask("KPA.R01", "").await?;
            }
        }
        talk.ask("END.R01", "<TRM><TRM.reason_cd V=\"NRM\"/></TRM>").await
    }

    /// Specimens that are still to be sent; without a count there is always one more.
    fn left(&self, number: u64) -> u64 {
        let end = self.settings.count.map(|count| self.settings.first + count);
        end.map_or(STORED, |end| end.saturating_sub(number))
    }

    /// Answers the host's directive, late or under a wrong name first when the script says so.
    async fn answer_oddly(&mut self, talk: &mut Talk<'_>, of: &str) -> io::Result<()> {
        for fault in [Fault::LateAck, Fault::WrongControlId] {
            if !self.settings.faults.commits(fault, &mut self.random) {
                continue;
            }
            *self.summary.faults.entry(fault.name()).or_default() += 1;
            match fault {
                Fault::LateAck => tokio::time::sleep(LATE.mul_f64(self.settings.time_scale)).await,
                _ => talk.acknowledge("999999").await?,
            }
        }
        talk.acknowledge(of).await
    }

    /// Sends one specimen until it is acknowledged or the line goes away. The same attempt has the same bytes.
    async fn deliver(&mut self, talk: &mut Talk<'_>, job: &mut Option<Job>, number: &mut u64) -> io::Result<()> {
        let current = match job.take() {
            Some(current) => job.insert(current),
            None => {
                let mut begun = self.begin(*number, 0).await;
                // A limit is a flag here, and what carries one is held.
                for result in &mut begun.specimen.results {
                    result.value = result.value.trim_start_matches('<').to_string();
                }
                job.insert(begun)
            }
        };
        current.tries += 1;
        self.summary.attempts += 1;
        self.note(Ledger::Sent { specimen: current.specimen.clone(), attempt: current.tries }).await;
        let fault = match current.tries {
            1 => self.settings.faults.pick(&mut self.random, self.settings.protocol),
            _ => None,
        };
        if let Some(fault) = fault {
            *self.summary.faults.entry(fault.name()).or_default() += 1;
        }
        let (id, text) = observation(current);
        talk.send(&text, fault).await?;
        if talk.answered(&id).await? {
            if let Some(done) = job.take() {
                self.acknowledge(done).await;
            }
            *number += 1;
        } else {
            self.pause().await;
        }
        Ok(())
    }
}

fn hello(id: &str) -> String {
    format!(
        "<DEV><DEV.device_id V=\"{id}\"/><DEV.vendor_id V=\"SIM\"/><DCP><DCP.application_timeout V=\"30\"/></DCP>\
         <DSC><DSC.connection_profile_cd V=\"SA\"/><DSC.topics_supported_cd V=\"OP_LST\"/>\
         <DSC.directives_supported_cd V=\"START_CONTINUOUS\"/><DSC.directives_supported_cd V=\"SET_TIME\"/>\
         <DSC.directives_supported_cd V=\"SELF_TEST\" SN=\"SIM\" SV=\"1.0\"/><DSC.max_message_sz V=\"16000\"/></DSC></DEV>"
    )
}

/// A control run: no patient, and it must stay out of the chart.
fn control() -> String {
    "<SVC><SVC.role_cd V=\"LQC\"/><SVC.observation_dttm V=\"2026-01-01T08:00:00\"/>\
     <CTC><CTC.name V=\"LEVEL 1\"/><CTC.lot_number V=\"Q1\"/><CTC.level_cd V=\"1\"/><OBS>\
     <OBS.observation_id V=\"2345-7\" SN=\"LN\"/><OBS.value V=\"55.5\" U=\"mg/dL\"/></OBS></CTC></SVC>"
        .to_string()
}

/// A specimen's document and its control id.
fn observation(job: &Job) -> (String, String) {
    let specimen = &job.specimen;
    let id = format!("{}", 100_000 + specimen.number);
    let time = iso(&job.time);
    let results: String = specimen
        .results
        .iter()
        .map(|result| {
            let (code, value, unit) = (escape(&result.code), escape(&result.value), escape(&result.unit));
            format!(
                "<OBS><OBS.observation_id V=\"{code}\" SN=\"LN\"/><OBS.value V=\"{value}\" U=\"{unit}\"/>\
                 <OBS.interpretation_cd V=\"{}\"/></OBS>",
                result.flag
            )
        })
        .collect();
    let body = format!(
        "<SVC><SVC.role_cd V=\"OBS\"/><SVC.observation_dttm V=\"{time}\"/>\
         <PT><PT.patient_id V=\"PT{:07}\"/>{results}</PT><ORD><ORD.order_id V=\"{}\"/></ORD></SVC>",
        specimen.number, specimen.id
    );
    (id.clone(), document("OBS.R01", &id, &time, &body))
}

fn document(root: &str, id: &str, time: &str, body: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><{root}><HDR><HDR.message_type V=\"{root}\"/>\
         <HDR.control_id V=\"{id}\"/><HDR.version_id V=\"POCT1\"/><HDR.creation_dttm V=\"{time}\"/></HDR>{body}</{root}>"
    )
}

/// `20260102030405` as ISO 8601 writes it.
fn iso(time: &str) -> String {
    let part = |from: usize, to: usize| time.get(from..to).unwrap_or("01");
    format!("{}-{}-{}T{}:{}:{}", part(0, 4), part(4, 6), part(6, 8), part(8, 10), part(10, 12), part(12, 14))
}

/// One conversation.
struct Talk<'a> {
    io: &'a mut dyn Stream,
    framer: Framer,
    heard: VecDeque<Element>,
    last_id: u64,
    time_scale: f64,
    refusals: u64,
    violations: u64,
}

impl<'a> Talk<'a> {
    fn on(io: &'a mut dyn Stream, time_scale: f64) -> Self {
        let framer = Framer::new(DOCUMENT_MAX);
        Talk { io, framer, heard: VecDeque::new(), last_id: 0, time_scale, refusals: 0, violations: 0 }
    }

    /// Says this; what it was called.
    async fn say(&mut self, root: &str, body: &str) -> io::Result<String> {
        self.last_id += 1;
        let id = self.last_id.to_string();
        let time = jiff::Zoned::now().strftime("%Y-%m-%dT%H:%M:%S").to_string();
        self.write(document(root, &id, &time, body).as_bytes()).await?;
        Ok(id)
    }

    /// Says this and waits until it is accepted.
    async fn ask(&mut self, root: &str, body: &str) -> io::Result<()> {
        let id = self.say(root, body).await?;
        match self.answered(&id).await? {
            true => Ok(()),
            false => Err(closed()),
        }
    }

    async fn acknowledge(&mut self, of: &str) -> io::Result<()> {
        let body = format!("<ACK><ACK.type_cd V=\"AA\"/><ACK.ack_control_id V=\"{}\"/></ACK>", escape(of));
        self.say("ACK.R01", &body).await.map(drop)
    }

    /// Sends a whole document, with one fault on the way.
    async fn send(&mut self, text: &str, fault: Option<Fault>) -> io::Result<()> {
        let (first, second) = text.as_bytes().split_at(text.len() / 2);
        match fault {
            Some(Fault::Noise) => self.write(b"\r\n noise\0").await?,
            Some(Fault::Cut) => {
                self.write(first).await?;
                return Err(closed());
            }
            Some(Fault::Stall) => {
                self.write(first).await?;
                tokio::time::sleep(STALL.mul_f64(self.time_scale)).await;
                return self.write(second).await;
            }
            // Sent once more, as if the answer had been lost; the last answer counts.
            Some(Fault::DroppedAck | Fault::DupFrame) => {
                self.write(text.as_bytes()).await?;
                if fault == Some(Fault::DroppedAck) {
                    self.next_acknowledgment().await?;
                    return self.write(text.as_bytes()).await;
                }
                self.write(text.as_bytes()).await?;
                return self.next_acknowledgment().await.map(drop);
            }
            _ => {}
        }
        self.write(text.as_bytes()).await
    }

    /// Waits for the answer to what was called `id`; false when it was refused.
    async fn answered(&mut self, id: &str) -> io::Result<bool> {
        let answer = self.next_acknowledgment().await?;
        if answer.value("ACK.ack_control_id") != id {
            self.violations += 1;
        }
        let accepted = answer.value("ACK.type_cd") == "AA";
        self.refusals += u64::from(!accepted);
        Ok(accepted)
    }

    /// The next answer; what else the host says meanwhile waits.
    async fn next_acknowledgment(&mut self) -> io::Result<Element> {
        loop {
            if let Some(at) = self.heard.iter().position(|root| root.name == "ACK.R01") {
                return self.heard.remove(at).ok_or_else(closed);
            }
            self.read().await?;
        }
    }

    /// The host's next message that is no answer.
    async fn hear(&mut self) -> io::Result<Element> {
        loop {
            if let Some(at) = self.heard.iter().position(|root| root.name != "ACK.R01") {
                return self.heard.remove(at).ok_or_else(closed);
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        let deadline = Instant::now() + ANSWER_MAX.mul_f64(self.time_scale);
        let read = tokio::time::timeout_at(deadline, self.io.read(&mut buffer)).await;
        let count = read.map_err(|_| closed())??;
        if count == 0 {
            return Err(closed());
        }
        for item in self.framer.push(buffer.get(..count).unwrap_or_default()) {
            let root = match item {
                Item::Document(bytes) => parse(&String::from_utf8_lossy(&bytes)).root,
                _ => None,
            };
            match root {
                Some(root) => self.heard.push_back(root),
                // A host says nothing but whole documents.
                None => self.violations += 1,
            }
        }
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.io.write_all(bytes).await?;
        self.io.flush().await
    }
}

fn closed() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}
