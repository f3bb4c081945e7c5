use std::error::Error;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE};
use hyper::{Request, StatusCode};
use indicatif::ProgressBar;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::io::ReaderStream;

use super::export::separator;
use super::progress;
use super::remote::{self, Body, Remote};
use crate::api::{ItemRow, NewItemMovement};
use crate::config::{Database, Settings};
use crate::files::dialect::ColumnMap;
use crate::files::errors::ImportError;
use crate::files::import::{Plan, import_file};
use crate::files::rows::{Format, Layout};
use crate::files::separator::Separator;
use crate::server;
use crate::store::postgres::{self, PostgresStore};
use crate::store::sqlite::{self, NewFile, OpenError, SqliteStore};
use crate::store::{GROUP, ImportKind, ImportMode, Imported, Retention, Store};

/// Time limit of an import for the database to become writable.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// Which file to import, and how.
#[derive(clap::Args)]
pub struct Arguments {
    /// The file, or - for standard input
    file: PathBuf,

    /// Format; by default that of the file's extension (.csv, .tsv, .ndjson, .jsonl)
    #[arg(long)]
    format: Option<Format>,

    /// The rows of the file
    #[arg(long, default_value = "items")]
    kind: ImportKind,

    /// Effect of rows of items [default: create]
    #[arg(long)]
    mode: Option<ImportMode>,

    /// The separator of a CSV file: , ; | or tab; found from its header if absent
    #[arg(long, value_parser = separator)]
    separator: Option<Separator>,

    /// Columns that have other names in the file, and columns to ignore: qty=quantity,colour=
    #[arg(long, value_name = "COLUMN=NAME")]
    map: Vec<String>,

    /// Report the outcome without changing anything
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    server: remote::Server,
}

/// Imports the items of a file, all of them or none, and prints what became of them, or everything that is wrong.
pub fn run(settings: &Settings, arguments: &Arguments) -> Result<(), String> {
    let Arguments { file: path, kind, format, mode, separator, map, dry_run, server } = arguments;
    if *kind == ImportKind::Movements && mode.is_some() {
        return Err("--mode is for items, and --kind movements has none".to_owned());
    }
    let name = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
    let format = format
        .or_else(|| Format::of_file(path))
        .ok_or_else(|| format!("cannot tell the format of {name} by its name: pass --format csv or --format ndjson"))?;
    let map = ColumnMap::parse(&map.join(",")).map_err(|invalid| format!("--map {}", invalid.detail))?;
    let layout = Layout { format: Some(format), separator: *separator, map };
    let runtime = super::runtime()?;
    let answer = match server.remote()? {
        Some(server) => runtime.block_on(send(&server, &name, &layout, arguments))?,
        None => runtime.block_on(import(settings, &name, layout, arguments))?,
    };
    match answer {
        Ok(Imported { created, updated, unchanged, changed_fields }) => {
            let fields = changed_fields.iter().map(|(field, count)| format!("{} {count}", field.as_str()));
            let fields = fields.collect::<Vec<_>>().join(", ");
            let fields = if fields.is_empty() { fields } else { format!(" ({fields})") };
            let counts = match kind {
                ImportKind::Items => format!("created {created}, updated {updated}{fields}, unchanged {unchanged}"),
                ImportKind::Movements => format!("moved {updated}, unchanged {unchanged}"),
            };
            println!(
                "{name}: {}",
                if *dry_run { format!("nothing was changed; the outcome would be: {counts}") } else { counts }
            );
            Ok(())
        }
        Err(refused) => Err(refused.report(&name)),
    }
}

/// The outcome of an import.
type Answer = Result<Imported, Refused>;

async fn send(server: &Remote, name: &str, layout: &Layout, arguments: &Arguments) -> Result<Answer, String> {
    let Arguments { file, kind, mode, dry_run, .. } = arguments;
    let mode = mode.map(|mode| mode.as_str().to_owned());
    let map = Some(layout.map.to_text()).filter(|map| !map.is_empty());
    let separator = layout.separator.map(|separator| separator.name().to_owned());
    let path = format!("/import?kind={}&dry_run={dry_run}", kind.as_str());
    let path = remote::with_parameters(path, [("mode", mode), ("map", map), ("separator", separator)]);
    let media_type = layout.format.map_or("application/octet-stream", Format::media_type);
    let request = Request::post(path).header(CONTENT_TYPE, media_type);
    let (input, length) = open(file).map_err(|error| cannot_read(name, &error))?;
    let input = tokio::fs::File::from_std(input);
    let (request, body) = match length {
        Some(length) => {
            (request.header(CONTENT_LENGTH, length), body(input.take(length), progress::bar("sending", Some(length))))
        }
        None => (request, body(input, progress::bar("sending", None))),
    };
    let mut connection = server.connect().await?;
    let failed =
        |error: &dyn Error| format!("the server at {server} broke off, so that it is not known what it did: {error}");
    let answer = connection.send(request.body(body).expect("the request is well-formed")).await;
    let answer = answer.map_err(|error| failed(&error))?;
    if answer.status() != StatusCode::OK {
        return Ok(Err(Refused::by_server(&remote::problem(answer).await)));
    }
    let body = answer.into_body().collect().await.map_err(|error| failed(&error))?;
    serde_json::from_slice(&body.to_bytes()).map(Ok).map_err(|error| failed(&error))
}

/// A body made of what is read.
fn body(input: impl AsyncRead + Send + Sync + 'static, progress: ProgressBar) -> Body {
    let frames = ReaderStream::with_capacity(input, 64 * 1024).map_ok(move |data| {
        progress.inc(data.len() as u64);
        Frame::data(data)
    });
    BodyExt::boxed(StreamBody::new(frames))
}

async fn import(settings: &Settings, name: &str, layout: Layout, arguments: &Arguments) -> Result<Answer, String> {
    let Arguments { file: path, kind, mode, dry_run, .. } = arguments;
    let _log = server::start_log(settings);
    let (input, length) = open(path).map_err(|error| cannot_read(name, &error))?;
    let (store, new) = open_store(settings).await?;
    let (file, length) = match length {
        Some(length) => (input, length),
        None => copy(input, &*store).map_err(|error| cannot_read(name, &error))?,
    };
    // It is read twice.
    let progress = progress::bar("importing", Some(2 * length));
    let counter = progress.clone();
    let plan = Plan {
        layout,
        // The file is the user's own, and takes no space unpacked.
        max_bytes: u64::MAX,
        mode: mode.unwrap_or_default(),
        dry_run: *dry_run,
        queue_timeout: WRITE_TIMEOUT,
        actor: None,
        idempotency: None,
        on_read: Some(Arc::new(move |count| counter.inc(count))),
    };
    let outcome = match kind {
        ImportKind::Items => import_file::<ItemRow>(Arc::clone(&store), file, plan).await,
        ImportKind::Movements => import_file::<NewItemMovement>(Arc::clone(&store), file, plan).await,
    };
    progress.finish_and_clear();
    store.close().await;
    match outcome {
        Ok(written) => {
            if let Some(new) = new.filter(|_| !dry_run) {
                new.keep().map_err(|error| error.to_string())?;
            }
            Ok(Ok(written.outcome))
        }
        Err(refused) => Ok(Err(Refused::from(refused))),
    }
}

/// Opens the store. A SQLite database that does not exist gets its name when the import has succeeded, so that a refused
/// one, and one into a mistyped path, makes none.
async fn open_store(settings: &Settings) -> Result<(Arc<dyn Store>, Option<NewFile>), String> {
    // Only a server forgets what is old: an import does what it says, and a dry run nothing.
    let retention = Retention::new(settings, false);
    match &settings.database {
        Database::Sqlite(path) => {
            let new = if path.symlink_metadata().is_ok() {
                None
            } else {
                sqlite::refuse_existing(path).map_err(|error| error.to_string())?;
                Some(NewFile::create(path).map_err(|error| error.to_string())?)
            };
            match SqliteStore::open_with(new.as_ref().map_or(path, NewFile::path), GROUP, retention) {
                Ok(store) => Ok((Arc::new(store), new)),
                Err(error @ OpenError::InUse { .. }) => {
                    Err(format!("{error}; or send the file to that process with --server"))
                }
                Err(error) => Err(error.to_string()),
            }
        }
        Database::Postgres(url) => match PostgresStore::open_with(url, postgres::CONNECT_TIMEOUT, retention).await {
            Ok(store) => Ok((Arc::new(store), None)),
            Err(error) => Err(error.to_string()),
        },
    }
}

/// The file, or standard input; and its length, if it is something that has one.
fn open(path: &Path) -> io::Result<(File, Option<u64>)> {
    let file =
        if path == Path::new("-") { io::stdin().as_fd().try_clone_to_owned()?.into() } else { File::open(path)? };
    let metadata = file.metadata()?;
    Ok((file, metadata.is_file().then_some(metadata.len())))
}

/// A copy of what can be read only once, and its length.
fn copy(mut input: File, store: &dyn Store) -> io::Result<(File, u64)> {
    let mut copy = store.scratch()?;
    let length = io::copy(&mut input, &mut copy)?;
    Ok((copy, length))
}

/// The reason why nothing was imported.
struct Refused {
    /// Where it is no error of the file.
    reason: String,
    /// The first errors, each as its line in the file, its place there, and what is wrong.
    errors: Vec<(Option<u64>, String, String)>,
    /// The number of all errors.
    count: u64,
}

impl From<ImportError> for Refused {
    fn from(error: ImportError) -> Self {
        let errors = match error {
            ImportError::Invalid(errors) | ImportError::TooManyColumns(errors) | ImportError::Refused(errors) => errors,
            ImportError::TooLarge => {
                return Self { reason: "it is too large".to_owned(), errors: Vec::new(), count: 0 };
            }
            ImportError::NotDone(error) => return Self { reason: error.to_string(), errors: Vec::new(), count: 0 },
            ImportError::Panicked => {
                return Self { reason: "it ended in a panic".to_owned(), errors: Vec::new(), count: 0 };
            }
        };
        let listed = errors.listed().iter().map(|error| {
            let location = error.location.as_ref().map(|location| location.as_str().to_owned());
            (error.line, location.unwrap_or_default(), error.detail.clone())
        });
        Self { reason: String::new(), errors: listed.collect(), count: errors.count() }
    }
}

impl Refused {
    /// The reason that a server gives in a problem document.
    fn by_server(problem: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let error = |error: &Value| {
            let location = ["column", "pointer", "parameter", "header"].map(|location| text(&error[location])).concat();
            (error["line"].as_u64(), location, text(&error["detail"]))
        };
        let errors: Vec<_> = problem["errors"].as_array().into_iter().flatten().map(error).collect();
        let count = problem["error_count"].as_u64().unwrap_or(errors.len() as u64);
        Self { reason: text(&problem["detail"]), errors, count }
    }

    /// Prints all that is wrong with the file, each with its line, and returns a summary.
    fn report(self, name: &str) -> String {
        for (line, location, detail) in &self.errors {
            let line = line.map(|line| format!("{line}:")).unwrap_or_default();
            let location = if location.is_empty() { String::new() } else { format!("{location}: ") };
            eprintln!("{name}:{line} {location}{detail}");
        }
        let count = self.count;
        match self.errors.len() as u64 {
            0 => format!("nothing was imported from {name}: {}", self.reason),
            1 => format!("nothing was imported from {name}: see the error above"),
            listed if listed == count => {
                format!("nothing was imported from {name}: see the {count} errors above")
            }
            listed => {
                format!("nothing was imported from {name}: it has {count} errors, the first {listed} of them above")
            }
        }
    }
}

fn cannot_read(name: &str, error: &io::Error) -> String {
    format!("cannot read {name}: {error}")
}
