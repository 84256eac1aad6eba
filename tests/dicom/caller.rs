//! A modality as a test drives it: the requestor machine on a blocking stream.

use afferent::wire::Token;
use afferent::wire::dimse::{Association, Command, Output, Proposal, Response, Settings, uid};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// An answer that takes longer than this never comes.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a modality of the tests stores.
pub const CT: &str = "1.2.840.10008.5.1.4.1.1.2";

pub struct Caller<S> {
    stream: S,
    machine: Association,
}

impl Caller<TcpStream> {
    /// Calls the gateway on this port; an error when it does not want to be called.
    pub fn call(port: u16) -> io::Result<Caller<TcpStream>> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Caller::associate(stream)
    }
}

impl<S: Read + Write> Caller<S> {
    /// Asks for an association on a connection.
    pub fn associate(stream: S) -> io::Result<Caller<S>> {
        let syntaxes = vec![uid::IMPLICIT_VR_LITTLE_ENDIAN.to_string()];
        let proposal = Proposal {
            called_ae_title: "AFFERENT".to_string(),
            calling_ae_title: "CT-1".to_string(),
            contexts: [uid::VERIFICATION, CT].map(|class| (class.to_string(), syntaxes.clone())).to_vec(),
            roles: Vec::new(),
        };
        let machine = Association::request(Instant::now(), Settings::default(), &proposal);
        let mut caller = Caller { stream, machine };
        caller.until(|output| matches!(output, Output::Associated).then_some(()))?;
        Ok(caller)
    }

    /// Stores an instance and tells the status it was answered with.
    pub fn store(&mut self, sop_instance_uid: &str, data_set: &[u8]) -> io::Result<u16> {
        let command = Command::store_request(0, CT, sop_instance_uid);
        assert!(self.machine.send(Instant::now(), Token(1), 3, command, Some(data_set)));
        self.answer().map(|response| response.command.status().unwrap())
    }

    /// Sends the beginning of an instance and nothing more.
    pub fn begin_to_store(&mut self, sop_instance_uid: &str, data_set: &[u8]) -> io::Result<()> {
        let now = Instant::now();
        assert!(self.machine.send(now, Token(1), 3, Command::store_request(0, CT, sop_instance_uid), None));
        self.machine.send_data(now, data_set, false);
        self.flush()
    }

    /// C-ECHO.
    pub fn echo(&mut self) -> io::Result<u16> {
        assert!(self.machine.send(Instant::now(), Token(2), 1, Command::echo_request(0), None));
        self.answer().map(|response| response.command.status().unwrap())
    }

    /// Ends in good order.
    pub fn release(mut self) -> io::Result<()> {
        self.machine.release(Instant::now());
        self.until(|output| matches!(output, Output::Close(_)).then_some(()))
    }

    fn answer(&mut self) -> io::Result<Response> {
        self.until(|output| match output {
            Output::Answered { response, .. } => Some(response.clone()),
            _ => None,
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        while let Some(output) = self.machine.poll_output() {
            if let Output::Send(bytes) = output {
                self.stream.write_all(&bytes)?;
            }
        }
        self.stream.flush()
    }

    /// Runs the machine until it says what is waited for.
    fn until<T>(&mut self, mut wanted: impl FnMut(&Output) -> Option<T>) -> io::Result<T> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            while let Some(output) = self.machine.poll_output() {
                if let Some(found) = wanted(&output) {
                    return Ok(found);
                }
                match output {
                    Output::Send(bytes) => self.stream.write_all(&bytes)?,
                    Output::Close(_) => return Err(io::Error::other("the association is over")),
                    _ => {}
                }
            }
            self.stream.flush()?;
            match self.stream.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.machine.handle_bytes(Instant::now(), &buffer[..count]),
            }
        }
    }
}
