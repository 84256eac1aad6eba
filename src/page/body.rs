//! What is sent: a text, or the stream of a browser that follows.

use super::{Content, Ticks};
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
    content: Option<Arc<dyn Content>>,
}

impl Payload {
    /// This text.
    pub fn text(text: &str) -> Payload {
        Payload { ready: Some(Bytes::copy_from_slice(text.as_bytes())), next: None, content: None }
    }

    /// Everything, and what comes behind it, for as long as it is read.
    pub fn stream(content: Arc<dyn Content>) -> Payload {
        let (all, ticks) = content.follow();
        let next = next(content.clone(), ticks);
        Payload { ready: Some(Bytes::copy_from_slice(all.as_bytes())), next: Some(next), content: Some(content) }
    }
}

/// The next tick; everything for a browser that missed some.
fn next(content: Arc<dyn Content>, mut ticks: Ticks) -> BoxFuture<'static, (Option<Arc<str>>, Ticks)> {
    Box::pin(async move {
        match ticks.recv().await {
            Ok(tick) => (Some(tick), ticks),
            Err(RecvError::Lagged(_)) => {
                let (all, ticks) = content.follow();
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
        let Some(content) = self.content.clone() else { return Poll::Ready(None) };
        let Some(waiting) = &mut self.next else { return Poll::Ready(None) };
        match waiting.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready((None, _)) => Poll::Ready(None),
            Poll::Ready((Some(tick), ticks)) => {
                self.next = Some(next(content, ticks));
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
