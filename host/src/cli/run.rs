//! `wharf run`: one component on loopback, with a development certificate and a page.

use std::{
    io::Write as _,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::Signals;
use crate::{
    config::{Admin, Config, Origins, Route, Tls},
    guest,
    page::{Page, Target},
    runtime::Scope,
    server::Server,
    transport::FinOrder,
};

/// Serves one component on this machine, with a certificate made for it and a page to try it.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A component, or the folder of a Rust crate that makes one.
    #[arg(value_name = "FILE.wasm | FOLDER")]
    handler: PathBuf,

    /// Where sessions are served (UDP and TCP). Port 0 takes a free one. Several addresses are separated by commas.
    #[arg(
        long,
        env = "WHARF_LISTEN",
        default_value = "127.0.0.1:4433",
        value_delimiter = ',',
        value_name = "ADDRESS"
    )]
    listen: Vec<SocketAddr>,

    /// Where the page is served (TCP). Port 0 takes a free one.
    #[arg(
        long,
        env = "WHARF_PAGE",
        default_value = "127.0.0.1:8080",
        value_name = "ADDRESS"
    )]
    page: SocketAddr,

    /// The folder of a web page to serve instead of the built-in one. By default `page` in the handler's FOLDER, where
    /// that is.
    #[arg(long, value_name = "FOLDER")]
    page_files: Option<PathBuf>,

    /// Has one instance serve all sessions, so that they see each other, instead of an instance for each.
    #[arg(long)]
    shared: bool,

    /// A PEM certificate chain to serve with, instead of one made at start.
    #[arg(long, env = "WHARF_CERT", requires = "key", value_name = "FILE")]
    cert: Option<PathBuf>,

    /// The PEM private key of `--cert`.
    #[arg(long, env = "WHARF_KEY", requires = "cert", value_name = "FILE")]
    key: Option<PathBuf>,

    /// A web page's origin that may open sessions besides the page's own, such as `http://localhost:5173`; `*` is all.
    #[arg(
        long,
        env = "WHARF_ALLOW_ORIGIN",
        value_delimiter = ',',
        value_name = "ORIGIN"
    )]
    allow_origin: Vec<String>,

    /// Where metrics, probes and live sessions are served (HTTP on TCP), such as `127.0.0.1:9464`. Without it nowhere.
    #[arg(long, env = "WHARF_ADMIN", value_name = "ADDRESS")]
    admin: Option<SocketAddr>,

    /// A file that holds the token which requests to `--admin` must have; needed beyond loopback.
    #[arg(
        long,
        env = "WHARF_ADMIN_TOKEN_FILE",
        requires = "admin",
        value_name = "FILE"
    )]
    admin_token_file: Option<PathBuf>,

    /// A deviation of clients over HTTP/2 from the drafts that is borne with.
    #[arg(long, value_name = "QUIRK")]
    quirk: Vec<Quirk>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Quirk {
    /// The client numbers its streams as if it were the server: @fails-components/webtransport does.
    SwappedStreamIds,
    /// Capsule 0x190B4D3B ends a stream and 0x190B4D3C does not, as in draft 15: no deployed client does that.
    Draft15Fin,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    super::raise_file_limit();
    let page_files = page_files(args.page_files, &args.handler)?;
    let component = if args.handler.is_dir() {
        let folder = args.handler.clone();
        tokio::task::spawn_blocking(move || guest::build(&folder, super::say)).await??
    } else {
        args.handler.clone()
    };
    let page = Page::bind(args.page).await?;
    let mut route = Route::new("/", component);
    route.origins = origins(&args.allow_origin, page.local_addr());
    if args.shared {
        route.scope = Scope::Shared;
    }
    for quirk in args.quirk {
        match quirk {
            Quirk::SwappedStreamIds => route.quirks.swapped_stream_ids = true,
            Quirk::Draft15Fin => route.quirks.fin_order = FinOrder::Draft15,
        }
    }
    let name = route.name.clone();
    let tls = match (args.cert, args.key) {
        (Some(certificate), Some(key)) => Tls::Files { certificate, key },
        _ => Tls::Development,
    };
    let mut config = Config::new(args.listen, tls, vec![route]);
    config.cache_dir = super::cache_dir();
    if config
        .listen
        .iter()
        .all(|address| address.ip().is_loopback())
    {
        // All peers are of one address, and nobody else's.
        config.sessions_per_ip = u32::MAX;
        config.transport.connections_per_ip = usize::MAX;
        config.transport.handshakes_per_ip = u32::MAX;
    }
    config.admin = args.admin.map(|listen| Admin {
        listen,
        token_file: args.admin_token_file,
        ..Admin::default()
    });
    let mut signals = Signals::take(); // before anybody can know that it serves
    let bound = signals.unless_interrupted(Server::bind(config.clone()));
    let Some(server) = bound.await else {
        return Ok(());
    };
    let server = server?;
    let url = |&address: &SocketAddr| format!("https://{}/", dialable(address));
    let urls: Vec<_> = server.local_addrs().iter().map(url).collect();
    let target = Target {
        url: urls[0].clone(),
        hash: STANDARD.encode(server.certificate_hash()),
        component: name,
        version: env!("CARGO_PKG_VERSION"),
    };
    let addresses = Addresses {
        page: page.local_addr(),
        sessions: &urls,
        admin: server.admin_addr(),
    };
    announce(&target, &addresses, &args.handler);
    tokio::select! {
        served = page.run(target, page_files) => served.context("the page's socket failed"),
        () = super::serve(server, signals, move || Ok(config.clone())) => Ok(()),
    }
}

/// The folder of the page to serve instead of the built-in one: what was given, or the handler's own.
fn page_files(given: Option<PathBuf>, handler: &Path) -> anyhow::Result<Option<PathBuf>> {
    let is_page = |folder: &PathBuf| folder.join("index.html").is_file();
    if let Some(folder) = &given {
        ensure!(
            is_page(folder),
            "{}: holds no index.html (--page-files takes the folder of a web page)",
            folder.display()
        );
    }
    Ok(given.or_else(|| Some(handler.join("page")).filter(is_page)))
}

/// Where everything is.
struct Addresses<'a> {
    page: SocketAddr,
    sessions: &'a [String],
    admin: Option<SocketAddr>,
}

/// Says where everything is, in one write: who reads the first lines only has read the rest as well.
fn announce(target: &Target, addresses: &Addresses<'_>, handler: &Path) {
    let admin = addresses.admin;
    let admin = admin.map(|admin| format!("  admin    http://{}/\n", dialable(admin)));
    let text = format!(
        "wharf {version} serves {handler}\n\n  page     http://{page}/\n  session  {urls}\n  hash     sha-256 {hash}\n{admin}\n\
         Open the page, or connect with the hash in serverCertificateHashes. Ctrl-C stops.\n\
         When the component's file changes, new sessions have the new one.\n",
        version = target.version,
        handler = handler.display(),
        admin = admin.unwrap_or_default(),
        page = dialable(addresses.page),
        urls = addresses.sessions.join("\n  session  "),
        hash = target.hash,
    );
    let mut out = std::io::stdout().lock();
    // Nobody to tell is no reason to stop.
    _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// The address as a peer on this machine dials it.
fn dialable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// The page's own origin by its two names, and what was listed.
fn origins(listed: &[String], page: SocketAddr) -> Origins {
    if listed.iter().any(|origin| origin == "*") {
        return Origins::Any;
    }
    let mut origins = vec![
        format!("http://{}", dialable(page)),
        format!("http://localhost:{}", page.port()),
    ];
    origins.extend(
        listed
            .iter()
            .map(|origin| origin.trim_end_matches('/').to_owned()),
    );
    Origins::Listed(origins)
}
