//! A TCP proxy on this machine, between a client and a live server: it passes bytes on, or fails as told.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// How the link behaves towards connections; those that are open follow it from their next bytes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Bytes pass.
    Pass,
    /// Connections are closed as soon as they are made.
    Refuse,
    /// A connection is cut once so many bytes have gone to the server.
    Cut(u64),
    /// The next so many answers are thrown away and their connections cut; then bytes pass again.
    LoseAnswers(u64),
    /// Each piece of an answer comes so much later.
    Delay(Duration),
    /// Answers come a byte at a time, each after this pause.
    Trickle(Duration),
    /// Nothing passes any more, and nothing is closed.
    Stall,
}

/// The proxy. Dropped, it closes its door and every connection.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    link: Arc<Mutex<Link>>,
    connections: Arc<AtomicU64>,
    door: JoinHandle<()>,
}

const PIECE_LEN_BYTES: usize = 16 << 10;

impl Proxy {
    /// Opens a door on a free port of 127.0.0.1 that leads to `server`. Only inside a tokio runtime with I/O.
    ///
    /// # Errors
    /// What the system says to a new listener.
    pub async fn open(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (link, connections) = (Arc::new(Mutex::new(Link::Pass)), Arc::<AtomicU64>::default());
        let (of_link, of_connections) = (Arc::clone(&link), Arc::clone(&connections));
        let door = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                of_connections.fetch_add(1, Ordering::Relaxed);
                // An error ends one connection, as it would on the way.
                open.spawn(carry(client, server, Arc::clone(&of_link)));
            }
        });
        Ok(Self { address, link, connections, door })
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes how the link behaves.
    pub fn set(&self, link: Link) {
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = link;
    }

    /// Connections that were made so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.door.abort();
    }
}

type SharedLink = Arc<Mutex<Link>>;

fn now(link: &SharedLink) -> Link {
    *link.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn carry(mut client: TcpStream, server: SocketAddr, link: SharedLink) -> io::Result<()> {
    if now(&link) == Link::Refuse {
        return Ok(());
    }
    let mut server = TcpStream::connect(server).await?;
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let asks = async {
        let (mut piece, mut sent) = (vec![0; PIECE_LEN_BYTES], 0);
        loop {
            let len = from_client.read(&mut piece).await?;
            sent += len as u64;
            match now(&link) {
                Link::Cut(after) if sent >= after => return Err(io::ErrorKind::ConnectionAborted.into()),
                Link::Refuse => return Err(io::ErrorKind::ConnectionAborted.into()),
                Link::Stall => std::future::pending().await,
                _ => {}
            }
            if len == 0 {
                return to_server.shutdown().await;
            }
            to_server.write_all(&piece[..len]).await?;
        }
    };
    let answers = async {
        let mut piece = vec![0; PIECE_LEN_BYTES];
        loop {
            let len = from_server.read(&mut piece).await?;
            if len == 0 {
                return Err::<(), io::Error>(io::ErrorKind::UnexpectedEof.into());
            }
            let (mut chunk_len, mut pause) = (len, Duration::ZERO);
            match now(&link) {
                Link::LoseAnswers(left) => {
                    let next = if left > 1 { Link::LoseAnswers(left - 1) } else { Link::Pass };
                    *link.lock().unwrap_or_else(PoisonError::into_inner) = next;
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                Link::Refuse => return Err(io::ErrorKind::ConnectionAborted.into()),
                Link::Stall => std::future::pending().await,
                Link::Delay(time) => pause = time,
                Link::Trickle(time) => (chunk_len, pause) = (1, time),
                Link::Pass | Link::Cut(_) => {}
            }
            for chunk in piece[..len].chunks(chunk_len) {
                wait(pause).await;
                to_client.write_all(chunk).await?;
            }
        }
    };
    tokio::try_join!(asks, answers)?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the delay of a link is what is simulated")]
async fn wait(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}
