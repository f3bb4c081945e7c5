//! Which ids a file has more than once, found without holding all of them in memory.
//!
//! Each id goes, as a digest with its line, into one of several files by its first byte; each of these is then small
//! enough to be sorted. Two ids with one digest of 128 bits are not to be expected in the life of the universe.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};

use sha2::{Digest, Sha256};

use crate::domain::ItemId;

/// Among how many files the ids are spread: a file with ten million ids has parts of 8 MB.
const PARTS: usize = 32;

const DIGEST: usize = 16;
const LINE: usize = size_of::<u64>();

/// The ids of a file so far.
pub struct Ids<'a> {
    scratch: &'a dyn Fn() -> io::Result<File>,
    parts: [Option<BufWriter<File>>; PARTS],
}

/// The ids that are there more than once.
#[derive(Default)]
pub struct Repeated {
    /// The lines where an id stands again, each with the line where it stood first: the first ones only.
    pub first: BTreeMap<u64, u64>,
    /// How many lines there are where an id stands again.
    pub count: u64,
}

impl<'a> Ids<'a> {
    /// No ids yet; `scratch` makes the files.
    pub fn new(scratch: &'a dyn Fn() -> io::Result<File>) -> Self {
        Self { scratch, parts: [const { None }; PARTS] }
    }

    /// Adds the id that stands in this line.
    pub fn add(&mut self, id: &ItemId, line: u64) -> io::Result<()> {
        let digest = Sha256::digest(id.as_str());
        let part = &mut self.parts[usize::from(digest[0]) % PARTS];
        let part = match part {
            Some(part) => part,
            none => none.insert(BufWriter::new((self.scratch)()?)),
        };
        part.write_all(&digest[..DIGEST])?;
        part.write_all(&line.to_le_bytes())
    }

    /// Finds those that are there more than once, and tells of at most `limit` of them by their lines.
    pub fn repeated(self, limit: usize) -> io::Result<Repeated> {
        let mut repeated = Repeated::default();
        for part in self.parts.into_iter().flatten() {
            let mut ids = read_part(part.into_inner()?)?;
            ids.sort_unstable();
            let mut first: Option<&([u8; DIGEST], u64)> = None;
            for id in &ids {
                match first {
                    Some((digest, line)) if *digest == id.0 => {
                        repeated.count += 1;
                        repeated.first.insert(id.1, *line);
                        if repeated.first.len() > limit {
                            repeated.first.pop_last();
                        }
                    }
                    _ => first = Some(id),
                }
            }
        }
        Ok(repeated)
    }
}

fn read_part(mut file: File) -> io::Result<Vec<([u8; DIGEST], u64)>> {
    let length = file.stream_position()? as usize;
    file.rewind()?;
    let mut input = BufReader::new(file);
    let mut ids = Vec::with_capacity(length / (DIGEST + LINE));
    for _ in 0..ids.capacity() {
        let (mut digest, mut line) = ([0; DIGEST], [0; LINE]);
        input.read_exact(&mut digest)?;
        input.read_exact(&mut line)?;
        ids.push((digest, u64::from_le_bytes(line)));
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_that_repeats_an_id_is_counted_and_the_first_ones_are_told() {
        let scratch = || tempfile::tempfile();
        let mut ids = Ids::new(&scratch);
        for line in 1..=300 {
            ids.add(&ItemId::parse(format!("item-{}", line % 100)).unwrap(), line).unwrap();
        }
        let repeated = ids.repeated(3).unwrap();
        assert_eq!(repeated.count, 200);
        assert_eq!(Vec::from_iter(repeated.first), [(101, 1), (102, 2), (103, 3)]);
    }
}
