use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;

use http_body_util::BodyExt;
use hyper::header::ACCEPT;
use hyper::{Request, StatusCode};
use indicatif::ProgressBar;
use tempfile::NamedTempFile;

use super::progress;
use super::remote::{self, Remote};
use crate::api::ItemView;
use crate::config::{Database, Settings};
use crate::domain::{Invalid, Label, Timestamp};
use crate::files::rows::{Form, Format, RowWriter};
use crate::files::separator::Separator;
use crate::store::{ItemFilter, ItemSink, SearchText, postgres, sqlite};

/// Where the items come from, and where they go.
#[derive(clap::Args)]
pub struct Arguments {
    /// The file to make, which must not be there yet; without it, or as -, standard output
    #[arg(default_value = "-", hide_default_value = true)]
    file: PathBuf,

    /// Format; by default that of the file's extension (.csv, .ndjson, .jsonl), or NDJSON
    #[arg(long)]
    format: Option<Format>,

    /// The separator of a CSV file: , ; | or tab; with ; prices have a decimal comma [default: ,]
    #[arg(long, value_parser = separator)]
    separator: Option<Separator>,

    /// Begin a CSV file with a byte order mark, by which Excel knows UTF-8
    #[arg(long)]
    bom: bool,

    #[command(flatten)]
    filter: Filter,

    #[command(flatten)]
    server: remote::Server,
}

/// The items to export; all of them without a filter.
#[derive(clap::Args)]
struct Filter {
    /// Only items with this text in their id, name or description
    #[arg(long, value_name = "TEXT", value_parser = search_text)]
    q: Option<String>,

    /// Only items of this category
    #[arg(long, value_name = "NAME", value_parser = |text: &str| Label::parse(text).map_err(detail))]
    category: Option<Label>,

    /// Only items at this location
    #[arg(long, value_name = "NAME", value_parser = |text: &str| Label::parse(text).map_err(detail))]
    location: Option<Label>,

    /// Only items with low stock (true), or without (false)
    #[arg(long, value_name = "BOOL")]
    low_stock: Option<bool>,

    /// Only items that changed at this moment or later (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = |text: &str| Timestamp::parse(text).map_err(detail))]
    updated_since: Option<Timestamp>,
}

/// Checks a text to search for, which a server gets as it was typed.
fn search_text(text: &str) -> Result<String, String> {
    SearchText::parse(text).map(|_| text.to_owned()).map_err(detail)
}

fn detail(invalid: Invalid) -> String {
    invalid.detail
}

/// Reads a separator of the command line.
pub fn separator(text: &str) -> Result<Separator, String> {
    Separator::parse(text).map_err(detail)
}

impl Filter {
    fn for_store(&self) -> ItemFilter {
        let Self { q, category, location, low_stock, updated_since } = self;
        ItemFilter {
            barcode: None,
            category: category.clone(),
            location: location.clone(),
            low_stock: *low_stock,
            updated_since: *updated_since,
            text: q.as_ref().and_then(|text| SearchText::parse(text).ok()),
        }
    }

    fn for_query(&self) -> [(&'static str, Option<String>); 5] {
        [
            ("q", self.q.clone()),
            ("category", self.category.as_ref().map(|label| label.as_str().to_owned())),
            ("location", self.location.as_ref().map(|label| label.as_str().to_owned())),
            ("low_stock", self.low_stock.map(|low_stock| low_stock.to_string())),
            ("updated_since", self.updated_since.map(|moment| moment.to_string())),
        ]
    }
}

/// Writes all items, in one consistent snapshot.
pub fn run(settings: &Settings, arguments: &Arguments) -> Result<(), String> {
    let Arguments { file, format, separator, bom, filter, server } = arguments;
    let format = format.or_else(|| Format::of_file(file)).unwrap_or(Format::Ndjson);
    if format == Format::Ndjson && (separator.is_some() || *bom) {
        return Err("--separator and --bom are for CSV: say --format csv, too".to_owned());
    }
    let form = Form { format, separator: separator.unwrap_or_default(), byte_order_mark: *bom };
    let server = server.remote()?;
    let mut output = Output::create(file)?;
    match server {
        Some(server) => super::runtime()?.block_on(ask(&server, form, filter, &mut output))?,
        None => read(settings, form, filter.for_store(), &mut output)?,
    }
    output.finish()
}

async fn ask(server: &Remote, form: Form, filter: &Filter, output: &mut Output) -> Result<(), String> {
    let of_csv = |value: &str| Some(value.to_owned()).filter(|_| form.format == Format::Csv);
    let of_form = [("separator", of_csv(form.separator.name())), ("bom", of_csv(&form.byte_order_mark.to_string()))];
    let path = format!("/export?format={}", form.format.as_str());
    let path = remote::with_parameters(path, of_form.into_iter().chain(filter.for_query()));
    let request = Request::get(path).header(ACCEPT, form.format.media_type()).body(remote::empty());
    let answer = server.connect().await?.send(request.expect("the request is well-formed")).await;
    let answer = answer.map_err(|error| server.does_not_answer(&error))?;
    if answer.status() != StatusCode::OK {
        let problem = remote::problem(answer).await;
        return Err(format!("the server at {server} refuses: {}", problem["detail"].as_str().unwrap_or_default()));
    }
    let mut body = answer.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("the export from {server} broke off: {error}"))?;
        if let Some(data) = frame.data_ref() {
            output.write(data)?;
        }
    }
    Ok(())
}

/// About how many bytes are handed over at once, and how many such parts may wait to be written.
const PART: usize = 64 * 1024;
const PARTS_AHEAD: usize = 2;

fn read(settings: &Settings, form: Form, filter: ItemFilter, output: &mut Output) -> Result<(), String> {
    let (sender, parts) = sync_channel(PARTS_AHEAD);
    let writer = RowWriter::new(form);
    let mut buffer = writer.header();
    let hand_over = move |buffer: &mut Vec<u8>| match sender.send(std::mem::take(buffer)) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    };
    let sink: ItemSink = Box::new(move |item| {
        let Some(item) = item else { return hand_over(&mut buffer) };
        writer.write(&mut buffer, &ItemView::from(item));
        if buffer.len() < PART { ControlFlow::Continue(()) } else { hand_over(&mut buffer) }
    });
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| match &settings.database {
            Database::Sqlite(path) => sqlite::each_item(path, &filter, sink).map_err(|error| error.to_string()),
            Database::Postgres(url) => {
                super::runtime()?.block_on(postgres::each_item(url, &filter, sink)).map_err(|error| error.to_string())
            }
        });
        let written = parts.into_iter().try_for_each(|part| output.write(&part));
        written.and(reading.join().map_err(|_| "the export broke off".to_owned())?)
    })
}

/// Where an export goes: a file, which gets its name once it is complete and on the disk, or standard output.
struct Output {
    name: String,
    to: To,
    progress: ProgressBar,
}

enum To {
    File { path: PathBuf, temporary: BufWriter<NamedTempFile> },
    Standard(BufWriter<io::Stdout>),
}

impl Output {
    fn create(path: &Path) -> Result<Self, String> {
        let progress = progress::bar("exporting", None);
        if path == Path::new("-") {
            let to = To::Standard(BufWriter::new(io::stdout()));
            return Ok(Self { name: "standard output".to_owned(), to, progress });
        }
        let name = path.display().to_string();
        if path.symlink_metadata().is_ok() {
            return Err(format!("{name} exists already, and nothing is overwritten: choose another file"));
        }
        let temporary = tempfile::Builder::new()
            // As any new file: what the umask leaves of it.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(sqlite::folder_of(path));
        let temporary = temporary.map_err(|error| cannot_write(&name, &error))?;
        let to = To::File { path: path.to_owned(), temporary: BufWriter::new(temporary) };
        Ok(Self { name, to, progress })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let written = match &mut self.to {
            To::File { temporary, .. } => temporary.write_all(bytes),
            To::Standard(output) => output.write_all(bytes),
        };
        self.progress.inc(bytes.len() as u64);
        written.map_err(|error| cannot_write(&self.name, &error))
    }

    fn finish(self) -> Result<(), String> {
        let Self { name, to, progress } = self;
        progress.finish_and_clear();
        let finished = match to {
            To::Standard(mut output) => output.flush(),
            To::File { path, temporary } => keep(temporary, &path),
        };
        finished.map_err(|error| cannot_write(&name, &error))
    }
}

fn keep(temporary: BufWriter<NamedTempFile>, path: &Path) -> io::Result<()> {
    let temporary = temporary.into_inner()?;
    temporary.as_file().sync_all()?;
    temporary.persist_noclobber(path)?;
    File::open(sqlite::folder_of(path))?.sync_all()
}

fn cannot_write(name: &str, error: &io::Error) -> String {
    format!("cannot write {name}: {error}")
}
