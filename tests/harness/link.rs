//! A way between two processes that a test can disturb: cut it, stop it, slow
//! it, lose the answers, send again what was sent.
//!
//! What is said between members of the fleet is secret, and a question cannot
//! be told from an answer. So a link between two of them is either to the
//! other: it has certificates of the test's CA.

use crate::{Agent, pki};
use fleet_pki::{Peer, client_config, server_config};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf,
    split,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use uuid::Uuid;

/// How it is on a [`Link`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// Everything gets through.
    Clear,
    /// Nothing gets through, and what is open is closed.
    Cut,
    /// Nothing gets through, and nobody is told. It arrives when it clears up.
    Silent,
    /// Everything takes this much longer, each way.
    Slow(Duration),
    /// What is asked arrives; instead of the answer the connection is closed.
    AnswersLost,
    /// What is asked arrives, is answered, and arrives again this much later,
    /// over a connection of its own, whose answer nobody reads.
    Again(Duration),
}

/// The way, for as long as it is not dropped.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    target: watch::Sender<Option<Target>>,
    weather: watch::Sender<Weather>,
    task: tokio::task::JoinHandle<()>,
}

/// Where a way leads.
#[derive(Clone)]
struct Target {
    address: SocketAddr,
    /// None: what is said is passed on as it is.
    tls: Option<Tls>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Target({})", self.address)
    }
}

/// How it is the other to either.
#[derive(Clone)]
struct Tls {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

impl Tls {
    /// Of a way from `this` to `that`.
    fn between(this: Peer, that: Peer) -> Tls {
        let server = server_config(&pki::credentials(that), |_| true);
        let client = client_config(&pki::credentials(this), that);
        Tls {
            acceptor: Arc::new(server.unwrap()).into(),
            connector: Arc::new(client.unwrap()).into(),
        }
    }
}

/// A connection, either way.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}
type AnyWire = Box<dyn Wire>;

impl Target {
    async fn connect(&self) -> Option<AnyWire> {
        let server = TcpStream::connect(self.address).await.ok()?;
        // Requests are small, and answered before the next is sent.
        let _ = server.set_nodelay(true);
        let Some(tls) = &self.tls else { return Some(Box::new(server)) };
        let name = self.address.ip().into();
        Some(Box::new(tls.connector.connect(name, server).await.ok()?))
    }

    async fn accept(&self, client: TcpStream) -> Option<AnyWire> {
        let _ = client.set_nodelay(true);
        let Some(tls) = &self.tls else { return Some(Box::new(client)) };
        Some(Box::new(tls.acceptor.accept(client).await.ok()?))
    }
}

impl Link {
    /// A way that leads nowhere yet: who comes is turned away.
    pub async fn open() -> Link {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let target = watch::Sender::new(None);
        let weather = watch::Sender::new(Weather::Clear);
        let (to, sky) = (target.subscribe(), weather.subscribe());
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (to, sky): (Option<Target>, _) =
                    (to.borrow().clone(), sky.clone());
                if let Some(to) = to {
                    tokio::spawn(pass(client, to, sky));
                }
            }
        });
        Link { address, target, weather, task }
    }

    /// A way to `address`, of what is no secret.
    pub async fn to(address: SocketAddr) -> Link {
        let link = Link::open().await;
        link.lead(Target { address, tls: None });
        link
    }

    /// A way from sleds to the internal API of a Nexus. Which sled it is, only
    /// what is asked says.
    pub async fn to_nexus(address: SocketAddr) -> Link {
        let link = Link::open().await;
        let tls = Tls::between(Peer::Sled(Uuid::nil()), Peer::Nexus);
        link.lead(Target { address, tls: Some(tls) });
        link
    }

    /// It leads from Nexuses to this sled from now on.
    pub fn lead_to(&self, sled: &Agent) {
        let tls = Tls::between(Peer::Nexus, sled.peer());
        self.lead(Target { address: sled.address(), tls: Some(tls) });
    }

    fn lead(&self, target: Target) {
        self.target.send_replace(Some(target));
    }

    /// Where it begins.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How it is from now on.
    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What was asked over a connection since it was last answered.
#[derive(Clone, Default)]
struct Question(Arc<Mutex<Vec<u8>>>);

impl Question {
    fn extend(&self, bytes: &[u8]) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
    }

    fn take(&self) -> Vec<u8> {
        std::mem::take(
            &mut self.0.lock().unwrap_or_else(PoisonError::into_inner),
        )
    }
}

/// One connection. Either side's hanging up is the other's.
async fn pass(
    client: TcpStream,
    target: Target,
    sky: watch::Receiver<Weather>,
) {
    let mut cut = sky.clone();
    if *cut.borrow() == Weather::Cut {
        return;
    }
    tokio::select! {
        () = pass_on(client, target, sky) => (),
        _ = cut.wait_for(|now| *now == Weather::Cut) => (),
    }
}

async fn pass_on(
    client: TcpStream,
    target: Target,
    mut sky: watch::Receiver<Weather>,
) {
    if target.tls.is_some() && *sky.borrow() == Weather::Silent {
        weather_out(&mut sky).await;
    }
    let Some(server) = target.connect().await else { return };
    let Some(client) = target.accept(client).await else { return };
    let (asks, answered) = split(client);
    let (answers, asked) = split(server);
    let question = Question::default();
    tokio::select! {
        () = forth(asks, asked, &question, sky.clone()) => (),
        () = back(answers, answered, &question, target, sky) => (),
    }
}

async fn forth(
    mut from: ReadHalf<AnyWire>,
    mut to: WriteHalf<AnyWire>,
    question: &Question,
    mut sky: watch::Receiver<Weather>,
) {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let Ok(n @ 1..) = from.read(&mut bytes).await else { return };
        question.extend(&bytes[..n]);
        weather_out(&mut sky).await;
        if send(&mut to, &bytes[..n]).await.is_err() {
            return;
        }
    }
}

async fn back(
    mut from: ReadHalf<AnyWire>,
    mut to: WriteHalf<AnyWire>,
    question: &Question,
    target: Target,
    mut sky: watch::Receiver<Weather>,
) {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let Ok(n @ 1..) = from.read(&mut bytes).await else { return };
        let asked = question.take();
        let now = *sky.borrow();
        if now == Weather::AnswersLost {
            return;
        }
        if let Weather::Again(later) = now
            && !asked.is_empty()
        {
            tokio::spawn(ask_again(asked, target.clone(), later));
        }
        weather_out(&mut sky).await;
        if send(&mut to, &bytes[..n]).await.is_err() {
            return;
        }
    }
}

async fn send(
    to: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
) -> std::io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

/// Waits as long as the weather keeps things up.
async fn weather_out(sky: &mut watch::Receiver<Weather>) {
    let now = *sky.borrow();
    match now {
        Weather::Slow(by) => tokio::time::sleep(by).await,
        Weather::Silent => {
            // A link that is gone lets go of what it kept.
            let _ = sky.wait_for(|now| *now != Weather::Silent).await;
        }
        Weather::Clear
        | Weather::Cut
        | Weather::AnswersLost
        | Weather::Again(_) => (),
    }
}

async fn ask_again(question: Vec<u8>, target: Target, later: Duration) {
    tokio::time::sleep(later).await;
    let Some(mut server) = target.connect().await else { return };
    if send(&mut server, &question).await.is_err() {
        return;
    }
    // Until it is answered: to hang up earlier would take it back.
    let mut answer = [0; 1024];
    let _ = server.read(&mut answer).await;
}
