//! Who looks after the box: which fleet it joins, and how it is let in there.

use super::question::{Question, Step};
use super::{Next, Setup, Work};

impl Setup {
    pub(super) fn fleet(&self) -> Option<Next> {
        if self.base().is_some_and(|base| base.fleet.is_some()) {
            return None;
        }
        let step = Step::Fleet;
        let asked = self.ask("fleet.join", |key| {
            let asks = "Does the box join a fleet that a desk looks after";
            Question::new(step, key, asks).yes_or_no().default("no")
        });
        if asked.is_some() || !self.joins() {
            return asked;
        }
        self.ask("fleet.broker", |key| {
            Question::new(step, key, "Host and port of the fleet's broker").hint("such as broker.example:8883")
        })
        .or_else(|| self.ask("fleet.tenant", |key| Question::new(step, key, "Whose fleet it is (tenant)")))
        .or_else(|| {
            self.ask("fleet.desk", |key| {
                Question::new(step, key, "Address where boxes ask to be let in")
                    .hint("such as https://desk.example:8443")
            })
        })
        .or_else(|| {
            self.ask("fleet.ca", |key| {
                Question::new(step, key, "File with the fleet's authority")
                    .hint("the desk's ca/root.pem, copied to this box")
            })
        })
    }

    /// True when it joins one now.
    pub(super) fn joins(&self) -> bool {
        self.is("fleet.join", "yes")
    }

    /// Once it is written where the desk is, the box asks it, under a code that somebody reads to whoever is there.
    pub(super) fn enrolment(&self) -> Option<Next> {
        if !self.joins() {
            return None;
        }
        let Some(code) = &self.progress.code else { return Some(Next::Do(Work::Code)) };
        let step = Step::Fleet;
        self.ask("fleet.wait_s", |key| {
            let hint = format!(
                "the code of this box is\n\n    {code}\n\nand at the desk: afferent desk enrol accept {code} --name NAME\n0: \
                 later; the service asks by itself, under the same code"
            );
            Question::new(step, key, "Seconds to wait until somebody at the desk lets it in").hint(hint).default("300")
        })
        .or_else(|| match &self.progress.enrolled {
            None if self.is("fleet.wait_s", "0") => None,
            None => Some(Next::Do(Work::Enrol)),
            Some(tried) if tried.worked => None,
            Some(_) => self.ask("fleet.waits", |key| {
                let choices = [("again", "wait again"), ("keep", "go on; the service asks by itself")];
                Question::new(step, key, "The desk has not let it in. What now").choice(&choices)
            }),
        })
    }
}
