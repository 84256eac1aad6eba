//! `afferent setup`: the installation of a box, asked on a terminal or answered by a file.

mod terminal;

use crate::setup::answers::Answers;
use crate::setup::question::Question;
use crate::setup::{Next, Setup as Engine, SetupError, Show, report};
use anyhow::Context as _;
use indicatif::ProgressBar;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use terminal::{COLUMNS, Terminal, narrow};

/// Set this box up: from an unpacked box to the first result in the EHR.
///
/// It asks for name and place, shows network and clock, calls the EHR, listens to the first analyzer and chooses its driver by what it hears,
/// writes the configuration, sends a test result, and ends with a report to hand over. A configuration that is there is
/// only ever added to. Interrupted, it goes on where it was when it is started again.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  afferent setup                                          at the bench, as root
  afferent setup --answers answers.toml                   asks nothing; for scripts
  afferent setup --config bench.toml --anew               forgets what was answered before it was interrupted

A file of answers has a table for each step:
  [gateway]
  name = \"bench-1\"
  [ehr]
  address = \"ehr.example:2575\" # or kind = \"fhir\" and url = \"https://ehr.example/fhir\"
  ca = \"/etc/afferent/hospital-ca.pem\"
  unreachable = \"keep\"         # go on when it does not answer; left out, the setup ends
  [link]
  listen = \"0.0.0.0:4001\"      # or kind = \"serial\" and serial = \"/dev/...\"
  listen_s = 0                 # nobody sends now
  driver = \"roche-cobas-c311\"
  [test]
  send = \"queue\"               # or \"send\": the EHR may get a test result
What it leaves out has its default.

Exit codes: 0 set up, 1 not, 2 the configuration that is there is wrong.")]
pub struct Setup {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = super::CONFIG_DEFAULT)]
    config: PathBuf,
    /// Ask nothing: the answers are in this file
    #[arg(long, value_name = "FILE")]
    answers: Option<PathBuf>,
    /// Forget what an earlier setup was told before it was interrupted
    #[arg(long)]
    anew: bool,
    /// Where the network's files are looked for and written, when some are wanted
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Print the report as one JSON object
    #[arg(long)]
    json: bool,
}

/// Who answers.
enum Answering {
    Person(Box<Terminal>),
    File(Answers),
}

impl Setup {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let mut answering = match &self.answers {
            Some(file) => Answering::File(Answers::read(file)?),
            None if std::io::stdin().is_terminal() => Answering::Person(Box::new(Terminal::new())),
            None => anyhow::bail!("a setup asks questions: start it on a terminal, or give --answers FILE"),
        };
        // A file says all of it; what an earlier setup was told would only be in its way.
        let engine = Engine::open(&self.config, self.anew || self.answers.is_some()).map_err(wrong)?;
        let mut engine = engine.with_root(self.root.clone());
        if engine.is_resumed() {
            eprintln!("This goes on where an earlier setup was cut off. `--anew` forgets what that was told.");
        }
        loop {
            match engine.next() {
                Next::Ask(question) => answering.answer(&mut engine, &question)?,
                Next::Do(_) => {
                    // A script looks for words, and not for where a line ends.
                    let columns = if matches!(answering, Answering::Person(_)) { COLUMNS } else { usize::MAX };
                    let (show, bar) = shows();
                    let told = engine.perform(&show);
                    bar.finish_and_clear();
                    if let Err(SetupError::Load(_)) = &told {
                        eprintln!("These answers do not go together; `--anew` has them asked again.");
                    }
                    for line in told.map_err(wrong)?.iter().flat_map(|line| narrow(line, columns)) {
                        eprintln!("{line}");
                    }
                }
                Next::Stop => {
                    eprintln!("It ends here; {} is as it was.", self.config.display());
                    return Ok(ExitCode::FAILURE);
                }
                Next::Done => break,
            }
        }
        if let Answering::File(answers) = &answering {
            answers.left().for_each(|key| eprintln!("`{key}` was answered and not asked"));
        }
        let (text, json) = report::places(&self.config);
        let report = if self.json { json } else { text };
        let written = std::fs::read_to_string(&report).with_context(|| format!("cannot read {}", report.display()))?;
        println!("{}", written.trim_end());
        Ok(ExitCode::SUCCESS)
    }
}

/// A configuration that is wrong is told as all commands do.
fn wrong(error: SetupError) -> anyhow::Error {
    match error {
        SetupError::Load(error) => error.into(),
        error => error.into(),
    }
}

impl Answering {
    fn answer(&mut self, engine: &mut Engine, question: &Question) -> anyhow::Result<()> {
        match self {
            Answering::Person(terminal) => terminal.ask(engine, question),
            Answering::File(answers) => {
                let (key, given) = (question.key, answers.take(question.key));
                let answer = given.or_else(|| question.default.clone());
                let answer =
                    answer.with_context(|| format!("{}: the file of answers has no `{key}`", question.asks))?;
                engine.answer(key, &answer).map_err(|why| anyhow::anyhow!("`{key}` = `{answer}`: {why}"))
            }
        }
    }
}

/// Where it is shown what goes on: beside a bar for people whose terminal can be written over, else as lines.
fn shows() -> (Show, ProgressBar) {
    if super::colour(&std::io::stderr()) {
        let bar = ProgressBar::new_spinner();
        bar.enable_steady_tick(Duration::from_millis(200));
        return (super::probe::shown_on(&bar), bar);
    }
    // What is left changes each time; a line is for what is done.
    let last = std::sync::Mutex::new(String::new());
    let show = move |says: String| {
        let what = says.split(';').next().unwrap_or_default().to_string();
        if let Ok(mut last) = last.lock()
            && *last != what
        {
            eprintln!("{what}");
            *last = what;
        }
    };
    (Arc::new(show), ProgressBar::hidden())
}
