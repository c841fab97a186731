//! A component that handles sessions which this program asked for.

use std::{path::PathBuf, pin::pin, sync::Arc};

use crate::{
    config::DEFAULT_TENANT,
    runtime::{Account, AccountLimits, Component, Exit, Label, Options, Runtime, Terms},
    transport::{Request, Session},
};

/// A component in the client's role.
#[derive(Clone, Debug)]
pub struct Handler {
    component: Component,
}

impl Handler {
    /// Loads a component. Compiling it may take seconds.
    ///
    /// # Errors
    ///
    /// One line that names the file, what is wrong with it and the remedy.
    pub async fn load(file: PathBuf, options: Options) -> anyhow::Result<Self> {
        let terms = Terms::new(
            options.limits.clone(),
            Account::new(AccountLimits::default()),
        );
        let runtime = Runtime::new(options)?;
        let load = move || runtime.load(&file, terms);
        let component = tokio::task::spawn_blocking(load).await??;
        Ok(Self { component })
    }

    /// Serves a session to its end, in an instance of its own, and ends it when `stop` ends. `admit` is not called: the server has decided.
    ///
    /// # Errors
    ///
    /// When the component failed. The log says why.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future aborts the session: the peer sees its CONNECT stream reset, the component sees nothing.
    pub async fn serve(
        &self,
        mut session: Session,
        request: &Request,
        stop: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        let label = Label {
            session: 1,
            tenant: DEFAULT_TENANT.into(),
            route: "client".into(),
            path: super::host::shown(&request.connect.path).to_owned(),
            stats: Arc::default(),
        };
        let exit = match self.component.instantiate(label).await {
            Ok(guest) => {
                let stopper = session.stopper();
                let mut run = pin!(guest.run(session, request));
                tokio::select! {
                    exit = &mut run => exit,
                    () = stop => {
                        stopper(0, "");
                        run.await
                    }
                }
            }
            Err(exit) => exit,
        };
        match exit {
            Exit::Returned => Ok(()),
            Exit::Trapped => anyhow::bail!("the handler trapped"),
            Exit::OutOfTime => anyhow::bail!("the handler exceeded its CPU deadline"),
            Exit::OutOfMemory => anyhow::bail!("the handler ran out of memory"),
            Exit::Failed => anyhow::bail!("the handler failed"),
        }
    }
}
