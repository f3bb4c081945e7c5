//! README.md and docs/ show commands that work, and the output that they have.
//!
//! Each document gets an empty folder and one shell, in which its commands run from top to bottom. In a `console` block
//! the lines after `$ ` are commands, and the others their output. A `sh` block runs as one piece; a `text` block right
//! after it shows its output. A line `…` matches any lines, a `…` within a line any text.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::common::postgres::{self, Postgres};
use crate::common::{poll, report, stockroom, tool};
use regex::Regex;
use tempfile::TempDir;

/// Programs whose blocks are not run, with the reason. Their syntax and their use of `stockroom` are checked.
const NOT_RUN: [(&str, &str); 7] = [
    ("cargo", "builds the program that the test was built with"),
    ("docker", "needs a Docker engine; tests/image/main.rs runs the image"),
    ("kubectl", "needs a cluster; tests/process/deploy.rs validates the manifests"),
    ("nix", "needs Nix; .ci/run builds each output"),
    ("npm", "installs packages; tests/process/contract.rs runs the generated client"),
    ("pip", "installs packages; tests/process/contract.rs runs the generated client"),
    ("sudo", "needs root and systemd; tests/process/deploy.rs verifies the units"),
];

/// An inventory of 42 items, an export that is older than the latest movements, and the files that docs/files.md imports.
const FILES: &str = r#"
    (set -e
    seq 40 | sed 's/.*/part-&,Part &,A1,5/; 1i id,name,location,quantity' > items.csv
    printf 'bolt-m4,Bolt M4,A3,120\nnut-m4,Nut M4,A3,250\n' >> items.csv
    stockroom import items.csv && stockroom export inventory.csv
    printf 'item_id,delta,reason\nbolt-m4,-1,sold\nbolt-m4,-1,sold\n' > sales.csv
    stockroom import sales.csv --kind movements
    sed 's/bolt-m4,Bolt M4,A3,120/bolt-m4,Bolt M4,B7,90/; s/nut-m4,Nut M4,A3,250/nut-m4,Nut M4,A3,200/' items.csv > stock.csv
    printf 'item_id,counted,reason,note\nbolt-m4,118,counted,shelf A3\nnut-m4,248,counted,shelf A3\n' > count.csv
    printf 'sku,title,qty,vendor\nhex-m6,Hex M6,40,ACME\nhex-m8,Hex M8,25,ACME\n' > shop.csv)
"#;

/// State that a document takes for granted, made in its folder before its first command.
const BEFORE: [(&str, &str); 4] = [
    ("docs/files.md", FILES),
    (
        "docs/sqlite.md",
        "printf 'id,name,quantity\\na,Apple,3\\n' > a.csv && stockroom import a.csv && stockroom backup copy.db",
    ),
    ("docs/upgrading.md", "printf 'id,name,quantity\\na,Apple,3\\n' > a.csv && stockroom import a.csv"),
    ("docs/postgresql.md", "printf 'id,name,quantity\\na,Apple,3\\nb,Bolt,4\\n' > a.csv && stockroom import a.csv"),
];

/// Role and server of the examples, as they are in a URL and on the command line of `pg_dump`.
const EXAMPLE_SERVER: [&str; 2] =
    ["stockroom:a-long-password@db.example:5432", "--host db.example --username stockroom"];

/// Values that differ each time.
const VARYING: [&str; 8] = [
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z",
    r"\d{4}-\d\d-\d\d",
    r"stk_[0-9A-Za-z]{20,}",
    r"sha256:[0-9a-f]{64}",
    r"[0-9a-f]{16}-",
    r"127\.0\.0\.1:\d+",
    r"bytes \d+",
];

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// README.md and all documents in docs/.
fn documents() -> Vec<String> {
    let entries = fs::read_dir(repository("docs")).unwrap().map(|entry| entry.unwrap().file_name());
    let names = entries.map(|name| name.into_string().unwrap()).filter(|name| name.ends_with(".md"));
    let mut documents: Vec<_> = names.map(|name| format!("docs/{name}")).collect();
    documents.sort();
    documents.insert(0, "README.md".to_owned());
    documents
}

/// A command of a document, with the output that the document shows.
struct Step {
    line: usize,
    command: String,
    output: Vec<String>,
}

/// A fenced block of commands.
struct Block {
    steps: Vec<Step>,
}

impl Block {
    /// Returns the reason for not running the block.
    fn not_run(&self) -> Option<&'static str> {
        let programs = self.steps.iter().flat_map(|step| step.command.lines());
        programs.flat_map(invocations).find_map(|invocation| {
            let found = NOT_RUN.iter().find(|(program, _)| {
                invocation.strip_prefix(program).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
            });
            found.map(|(_, reason)| *reason)
        })
    }
}

/// The commands of a line, without assignments before them.
fn invocations(line: &str) -> Vec<String> {
    let parts = line.split(['|', ';', '(']).flat_map(|part| part.split("&&"));
    let invocations = parts.map(|part| {
        let words = part.split_whitespace().skip_while(|word| {
            word.split_once('=').is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        });
        words.collect::<Vec<_>>().join(" ")
    });
    invocations.collect()
}

/// The blocks of commands of a document.
fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    // A text block shows output if nothing but blank lines is between it and a `sh` block.
    let mut after_script = false;
    while let Some((number, line)) = lines.next() {
        let Some(language) = line.trim_start().strip_prefix("```") else {
            after_script &= line.is_empty();
            continue;
        };
        let content: Vec<_> =
            lines.by_ref().map(|(_, line)| line).take_while(|line| !line.trim_start().starts_with("```")).collect();
        match language {
            "console" => {
                let mut steps: Vec<Step> = Vec::new();
                for (offset, line) in content.iter().enumerate() {
                    let line = line.trim_start();
                    match (line.strip_prefix("$ "), steps.last_mut()) {
                        (None, Some(step)) if step.command.ends_with('\\') => {
                            step.command.push('\n');
                            step.command.push_str(line);
                        }
                        (Some(command), _) => {
                            let command = command.to_owned();
                            steps.push(Step { line: number + 2 + offset, command, output: Vec::new() });
                        }
                        (None, Some(step)) => step.output.push(line.to_owned()),
                        (None, None) => panic!("line {}: a console block begins with a command", number + 2),
                    }
                }
                blocks.push(Block { steps });
            }
            "sh" => {
                let command = format!("(set -e\n{}\n)", content.join("\n"));
                blocks.push(Block { steps: vec![Step { line: number + 2, command, output: Vec::new() }] });
            }
            "text" if after_script => {
                let step = blocks.last_mut().and_then(|block| block.steps.last_mut()).unwrap();
                step.output = content.iter().map(|&line| line.to_owned()).collect();
            }
            _ => {}
        }
        after_script = language == "sh";
    }
    blocks
}

/// Returns a pattern for the output that a document shows.
fn pattern(output: &[String]) -> Regex {
    let varying = Regex::new(&VARYING.map(|value| format!("({value})")).join("|")).unwrap();
    let mut pattern = String::from("(?s)^");
    for line in output.iter().map(|line| line.trim_end()) {
        if line == "…" {
            pattern.push_str("([^\n]*\n)*?");
            continue;
        }
        for (part, text) in line.split('…').enumerate() {
            if part > 0 {
                pattern.push_str("[^\n]*?");
            }
            let mut end = 0;
            for found in varying.find_iter(text) {
                pattern.push_str(&regex::escape(&text[end..found.start()]));
                let value =
                    VARYING.iter().find(|value| Regex::new(&format!("^({value})$")).unwrap().is_match(found.as_str()));
                write!(pattern, "({})", value.unwrap()).unwrap();
                end = found.end();
            }
            pattern.push_str(&regex::escape(&text[end..]));
        }
        pattern.push_str(" *\n");
    }
    pattern.push('$');
    Regex::new(&pattern).unwrap()
}

/// One shell in a folder, with the built program as `stockroom`.
struct Shell {
    folder: TempDir,
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// The ports of the text, with the real ports and the process ids of the servers on them.
    servers: Vec<(&'static str, u16, u32)>,
    postgres: Option<Postgres>,
}

impl Shell {
    const END: &str = "end-of-step";

    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let program = stockroom(folder.path(), &[]);
        fs::create_dir(folder.path().join(".bin")).unwrap();
        std::os::unix::fs::symlink(program.get_program(), folder.path().join(".bin/stockroom")).unwrap();
        fs::write(folder.path().join(".curlrc"), "silent\nshow-error\nmax-time = 60\n").unwrap();
        let mut command = Command::new("bash");
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("STOCKROOM_")) {
            command.env_remove(name);
        }
        let path = std::env::var("PATH").unwrap_or_default();
        let mut process = command
            .args(["-c", "exec 2>&1; exec bash --norc --noprofile"])
            .env("PATH", format!("{}:{path}", folder.path().join(".bin").display()))
            .env("HOME", folder.path())
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        Self { folder, process, input, output: BufReader::new(output), servers: Vec::new(), postgres: None }
    }

    /// Runs a command to its end, and returns its exit code and its output.
    fn run(&mut self, command: &str) -> (i32, String) {
        writeln!(self.input, "{command}\nprintf '\\n{} %d\\n' $?", Self::END).unwrap();
        let mut output = String::new();
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the shell ended at {command}: {output}");
            if let Some(code) = line.strip_prefix(Self::END) {
                let output = output.strip_suffix('\n').unwrap_or(&output).trim_end_matches('\n');
                let end = if output.is_empty() { "" } else { "\n" };
                return (code.trim().parse().unwrap(), format!("{output}{end}"));
            }
            output.push_str(&line.replace("\r\n", "\n"));
        }
    }

    /// Starts a program in the background, with its output in a file, and returns its process id and the file.
    fn start(&mut self, command: &str) -> (u32, PathBuf) {
        let file = self.folder.path().join(format!(".output-{}", self.servers.len()));
        File::create(&file).unwrap();
        let (_, id) = self.run(&format!("{command} < /dev/null > {} 2>&1 & echo $!", file.display()));
        (id.trim().parse().unwrap_or_else(|_| panic!("{command}: {id}")), file)
    }

    /// Starts a server, and returns once it serves.
    fn serve(&mut self, command: &str) {
        let port = if command.contains(":8081") { ":8081" } else { ":8080" };
        let command = match command.contains(port) {
            true => command.replace(port, ":0"),
            false => format!("STOCKROOM_LISTEN=127.0.0.1:0 {command}"),
        };
        let (id, log) = self.start(&command);
        let address = Regex::new(r#""listen":"127\.0\.0\.1:(\d+)""#).unwrap();
        let found = poll(&format!("the address of {command}"), || {
            let text = fs::read_to_string(&log).unwrap();
            address.captures(&text).map(|found| found[1].parse::<u16>().unwrap())
        });
        let base_path = command.split_once("--base-path ").and_then(|(_, rest)| rest.split_whitespace().next());
        let ready = format!("http://127.0.0.1:{found}{}/readyz", base_path.unwrap_or_default());
        poll(&format!("readiness at {ready}"), || {
            let ready = ureq::get(&ready).call();
            ready.is_ok_and(|answer| answer.status() == 200).then_some(())
        });
        self.servers.push((port, found, id));
    }

    /// Stops the servers in order.
    fn stop_servers(&mut self) {
        for (_, _, id) in std::mem::take(&mut self.servers) {
            self.run(&format!("kill {id}; wait {id}"));
        }
    }

    /// The command with real ports and a real database.
    fn real(&self, command: &str) -> String {
        let mut command = command.to_owned();
        for (port, real, _) in &self.servers {
            command = command.replace(port, &format!(":{real}"));
        }
        if let Some(postgres) = &self.postgres {
            let real = [
                format!("{}@127.0.0.1:{}", postgres::ROLE, postgres.port()),
                format!("--host 127.0.0.1 --port {} --username {}", postgres.port(), postgres::ROLE),
            ];
            for (example, real) in EXAMPLE_SERVER.iter().zip(real) {
                command = command.replace(example, &real);
            }
        }
        command
    }

    /// Runs a step of a document, and compares its output.
    fn step(&mut self, document: &str, step: &Step) {
        let location = format!("{document}:{}: {}", step.line, step.command);
        let words: Vec<_> = step.command.split_whitespace().collect();
        if words[0] == "stockroom" && words.get(1).is_none_or(|word| word.starts_with("--") || *word == "serve") {
            let command = self.real(&step.command);
            return self.serve(&command);
        }
        // The text asks the reader to stop the server before.
        if step.command.starts_with("stockroom restore") {
            self.stop_servers();
        }
        let without_server = !self.servers.iter().any(|(port, ..)| *port == ":8080");
        if without_server && step.command.contains("http://127.0.0.1:8080") {
            self.serve("stockroom --database sqlite:stockroom.db");
        }
        let command = self.real(&step.command);
        let pattern = pattern(&step.output);
        if words[0] == "curl" && words.contains(&"-N") {
            let (id, file) = self.start(&command);
            poll(&format!("the output of {location}"), || {
                pattern.is_match(&fs::read_to_string(&file).unwrap()).then_some(())
            });
            self.run(&format!("kill {id}; wait {id}"));
            return;
        }
        let (code, output) = self.run(&command);
        // An error that the text shows.
        let fails = step.output.iter().any(|line| line.starts_with("stockroom: "));
        assert_eq!(code != 0, fails, "{location}: exit code {code}\n{output}");
        if !step.output.is_empty() {
            let shown = step.output.join("\n");
            assert!(pattern.is_match(&output), "{location}\n-- shown\n{shown}\n-- is\n{output}\n-- pattern\n{pattern}");
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (_, _, id) in &self.servers {
                let _ = Command::new("kill").arg(id.to_string()).status();
            }
        } else {
            self.stop_servers();
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs the commands of a document.
fn run(document: &str) {
    let text = fs::read_to_string(repository(document)).unwrap();
    let mut shell = Shell::new();
    if document == "docs/postgresql.md" {
        let Some(postgres) = Postgres::start(&["-c", "fsync=off"]) else { return };
        for name in ["stockroom", "restored"] {
            let create = format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING UTF8");
            postgres::execute(&postgres.url("postgres"), &create);
        }
        shell.postgres = Some(postgres);
    }
    if let Some((_, before)) = BEFORE.iter().find(|(name, _)| *name == document) {
        let (code, output) = shell.run(before);
        assert_eq!(code, 0, "{document}: {output}");
    }
    let (mut run, mut not_run) = (0, Vec::new());
    for block in blocks(&text) {
        match block.not_run() {
            Some(reason) => not_run.push(format!("{document}:{}: {reason}", block.steps[0].line)),
            None => {
                for step in &block.steps {
                    shell.step(document, step);
                    run += 1;
                }
            }
        }
    }
    report(&format!("{document}: {run} commands run"));
    for block in not_run {
        report(&format!("not run: {block}"));
    }
}

#[test]
fn the_commands_of_each_document_do_as_it_shows() {
    if tool("curl", "curl").is_none() {
        return;
    }
    for document in documents() {
        run(&document);
    }
}

#[test]
fn each_reason_for_not_running_a_block_is_used() {
    let texts: Vec<_> = documents().iter().map(|name| fs::read_to_string(repository(name)).unwrap()).collect();
    let reasons: Vec<_> = texts.iter().flat_map(|text| blocks(text)).filter_map(|block| block.not_run()).collect();
    for (program, reason) in NOT_RUN {
        assert!(reasons.contains(&reason), "no block with {program}");
    }
    for (name, _) in BEFORE {
        assert!(documents().iter().any(|document| document == name), "there is no {name}");
    }
}

#[test]
fn every_command_is_a_command_of_bash_and_uses_what_stockroom_has() {
    let definition = stockroom::cli::command();
    for document in documents() {
        for step in blocks(&fs::read_to_string(repository(&document)).unwrap()).iter().flat_map(|block| &block.steps) {
            let location = format!("{document}:{}: {}", step.line, step.command);
            let checked = Command::new("bash").args(["-n", "-c", &step.command]).output().unwrap();
            assert!(checked.status.success(), "{location}: {}", String::from_utf8_lossy(&checked.stderr));
            for invocation in step.command.lines().flat_map(invocations) {
                let words: Vec<_> = invocation.split_whitespace().map(|word| word.trim_matches('\'')).collect();
                // In `docker run IMAGE …` the image takes the place of the program.
                let program = match words.first() {
                    Some(&"docker") => words.iter().position(|word| word.starts_with("stockroom:")),
                    Some(&"stockroom") => Some(0),
                    _ => None,
                };
                if let Some(program) = program {
                    assert_known(&definition, &words[program + 1..], &location);
                }
            }
        }
    }
}

/// Asserts that subcommands and flags are defined.
fn assert_known(definition: &clap::Command, words: &[&str], location: &str) {
    let mut command = definition;
    for word in words.iter().take_while(|word| !word.starts_with(['#', '>', '&'])) {
        if let Some(flag) = word.strip_prefix("--") {
            let flag = flag.split('=').next().unwrap();
            let known = command.get_arguments().any(|argument| argument.get_long() == Some(flag));
            assert!(known || ["help", "version"].contains(&flag), "{location}: there is no --{flag}");
        } else if let Some(subcommand) = command.find_subcommand(word) {
            command = subcommand;
        }
    }
}

#[test]
fn every_relative_link_leads_to_a_file_and_a_heading() {
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let further = ["ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "deploy/README.md"];
    for document in documents().into_iter().chain(further.map(str::to_owned)) {
        let text = fs::read_to_string(repository(&document)).unwrap();
        for target in link.captures_iter(&text).map(|found| found[1].to_owned()) {
            if target.contains("://") {
                continue;
            }
            let (path, heading) = target.split_once('#').unwrap_or((&target, ""));
            let folder = repository(&document).parent().unwrap().to_owned();
            let file = if path.is_empty() { repository(&document) } else { folder.join(path) };
            assert!(file.exists(), "{document}: {target}");
            if !heading.is_empty() {
                let text = fs::read_to_string(&file).unwrap();
                let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| {
                    let words = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
                    words.chars().filter(|c| c.is_alphanumeric() || *c == '-').collect::<String>()
                });
                assert!(headings.into_iter().any(|known| known == heading), "{document}: {target}");
            }
        }
    }
}

/// The settings as a table, from the definition of the command line.
fn settings() -> String {
    let definition = stockroom::cli::command();
    let mut table = String::from("| flag | variable | default | meaning |\n|---|---|---|---|\n");
    for argument in definition.get_arguments() {
        let (Some(flag), Some(variable)) = (argument.get_long(), argument.get_env()) else { continue };
        let defaults: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        let help = argument.get_help().unwrap().to_string();
        // A default that depends on another setting is part of the help.
        let (help, described) = match help.split_once(" [default: ") {
            Some((help, rest)) => (help.to_owned(), rest.trim_end_matches(']').to_owned()),
            None => (help, String::new()),
        };
        let default = match defaults.join(",") {
            none if none.is_empty() => described,
            default => format!("`{default}`"),
        };
        let mut meaning = help;
        if !argument.get_action().takes_values() || argument.get_possible_values().len() > 2 {
            for value in argument.get_possible_values() {
                let help = value.get_help().map(|help| format!(": {help}")).unwrap_or_default();
                write!(meaning, "; `{}`{}", value.get_name(), help.trim_end_matches('.')).unwrap();
            }
        }
        let variable = variable.to_string_lossy();
        writeln!(table, "| `--{flag}` | `{variable}` | {default} | {} |", meaning.replace('|', "\\|")).unwrap();
    }
    table
}

#[test]
fn every_setting_is_documented() {
    let path = repository("docs/configuration.md");
    let document = fs::read_to_string(&path).unwrap();
    let begin = document.find("<!-- Generated").unwrap();
    let begin = begin + document[begin..].find('\n').unwrap() + 1;
    let end = document.find("<!-- End -->").unwrap();
    let expected = format!("{}\n{}\n{}", &document[..begin], settings(), &document[end..]);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &expected).unwrap();
    }
    let document = fs::read_to_string(&path).unwrap();
    assert!(document == expected, "run UPDATE_DOCS=1 cargo test --test process documents::");
}
