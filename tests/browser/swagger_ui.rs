//! The page at `/docs` in a browser: it works with nothing but this server.

use std::path::Path;

use crate::common::tokens::Tokens;
use crate::common::webdriver::{Browser, Sent};
use crate::common::{Server, component};
use serde_json::{Value, json};

/// The largest first visit, in bytes over the network.
const FIRST_VISIT: u64 = 550_000;

#[test]
fn the_api_can_be_read_and_tried_out() {
    the_page_works_behind("");
}

#[test]
fn the_api_can_be_read_and_tried_out_behind_a_base_path() {
    the_page_works_behind("/shop");
}

fn the_page_works_behind(base_path: &str) {
    let Some(browser) = component("browser", Browser::start) else { return };
    let server = Server::start_with(&["--base-path", base_path]);
    browser.collect_policy_violations();

    browser.open(&server.url(&format!("{base_path}/docs/")));
    let document = server.get(&format!("{base_path}/openapi.json")).expect(200);
    assert_eq!(shown_operations(&browser), operations(&document));
    let first_visit = requests_to(&server, base_path, &browser);
    let bytes: u64 = first_visit.iter().map(|request| request.bytes).sum();
    assert!(bytes < FIRST_VISIT, "{bytes} bytes: {first_visit:#?}");
    assert!(first_visit.iter().all(|request| request.bytes > 0), "{first_visit:#?}");

    // The body is the example of the page: a click is enough to create an item.
    let (status, created) = execute(&browser, "createItem");
    assert_eq!(status, "201");
    let id = created["id"].as_str().unwrap();
    let path = format!("{base_path}/inventory/{id}");
    assert_eq!(server.get(&path).expect(200), created, "the item is on the server as the page shows it");

    open_operation(&browser, "getItem");
    browser.find(&format!("{}//tr[@data-param-name='id']//input", operation("getItem"))).fill(id);
    assert_eq!(execute_opened(&browser, "getItem"), ("200".to_owned(), created.clone()));
    let tried_out = requests_to(&server, base_path, &browser);
    let tried_out: Vec<_> = tried_out.iter().map(|request| (request.url.as_str(), request.status)).collect();
    let collection = server.url(&format!("{base_path}/inventory"));
    assert_eq!(tried_out, [(collection.as_str(), Some(201)), (server.url(&path).as_str(), Some(200))]);

    let tags = browser.run("return [...document.querySelectorAll('.opblock-tag')].map(tag => tag.dataset.tag)");
    assert_eq!(tags, json!(["Inventory", "Reservations", "Ledger", "Operations"]), "in the order of use");
    open_operation(&browser, "importItems");
    browser.find(&format!("{}//input[@type='file']", operation("importItems")));

    let screenshot = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("docs{}.png", base_path.replace('/', "-")));
    std::fs::write(screenshot, browser.screenshot()).unwrap();
    browser.assert_quiet();

    browser.open(&server.url(&format!("{base_path}/docs")));
    assert_eq!(shown_operations(&browser), operations(&document));
    let assets = server.url(&format!("{base_path}/docs/"));
    let (kept, asked): (Vec<_>, Vec<_>) =
        requests_to(&server, base_path, &browser).into_iter().partition(|request| request.url.starts_with(&assets));
    assert!(kept.len() == 3 && kept.iter().all(|request| request.cached && request.bytes == 0), "{kept:#?}");
    assert!(asked.len() == 2 && asked.iter().all(|request| !request.cached), "{asked:#?}");
    browser.assert_quiet();
}

#[test]
fn a_token_outlives_a_reload_only_if_the_reader_asks_for_that() {
    let Some(browser) = component("browser", Browser::start) else { return };
    let tokens = Tokens::new();
    let server = tokens.start(&[]);
    browser.collect_policy_violations();
    let status_after_reload = || {
        browser.open(&server.url("/docs"));
        execute(&browser, "listItems").0
    };
    let authorize = |token: &str| {
        browser.find("//button[contains(@class, 'authorize') and contains(@class, 'btn')]").click();
        browser.find("//div[@class='auth-container']//input").fill(token);
        browser.find("//div[@class='auth-container']//button[@type='submit']").click();
        browser.find("//button[contains(@class, 'btn-done')]").click();
    };

    assert_eq!(status_after_reload(), "401");
    browser.open(&server.url("/docs"));
    authorize(&tokens.read.token);
    assert_eq!(execute(&browser, "listItems").0, "200");
    assert_eq!(status_after_reload(), "401", "nobody asked to keep the token");

    // The token that is there already is kept, and one that comes later.
    for box_first in [false, true] {
        browser.open(&server.url("/docs"));
        let keep = || browser.find("//input[@id='keep']").click();
        if box_first {
            keep();
        }
        authorize(&tokens.read.token);
        if !box_first {
            keep();
        }
        assert_eq!(status_after_reload(), "200");
        let screenshot = Path::new(env!("CARGO_TARGET_TMPDIR")).join("docs-authorized.png");
        std::fs::write(screenshot, browser.screenshot()).unwrap();
        keep();
        assert_eq!(status_after_reload(), "401");
        let kept = browser.run("return Object.values(localStorage).join()");
        assert!(!kept.as_str().unwrap().contains(&tokens.read.token), "{kept}");
    }
    browser.assert_quiet_but_for(&["401"]);
}

/// The requests over the network, each of which was to this server and answered well.
fn requests_to(server: &Server, base_path: &str, browser: &Browser) -> Vec<Sent> {
    let requests = browser.requests();
    let here = server.url(&format!("{base_path}/"));
    for request in &requests {
        assert!(request.url.starts_with(&here), "{request:?}");
        assert!(request.status.is_some_and(|status| status < 400), "{request:?}");
    }
    requests
}

/// The methods and paths in the document, sorted.
fn operations(document: &Value) -> Vec<String> {
    let paths = document["paths"].as_object().unwrap().iter();
    let mut operations: Vec<_> = paths
        .flat_map(|(path, operations)| {
            operations.as_object().unwrap().keys().map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect();
    operations.sort();
    operations
}

/// The methods and paths on the page, sorted.
fn shown_operations(browser: &Browser) -> Vec<String> {
    browser.find("//*[@class='opblock-summary-method']");
    let shown = browser.run(
        "return [...document.querySelectorAll('.opblock-summary')].filter(line => line.checkVisibility()).map(line => \
         line.querySelector('.opblock-summary-method').textContent + ' ' \
         + line.querySelector('.opblock-summary-path').dataset.path)",
    );
    let mut shown: Vec<String> = serde_json::from_value(shown).unwrap();
    shown.sort();
    shown
}

/// The XPath of an operation.
fn operation(id: &str) -> String {
    format!("//*[@id='operations-Inventory-{id}']")
}

/// Opens an operation, which can be tried out at once.
fn open_operation(browser: &Browser, id: &str) {
    browser.find(&format!("{}//button[@class='opblock-summary-control']", operation(id))).click();
}

/// Opens an operation and executes it as the page offers it: the status and the body that the page shows then.
fn execute(browser: &Browser, id: &str) -> (String, Value) {
    open_operation(browser, id);
    execute_opened(browser, id)
}

/// As [`execute`], of an operation that is open.
fn execute_opened(browser: &Browser, id: &str) -> (String, Value) {
    let operation = operation(id);
    browser.find(&format!("{operation}//button[text()='Execute']")).click();
    let answer = format!("{operation}//table[contains(@class, 'live-responses-table')]/tbody/tr");
    let status = browser.find(&format!("{answer}/td[contains(@class, 'response-col_status')]")).text();
    let body = browser.find(&format!("{answer}//h5[text()='Response body']/..//code")).text();
    let body = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
    (status, body)
}
