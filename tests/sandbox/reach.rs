//! What a handler sees of the machine: nothing that its route does not grant.

use std::time::Duration;

use super::ask;
use crate::{
    harness::{TestServer, path},
    peer::{Http, over_both},
};

/// What is denied whatever is granted.
const DENIED: &str =
    "read denied\nlist denied\nwrite denied\ntcp denied\nudp denied\narguments 0\n";

over_both!(a_handler_reaches_no_file_socket_or_variable_and_no_fine_clock);
async fn a_handler_reaches_no_file_socket_or_variable_and_no_fine_clock(http: Http) {
    let server = TestServer::start().await;
    let session = server.session(http, &path("reach")).await;
    let answer = ask(&session, b"?").await;
    let clock = answer
        .strip_prefix(DENIED)
        .unwrap_or_else(|| panic!("{answer}"));
    let step: u64 = clock.strip_prefix("clock ").unwrap().parse().unwrap();
    assert_eq!(step % 1_000_000, 0, "{step} ns");
}

over_both!(a_handler_sees_the_variables_and_the_clock_that_its_route_grants);
async fn a_handler_sees_the_variables_and_the_clock_that_its_route_grants(http: Http) {
    let server = TestServer::with(|config| {
        config.runtime.clock_resolution = Duration::from_micros(1);
        let route = &mut config.tenants[0].routes[0];
        route.environment = vec![
            ("REGION".to_owned(), "north".to_owned()),
            ("TOKEN".to_owned(), "s3cret".to_owned()),
        ];
        assert!(
            !format!("{route:?}").contains("s3cret"),
            "a secret is shown"
        );
    })
    .await;
    let session = server.session(http, &path("reach")).await;
    let answer = ask(&session, b"?").await;
    let rest = answer
        .strip_prefix(DENIED)
        .unwrap_or_else(|| panic!("{answer}"));
    let (clock, variables) = rest.split_once('\n').unwrap();
    assert_eq!(variables, "variable REGION=north\nvariable TOKEN=s3cret");
    let step: u64 = clock.strip_prefix("clock ").unwrap().parse().unwrap();
    assert!(step < 1_000_000 && step.is_multiple_of(1000), "{step} ns");
}
