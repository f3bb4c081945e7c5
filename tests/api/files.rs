//! Files as people have them: each file in `tests/files` comes with the outcome of its import.
//!
//! `FILE.expected.json` has the query of the import, the inventory before it, the answer, and the inventory after it.
//! `UPDATE_FILES=1` writes the last two again.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::common::Server;
use crate::import::timeless;

const EXPECTED: &str = ".expected.json";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files")
}

/// Imports a file into an inventory, and returns the answer and the inventory after it.
fn outcome(server: &Server, name: &str, case: &Value) -> (Value, Value) {
    let file = std::fs::read(folder().join(name)).unwrap();
    let media_type = if name.ends_with(".csv") { "text/csv" } else { "application/x-ndjson" };
    let path = format!("/import{}", case["query"].as_str().unwrap());
    for item in case["inventory"].as_array().into_iter().flatten() {
        server.post("/inventory", item).expect(201);
    }
    let answer = server.send("POST", &path, &[("Content-Type", media_type)], file);
    let mut body = answer.json();
    body["status"] = answer.status.into();
    for member in ["type", "instance", "request_id", "title"] {
        body.as_object_mut().unwrap().remove(member);
    }
    let items = server.all_items();
    for item in &items {
        server.send("DELETE", &format!("/inventory/{}", item["id"].as_str().unwrap()), &[], "").expect(204);
    }
    let items = items.into_iter().map(|item| {
        let mut item = timeless(item);
        // Stockroom made it.
        if item["id"].as_str().unwrap().len() == 36 {
            item["id"] = "(generated)".into();
        }
        item
    });
    (body, items.collect())
}

#[test]
fn each_file_of_the_corpus_has_the_outcome_beside_it() {
    let names = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names: BTreeSet<_> = names.map(|name| name.strip_suffix(EXPECTED).unwrap_or(&name).to_owned()).collect();
    assert!(names.len() >= 40, "{}", names.len());
    let server = Server::start();
    let mut wrong = Vec::new();
    for name in &names {
        let path = folder().join(format!("{name}{EXPECTED}"));
        let mut case: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let (answer, items) = outcome(&server, name, &case);
        if std::env::var_os("UPDATE_FILES").is_some() {
            case["answer"] = answer;
            case["items"] = items;
            std::fs::write(&path, format!("{case:#}\n")).unwrap();
        } else if case["answer"] != answer || case["items"] != items {
            wrong.push(format!("{name}: {:#}", json!({ "answer": answer, "items": items })));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A program that reads a CSV file and writes it again in its own dialect.
struct Spreadsheet {
    name: &'static str,
    separator: u8,
    quotes: csv::QuoteStyle,
    line_end: csv::Terminator,
    decimal_comma: bool,
    encode: fn(&str) -> Vec<u8>,
}

fn utf8(text: &str) -> Vec<u8> {
    text.into()
}

fn utf8_with_mark(text: &str) -> Vec<u8> {
    format!("\u{feff}{text}").into()
}

fn utf16_with_mark(text: &str) -> Vec<u8> {
    format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect()
}

const SPREADSHEETS: [Spreadsheet; 4] = [
    Spreadsheet {
        name: "LibreOffice, which quotes texts",
        separator: b',',
        quotes: csv::QuoteStyle::Always,
        line_end: csv::Terminator::Any(b'\n'),
        decimal_comma: false,
        encode: utf8,
    },
    Spreadsheet {
        name: "Excel in Europe",
        separator: b';',
        quotes: csv::QuoteStyle::Necessary,
        line_end: csv::Terminator::CRLF,
        decimal_comma: true,
        encode: utf8_with_mark,
    },
    Spreadsheet {
        name: "Excel's Unicode text",
        separator: b'\t',
        quotes: csv::QuoteStyle::Necessary,
        line_end: csv::Terminator::CRLF,
        decimal_comma: true,
        encode: utf16_with_mark,
    },
    Spreadsheet {
        name: "a program that writes pipes",
        separator: b'|',
        quotes: csv::QuoteStyle::NonNumeric,
        line_end: csv::Terminator::CRLF,
        decimal_comma: false,
        encode: utf8,
    },
];

impl Spreadsheet {
    fn rewrite(&self, file: &str) -> Vec<u8> {
        let mut reader = csv::Reader::from_reader(file.as_bytes());
        let mut writer = csv::WriterBuilder::new()
            .delimiter(self.separator)
            .quote_style(self.quotes)
            .terminator(self.line_end)
            .from_writer(Vec::new());
        let headers = reader.headers().unwrap().clone();
        writer.write_record(&headers).unwrap();
        for record in reader.records() {
            let record = record.unwrap();
            let cells = headers.iter().zip(&record).map(|(column, cell)| {
                let amount = self.decimal_comma && column == "unit_price_amount";
                if amount { cell.replace('.', ",") } else { cell.to_owned() }
            });
            writer.write_record(cells).unwrap();
        }
        (self.encode)(&String::from_utf8(writer.into_inner().unwrap()).unwrap())
    }
}

#[test]
fn a_file_that_a_spreadsheet_has_written_again_brings_back_every_text() {
    let texts = [
        "plain",
        "a,b;c|d",
        "\"quoted\"",
        "5\" nail",
        "=SUM(A1:A9)",
        "+49 30 1234",
        "-",
        "@home",
        "'single",
        "''",
        "007",
        "1E5",
        "1-2",
        "12,50",
        "3.14",
        "TRUE",
        "null",
        "é ü ß",
        "\u{1f529} \u{200b}",
        "シート",
        "אבג",
        "x".repeat(100).leak(),
    ];
    let server = Server::start();
    let items: Vec<_> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let amount = ["0.05", "12.5", "1250", "1.25", "0.000001"][index % 5];
            json!({
                "id": format!("item-{index:02}"), "name": text, "description": format!("{text}\nand\t\r\n\"{text}\""),
                "category": text, "location": text, "unit": "pc", "quantity": index * 1_000, "reorder_level": index,
                "unit_price": { "amount": amount, "currency": "EUR" }, "attributes": { *text: [text, null, 1.5, true] },
            })
        })
        .collect();
    for item in &items {
        server.post("/inventory", item).expect(201);
    }
    let csv = [("Accept", "text/csv")];
    let exported = server.send("GET", "/export", &csv, "").text().to_owned();
    for spreadsheet in SPREADSHEETS {
        let file = spreadsheet.rewrite(&exported);
        let import = |server: &Server, mode: &str| {
            let path = format!("/import?mode={mode}");
            let answer = server.send("POST", &path, &[("Content-Type", "text/csv")], file.clone()).expect(200);
            (answer["created"].clone(), answer["unchanged"].clone())
        };
        for mode in ["upsert", "update", "replace"] {
            assert_eq!(import(&server, mode), (json!(0), json!(items.len())), "{}, {mode}", spreadsheet.name);
        }
        let moved = Server::start();
        assert_eq!(import(&moved, "create").0, items.len(), "{}", spreadsheet.name);
        let expected: Vec<_> = items.iter().cloned().map(timeless).collect();
        let mut found: Vec<_> = moved.all_items().into_iter().map(timeless).collect();
        found.sort_by_key(|item| item["id"].to_string());
        assert_eq!(found, expected, "{}", spreadsheet.name);
    }
}

/// A partial row: the item's number, its stock if that is there, and the texts of the columns that are there, of which an
/// empty one clears.
#[derive(Clone, Debug)]
struct PartialRow {
    item: usize,
    quantity: Option<u32>,
    texts: [String; 3],
}

#[derive(Clone, Debug)]
struct PartialImport {
    mode: &'static str,
    ndjson: bool,
    /// The columns of the file: description, category, location, and the stock.
    texts: [bool; 3],
    quantity: bool,
    rows: Vec<PartialRow>,
}

const TEXTS: [&str; 3] = ["description", "category", "location"];

impl PartialImport {
    fn file(&self) -> String {
        let quantity = |row: &PartialRow| row.quantity.map_or_else(String::new, |quantity| quantity.to_string());
        let mut rows: Vec<Vec<(&str, String)>> = Vec::new();
        for row in &self.rows {
            let mut cells = vec![("id", format!("i{}", row.item))];
            cells.extend((0..3).filter(|text| self.texts[*text]).map(|text| (TEXTS[text], row.texts[text].clone())));
            cells.extend(self.quantity.then(|| ("quantity", quantity(row))));
            rows.push(cells);
        }
        if self.ndjson {
            let line = |cells: &Vec<(&str, String)>| {
                let members = cells.iter().filter(|(name, cell)| *name != "quantity" || !cell.is_empty());
                let value = |name: &str, cell: &str| match (name, cell) {
                    ("quantity", cell) => cell.parse::<u32>().unwrap().into(),
                    (_, "") => Value::Null,
                    (_, cell) => cell.into(),
                };
                let members = members.map(|(name, cell)| ((*name).to_owned(), value(name, cell)));
                Value::Object(members.collect()).to_string()
            };
            return rows.iter().map(line).collect::<Vec<_>>().join("\n");
        }
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(rows[0].iter().map(|(name, _)| name)).unwrap();
        for cells in &rows {
            writer.write_record(cells.iter().map(|(_, cell)| cell)).unwrap();
        }
        String::from_utf8(writer.into_inner().unwrap()).unwrap()
    }

    /// Does to a model of the inventory what the import is to do.
    fn apply(&self, items: &mut [Value]) {
        for row in &self.rows {
            let item = items[row.item].as_object_mut().unwrap();
            for text in (0..3).filter(|text| self.texts[*text]) {
                match row.texts[text].as_str() {
                    "" => item.remove(TEXTS[text]),
                    text_there => item.insert(TEXTS[text].to_owned(), text_there.into()),
                };
            }
            if let Some(quantity) = row.quantity.filter(|_| self.quantity) {
                item.insert("quantity".to_owned(), quantity.into());
            }
        }
    }
}

fn partial_import() -> impl Strategy<Value = PartialImport> {
    let text = || prop_oneof![Just(String::new()), "[a-c,;\"=é]{1,4}"];
    let row = (0..5_usize, prop::option::of(0..100_u32), [text(), text(), text()])
        .prop_map(|(item, quantity, texts)| PartialRow { item, quantity, texts });
    let rows = prop::collection::vec(row, 1..5).prop_map(|mut rows| {
        rows.sort_by_key(|row| row.item);
        rows.dedup_by_key(|row| row.item);
        rows
    });
    let mode = prop_oneof![Just("upsert"), Just("update")];
    (mode, any::<bool>(), any::<[bool; 3]>(), any::<bool>(), rows)
        .prop_map(|(mode, ndjson, texts, quantity, rows)| PartialImport { mode, ndjson, texts, quantity, rows })
}

#[test]
fn fields_that_a_file_does_not_have_stay_as_they_were() {
    let server = Server::start();
    let config = ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = TestRunner::new(config);
    let stories = prop::collection::vec(partial_import(), 1..6);
    let outcome = runner.run(&stories, |story| {
        let mut items: Vec<_> = (0..5).map(|number| json!({
            "id": format!("i{number}"), "name": format!("Item {number}"), "description": "as new", "category": "parts",
            "location": "A1", "unit": "pc", "quantity": 50, "reorder_level": 2,
            "unit_price": { "amount": "1.50", "currency": "EUR" }, "attributes": { "colour": "red" },
        })).collect();
        for item in &items {
            server.send("DELETE", &format!("/inventory/{}", item["id"].as_str().unwrap()), &[], "");
            server.post("/inventory", item).expect(201);
        }
        for import in &story {
            let media_type = if import.ndjson { "application/x-ndjson" } else { "text/csv" };
            let path = format!("/import?mode={}", import.mode);
            let answer = server.send("POST", &path, &[("Content-Type", media_type)], import.file());
            prop_assert_eq!(answer.status, 200, "{}", answer.text());
            import.apply(&mut items);
            let mut found: Vec<_> = server.all_items().into_iter().map(timeless).collect();
            found.sort_by_key(|item| item["id"].to_string());
            prop_assert_eq!(&found, &items);
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    server.assert_consistent();
}
