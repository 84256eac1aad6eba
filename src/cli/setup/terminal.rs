//! Questions on a terminal: each a line, so that a serial console and a screen reader have all of it. Where colour is not
//! wanted (`NO_COLOR`, `TERM=dumb`) nothing but lines is written, and the kernel edits what is typed.

use crate::setup::Setup;
use crate::setup::question::{Choice, Kind, Question, Step};
use crate::setup::report::wrapped;
use anstyle::Style;
use anyhow::Context as _;
use dialoguer::Input;
use dialoguer::theme::ColorfulTheme;
use std::io::{BufRead as _, Write as _};

/// A list that is shown without being asked for has so many lines at most.
const SHOWN_MAX: usize = 8;
/// Columns of a terminal that cannot be made wider, such as a serial console.
pub const COLUMNS: usize = 79;
/// What asks for the whole list.
const SHOW_ALL: &str = "?";

/// The terminal somebody sits at.
pub struct Terminal {
    /// How it is coloured; none where nothing but lines is wanted.
    theme: Option<ColorfulTheme>,
    step: Option<Step>,
}

impl Terminal {
    /// With colour where the terminal wants it.
    pub fn new() -> Terminal {
        Terminal { theme: crate::cli::colour(&std::io::stderr()).then(ColorfulTheme::default), step: None }
    }

    /// Asks until there is an answer that can be right, and gives it to the setup.
    pub fn ask(&mut self, engine: &mut Setup, question: &Question) -> anyhow::Result<()> {
        if self.step != Some(question.step) {
            self.step = Some(question.step);
            eprintln!("\n{}", self.painted(Style::new().bold(), question.step.title()));
        }
        for line in question.hint.lines().flat_map(|line| narrow(line, COLUMNS - 2)) {
            eprintln!("  {}", self.painted(Style::new().dimmed(), &line));
        }
        let asks = match &question.kind {
            Kind::Text => question.asks.clone(),
            Kind::YesNo => format!("{}? yes or no", question.asks),
            Kind::Choice(choices) => {
                list(question, choices);
                format!("{}? {}", question.asks, if question.is_numbered() { "number or word" } else { "word" })
            }
            Kind::Pick(choices) => {
                if choices.len() <= SHOWN_MAX {
                    list(question, choices);
                }
                format!("{} ({SHOW_ALL} shows all {})", question.asks, choices.len())
            }
        };
        loop {
            let answer = self.line(&asks, question.default.as_deref())?;
            if let (Kind::Pick(choices), SHOW_ALL) = (&question.kind, answer.trim()) {
                list(question, choices);
                continue;
            }
            match engine.answer(question.key, &answer) {
                Ok(()) => return Ok(()),
                Err(why) => eprintln!("  {why}"),
            }
        }
    }

    /// A line that somebody types; the default for an empty one.
    fn line(&self, asks: &str, default: Option<&str>) -> anyhow::Result<String> {
        const GONE: &str = "nobody answers; start the setup again to go on";
        if let Some(theme) = &self.theme {
            let input = Input::<String>::with_theme(theme).with_prompt(asks).allow_empty(true);
            let input = match default {
                Some(default) => input.default(default.to_string()),
                None => input,
            };
            return input.interact_text().context(GONE);
        }
        loop {
            match default {
                Some(default) => eprint!("{asks} [{default}]: "),
                None => eprint!("{asks}: "),
            }
            std::io::stderr().flush()?;
            let mut line = Vec::new();
            anyhow::ensure!(std::io::stdin().lock().read_until(b'\n', &mut line).context(GONE)? > 0, GONE);
            match (std::str::from_utf8(&line).map(str::trim), default) {
                (Ok(""), Some(default)) => return Ok(default.to_string()),
                (Ok(line), _) => return Ok(line.to_string()),
                (Err(_), _) => eprintln!("  that is not UTF-8, as this terminal sends it: type it again"),
            }
        }
    }

    fn painted(&self, style: Style, text: &str) -> String {
        if self.theme.is_some() { format!("{style}{text}{style:#}") } else { text.to_string() }
    }
}

/// The line, cut between words where it is longer than that.
pub fn narrow(line: &str, columns: usize) -> Vec<String> {
    match line.chars().count() > columns {
        true => wrapped(line, columns),
        // As it is: its blanks may have a meaning.
        false => vec![line.to_string()],
    }
}

fn list(question: &Question, choices: &[Choice]) {
    for (number, Choice { value, says }) in (1..).zip(choices) {
        match question.is_numbered() {
            true => eprintln!("  {number:3}  {value:12}  {says}"),
            false => eprintln!("       {value:12}  {says}"),
        }
    }
}
