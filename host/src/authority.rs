//! Finds what belongs to the host of an authority: by its name, by a wildcard, or because it is nobody else's.

use std::{collections::HashMap, net::Ipv6Addr};

/// What belongs to which hosts.
#[derive(Clone, Debug)]
pub(crate) struct Hosts<T> {
    named: HashMap<String, T>,
    /// What belongs to all names one label below.
    below: HashMap<String, T>,
    /// What belongs to hosts that are nobody else's.
    rest: Option<T>,
    /// What belongs to addresses: whose they are when the host has no name.
    addresses: Option<T>,
}

impl<T> Default for Hosts<T> {
    fn default() -> Self {
        Self {
            named: HashMap::new(),
            below: HashMap::new(),
            rest: None,
            addresses: None,
        }
    }
}

impl<T: Clone + PartialEq> Hosts<T> {
    /// Gives these hosts to one owner: names, addresses, and `*.` with a name for all names one label below. None at all
    /// means those that are nobody else's.
    ///
    /// # Errors
    ///
    /// When one is malformed, or another's. What addresses there are must be one owner's: a client that connects to an
    /// address does not say to which (RFC 6066, "Server Name Indication").
    pub(crate) fn give(&mut self, hosts: &[String], owner: &T) -> anyhow::Result<()> {
        if hosts.is_empty() {
            anyhow::ensure!(
                self.rest.is_none(),
                "no authorities, as another tenant has none (list those of one of the two)"
            );
            self.rest = Some(owner.clone());
        }
        for written in hosts {
            let (wild, host) = match written.strip_prefix("*.") {
                Some(name) => (true, name),
                None => (false, written.as_str()),
            };
            let host = parse(host).filter(|host| !(wild && is_address(host)));
            let host = host.filter(|_| !written.is_empty() && !has_port(written));
            let Some(host) = host else {
                anyhow::bail!(
                    "authority `{written}`: no name of a host (write `app.example`, `*.app.example` or an address, without a port)"
                );
            };
            if is_address(&host) {
                let addresses = self.addresses.get_or_insert_with(|| owner.clone());
                anyhow::ensure!(
                    addresses == owner,
                    "authority `{written}`: another tenant has an address (clients do not tell which one they mean; give all to one tenant)"
                );
            }
            let map = if wild {
                &mut self.below
            } else {
                &mut self.named
            };
            anyhow::ensure!(
                map.insert(host, owner.clone()).is_none(),
                "authority `{written}`: listed twice (take it off one of the two)"
            );
        }
        Ok(())
    }

    /// Whose a host is.
    pub(crate) fn of(&self, host: &str) -> Option<&T> {
        let below = || self.below.get(host.split_once('.')?.1);
        self.named.get(host).or_else(below).or(self.rest.as_ref())
    }

    /// Whose a connection is, by the name that its client has asked for in TLS, or did not: a client that connects to
    /// an address names none.
    pub(crate) fn of_connection(&self, server_name: Option<&str>) -> Option<&T> {
        match server_name {
            Some(name) => self.of(&parse(name)?),
            None => self.addresses.as_ref().or(self.rest.as_ref()),
        }
    }
}

/// The host of an authority as it is compared: without port, in lower case, without a final dot, addresses in their
/// usual form. `None` where it is none.
pub(crate) fn parse(authority: &str) -> Option<String> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        return is_port(port).then(|| address.to_string());
    }
    if let Ok(address) = authority.parse::<Ipv6Addr>() {
        return Some(address.to_string()); // bare, as in a list
    }
    let (host, port) = match authority.find(':') {
        Some(at) => authority.split_at(at),
        None => (authority, ""),
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    let label = |label: &str| {
        let byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        !label.is_empty() && label.bytes().all(byte)
    };
    // What ends in a number is an address, or nothing (URL Standard, "Host parsing").
    let last = host.rsplit('.').next().unwrap_or_default();
    let number = last.bytes().all(|byte| byte.is_ascii_digit());
    let host_is_right = host.split('.').all(label) && (!number || is_address(host));
    (is_port(port) && host_is_right).then(|| host.to_ascii_lowercase())
}

fn is_port(port: &str) -> bool {
    port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

fn has_port(written: &str) -> bool {
    match written.rsplit_once(']') {
        Some((_, port)) => !port.is_empty(),
        None => written.contains(':') && written.parse::<Ipv6Addr>().is_err(),
    }
}

fn is_address(host: &str) -> bool {
    host.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(owners: &[&[&str]]) -> anyhow::Result<Hosts<usize>> {
        let mut hosts = Hosts::default();
        for (owner, listed) in owners.iter().enumerate() {
            let listed: Vec<_> = listed.iter().map(|&host| host.to_owned()).collect();
            hosts.give(&listed, &owner)?;
        }
        Ok(hosts)
    }

    #[test]
    fn a_host_is_compared_without_port_case_and_final_dot() {
        for (authority, host) in [
            ("a.example", Some("a.example")),
            ("A.Example.", Some("a.example")),
            ("a.example:443", Some("a.example")),
            ("a.example.:443", Some("a.example")),
            ("a.example:", Some("a.example")),
            ("127.0.0.1:1", Some("127.0.0.1")),
            ("[::1]:443", Some("::1")),
            ("[0:0::1]", Some("::1")),
            ("::1", Some("::1")),
            ("", None),
            (".", None),
            ("a..example", None),
            ("a.example..", None),
            ("a.example:b", None),
            ("a:1:2", None),
            ("0.0.1", None),
            ("a.1", None),
            ("me@a.example", None),
            ("[::1", None),
            ("[::1]x", None),
        ] {
            assert_eq!(parse(authority).as_deref(), host, "{authority}");
        }
    }

    #[test]
    fn a_name_goes_before_a_wildcard_of_one_label_and_both_before_the_rest() {
        let hosts = hosts(&[
            &["*.app.example"],
            &["one.app.example", "APP.example."],
            &[],
        ]);
        let hosts = hosts.unwrap();
        for (host, owner) in [
            ("one.app.example", 1),
            ("app.example", 1),
            ("two.app.example", 0),
            ("a.two.app.example", 2),
            ("example", 2),
        ] {
            assert_eq!(hosts.of(host), Some(&owner), "{host}");
        }
    }

    #[test]
    fn without_a_rest_an_unknown_host_is_nobodys() {
        let hosts = hosts(&[&["a.example"]]).unwrap();
        assert_eq!(hosts.of("b.example"), None);
        assert_eq!(hosts.of_connection(None), None);
        assert_eq!(hosts.of_connection(Some("b.example")), None);
        assert_eq!(hosts.of_connection(Some("A.example")), Some(&0));
    }

    #[test]
    fn a_connection_without_a_name_is_of_who_has_addresses_or_else_of_the_rest() {
        let some = hosts(&[&[], &["b.example", "127.0.0.1", "[::1]"]]).unwrap();
        assert_eq!(some.of_connection(None), Some(&1));
        assert_eq!(some.of("::1"), Some(&1));
        let none = hosts(&[&["b.example"], &[]]).unwrap();
        assert_eq!(none.of_connection(None), Some(&1));
    }

    #[test]
    fn what_is_malformed_or_listed_twice_is_named() {
        for (owners, named) in [
            (&[&["a.example"][..], &["A.example."]][..], "`A.example.`"),
            (&[&["*.a.example"], &["*.A.example"]], "`*.A.example`"),
            (&[&[][..], &[]], "no authorities"),
            (&[&["a.example:443"]], "without a port"),
            (&[&["[::1]:443"]], "without a port"),
            (&[&["*"]], "`*`"),
            (&[&["a.*.example"]], "`a.*.example`"),
            (&[&["*.0.0.1"]], "`*.0.0.1`"),
            (&[&["*.127.0.0.1"]], "`*.127.0.0.1`"),
            (&[&[""]], "``"),
            (&[&["127.0.0.1"], &["::1"]], "`::1`"),
        ] {
            let error = hosts(owners).unwrap_err().to_string();
            assert!(error.contains(named), "{owners:?}: {error}");
        }
    }
}
