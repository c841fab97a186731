//! The developer's page, as a person uses it in Chromium.

use crate::{binary::Wharf, harness::root};

mod devtools;
mod driver;
mod firefox;
mod page;
mod process;

pub(crate) use driver::Browser;
pub(crate) use firefox::Firefox;
use page::{Site, the_page_drives_a_session_in_chromium};

#[tokio::test(flavor = "multi_thread")]
async fn a_person_drives_sessions_from_the_page() {
    let Some(chromium) = Browser::find() else {
        assert!(std::env::var_os("CI").is_none(), "CI needs Chromium");
        eprintln!("no Chromium here (set CHROMIUM to one): the page was not tried");
        return;
    };
    let wharf = Wharf::run(&root().join("guests/faults")).await;
    let picture = std::env::var_os("WHARF_PICTURE").map(std::path::PathBuf::from);
    let browser = Browser::launch(chromium).await.unwrap();
    let site = Site {
        page_url: &wharf.page,
        echo: "/echo/x",
        push: "/push/x",
        pushed: &[("bidi", "pushed-bidi"), ("uni", "pushed-uni")],
        reset: "/reset/x?code=9",
        stop: "/stop/x?code=9",
        given_up_with: 9,
        close: "/close/x?code=42&reason=bye",
        closed_with: (42, "bye"),
        picture: picture.as_deref(),
    };
    the_page_drives_a_session_in_chromium(&browser, &site)
        .await
        .unwrap();
    // What the handler was told of it: bytes, resets, stops, and closes with their codes.
    for line in [
        " 12 more session",
        " fin session",
        "datagram 4 session",
        "reset 8 7 session",
        "stop 12 255 session",
        "closed 4000000000 peer clean \"enough for today\" session",
    ] {
        wharf.logs(line).await;
    }
}
