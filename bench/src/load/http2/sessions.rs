//! Sessions opened over HTTP/2, or requests that stand for them, and the memory they hold while idle.

use super::{
    super::{Figure, Plan, Target, ping::MESSAGE, sessions::grow},
    line::Line,
};
use crate::process::Server;

pub(in super::super) async fn measure(
    server: &mut Server,
    target: &Target,
    plan: &Plan,
) -> anyhow::Result<Vec<Figure>> {
    let connect = || {
        let target = target.clone();
        async move { Line::open(&target).await }
    };
    let (figures, mut lines) = grow(server, plan, " over HTTP/2", connect).await?;
    for line in &mut lines {
        line.ping(&MESSAGE).await?; // it has not ended by itself
    }
    Ok(figures)
}
