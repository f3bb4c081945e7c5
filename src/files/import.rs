//! A file of items, from the disk into the store: first all of it is checked, with no transaction open, and only then is
//! it imported.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::errors::{Errors, FieldError, ImportError, Location, found};
use super::input::Text;
use super::repeats::{Ids, Repetition};
use super::rows::{Format, Layout, ReadRow, Rows};
use super::table::in_column;
use crate::domain::{Actor, Invalid};
use crate::store::{
    IdempotencyKey, Import, ImportMode, ImportRow, ImportRows, Imported, RowContent, Store, WriteError, Written,
};

/// Progress callback, with the bytes just read: each byte of the file comes twice, for the check and for the import.
pub type OnRead = Arc<dyn Fn(u64) + Send + Sync>;

/// Options of an import.
pub struct Plan {
    /// The form of the file.
    pub layout: Layout,
    /// The most bytes that the file may have when it is unpacked.
    pub max_bytes: u64,
    /// Effect of rows on items.
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
    let Plan { layout, max_bytes, mode, dry_run, queue_timeout, actor, idempotency, on_read } = plan;
    let wanted = Arc::new(());
    let reading = Reading { on_read, wanted: Arc::downgrade(&wanted) };
    let checking = Arc::clone(&store);
    let checked = tokio::task::spawn_blocking(move || {
        let text = Text::open(Reader::new(&file, reading.clone())?, max_bytes)?;
        let (count, format) = check::<T>(text, &layout, mode, &|| checking.scratch())?;
        let text = Text::open(Reader::new(file, reading)?, max_bytes)?;
        Ok::<_, ImportError>((rows::<T>(text, &layout, mode)?, count, format))
    });
    let (rows, count, format) = checked.await.map_err(|_| ImportError::Panicked)??;
    let deadline = Instant::now() + queue_timeout;
    let imported = store.import(Import { rows, count, mode, dry_run, actor, deadline, idempotency }).await;
    imported.map_err(|error| match error {
        WriteError::ImportRefused(rows) => ImportError::Refused(in_file::<T>(format, rows.into())),
        error => error.into(),
    })
}

/// The errors of rows, at their locations in the file.
fn in_file<T: ReadRow>(format: Format, errors: Errors) -> Errors {
    let columns = T::columns();
    if format == Format::Csv { errors.map(|error| in_column(&columns, error)) } else { errors }
}

/// Returns the number of items in a file and its format, or everything that is wrong with it.
fn check<T: ReadRow>(
    text: Text<'_>,
    layout: &Layout,
    mode: ImportMode,
    scratch: &dyn Fn() -> io::Result<File>,
) -> Result<(u64, Format), ImportError> {
    let mut rows = Rows::<_, T>::open(text, layout, mode)?;
    let (mut count, mut ids, mut errors) = (0, Ids::new(scratch), Errors::default());
    while let Some(row) = rows.next_row()? {
        count += 1;
        match row {
            Ok(ImportRow { line, content: RowContent::Item { id: Some(id), .. } }) => ids.add(&id, line)?,
            Ok(_) => {}
            Err(of_row) => errors.extend(of_row, |error| error),
        }
    }
    let repeated = ids.repeated(Errors::LISTED)?;
    let mut repetitions = Errors::default();
    repetitions.add_unlisted(repeated.count - repeated.first.len() as u64);
    for (line, Repetition { id, earlier }) in repeated.first {
        let detail = || format!("must be there only once, and is in line {earlier} already{}", found(id.as_str()));
        let location = Location::Pointer("/id".to_owned());
        let error = || FieldError::new(location, Invalid::new("repeated-id", detail()));
        repetitions.add(|| FieldError { line: Some(line), ..error() });
    }
    let errors = errors.merged_by_line(in_file::<T>(rows.format(), repetitions));
    if errors.is_empty() { Ok((count, rows.format())) } else { Err(ImportError::Invalid(errors)) }
}

/// Returns the items of a file that was found to be in order, read as they are asked for.
fn rows<T: ReadRow>(text: Text<'static>, layout: &Layout, mode: ImportMode) -> Result<ImportRows, ImportError> {
    let changed = || io::Error::other("the file is another than the one that was checked");
    let mut rows = Rows::<_, T>::open(text, layout, mode)?;
    Ok(Box::new(std::iter::from_fn(move || rows.next_row().transpose().map(|row| row?.map_err(|_| changed())))))
}

/// State that both readings of the file share.
#[derive(Clone)]
struct Reading {
    on_read: Option<OnRead>,
    /// Gone when nobody waits for the import any more.
    wanted: Weak<()>,
}

/// Reads a file from its beginning, as long as somebody waits for the import, and reports its progress.
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
