//! Open files that QEMU inherits from its warden.

use super::Unstartable;
use crate::blocks;
use crate::qemu::arguments::DiskFds;
use crate::qemu::dir::LOCK;
use crate::qemu::plan::Disk;
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Above what QEMU opens by itself: files are closed in their order, so the
/// lock is freed after the disks.
const LOCK_FD: i32 = 900;

/// Files that are open in a program that is started while this exists.
#[derive(Default)]
pub(super) struct Inheritance(Vec<OwnedFd>);

impl Inheritance {
    /// Leaves a file to the program, and tells its number.
    pub(super) fn leave(&mut self, file: OwnedFd) -> io::Result<i32> {
        fcntl_setfd(&file, FdFlags::empty())?;
        let number = file.as_raw_fd();
        self.0.push(file);
        Ok(number)
    }

    pub(super) fn leave_disk(&mut self, disk: OpenDisk) -> io::Result<DiskFds> {
        let file = self.leave(disk.file.into())?;
        let base = disk.base.map(|base| self.leave(base.into())).transpose()?;
        Ok(DiskFds { file, base })
    }

    /// Leaves it a share of its own of the guest's lock.
    pub(super) fn leave_lock(&mut self) -> io::Result<()> {
        let lock = File::open(LOCK)?;
        lock.lock_shared()?;
        let lock = fcntl_dupfd_cloexec(lock, LOCK_FD)?;
        self.leave(lock).map(|_| ())
    }
}

/// A disk's open files.
pub(super) struct OpenDisk {
    pub(super) file: File,
    /// What is behind it, if anything is.
    pub(super) base: Option<File>,
}

/// Opens the disks, as their user knows them: by their order.
pub(super) fn disks(disks: &[Disk]) -> Result<Vec<OpenDisk>, Unstartable> {
    (1..).zip(disks).map(|(number, disk)| open(number, disk)).collect()
}

fn open(number: u32, disk: &Disk) -> Result<OpenDisk, Unstartable> {
    let open = || -> io::Result<OpenDisk> {
        let mut as_is_due = File::options();
        as_is_due.read(true).write(!disk.read_only);
        let file = as_is_due.open(&disk.file)?;
        let base = disk.base.as_ref().filter(|_| blocks::is_backed(&disk.file));
        let base = base.map(File::open).transpose()?;
        Ok(OpenDisk { file, base })
    };
    open().map_err(|source| {
        let which = match number {
            1 => "The boot disk".to_string(),
            number => format!("Disk {number} of the instance"),
        };
        let is_missing = source.kind() == io::ErrorKind::NotFound;
        let what = if is_missing { "is not there" } else { "cannot be opened" };
        let message = format!("{which} {what}.");
        Unstartable::Disk { message, source }
    })
}
