//! The external API with a certificate, and without one.

use harness::{Client, Database, NexusProcess, Tuning};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A certificate for this machine that its key has signed itself, for users who
/// believe just that one.
fn self_made(dir: &Path) -> (String, reqwest::Certificate) {
    let names = vec!["127.0.0.1".to_string()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let (certificate, key) = (dir.join("tls.pem"), dir.join("tls-key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let config = format!(
        "[external_tls]\ncertificate_file = {certificate:?}\n\
         key_file = {key:?}\n"
    );
    let pem = made.cert.pem();
    (config, reqwest::Certificate::from_pem(pem.as_bytes()).unwrap())
}

#[tokio::test]
async fn it_is_served_by_https_alone_once_it_has_a_certificate() {
    let database = Database::create().await;
    let dir = tempfile::tempdir().unwrap();
    let (config, certificate) = self_made(dir.path());
    let (url, tuning) = (&database.url, Tuning::default());
    let nexus = NexusProcess::start_as(dir.path(), url, &tuning, &config).await;
    let token = nexus.bootstrap("main", "admin", true).await;

    let http = reqwest::Client::builder().no_proxy();
    let http = http.tls_certs_only([certificate]).build().unwrap();
    let user = nexus.client(&token);
    let secure = user.over_tls(http);
    secure.get("/v1/me").await.expect(200);
    let plain = user.try_request(reqwest::Method::GET, "/v1/ping", None).await;
    assert!(plain.is_err(), "{plain:?}");
    // Whoever does not know the certificate does not believe it.
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let stranger = user.over_tls(http);
    let refused =
        stranger.try_request(reqwest::Method::GET, "/v1/ping", None).await;
    assert!(refused.is_err(), "{refused:?}");
}

#[tokio::test]
async fn http_2_is_offered_to_nobody() {
    let database = Database::create().await;
    let dir = tempfile::tempdir().unwrap();
    let (config, _) = self_made(dir.path());
    let (url, tuning) = (&database.url, Tuning::default());
    let nexus = NexusProcess::start_as(dir.path(), url, &tuning, &config).await;
    let pem = std::fs::read(dir.path().join("tls.pem")).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
    let spoken = async |offered: &[&str]| {
        let mut client = ClientConfig::builder()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        client.alpn_protocols =
            offered.iter().map(|it| it.as_bytes().to_vec()).collect();
        let tcp = TcpStream::connect(nexus.external()).await.unwrap();
        let host = ServerName::try_from("127.0.0.1").unwrap();
        let tls = TlsConnector::from(Arc::new(client)).connect(host, tcp).await;
        let tls = tls.map_err(|error| error.to_string())?;
        let spoken = tls.get_ref().1.alpn_protocol();
        Ok::<_, String>(
            spoken.map(|it| String::from_utf8_lossy(it).to_string()),
        )
    };
    for offered in [&["h2", "http/1.1"][..], &["http/1.1", "h2"]] {
        assert_eq!(spoken(offered).await, Ok(Some("http/1.1".to_string())));
    }
    // Who does not say what it speaks may speak HTTP/1.1.
    assert_eq!(spoken(&[]).await, Ok(None));
    let refusal = spoken(&["h2"]).await.unwrap_err();
    assert!(refusal.contains("NoApplicationProtocol"), "{refusal}");
}

#[tokio::test]
async fn without_a_certificate_only_this_machine_is_served() {
    let database = Database::create().await;
    let dir = tempfile::tempdir().unwrap();
    let everybody = "0.0.0.0:0".parse().unwrap();
    let refused = async |more: &str| {
        let (dir, url) = (dir.path(), &database.url);
        let (code, said) =
            NexusProcess::refused_at(dir, url, everybody, more).await;
        assert_eq!(code, Some(1), "{said}");
        said
    };
    let said = refused("").await;
    assert!(said.contains("allow_plain_http = true"), "{said}");
    assert!(said.contains("[external_tls]"), "{said}");

    // A certificate that cannot be read is no reason to do without.
    let broken = "allow_plain_http = true\n[external_tls]\n\
                  certificate_file = \"/nowhere\"\nkey_file = \"/nowhere\"\n";
    let said = refused(broken).await;
    assert!(said.contains("cannot read /nowhere"), "{said}");
}

#[tokio::test]
async fn a_nexus_without_a_ca_says_how_it_is_made() {
    let database = Database::create().await;
    let dir = tempfile::tempdir().unwrap();
    let (url, tuning) = (&database.url, Tuning::default());
    let mut nexus = NexusProcess::start(dir.path(), url, &tuning).await;
    nexus.child.kill().await;
    let ca = || std::fs::read(dir.path().join("pki/ca.pem")).unwrap();
    let key = || std::fs::read(dir.path().join("pki/ca-key.pem")).unwrap();
    let before = (ca(), key());
    // There is one: it is left alone.
    nexus.init("").await.unwrap();
    nexus.init("").await.unwrap_err();
    assert!(before == (ca(), key()));

    std::fs::remove_dir_all(dir.path().join("pki")).unwrap();
    let said = nexus.cannot_run().await;
    assert!(said.contains("nexus init"), "{said}");
    // What is set up already gets its CA all the same.
    nexus.init("").await.unwrap_err();
    let made = (ca(), key());
    assert!(before != made);
    nexus.restart().await;
    let token = nexus.bootstrap("main", "admin", true).await;
    let user: Client = nexus.client(&token);
    user.get("/v1/me").await.expect(200);
    nexus.child.kill().await;

    // A key that is lost is not made up for.
    std::fs::remove_file(dir.path().join("pki/ca-key.pem")).unwrap();
    let why = nexus.init("").await.unwrap_err();
    assert!(why.contains("backup"), "{why}");
    assert!(ca() == made.0);
}
