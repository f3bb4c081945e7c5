//! A file of items, from the disk into the store: first all of it is checked, with no transaction open, and only then is
//! it imported.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::errors::{Errors, FieldError, ImportError};
use super::repeats::Ids;
use super::rows::{Format, ReadRow, Rows, column_of};
use crate::domain::{Actor, Invalid};
use crate::store::{IdempotencyKey, Import, ImportMode, ImportRow, ImportRows, Imported, Store, WriteError, Written};

/// Progress callback, with the bytes just read: each byte of the file comes twice, for the check and for the import.
pub type OnRead = Arc<dyn Fn(u64) + Send + Sync>;

/// Options of an import.
pub struct Plan {
    /// The form of its items; `None` if its first bytes show it.
    pub format: Option<Format>,
    /// What a row may do.
    pub mode: ImportMode,
    /// True to report the outcome and change nothing.
    pub dry_run: bool,
    /// Time limit for the import to begin.
    pub queue_timeout: Duration,
    /// Author of the changes, for the ledger.
    pub actor: Option<Actor>,
    /// Key that makes it safe to send the file again.
    pub idempotency: Option<IdempotencyKey>,
    /// Progress callback.
    pub on_read: Option<OnRead>,
}

/// Imports a file whose rows are `T`, all of it or nothing.
pub async fn import_file<T: ReadRow>(
    store: Arc<dyn Store>,
    file: File,
    plan: Plan,
) -> Result<Written<Imported>, ImportError> {
    let Plan { format, mode, dry_run, queue_timeout, actor, idempotency, on_read } = plan;
    let wanted = Arc::new(());
    let reading = Reading { on_read, wanted: Arc::downgrade(&wanted) };
    let (checking, first) = (Arc::clone(&store), reading.clone());
    let checked = tokio::task::spawn_blocking(move || {
        let format = match format {
            Some(format) => format,
            None => format_of(&file)?,
        };
        let count = check::<T>(Reader::new(&file, first)?, format, mode, &|| checking.scratch())?;
        Ok::<_, ImportError>((rows::<T>(Reader::new(file, reading)?, format, mode)?, count, format))
    });
    let (rows, count, format) = checked.await.map_err(|_| ImportError::Panicked)??;
    let deadline = Instant::now() + queue_timeout;
    let imported = store.import(Import { rows, count, mode, dry_run, actor, deadline, idempotency }).await;
    imported.map_err(|error| match error {
        WriteError::ImportRefused(rows) => ImportError::Refused(in_file::<T>(format, rows.into())),
        error => error.into(),
    })
}

/// The errors of rows, at their places in the file.
fn in_file<T: ReadRow>(format: Format, errors: Errors) -> Errors {
    if format == Format::Ndjson {
        return errors;
    }
    let (columns, mut placed) = (T::columns(), Errors::default());
    placed.extend(errors, |error| FieldError { place: error.place.map(|place| column_of(&columns, place)), ..error });
    placed
}

/// The bytes of a file that show its format, unless it begins with more white space.
const START: usize = 4 * 1024;

fn format_of(mut file: &File) -> io::Result<Format> {
    file.rewind()?;
    let mut start = Vec::with_capacity(START);
    file.take(START as u64).read_to_end(&mut start)?;
    Ok(Format::of_start(&start))
}

/// Returns the number of items in a file, or everything that is wrong with it.
fn check<T: ReadRow>(
    file: Reader<&File>,
    format: Format,
    mode: ImportMode,
    scratch: &dyn Fn() -> io::Result<File>,
) -> Result<u64, ImportError> {
    let mut rows = Rows::<_, T>::new(format, mode, BufReader::new(file))?;
    let (mut count, mut ids, mut errors) = (0, Ids::new(scratch), Errors::default());
    while let Some(row) = rows.next_row()? {
        count += 1;
        match row {
            Ok(ImportRow { id: Some(id), line, .. }) => ids.add(&id, line)?,
            Ok(_) => {}
            Err(of_row) => errors.extend(of_row, |error| error),
        }
    }
    let repeated = ids.repeated(Errors::LISTED)?;
    let mut repetitions = Errors::default();
    repetitions.add_unlisted(repeated.count - repeated.first.len() as u64);
    for (line, earlier) in repeated.first {
        let detail = || format!("has the id that line {earlier} has already");
        repetitions.add(|| FieldError::of_line(line, Invalid::new("repeated-id", detail())));
    }
    let errors = errors.merged_by_line(repetitions);
    if errors.is_empty() { Ok(count) } else { Err(ImportError::Invalid(errors)) }
}

/// Returns the items of a file that was found to be in order, read as they are asked for.
fn rows<T: ReadRow>(file: Reader<File>, format: Format, mode: ImportMode) -> io::Result<ImportRows> {
    let changed = || io::Error::other("the file is another than the one that was checked");
    let mut rows = Rows::<_, T>::new(format, mode, BufReader::new(file)).map_err(|_| changed())?;
    Ok(Box::new(std::iter::from_fn(move || rows.next_row().transpose().map(|row| row?.map_err(|_| changed())))))
}

/// What each reading of the file shares.
#[derive(Clone)]
struct Reading {
    on_read: Option<OnRead>,
    /// Gone when nobody waits for the import any more.
    wanted: Weak<()>,
}

/// Reads a file from its beginning, as long as somebody waits for the import, and tells how far it has come.
struct Reader<R> {
    file: R,
    reading: Reading,
}

impl<R: Seek> Reader<R> {
    fn new(mut file: R, reading: Reading) -> io::Result<Self> {
        file.rewind()?;
        Ok(Self { file, reading })
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.reading.wanted.strong_count() == 0 {
            return Err(io::Error::other("nobody waits for the import any more"));
        }
        let count = self.file.read(buffer)?;
        if let Some(on_read) = &self.reading.on_read {
            on_read(count as u64);
        }
        Ok(count)
    }
}
