//! Whom PostgreSQL runs as. It refuses to run as root, rightly; when we are
//! root it gets an account that owns nothing else here.

use crate::failure::{Context, Failure, Result};
use camino::Utf8Path;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// In this order: the first that the machine has.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    gid: u32,
}

impl Account {
    /// Those of this machine that PostgreSQL may run as, the best first; none
    /// when we are not root and it can run as we do.
    ///
    /// # Errors
    /// When we are root and there is none.
    pub(crate) fn for_postgres() -> Result<Vec<Account>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Vec::new());
        }
        let passwd = std::fs::read_to_string("/etc/passwd")
            .context(|| "cannot read /etc/passwd")?;
        let accounts: Vec<Account> = CANDIDATES
            .iter()
            .filter_map(|name| parse(&passwd, name))
            .filter(|account| account.uid != 0)
            .collect();
        if accounts.is_empty() {
            return Err(Failure::new(
                "PostgreSQL does not run as root, and this machine has \
                 neither an account `postgres` nor `nobody`.",
            ));
        }
        Ok(accounts)
    }

    pub(crate) fn owns(&self, dir: &Utf8Path) -> bool {
        std::fs::symlink_metadata(dir)
            .is_ok_and(|found| found.is_dir() && found.uid() == self.uid)
    }

    /// Makes the command run as this account. The standard library drops the
    /// supplementary groups along with root.
    pub(crate) fn apply(&self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }

    pub(crate) fn give(&self, path: &Utf8Path) -> Result<()> {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
            .context(|| format!("cannot give {path} to {}", self.name))
    }

    /// Whether this account can enter the directory: asked of the kernel by
    /// trying, since permissions of every parent count, and ACLs.
    pub(crate) fn can_enter(&self, dir: &Utf8Path) -> bool {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", r#"cd "$1""#, "sh", dir.as_str()])
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.apply(&mut command);
        command.status().is_ok_and(|status| status.success())
    }
}

/// `name:password:uid:gid:…`
fn parse(passwd: &str, name: &str) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        let _password = fields.next()?;
        let uid = fields.next()?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Account { name: name.to_owned(), uid, gid })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n\
                      postgresql:x:7:8::/:/bin/sh\n\
                      postgres:x:101:104:,,,:/var/lib:/bin/bash\n";
        let account = parse(passwd, "postgres").unwrap();
        assert_eq!((account.uid, account.gid), (101, 104));
        assert!(parse(passwd, "nobody").is_none());
    }
}
