//! The fleet's thread, from its start to the loop: what it needs may not be there yet, and a trial of a configuration must
//! not wait for that.

use super::bus::mqtt::{Broker, Mqtt};
use super::desired::adoption::{self, Adoption};
use super::identity::keeper::{self, Line, Word};
use super::outlives::Outlives;
use super::sparkplug;
use super::store::Store;
use super::telemetry::What;
use super::topic::Place;
use super::{Change, Config, LOOK_EVERY, Loop, Sources, Status};
use futures_util::future::OptionFuture;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// What keeps the fleet from starting is tried again after this.
const START_PAUSE: Duration = Duration::from_secs(60);

/// What the thread begins with.
pub(super) struct Worker {
    pub config: Config,
    pub told: mpsc::Receiver<What>,
    pub lost: Arc<AtomicU64>,
    pub status: watch::Sender<Status>,
    pub changes: mpsc::Sender<Change>,
    pub network: tokio::runtime::Handle,
}

impl Worker {
    /// Runs the fleet until `stopped` says so.
    pub fn run(self, sources: Sources, stopped: watch::Receiver<bool>) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
            Ok(runtime) => runtime,
            Err(error) => return tracing::error!(event = "fleet-down", "the fleet cannot start: {error}"),
        };
        runtime.block_on(async {
            let mut asked_to_stop = stopped.clone();
            let enrol = self.config.enrol.as_ref();
            let mut identity = enrol.map(|enrol| keeper::start(&self.config, enrol, sources.data(), stopped.clone()));
            let up = async {
                // A stick is for a box that its broker does not reach yet; `name` says for which.
                let may_be_carried = self.config.stick.is_some() && self.config.name.is_some();
                if let Some(identity) = identity.as_mut().filter(|_| !may_be_carried) {
                    self.let_in(identity).await;
                }
                self.prepared(&sources).await
            };
            let up = async {
                tokio::pin!(up);
                tokio::select! {
                    up = &mut up => return up,
                    () = self.end_a_trial(&sources) => {}
                }
                up.await
            };
            let (place, store, epoch, adoption) = tokio::select! {
                up = up => up,
                _ = asked_to_stop.wait_for(|stop| *stop) => return,
            };
            let (host, port) = self.config.host_and_port().unwrap_or_default();
            let client_id = place.gateway().to_string();
            let broker = Broker { host, port, tls: self.config.broker_tls(sources.data()), client_id };
            let bus = Mqtt::new(broker, self.network.clone());
            let config = self.config.clone();
            let view = config.sparkplug.as_ref().map(|view| {
                sparkplug::run(&config, view, sources.clone(), epoch, self.network.clone(), stopped.clone())
            });
            let fleet = Loop::new(self, identity, bus, place, (store, epoch), adoption, sources).run(stopped);
            tokio::join!(fleet, OptionFuture::from(view));
        });
    }

    /// A trial that nobody comes to watch within its window ends with what was good before: results may wait for its end.
    /// Returns once that runs.
    async fn end_a_trial(&self, sources: &Sources) {
        tokio::time::sleep(Duration::from_secs(self.config.confirm_s)).await;
        let Some(config) = adoption::before(sources) else { return std::future::pending().await };
        tracing::error!(
            event = "config-reverted",
            "nobody watches the trial of a configuration; what was good before runs again"
        );
        loop {
            let (done, answer) = oneshot::channel();
            if self.changes.send(Change { config: config.clone(), done }).await.is_ok()
                && matches!(answer.await, Ok(Ok(())))
            {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Everything that can fail before the first connection, tried until it works.
    async fn prepared(&self, sources: &Sources) -> (Place, Store, u64, Adoption) {
        loop {
            match self.prepare(sources) {
                Ok(ready) => return ready,
                Err(why) => {
                    tracing::error!(event = "fleet-down", "the fleet does not start, and results go on: {why}");
                    self.status.send_modify(|status| status.trouble = why);
                }
            }
            tokio::time::sleep(START_PAUSE).await;
        }
    }

    /// Waits until the box has a certificate to show.
    async fn let_in(&self, identity: &mut Line) {
        loop {
            tokio::select! {
                word = identity.words.recv() => match word {
                    Some(Word::Ready) => {
                        return self.status.send_modify(|status| (status.trouble, status.code) = Default::default());
                    }
                    Some(Word::Prove(_)) => {}
                    // Its thread is gone, which has said why: there is no other way to a certificate.
                    None => std::future::pending::<()>().await,
                },
                Ok(()) = identity.trouble.changed() => {
                    let waits = identity.trouble.borrow_and_update().clone();
                    self.status.send_modify(|status| (status.trouble, status.code) = (waits.why, waits.code));
                }
            }
        }
    }

    fn prepare(&self, sources: &Sources) -> Result<(Place, Store, u64, Adoption), String> {
        let place = self.config.place(sources.data())?;
        let mut store = Store::open(sources.data()).map_err(|error| error.to_string())?;
        let outlives = Outlives::read(sources.data());
        let epoch = store.next_epoch_after(outlives.epoch()).map_err(|error| error.to_string())?;
        let network = self.network.clone();
        let adoption = Adoption::new(&place, &self.config, sources, network, self.changes.clone(), &mut store)
            .map_err(|error| error.to_string())?;
        Ok((place, store, epoch, adoption))
    }
}
