//! Reads the operator's file.

use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use toml::{Spanned, de::DeTable};

use super::{
    Config, Problems, Seen, certificate,
    file::{File, schema},
    problem::Report,
    resolve::{Source, resolve},
    shape,
};
use crate::runtime::{Account, AccountLimits, Options, Runtime, Terms};

/// Reads the operator's file, and the secrets that it names. Relative paths in it begin at its folder.
///
/// # Errors
///
/// All that is wrong, as far as that can be seen without looking into components and certificates.
pub fn load(path: &Path) -> Result<Config, Problems> {
    let (config, _, report) = read(path)?;
    report.none()?;
    Ok(config)
}

/// Reads the operator's file like [`load`], and looks into the components and certificates that it names, and at who may
/// use the admin listener. Compiling a component may take seconds; what is compiled is kept in `cache_dir`, unless the file
/// names a folder for that.
///
/// # Errors
///
/// All that is wrong.
pub fn check(path: &Path, cache_dir: Option<PathBuf>) -> Result<Config, Problems> {
    let (mut config, sources, mut report) = read(path)?;
    config.cache_dir = config.cache_dir.or(cache_dir);
    look_into(&config, sources, &mut report);
    report.none()?;
    Ok(config)
}

fn read(path: &Path) -> Result<(Config, Vec<Source>, Report), Problems> {
    let mut seen = Seen::default();
    seen.look_at(path);
    let text = std::fs::read_to_string(path).map_err(|error| {
        let what = format!("cannot be read: {error} (name another by --config)");
        Problems::unreadable(path, what)
    })?;
    let (mut table, errors) = DeTable::parse_recoverable(&text);
    let mut report = Report::new(path, &text, table.get_ref());
    for error in &errors {
        report.add_syntax(error);
    }
    // What a fault of the text has torn apart is not looked at further.
    report = report.none()?;
    let span = table.span();
    shape::fit(table.get_mut(), &span, "", &schema(), &mut report);
    let file = deserialize(table).map_err(|error| {
        report.add_syntax(&error);
    });
    let folder = path.parent().unwrap_or(Path::new(""));
    let (mut config, sources) = resolve(file.unwrap_or_default(), folder, &mut report);
    config.sources.take_in(seen);
    Ok((config, sources, report))
}

fn deserialize(table: Spanned<DeTable<'_>>) -> Result<File, toml::de::Error> {
    File::deserialize(toml::Deserializer::from(table))
}

/// Loads every component and every certificate once.
fn look_into(config: &Config, sources: Vec<Source>, report: &mut Report) {
    let options = Options {
        limits: config.runtime.clone(),
        sessions: 1,
        cache_dir: config.cache_dir.clone(),
        ..Options::default()
    };
    let account = Account::new(AccountLimits::default());
    let runtime = Runtime::new(options);
    for source in sources {
        match source {
            Source::Component {
                place,
                file,
                limits,
            } => {
                let terms = Terms::new(limits, account.clone());
                let loaded = match &runtime {
                    Ok(runtime) => runtime.load(&file, terms).map(|_| ()),
                    Err(error) => Err(anyhow::anyhow!("{error:#}")),
                };
                if let Err(error) = loaded {
                    report.add(&place, format!("{error:#}"));
                }
            }
            Source::Admin { place, admin } => {
                if let Err(error) = admin.token() {
                    report.add(&place, format!("{error:#}"));
                }
            }
            Source::Certificate {
                place,
                certificate,
                key,
                authorities,
            } => certificate::look_into(&certificate, &key, &place, &authorities, report),
        }
    }
}
