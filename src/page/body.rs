//! What is sent: a text, or the stream of a browser that follows.

use super::seats::Answering;
use super::{Feed, Ticks};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use hyper::body::{Body, Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::broadcast::error::RecvError;

/// The body of an answer.
pub struct Payload {
    ready: Option<Bytes>,
    next: Option<BoxFuture<'static, (Option<Arc<str>>, Ticks)>>,
    feed: Option<Arc<dyn Feed>>,
    /// Until all of the answer was handed over; of a stream, until what there is at first was. A connection that only
    /// follows gives way like one that asks nothing: a browser asks again.
    answering: Option<Answering>,
}

impl Payload {
    /// This text.
    pub fn text(text: &str) -> Payload {
        Payload { ready: Some(Bytes::copy_from_slice(text.as_bytes())), next: None, feed: None, answering: None }
    }

    /// Everything, and what comes behind it, for as long as it is read.
    pub fn stream(feed: Arc<dyn Feed>) -> Payload {
        let (all, ticks) = feed.follow();
        let next = next(feed.clone(), ticks);
        let ready = Some(Bytes::copy_from_slice(all.as_bytes()));
        Payload { ready, next: Some(next), feed: Some(feed), answering: None }
    }

    /// The connection does not give way before all of this was handed over to it; whether anybody takes it there is
    /// another matter.
    pub(super) fn keeping(self, answering: Answering) -> Payload {
        Payload { answering: Some(answering), ..self }
    }
}

/// The next tick; everything for a browser that missed some; none for one that may see no more.
fn next(feed: Arc<dyn Feed>, mut ticks: Ticks) -> BoxFuture<'static, (Option<Arc<str>>, Ticks)> {
    Box::pin(async move {
        let told = ticks.recv().await;
        if !feed.goes_on() {
            return (None, ticks);
        }
        match told {
            Ok(tick) => (Some(tick), ticks),
            Err(RecvError::Lagged(_)) => {
                let (all, ticks) = feed.follow();
                (Some(all), ticks)
            }
            Err(RecvError::Closed) => (None, ticks),
        }
    })
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(ready) = self.ready.take() {
            if self.feed.is_some() {
                self.answering = None;
            }
            return Poll::Ready(Some(Ok(Frame::data(ready))));
        }
        let Some(feed) = self.feed.clone() else { return Poll::Ready(None) };
        let Some(waiting) = &mut self.next else { return Poll::Ready(None) };
        match waiting.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready((None, _)) => {
                self.next = None;
                Poll::Ready(None)
            }
            Poll::Ready((Some(tick), ticks)) => {
                self.next = Some(next(feed, ticks));
                Poll::Ready(Some(Ok(Frame::data(Bytes::copy_from_slice(tick.as_bytes())))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ready.is_none() && self.next.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.ready, &self.next) {
            (Some(text), None) => SizeHint::with_exact(text.len() as u64),
            _ => SizeHint::default(),
        }
    }
}
