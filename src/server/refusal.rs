//! The answers that hyper gives by itself, to a request whose head it cannot read: a bare status, which no layer above
//! can reach. They are found where they leave, and a problem is written in their place.

use bytes::Bytes;

use crate::api::problem::{Kind, MEDIA_TYPE, Problem};
use crate::api::{REQUEST_ID, RequestId};

/// The answer to send in place of `written`, if that is all of one of hyper's own: it has no body, and names no request.
pub fn in_place_of(written: &[u8], base_path: &str) -> Option<Bytes> {
    let (kind, detail) = match written.get(..12)? {
        b"HTTP/1.1 400" => (Kind::MalformedRequest, "What was sent is not a request of HTTP/1.1 (RFC 9112)."),
        b"HTTP/1.1 431" => {
            (Kind::HeadTooLarge, "The request has more header fields, or longer ones, than this server reads.")
        }
        _ => return None,
    };
    let has = |part: &[u8]| written.windows(part.len()).any(|window| window == part);
    let ends_with_its_head = written.strip_suffix(b"\r\n\r\n").is_some_and(|head| !head.ends_with(b"\r\n"));
    if !ends_with_its_head || !has(b"\r\ncontent-length: 0\r\n") || has(REQUEST_ID.as_bytes()) {
        return None;
    }
    let id = RequestId::generate();
    tracing::info!(
        target: "stockroom::request",
        status = kind.status().as_u16(),
        problem = kind.name(),
        request_id = id.as_str(),
        "a request that could not be read"
    );
    let body = Problem::new(kind, detail).to_json(base_path, None, id.as_str());
    let written = String::from_utf8_lossy(written);
    let date: String =
        written.lines().filter(|line| line.starts_with("date: ")).map(|line| format!("{line}\r\n")).collect();
    let head = format!(
        "HTTP/1.1 {status}\r\n{date}content-type: {MEDIA_TYPE}\r\ncontent-length: {length}\r\ncache-control: no-store\r\n\
         x-content-type-options: nosniff\r\n{REQUEST_ID}: {id}\r\nconnection: close\r\n\r\n",
        status = kind.status(),
        length = body.len(),
        id = id.as_str(),
    );
    Some([head.as_bytes(), &body].concat().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answers_that_no_request_of_ours_got_are_replaced() {
        let bare = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\
            date: Tue, 24 Nov 2026 10:00:00 GMT\r\n\r\n";
        let text = String::from_utf8(in_place_of(bare, "/base").unwrap().to_vec()).unwrap();
        assert!(text.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"), "{text}");
        assert!(text.contains("\r\ndate: Tue, 24 Nov 2026 10:00:00 GMT\r\n"), "{text}");
        assert!(text.contains("\"/base/problems/head-too-large\""), "{text}");
        for ours in [
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nx-request-id: 7\r\n\r\n",
            // What somebody wrote into an item, on its way in a body.
            "HTTP/1.1 400 Bad Request is what I got",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\nand more",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\n\r\n",
            "HTTP/1.1",
        ] {
            assert_eq!(in_place_of(ours.as_bytes(), ""), None, "{ours}");
        }
    }
}
