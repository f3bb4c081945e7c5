//! A real PostgreSQL for tests: one for each test process, on a free port, with fresh databases.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use stockroom::config::{PostgresAddress, PostgresHost, PostgresUrl};

use super::{component, executable, poll};

/// As whom tests connect: a superuser whom the server trusts.
pub const ROLE: &str = "tester";

/// Makes a cluster, or copies that of another server as its standby, and keeps its server, until its standard input ends,
/// however the test ends. The locale of a new one has another order and another lower case than bytes and Rust.
const SUPERVISE: &str = r#"
    set -eu
    bin=$1 port=$2 primary=$3; shift 3
    folder=$(mktemp -d "${TMPDIR:-/tmp}/stockroom-postgres.XXXXXX")
    pid=
    finish() { [ -z "$pid" ] || kill -QUIT "$pid" 2> /dev/null || true; wait; rm -rf "$folder"; }
    trap finish EXIT
    trap '' HUP INT TERM
    make() { "$bin/initdb" -D "$folder/data" -U tester -A trust --no-sync --encoding=UTF8 "$@" > "$folder/initdb" 2>&1; }
    copy() {
        rm -rf "$folder/data"
        "$bin/pg_basebackup" -D "$folder/data" -h 127.0.0.1 -p "$1" -U tester -R -X stream -c fast --no-sync \
            >> "$folder/log" 2>&1
    }
    if [ -n "$primary" ]; then
        copy "$primary"
    else
        make --locale=C.UTF-8 --locale-provider=icu --icu-locale=tr || { rm -rf "$folder/data"; make --locale=C.UTF-8; }
    fi
    start() {
        "$bin/postgres" -D "$folder/data" -p "$port" -c listen_addresses=127.0.0.1 -c unix_socket_directories="$folder" \
            -c max_connections=300 "$@" >> "$folder/log" 2>&1 < /dev/null &
        pid=$!
    }
    start "$@"
    echo "$folder"
    while read -r word primary; do
        case $word in
            start) start "$@" ;;
            copy) copy "$primary" ;;
            promote) "$bin/pg_ctl" promote -w -D "$folder/data" >> "$folder/log" 2>&1 ;;
            *) kill "-$word" "$pid"; wait "$pid" || true; pid= ;;
        esac
        echo "$word"
    done
"#;

/// A server of PostgreSQL with a cluster of its own.
pub struct Postgres {
    bin: PathBuf,
    port: u16,
    folder: PathBuf,
    control: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    _supervisor: Child,
}

impl Postgres {
    /// The one that the tests of this process share, or nothing after a word that the test is skipped. It loses what is
    /// not yet on the disk if the machine fails, and is the faster for it.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Postgres>> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&["-c", "fsync=off"])).as_ref()
    }

    /// A new one with these settings besides its defaults, or nothing after a word that the test is skipped.
    pub fn start(settings: &[&str]) -> Option<Self> {
        Some(Self::start_from(installed()?, None, settings))
    }

    /// A standby of this server, by streaming replication.
    pub fn standby(&self) -> Self {
        Self::start_from(self.bin.clone(), Some(self.port), &[])
    }

    fn start_from(bin: PathBuf, primary: Option<u16>, settings: &[&str]) -> Self {
        let port = super::free_port();
        let mut command = as_its_user();
        command.args(["sh", "-c", SUPERVISE, "sh"]).arg(&bin).arg(port.to_string());
        command.arg(primary.map_or(String::new(), |port| port.to_string())).args(settings);
        command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut supervisor = command.spawn().unwrap();
        let control = supervisor.stdin.take().unwrap();
        let mut answers = BufReader::new(supervisor.stdout.take().unwrap());
        let mut folder = String::new();
        answers.read_line(&mut folder).unwrap();
        assert!(!folder.is_empty(), "PostgreSQL cannot be set up");
        let control = Mutex::new((control, answers));
        let server = Self { bin, port, folder: folder.trim_end().into(), control, _supervisor: supervisor };
        server.wait_until_ready();
        server
    }

    /// At which port of 127.0.0.1 it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of its cluster and of its socket, which its user owns.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The URL of a database.
    pub fn url(&self, name: &str) -> String {
        format!("postgres://{ROLE}@127.0.0.1:{}/{name}", self.port)
    }

    /// A new and empty database.
    pub fn database(&self) -> String {
        fresh(&self.url("postgres"))
    }

    /// Stops it by a signal (`INT` breaks connections off in order, `QUIT` as a crash does) and waits for its end.
    pub fn stop(&self, signal: &str) {
        self.order(signal);
    }

    /// Starts it again.
    pub fn start_again(&self) {
        self.order("start");
        self.wait_until_ready();
    }

    /// Makes a primary of a standby.
    pub fn promote(&self) {
        self.order("promote");
    }

    /// Starts it again as a standby with a copy of another server.
    pub fn start_as_standby_of(&self, primary: &Self) {
        self.order_with("copy", &primary.port.to_string());
        self.start_again();
    }

    fn order(&self, word: &str) {
        self.order_with(word, "");
    }

    fn order_with(&self, word: &str, value: &str) {
        let (control, answers) = &mut *self.control.lock().unwrap();
        writeln!(control, "{word} {value}").unwrap();
        let mut answer = String::new();
        answers.read_line(&mut answer).unwrap();
        assert_eq!(answer.trim_end(), word);
    }

    fn wait_until_ready(&self) {
        poll("PostgreSQL", || {
            let mut ask = Command::new(self.bin.join("pg_isready"));
            ask.args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
            ask.status().unwrap().success().then_some(())
        });
    }
}

/// Returns whether there is a PostgreSQL, here or at `STOCKROOM_TEST_DATABASE`; otherwise prints that the test is
/// skipped.
pub fn is_there() -> bool {
    std::env::var_os("STOCKROOM_TEST_DATABASE").is_some() || installed().is_some()
}

/// The folder of PostgreSQL's programs, or nothing after a word that the test is skipped.
fn installed() -> Option<PathBuf> {
    component("postgres", || binaries().ok_or_else(|| "there is no PostgreSQL here".to_owned()))
}

fn binaries() -> Option<PathBuf> {
    let in_path = executable("initdb").and_then(|path| path.canonicalize().ok()?.parent().map(Path::to_owned));
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut debian: Vec<_> = debian.map(|version| version.path().join("bin")).collect();
    debian.sort();
    in_path.into_iter().chain(debian.into_iter().rev()).find(|bin| bin.join("postgres").is_file())
}

/// Returns a command prefix for a user who can run PostgreSQL, which refuses root.
fn as_its_user() -> Command {
    if rustix::process::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]);
        command
    } else {
        Command::new("env")
    }
}

/// A new and empty database where `url` leads: a URL like it, with another name.
pub fn fresh(url: &str) -> String {
    let name = format!("stockroom_test_{}", uuid::Uuid::now_v7().simple());
    execute(url, &format!("CREATE DATABASE {name}"));
    let (start, options) = url.split_once('?').map_or((url, String::new()), |(url, rest)| (url, format!("?{rest}")));
    let (start, _) = start.rsplit_once('/').unwrap();
    format!("{start}/{name}{options}")
}

/// A database for a test of promises that every PostgreSQL keeps: where `STOCKROOM_TEST_DATABASE` says, or else on the
/// server of this process; nothing after a word that the test is skipped.
pub fn any_database() -> Option<String> {
    match std::env::var("STOCKROOM_TEST_DATABASE") {
        Ok(url) => Some(fresh(&url)),
        Err(_) => Some(Postgres::shared()?.database()),
    }
}

/// Carries out statements on a database.
pub fn execute(url: &str, sql: &str) {
    query(url, sql);
}

/// Carries out statements on a database, and returns the first column of their answer.
pub fn query(url: &str, sql: &str) -> Vec<String> {
    let (url, sql) = (url.to_owned(), sql.to_owned());
    let asked = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = connect(&url).await;
            let messages = client.simple_query(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
            let rows = messages.iter().filter_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
                _ => None,
            });
            rows.collect()
        })
    });
    asked.join().unwrap()
}

/// A session of the test's own; it ends with the client.
pub async fn connect(url: &str) -> tokio_postgres::Client {
    let url: PostgresUrl = url.parse().unwrap();
    let mut config = tokio_postgres::Config::new();
    let PostgresAddress { host: PostgresHost::Tcp(host), port } = &url.hosts[0] else { panic!("tests connect by TCP") };
    config.host(host).port(*port).user(&url.user).dbname(&url.name).application_name("test");
    if let Some(password) = &url.password {
        config.password(password);
    }
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}
