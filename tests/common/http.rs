//! Requests over a real connection, and their responses.

use std::io::Read;

use serde_json::Value;
use ureq::http::{HeaderMap, Method, Request};

use super::{Server, TIMEOUT};

/// A client that keeps its connection from one request to the next.
pub struct Client<'a> {
    pub(super) server: &'a Server,
    pub(super) agent: ureq::Agent,
}

impl Client<'_> {
    /// `DELETE`.
    pub fn delete(&mut self, path: &str) -> Answer {
        send_by(&self.agent, &self.server.url(path), "DELETE", &[], Vec::new())
    }

    /// `POST` with a JSON body.
    pub fn post(&mut self, path: &str, body: &Value) -> Answer {
        let headers = [("Content-Type", "application/json")];
        send_by(&self.agent, &self.server.url(path), "POST", &headers, body.to_string().into_bytes())
    }
}

/// Sends a request to a URL on a connection of its own and reads the whole answer.
pub fn send(url: &str, method: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Answer {
    send_by(&agent(), url, method, headers, body.into())
}

pub(super) fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .allow_non_standard_methods(true)
        .timeout_global(Some(TIMEOUT))
        .build();
    ureq::Agent::new_with_config(config)
}

fn send_by(agent: &ureq::Agent, url: &str, method: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
    try_send(agent, url, method, headers, body).unwrap_or_else(|error| panic!("{method} {url}: {error}"))
}

/// Sends a request to a server that may be gone before it has answered.
pub(super) fn try_send(
    agent: &ureq::Agent,
    url: &str,
    method: &str,
    headers: &[(&str, &str)],
    body: impl Into<Vec<u8>>,
) -> Result<Answer, ureq::Error> {
    let body = body.into();
    let mut request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = if body.is_empty() && !matches!(method, "POST" | "PUT" | "PATCH") {
        agent.run(request.body(()).unwrap())
    } else {
        agent.run(request.body(body).unwrap())
    };
    let mut answer = answer?;
    let mut bytes = Vec::new();
    answer.body_mut().as_reader().read_to_end(&mut bytes)?;
    Ok(Answer { status: answer.status().as_u16(), headers: answer.headers().clone(), body: bytes })
}

/// Response of a server.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, still compressed if it was sent so.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header that is there once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?;
        assert!(values.next().is_none(), "{name} is there twice");
        Some(value.to_str().unwrap())
    }

    /// Where the next page of a list is, if there is one: its link with `rel="next"` (RFC 8288).
    pub fn next_page(&self) -> Option<&str> {
        self.header("link").map(|link| link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap())
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON, of an answer with this status.
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    /// The text, of an answer that is a page for people.
    pub fn expect_page(&self) -> String {
        assert_eq!((self.status, self.header("content-type")), (200, Some("text/html; charset=utf-8")));
        assert!(self.header("content-security-policy").unwrap().contains("default-src 'none'"));
        self.text()
    }

    /// The problem, of an answer with this status that is a whole and proper one of this kind.
    pub fn problem(&self, status: u16, name: &str) -> Value {
        let problem = self.expect(status);
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        assert_eq!(problem["type"], format!("/problems/{name}"));
        assert_eq!(problem["status"], status);
        assert_eq!(problem["request_id"].as_str(), self.header("x-request-id"));
        for member in ["title", "detail", "instance"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member} in {problem}");
        }
        problem
    }

    /// The places and codes of the errors of a problem, sorted.
    pub fn errors(&self) -> Vec<(String, String)> {
        let problem = self.json();
        let mut errors: Vec<_> = problem["errors"]
            .as_array()
            .unwrap_or_else(|| panic!("no errors in {problem}"))
            .iter()
            .map(|error| {
                let inventory =
                    ["pointer", "parameter", "header"].iter().find_map(|inventory| error[*inventory].as_str());
                assert!(error["detail"].as_str().is_some_and(|text| !text.is_empty()), "{error}");
                (inventory.expect("an error has a inventory").to_owned(), error["code"].as_str().unwrap().to_owned())
            })
            .collect();
        errors.sort();
        errors
    }
}

/// Pairs of texts, as [`Answer::errors`] gives them.
pub fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(inventory, code)| ((*inventory).to_owned(), (*code).to_owned())).collect()
}
