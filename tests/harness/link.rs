//! A way between two processes that a test can disturb: cut it, stop it, slow
//! it, lose the answers, send again what was sent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

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
    target: watch::Sender<Option<SocketAddr>>,
    weather: watch::Sender<Weather>,
    task: tokio::task::JoinHandle<()>,
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
                let (to, sky): (Option<SocketAddr>, _) =
                    (*to.borrow(), sky.clone());
                if let Some(to) = to {
                    tokio::spawn(pass(client, to, sky));
                }
            }
        });
        Link { address, target, weather, task }
    }

    /// A way to `target`.
    pub async fn to(target: SocketAddr) -> Link {
        let link = Link::open().await;
        link.lead_to(target);
        link
    }

    /// Where it leads from now on.
    pub fn lead_to(&self, target: SocketAddr) {
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
    target: SocketAddr,
    sky: watch::Receiver<Weather>,
) {
    if *sky.borrow() == Weather::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(target).await else { return };
    // Requests are small, and answered before the next is sent.
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let (asks, answered) = client.into_split();
    let (answers, asked) = server.into_split();
    let question = Question::default();
    let mut cut = sky.clone();
    tokio::select! {
        () = forth(asks, asked, &question, sky.clone()) => (),
        () = back(answers, answered, &question, target, sky) => (),
        _ = cut.wait_for(|now| *now == Weather::Cut) => (),
    }
}

async fn forth(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    question: &Question,
    mut sky: watch::Receiver<Weather>,
) {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let Ok(n @ 1..) = from.read(&mut bytes).await else { return };
        question.extend(&bytes[..n]);
        weather_out(&mut sky).await;
        if to.write_all(&bytes[..n]).await.is_err() {
            return;
        }
    }
}

async fn back(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    question: &Question,
    target: SocketAddr,
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
            tokio::spawn(ask_again(asked, target, later));
        }
        weather_out(&mut sky).await;
        if to.write_all(&bytes[..n]).await.is_err() {
            return;
        }
    }
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

async fn ask_again(question: Vec<u8>, target: SocketAddr, later: Duration) {
    tokio::time::sleep(later).await;
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    if server.write_all(&question).await.is_err() {
        return;
    }
    // Until it is answered: to hang up earlier would take it back.
    let mut answer = [0; 1024];
    let _ = server.read(&mut answer).await;
}
