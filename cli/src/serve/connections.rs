//! Accepted connections: a bounded number at a time, each ended when it is silent for too long.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener as AsyncListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::failure::{Failure, Result};

/// More are not accepted until one ends: operators and a scraper need a handful.
const MAX_CONNECTIONS: usize = 64;
/// A connection that says nothing for so long is ended, in the middle of a request too.
const MAX_SILENCE: Duration = Duration::from_secs(30);

/// A listening socket that gives out [`Connection`]s.
#[derive(Debug)]
pub(crate) struct Connections {
    listener: AsyncListener,
    places: Arc<Semaphore>,
    /// Where it listens; the port is the one that was taken.
    pub(crate) address: SocketAddr,
}

impl Connections {
    /// Takes over a socket that does not block. Needs a runtime around it.
    pub(crate) fn new(listener: TcpListener) -> Result<Self> {
        let listener = AsyncListener::from_std(listener).and_then(|listener| {
            let address = listener.local_addr()?;
            Ok(Self { listener, places: Arc::new(Semaphore::new(MAX_CONNECTIONS)), address })
        });
        listener.map_err(|cause| Failure::address(format!("a socket cannot be used: {cause}")))
    }
}

impl Listener for Connections {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let place = Arc::clone(&self.places).acquire_owned().await.expect("it is never closed");
        // The listener's own accept logs what the machine refuses and goes on.
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let silence = Box::pin(sleep_until(Instant::now() + MAX_SILENCE));
        (Connection { stream, silence, _place: place }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    silence: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Ready(read) => {
                self.silence.as_mut().reset(Instant::now() + MAX_SILENCE);
                Poll::Ready(read)
            }
            Poll::Pending => {
                self.silence.as_mut().poll(cx).map(|()| Err(io::Error::from(io::ErrorKind::TimedOut)))
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
