//! A power failure, at any moment, loses nothing that was acknowledged and leaves a database that opens and adds up.
//!
//! The file I/O of a server under load is recorded, and states of the disk that a power failure could have left are built
//! from it. `STOCKROOM_POWER_LOSSES` says how many; `proof/power-loss` asks for a thousand.

mod disk;
mod recording;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use crate::common::load::{self, Acknowledged, Outcomes, Random};
use crate::common::{Inventory, Server, report, strace};
use disk::{Disk, Syncs};
use recording::{Call, DATABASE, LOG, LOG_INDEX, Recording, Step};
use rusqlite::Connection;
use rusqlite::types::Value;
use serde_json::json;
use stockroom::store::sqlite::{self, SqliteStore};
use stockroom::store::{Retention, Store};
use tempfile::TempDir;

/// States that are built unless `STOCKROOM_POWER_LOSSES` says otherwise.
const STATES: usize = 100;

/// States that are built of a disk that does not sync.
const STATES_WITHOUT_SYNCS: usize = 40;

/// One state in so many is served to the end: a server starts on it, repeats an answer and makes a change.
const SERVED: usize = 10;

/// The server runs so often on the same folder, so that there is an old log to remove and a new one to make.
const RUNS: usize = 2;

/// Clients that change items at once, so that commits are shared.
const CLIENTS: u64 = 8;

#[test]
fn a_power_failure_loses_nothing_acknowledged_and_leaves_a_database_that_adds_up() {
    let Some(strace) = strace() else { return };
    let states = std::env::var("STOCKROOM_POWER_LOSSES").map_or(STATES, |count| count.parse().unwrap());
    // More states are worth a longer history.
    let history =
        if states > STATES { History::record(&strace, 200, 2_000) } else { History::record(&strace, 40, 400) };
    report(&history.summary());
    let found = history.lose_power(states, || Syncs::All);
    report(&format!("every sync carried out: {found}"));
    assert!(found.wrong.is_empty(), "{found}\n{}", found.wrong.join("\n"));
    assert!(found.with_pending > states / 2, "most states have something to lose");

    // The same on disks that must fail the test.
    let commits = history.recording.syncs_of_commits();
    let found = history.lose_power(STATES_WITHOUT_SYNCS, || Syncs::AllBut(commits.clone()));
    report(&format!("without the syncs of commits, as with PRAGMA synchronous = NORMAL: {found}"));
    assert!(found.lacking > 0, "{found}");
    let found = history.lose_power(STATES_WITHOUT_SYNCS, || Syncs::None);
    report(&format!("without any sync, as with PRAGMA synchronous = OFF: {found}"));
    assert!(!found.wrong.is_empty(), "{found}");
}

/// A row of the ledger.
type Row = Vec<Value>;

/// Events of a disk, and the knowledge of clients.
struct History {
    recording: Recording,
    /// The whole ledger, as it was in the end.
    ledger: Vec<Row>,
    /// Each success by its request id: the last position of what it acknowledged.
    acknowledged: HashMap<String, usize>,
    /// Each change that can be sent again, by its request id.
    repeatable: HashMap<String, Acknowledged>,
}

impl History {
    /// Runs a server on a new database. In each run each client makes so many changes, and an import comes between.
    fn record(strace: &Path, changes: usize, items: usize) -> Self {
        let (traces, folder) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let (mut inventory, mut outcomes) = (Inventory::from(folder), Outcomes::default());
        let (mut recording, mut imports) = (Recording::default(), Vec::new());
        for run in 0..RUNS {
            let trace = traces.path().join(run.to_string());
            let quiet = ["--log", "info,stockroom::request=warn,stockroom::store=error"];
            let server = Server::start_in_under(inventory, &recording::command(strace, &trace), &quiet);
            if run == 0 {
                load::prepare(&server);
            }
            let load = |part| {
                let name = format!("power{run}{part}");
                load::run(&[&server], &name, CLIENTS, changes / 2, &AtomicBool::new(false))
            };
            outcomes = outcomes.and(load("before"));
            let (beside, imported) = std::thread::scope(|scope| {
                let beside = scope.spawn(|| load("beside"));
                let imported = import(&server, run, items);
                (beside.join().unwrap(), imported)
            });
            outcomes = outcomes.and(beside);
            imports.push(imported);
            let status;
            (status, inventory) = server.stop();
            assert_eq!(status.code(), Some(0));
            recording.append(&trace, inventory.path());
        }
        assert!(outcomes.broken.is_empty(), "{:?}", outcomes.broken);

        let database = inventory.path().join(DATABASE);
        let ledger = ledger(&database);
        let mut acknowledged = positions(&database, &outcomes.acknowledged);
        for (run, request_id) in imports.into_iter().enumerate() {
            acknowledged.insert(request_id, last_imported(&database, run, items));
        }
        let repeatable = outcomes.acknowledged.into_iter().filter(Acknowledged::is_repeatable);
        let repeatable = repeatable.map(|change| (change.request_id.clone(), change)).collect();
        let history = Self { recording, ledger, acknowledged, repeatable };
        history.assert_complete(&database);
        history
    }

    /// The recording rebuilds exactly the files on the disk, and has the events that the test is about.
    fn assert_complete(&self, database: &Path) {
        let mut disk = Disk::new(&self.recording, Syncs::All);
        self.recording.steps.iter().for_each(|step| disk.step(*step));
        let contents = disk.contents();
        assert_eq!(contents.keys().collect::<Vec<_>>(), [&DATABASE], "the server removes its log in the end");
        assert!(contents[DATABASE] == std::fs::read(database).unwrap(), "the recording lacks a change of the database");
        let answers = self.recording.calls.iter().filter(|call| matches!(call, Call::Answer(_))).count();
        assert!(answers >= self.acknowledged.len());
        assert!(self.resets().count() > 2, "the log starts from its begin again");
        assert!(self.checkpoints().count() > 100, "checkpoints write to the database");
    }

    fn summary(&self) -> String {
        let count = |wanted: fn(&Call) -> bool| self.recording.calls.iter().filter(|call| wanted(call)).count();
        let writes = count(|call| matches!(call, Call::Write(..)));
        let syncs = count(|call| matches!(call, Call::SyncFile(_) | Call::SyncFolder));
        let (resets, checkpointed) = (self.resets().count(), self.checkpoints().count());
        format!(
            "recorded {writes} writes ({checkpointed} of them of checkpoints), {syncs} syncs, {resets} headers of logs, \
             {} ledger entries, {} acknowledged changes",
            self.ledger.len(),
            self.acknowledged.len()
        )
    }

    /// The steps at which a call begins for which `wanted` holds.
    fn begins(&self, wanted: impl Fn(&Call) -> bool) -> impl Iterator<Item = usize> {
        let steps = self.recording.steps.iter().enumerate();
        steps.filter_map(move |(at, step)| match step {
            Step::Begin(call) if wanted(&self.recording.calls[*call]) => Some(at),
            _ => None,
        })
    }

    /// Where a log starts from its begin.
    fn resets(&self) -> impl Iterator<Item = usize> {
        self.begins(|call| matches!(call, Call::Write(name, 0, _) if name == LOG))
    }

    /// Where a page of the log is copied into the database.
    fn checkpoints(&self) -> impl Iterator<Item = usize> {
        self.begins(|call| matches!(call, Call::Write(name, ..) if name == DATABASE))
    }

    /// Moments, as counts of steps before them, of which a failure is most likely to find something: a list for each
    /// kind.
    fn moments(&self) -> Vec<Vec<usize>> {
        let end = self.recording.steps.len();
        let around = |begins: Vec<usize>, reach: Range<usize>| -> Vec<usize> {
            begins.into_iter().flat_map(|at| reach.clone().map(move |by| (at + by).min(end))).collect()
        };
        let answers: Vec<_> = self.begins(|call| matches!(call, Call::Answer(_))).collect();
        let syncs: Vec<_> = self.begins(|call| matches!(call, Call::SyncFile(_) | Call::SyncFolder)).collect();
        let names = self.begins(|call| matches!(call, Call::Unlink(_) | Call::SyncFolder)).collect();
        // An import writes more before it syncs than anything else.
        let mut gaps: Vec<_> = syncs.windows(2).map(|pair| pair[0]..pair[1] + 3).collect();
        gaps.sort_by_key(ExactSizeIterator::len);
        vec![
            (0..=end).collect(),
            (0..=answers[0]).collect(),
            around(answers, 1..2),
            around(syncs, 0..3),
            around(self.checkpoints().collect(), 1..2),
            around(self.resets().collect(), 0..20),
            around(names, 0..3),
            gaps.into_iter().rev().take(RUNS).flatten().collect(),
        ]
    }

    /// Builds so many states after a power failure, and examines each.
    fn lose_power(&self, states: usize, syncs: impl Fn() -> Syncs) -> Found {
        let mut random = Random::new(states as u64);
        let kinds = self.moments();
        let pick = |state: usize| {
            let kind = &kinds[state % kinds.len()];
            kind[random.below(kind.len() as u64) as usize]
        };
        let mut moments: Vec<_> = (0..states).map(pick).collect();
        moments.sort_unstable();
        let (mut disk, mut taken) = (Disk::new(&self.recording, syncs()), 0);
        let (mut required, mut last, mut found) = (0, None, Found::default());
        for (number, moment) in moments.into_iter().enumerate() {
            for step in &self.recording.steps[taken..moment] {
                disk.step(*step);
                if let Step::Begin(call) = step
                    && let Call::Answer(id) = &self.recording.calls[*call]
                {
                    required = required.max(self.acknowledged.get(id).copied().unwrap_or(0));
                    last = self.repeatable.get(id).or(last);
                }
            }
            taken = moment;
            found.states += 1;
            found.with_pending += usize::from(disk.pending() > 0);
            let again = if number % SERVED == 0 { last } else { None };
            match self.examine(&disk.lose_power(&mut random), required, again, &mut random) {
                Ok(entries) => {
                    found.required += required;
                    found.beyond += entries - required;
                }
                Err(wrong) => {
                    found.lacking += usize::from(wrong.lacks);
                    found.wrong.push(format!("after {moment} steps: {}", wrong.reason));
                }
            }
        }
        found
    }

    /// Opens a state, which must have the first `required` entries of the ledger, and returns how many it has.
    fn examine(
        &self,
        files: &BTreeMap<&str, Vec<u8>>,
        required: usize,
        again: Option<&Acknowledged>,
        random: &mut Random,
    ) -> Result<usize, Wrong> {
        let folder = TempDir::new().unwrap();
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        if random.below(2) == 0 {
            let garbage: Vec<_> = (0..32 * 1024).map(|_| random.below(256) as u8).collect();
            std::fs::write(folder.path().join(LOG_INDEX), garbage).unwrap();
        }
        let database = folder.path().join(DATABASE);
        if required > 0 {
            // As `stockroom check` finds it, before any server.
            add_up(&database)?;
        }
        open_and_close(&database)?;
        add_up(&database)?;
        let entries = ledger(&database);
        if entries.len() < required {
            let reason = format!("{required} entries were acknowledged, and {} are there", entries.len());
            return Err(Wrong { lacks: true, reason });
        }
        if entries != self.ledger[..entries.len()] {
            return Err(Wrong::from("the ledger is another one".to_owned()));
        }
        if let Some(acknowledged) = again {
            serve(folder, acknowledged)?;
        }
        Ok(entries.len())
    }
}

/// Why a state is wrong.
struct Wrong {
    /// True if it lacks what was acknowledged.
    lacks: bool,
    reason: String,
}

impl From<String> for Wrong {
    fn from(reason: String) -> Self {
        Self { lacks: false, reason }
    }
}

/// Statistics of the states.
#[derive(Default)]
struct Found {
    states: usize,
    /// States in which something was not synced.
    with_pending: usize,
    /// Acknowledged entries, in the sum of all states.
    required: usize,
    /// Further entries that were there.
    beyond: usize,
    /// States that lacked acknowledged entries.
    lacking: usize,
    /// Violations in the states.
    wrong: Vec<String>,
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { states, with_pending, required, beyond, lacking, wrong } = self;
        write!(
            f,
            "{states} states ({with_pending} with unsynced changes), {} wrong, {lacking} of them without acknowledged \
             entries; the others have all {required} acknowledged entries and {beyond} further ones",
            wrong.len()
        )
    }
}

/// Imports items, and returns the id of the request.
fn import(server: &Server, run: usize, items: usize) -> String {
    let mut file = String::new();
    for number in 0..items {
        let item = json!({ "id": format!("imported-{run}-{number}"), "name": "Widget", "quantity": number,
                           "description": format!("A widget of the {number}th kind.").repeat(8) });
        writeln!(file, "{item}").unwrap();
    }
    let answer = server.send("POST", "/import", &[("Content-Type", "application/x-ndjson")], file);
    assert_eq!(answer.expect(200)["created"], items);
    answer.header("x-request-id").unwrap().to_owned()
}

/// The position that each change has in a ledger, by its request id. An answer that shows an item in a version, or a
/// reservation in a state, is true of an entry; of several deletions of one item each has an entry of its own.
fn positions(database: &Path, changes: &[Acknowledged]) -> HashMap<String, usize> {
    let (mut versions, mut deletions) = (HashMap::new(), HashMap::<_, Vec<_>>::new());
    let mut reservations = HashMap::<_, Vec<_>>::new();
    let connection = Connection::open(database).unwrap();
    let mut statement = connection
        .prepare("SELECT position, item_id, version, event, reservation_id FROM ledger ORDER BY position")
        .unwrap();
    let mut rows = statement.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let (position, id): (i64, String) = (row.get(0).unwrap(), row.get(1).unwrap());
        if row.get_ref(3).unwrap() == "deleted".into() {
            deletions.entry(id.clone()).or_default().push(position as usize);
        }
        if let Some(reservation) = row.get::<_, Option<String>>(4).unwrap() {
            reservations.entry(reservation).or_default().push(position as usize);
        }
        versions.insert((id, row.get(2).unwrap()), position as usize);
    }
    let mut deleted = HashMap::<_, usize>::new();
    let position = |change: &Acknowledged| {
        let mut positions: Vec<usize> = change.shown.iter().map(|shown| versions[shown]).collect();
        if let Some(id) = &change.deleted {
            let count = deleted.entry(id.clone()).or_default();
            positions.push(deletions[id][*count]);
            *count += 1;
        }
        if let Some((id, open)) = reservation(&change.body) {
            let (made, closed) = (reservations[&id][0], *reservations[&id].last().unwrap());
            positions.push(if open { made } else { closed });
        }
        (change.request_id.clone(), positions.into_iter().max().expect("a success shows what it came to"))
    };
    changes.iter().map(position).collect()
}

/// The reservation that an answer shows, and whether it is open.
fn reservation(body: &[u8]) -> Option<(String, bool)> {
    let shown: serde_json::Value = serde_json::from_slice(body).ok()?;
    Some((shown["id"].as_str()?.to_owned(), shown["state"].as_str()? == "open"))
}

/// The last position of an import.
fn last_imported(database: &Path, run: usize, items: usize) -> usize {
    let connection = Connection::open(database).unwrap();
    let ids = format!("imported-{run}-*");
    let (count, last): (i64, i64) = connection
        .query_row("SELECT count(*), max(position) FROM ledger WHERE item_id GLOB ?", [ids], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!(count as usize, items);
    last as usize
}

/// The whole ledger in a database file.
fn ledger(database: &Path) -> Vec<Row> {
    let connection = Connection::open(database).unwrap();
    let mut statement = connection.prepare("SELECT * FROM ledger ORDER BY position").unwrap();
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| (0..columns).map(|column| row.get(column)).collect()).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

/// Opens a database as a server does.
fn open_and_close(database: &Path) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // Without the sweep, which would expire what came due since the recording.
        SqliteStore::open_with(database, 256, Retention::without_sweep())
            .map_err(|error| error.to_string())?
            .close()
            .await;
        Ok(())
    })
}

/// Checks a database as `stockroom check` does.
fn add_up(database: &Path) -> Result<(), String> {
    let report = sqlite::check(database).map_err(|error| error.to_string())?;
    if report.wrong.is_empty() { Ok(()) } else { Err(report.wrong.join("; ")) }
}

/// A server on a state repeats an answer that was received, and makes a change.
fn serve(folder: TempDir, acknowledged: &Acknowledged) -> Result<(), String> {
    let server = Server::start_in(folder, &[]);
    let again = load::send_again(&server, std::slice::from_ref(&acknowledged.change));
    if again.acknowledged.len() != 1 || !acknowledged.is_repeated_by(&again.acknowledged[0]) {
        return Err(format!("{acknowledged:?} was repeated as {again:?}"));
    }
    server.post("/inventory", &json!({ "id": "afterwards", "name": "Afterwards" })).expect(201);
    let (status, inventory) = server.stop();
    assert_eq!(status.code(), Some(0));
    add_up(&inventory.path().join(DATABASE))
}
