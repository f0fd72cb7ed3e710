//! Looking into blocks, and writing them as a guest would.

use crate::agent::Agent;
use crate::eventually::eventually;
use sled_agent_client::{
    BlocksEnsure, BlocksPlace, BlocksSource, BlocksState, Error,
};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use uuid::Uuid;

pub(crate) const KIB: u64 = 1 << 10;
pub(crate) const MIB: u64 = 1 << 20;

/// No files.
pub(crate) const NOTHING: [&str; 0] = [];

/// What an agent keeps its blocks in.
pub(crate) fn store(agent: &Agent) -> PathBuf {
    agent.dir().as_std_path().join("store")
}

/// The files of blocks, by what follows their id, sorted.
pub(crate) fn files(dir: &Path, id: Uuid) -> Vec<String> {
    let prefix = format!("{id}.");
    let entries = std::fs::read_dir(dir).unwrap();
    let mut rests: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| Some(name.strip_prefix(&prefix)?.to_string()))
        .collect();
    rests.sort_unstable();
    rests
}

/// What is being made in there.
pub(crate) fn making(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir.join("making")).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

pub(crate) fn blank(size_bytes: u64) -> BlocksEnsure {
    BlocksEnsure {
        place: BlocksPlace::Store,
        size_bytes,
        read_only: false,
        source: BlocksSource::Blank,
    }
}

/// What is imported, never to be written afterwards.
pub(crate) fn image(size_bytes: u64) -> BlocksEnsure {
    let source = BlocksSource::Import;
    BlocksEnsure { read_only: true, source, ..blank(size_bytes) }
}

/// A disk with the contents of another.
pub(crate) fn disk_of(blocks_id: Uuid, size_bytes: u64) -> BlocksEnsure {
    let source = BlocksSource::Copy { blocks_id };
    BlocksEnsure { source, ..blank(size_bytes) }
}

/// What a disk is now, never to be written.
pub(crate) fn snapshot_of(blocks_id: Uuid, size_bytes: u64) -> BlocksEnsure {
    BlocksEnsure { read_only: true, ..disk_of(blocks_id, size_bytes) }
}

impl Agent {
    /// Has blocks made, and waits until they are.
    pub(crate) async fn make(&self, wanted: &BlocksEnsure) -> Uuid {
        let id = Uuid::new_v4();
        self.ready(id, wanted).await;
        id
    }

    pub(crate) async fn ready(&self, id: Uuid, wanted: &BlocksEnsure) {
        let state = self.settled(id, wanted).await.unwrap();
        assert_eq!(state, BlocksState::Ready);
    }

    /// Asks until the answer is not that they are being made.
    pub(crate) async fn settled(
        &self,
        id: Uuid,
        wanted: &BlocksEnsure,
    ) -> Result<BlocksState, Error> {
        eventually("the blocks settle", async || {
            match self.client.blocks_ensure(id, wanted).await {
                Ok(report) if report.state == BlocksState::Making => None,
                answer => Some(answer.map(|report| report.state)),
            }
        })
        .await
    }

    /// Imports blocks that say this.
    pub(crate) async fn import(&self, bytes: &[u8]) -> Uuid {
        let size_bytes = u64::try_from(bytes.len()).unwrap();
        let id = Uuid::new_v4();
        let report = self.client.blocks_ensure(id, &image(size_bytes)).await;
        assert_eq!(report.unwrap().state, BlocksState::Importing);
        self.client.blocks_write(id, 0, bytes.to_vec()).await.unwrap();
        self.finished(id).await;
        id
    }

    /// Finishes an import.
    pub(crate) async fn finished(&self, id: Uuid) {
        let state = eventually("the import is finished", async || {
            let state = self.client.blocks_finish(id).await.unwrap().state;
            (state != BlocksState::Making).then_some(state)
        })
        .await;
        assert_eq!(state, BlocksState::Ready);
    }
}

/// What a guest would read.
pub(crate) fn contents(dir: &Path, id: Uuid) -> Vec<u8> {
    let raw = tempfile::NamedTempFile::new().unwrap();
    let status = Command::new("qemu-img")
        .args(["convert", "-f", "qcow2", "-O", "raw"])
        .arg(dir.join(format!("{id}.qcow2")))
        .arg(raw.path())
        .status()
        .unwrap();
    assert!(status.success());
    std::fs::read(raw.path()).unwrap()
}

/// Writes a sector as a guest would.
pub(crate) fn write_sector(dir: &Path, id: Uuid, sector: u64, byte: u8) {
    let order = format!("write -P {byte} {} 512", sector * 512);
    let output = Command::new("qemu-io")
        .args(["-f", "qcow2", "-c", &order])
        .arg(dir.join(format!("{id}.qcow2")))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Something that has blocks open to write them, as QEMU would, until it is
/// dropped.
pub(crate) struct Holder(Child);

impl Holder {
    pub(crate) fn of(dir: &Path, id: Uuid) -> Self {
        let mut child = Command::new("qemu-io")
            .args(["-f", "qcow2"])
            .arg(dir.join(format!("{id}.qcow2")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It answers once it has them; to look from outside could keep it from
        // having them.
        child.stdin.as_mut().unwrap().write_all(b"length\n").unwrap();
        let mut answer = String::new();
        let stdout = child.stdout.as_mut().unwrap();
        BufReader::new(stdout).read_line(&mut answer).unwrap();
        assert!(answer.contains("MiB"), "{answer}");
        Self(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
