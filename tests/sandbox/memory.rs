//! Memory: one limit for all that a session takes, and one for all that a tenant's sessions take.

use super::{ask, code, poke};
use crate::{
    harness::{Log, TestServer, eventually, path},
    peer::{Http, Peer, Terms, over_both},
};

const MIB: usize = 1 << 20;

over_both!(growth_beyond_the_limit_fails_inside_the_guest);
async fn growth_beyond_the_limit_fails_inside_the_guest(http: Http) {
    let server = TestServer::with(|config| config.runtime.memory = 8 * MIB).await;
    let session = server.session(http, &path("grow-gently")).await;
    let kib: usize = ask(&session, b"?").await.parse().unwrap();
    assert!((4 << 10..8 << 10).contains(&kib), "{kib} KiB of 8 MiB");
    assert!(session.close(0, "").await, "the session goes on");
}

over_both!(an_allocation_that_cannot_be_had_ends_the_session_as_out_of_memory);
async fn an_allocation_that_cannot_be_had_ends_the_session_as_out_of_memory(http: Http) {
    let server = TestServer::start().await;
    for name in ["grow", "grow-at-once"] {
        let session = server.session(http, &path(name)).await;
        let _stream = poke(&session).await;
        assert_eq!(code(&session).await, 0xffff_ff03, "{name}");
    }
    server.no_instances().await;
}

over_both!(a_tenant_has_a_total_that_its_sessions_share_and_give_back);
async fn a_tenant_has_a_total_that_its_sessions_share_and_give_back(http: Http) {
    let server = TestServer::with(|config| config.tenants[0].limits.memory = 50 * MIB).await;
    let keep = || async {
        server
            .session(http, &format!("{}?mib=20", path("keep")))
            .await
    };
    let (first, second, third) = (keep().await, keep().await, keep().await);
    assert_eq!(ask(&first, b"?").await, "kept");
    assert_eq!(ask(&second, b"?").await, "kept");
    let _stream = poke(&third).await;
    assert_eq!(code(&third).await, 0xffff_ff03);
    assert!(first.close(0, "").await);
    assert!(second.close(0, "").await);
    drop((first, second, third));
    server.no_instances().await;
    assert_eq!(server.handle.account("default").unwrap().memory(), 0);
    assert_eq!(ask(&keep().await, b"?").await, "kept");
}

over_both!(what_the_host_holds_counts_as_the_handlers_memory);
async fn what_the_host_holds_counts_as_the_handlers_memory(http: Http) {
    let server = TestServer::with(|config| {
        config.runtime.memory = 8 * MIB;
        config.transport.session.session_send_buffer = 64 * MIB;
        config.transport.session.stream_send_buffer = 64 * MIB;
    })
    .await;
    let path = format!("{}?bytes=1000000000", path("flood"));
    let peer = Peer::connect_to(
        http,
        server.address,
        Terms {
            window: 16 << 10,
            ..Terms::default()
        },
    )
    .await;
    let session = peer.session(&path).await;
    let (mut send, mut recv) = session.open_bi().await.unwrap();
    send.write_all(b"x").await.unwrap();
    // Of a gigabyte it may send what its memory has room for, and goes on when the peer reads.
    Log::line(&path, "would-block").await;
    let taken = server.handle.account("default").unwrap().memory();
    assert!((4 * MIB..=9 * MIB).contains(&taken), "{taken} bytes");
    let mut read = 0;
    while read < 32 * MIB {
        read += recv.read_chunk().await.unwrap().unwrap().len();
    }
    assert!(session.close(0, "").await);
    server.no_instances().await;
    assert_eq!(server.handle.account("default").unwrap().memory(), 0);
}

over_both!(what_the_host_holds_no_longer_is_off_the_tenants_account);
async fn what_the_host_holds_no_longer_is_off_the_tenants_account(http: Http) {
    const BYTES: usize = 4_000_000;
    let server = TestServer::with(|config| {
        config.transport.session.stream_send_buffer = 64 * MIB;
    })
    .await;
    let path = format!("{}?bytes={BYTES}", path("flood"));
    let session = server.session(http, &path).await;
    let (mut send, mut recv) = session.open_bi().await.unwrap();
    let account = server.handle.account("default").unwrap();
    let before = account.memory();
    send.write_all(b"x").await.unwrap();
    let mut read = 0;
    while read < BYTES {
        read += recv.read_chunk().await.unwrap().unwrap().len();
    }
    // No event follows that the handler is called for.
    eventually("the memory to be given back", || {
        account.memory() <= before + MIB
    })
    .await;
}

over_both!(more_than_memory_has_room_for_is_too_large_to_send_at_once);
async fn more_than_memory_has_room_for_is_too_large_to_send_at_once(http: Http) {
    let server = TestServer::with(|config| config.runtime.memory = 8 * MIB).await;
    let path = format!("{}?bytes=6000000", path("big"));
    let session = server.session(http, &path).await;
    let _stream = poke(&session).await;
    Log::line(&path, "error send too-large").await;
    assert!(session.close(0, "").await, "the session goes on");
}
