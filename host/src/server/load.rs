//! Loads the components of all tenants, and keeps those that are as before.

use std::{path::Path, sync::Arc};

use sha2::{Digest as _, Sha256};

use crate::{
    config,
    router::{Route, Router, Tenant},
    runtime::{Account, AccountLimits, Limits, Runtime, Terms},
};

/// Loads what these tenants serve. `limits` are those of routes that have none of their own. Of `old` it keeps every
/// component whose file and settings are the same, by tenant and path, and what is counted.
///
/// # Errors
///
/// One line that names the file or the tenant, what is wrong with it and the remedy.
pub(super) async fn router(
    runtime: &Runtime,
    limits: &Limits,
    tenants: &[config::Tenant],
    old: &Router,
) -> anyhow::Result<Router> {
    let mut router = Router::default();
    for tenant in tenants {
        let before = old.tenant(&tenant.name).map(|tenant| &**tenant);
        let account = match before {
            Some(before) => before.account.clone(),
            None => Account::new(AccountLimits::default()),
        };
        let mut routes = Vec::new();
        for route in &tenant.routes {
            let before = before.and_then(|tenant| tenant.route(&route.path));
            let mut config = route.clone();
            config.runtime.get_or_insert_with(|| limits.clone());
            let before = before.map(|route| &**route);
            let route = load(runtime, config, &account, before).await?;
            routes.push(Arc::new(route));
        }
        let loaded = Tenant::new(tenant, account, before, routes);
        router.add(loaded, &tenant.authorities)?;
    }
    Ok(router)
}

async fn load(
    runtime: &Runtime,
    config: config::Route,
    account: &Account,
    before: Option<&Route>,
) -> anyhow::Result<Route> {
    let kept = before.filter(|before| same_settings(&before.config, &config));
    let kept = kept.map(|before| (before.digest, before.component.clone()));
    let mut terms = Terms::new(config.runtime.clone().unwrap_or_default(), account.clone());
    terms.scope = config.scope;
    terms.environment.clone_from(&config.environment);
    let (runtime, file) = (runtime.clone(), config.component.clone());
    // Compiling takes a while; what else the program does goes on.
    let load = move || {
        let digest = digest(&file);
        match kept {
            Some((before, component)) if digest == Some(before) => Ok((before, component)),
            // A file that changes after it was looked at is found changed the next time.
            Some(_) | None => Ok((digest.unwrap_or_default(), runtime.load(&file, terms)?)),
        }
    };
    let loaded: anyhow::Result<_> = tokio::task::spawn_blocking(load).await?;
    let (digest, component) = loaded?;
    Ok(Route {
        name: config.name.as_str().into(),
        config,
        component,
        digest,
        census: before.map_or_else(Arc::default, |route| route.census.clone()),
    })
}

/// Whether a component would be the same in both, if its file is.
fn same_settings(a: &config::Route, b: &config::Route) -> bool {
    (a.scope, &a.environment, &a.runtime) == (b.scope, &b.environment, &b.runtime)
}

/// What a file holds. Where it cannot be read the runtime says why.
fn digest(file: &Path) -> Option<[u8; 32]> {
    Some(Sha256::digest(std::fs::read(file).ok()?).into())
}
