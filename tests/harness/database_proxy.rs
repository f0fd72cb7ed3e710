//! A way to the database on which answers get lost: what was asked for is
//! done, and whoever asked hears that the connection is gone.

use crate::Database;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What stands in the question whose answer is to be lost.
type ToLose = Arc<Mutex<Option<Vec<u8>>>>;

/// The way, for as long as it is not dropped.
pub struct DatabaseProxy {
    /// The database's URL, this way.
    pub url: String,
    to_lose: ToLose,
    task: tokio::task::JoinHandle<()>,
}

impl Database {
    /// A way to this database on which answers can be lost.
    pub async fn proxy(&self) -> DatabaseProxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap();
        let to_lose = ToLose::default();
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
    /// What is asked next with `text` in it, in a statement or in its values, is
    /// done, and the answer to it is lost.
    pub fn lose_next_answer_to(&self, text: &str) {
        *self.to_lose.lock().unwrap() = Some(text.into());
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
    to_lose: &ToLose,
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
                // A question is answered before the next one is put, so one
                // is not cut in two, and what comes next is its answer.
                lose = to_lose
                    .lock()
                    .unwrap()
                    .take_if(|text| {
                        question.windows(text.len()).any(|w| w == *text)
                    })
                    .is_some();
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
