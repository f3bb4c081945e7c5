//! Calls of a server on the files of its database, and the times of its responses, as recorded by strace.
//!
//! strace writes a line when a call ends, and one more when it began if another thread's call came between. A thread that
//! waits for another one's call begins its own after strace has written that end, so the order of the lines never
//! contradicts cause and effect.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use crate::common::poll;

/// All calls that can change a file, make it durable or send an answer; those that [`parse`] does not know fail the test.
const CALLS: &str = "trace=open,openat,creat,unlink,unlinkat,rename,renameat,renameat2,link,linkat,symlink,symlinkat,\
    truncate,ftruncate,fallocate,write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg,sendfile,copy_file_range,splice,\
    fsync,fdatasync,sync_file_range,msync,mmap";

/// The database file.
pub const DATABASE: &str = "stockroom.db";

/// Its write-ahead log.
pub const LOG: &str = "stockroom.db-wal";

/// The index of the log, which SQLite makes from scratch when no process has it open, so that its content never counts.
pub const LOG_INDEX: &str = "stockroom.db-shm";

/// Size of the log's header; frames follow it.
const LOG_HEADER: usize = 32;

/// A call that succeeded. Files are named as in their folder.
#[derive(Debug)]
pub enum Call {
    /// Opened a file, and made it if there was none.
    Create(String),
    /// Removed a name.
    Unlink(String),
    /// Wrote bytes at an offset.
    Write(String, usize, Vec<u8>),
    /// Gave a file this length.
    Truncate(String, usize),
    /// Synced a file.
    SyncFile(String),
    /// Synced the entries of the folder.
    SyncFolder,
    /// Sent a success with this `X-Request-Id`.
    Answer(String),
}

/// Begin or end of the call with this index.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// From here on the call may have had its effect.
    Begin(usize),
    /// By now it has had its effect.
    End(usize),
}

/// The calls of one or several runs of a server on one folder.
#[derive(Debug, Default)]
pub struct Recording {
    /// The calls, in the order in which they began.
    pub calls: Vec<Call>,
    /// Their begins and ends, in order.
    pub steps: Vec<Step>,
}

/// The command line that records the calls of the program after it in the file `trace`.
pub fn command<'a>(strace: &'a Path, trace: &'a Path) -> Vec<&'a str> {
    let (strace, trace) = (strace.to_str().unwrap(), trace.to_str().unwrap());
    // Detached, so that the program is the child; all threads; descriptors with their paths; whole buffers.
    vec![strace, "-D", "-f", "-y", "-s", "100000000", "-e", CALLS, "-e", "signal=none", "-o", trace]
}

impl Recording {
    /// Appends a run of a server that had its database in `folder` and ended in order.
    pub fn append(&mut self, trace: &Path, folder: &Path) {
        let text = poll("strace to write down the end", || {
            let text = std::fs::read_to_string(trace).unwrap();
            text.contains("+++ exited with 0 +++").then_some(text)
        });
        let mut steps = Vec::new();
        for (began, ended, call) in whole_calls(&text) {
            if let Some(call) = parse(&call, folder) {
                let index = self.calls.len();
                self.calls.push(call);
                steps.extend([(began, Step::Begin(index)), (ended, Step::End(index))]);
            }
        }
        // Stable: a call that was not interrupted begins and ends in the same line.
        steps.sort_by_key(|(line, _)| *line);
        self.steps.extend(steps.into_iter().map(|(_, step)| step));
    }

    /// The syncs of the log that end a commit. With `PRAGMA synchronous = NORMAL` SQLite leaves out just these: it syncs
    /// the log's new header, and the log before a checkpoint copies it.
    pub fn syncs_of_commits(&self) -> HashSet<usize> {
        let (mut syncs, mut of_frames) = (HashSet::new(), false);
        let calls = self.calls.iter().enumerate().filter(|(_, call)| !matches!(call, Call::Answer(_)));
        let mut calls = calls.peekable();
        while let Some((index, call)) = calls.next() {
            match call {
                Call::Write(name, offset, _) if name == LOG => of_frames = *offset >= LOG_HEADER,
                Call::SyncFile(name) if name == LOG && of_frames => {
                    let of_checkpoint = matches!(calls.peek(), Some((_, Call::Write(name, ..))) if name == DATABASE);
                    syncs.extend((!of_checkpoint).then_some(index));
                }
                _ => {}
            }
        }
        syncs
    }
}

/// The calls of a trace, each with the lines in which it began and ended.
fn whole_calls(text: &str) -> Vec<(usize, usize, String)> {
    let (mut calls, mut unfinished) = (Vec::new(), HashMap::new());
    for (number, line) in text.lines().enumerate() {
        let (thread, line) = line.split_once(' ').unwrap();
        let line = line.trim_start();
        if let Some(begin) = line.strip_suffix(" <unfinished ...>") {
            unfinished.insert(thread, (number, begin));
        } else if let Some(resumed) = line.strip_prefix("<... ") {
            let (_, end) = resumed.split_once(" resumed>").unwrap();
            let (began, begin) = unfinished.remove(thread).unwrap();
            calls.push((began, number, format!("{begin}{end}")));
        } else if !line.starts_with("+++") {
            calls.push((number, number, line.to_owned()));
        }
    }
    calls.sort_by_key(|(began, ..)| *began);
    calls
}

/// A call, if it succeeded and is of interest.
fn parse(text: &str, folder: &Path) -> Option<Call> {
    let (name, rest) = text.split_once('(').unwrap();
    let (arguments, result) = rest.rsplit_once(" = ")?;
    if result.starts_with('-') {
        return None;
    }
    let arguments = arguments.trim_end().strip_suffix(')').unwrap();
    let descriptor = arguments.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or("", |(path, _)| path);
    let numbers = || arguments.rsplit(", ").map_while(|number| number.parse::<usize>().ok());
    let last_number = || numbers().next().unwrap();
    match name {
        "open" | "openat" | "creat" => {
            let path = result.split_once('<')?.1.strip_suffix('>')?;
            let file = file_in(folder, path)?;
            assert!(name != "creat" && !arguments.contains("O_TRUNC"), "{text}");
            arguments.contains("O_CREAT").then_some(Call::Create(file))
        }
        "unlink" => Some(Call::Unlink(file_in(folder, arguments.trim_matches('"'))?)),
        "ftruncate" => Some(Call::Truncate(file_in(folder, descriptor)?, last_number())),
        "fsync" | "fdatasync" if Path::new(descriptor) == folder => Some(Call::SyncFolder),
        "fsync" | "fdatasync" => Some(Call::SyncFile(file_in(folder, descriptor)?)),
        "pwrite64" => {
            let file = file_in(folder, descriptor)?;
            let bytes = unescaped(arguments.split_once('"').unwrap().1.rsplit_once('"').unwrap().0);
            assert_eq!(result, bytes.len().to_string(), "a part of a write came to the disk");
            Some(Call::Write(file, last_number(), bytes))
        }
        "write" | "writev" | "sendto" | "sendmsg" if descriptor.starts_with("socket:") => {
            let (_, head) = arguments.split_once("\"HTTP/1.1 2")?;
            let (_, id) = head.split_once("x-request-id: ").expect("an answer has an id");
            Some(Call::Answer(id.split_once('\\').unwrap().0.to_owned()))
        }
        _ => {
            let named = text.split(['"', '<', '>']).any(|part| file_in(folder, part).is_some());
            assert!(!named, "the model of a disk does not know {}", &text[..text.len().min(200)]);
            None
        }
    }
}

/// The name of a file of the database whose content counts.
fn file_in(folder: &Path, path: &str) -> Option<String> {
    let path = Path::new(path);
    let name = path.file_name()?.to_str()?;
    let counts = name.starts_with(DATABASE) && name != LOG_INDEX && !name.ends_with("-lock");
    (counts && path.parent() == Some(folder)).then(|| name.to_owned())
}

/// The bytes of a string that strace wrote.
fn unescaped(text: &str) -> Vec<u8> {
    let text = text.as_bytes();
    let (mut bytes, mut at) = (Vec::with_capacity(text.len()), 0);
    while at < text.len() {
        at += 1;
        if text[at - 1] != b'\\' {
            bytes.push(text[at - 1]);
            continue;
        }
        at += 1;
        bytes.push(match text[at - 1] {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'v' => 0x0b,
            b'f' => 0x0c,
            first @ b'0'..=b'7' => {
                let mut byte = u32::from(first - b'0');
                let end = text.len().min(at + 2);
                while at < end && matches!(text[at], b'0'..=b'7') {
                    byte = byte * 8 + u32::from(text[at] - b'0');
                    at += 1;
                }
                byte as u8
            }
            other => other,
        });
    }
    bytes
}
