use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

const EXTRA: &[(u16, u32)] = &[(0x2b60, 1), (0x2b61, 0x0102_0304)];

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags, 0, 0, 0, 0]);
    frame.extend(payload);
    frame
}

fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (id, value) in settings {
        payload.extend(id.to_be_bytes());
        payload.extend(value.to_be_bytes());
    }
    frame(SETTINGS, 0, &payload)
}

/// What leaves when `written` is written in pieces of these lengths.
fn leaves(role: Role, written: &[u8], lengths: &[usize]) -> Vec<u8> {
    let mut outgoing = match role {
        Role::Client => Outgoing::Preface(PREFACE),
        Role::Server => Outgoing::Preface(0),
    };
    let mut out = BytesMut::new();
    let mut rest = written;
    let mut lengths = lengths.iter().cycle();
    while !rest.is_empty() {
        let n = rest.len().min(*lengths.next().unwrap());
        let piece = &rest[..n];
        let taken = if matches!(outgoing, Outgoing::Through) {
            out.put_slice(piece);
            n
        } else {
            outgoing.rewrite(piece, EXTRA, &mut out)
        };
        rest = &rest[taken..];
    }
    out.to_vec()
}

/// What is known of the peer when these bytes came in pieces of these lengths.
fn known(start: usize, bytes: &[u8], lengths: &[usize]) -> Peer {
    let (peer, _) = watch::channel(Peer::default());
    let mut incoming = Incoming::begin_after(start);
    let mut rest = bytes;
    let mut lengths = lengths.iter().cycle();
    while !rest.is_empty() {
        let n = rest.len().min(*lengths.next().unwrap());
        incoming.read(&rest[..n], &peer);
        rest = &rest[n..];
    }
    *peer.borrow()
}

proptest! {
    #[test]
    fn settings_are_added_to_the_first_frame_however_it_is_written(
        lengths in prop::collection::vec(1..40_usize, 1..8),
        client: bool,
    ) {
        let own = [(0x3, 100), (0x8, 1)];
        let preface = [7; PREFACE];
        let (role, before) = if client { (Role::Client, &preface[..]) } else { (Role::Server, &[][..]) };
        let after = [settings(&[(0x4, 5)]), frame(0x0, 0, b"data")].concat();
        let written = [before, &settings(&own), &after].concat();
        let expected = [before, &settings(&[own[0], own[1], EXTRA[0], EXTRA[1]]), &after].concat();
        prop_assert_eq!(leaves(role, &written, &lengths), expected);
    }

    #[test]
    fn the_peers_settings_are_read_however_they_come(
        lengths in prop::collection::vec(1..40_usize, 1..8),
    ) {
        let bytes = [
            vec![7; PREFACE],
            settings(&[(0x4, 9), (0x2b61, 5), (0x2b63, 6), (0x8, 1)]),
            frame(0x0, 0, &[0x4; 100]),
            frame(SETTINGS, ACK, b""),
            settings(&[(0x2b61, 8)]),
            frame(GOAWAY, 0, &[0; 8]),
        ]
        .concat();
        let peer = known(PREFACE, &bytes, &lengths);
        let mut expected = PeerSettings::default();
        for (id, value) in [(0x2b61, 8), (0x2b63, 6), (0x8, 1)] {
            expected.set(id, value);
        }
        prop_assert_eq!(peer, Peer { settings: expected, goaway: true });
    }

    #[test]
    fn no_bytes_of_a_peer_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        lengths in prop::collection::vec(1..40_usize, 1..8),
    ) {
        known(0, &bytes, &lengths);
    }
}

#[test]
fn a_setting_that_is_cut_short_by_its_frame_is_none() {
    let odd = frame(SETTINGS, 0, &[0x2b, 0x61, 0, 0]);
    let bytes = [odd, settings(&[(0x2b61, 3)])].concat();
    let mut expected = PeerSettings::default();
    expected.set(0x2b61, 3);
    assert_eq!(known(0, &bytes, &[5]).settings, expected);
}

#[tokio::test]
async fn vectored_writes_stay_vectored_and_arrive_whole() {
    let (near, mut far) = tokio::io::duplex(64);
    let (peer, _) = watch::channel(Peer::default());
    let near = Arc::new(Mutex::new(near));
    let mut tap = Tap::new(near, Role::Server, EXTRA.to_vec(), peer);
    assert!(tap.is_write_vectored(), "as the pipe below says");
    let writing = tokio::spawn(async move {
        tap.write_all(&settings(&[])).await.unwrap();
        for _ in 0..100 {
            let mut slices = [&b"one "[..], b"", b"two "].map(IoSlice::new);
            let mut slices = &mut slices[..];
            while !slices.is_empty() {
                let sent = tap.write_vectored(slices).await.unwrap();
                IoSlice::advance_slices(&mut slices, sent);
            }
        }
        tap.shutdown().await.unwrap();
    });
    let mut came = Vec::new();
    far.read_to_end(&mut came).await.unwrap();
    writing.await.unwrap();
    assert_eq!(came, [settings(EXTRA), b"one two ".repeat(100)].concat());
}
