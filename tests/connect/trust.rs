//! Which servers `wharf connect` trusts.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use wharf::config::Tls;

use super::program::{Client, connected, hexadecimal, only, url};
use crate::{
    harness::TestServer,
    peer::{Http, over_both},
};

async fn trusted(http: Http, arguments: &[&str]) {
    let mut client = Client::run(&[arguments, &[only(http)]].concat());
    client.expect(&connected(http, 200)).await;
    client.end().await.well("closed 0 \"\" by local clean");
}

async fn distrusted(http: Http, arguments: &[&str], code: i32, says: &[&str]) {
    let ended = Client::run(&[arguments, &[only(http)]].concat())
        .end()
        .await;
    ended.badly(code, says);
    assert!(ended.lines.is_empty(), "{ended:?}");
    assert!(code == 2 || ended.errors.lines().count() == 1, "{ended:?}");
}

over_both!(a_certificate_is_trusted_by_its_hash_and_by_no_other);
async fn a_certificate_is_trusted_by_its_hash_and_by_no_other(http: Http) {
    let server = TestServer::start().await;
    let url = url(&server, "/plain");
    let colons = server.hash.map(|byte| format!("{byte:02X}")).join(":");
    let other = hexadecimal(&[7; 32]);
    for hash in [
        hexadecimal(&server.hash),
        colons,
        STANDARD.encode(server.hash),
    ] {
        let hash = format!("sha256:{hash}");
        trusted(http, &[&url, "--cert-hash", &other, "--cert-hash", &hash]).await;
    }
    distrusted(http, &[&url, "--cert-hash", &other], 1, &["cannot connect"]).await;
}

over_both!(any_certificate_is_trusted_on_loopback_only);
async fn any_certificate_is_trusted_on_loopback_only(http: Http) {
    let server = TestServer::start().await;
    trusted(http, &[&url(&server, "/plain"), "--insecure"]).await;
    let by_name = format!("https://localhost:{}/plain", server.address.port());
    trusted(http, &[&by_name, "--insecure"]).await;
    for host in [
        "example.com",
        "192.0.2.1",
        "[2001:db8::1]",
        "localhost.example",
    ] {
        let elsewhere = format!("https://{host}/");
        let says = ["--insecure is for this machine only", "--cert-hash"];
        distrusted(http, &[&elsewhere, "--insecure"], 2, &says).await;
    }
}

over_both!(a_certificate_is_trusted_by_its_authority);
async fn a_certificate_is_trusted_by_its_authority(http: Http) {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_certificate = authority.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let own = rcgen::CertificateParams::new(names).unwrap();
    let own = own.signed_by(&key, &issuer).unwrap();
    let certificate = file("cert.pem", own.pem());
    let key = file("key.pem", key.serialize_pem());
    let authority = file("ca.pem", authority_certificate.pem());
    let server = TestServer::with(|config| {
        config.tenants[0].tls = Tls::Files { certificate, key };
    })
    .await;
    let port = server.address.port();
    let authority = authority.to_str().unwrap();
    for host in ["127.0.0.1", "localhost"] {
        trusted(
            http,
            &[&format!("https://{host}:{port}/plain"), "--ca", authority],
        )
        .await;
    }
    // Not among the machine's own, and no authority of another server's certificate.
    let own_url = url(&server, "/plain");
    distrusted(http, &[&own_url], 1, &[]).await;
    let other = TestServer::start().await;
    let other_url = url(&other, "/plain");
    distrusted(http, &[&other_url, "--ca", authority], 1, &["certificate"]).await;
    let missing = "missing.pem";
    distrusted(http, &[&own_url, "--ca", missing], 1, &[missing]).await;
    let empty = file("empty.pem", String::new());
    let empty = empty.to_str().unwrap();
    distrusted(
        http,
        &[&own_url, "--ca", empty],
        1,
        &[empty, "BEGIN CERTIFICATE"],
    )
    .await;
}
