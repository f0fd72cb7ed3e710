//! A way to the database on which answers get lost: what was asked for is
//! done, and whoever asked hears that the connection is gone.

use crate::Database;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The end of every transaction, as it stands in what is sent.
const COMMIT: &[u8] = b"COMMIT";

/// The way, for as long as it is not dropped.
pub struct DatabaseProxy {
    /// The database's URL, this way.
    pub url: String,
    to_lose: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Database {
    /// A way to this database on which answers can be lost.
    pub async fn proxy(&self) -> DatabaseProxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap();
        let to_lose = Arc::new(AtomicUsize::new(0));
        let (database, losing) = (self.address(), Arc::clone(&to_lose));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (database, losing) = (database.clone(), losing.clone());
                tokio::spawn(async move {
                    // Either side's hanging up is the other's.
                    let _ = pass(client, &database, &losing).await;
                });
            }
        });
        DatabaseProxy { url: self.url_by_way_of(here), to_lose, task }
    }
}

impl DatabaseProxy {
    /// The next transaction that is committed over this way is, and the answer
    /// to that is lost.
    pub fn lose_next_commit(&self) {
        self.to_lose.store(1, Ordering::SeqCst);
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
                client.write_all(answer).await?;
            }
        }
    }
}
