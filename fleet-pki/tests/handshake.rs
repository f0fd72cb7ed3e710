//! Who gets through to whom: real handshakes, in memory.
#![expect(clippy::unwrap_used, reason = "a test may stop anywhere")]

use fleet_pki::{
    Authority, Credentials, Key, Peer, PkiError, SLED_LIFE, Trust,
    client_config, first_contact_client_config, first_contact_server_config,
    server_config,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

fn authority() -> Authority {
    let key = Key::generate().unwrap();
    let pem = Authority::certificate(&key).unwrap();
    Authority::new(&pem, key).unwrap()
}

fn of(authority: &Authority, peer: Peer) -> Credentials {
    authority.credentials(peer, SLED_LIFE).unwrap()
}

fn sled(n: u128) -> Peer {
    Peer::Sled(Uuid::from_u128(n))
}

fn only_nexus(peer: Peer) -> bool {
    peer == Peer::Nexus
}

/// Have the two spoken with each other? A word, and back.
fn speak(client: ClientConfig, server: ServerConfig) -> Result<(), String> {
    let name = ServerName::try_from("192.0.2.1").unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    client.writer().write_all(b"!").unwrap();
    // More rounds than any handshake has.
    for _ in 0..10 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut sent = wire.as_slice();
        while !sent.is_empty() {
            server.read_tls(&mut sent).unwrap();
            let read = server.process_new_packets();
            read.map_err(|e| format!("the server: {e}"))?;
        }
        let mut word = [0];
        if server.reader().read(&mut word).is_ok_and(|n| n == 1) {
            assert_eq!(
                client.handshake_kind(),
                Some(rustls::HandshakeKind::Full)
            );
            return Ok(());
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut sent = wire.as_slice();
        while !sent.is_empty() {
            client.read_tls(&mut sent).unwrap();
            let read = client.process_new_packets();
            read.map_err(|e| format!("the client: {e}"))?;
        }
    }
    Err("nothing was said".to_owned())
}

#[track_caller]
fn refused(answer: Result<(), String>, by: &str) {
    let why = answer.expect_err("it got through");
    assert!(why.starts_with(by), "{why}");
}

#[test]
fn a_nexus_and_its_sled_find_each_other() {
    let ca = authority();
    let (nexus, one) = (of(&ca, Peer::Nexus), of(&ca, sled(1)));
    let client = || client_config(&nexus, sled(1)).unwrap();
    let server = || server_config(&one, only_nexus).unwrap();
    // Twice: nothing is kept of a session.
    speak(client(), server()).unwrap();
    speak(client(), server()).unwrap();
}

#[test]
fn a_sled_takes_no_order_but_from_a_nexus() {
    let ca = authority();
    let one = of(&ca, sled(1));
    for other in [sled(1), sled(2), Peer::Operator] {
        let client = client_config(&of(&ca, other), sled(1)).unwrap();
        let server = server_config(&one, only_nexus).unwrap();
        refused(speak(client, server), "the server");
    }
}

#[test]
fn who_shows_nothing_is_not_let_in() {
    let ca = authority();
    let nexus = of(&ca, Peer::Nexus);
    let client = first_contact_client_config(ca.trust().clone()).unwrap();
    let server = server_config(&nexus, |_| true).unwrap();
    refused(speak(client.clone(), server), "the server");
    let joining = first_contact_server_config(&nexus).unwrap();
    speak(client, joining).unwrap();
}

#[test]
fn a_nexus_speaks_with_the_sled_that_it_meant_alone() {
    let ca = authority();
    let nexus = of(&ca, Peer::Nexus);
    for other in [sled(2), Peer::Nexus] {
        let client = client_config(&nexus, sled(1)).unwrap();
        let server = server_config(&of(&ca, other), |_| true).unwrap();
        refused(speak(client, server), "the client");
    }
}

#[test]
fn an_operator_s_certificate_serves_nothing() {
    let ca = authority();
    let client = client_config(&of(&ca, Peer::Nexus), Peer::Operator).unwrap();
    let operator = of(&ca, Peer::Operator);
    let server = server_config(&operator, |_| true).unwrap();
    refused(speak(client, server), "the client");
}

#[test]
fn another_authority_s_members_are_strangers() {
    let (ca, other) = (authority(), authority());
    let (ours, theirs) = (of(&ca, sled(1)), of(&other, Peer::Nexus));
    let client = client_config(&theirs, sled(1)).unwrap();
    let server = server_config(&ours, only_nexus).unwrap();
    refused(speak(client, server), "the client");

    // One that believes us, and shows theirs.
    let key = Key::generate().unwrap();
    let theirs = other.issue(Peer::Nexus, &key.public_key(), SLED_LIFE);
    let trust = ca.trust().clone();
    let mixed = Credentials::new(&theirs.unwrap(), &key, trust).unwrap();
    let client = client_config(&mixed, sled(1)).unwrap();
    let server = server_config(&ours, only_nexus).unwrap();
    refused(speak(client, server), "the server");
}

#[test]
fn a_certificate_runs_out() {
    let ca = authority();
    let nexus = ca.credentials(Peer::Nexus, Duration::ZERO).unwrap();
    let one = of(&ca, sled(1));
    let client = client_config(&nexus, sled(1)).unwrap();
    let server = server_config(&one, only_nexus).unwrap();
    // It is good to the end of the second that it was made in.
    let began = Instant::now();
    while speak(client.clone(), server.clone()).is_ok() {
        assert!(began.elapsed() < Duration::from_secs(10), "it is still good");
    }
    refused(speak(client.clone(), server), "the server");

    nexus.replace(&of(&ca, Peer::Nexus));
    let server = server_config(&one, only_nexus).unwrap();
    speak(client, server).unwrap();
}

#[test]
fn while_it_is_replaced_both_authorities_count() {
    let (old, new) = (authority(), authority());
    let both = format!("{}{}", old.trust().pem(), new.trust().pem());
    let trust = Trust::from_pem(&both).unwrap();
    let member = |ca: &Authority, peer: Peer| {
        let key = Key::generate().unwrap();
        let pem = ca.issue(peer, &key.public_key(), SLED_LIFE).unwrap();
        Credentials::new(&pem, &key, trust.clone()).unwrap()
    };
    for (nexus, one) in [(&old, &new), (&new, &old)] {
        let nexus = member(nexus, Peer::Nexus);
        let client = client_config(&nexus, sled(1)).unwrap();
        let one = member(one, sled(1));
        speak(client, server_config(&one, only_nexus).unwrap()).unwrap();
    }
}

#[test]
fn a_member_signs_nobody() {
    let ca = authority();
    let key = Key::generate().unwrap();
    let pem = ca.issue(sled(1), &key.public_key(), SLED_LIFE).unwrap();
    let key_pem = key.to_pem();
    // A sled that plays the authority, and shows its own certificate with it.
    let forger = Authority::new(&pem, key).unwrap();
    let stolen = Key::generate().unwrap();
    let forged = forger.issue(Peer::Nexus, &stolen.public_key(), SLED_LIFE);
    let chain = format!("{}{pem}", forged.unwrap());
    let trust = ca.trust().clone();
    let forged = Credentials::new(&chain, &stolen, trust).unwrap();
    let client = client_config(&forged, sled(2)).unwrap();
    let server = server_config(&of(&ca, sled(2)), only_nexus).unwrap();
    refused(speak(client, server), "the server");
    assert!(Key::from_pem(&key_pem).is_ok());
}

#[test]
fn only_keys_of_our_kind_are_signed() {
    let ca = authority();
    let key = Key::generate().unwrap().public_key();
    assert!(ca.issue(sled(1), &key, SLED_LIFE).is_ok());
    let mut longer = key.clone();
    longer.push(0);
    for other in [&b""[..], b"ssh-ed25519", &key[1..], &longer] {
        let issued = ca.issue(sled(1), other, SLED_LIFE);
        assert!(matches!(issued, Err(PkiError::NotOurKind)));
    }
}

#[test]
fn a_certificate_of_another_key_is_refused() {
    let ca = authority();
    let (one, other) = (Key::generate().unwrap(), Key::generate().unwrap());
    let pem = ca.issue(sled(1), &one.public_key(), SLED_LIFE).unwrap();
    let mixed = Credentials::new(&pem, &other, ca.trust().clone());
    assert!(matches!(mixed, Err(PkiError::Mismatch)));
    assert!(Authority::new(ca.trust().pem(), other).is_err());
}
