//! What is asked, so that any shell can show it.

use serde::Serialize;

/// A step of the installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// What the box is called and where it keeps things.
    Place,
    /// How it is reached, and reaches others.
    Network,
    /// Whether its clock is right.
    Time,
    /// Where results go.
    Ehr,
    /// Where they come from.
    Link,
    /// Who looks after the box.
    Fleet,
    /// The configuration.
    Write,
    /// A test result.
    Test,
}

impl Step {
    /// Its heading.
    pub fn title(self) -> &'static str {
        match self {
            Step::Place => "Name and place",
            Step::Network => "Network",
            Step::Time => "Time",
            Step::Ehr => "Where results go: the EHR",
            Step::Link => "Where results come from: the first analyzer",
            Step::Fleet => "Who looks after the box",
            Step::Write => "The configuration",
            Step::Test => "A test result",
        }
    }
}

/// One of several answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// What is answered.
    pub value: String,
    /// What that means.
    pub says: String,
}

/// What an answer looks like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "choices")]
pub enum Kind {
    /// A line of text.
    Text,
    /// `yes` or `no`.
    YesNo,
    /// One of a few, to be shown all.
    Choice(Vec<Choice>),
    /// One of many, to be shown when asked for.
    Pick(Vec<Choice>),
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Question {
    /// Its name, under which a file of answers has the answer.
    pub key: &'static str,
    /// Which step it belongs to.
    pub step: Step,
    /// The question, without a question mark.
    pub asks: String,
    /// What helps to answer it; may be empty.
    pub hint: String,
    /// What an answer looks like.
    #[serde(flatten)]
    pub kind: Kind,
    /// What is answered when nothing is said.
    pub default: Option<String>,
}

impl Question {
    /// True where an answer may be given by its number in the list: none of them is a number itself, as a link called `2`.
    pub fn is_numbered(&self) -> bool {
        match &self.kind {
            Kind::Choice(choices) | Kind::Pick(choices) => {
                !choices.iter().any(|choice| choice.value.parse::<usize>().is_ok())
            }
            Kind::Text | Kind::YesNo => false,
        }
    }

    pub(super) fn new(step: Step, key: &'static str, asks: impl Into<String>) -> Question {
        Question { key, step, asks: asks.into(), hint: String::new(), kind: Kind::Text, default: None }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Question {
        Question { hint: hint.into(), ..self }
    }

    pub(super) fn default(self, default: impl Into<String>) -> Question {
        Question { default: Some(default.into()), ..self }
    }

    pub(super) fn yes_or_no(self) -> Question {
        Question { kind: Kind::YesNo, ..self }
    }

    pub(super) fn choice(self, choices: &[(&str, &str)]) -> Question {
        let choice = |(value, says): &(&str, &str)| Choice { value: (*value).to_string(), says: (*says).to_string() };
        Question { kind: Kind::Choice(choices.iter().map(choice).collect()), ..self }
    }
}
