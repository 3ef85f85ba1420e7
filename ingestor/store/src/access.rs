//! Who is let in: by the name that was asked for, by the page that asks, by a user's password.
//!
//! A port of this machine is reached by more than its user's programs: by every page in a browser, and by
//! whatever name an attacker lets resolve to it. Pages say where they come from, names are in the
//! request, and both are refused before anything else is looked at. The password is for the rest.

use std::net::IpAddr;

use http::HeaderMap;
use http::header::HOST;
use http::request::Parts;
use ring::hmac;

use crate::error::{ServerError, code};
use crate::request::{Credentials, text};
use crate::users::{StorePasswords, StoreUser};

pub(crate) struct Access {
    /// Makes tags, which are compared in place of passwords: in constant time, whatever their length.
    key: hmac::Key,
    tags: Vec<(StoreUser, hmac::Tag)>,
    /// Host names that are served besides those of every machine's own.
    hosts: Vec<String>,
}

impl Access {
    pub(crate) fn new(passwords: &StorePasswords, hosts: Vec<String>) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &rand::random::<[u8; 32]>());
        let tag = |user| (user, hmac::sign(&key, passwords.of(user).as_bytes()));
        let tags = StoreUser::ALL.map(tag).into();
        Self { key, tags, hosts }
    }

    /// Refuses names that are not the store's, and pages that are not.
    pub(crate) fn check_origin(&self, parts: &Parts) -> Result<(), ServerError> {
        let mut asked = parts.headers.get_all(HOST).iter();
        let in_head = asked.next().map(|host| host.to_str().unwrap_or_default());
        let authority = parts.uri.authority().map(http::uri::Authority::as_str);
        let is_ours = |host: &str| self.serves(host_name(host));
        if asked.next().is_some() || !in_head.into_iter().chain(authority).all(is_ours) {
            return Err(denied(
                "This host name is not served: ask by address or as localhost, or add it to [store] hosts",
            ));
        }
        if is_foreign_page(&parts.headers, in_head) {
            return Err(denied("Pages of other origins are not served"));
        }
        Ok(())
    }

    /// An address is nobody's to rebind; a name is served if it is this machine's, or was set.
    fn serves(&self, name: &str) -> bool {
        let is = |own: &String| own.eq_ignore_ascii_case(name);
        name.eq_ignore_ascii_case("localhost")
            || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
            || self.hosts.iter().any(is)
    }

    /// Whose password that is.
    pub(crate) fn user(&self, credentials: Option<&Credentials>) -> Result<StoreUser, ServerError> {
        let admitted = credentials.and_then(|given| {
            let (user, _) = self
                .tags
                .iter()
                .filter(|(user, _)| user.name() == given.user)
                .find(|(_, tag)| {
                    hmac::verify(&self.key, given.password.as_bytes(), tag.as_ref()).is_ok()
                })?;
            Some(*user)
        });
        admitted.ok_or_else(|| {
            let name = credentials.map_or("default", |given| &given.user);
            ServerError::new(
                code::AUTHENTICATION_FAILED,
                &format!(
                    "{name}: Authentication failed: password is incorrect, or there is no user with \
                     such name. `weir store user` says how to connect"
                ),
            )
        })
    }
}

fn denied(why: &str) -> ServerError {
    ServerError::new(code::ACCESS_DENIED, why)
}

/// The name in `name:port`.
fn host_name(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Whether a browser says that another site's page asks.
fn is_foreign_page(headers: &HeaderMap, host: Option<&str>) -> bool {
    let from = text(headers, "sec-fetch-site");
    if from.is_some_and(|from| !matches!(from, "same-origin" | "none")) {
        return true;
    }
    let Some(origin) = headers.get("origin") else {
        return false;
    };
    let origin = origin.to_str().unwrap_or_default();
    host.is_none() || origin.split_once("://").map(|(_, origin)| origin) != host
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn access() -> Access {
        let passwords = StorePasswords {
            reader: "r".to_owned(),
            operator: "o".to_owned(),
            weir: "w".to_owned(),
        };
        Access::new(&passwords, vec!["store.corp".to_owned()])
    }

    fn is_let_in(headers: &[(&str, &str)]) -> bool {
        let request = headers.iter().fold(Request::get("/"), |request, header| {
            request.header(header.0, header.1)
        });
        let (parts, ()) = request.body(()).unwrap().into_parts();
        access().check_origin(&parts).is_ok()
    }

    #[test]
    fn only_the_stores_own_names_are_served() {
        for host in [
            "127.0.0.1:8123",
            "localhost",
            "LOCALHOST:8123",
            "[::1]:8123",
            "10.0.0.7:8123",
            "Store.Corp:8123",
        ] {
            assert!(is_let_in(&[("host", host)]), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8123",
            "127.0.0.1.evil.example",
            "localhost.evil.example:8123",
            "a store.corp",
            "",
        ] {
            assert!(!is_let_in(&[("host", host)]), "{host}");
        }
        assert!(!is_let_in(&[("host", "localhost"), ("host", "localhost")]));
        // A client from before HTTP/1.1: no browser.
        assert!(is_let_in(&[]));
    }

    #[test]
    fn a_name_in_the_target_counts_too() {
        let request = Request::get("http://evil.example/").header("host", "localhost");
        let (parts, ()) = request.body(()).unwrap().into_parts();
        assert!(access().check_origin(&parts).is_err());
    }

    #[test]
    fn a_page_of_another_origin_is_known() {
        let host = ("host", "127.0.0.1:8123");
        assert!(is_let_in(&[host, ("origin", "http://127.0.0.1:8123")]));
        for own in ["none", "same-origin"] {
            assert!(is_let_in(&[host, ("sec-fetch-site", own)]), "{own}");
        }
        for foreign in [
            ("origin", "https://evil.example"),
            ("origin", "http://127.0.0.1:9000"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            assert!(!is_let_in(&[host, foreign]), "{foreign:?}");
        }
    }

    #[test]
    fn a_password_is_its_users_alone() {
        let user = |user: &str, password: &str| {
            let credentials = Credentials {
                user: user.to_owned(),
                password: password.to_owned(),
            };
            access().user(Some(&credentials)).ok()
        };
        assert_eq!(user("reader", "r"), Some(StoreUser::Reader));
        assert_eq!(user("operator", "o"), Some(StoreUser::Operator));
        assert_eq!(user("weir", "w"), Some(StoreUser::Weir));
        for (name, password) in [
            ("weir", "r"),
            ("weir", ""),
            ("weir", "ww"),
            ("default", ""),
            ("", "w"),
        ] {
            assert_eq!(user(name, password), None, "{name} {password}");
        }
        let refused = access().user(None).unwrap_err();
        assert_eq!(refused.code, code::AUTHENTICATION_FAILED.number);
    }
}
