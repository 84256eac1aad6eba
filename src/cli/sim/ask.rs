//! An instrument that works by orders: what `--ask` and `--wait` do.

use std::process::ExitCode;

use anyhow::{Context, bail};

use super::{DialectArg, Instrument, ProtocolArg};
use crate::driver::{self, Registry};
use crate::sim::instrument::asking::{self, Asking, Dialect, Told};
use crate::sim::instrument::results::Shape;
use crate::sim::instrument::worklist::{self, Work, Working};

impl Instrument {
    /// Gets orders and measures them; the exit code is 0 when the gateway did nothing that it must not.
    pub(super) async fn work_by_orders(&self) -> anyhow::Result<ExitCode> {
        if self.time_scale <= 0.0 {
            bail!("--time-scale is above 0");
        }
        let registry = Registry::builtin();
        let driver = match &self.driver {
            Some(id) => Some(registry.get(id).with_context(|| format!("there is no driver {id}; see `driver list`"))?),
            None => None,
        };
        let by_driver = driver.is_some_and(|driver| driver.protocol() == driver::Protocol::Astm);
        let dialect = match (self.dialect, self.protocol) {
            (Some(dialect), _) => dialect,
            (None, Some(ProtocolArg::Astm)) => DialectArg::Astm,
            (None, None) if by_driver || self.wait.is_some() => DialectArg::Astm,
            (None, Some(ProtocolArg::Poct1a)) => bail!("a POCT1-A device has no question for orders"),
            (None, _) => DialectArg::Law,
        };
        let hl7 = match dialect {
            DialectArg::Law => Dialect::Law,
            DialectArg::Genexpert => Dialect::GeneXpert,
            DialectArg::Display => Dialect::Display,
            DialectArg::Order => Dialect::OrderMessage,
            DialectArg::Astm => {
                return self.tell(&self.work_in_astm(driver.map_or_else(Shape::generic, Shape::of)).await?);
            }
        };
        if self.together || self.take_back || self.wait.is_some() {
            bail!("--together, --take-back and --wait are for ASTM instruments: --dialect astm, or an ASTM --driver");
        }
        let asking = Asking {
            line: self.line.line()?,
            dialect: hl7,
            tubes: self.ask.clone(),
            faults: self.faults.clone(),
            seed: self.seed,
            time_scale: self.time_scale,
        };
        let all = asking::run(&asking).await.context("the gateway does not answer: is its link protocol = \"hl7\"?")?;
        self.tell(&all)
    }

    async fn work_in_astm(&self, shape: Shape) -> anyhow::Result<Vec<Told>> {
        let tubes = self.ask.clone();
        let work = match (self.wait, self.together, self.take_back) {
            (Some(tubes), ..) => Work::Wait(tubes),
            (None, true, _) => Work::AskTogether(tubes),
            (None, false, true) => Work::TakeBack(tubes),
            (None, false, false) => Work::Ask(tubes),
        };
        let why = match work {
            Work::Wait(_) => {
                "no orders came: has the gateway's link push_orders = true and a driver with a push_action?"
            }
            _ => "the gateway does not answer: is its link an ASTM link whose driver has a [query]?",
        };
        let (faults, seed, time_scale) = (self.faults.clone(), self.seed, self.time_scale);
        let (line, tries) = (self.line.line()?, worklist::TRIES);
        let working = Working { line, shape, work, faults, seed, time_scale, tries, frames: None };
        worklist::run(&working).await.context(why)
    }

    fn tell(&self, all: &[Told]) -> anyhow::Result<ExitCode> {
        for told in all {
            match self.json {
                true => println!("{}", serde_json::to_string(told)?),
                false => println!("{}: {} {}", told.tube, told.reply, told.orders.join(" ")),
            }
        }
        let right = all.iter().all(|told| told.violations == 0);
        Ok(if right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
