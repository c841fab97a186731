//! A running server takes another configuration, component or certificate, and no session notices.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use wharf::{
    config::{Admin, Config, Route, Tls},
    runtime::Scope,
    server::Watch,
};

use crate::{
    binary::Wharf,
    harness::{TestServer, eventually, guest, within},
    peer::{End, Http, Peer, PeerSession, Terms, over_both},
    scrape::ask_with,
    tenants::shown,
};

/// Files that a server is loaded from, in a folder that ends with them.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file beside, and renames it into place.
    fn replace(&self, name: &str, content: &[u8]) {
        let beside = self.path("unfinished");
        std::fs::write(&beside, content).unwrap();
        std::fs::rename(beside, self.path(name)).unwrap();
    }

    /// Has `handler.wasm` be that guest's component. Which version it is makes it another file.
    fn put_guest(&self, name: &str, version: u8) {
        let mut component = std::fs::read(guest(name)).unwrap();
        // A custom section, which means nothing.
        component.extend([0, 3, 1, b'v', version]);
        self.replace("handler.wasm", &component);
    }

    /// A certificate and its key, just made.
    fn put_certificate(&self) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        self.replace("key.pem", key.serialize_pem().as_bytes());
        self.replace("chain.pem", certificate.pem().as_bytes());
    }

    /// One route for all, which is served by `handler.wasm`.
    fn change(&self, config: &mut Config) {
        config.tenants[0].routes = vec![Route::new("/", self.path("handler.wasm"))];
    }

    fn change_with_certificate(&self, config: &mut Config) {
        self.change(config);
        config.tenants[0].tls = Tls::Files {
            certificate: self.path("chain.pem"),
            key: self.path("key.pem"),
        };
    }
}

/// A server of those files, its configuration, and what it is to be loaded from.
async fn serve(change: impl Fn(&mut Config)) -> (TestServer, Config) {
    let mut loaded = None;
    let server = TestServer::with(|config| {
        change(config);
        loaded = Some(config.clone());
    })
    .await;
    (server, loaded.unwrap())
}

/// `echo` begins a session there; `admission` refuses it with 418.
const TELLING: &str = "/refuse/418";

async fn telling(http: Http, server: &TestServer) -> u16 {
    Peer::connect(http, server).await.ask(TELLING, &[]).await.0
}

/// Waits until a new session is answered so.
async fn answers(http: Http, server: &TestServer, status: u16) {
    let until = async { while telling(http, server).await != status {} };
    within("the other component", until).await;
}

over_both!(a_new_session_has_the_new_component_and_an_old_one_ends_on_its_own);
async fn a_new_session_has_the_new_component_and_an_old_one_ends_on_its_own(http: Http) {
    let files = Files::new();
    files.put_guest("echo", 0);
    let (server, config) = serve(|config| files.change(config)).await;
    let peer = Peer::connect(http, &server).await;
    let old = peer.session(TELLING).await;
    old.expect_echo(b"before").await;
    files.put_guest("admission", 1);
    assert_eq!(telling(http, &server).await, 200, "nobody has asked for it");
    server.control.reload(config).await.unwrap();
    assert_eq!(
        peer.ask(TELLING, &[]).await.0,
        418,
        "on the same connection"
    );
    assert_eq!(telling(http, &server).await, 418);
    // A stream of the server's: only `echo` answers so.
    let mut uni = old.open_uni().await.unwrap();
    uni.write_all(b"after").await.unwrap();
    uni.finish().unwrap();
    let mut answer = within("the answer", old.accept_uni()).await.unwrap();
    assert_eq!(answer.read_to_end(9).await.unwrap(), b"after");
    assert!(old.close(0, "").await);
    assert_eq!(old.closed().await, End::Fin);
}

over_both!(what_cannot_be_loaded_changes_nothing_and_is_named);
async fn what_cannot_be_loaded_changes_nothing_and_is_named(http: Http) {
    let files = Files::new();
    files.put_guest("echo", 0);
    files.put_certificate();
    let (server, good) = serve(|config| files.change_with_certificate(config)).await;
    let before = shown(http, server.address, "localhost").await;
    let session = server.session(http, "/").await;
    files.put_guest("admission", 1);
    files.put_certificate();
    for (name, content) in [
        ("handler.wasm", &b"\0asm\x0d\0\x01\0what"[..]),
        ("handler.wasm", b"nothing"),
        ("chain.pem", b"nothing"),
        ("key.pem", b"nothing"),
    ] {
        let was = std::fs::read(files.path(name)).unwrap();
        files.replace(name, content);
        let error = server.control.reload(good.clone()).await.unwrap_err();
        assert!(format!("{error:#}").contains(name), "{error:#}");
        files.replace(name, &was);
    }
    let mut twice = good.clone();
    twice.tenants.push(twice.tenants[0].clone());
    server.control.reload(twice).await.unwrap_err();
    assert_eq!(telling(http, &server).await, 200);
    assert_eq!(shown(http, server.address, "localhost").await, before);
    session.expect_echo(b"as before").await;
    server.control.reload(good).await.unwrap();
    assert_eq!(telling(http, &server).await, 418);
    assert_ne!(shown(http, server.address, "localhost").await, before);
}

over_both!(tenants_routes_and_limits_come_and_go_and_sessions_stay_counted);
async fn tenants_routes_and_limits_come_and_go_and_sessions_stay_counted(http: Http) {
    let (server, mut config) = serve(|_| {}).await;
    let peer = Peer::connect(http, &server).await;
    let held = peer.session("/plain").await;
    config.tenants[0].limits.sessions = 1;
    config.tenants[0]
        .routes
        .retain(|route| route.path == "/plain");
    server.control.reload(config.clone()).await.unwrap();
    assert_eq!(peer.ask("/report", &[]).await.0, 404, "the route has gone");
    assert_eq!(peer.ask("/plain", &[]).await.0, 429, "the old one counts");
    config.tenants[0].authorities = vec!["a.example".to_owned()];
    server.control.reload(config.clone()).await.unwrap();
    assert_eq!(peer.ask("/plain", &[]).await.0, 421, "the name has gone");
    held.expect_echo(b"still there").await;
    assert!(held.close(0, "").await);
    held.closed().await;
    config.tenants[0].authorities.clear();
    server.control.reload(config).await.unwrap();
    eventually("the end", || server.handle.sessions() == 0).await;
    assert_eq!(peer.ask("/plain", &[]).await.0, 200);
}

/// Watches the files of a server, whose configuration is what stands in `config`.
fn watched(
    server: &TestServer,
    config: Arc<Mutex<Result<Config, String>>>,
) -> (JoinSet<()>, mpsc::Sender<()>) {
    let (ask, mut asked) = mpsc::channel::<()>(1);
    let load = move || {
        let config = config.lock().unwrap().clone();
        config.map_err(anyhow::Error::msg)
    };
    let watch = Watch::new(server.control.clone(), load);
    let mut watching = JoinSet::new();
    watching.spawn(watch.run(async move || match asked.recv().await {
        Some(()) => {}
        None => std::future::pending().await,
    }));
    (watching, ask)
}

over_both!(a_file_that_is_replaced_is_served_and_a_bad_one_is_not);
async fn a_file_that_is_replaced_is_served_and_a_bad_one_is_not(http: Http) {
    let files = Files::new();
    files.put_guest("echo", 0);
    files.put_certificate();
    let (server, config) = serve(|config| files.change_with_certificate(config)).await;
    let (_watching, _ask) = watched(&server, Arc::new(Mutex::new(Ok(config))));
    let session = server.session(http, "/").await;
    files.put_guest("admission", 1);
    answers(http, &server, 418).await;
    let before = shown(http, server.address, "localhost").await;
    files.put_certificate();
    let renewed = async { while shown(http, server.address, "localhost").await == before {} };
    within("the other certificate", renewed).await;
    // Of two changes the second undoes the first: it is seen although the first was bad.
    let before = shown(http, server.address, "localhost").await;
    files.replace("chain.pem", b"nothing");
    files.put_guest("echo", 2);
    server
        .session(http, "/")
        .await
        .expect_echo(b"as before")
        .await;
    files.put_certificate();
    answers(http, &server, 200).await;
    assert_ne!(shown(http, server.address, "localhost").await, before);
    session.expect_echo(b"all the while").await;
}

over_both!(what_changes_before_it_is_watched_is_seen);
async fn what_changes_before_it_is_watched_is_seen(http: Http) {
    let files = Files::new();
    files.put_guest("echo", 0);
    let (server, config) = serve(|config| files.change(config)).await;
    files.put_guest("admission", 1);
    let (_watching, _ask) = watched(&server, Arc::new(Mutex::new(Ok(config))));
    answers(http, &server, 418).await;
}

#[cfg(unix)]
over_both!(a_folder_may_be_made_anew_and_a_link_lead_elsewhere);
#[cfg(unix)]
async fn a_folder_may_be_made_anew_and_a_link_lead_elsewhere(http: Http) {
    let files = Files::new();
    let put = |folder: &str, name: &str| {
        std::fs::create_dir(files.path(folder)).unwrap();
        std::fs::copy(guest(name), files.path(folder).join("handler.wasm")).unwrap();
    };
    let link = |folder: &str| {
        std::os::unix::fs::symlink(files.path(folder), files.path("next")).unwrap();
        std::fs::rename(files.path("next"), files.path("current")).unwrap();
    };
    put("one", "echo");
    link("one");
    let (server, config) = serve(|config| {
        config.tenants[0].routes = vec![Route::new("/", files.path("current/handler.wasm"))];
    })
    .await;
    let (_watching, _ask) = watched(&server, Arc::new(Mutex::new(Ok(config))));
    put("two", "admission");
    link("two");
    answers(http, &server, 418).await;
    for (name, status) in [("echo", 200), ("admission", 418)] {
        std::fs::remove_dir_all(files.path("two")).unwrap();
        put("two", name);
        answers(http, &server, status).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_replaced_is_demanded_from_then_on() {
    let files = Files::new();
    files.replace("token", b"the-first-of-the-tokens");
    let (server, config) = serve(|config| {
        let mut admin = Admin::default();
        admin.listen.set_port(0);
        admin.token_file = Some(files.path("token"));
        config.admin = Some(admin);
    })
    .await;
    let admin = server.admin.unwrap();
    let status = async |token: &str| {
        let token = format!("Bearer {token}");
        let fields = [("host", "wharf.example"), ("authorization", &*token)];
        ask_with(admin, "GET /live", &fields).await.status
    };
    assert_eq!(status("the-first-of-the-tokens").await, 200);
    files.replace("token", b"short");
    server.control.reload(config.clone()).await.unwrap_err();
    assert_eq!(status("the-first-of-the-tokens").await, 200);
    let (_watching, _ask) = watched(&server, Arc::new(Mutex::new(Ok(config))));
    files.replace("token", b"the-second-of-the-tokens");
    within("the other token", async {
        while status("the-second-of-the-tokens").await != 200 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(status("the-first-of-the-tokens").await, 401);
}

over_both!(an_instance_that_sessions_share_stays_where_nothing_of_it_has_changed);
async fn an_instance_that_sessions_share_stays_where_nothing_of_it_has_changed(http: Http) {
    let files = Files::new();
    files.put_guest("echo", 0);
    let (server, config) = serve(|config| {
        files.change(config);
        config.tenants[0].routes[0].scope = Scope::Shared;
    })
    .await;
    let before = server.session(http, "/").await;
    server.control.reload(config.clone()).await.unwrap();
    let after = server.session(http, "/").await;
    // Who echoes has its instance.
    for session in [&before, &after] {
        session.expect_echo(b"before the change").await;
    }
    assert_eq!(
        (server.handle.sessions(), server.handle.instances()),
        (2, 1)
    );
    files.put_guest("echo", 1);
    server.control.reload(config).await.unwrap();
    let changed = server.session(http, "/").await;
    for session in [&before, &after, &changed] {
        session.expect_echo(b"all the while").await;
    }
    assert_eq!(
        (server.handle.sessions(), server.handle.instances()),
        (3, 2)
    );
}

over_both!(whoever_has_the_server_drain_it_is_known_to_drain);
async fn whoever_has_the_server_drain_it_is_known_to_drain(http: Http) {
    let server = TestServer::observed().await;
    let _held = server.session(http, "/plain").await;
    assert!(!server.control.is_draining());
    assert_eq!(server.admin("POST /drain").await.status, 202);
    assert!(server.control.is_draining());
    let server = TestServer::start().await;
    let control = server.control.clone();
    server.stop().await;
    assert!(control.is_draining());
}

over_both!(who_asks_has_the_configuration_loaded_and_the_last_good_one_stays);
async fn who_asks_has_the_configuration_loaded_and_the_last_good_one_stays(http: Http) {
    let files = Files::new();
    files.put_guest("admission", 0);
    let (server, config) = serve(|_| {}).await;
    let read = Arc::new(Mutex::new(Err("cannot be read".to_owned())));
    let (_watching, ask) = watched(&server, read.clone());
    ask.send(()).await.unwrap();
    ask.send(()).await.unwrap();
    let peer = Peer::connect(http, &server).await;
    assert_eq!(peer.ask("/plain/x", &[]).await.0, 200);
    let mut other = config;
    files.change(&mut other);
    *read.lock().unwrap() = Ok(other);
    ask.send(()).await.unwrap();
    answers(http, &server, 418).await;
    // Its files are watched from then on.
    files.put_guest("echo", 1);
    answers(http, &server, 200).await;
}

/// Sends numbers in a session and has each of them back, in order: until `stopping`, then a few more after the server
/// has asked for the end.
async fn exchange(session: &PeerSession, exchanged: &AtomicU64, stopping: &watch::Receiver<bool>) {
    let (mut send, mut recv) = session.open_bi().await.unwrap();
    let (mut sent, mut received) = (0_u64, Vec::new());
    let mut last = false;
    while !last {
        if *stopping.borrow() {
            session.draining().await;
            last = true;
        }
        for _ in 0..100 {
            send.write_all(&sent.to_be_bytes()).await.unwrap();
            sent += 1;
        }
        while received.len() < sent as usize * 8 {
            let chunk = within("the echo", recv.read_chunk()).await.unwrap();
            received.extend(chunk.expect("no end before ours"));
        }
        exchanged.fetch_add(1, Ordering::Relaxed);
    }
    send.finish().unwrap();
    assert_eq!(recv.read_to_end(0).await.unwrap(), b"");
    let expected: Vec<u8> = (0..sent).flat_map(u64::to_be_bytes).collect();
    assert!(received == expected, "numbers are lost");
}

over_both!(reloads_and_a_drain_under_load_lose_no_message_of_sessions_that_end_in_time);
async fn reloads_and_a_drain_under_load_lose_no_message_of_sessions_that_end_in_time(http: Http) {
    const SESSIONS: u64 = 12;
    let files = Files::new();
    files.put_guest("echo", 0);
    let (server, config) = serve(|config| {
        files.change(config);
        config.drain = Duration::from_secs(3);
    })
    .await;
    let exchanged = Arc::new(AtomicU64::new(0));
    let (stop, stopping) = watch::channel(false);
    let mut busy = JoinSet::new();
    for n in 0..SESSIONS {
        let session = server.session(http, "/").await;
        let (exchanged, stopping) = (exchanged.clone(), stopping.clone());
        busy.spawn(async move {
            exchange(&session, &exchanged, &stopping).await;
            // Most end by themselves; a few stay.
            let stays = n % 4 == 0;
            if !stays {
                assert!(session.close(0, "").await);
            }
            (stays, session.closed().await)
        });
    }
    for version in 1..=3 {
        let so_far = exchanged.load(Ordering::Relaxed);
        files.put_guest(if version == 2 { "admission" } else { "echo" }, version);
        server.control.reload(config.clone()).await.unwrap();
        let expected = if version == 2 { 418 } else { 200 };
        assert_eq!(telling(http, &server).await, expected);
        let more = || exchanged.load(Ordering::Relaxed) > so_far + SESSIONS;
        eventually("more messages", more).await;
    }
    stop.send_replace(true);
    let stopped = tokio::spawn(server.stop());
    while let Some(ended) = busy.join_next().await {
        let (stays, end) = ended.unwrap();
        let expected = if stays {
            End::Close(0xffff_ff04, "server shutting down".to_owned())
        } else {
            End::Fin
        };
        assert_eq!(end, expected);
    }
    within("the server to stop", stopped).await.unwrap();
}

#[cfg(unix)]
over_both!(the_program_reloads_a_file_that_is_replaced_and_all_of_them_at_sighup);
#[cfg(unix)]
async fn the_program_reloads_a_file_that_is_replaced_and_all_of_them_at_sighup(http: Http) {
    let files = Files::new();
    files.put_guest("echo", 0);
    let wharf = Wharf::run(&files.path("handler.wasm")).await;
    let peer = Peer::connect_to(http, wharf.address(), Terms::default()).await;
    let old = peer.session(TELLING).await;
    let answers = async |status| {
        let until = async { while peer.ask(TELLING, &[]).await.0 != status {} };
        within("the other component", until).await;
    };
    files.put_guest("admission", 1);
    answers(418).await;
    files.replace("handler.wasm", b"nothing");
    wharf.logs("not reloaded, all stays as it was").await;
    wharf.signal("HUP").await;
    wharf.logs_times("not reloaded", 2).await;
    assert_eq!(peer.ask(TELLING, &[]).await.0, 418);
    files.put_guest("echo", 2);
    answers(200).await;
    old.expect_echo(b"all the while").await;
    assert!(old.close(0, "").await);
    assert_eq!(wharf.interrupt().await, Some(0));
}
