//! What is sent: a text, or the stream of a browser that follows.

use super::Fleet;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use hyper::body::{Body, Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::broadcast::{self, error::RecvError};

type Ticks = broadcast::Receiver<Arc<str>>;

/// See the module docs.
pub(super) struct Payload {
    ready: Option<Bytes>,
    next: Option<BoxFuture<'static, (Option<Arc<str>>, Ticks)>>,
    fleet: Option<Arc<Fleet>>,
}

impl Payload {
    pub fn text(text: &str) -> Payload {
        Payload { ready: Some(Bytes::copy_from_slice(text.as_bytes())), next: None, fleet: None }
    }

    pub fn stream(fleet: Arc<Fleet>, all: Arc<str>, ticks: Ticks) -> Payload {
        let next = next(fleet.clone(), ticks);
        Payload { ready: Some(Bytes::copy_from_slice(all.as_bytes())), next: Some(next), fleet: Some(fleet) }
    }
}

/// The next tick; everything for a browser that missed some.
fn next(fleet: Arc<Fleet>, mut ticks: Ticks) -> BoxFuture<'static, (Option<Arc<str>>, Ticks)> {
    Box::pin(async move {
        match ticks.recv().await {
            Ok(tick) => (Some(tick), ticks),
            Err(RecvError::Lagged(_)) => {
                let (all, ticks) = fleet.follow();
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
            return Poll::Ready(Some(Ok(Frame::data(ready))));
        }
        let Some(fleet) = self.fleet.clone() else { return Poll::Ready(None) };
        let Some(waiting) = &mut self.next else { return Poll::Ready(None) };
        match waiting.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready((None, _)) => Poll::Ready(None),
            Poll::Ready((Some(tick), ticks)) => {
                self.next = Some(next(fleet, ticks));
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
