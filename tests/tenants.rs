//! Tenants: whose a request is, whose certificate its client is shown, and what a tenant's sessions may take of the host.

use std::{net::SocketAddr, sync::Arc};

use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use wharf::config::{Config, Route, Tenant, Tls};

use crate::{
    harness::{TestServer, eventually, guest, path, within},
    peer::{Http, Peer, Terms, over_both},
    raw::tls_config,
};

/// A tenant with a development certificate and one route.
pub(crate) fn tenant(name: &str, authorities: &[&str], path: &str, component: &str) -> Tenant {
    let route = Route::new(path, guest(component));
    let mut tenant = Tenant::new(name, Tls::Development, vec![route]);
    tenant.authorities = authorities.iter().map(|&name| name.to_owned()).collect();
    tenant
}

/// Two tenants by name, and one for the rest.
fn three(config: &mut Config) {
    config.tenants = vec![
        tenant("a", &["a.example"], "/", "admission"),
        tenant("b", &["b.example", "*.b.example"], "/plain", "echo"),
        tenant("rest", &[], "/", "faults"),
    ];
}

/// A connection that asks TLS for that name, or for none where it is an address.
pub(crate) async fn connect(http: Http, server: &TestServer, name: &'static str) -> Peer {
    let terms = Terms {
        name,
        ..Terms::default()
    };
    Peer::connect_to(http, server.address, terms).await
}

/// What a request for a session is answered.
async fn status(peer: &Peer, authority: &str, path: &str) -> u16 {
    peer.ask_of(authority, path, &[]).await.0
}

/// The certificate that a client is shown who asks for that name; none where the handshake fails.
pub(crate) async fn shown(
    http: Http,
    server: SocketAddr,
    name: &str,
) -> Option<CertificateDer<'static>> {
    let mut tls = tls_config();
    let shake = async {
        match http {
            Http::Http3 => {
                tls.alpn_protocols = vec![b"h3".to_vec()];
                let crypto = QuicClientConfig::try_from(tls).unwrap();
                let config = quinn::ClientConfig::new(Arc::new(crypto));
                let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
                let conn = endpoint.connect_with(config, server, name).unwrap();
                let shown = conn.await.ok()?.peer_identity()?;
                let shown = shown.downcast::<Vec<CertificateDer<'static>>>().ok()?;
                shown.into_iter().next()
            }
            Http::Http2 => {
                tls.alpn_protocols = vec![b"h2".to_vec()];
                let tcp = tokio::net::TcpStream::connect(server).await.ok()?;
                let name = ServerName::try_from(name.to_owned()).unwrap();
                let tls = tokio_rustls::TlsConnector::from(Arc::new(tls));
                let tls = tls.connect(name, tcp).await.ok()?;
                let shown = tls.get_ref().1.peer_certificates()?;
                shown.first().cloned()
            }
        }
    };
    within("the handshake", shake).await
}

over_both!(a_request_is_served_by_the_tenant_of_its_authority_and_by_no_other);
async fn a_request_is_served_by_the_tenant_of_its_authority_and_by_no_other(http: Http) {
    let server = TestServer::with(three).await;
    for (name, authorities, served, not_served) in [
        (
            "a.example",
            &["a.example", "A.EXAMPLE:4433", "a.example."][..],
            (200, "/plain"),
            (418, "/refuse/418"),
        ),
        (
            "b.example",
            &["b.example", "x.b.example"],
            (200, "/plain"),
            (404, "/refuse/418"),
        ),
        (
            "x.b.example",
            &["x.b.example:1"],
            (200, "/plain/x"),
            (404, "/"),
        ),
        (
            "127.0.0.1",
            &["127.0.0.1", "[::1]:9"],
            (200, "/x"),
            (200, "/"),
        ),
    ] {
        let peer = connect(http, &server, name).await;
        for authority in authorities {
            for (expected, path) in [served, not_served] {
                let status = status(&peer, authority, path).await;
                assert_eq!(status, expected, "{authority}{path}");
            }
        }
    }
}

over_both!(a_request_on_a_connection_for_another_tenant_is_misdirected);
async fn a_request_on_a_connection_for_another_tenant_is_misdirected(http: Http) {
    let server = TestServer::with(three).await;
    for (name, authority, expected) in [
        ("a.example", "b.example", 421),
        ("a.example", "other.example", 421),
        ("b.example", "a.example", 421),
        ("127.0.0.1", "a.example", 421),
        ("other.example", "b.example", 421),
        ("b.example", "x.b.example", 200),
        ("other.example", "another.example", 200),
    ] {
        let peer = connect(http, &server, name).await;
        let path = "/plain";
        assert_eq!(
            status(&peer, authority, path).await,
            expected,
            "{name}: {authority}"
        );
        // What was asked for before does no harm.
        assert_eq!(status(&peer, name, path).await, 200, "{name}");
    }
}

over_both!(each_tenant_shows_its_own_certificate);
async fn each_tenant_shows_its_own_certificate(http: Http) {
    let server = TestServer::with(three).await;
    let shown = async |name| shown(http, server.address, name).await.unwrap();
    let (a, b, rest) = (
        shown("a.example").await,
        shown("b.example").await,
        shown("127.0.0.1").await,
    );
    assert!(a != b && b != rest && rest != a);
    assert_eq!(shown("A.Example").await, a);
    assert_eq!(shown("x.b.example").await, b);
    assert_eq!(shown("x.y.b.example").await, rest);
    assert_eq!(shown("localhost").await, rest);
}

over_both!(without_a_tenant_for_the_rest_an_unknown_name_gets_no_certificate);
async fn without_a_tenant_for_the_rest_an_unknown_name_gets_no_certificate(http: Http) {
    let server = TestServer::with(|config| {
        three(config);
        config.tenants.pop();
    })
    .await;
    for name in ["127.0.0.1", "localhost", "a.a.example"] {
        assert_eq!(shown(http, server.address, name).await, None, "{name}");
    }
    let peer = connect(http, &server, "a.example").await;
    assert_eq!(status(&peer, "other.example", "/").await, 421);
    assert_eq!(status(&peer, "a.example", "/").await, 200);
}

over_both!(a_tenant_and_a_route_have_sessions_of_their_own_to_use_up);
async fn a_tenant_and_a_route_have_sessions_of_their_own_to_use_up(http: Http) {
    let server = TestServer::with(|config| {
        config.sessions = 5;
        three(config);
        config.tenants[1].limits.sessions = 3;
        let mut narrow = Route::new("/plain/narrow", guest("echo"));
        narrow.sessions = 2;
        config.tenants[1].routes.push(narrow);
    })
    .await;
    let peer = connect(http, &server, "b.example").await;
    let ask = async |path| peer.ask_of("b.example", path, &[]).await;
    let mut held = Vec::new();
    for (path, expected) in [
        ("/plain/narrow", 200),
        ("/plain/narrow", 200),
        ("/plain/narrow", 429),
        ("/plain", 200),
        ("/plain", 429),
    ] {
        let (status, session) = ask(path).await;
        assert_eq!(status, expected, "{path}");
        held.extend(session);
    }
    assert_eq!(server.handle.sessions(), 3);
    // Another tenant has what is left of the host's.
    let other = connect(http, &server, "a.example").await;
    for expected in [200, 200, 503] {
        let (status, session) = other.ask_of("a.example", "/", &[]).await;
        assert_eq!(status, expected);
        held.extend(session);
    }
    // Who ends makes room.
    let first = held.remove(0);
    assert!(first.close(0, "").await);
    first.closed().await;
    eventually("a place", || server.handle.sessions() == 4).await;
    assert_eq!(ask("/plain/narrow").await.0, 200);
}

over_both!(one_address_has_so_many_sessions_of_the_host_of_a_tenant_and_of_a_route);
async fn one_address_has_so_many_sessions_of_the_host_of_a_tenant_and_of_a_route(http: Http) {
    let server = TestServer::with(|config| {
        config.sessions_per_ip = 4;
        three(config);
        config.tenants[1].limits.sessions_per_ip = 2;
        config.tenants[1].routes[0].sessions_per_ip = 1;
        config.tenants[1]
            .routes
            .push(Route::new("/other", guest("echo")));
    })
    .await;
    let mut held = Vec::new();
    for (authority, path, statuses) in [
        ("b.example", "/plain", &[200, 429][..]),
        ("b.example", "/other", &[200, 429]),
        ("a.example", "/", &[200, 200, 429]),
    ] {
        // However many connections they are on.
        for expected in statuses {
            let peer = connect(http, &server, authority).await;
            let (status, session) = peer.ask_of(authority, path, &[]).await;
            assert_eq!(status, *expected, "{authority}{path}");
            held.extend(session);
        }
    }
    drop(held);
    server.no_instances().await;
    let peer = connect(http, &server, "a.example").await;
    assert_eq!(status(&peer, "a.example", &path("report")).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_that_cannot_be_told_apart_are_refused_at_start() {
    for (change, named) in [
        (
            (|config| config.tenants[1].authorities.push("A.example".into())) as fn(&mut Config),
            "tenant `b`: authority `A.example`",
        ),
        (
            |config| config.tenants[0].authorities.clear(),
            "tenant `rest`: no authorities",
        ),
        (
            |config| config.tenants[1].name = "a".into(),
            "tenant `a`: another",
        ),
        (
            |config| config.tenants[1].authorities.push("b.example:443".into()),
            "`b.example:443`",
        ),
        (|config| config.tenants.clear(), "no tenant"),
    ] {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = Config::new(vec![listen], Tls::Development, Vec::new());
        three(&mut config);
        config.sessions = 4;
        config.cache_dir = Some(crate::harness::root().join("target/test-cache"));
        change(&mut config);
        let error = wharf::server::Server::bind(config).await.unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains(named), "{error}");
    }
}
