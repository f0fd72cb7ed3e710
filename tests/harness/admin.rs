//! The operators' command line, as a process.

use crate::NexusProcess;
use crate::process::program;
use serde_json::Value;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// What `nexus-admin` said.
#[derive(Clone, Debug)]
pub struct Said {
    /// Its exit code.
    pub code: i32,
    /// The answer.
    pub out: String,
    /// What else it had to say.
    pub err: String,
}

impl Said {
    /// The answer, of one that was carried out.
    ///
    /// # Panics
    ///
    /// It was not.
    #[track_caller]
    pub fn done(self) -> String {
        assert_eq!(self.code, 0, "{}", self.err);
        self.out
    }

    /// The sentence, of one that was not carried out.
    ///
    /// # Panics
    ///
    /// It was, or failed otherwise, or without a sentence.
    #[track_caller]
    pub fn refused(self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.out.is_empty() && !self.err.is_empty(), "{self:?}");
        self.err
    }
}

/// Runs `nexus-admin` with these arguments, and what is typed.
pub async fn nexus_admin(args: &[&str], typed: &str) -> Said {
    let mut child = Command::new(program("nexus-admin"))
        .args(args)
        .env_remove("NEXUS_CONFIG")
        .env_remove("NEXUS_DATABASE_URL")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|e| {
            panic!("nexus-admin is not built ({e}): use `cargo xtask test`")
        });
    let mut stdin = child.stdin.take().unwrap();
    // It reads nothing if it asks nothing.
    let _ = stdin.write_all(typed.as_bytes()).await;
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said {
        code: output.status.code().unwrap(),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

impl NexusProcess {
    /// Runs `nexus-admin` with this Nexus's configuration, be it up or down.
    pub async fn admin(&self, args: &[&str]) -> Said {
        self.admin_typing(args, "").await
    }

    /// The same, with what is typed.
    pub async fn admin_typing(&self, args: &[&str], typed: &str) -> Said {
        let config = self.config_path();
        let config = ["--config", config.to_str().unwrap()];
        nexus_admin(&[&config, args].concat(), typed).await
    }

    /// The same, for scripts.
    pub async fn admin_json(&self, args: &[&str]) -> Value {
        let json = self.admin(&[args, &["--json"]].concat()).await.done();
        serde_json::from_str(&json).unwrap()
    }
}
