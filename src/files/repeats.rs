//! Ids that a file has more than once, found without holding all of them in memory.
//!
//! Each id goes with its line into one of several files by its hash; each of these is then small enough to be sorted.

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufWriter, Read, Seek, Write};

use crate::domain::ItemId;

/// The number of files among which the ids are spread: a file with ten million ids has parts of some 10 MB.
const PARTS: usize = 32;

/// The ids of a file so far.
pub struct Ids<'a> {
    scratch: &'a dyn Fn() -> io::Result<File>,
    parts: [Option<BufWriter<File>>; PARTS],
    hashes: RandomState,
}

/// An id that a line of a file has, and an earlier line, too.
#[derive(Debug, PartialEq, Eq)]
pub struct Repetition {
    /// The id.
    pub id: ItemId,
    /// The first line that has it.
    pub earlier: u64,
}

/// The ids that are there more than once.
#[derive(Default)]
pub struct Repeated {
    /// The first lines that repeat an id.
    pub first: BTreeMap<u64, Repetition>,
    /// Number of lines that repeat an id.
    pub count: u64,
}

impl<'a> Ids<'a> {
    /// No ids yet; `scratch` makes the files.
    pub fn new(scratch: &'a dyn Fn() -> io::Result<File>) -> Self {
        Self { scratch, parts: [const { None }; PARTS], hashes: RandomState::new() }
    }

    /// Adds the id of a line.
    pub fn add(&mut self, id: &ItemId, line: u64) -> io::Result<()> {
        let part = &mut self.parts[self.hashes.hash_one(id.as_str()) as usize % PARTS];
        let part = match part {
            Some(part) => part,
            none => none.insert(BufWriter::new((self.scratch)()?)),
        };
        let text = id.as_str();
        part.write_all(&[u8::try_from(text.len()).expect("an id has at most 64 bytes")])?;
        part.write_all(text.as_bytes())?;
        part.write_all(&line.to_le_bytes())
    }

    /// Finds the ids that are there more than once, and returns the lines of at most `limit` of them.
    pub fn repeated(self, limit: usize) -> io::Result<Repeated> {
        let mut repeated = Repeated::default();
        for part in self.parts.into_iter().flatten() {
            let mut bytes = Vec::new();
            let mut file = part.into_inner()?;
            file.rewind()?;
            file.read_to_end(&mut bytes)?;
            let mut entries: Vec<_> = entries(&bytes).collect();
            entries.sort_unstable();
            let mut first: Option<(&[u8], u64)> = None;
            for (id, line) in entries {
                match first {
                    Some((earlier_id, earlier)) if earlier_id == id => {
                        repeated.count += 1;
                        let id = ItemId::parse(String::from_utf8_lossy(id)).expect("an id was written");
                        repeated.first.insert(line, Repetition { id, earlier });
                        if repeated.first.len() > limit {
                            repeated.first.pop_last();
                        }
                    }
                    _ => first = Some((id, line)),
                }
            }
        }
        Ok(repeated)
    }
}

/// The ids in a part, each with its line: without a copy of each, since there may be hundreds of thousands.
fn entries(mut bytes: &[u8]) -> impl Iterator<Item = (&[u8], u64)> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first()?;
        let (id, rest) = rest.split_at(usize::from(*length));
        let (line, rest) = rest.split_first_chunk()?;
        bytes = rest;
        Some((id, u64::from_le_bytes(*line)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_that_repeats_an_id_is_counted_and_the_first_ones_are_listed() {
        let scratch = || tempfile::tempfile();
        let mut ids = Ids::new(&scratch);
        for line in 1..=300 {
            ids.add(&ItemId::parse(format!("item-{}", line % 100)).unwrap(), line).unwrap();
        }
        let repeated = ids.repeated(3).unwrap();
        assert_eq!(repeated.count, 200);
        let first: Vec<_> =
            repeated.first.iter().map(|(line, again)| (*line, again.id.as_str(), again.earlier)).collect();
        assert_eq!(first, [(101, "item-1", 1), (102, "item-2", 2), (103, "item-3", 3)]);
    }
}
