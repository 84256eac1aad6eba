//! The clerk: the task beside a connection that looks orders up and notes what the instrument was told of them.
//!
//! The pump hands it what the instrument asks and answers, and sends what it says; it never waits for it. An order
//! counts as sent only when the instrument's answer is in custody ([`LinkMark::Sent`]), or when the reply that told of
//! it was handed to the line where the instrument answers nothing. Everything the clerk remembers is also in the
//! journal: after a crash an order that was not noted is told again, under the same message id.

use super::{Host, as_work, by_specimen};
use crate::clinical::Phi;
use crate::journal::{Journal, LinkMark, LinkTask, WorkOrderId};
use crate::link::config::Config;
use crate::link::counters::LinkCounters;
use crate::mapping::hl7::dialogue::{self, Dispatch, Names, Outcome};
use crate::mapping::hl7::host::{Control, Work};
use crate::message::hl7::query::{self, Dialect, Peer};
use crate::wire::{Event, Message, Token};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Messages between pump and clerk. A connection has one question and one answer open at a time.
const WAITING_MAX: usize = 64;
/// Tasks taken up at once.
const TASKS_MAX: usize = 64;
/// Tasks are looked for this often: what was not answered is told again, and a lost signal costs no more than this.
const TASKS_POLL: Duration = Duration::from_secs(20);

const NO_CODE: &str = "an order was not told: this instrument has no code for it";

/// What the connections of one link share.
pub struct Office {
    host: Arc<Host>,
    journal: Journal,
    config: Config,
    counters: Arc<LinkCounters>,
    /// The connection that tells of orders unasked. One at a time, so that none is told twice.
    herald: Arc<Semaphore>,
    /// Who the instrument is and how it speaks, as its last query said.
    known: Mutex<Option<(Peer, Dialect)>>,
    /// Where orders go on a link that dials another port for them, and who hands them in there.
    post: Option<mpsc::Sender<Dispatch>>,
    inbox: Option<tokio::sync::Mutex<mpsc::Receiver<Dispatch>>>,
}

/// The pump's end.
pub struct Clerk {
    heard: mpsc::Sender<Heard>,
    said: mpsc::Receiver<Say>,
}

/// What the pump heard.
enum Heard {
    Asked(Message),
    Answered(Message),
    Failed(Token),
}

/// What the pump is to do.
pub enum Say {
    /// Hand this reply to the machine.
    Reply(Token, Option<Vec<u8>>),
    /// Send this message of ours.
    Send(Token, Vec<u8>),
}

impl Office {
    /// The office of a link. `apart` says that orders go out on a connection of their own.
    pub fn new(
        host: &Arc<Host>,
        journal: &Journal,
        config: &Config,
        counters: &Arc<LinkCounters>,
        apart: bool,
    ) -> Arc<Office> {
        let (post, inbox) = mpsc::channel(WAITING_MAX);
        Arc::new(Office {
            host: host.clone(),
            journal: journal.clone(),
            config: config.clone(),
            counters: counters.clone(),
            herald: Arc::new(Semaphore::new(1)),
            known: Mutex::new(None),
            post: apart.then_some(post),
            inbox: apart.then(|| tokio::sync::Mutex::new(inbox)),
        })
    }

    /// A clerk for a connection on which the instrument asks, or (`outgoing`) for the one on which it is told.
    pub fn clerk(self: &Arc<Self>, outgoing: bool) -> Clerk {
        let (heard, hears) = mpsc::channel(WAITING_MAX);
        let (says, said) = mpsc::channel(WAITING_MAX);
        let desk = Desk { office: self.clone(), says, open: HashMap::new(), next: 0, herald: None };
        tokio::spawn(desk.serve(hears, outgoing));
        Clerk { heard, said }
    }
}

impl Clerk {
    /// The instrument asks. The machine itself answers when nobody does.
    pub fn asked(&self, message: Message) {
        let _ = self.heard.try_send(Heard::Asked(message));
    }

    /// The instrument answered a message of ours.
    pub fn answered(&self, message: Message) {
        let _ = self.heard.try_send(Heard::Answered(message));
    }

    /// A message of ours was given up.
    pub fn failed(&self, token: Token) {
        let _ = self.heard.try_send(Heard::Failed(token));
    }

    /// What is to be done next. Safe to cancel.
    pub async fn next(&mut self) -> Say {
        match self.said.recv().await {
            Some(say) => say,
            // The clerk is gone; the machine answers by itself.
            None => std::future::pending().await,
        }
    }
}

struct Desk {
    office: Arc<Office>,
    says: mpsc::Sender<Say>,
    /// Our messages that are not answered yet.
    open: HashMap<Token, Dispatch>,
    next: u64,
    herald: Option<OwnedSemaphorePermit>,
}

impl Desk {
    async fn serve(mut self, mut hears: mpsc::Receiver<Heard>, outgoing: bool) {
        let office = self.office.clone();
        let changed = office.journal.orders_changed(&office.config.name);
        let mut posted = match &office.inbox {
            Some(inbox) if outgoing => Some(inbox.lock().await),
            _ => None,
        };
        if outgoing || (office.config.push_orders && office.post.is_none()) {
            self.become_herald();
        }
        loop {
            let next_posted = async {
                match posted.as_deref_mut() {
                    Some(posted) => posted.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                heard = hears.recv() => match heard {
                    None => return,
                    Some(Heard::Asked(message)) => self.asked(message).await,
                    Some(Heard::Answered(message)) => self.answered(&message).await,
                    Some(Heard::Failed(token)) => {
                        self.open.remove(&token);
                    }
                },
                Some(dispatch) = next_posted => self.send(dispatch).await,
                () = changed.notified(), if self.herald.is_some() => self.tasks().await,
                () = tokio::time::sleep(TASKS_POLL), if self.herald.is_some() => self.tasks().await,
            }
        }
    }

    fn become_herald(&mut self) {
        if self.herald.is_none() {
            self.herald = self.office.herald.clone().try_acquire_owned().ok();
        }
    }

    /// Answers a query. The answer to one that cannot be looked up now is the machine's.
    async fn asked(&mut self, Message { token, bytes }: Message) {
        let office = self.office.clone();
        let look_up = move || office.host.look_up(&office.config, &bytes);
        let Ok(Ok(Some(asked))) = tokio::task::spawn_blocking(look_up).await else {
            self.count(Event::Refused("a query could not be looked up"));
            return self.say(Say::Reply(token, None)).await;
        };
        for (order, why) in &asked.left_out {
            tracing::warn!(link = self.office.config.name, order, "an order is not told: {why}");
            self.count(Event::Odd(why));
        }
        let known = (asked.query.peer.clone(), asked.query.dialect);
        *self.office.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
        if asked.query.dialect == Dialect::Law && self.office.post.is_none() {
            self.become_herald();
        }
        let now = self.now();
        match dialogue::reply(&asked.query, &asked.specimens, &self.names(&now)) {
            Ok(reply) => {
                self.say(Say::Reply(token, Some(reply.message))).await;
                // Nothing comes back for these. What was lost on the way is asked for again.
                for order in reply.told {
                    self.mark(order, LinkMark::Sent).await;
                }
                for dispatch in reply.follow {
                    match &self.office.post {
                        Some(post) if post.try_send(dispatch.clone()).is_ok() => {}
                        Some(_) => self.count(Event::Refused("the connection for orders does not take them")),
                        None => self.send(dispatch).await,
                    }
                }
            }
            Err(error) => {
                tracing::warn!(link = self.office.config.name, "a query is not answered: {error}");
                self.count(Event::Refused("an order cannot be written for this instrument"));
                self.say(Say::Reply(token, None)).await;
            }
        }
    }

    /// Notes what the instrument says to a message of ours.
    async fn answered(&mut self, Message { token, bytes }: &Message) {
        let Some(dispatch) = self.open.remove(token) else { return };
        let Some(answer) = query::answer(bytes, None) else { return };
        if !answer.accepts() && dispatch.orders.is_empty() {
            self.count(Event::Odd("the instrument does not know the specimen it asked for"));
        }
        let mut marked = false;
        for (order, outcome) in dialogue::outcomes(&dispatch, &answer) {
            marked |= outcome == Outcome::Accepted || dispatch.control == Control::Cancel;
            match (dispatch.control, outcome) {
                (Control::New, Outcome::Accepted) => self.mark(order, LinkMark::Sent).await,
                (Control::New, Outcome::Refused) => {
                    self.count(Event::Refused("the instrument refuses an order"));
                    // An analyzer refuses what it has already (LAB-28): that is no reason to forget that it does.
                    if self.is_requested(order).await {
                        marked = true;
                        self.mark(order, LinkMark::NotForThis).await;
                    }
                }
                (Control::Cancel, outcome) => {
                    if outcome == Outcome::Refused {
                        self.count(Event::Refused("the instrument does not cancel an order"));
                    }
                    self.mark(order, LinkMark::CancellationSent).await;
                }
            }
        }
        // What was neither taken nor marked would be sent again at once, for ever.
        if marked && self.herald.is_some() {
            self.tasks().await;
        }
    }

    /// Tells the instrument what it has not been told: orders where the link says so, and what was taken back.
    async fn tasks(&mut self) {
        let office = self.office.clone();
        let known = office.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (peer, dialect) = known.unwrap_or_else(|| (self.unknown_peer(), Dialect::Law));
        let read = {
            let office = office.clone();
            move || office.host.read(|reader| reader.link_tasks(&office.config.name, TASKS_MAX))
        };
        let Ok(Ok(tasks)) = tokio::task::spawn_blocking(read).await else { return };
        let is_open = |task: &LinkTask| {
            let key = task.order.id.0;
            self.open.values().any(|dispatch| dispatch.orders.iter().any(|(_, order)| *order == key))
        };
        let due: Vec<LinkTask> = tasks.into_iter().filter(|task| !is_open(task)).collect();
        if dialect != Dialect::Law {
            // Only LAW has a message for it: the instrument finds out when it asks again.
            for task in due.iter().filter(|task| task.is_cancellation) {
                self.count(Event::Odd("an order was taken back that this instrument cannot be told of"));
                self.mark(task.order.id.0, LinkMark::CancellationSent).await;
            }
            return;
        }
        for (cancel, control) in [(true, Control::Cancel), (false, Control::New)] {
            if !cancel && !office.config.push_orders {
                continue;
            }
            let stored = due.iter().filter(|task| task.is_cancellation == cancel).map(|task| task.order.clone());
            for (id, stored) in by_specimen(stored.collect()) {
                let driver = office.host.driver(office.config.driver.as_deref(), &[]);
                let time = |ms| office.host.time(ms, office.config.time_zone.as_deref());
                let mut work: Vec<Work> = Vec::new();
                for stored in &stored {
                    match as_work(stored, driver, time) {
                        Some(told) => work.push(told),
                        None => {
                            self.count(Event::Odd(NO_CODE));
                            self.mark(stored.id.0, LinkMark::NotForThis).await;
                        }
                    }
                }
                self.dispatch(&peer, &id, &work, control).await;
            }
        }
    }

    /// Sends orders of one specimen, each patient's by themselves.
    async fn dispatch(&mut self, peer: &Peer, id: &Phi, work: &[Work], control: Control) {
        if work.is_empty() {
            return;
        }
        if control == Control::New && !dialogue::is_one_patient(work) {
            return self.count(Event::Odd("orders of several patients are on one specimen"));
        }
        let now = self.now();
        match dialogue::law_orders(peer, id, work, control, &self.names(&now)) {
            Ok(dispatch) => self.send(dispatch).await,
            Err(error) => {
                tracing::warn!(link = self.office.config.name, "an order is not told: {error}");
                self.count(Event::Refused("an order cannot be written for this instrument"));
            }
        }
    }

    async fn send(&mut self, dispatch: Dispatch) {
        let token = Token(self.next);
        self.next += 1;
        let message = dispatch.message.clone();
        self.open.insert(token, dispatch);
        self.say(Say::Send(token, message)).await;
    }

    async fn say(&self, say: Say) {
        // The connection is gone when nobody listens; then there is nothing to say.
        let _ = self.says.send(say).await;
    }

    async fn mark(&self, order: i64, mark: LinkMark) {
        let office = &self.office;
        if let Err(error) = office.journal.mark_order(WorkOrderId(order), &office.config.name, mark).await {
            tracing::warn!(
                link = office.config.name,
                order,
                "what the instrument said of an order is not noted: {error}"
            );
        }
    }

    async fn is_requested(&self, order: i64) -> bool {
        let office = self.office.clone();
        let read = move || office.host.read(|reader| reader.work_order(WorkOrderId(order)));
        let read = tokio::task::spawn_blocking(read).await;
        matches!(read, Ok(Ok(stored)) if stored.status == crate::clinical::OrderStatus::Requested)
    }

    fn unknown_peer(&self) -> Peer {
        let receiver = [self.office.host.gateway().to_string(), String::new()];
        Peer { receiver, ..Peer::default() }
    }

    fn now(&self) -> String {
        let now = jiff::Timestamp::now().as_millisecond();
        self.office.host.time(now, self.office.config.time_zone.as_deref())
    }

    fn names<'n>(&'n self, time: &'n str) -> Names<'n> {
        Names { gateway: self.office.host.gateway(), link: &self.office.config.name, time }
    }

    fn count(&self, event: Event) {
        self.office.counters.event(&event);
    }
}
