//! What stands in for keys where none are needed: the gateway answers on the loopback alone, and only to programs of this
//! machine that mean it.
//!
//! Being on the loopback does not keep out the pages that somebody looks at: a browser sends their requests from this
//! machine. So a request has to name this machine (a name that an attacker's DNS points at 127.0.0.1 is not it), and must
//! not come from a page of another origin, which browsers say in `Sec-Fetch-Site` and `Origin`. Programs that are no
//! browsers send neither. Whoever puts a proxy in front has made it public, and has to ask for keys.

use axum::http::{HeaderMap, HeaderValue, Uri, header, uri::Authority};

use crate::{Origin, metrics, problem::Problem};

/// Headers by which proxies say for whom they ask.
const PROXIES: [&str; 4] = ["forwarded", "x-forwarded-for", "x-forwarded-host", "via"];

/// Goes on only if the request comes from a program of this machine, or from a page of an origin that is allowed.
///
/// # Errors
/// [`Problem::NotAllowed`], with the remedy.
pub(crate) fn check(headers: &HeaderMap, uri: &Uri, cors: &[Origin]) -> Result<(), Problem> {
    match refused(headers, uri, cors) {
        None => Ok(()),
        Some(why) => {
            metrics::turned_away("not_local");
            let message = format!("{why}; without keys only programs of this machine are answered");
            Err(Problem::NotAllowed { message })
        }
    }
}

fn refused(headers: &HeaderMap, uri: &Uri, cors: &[Origin]) -> Option<&'static str> {
    if PROXIES.iter().any(|name| headers.contains_key(*name)) {
        return Some("the request came through a proxy: run the gateway with keys");
    }
    let Some(host) = host(headers, uri).filter(|host| is_loopback(host.host())) else {
        return Some(
            "the request does not name this machine: use localhost or 127.0.0.1 as the host",
        );
    };
    let origin = headers.get(header::ORIGIN);
    if origin.is_some_and(|origin| cors.iter().any(|allowed| allowed.0 == *origin)) {
        return None;
    }
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    let is_own = match (site, origin) {
        (Some(site), _) => site == b"same-origin" || site == b"none",
        // A browser that is too old to say.
        (None, Some(origin)) => of_origin(origin).is_some_and(|origin| origin == host),
        (None, None) => true,
    };
    (!is_own).then_some("the request comes from a page of another origin")
}

/// Whom a request was meant for. HTTP/2 has it in the address.
fn host(headers: &HeaderMap, uri: &Uri) -> Option<Authority> {
    let mut named = headers.get_all(header::HOST).iter();
    match (named.next(), named.next(), uri.authority()) {
        (Some(one), None, None) => one.to_str().ok()?.parse().ok(),
        (None, None, Some(authority)) => Some(authority.clone()),
        (Some(one), None, Some(authority)) => {
            (one.as_bytes() == authority.as_str().as_bytes()).then(|| authority.clone())
        }
        _ => None,
    }
}

fn of_origin(origin: &HeaderValue) -> Option<Authority> {
    let (_, authority) = origin.to_str().ok()?.split_once("://")?;
    authority.parse().ok()
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    // RFC 6761 keeps these names for the loopback, and browsers do not ask DNS for them.
    host.eq_ignore_ascii_case("localhost")
        || host.to_ascii_lowercase().ends_with(".localhost")
        || address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn is_answered(uri: &str, given: &[(&'static str, &str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let cors = ["https://ui.example".parse().unwrap()];
        check(&headers, &uri.parse().unwrap(), &cors).is_ok()
    }

    #[test]
    fn only_a_name_of_this_machine_is_answered() {
        for host in [
            "localhost",
            "LOCALHOST:8480",
            "127.0.0.1:8480",
            "127.9.9.9",
            "[::1]:8480",
            "app.localhost",
        ] {
            assert!(is_answered("/v1/batches", &[("host", host)]), "{host}");
            assert!(
                is_answered(&format!("http://{host}/v1/batches"), &[]),
                "{host}"
            );
        }
        for host in [
            "rebound.example:8480",
            "127.0.0.1.rebound.example",
            "localhost.rebound.example",
            "notlocalhost",
            "192.168.1.2",
            "0.0.0.0",
            "[::]",
            "",
            "2130706433",
        ] {
            assert!(!is_answered("/v1/batches", &[("host", host)]), "{host}");
        }
        assert!(!is_answered("/v1/batches", &[]));
        let two = [("host", "localhost"), ("host", "rebound.example")];
        assert!(!is_answered("/v1/batches", &two));
        let other = [("host", "localhost")];
        assert!(!is_answered("http://rebound.example/v1/batches", &other));
    }

    #[test]
    fn no_page_of_another_origin_is_answered() {
        let from = |headers: &[(&'static str, &'static str)]| {
            let host = ("host", "localhost:8480");
            is_answered("/v1/batches", &[&[host], headers].concat())
        };
        assert!(from(&[]));
        for site in ["same-origin", "none"] {
            assert!(from(&[("sec-fetch-site", site)]), "{site}");
        }
        // Another port of this machine may be anybody's page.
        for site in ["cross-site", "same-site", "nonsense"] {
            assert!(!from(&[("sec-fetch-site", site)]), "{site}");
        }
        assert!(from(&[("origin", "http://localhost:8480")]));
        for origin in [
            "http://localhost:3000",
            "http://127.0.0.1:8480",
            "https://evil.example",
            "null",
        ] {
            assert!(!from(&[("origin", origin)]), "{origin}");
        }
        assert!(from(&[
            ("origin", "https://ui.example"),
            ("sec-fetch-site", "cross-site"),
        ]));
        assert!(!from(&[("x-forwarded-for", "203.0.113.9")]));
    }
}
