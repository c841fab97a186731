//! What the host holds for a session, and the room it gives to what is sent: here of a client's session of wharf's own,
//! whose server takes its credit's worth and no more, because its handler is busy.

use std::time::Duration;

use bytes::Bytes;
use wharf::transport::{
    CommandError, Event, Limits, Session, StreamId,
    client::{Ask, Http as Only, Trust, connect},
};

use crate::{
    harness::{TestServer, path, within},
    peer::{Dir, Http, over_both},
};

const CREDIT: u32 = 10_000;
const SENT: usize = 100_000;

/// A session with a handler that does not return from the first data.
async fn session(http: Http, server: &TestServer) -> Session {
    let path = path("spin");
    let ask = Ask::new(&format!("https://{}{path}", server.address)).unwrap();
    let mut limits = Limits::default();
    limits.session.stream_send_buffer = 10 * SENT;
    let only = match http {
        Http::Http3 => Only::Http3,
        Http::Http2 => Only::Http2,
    };
    let trust = Trust::Hashes(vec![server.hash]);
    let connected = within("a session", connect(&ask, &trust, only, &limits)).await;
    connected.unwrap().session
}

/// Drives the session, in which nothing happens, until it holds no more than that.
async fn sends(session: &mut Session, held: usize) {
    let sent = async {
        while session.held() > held {
            let again = tokio::time::timeout(Duration::from_millis(20), session.next_event());
            assert!(again.await.is_err());
        }
    };
    within("the credit to be used", sent).await;
}

async fn writable(session: &mut Session) -> StreamId {
    loop {
        if let Some(Event::Writable(id)) = within("room", session.next_event()).await {
            return id;
        }
    }
}

over_both!(what_a_session_holds_is_counted_and_kept_within_its_room);
async fn what_a_session_holds_is_counted_and_kept_within_its_room(http: Http) {
    let server = TestServer::with(|config| {
        config.transport.session.session_receive_credit = CREDIT;
        config.runtime.callback_deadline = Duration::from_secs(20);
    })
    .await;
    let mut session = session(http, &server).await;
    let bytes = |n| Bytes::from(vec![7; n]);
    assert_eq!(session.held(), 0);
    let id = session.open(Dir::Bi).unwrap();
    session.send(id, bytes(SENT), false).unwrap();
    let held = SENT - CREDIT as usize;
    sends(&mut session, held).await;
    assert_eq!(session.held(), held, "no more than the credit has left");

    session.set_room(held);
    assert_eq!(session.send_capacity(id), Ok(0));
    let more = session.send(id, bytes(1), false);
    assert_eq!(more, Err(CommandError::WouldBlock));
    session.set_room(4 * held);
    assert_eq!(writable(&mut session).await, id);
    session.send(id, bytes(1), false).unwrap();
    assert_eq!(session.held(), held + 1);

    // What was refused for want of room, and can have none any more, is not waited for.
    let more = session.send(id, bytes(3 * held), false);
    assert_eq!(more, Err(CommandError::WouldBlock));
    session.set_room(2 * held + 2);
    assert_eq!(writable(&mut session).await, id);
    let more = session.send(id, bytes(3 * held), false);
    assert_eq!(more, Err(CommandError::TooLarge));

    session.reset(id, 1).unwrap();
    assert_eq!(session.held(), 0, "what was given up is not held");
}
