//! The clerk: the task beside a connection that looks orders up and notes what the instrument was told of them.
//!
//! The pump hands it what the instrument asks and answers, and sends what it says; it never waits for it. An order
//! counts as sent only when the instrument's answer is in custody ([`LinkMark::Sent`]), or when the reply that told of
//! it was handed to the line where the instrument answers nothing. Everything the clerk remembers is also in the
//! journal: after a crash an order that was not noted is told again, under the same message id.

use super::asked::{self, as_work, by_specimen, time};
use super::turn::Turn;
use super::{OrderDesk, UNLISTED, Unasked};
use crate::clinical::{OrderStatus, Phi};
use crate::driver::worklist::why;
use crate::journal::{LinkMark, LinkTask, WorkOrderId};
use crate::mapping::hl7::dialogue::{self, Dispatch, Names, Outcome};
use crate::mapping::hl7::host::{Control, Work};
use crate::message::hl7::query::{self, Dialect, Peer, Wanted};
use crate::wire::{Message, Token};
use jiff::tz::TimeZone;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// Messages between pump and clerk. A connection has one question and one answer open at a time.
const WAITING_MAX: usize = 64;
/// Tasks taken up at once.
const TASKS_MAX: usize = 64;
/// What is counted when the instrument's character set or the message cannot carry an order.
const UNWRITABLE: &str = "an order cannot be written for this instrument";

/// What the connections of one link share.
pub struct Office {
    desk: Arc<OrderDesk>,
    /// Who asked last, on a link that tells on another connection than it is asked on.
    known: Arc<Mutex<Option<Known>>>,
    /// Where orders go on a link that dials another port for them, and who hands them in there.
    post: Option<mpsc::Sender<Dispatch>>,
    inbox: Option<tokio::sync::Mutex<mpsc::Receiver<Dispatch>>>,
}

/// Who the instrument is and how it speaks, as its last query said.
#[derive(Clone)]
struct Known {
    peer: Peer,
    dialect: Dialect,
    driver: String,
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
    pub fn new(desk: &Arc<OrderDesk>, apart: bool) -> Arc<Office> {
        let (post, inbox) = mpsc::channel(WAITING_MAX);
        Arc::new(Office {
            desk: desk.clone(),
            known: Arc::default(),
            post: apart.then_some(post),
            inbox: apart.then(|| tokio::sync::Mutex::new(inbox)),
        })
    }

    /// A clerk for a connection on which the instrument asks, or (`outgoing`) for the one on which it is told.
    pub fn clerk(self: &Arc<Self>, outgoing: bool) -> Clerk {
        let (heard, hears) = mpsc::channel(WAITING_MAX);
        let (says, said) = mpsc::channel(WAITING_MAX);
        let (office, apart) = (self.clone(), self.post.is_some());
        let turn = Turn::new(&self.desk, outgoing || (self.desk.config.push_orders && !apart), outgoing || !apart);
        let known = if apart { self.known.clone() } else { Arc::default() };
        let desk = Desk { office, says, open: HashMap::new(), next: 0, known, turn };
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
    /// Who is told here.
    known: Arc<Mutex<Option<Known>>>,
    turn: Turn,
}

impl Desk {
    async fn serve(mut self, mut hears: mpsc::Receiver<Heard>, outgoing: bool) {
        let office = self.office.clone();
        let mut posted = match &office.inbox {
            Some(inbox) if outgoing => Some(inbox.lock().await),
            _ => None,
        };
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
                    Some(Heard::Failed(token)) => self.failed(token),
                },
                Some(dispatch) = next_posted => self.send(dispatch).await,
                () = self.turn.come() => self.tasks().await,
            }
        }
    }

    /// A message of ours was not answered.
    fn failed(&mut self, token: Token) {
        if self.open.remove(&token).is_some() {
            self.turn.failed();
        }
    }

    /// Answers a query. The answer to one that cannot be looked up now is the machine's.
    async fn asked(&mut self, Message { token, bytes }: Message) {
        let desk = self.office.desk.clone();
        let look_up = move || asked::look_up(&desk, &bytes);
        let Ok(Ok(Some(asked))) = tokio::task::spawn_blocking(look_up).await else {
            self.office.desk.count_refused("a query could not be looked up");
            return self.say(Say::Reply(token, None)).await;
        };
        if asked.query.wanted != Wanted::Unanswerable(UNLISTED) {
            let (peer, dialect) = (asked.query.peer.clone(), asked.query.dialect);
            let known = Known { peer, dialect, driver: asked.driver.clone() };
            let before = self.known.lock().unwrap_or_else(PoisonError::into_inner).replace(known);
            match self.office.post {
                None => self.turn.tells |= dialect == Dialect::Law,
                // What was due could not be told before.
                Some(_) if before.is_none() => self.office.desk.changed.notify_one(),
                Some(_) => {}
            }
        }
        let now = time(jiff::Timestamp::now().as_millisecond(), &asked.zone);
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
                        Some(_) => self.office.desk.count_refused("the connection for orders does not take them"),
                        None => self.send(dispatch).await,
                    }
                }
            }
            Err(error) => {
                tracing::warn!(link = self.office.desk.config.name, "a query is not answered: {error}");
                self.office.desk.count_refused(UNWRITABLE);
                self.say(Say::Reply(token, None)).await;
            }
        }
    }

    /// Notes what the instrument says to a message of ours.
    async fn answered(&mut self, Message { token, bytes }: &Message) {
        let Some(dispatch) = self.open.remove(token) else { return };
        let Some(answer) = query::answer(bytes, None) else { return };
        if !answer.accepts() && dispatch.orders.is_empty() {
            self.office.desk.count("the instrument does not know the specimen it asked for");
        }
        let mut marked = false;
        for (order, outcome) in dialogue::outcomes(&dispatch, &answer) {
            marked |= outcome == Outcome::Accepted || dispatch.control == Control::Cancel;
            match (dispatch.control, outcome) {
                (Control::New, Outcome::Accepted) => self.mark(order, LinkMark::Sent).await,
                (Control::New, Outcome::Refused) => {
                    self.office.desk.count_refused("the instrument refuses an order");
                    // An analyzer refuses what it has already (LAB-28): that is no reason to forget that it does.
                    if self.is_requested(order).await {
                        marked = true;
                        self.mark(order, LinkMark::NotForThis).await;
                    }
                }
                (Control::Cancel, outcome) => {
                    if outcome == Outcome::Refused {
                        self.office.desk.count_refused("the instrument does not cancel an order");
                    }
                    self.mark(order, LinkMark::CancellationSent).await;
                }
            }
        }
        // What was neither taken nor marked would be sent again at once, for ever.
        if marked {
            self.turn.look_again();
        }
    }

    /// Tells the instrument what it has not been told: orders where the link says so, and what was taken back.
    async fn tasks(&mut self) {
        let office = self.office.clone();
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let told = match office.desk.unasked(known.as_ref().map(|known| known.driver.as_str())) {
            Unasked::NotYet => return,
            Unasked::Several => None,
            Unasked::Told(told) => Some(told),
        };
        let (peer, dialect) =
            known.map_or_else(|| (self.unknown_peer(), Dialect::Law), |Known { peer, dialect, .. }| (peer, dialect));
        let (desk, teller) = (office.desk.clone(), self.turn.teller());
        let Ok(Ok(tasks)) = tokio::task::spawn_blocking(move || desk.tasks(teller, TASKS_MAX)).await else { return };
        let is_open = |task: &LinkTask| {
            let key = task.order.id.0;
            self.open.values().any(|dispatch| dispatch.orders.iter().any(|(_, order)| *order == key))
        };
        let due: Vec<LinkTask> = tasks.into_iter().filter(|task| !is_open(task)).collect();
        // Only LAW has a message for what nobody asks for: the instrument finds out when it asks again.
        let Some(told) = told.filter(|_| dialect == Dialect::Law) else {
            for task in due.iter().filter(|task| task.is_cancellation) {
                office.desk.give_up(teller, task.order.id).await;
            }
            return;
        };
        for nameless in due.iter().filter(|task| task.order.order.specimen.id.is_empty()) {
            let mark = if nameless.is_cancellation { LinkMark::CancellationSent } else { LinkMark::NotForThis };
            office.desk.left_out(nameless.order.id, "", why::NO_SPECIMEN);
            office.desk.mark(teller, nameless.order.id, mark).await;
        }
        for (cancel, control) in [(true, Control::Cancel), (false, Control::New)] {
            let stored = due.iter().filter(|task| task.is_cancellation == cancel).map(|task| task.order.clone());
            for (id, stored) in by_specimen(stored.collect()) {
                let mut work: Vec<Work> = Vec::new();
                for stored in &stored {
                    match as_work(&office.desk, told.driver, &told.zone, stored) {
                        Some(told) => work.push(told),
                        None => office.desk.mark(teller, stored.id, LinkMark::NotForThis).await,
                    }
                }
                self.dispatch(&peer, &id, &work, control, &told.zone).await;
            }
        }
    }

    /// Sends orders of one specimen.
    async fn dispatch(&mut self, peer: &Peer, id: &Phi, work: &[Work], control: Control, zone: &TimeZone) {
        if work.is_empty() {
            return;
        }
        let now = time(jiff::Timestamp::now().as_millisecond(), zone);
        match dialogue::law_orders(peer, id, work, control, &self.names(&now)) {
            Ok(dispatch) => self.send(dispatch).await,
            Err(error) => {
                tracing::warn!(link = self.office.desk.config.name, "an order is not told: {error}");
                self.office.desk.count_refused(UNWRITABLE);
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
        self.office.desk.mark(self.turn.teller(), WorkOrderId(order), mark).await;
    }

    async fn is_requested(&self, order: i64) -> bool {
        let desk = self.office.desk.clone();
        let read = move || desk.read(|reader| reader.work_order(WorkOrderId(order)));
        let read = tokio::task::spawn_blocking(read).await;
        matches!(read, Ok(Ok(stored)) if stored.status == OrderStatus::Requested)
    }

    fn unknown_peer(&self) -> Peer {
        let receiver = [self.office.desk.gateway().to_string(), String::new()];
        Peer { receiver, ..Peer::default() }
    }

    fn names<'n>(&'n self, time: &'n str) -> Names<'n> {
        Names { gateway: self.office.desk.gateway(), link: &self.office.desk.config.name, time }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::host::bench::Bench;
    use std::time::Duration;

    const PATIENCE: Duration = Duration::from_secs(10);

    async fn told(clerk: &mut Clerk) -> (Token, Vec<u8>) {
        match tokio::time::timeout(PATIENCE, clerk.next()).await.expect("told in time") {
            Say::Send(token, message) => (token, message),
            Say::Reply(..) => panic!("nobody asked"),
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_order_that_is_not_answered_on_a_dead_connection_goes_out_on_the_next() {
        let bench = Bench::new(true);
        let office = Office::new(&bench.desk, false);
        bench.order("A1").await;
        let mut dead = office.clerk(false);
        let (token, message) = told(&mut dead).await;
        let mut alive = office.clerk(false);
        dead.failed(token);
        assert_eq!(told(&mut alive).await.1, message);
    }
}
