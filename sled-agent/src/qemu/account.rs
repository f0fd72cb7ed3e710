//! Who guests' QEMUs run as.

use rustix::fs::Mode;
use serde::{Deserialize, Serialize};
use std::os::unix::fs::MetadataExt;

/// Where accounts are looked up.
const PASSWD: &str = "/etc/passwd";

/// The device through which KVM is used.
pub(super) const KVM: &str = "/dev/kvm";

/// An account, and the groups that it has beside its own.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
}

/// Why there is no such account.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccountError {
    #[error("there is no account `{0}` for the guests (--guest-user)")]
    Unknown(String),
    #[error("guests do not run as root (--guest-user)")]
    Root,
    #[error("cannot read {PASSWD}")]
    Passwd(#[source] std::io::Error),
}

impl Account {
    /// The account for guests: none if this process is not root, and so cannot
    /// but run them as itself. `user` is a name, a uid, or `uid:gid`.
    pub(crate) fn for_guests(user: &str) -> Result<Option<Self>, AccountError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let passwd =
            std::fs::read_to_string(PASSWD).map_err(AccountError::Passwd)?;
        let (uid, gid) = numbers(user, &passwd)
            .ok_or_else(|| AccountError::Unknown(user.to_string()))?;
        if uid == 0 || gid == 0 {
            return Err(AccountError::Root);
        }
        let groups = kvm_group().into_iter().collect();
        Ok(Some(Self { uid, gid, groups }))
    }
}

fn numbers(user: &str, passwd: &str) -> Option<(u32, u32)> {
    if let Some((uid, gid)) = user.split_once(':') {
        return Some((uid.parse().ok()?, gid.parse().ok()?));
    }
    let entries = passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        let uid: u32 = fields.next()?.parse().ok()?;
        let gid: u32 = fields.next()?.parse().ok()?;
        Some((name, uid, gid))
    });
    let number: Option<u32> = user.parse().ok();
    entries
        .into_iter()
        .find(|(name, uid, _)| *name == user || Some(*uid) == number)
        .map(|(_, uid, gid)| (uid, gid))
        .or_else(|| number.map(|number| (number, number)))
}

/// The group that may use KVM, if it takes a group to.
fn kvm_group() -> Option<u32> {
    let kvm = std::fs::metadata(KVM).ok()?;
    let mode = Mode::from_raw_mode(kvm.mode());
    let opens = mode.contains(Mode::RGRP | Mode::WGRP);
    (opens && kvm.gid() != 0).then_some(kvm.gid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_a_name_or_a_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n\
                      guests:x:990:991::/nonexistent:/usr/sbin/nologin\n";
        for (user, found) in [
            ("guests", Some((990, 991))),
            ("990", Some((990, 991))),
            ("1234", Some((1234, 1234))),
            ("1234:55", Some((1234, 55))),
            ("root", Some((0, 0))),
            ("nobody-knows", None),
            ("1:x", None),
        ] {
            assert_eq!(numbers(user, passwd), found, "{user}");
        }
    }
}
