//! What is written is read by another implementation of FAT.

use super::*;
use camino::Utf8PathBuf;
use fatfs::{FileSystem, FsOptions};
use proptest::prelude::*;
use serde_json::{Value, json};
use sled_agent_client::VmmNetwork;
use std::io::{Cursor, Read};
use uuid::Uuid;

type Disk = FileSystem<Cursor<Vec<u8>>>;

fn spec(user_data: &[u8], keys: &[&str]) -> VmmRegister {
    VmmRegister {
        instance_id: Uuid::from_u128(7),
        hostname: "db-1".to_string(),
        vcpus: 1,
        memory_bytes: 1 << 30,
        disks: Vec::new(),
        network: VmmNetwork::User,
        user_data: BASE64.encode(user_data),
        ssh_public_keys: keys.iter().map(ToString::to_string).collect(),
    }
}

fn open(image: Vec<u8>) -> Disk {
    FileSystem::new(Cursor::new(image), FsOptions::new()).unwrap()
}

fn file(disk: &Disk, name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut file = disk.root_dir().open_file(name).unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

fn written(spec: &VmmRegister) -> (tempfile::TempDir, Utf8PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = Utf8Path::from_path(dir.path()).unwrap().join("seed.img");
    write(&path, spec).unwrap();
    (dir, path)
}

#[test]
fn cloud_init_finds_its_disk_by_label_and_its_files_by_name() {
    let keys = ["ssh-ed25519 AAAA me@\"home\"", "ssh-rsa BBBB"];
    let script = b"#!/bin/sh\necho \xff\x00 hello\n";
    let (_dir, path) = written(&spec(script, &keys));
    let disk = open(std::fs::read(path).unwrap());
    // Some look for the label in the one place, some in the other.
    assert_eq!(disk.volume_label(), "CIDATA");
    let label = disk.read_volume_label_from_root_dir().unwrap();
    assert_eq!(label.as_deref(), Some("CIDATA"));
    assert_eq!(disk.fat_type(), fatfs::FatType::Fat12);
    let names: Vec<_> = disk
        .root_dir()
        .iter()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["meta-data", "user-data"]);
    assert_eq!(file(&disk, "user-data"), script, "byte for byte");
    let meta_data: Value =
        serde_json::from_slice(&file(&disk, "meta-data")).unwrap();
    assert_eq!(
        meta_data,
        json!({
            "instance-id": Uuid::from_u128(7),
            "local-hostname": "db-1",
            "public-keys": keys,
        })
    );
}

#[test]
fn a_user_with_nothing_to_say_gets_an_empty_configuration() {
    let (_dir, path) = written(&spec(b"", &[]));
    let disk = open(std::fs::read(path).unwrap());
    assert_eq!(file(&disk, "user-data"), b"#cloud-config\n");
}

#[test]
fn the_largest_that_may_be_asked_for_fits() {
    let key = "k".repeat(8192);
    let (_dir, path) = written(&spec(&vec![7; 32 << 10], &[&*key; 8]));
    let disk = open(std::fs::read(path).unwrap());
    assert_eq!(file(&disk, "user-data"), vec![7; 32 << 10]);
    assert!(file(&disk, "meta-data").len() > 8 * 8192);
}

#[test]
fn what_cannot_be_written_leaves_what_is_there() {
    let (dir, path) = written(&spec(b"first", &[]));
    let before = std::fs::read(&path).unwrap();
    let no_base64 =
        VmmRegister { user_data: "#".to_string(), ..spec(b"", &[]) };
    for wrong in [no_base64, spec(&vec![7; 1 << 20], &[])] {
        let error = write(&path, &wrong).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
    write(&path, &spec(b"second", &[])).unwrap();
    assert_ne!(std::fs::read(&path).unwrap(), before);
    assert_eq!(dir.path().read_dir().unwrap().count(), 1, "nothing else");
}

proptest! {
    #[test]
    fn files_of_any_length_are_read_as_they_were_written(
        lengths in prop::collection::vec(0_usize..4000, 1..6),
    ) {
        let contents: Vec<Vec<u8>> = lengths
            .iter()
            .zip(1_u8..)
            .map(|(length, n)| vec![n; *length])
            .collect();
        let names: Vec<_> = (0..contents.len())
            .map(|n| format!("a-name-of-{}", "x".repeat(n * 5)))
            .collect();
        let files: Vec<_> = contents
            .iter()
            .zip(&names)
            .zip(b'A'..)
            .map(|((bytes, name), alias)| fat::File {
                name,
                alias: [alias; 11],
                bytes,
            })
            .collect();
        let disk = open(fat::image(*b"LABEL      ", &files).unwrap());
        for (name, bytes) in names.iter().zip(&contents) {
            prop_assert_eq!(&file(&disk, name), bytes);
        }
    }
}
