//! Turns what is written in a file into what the server uses.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
    slice,
};

use toml::Spanned;
use tracing_subscriber::EnvFilter;

use super::{
    Admin, Config, Log, LogFormat, Origins, Route, Scope, Seen, Tenant, Tls,
    file::{self, File, Secret},
    limits::{InForce, Own, Target},
    problem::Report,
    value::{Given, Text},
};
use crate::{
    authority::Hosts,
    runtime,
    transport::{FinOrder, Quirks},
};

/// How a certificate made at start is written in place of a file.
const DEVELOPMENT: &str = "development";
/// The largest share of the processor.
const WEIGHT_MAX: u32 = 10_000;

/// A file that the configuration names, which a check looks into.
pub(super) enum Source {
    Component {
        place: Range<usize>,
        file: PathBuf,
        limits: runtime::Limits,
    },
    Admin {
        place: Range<usize>,
        admin: Admin,
    },
    Certificate {
        place: Range<usize>,
        certificate: PathBuf,
        key: PathBuf,
        authorities: Vec<(String, Range<usize>)>,
    },
}

/// Resolves a file in that folder. What is wrong is reported, and left out of the result.
pub(super) fn resolve(file: File, folder: &Path, report: &mut Report) -> (Config, Vec<Source>) {
    let mut config = Config::new(Vec::new(), Tls::Development, Vec::new());
    config.tenants.clear();
    let listen = file.listen.into_iter();
    config.listen = listen
        .filter_map(|address| Some(address.take(report)?.0))
        .collect();
    config.cache_dir = file.cache.take(report).map(|cache| folder.join(cache));
    let mut in_force = InForce::defaults(&mut config);
    in_force.set(&file.limits, Target::Host(&mut config), report);
    if config.transport.keep_alive >= config.transport.idle_timeout
        && let Some((_, value)) = file
            .limits
            .get_key_value("keep-alive")
            .or_else(|| file.limits.get_key_value("idle-timeout"))
    {
        report.add(
            &value.span(),
            "silent connections would be lost before they are probed (keep `keep-alive` below `idle-timeout`)",
        );
    }
    let mut resolver = Resolver {
        folder,
        own: Own {
            session: config.transport.session.clone(),
            runtime: config.runtime.clone(),
        },
        in_force,
        names: BTreeMap::new(),
        authorities: Hosts::default(),
        sources: Vec::new(),
        secrets: Seen::default(),
        report,
    };
    let tenants = file.tenant.into_iter();
    config.tenants = tenants.map(|tenant| resolver.tenant(tenant)).collect();
    let Resolver {
        mut sources,
        secrets,
        ..
    } = resolver;
    config.sources = secrets;
    config.log = log(file.log, report);
    if let Some(written) = file.admin {
        let mut admin = Admin::default();
        let mut place = None;
        if let Some((Text(listen), listen_place)) = written.listen.take_with_place(report) {
            (admin.listen, place) = (listen, Some(listen_place));
        }
        if let Some((token_file, token_place)) = written.token_file.take_with_place(report) {
            (admin.token_file, place) = (Some(folder.join(token_file)), Some(token_place));
        }
        config.admin = Some(admin.clone());
        sources.extend(place.map(|place| Source::Admin { place, admin }));
    }
    (config, sources)
}

fn log(written: file::Log, report: &mut Report) -> Log {
    let mut log = Log::default();
    if let Some((filter, place)) = written.filter.take_with_place(report) {
        match EnvFilter::try_new(&filter) {
            Ok(_) => log.filter = filter,
            Err(error) => {
                let what =
                    format!("{filter:?}: {error} (write such as \"info\" or \"wharf=debug\")");
                report.add(&place, what);
            }
        }
    }
    if let Some(format) = written.format.take(report) {
        log.format = match format {
            file::LogFormat::Text => LogFormat::Text,
            file::LogFormat::Json => LogFormat::Json,
        };
    }
    log
}

struct Resolver<'a> {
    folder: &'a Path,
    /// What a session may use by the host's limits.
    own: Own,
    in_force: InForce,
    /// The line of each tenant's name.
    names: BTreeMap<String, usize>,
    /// The place of the tenant whose each authority is.
    authorities: Hosts<usize>,
    sources: Vec<Source>,
    /// The files that secrets were read from.
    secrets: Seen,
    report: &'a mut Report,
}

impl Resolver<'_> {
    fn tenant(&mut self, written: Spanned<file::Tenant>) -> Tenant {
        let span = written.span();
        let written = written.into_inner();
        let mut tenant = Tenant::new("", Tls::Development, Vec::new());
        if let Some((name, place)) = written.name.take_with_place(self.report) {
            tenant.name = name.0.0;
            claim(&mut self.names, &tenant.name, &place, self.report);
        }
        let mut authorities = Vec::new();
        let everything = written.authorities.is_empty();
        for authority in written.authorities {
            if let Some((authority, place)) = authority.take_with_place(self.report) {
                match self
                    .authorities
                    .give(slice::from_ref(&authority), &span.start)
                {
                    Ok(()) => {
                        let authority = authority.trim_end_matches('.').to_ascii_lowercase();
                        authorities.push((authority, place));
                    }
                    Err(error) => self.report.add(&place, error.to_string()),
                }
            }
        }
        if everything && let Err(error) = self.authorities.give(&[], &span.start) {
            let what = error.to_string();
            self.report.add_key(&span, "tenant", "authorities", what);
        }
        tenant.authorities = authorities
            .iter()
            .map(|(authority, _)| authority.clone())
            .collect();
        tenant.tls = self.tls(written.certificate, written.key, authorities);
        if let Some((weight, place)) = written.weight.take_with_place(self.report) {
            match u32::try_from(weight) {
                Ok(weight @ 1..=WEIGHT_MAX) => tenant.weight = weight,
                _ => {
                    let what = format!("{weight} is out of range (write 1 to {WEIGHT_MAX})");
                    self.report.add(&place, what);
                }
            }
        }
        let (mut own, mut in_force) = (self.own.clone(), self.in_force.clone());
        let target = Target::Tenant(&mut tenant.limits, &mut own);
        in_force.set(&written.limits, target, self.report);
        let mut paths = BTreeMap::new();
        for route in written.route {
            let route = self.route(route.into_inner(), own.clone(), &in_force, &mut paths);
            tenant.routes.push(route);
        }
        tenant
    }

    fn route(
        &mut self,
        written: file::Route,
        mut own: Own,
        in_force: &InForce,
        paths: &mut BTreeMap<String, usize>,
    ) -> Route {
        let path = written.path.take_with_place(self.report);
        if let Some((path, place)) = &path {
            claim(paths, path.0.0.trim_end_matches('/'), place, self.report);
        }
        let component = written.component.take_with_place(self.report);
        let component = component.map(|(file, place)| (self.folder.join(file), place));
        let file = component.as_ref().map(|(file, _)| file.clone());
        let mut route = Route::new(
            path.map(|(path, _)| path.0.0).unwrap_or_default(),
            file.unwrap_or_default(),
        );
        route.name.clone_from(&route.path);
        if let Some(scope) = written.scope.take(self.report) {
            route.scope = match scope {
                file::Scope::Session => Scope::Session,
                file::Scope::Shared => Scope::Shared,
            };
        }
        if let Some(origins) = written.origins.take(self.report) {
            route.origins = match origins {
                file::Origins::All(file::All::Any) => Origins::Any,
                file::Origins::Listed(listed) => {
                    Origins::Listed(listed.into_iter().map(|origin| origin.0.0).collect())
                }
            };
        }
        for quirk in written.quirks {
            if let Some(quirk) = quirk.take(self.report) {
                bear_with(&mut route.quirks, quirk);
            }
        }
        route.environment = self.environment(written.environment, written.secrets);
        let mut in_force = in_force.clone();
        let target = Target::Route(&mut route, &mut own);
        in_force.set(&written.limits, target, self.report);
        if let Some((file, place)) = component
            && self.is_there(&file, &place)
        {
            let limits = own.runtime.clone();
            self.sources.push(Source::Component {
                place,
                file,
                limits,
            });
        }
        (route.session, route.runtime) = (Some(own.session), Some(own.runtime));
        route
    }

    /// The certificate, and that of all of these authorities.
    fn tls(
        &mut self,
        certificate: Given<PathBuf>,
        key: Given<PathBuf>,
        authorities: Vec<(String, Range<usize>)>,
    ) -> Tls {
        let certificate = certificate.take_with_place(self.report);
        let key = key.take_with_place(self.report);
        match (certificate, key) {
            (Some((certificate, _)), None) if certificate == Path::new(DEVELOPMENT) => {
                Tls::Development
            }
            (Some((certificate, _)), Some((_, place))) if certificate == Path::new(DEVELOPMENT) => {
                let what = "a certificate made at start has a key of its own (leave `key` out)";
                self.report.add(&place, what);
                Tls::Development
            }
            (Some((_, place)), None) => {
                let what = "has no key (name its file by `key`, or write \"development\" for a certificate made at start)";
                self.report.add(&place, what);
                Tls::Development
            }
            (Some((certificate, place)), Some((key, key_place))) => {
                let (certificate, key) = (self.folder.join(certificate), self.folder.join(key));
                let there = self.is_there(&certificate, &place);
                if self.is_there(&key, &key_place) && there {
                    self.sources.push(Source::Certificate {
                        place,
                        certificate: certificate.clone(),
                        key: key.clone(),
                        authorities,
                    });
                }
                Tls::Files { certificate, key }
            }
            (None, _) => Tls::Development, // reported as missing
        }
    }

    /// The environment variables of a guest, in the order of their names.
    fn environment(
        &mut self,
        plain: BTreeMap<Spanned<String>, Given<String>>,
        secrets: BTreeMap<Spanned<String>, Spanned<Secret>>,
    ) -> Vec<(String, String)> {
        let mut environment = BTreeMap::new();
        let mut names = BTreeMap::new();
        for (name, value) in plain {
            self.variable(&name, &mut names);
            if let Some(value) = value.take(self.report) {
                environment.insert(name.into_inner(), value);
            }
        }
        for (name, secret) in secrets {
            self.variable(&name, &mut names);
            if let Some(value) = self.secret(secret) {
                environment.insert(name.into_inner(), value);
            }
        }
        environment.into_iter().collect()
    }

    /// Looks at the name of an environment variable.
    fn variable(&mut self, name: &Spanned<String>, names: &mut BTreeMap<String, usize>) {
        let (name, place) = (name.get_ref(), name.span());
        if name.is_empty() || name.contains(['=', '\0']) {
            let what = format!("{name:?} names no variable (leave `=` out)");
            self.report.add(&place, what);
        }
        claim(names, name, &place, self.report);
    }

    /// Reads a secret from where it stands. What is reported never has the secret in it.
    fn secret(&mut self, secret: Spanned<Secret>) -> Option<String> {
        let place = secret.span();
        let Secret { file, variable } = secret.into_inner();
        let (file, variable) = (file.take(self.report), variable.take(self.report));
        let read = match (file, variable) {
            (Some(file), None) => {
                let file = self.folder.join(file);
                self.secrets.look_at(&file);
                let read = std::fs::read_to_string(&file);
                read.map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
                    .map_err(|error| format!("{}: {}", file.display(), reason(&error)))
            }
            (None, Some(variable)) => std::env::var(&variable).map_err(|_| {
                format!("the environment has no {variable} that is text (set it for wharf)")
            }),
            (Some(_), Some(_)) | (None, None) => Err(
                "stands in one place (write { file = \"…\" } or { variable = \"…\" })".to_owned(),
            ),
        };
        read.map_err(|what| self.report.add(&place, what)).ok()
    }

    fn is_there(&mut self, file: &Path, place: &Range<usize>) -> bool {
        let there = file.is_file();
        if !there {
            let what = format!(
                "{}: no such file (paths begin at the folder of this file)",
                file.display()
            );
            self.report.add(place, what);
        }
        there
    }
}

/// Notes that a name is taken, which two may not.
fn claim(
    taken: &mut BTreeMap<String, usize>,
    name: &str,
    place: &Range<usize>,
    report: &mut Report,
) {
    let line = report.line(place);
    if let Some(first) = taken.insert(name.to_owned(), line) {
        report.add(
            place,
            format!("line {first} has the same (each may be there once)"),
        );
    }
}

fn bear_with(quirks: &mut Quirks, quirk: file::Quirk) {
    match quirk {
        file::Quirk::SwappedStreamIds => quirks.swapped_stream_ids = true,
        file::Quirk::Draft15Fin => quirks.fin_order = FinOrder::Draft15,
    }
}

/// Why a file cannot be read, and what to do.
fn reason(error: &std::io::Error) -> String {
    if error.kind() == std::io::ErrorKind::NotFound {
        "no such file (paths begin at the folder of this file)".to_owned()
    } else {
        format!("{error} (it must be text in UTF-8 that wharf may read)")
    }
}
