//! Questions on a terminal: each a line, so that a serial console and a screen reader have all of it.

use crate::setup::Setup;
use crate::setup::question::{Choice, Kind, Question, Step};
use anstyle::Style;
use anyhow::Context as _;
use dialoguer::Input;
use dialoguer::theme::{ColorfulTheme, SimpleTheme, Theme};

/// A list that is shown without being asked for has so many lines at most.
const SHOWN_MAX: usize = 8;
/// What asks for the whole list.
const SHOW_ALL: &str = "?";

/// The terminal somebody sits at.
pub struct Terminal {
    theme: Box<dyn Theme>,
    has_colour: bool,
    step: Option<Step>,
}

impl Terminal {
    /// With colour where the terminal wants it.
    pub fn new() -> Terminal {
        let has_colour = crate::cli::colour(&std::io::stderr());
        let theme: Box<dyn Theme> = if has_colour { Box::new(ColorfulTheme::default()) } else { Box::new(SimpleTheme) };
        Terminal { theme, has_colour, step: None }
    }

    /// Asks until there is an answer that can be right, and gives it to the setup.
    pub fn ask(&mut self, engine: &mut Setup, question: &Question) -> anyhow::Result<()> {
        if self.step != Some(question.step) {
            self.step = Some(question.step);
            eprintln!("\n{}", self.painted(Style::new().bold(), question.step.title()));
        }
        if !question.hint.is_empty() {
            question.hint.lines().for_each(|line| eprintln!("  {}", self.painted(Style::new().dimmed(), line)));
        }
        let asks = match &question.kind {
            Kind::Text => question.asks.clone(),
            Kind::YesNo => format!("{}? yes or no", question.asks),
            Kind::Choice(choices) => {
                list(choices);
                format!("{}? number or word", question.asks)
            }
            Kind::Pick(choices) => {
                if choices.len() <= SHOWN_MAX {
                    list(choices);
                }
                format!("{} ({SHOW_ALL} shows all {})", question.asks, choices.len())
            }
        };
        loop {
            let mut input = Input::<String>::with_theme(&*self.theme).with_prompt(&asks).report(true);
            if let Some(default) = &question.default {
                input = input.default(default.clone());
            }
            let answer = input.interact_text().context("nobody answers; start the setup again to go on")?;
            if let (Kind::Pick(choices), SHOW_ALL) = (&question.kind, answer.trim()) {
                list(choices);
                continue;
            }
            match engine.answer(question.key, &answer) {
                Ok(()) => return Ok(()),
                Err(why) => eprintln!("  {why}"),
            }
        }
    }

    fn painted(&self, style: Style, text: &str) -> String {
        if self.has_colour { format!("{style}{text}{style:#}") } else { text.to_string() }
    }
}

fn list(choices: &[Choice]) {
    for (number, Choice { value, says }) in (1..).zip(choices) {
        eprintln!("  {number:3}  {value:12}  {says}");
    }
}
