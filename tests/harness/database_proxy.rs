//! A way to the database on which answers get lost: what was asked for is
//! done, and whoever asked hears that the connection is gone. Or there is no
//! answer at all.

use crate::Database;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The end of every transaction, as it stands in what is sent.
const COMMIT: &[u8] = b"COMMIT";

/// The way, for as long as it is not dropped.
pub struct DatabaseProxy {
    /// The database's URL, this way.
    pub url: String,
    to_lose: Arc<AtomicUsize>,
    silent: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Database {
    /// A way to this database on which answers can be lost.
    pub async fn proxy(&self) -> DatabaseProxy {
        let (scheme, rest) = self.url.split_once("://").unwrap();
        let (authority, path) = rest.split_once('/').unwrap();
        let (user, address) = authority.rsplit_once('@').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap();
        let to_lose = Arc::new(AtomicUsize::new(0));
        let silent = watch::Sender::new(false);
        let (database, losing) = (address.to_string(), Arc::clone(&to_lose));
        let hearing = silent.subscribe();
        let task = tokio::spawn(async move {
            // Ended with this task.
            let mut ways = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (database, losing) = (database.clone(), losing.clone());
                let hearing = hearing.clone();
                ways.spawn(async move {
                    // Either side's hanging up is the other's.
                    let _ = pass(client, &database, &losing, hearing).await;
                });
            }
        });
        let url = format!("{scheme}://{user}@{here}/{path}");
        DatabaseProxy { url, to_lose, silent, task }
    }
}

impl DatabaseProxy {
    /// The next transaction that is committed over this way is, and the answer
    /// to that is lost.
    pub fn lose_next_commit(&self) {
        self.to_lose.store(1, Ordering::SeqCst);
    }

    /// From now on no answer comes over this way, or they all do again, those
    /// that are late too.
    pub fn silence(&self, silent: bool) {
        self.silent.send_replace(silent);
    }
}

impl Drop for DatabaseProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(
    mut client: TcpStream,
    database: &str,
    to_lose: &AtomicUsize,
    mut silent: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut server = TcpStream::connect(database).await?;
    let (mut asked, mut said) = ([0; 16 * 1024], [0; 16 * 1024]);
    let mut lose = false;
    loop {
        tokio::select! {
            n = client.read(&mut asked) => {
                let question = &asked[..n?];
                if question.is_empty() {
                    return Ok(());
                }
                // A question is answered before the next one is put, so a
                // commit is not cut in two, and what comes next is its answer.
                let commits =
                    question.windows(COMMIT.len()).any(|w| w == COMMIT);
                lose = commits && to_lose.swap(0, Ordering::SeqCst) > 0;
                server.write_all(question).await?;
            }
            n = server.read(&mut said) => {
                let answer = &said[..n?];
                if answer.is_empty() || lose {
                    return Ok(());
                }
                if silent.wait_for(|silent| !silent).await.is_err() {
                    return Ok(());
                }
                client.write_all(answer).await?;
            }
        }
    }
}
