//! The developer's page, as a person uses it in Chromium.

use crate::{binary::Wharf, harness::root};

mod devtools;
mod driver;
mod page;

use driver::Browser;
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
        close: "/close/x?code=42&reason=bye",
        closed_with: (42, "bye"),
        picture: picture.as_deref(),
    };
    the_page_drives_a_session_in_chromium(&browser, &site)
        .await
        .unwrap();
}
