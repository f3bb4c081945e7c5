//! The contents of a disk, and those that it may have after it has lost power.
//!
//! A sync makes durable all that ended before it began. Everything else is in no order: each write since then may be on
//! the disk or not, in part, and before or after another one. The same holds for names: a file that was made or removed
//! is so for certain once its folder was synced.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::recording::{Call, Recording, Step};
use crate::common::load::Random;

/// The unit that a disk writes, or loses, at once.
const SECTORS: [usize; 2] = [512, 4096];

/// Which syncs a disk carries out.
pub enum Syncs {
    /// All of them.
    All,
    /// All but these, which it only acknowledges.
    AllBut(HashSet<usize>),
    /// None.
    None,
}

/// The files of one folder on a disk, as far as a recording has come.
pub struct Disk<'a> {
    recording: &'a Recording,
    syncs: Syncs,
    files: Vec<File<'a>>,
    /// The file of each name, once all is on the disk.
    names: BTreeMap<&'a str, usize>,
    durable_names: BTreeMap<&'a str, usize>,
    /// Changes of names since the folder was synced: call, name, file.
    pending_names: Vec<Pending<(&'a str, Option<usize>)>>,
    /// The changes that each sync under way makes durable.
    syncing: HashMap<usize, (Synced, Vec<usize>)>,
}

/// The synced contents.
#[derive(Clone, Copy)]
enum Synced {
    Folder,
    File(usize),
}

#[derive(Default)]
struct File<'a> {
    durable: Vec<u8>,
    pending: Vec<Pending<&'a Call>>,
}

/// A change that is not durable yet.
struct Pending<T> {
    call: usize,
    ended: bool,
    change: T,
}

impl<T> Pending<T> {
    fn new(call: usize, change: T) -> Self {
        Self { call, ended: false, change }
    }
}

/// Removes the changes that these calls made, and returns them.
fn take<T>(pending: &mut Vec<Pending<T>>, calls: &[usize]) -> Vec<T> {
    let (taken, left) = std::mem::take(pending).into_iter().partition(|pending| calls.contains(&pending.call));
    *pending = left;
    let taken: Vec<Pending<T>> = taken;
    taken.into_iter().map(|pending| pending.change).collect()
}

fn ended<T>(pending: &[Pending<T>]) -> Vec<usize> {
    pending.iter().filter(|pending| pending.ended).map(|pending| pending.call).collect()
}

impl<'a> Disk<'a> {
    /// An empty folder, before the first step of a recording.
    pub fn new(recording: &'a Recording, syncs: Syncs) -> Self {
        let (names, durable_names) = (BTreeMap::new(), BTreeMap::new());
        let (files, pending_names, syncing) = (Vec::new(), Vec::new(), HashMap::new());
        Self { recording, syncs, files, names, durable_names, pending_names, syncing }
    }

    /// Takes the next step.
    pub fn step(&mut self, step: Step) {
        match step {
            Step::Begin(call) => self.begin(call),
            Step::End(call) => self.end(call),
        }
    }

    fn begin(&mut self, index: usize) {
        let call = &self.recording.calls[index];
        match call {
            Call::Create(name) => {
                if !self.names.contains_key(name.as_str()) {
                    self.files.push(File::default());
                    self.rename(index, name, Some(self.files.len() - 1));
                }
            }
            Call::Unlink(name) => self.rename(index, name, None),
            Call::Write(name, ..) | Call::Truncate(name, _) => {
                self.files[self.names[name.as_str()]].pending.push(Pending::new(index, call));
            }
            Call::SyncFile(name) if self.carries_out(index) => {
                let file = self.names[name.as_str()];
                self.syncing.insert(index, (Synced::File(file), ended(&self.files[file].pending)));
            }
            Call::SyncFolder if self.carries_out(index) => {
                self.syncing.insert(index, (Synced::Folder, ended(&self.pending_names)));
            }
            Call::SyncFile(_) | Call::SyncFolder | Call::Answer(_) => {}
        }
    }

    fn end(&mut self, index: usize) {
        for pending in self.files.iter_mut().flat_map(|file| &mut file.pending) {
            pending.ended |= pending.call == index;
        }
        for pending in &mut self.pending_names {
            pending.ended |= pending.call == index;
        }
        match self.syncing.remove(&index) {
            Some((Synced::File(file), calls)) => {
                let File { durable, pending } = &mut self.files[file];
                take(pending, &calls).into_iter().for_each(|call| apply(durable, call));
            }
            Some((Synced::Folder, calls)) => {
                for (name, file) in take(&mut self.pending_names, &calls) {
                    point(&mut self.durable_names, name, file);
                }
            }
            None => {}
        }
    }

    fn rename(&mut self, call: usize, name: &'a str, file: Option<usize>) {
        point(&mut self.names, name, file);
        self.pending_names.push(Pending::new(call, (name, file)));
    }

    fn carries_out(&self, sync: usize) -> bool {
        match &self.syncs {
            Syncs::All => true,
            Syncs::AllBut(skipped) => !skipped.contains(&sync),
            Syncs::None => false,
        }
    }

    /// Returns the number of changes that could be lost now.
    pub fn pending(&self) -> usize {
        self.pending_names.len() + self.files.iter().map(|file| file.pending.len()).sum::<usize>()
    }

    /// The files as a program sees them that reads them now, without any loss.
    pub fn contents(&self) -> BTreeMap<&'a str, Vec<u8>> {
        self.names.iter().map(|(name, file)| (*name, self.files[*file].newest())).collect()
    }

    /// The files as they may be after a loss of power now.
    pub fn lose_power(&self, random: &mut Random) -> BTreeMap<&'a str, Vec<u8>> {
        let mut names = self.durable_names.clone();
        for Pending { change: (name, file), .. } in &self.pending_names {
            if random.below(2) == 0 {
                point(&mut names, name, *file);
            }
        }
        names.into_iter().map(|(name, file)| (name, self.files[file].lose_power(random))).collect()
    }
}

fn point<'a>(names: &mut BTreeMap<&'a str, usize>, name: &'a str, file: Option<usize>) {
    match file {
        Some(file) => names.insert(name, file),
        None => names.remove(name),
    };
}

impl File<'_> {
    fn newest(&self) -> Vec<u8> {
        let mut content = self.durable.clone();
        self.pending.iter().for_each(|pending| apply(&mut content, pending.change));
        content
    }

    fn lose_power(&self, random: &mut Random) -> Vec<u8> {
        let mut content = self.durable.clone();
        let mut calls: Vec<_> = self.pending.iter().map(|pending| pending.change).collect();
        match random.below(5) {
            0 => return content,
            1 => return self.newest(),
            // As far as it came.
            2 => calls.truncate(random.below(calls.len() as u64 + 1) as usize),
            // Some of them, in any order.
            3 => {
                calls.retain(|_| random.below(2) == 0);
                for last in (1..calls.len()).rev() {
                    calls.swap(last, random.below(last as u64 + 1) as usize);
                }
            }
            // Some sectors of them.
            _ => {
                let sector = SECTORS[random.below(2) as usize];
                calls.drain(..).for_each(|call| apply_some(&mut content, call, sector, random));
            }
        }
        if let Some((last, whole)) = calls.split_last() {
            whole.iter().for_each(|call| apply(&mut content, call));
            apply_torn(&mut content, last, random);
        }
        self.perhaps_lengthen(&mut content, random);
        content
    }

    /// A file may have the length that a write gave it, and in place of what was written zeros or anything else.
    fn perhaps_lengthen(&self, content: &mut Vec<u8>, random: &mut Random) {
        let length = self.newest().len();
        if length > content.len() && random.below(2) == 0 {
            let zeros = random.below(2) == 0;
            content.resize_with(length, || if zeros { 0 } else { random.below(256) as u8 });
        }
    }
}

fn apply(content: &mut Vec<u8>, call: &Call) {
    match call {
        Call::Write(_, offset, bytes) => put(content, *offset, bytes),
        Call::Truncate(_, length) => content.resize(*length, 0),
        other => unreachable!("{other:?} does not change a file"),
    }
}

fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if content.len() < offset + bytes.len() {
        content.resize(offset + bytes.len(), 0);
    }
    content[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// Each sector of a write, or not.
fn apply_some(content: &mut Vec<u8>, call: &Call, sector: usize, random: &mut Random) {
    let Call::Write(_, offset, bytes) = call else {
        if random.below(2) == 0 {
            apply(content, call);
        }
        return;
    };
    let mut at = 0;
    while at < bytes.len() {
        let end = bytes.len().min(at + sector - (offset + at) % sector);
        if random.below(2) == 0 {
            put(content, offset + at, &bytes[at..end]);
        }
        at = end;
    }
}

/// The begin of a write. The sector in which it stopped may have any bytes in the rest that was to be written.
fn apply_torn(content: &mut Vec<u8>, call: &Call, random: &mut Random) {
    let Call::Write(_, offset, bytes) = call else { return apply(content, call) };
    let cut = random.below(bytes.len() as u64 + 1) as usize;
    put(content, *offset, &bytes[..cut]);
    if random.below(2) == 0 {
        let sector = SECTORS[0];
        let end = bytes.len().min(cut + sector - (offset + cut) % sector);
        let rest: Vec<_> = (cut..end).map(|_| random.below(256) as u8).collect();
        put(content, offset + cut, &rest);
    }
}
