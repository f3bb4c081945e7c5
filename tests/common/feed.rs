//! A reader of the feed, as WHATWG HTML, section 9.2, describes one, over HTTP/1.1.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use super::{Server, TIMEOUT};

/// Lines of a feed up to a blank one.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// The reader's position after it.
    pub id: String,
    /// Its entry; nothing in a heartbeat.
    pub entry: Option<Value>,
}

/// Somebody who follows the ledger.
pub struct Follower {
    body: BufReader<Chunks>,
}

impl Follower {
    /// Follows at a path, which begins with `/ledger`, perhaps after an event.
    pub fn connect(server: &Server, path: &str, last_event_id: Option<&str>) -> Self {
        Self::until(server, path, last_event_id, usize::MAX).unwrap()
    }

    /// As [`Follower::connect`], but disconnected after a number of bytes of the body, and without a panic if
    /// the server or its storage is not there, or the position is not (`NotFound`).
    pub fn until(server: &Server, path: &str, last_event_id: Option<&str>, bytes: usize) -> io::Result<Self> {
        let mut connection = BufReader::new(ask(server, path, last_event_id)?);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if connection.read_line(&mut head)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        if head.starts_with("HTTP/1.1 503 ") {
            return Err(ErrorKind::ResourceBusy.into());
        }
        if head.starts_with("HTTP/1.1 410 ") {
            return Err(ErrorKind::NotFound.into());
        }
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        for header in ["content-type: text/event-stream", "cache-control: no-store", "transfer-encoding: chunked"] {
            assert!(head.contains(&format!("\r\n{header}\r\n")), "{header} in {head}");
        }
        let body = Chunks { connection, left: 0, ended: false, bytes };
        Ok(Self { body: BufReader::with_capacity(1, body) })
    }

    /// Reads the next block; `None` once the server has ended the feed in order.
    pub fn block(&mut self) -> io::Result<Option<Block>> {
        let (mut id, mut data) = (None, None);
        loop {
            let mut line = String::new();
            if self.body.read_line(&mut line)? == 0 {
                assert_eq!((id, data), (None, None), "the feed ends between two events");
                return Ok(None);
            }
            match line.trim_end_matches('\n').split_once(": ") {
                None if line == "\n" => return Ok(Some(Block { id: id.expect("each has an id"), entry: data })),
                Some(("id", value)) => assert_eq!(id.replace(value.to_owned()), None),
                Some(("data", value)) => assert_eq!(data.replace(serde_json::from_str(value).unwrap()), None),
                _ => panic!("the feed has a line {line:?}"),
            }
        }
    }

    /// The next entry, with its id.
    pub fn entry(&mut self) -> (String, Value) {
        loop {
            let block = self.block().unwrap().expect("the feed continues");
            if let Some(entry) = block.entry {
                return (block.id, entry);
            }
        }
    }
}

/// Follows the ledger until the position `end`, connecting again by `connect`, with the last id, whenever it is disconnected in
/// a way that `is_cut` knows; all entries that came, and the number of disconnections.
pub fn follow(
    mut connect: impl FnMut(Option<&str>) -> Follower,
    is_cut: fn(&io::Result<Option<Block>>) -> bool,
    end: &AtomicU64,
) -> (Vec<Value>, usize) {
    let (mut last_id, mut entries, mut cuts) = (None::<String>, Vec::new(), 0);
    loop {
        let mut follower = connect(last_id.as_deref());
        loop {
            let block = follower.block();
            if is_cut(&block) {
                break;
            }
            let Block { id, entry } = block.expect("nobody else cuts it off").expect("the feed continues");
            if let Some(entry) = entry {
                assert_eq!(entry["position"], position(&id));
                entries.push(entry);
            }
            let whole = position(&id) as u64 >= end.load(Ordering::Acquire);
            last_id = Some(id);
            if whole {
                return (entries, cuts);
            }
        }
        cuts += 1;
    }
}

/// Asks for the feed and reads nothing of the answer.
pub fn ask(server: &Server, path: &str, last_event_id: Option<&str>) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(server.address())?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let last = last_event_id.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n{last}\r\n")?;
    Ok(stream)
}

/// The position in an event's id.
pub fn position(id: &str) -> i64 {
    id.split_once('-').unwrap().1.parse().unwrap()
}

/// A body in chunks (RFC 9112, section 7.1). Without its last chunk it has no end, but is broken off.
struct Chunks {
    connection: BufReader<TcpStream>,
    left: usize,
    ended: bool,
    /// After how many bytes the reader goes away.
    bytes: usize,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.bytes == 0 {
            return Err(ErrorKind::ConnectionAborted.into());
        }
        if self.left == 0 && !self.ended {
            let size = self.line()?;
            self.left = usize::from_str_radix(&size, 16).unwrap_or_else(|_| panic!("no size of a chunk: {size:?}"));
            if self.left == 0 {
                assert_eq!(self.line()?, "");
                self.ended = true;
            }
        }
        if self.ended {
            return Ok(0);
        }
        let most = buffer.len().min(self.left).min(self.bytes);
        let read = self.connection.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.left -= read;
        self.bytes -= read;
        if self.left == 0 {
            assert_eq!(self.line()?, "");
        }
        Ok(read)
    }
}

impl Chunks {
    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.connection.read_line(&mut line)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.strip_suffix("\r\n").ok_or(ErrorKind::UnexpectedEof)?.to_owned()),
        }
    }
}
