//! The page for the people at the shelf: each thing that a person does with it, in a browser, on a real server.

use std::path::Path;

use crate::common::feed::Follower;
use crate::common::network::Network;
use crate::common::tokens::{self, Tokens};
use crate::common::webdriver::Browser;
use crate::common::{Inventory, Server, component, poll};
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

const ENTER: &str = "\u{e007}";
const DOWN: &str = "\u{e015}";

fn browser() -> Option<Browser> {
    let browser = component("browser", Browser::start)?;
    browser.collect_policy_violations();
    Some(browser)
}

/// Waits until an expression in JavaScript is true.
fn wait(browser: &Browser, expression: &str) {
    poll(expression, || (browser.run(&format!("return Boolean({expression})")) == true).then_some(()));
}

/// Waits until the first element of a CSS selector shows a text.
fn wait_for_text(browser: &Browser, selector: &str, text: &str) {
    wait(browser, &format!("document.querySelector({selector:?})?.textContent.includes({text:?})"));
}

/// Presses the key of an action, and waits for its question.
fn begin(browser: &Browser, key: &str) {
    browser.press(key);
    wait(browser, "document.querySelector('dialog')");
}

/// Waits until no question is open.
fn wait_for_answer(browser: &Browser) {
    wait(browser, "!document.querySelector('dialog')");
}

fn is_open(server: &Server, item: &str) -> usize {
    let page = server.get(&format!("/reservations?item={item}&state=open")).expect(200);
    page["reservations"].as_array().unwrap().len()
}

/// The events, reasons and changes in an item's ledger, oldest first.
fn ledger(server: &Server, item: &str) -> Vec<(String, String, i64)> {
    let page = server.get(&format!("/inventory/{item}/ledger?limit=200")).expect(200);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let entries = page["entries"].as_array().unwrap().iter().rev();
    entries.map(|entry| (text(&entry["event"]), text(&entry["reason"]), entry["delta"].as_i64().unwrap())).collect()
}

fn widget(server: &Server) {
    server
        .post("/inventory", &json!({ "id": "widget-1", "name": "Widget", "quantity": 10, "unit": "piece" }))
        .expect(201);
}

#[test]
fn the_first_visit_takes_little_and_nothing_from_elsewhere() {
    let Some(browser) = browser() else { return };
    for base_path in ["", "/shop"] {
        let server = Server::start_with(&["--base-path", base_path]);
        let path = format!("{base_path}/inventory");
        server.post(&path, &json!({ "id": "widget-1", "name": "Widget", "quantity": 10 })).expect(201);
        browser.open(&server.url(&format!("{base_path}/")));
        wait_for_text(&browser, ".rows", "Widget");
        wait_for_text(&browser, ".live", "Live");
        // The items are there after four requests, the page's own among them; all others come later.
        let for_items = browser.run(
            "const resources = performance.getEntriesByType('resource');
             const items = resources.find(resource => resource.name.includes('/inventory?'));
             return resources.filter(resource => resource.startTime < items.responseEnd).length",
        );
        assert_eq!(for_items, 3);
        let requests = browser.requests();
        let here = server.url(&format!("{base_path}/"));
        assert!(
            requests.iter().all(|request| request.url.starts_with(&here) && request.status == Some(200)),
            "{requests:#?}"
        );
        let shell: u64 =
            requests.iter().filter(|sent| sent.url == here || sent.url.contains("/web/")).map(|sent| sent.bytes).sum();
        assert!((1..60 * 1024).contains(&shell), "{shell} bytes: {requests:#?}");
        browser.assert_quiet();
        // Before the server goes.
        browser.open("about:blank");
    }
}

#[test]
fn a_person_finds_an_item() {
    let Some(browser) = browser() else { return };
    let server = Server::start();
    let items: String = (0..130)
        .map(|number| {
            let (category, location) = (["Bolts", "Nuts"][number % 2], format!("A-{}", number % 10));
            let item = json!({
                "id": format!("4006381{number:03}"), "name": format!("Part {number:03}"), "quantity": number, "reorder_level": 2,
                "category": category, "location": location
            });
            format!("{item}\n")
        })
        .collect();
    server.send("POST", "/import", &[("Content-Type", "application/x-ndjson")], items).expect(200);
    let rows = "document.querySelectorAll('.rows a').length";

    browser.open(&server.url("/"));
    wait(&browser, &format!("{rows} >= 50"));
    // The next pages come as the person gets near their end.
    poll("all pages", || {
        browser.run("scrollTo(0, document.body.scrollHeight)");
        (browser.run(&format!("return {rows}")) == 130).then_some(())
    });
    let names = browser.run("return [...document.querySelectorAll('.row-name')].map(name => name.textContent)");
    let expected: Vec<_> = (0..130).map(|number| format!("Part {number:03}")).collect();
    assert_eq!(names, json!(expected));

    // On a slow network each keystroke cancels the search before it.
    browser.requests();
    let slow = |milliseconds: u32| {
        let conditions =
            json!({ "offline": false, "latency": milliseconds, "downloadThroughput": -1, "uploadThroughput": -1 });
        browser.devtools("Network.emulateNetworkConditions", &conditions);
    };
    slow(300);
    browser.find("//input[@id='find']").fill("Part 12");
    wait_for_text(&browser, ".filters [role=status]", "10 items");
    slow(0);
    assert_eq!(browser.run("return document.querySelector('.rows mark').textContent"), "Part 12");
    let searches = browser.requests();
    let ended: Vec<_> = searches.iter().filter(|sent| sent.status == Some(200)).collect();
    assert!(ended.len() == 1 && ended[0].url.contains("q=Part+12"), "{searches:#?}");
    assert!(searches.len() > 2, "{searches:#?}");

    // The address keeps the search.
    browser.find("//label[@class='chip']").click();
    wait_for_text(&browser, ".list .empty", "Nothing matches");
    browser.open(&browser.run("return location.href").as_str().unwrap().replace("Part+12", "Part+00"));
    browser.run("location.reload()");
    wait_for_text(&browser, ".filters [role=status]", "3 items");
    browser.find("//input[@aria-label='category']").fill(&format!("Nuts{ENTER}"));
    wait_for_text(&browser, ".filters [role=status]", "1 item");
    assert_eq!(browser.run("return document.querySelector('.row-name').textContent"), "Part 001");

    // A scanner types and presses Enter, wherever the focus is.
    browser.open(&server.url("/#/files"));
    wait_for_text(&browser, "h1", "Files");
    browser.press(&format!("4006381077{ENTER}"));
    wait_for_text(&browser, ".item h1", "Part 077");
    // Its letters begin no action: the events come at once, as fast as no fingers are.
    server.post("/inventory", &json!({ "id": "cable-release", "name": "Cable release" })).expect(201);
    browser.run(
        "for (const key of [...'cable-release', 'Enter']) {
             document.body.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true }));
         }",
    );
    wait_for_text(&browser, ".item h1", "Cable release");
    assert_eq!(browser.run("return document.querySelectorAll('dialog').length"), 0);
    // By keyboard alone: search, go down the list, open.
    browser.press(&format!("/Part 05{DOWN}"));
    wait(&browser, "document.activeElement.textContent.startsWith('Part 050')");
    browser.press(&format!("{DOWN}{ENTER}"));
    wait_for_text(&browser, ".item h1", "Part 051");
    // An unknown id gets a message.
    browser.open(&server.url("/#/items/none"));
    wait_for_text(&browser, "h1", "No such item");
    browser.assert_quiet_but_for(&["404"]);
}

#[test]
fn a_person_sees_an_item() {
    let Some(browser) = browser() else { return };
    let server = Server::start();
    let item = json!({
        "id": "widget-1", "name": "Widget", "quantity": 10, "unit": "piece", "category": "Bolts", "location": "A-1",
        "reorder_level": 5, "unit_price": { "amount": "1234.50", "currency": "EUR" }, "attributes": { "colour": "red", "sizes": [1, 2] }
    });
    server.post("/inventory", &item).expect(201);
    for number in 0..30 {
        let (delta, reason) = if number % 2 == 0 { (-7, "sold") } else { (7, "received") };
        let movement =
            json!({ "delta": delta, "reason": reason, "reference": format!("order-{number}"), "note": "by van" });
        server.post("/inventory/widget-1/movements", &movement).expect(201);
    }
    let reservation = json!({ "quantity": 6, "expires_in": 3600, "reference": "Mara" });
    server.post("/inventory/widget-1/reservations", &reservation).expect(201);

    browser.open(&server.url("/#/items/widget-1"));
    wait_for_text(&browser, ".ledger", "Reserved 6");
    wait_for_text(&browser, ".item-side", "6 piece for Mara");
    let text = |selector: &str| {
        let text = browser.run(&format!("return document.querySelector({selector:?}).textContent"));
        text.as_str().unwrap().to_owned()
    };
    assert_eq!(text(".available"), "4 piece availableLow");
    assert_eq!(text(".stock .muted"), "10 piece in stock, 6 reserved, reorder at 5");
    for part in ["Price of one€1,234.50", "CategoryBolts", "LocationA-1", "colourred", "sizes[1,2]"] {
        assert!(text(".details").contains(part), "{part} in {}", text(".details"));
    }
    let line = text(".ledger li:nth-child(2)");
    assert!(line.starts_with("+7Received 7order-29, by vanUndo10 in stock"), "{line}");
    let chart = browser.run("return document.querySelector('.chart svg').getAttribute('aria-label')");
    assert!(chart.as_str().unwrap().ends_with("to 10 now, at least 3, at most 10."), "{chart}");
    // A step for each entry: the stock stays between two movements and never slopes.
    let line = browser.run("return document.querySelector('.chart-line').getAttribute('d')");
    let line = line.as_str().unwrap();
    assert!(line.matches('V').count() == 31 && !line.contains('L'), "{line}");

    assert_eq!(browser.run("return document.querySelectorAll('.ledger li').length"), 12);
    browser.find("//button[text()='Show older']").click();
    wait(&browser, "document.querySelectorAll('.ledger li').length === 32 && document.querySelector('.more').hidden");
    assert!(text(".ledger li:last-child").starts_with("+10Created with 10"));
    browser.run("scrollTo(0, 0)");
    browser.find("//header[@class='item-head']//a[text()='Bolts']").click();
    wait_for_text(&browser, ".filters [role=status]", "1 item");
    browser.assert_quiet();
}

#[test]
fn a_person_moves_stock_by_keyboard() {
    let Some(browser) = browser() else { return };
    let server = Server::start();
    widget(&server);
    browser.open(&server.url("/#/items/widget-1"));
    let available = |number: &str| {
        wait_for_answer(&browser);
        wait(&browser, &format!("document.querySelector('.available b')?.textContent === {number:?}"));
    };
    available("10");
    // The second key sends what the first one asked.
    browser.press(&format!("r{ENTER}"));
    available("11");
    begin(&browser, "s");
    browser.press(&format!("4{ENTER}"));
    available("7");
    begin(&browser, "c");
    browser.press(&format!("5{ENTER}"));
    available("5");
    begin(&browser, "x");
    browser.press(&format!("2{ENTER}"));
    available("3");
    begin(&browser, "x");
    browser.find("//dialog//select[@name='reason']/option[@value='found']").click();
    browser.find("//dialog//button[@type='submit']").click();
    available("4");
    let expected = [
        ("created", "", 10),
        ("moved", "received", 1),
        ("moved", "sold", -4),
        ("counted", "counted", -2),
        ("moved", "damaged", -2),
        ("moved", "found", 1),
    ];
    let expected = expected.map(|(event, reason, delta)| (event.to_owned(), reason.to_owned(), delta));
    assert_eq!(ledger(&server, "widget-1"), expected);

    begin(&browser, "h");
    browser.press(&format!("2{ENTER}"));
    available("2");
    browser.press(&format!("f{ENTER}"));
    wait_for_text(&browser, ".stock .muted", "2 piece in stock, none reserved");
    browser.press(&format!("h{ENTER}"));
    available("1");
    assert_eq!(is_open(&server, "widget-1"), 1);
    browser.press(&format!("l{ENTER}"));
    available("2");
    assert_eq!(is_open(&server, "widget-1"), 0);
    let events: Vec<_> = ledger(&server, "widget-1").split_off(6).into_iter().map(|(event, ..)| event).collect();
    assert_eq!(events, ["reserved", "fulfilled", "reserved", "released"]);

    begin(&browser, "e");
    browser.press(&format!("Gadget{ENTER}"));
    wait_for_text(&browser, ".item h1", "Gadget");
    wait_for_answer(&browser);
    begin(&browser, "n");
    browser.find("//dialog//input[@name='name']").fill("Hex bolt");
    browser.find("//dialog//input[@name='id']").fill("bolt 6");
    browser.find("//dialog//input[@name='quantity']").fill("40");
    browser.find("//dialog//input[@name='unit_price/amount']").fill("0,18");
    browser.press(ENTER);
    // The browser itself refuses an id with a blank, and a price without a currency is refused by the server.
    wait(&browser, "document.querySelector('dialog input[name=id]').matches(':invalid:focus')");
    browser.find("//dialog//input[@name='id']").fill("bolt-6");
    browser.press(ENTER);
    wait(&browser, "document.querySelector('#field-unit_price-currency').matches('[aria-invalid]:focus')");
    browser.press(&format!("eur{ENTER}"));
    wait_for_text(&browser, ".item h1", "Hex bolt");
    let created = server.get("/inventory/bolt-6").expect(200);
    assert_eq!((&created["quantity"], &created["unit_price"]["amount"]), (&json!(40), &json!("0.18")));
    assert_eq!(server.get("/inventory/widget-1").expect(200)["name"], "Gadget");

    // Letters can be switched off, by keyboard too.
    wait_for_answer(&browser);
    begin(&browser, "?");
    wait_for_text(&browser, "dialog", "SSell");
    browser.find("//dialog//input[@type='checkbox']").click();
    browser.press(ENTER);
    wait_for_answer(&browser);
    browser.press(&format!("s{ENTER}"));
    begin(&browser, "?");
    assert_eq!(
        browser.run("return [...document.querySelectorAll('dialog h2')].map(title => title.textContent)"),
        json!(["Keys"])
    );
    browser.assert_quiet_but_for(&["422"]);
}

#[test]
fn a_refused_movement_has_the_numbers() {
    let Some(browser) = browser() else { return };
    let server = Server::start();
    widget(&server);
    server.post("/inventory/widget-1/reservations", &json!({ "quantity": 6, "expires_in": 3600 })).expect(201);
    browser.open(&server.url("/#/items/widget-1"));
    wait_for_text(&browser, ".available", "4");
    begin(&browser, "s");
    browser.press(&format!("5{ENTER}"));
    wait_for_text(
        &browser,
        "dialog .message",
        "There are 10 piece, of which 6 are reserved. At most 4 piece can be taken.",
    );
    // The question is still open, for another number.
    browser.find("//dialog//input[@name='delta']").fill(&format!("4{ENTER}"));
    wait_for_answer(&browser);
    wait_for_text(&browser, ".available", "0");
    browser.assert_quiet_but_for(&["409"]);
}

#[test]
fn two_people_on_one_item_see_each_other() {
    let Some(browser) = browser() else { return };
    let server = Server::start();
    widget(&server);
    browser.open(&server.url("/#/items/widget-1"));
    wait_for_text(&browser, ".available", "10");
    begin(&browser, "s");
    server.post("/inventory/widget-1/movements", &json!({ "delta": -3, "reason": "sold" })).expect(201);
    browser.press(ENTER);
    wait_for_text(&browser, "dialog .message", "The item was changed meanwhile (Sold 3: 10 → 7).");
    wait_for_text(&browser, "dialog .dialog-stock", "7 piece in stock");
    assert_eq!(ledger(&server, "widget-1").len(), 2, "nothing was booked");
    browser.press(ENTER);
    wait_for_answer(&browser);
    wait_for_text(&browser, ".available", "6");

    begin(&browser, "e");
    let patch = |changes: Value| {
        let headers = [("Content-Type", "application/merge-patch+json")];
        server.send("PATCH", "/inventory/widget-1", &headers, changes.to_string()).expect(200)
    };
    patch(json!({ "location": "B-2", "name": "Gadget" }));
    browser.find("//dialog//input[@name='name']").fill("Widget, large");
    browser.press(ENTER);
    wait_for_text(&browser, "dialog .message", "Somebody else changed the item meanwhile (Name, Location).");
    browser.press(ENTER);
    wait_for_answer(&browser);
    wait_for_text(&browser, ".item h1", "Widget, large");
    let item = server.get("/inventory/widget-1").expect(200);
    assert_eq!((&item["name"], &item["location"]), (&json!("Widget, large"), &json!("B-2")), "neither is lost");
    browser.assert_quiet_but_for(&["412"]);
}

#[test]
fn a_change_is_made_once_however_the_network_drops() {
    let Some(browser) = browser() else { return };
    let server = Server::start();
    widget(&server);
    let network = Network::before(server.address());
    browser.open(&network.url("/#/items/widget-1"));
    wait_for_text(&browser, ".available", "10");
    wait_for_text(&browser, ".ledger", "Created");

    // The server makes the change, and its answer is lost.
    network.lose_next_answer();
    begin(&browser, "s");
    browser.press(&format!("2{ENTER}"));
    poll("the cut", || network.is_cut().then_some(()));
    wait_for_text(&browser, "dialog .message", "Trying again");
    network.mend();
    wait_for_answer(&browser);
    wait_for_text(&browser, ".available", "8");

    // An edit has no key: its version sees to it.
    network.lose_next_answer();
    begin(&browser, "e");
    browser.press(&format!("Gadget{ENTER}"));
    poll("the cut", || network.is_cut().then_some(()));
    wait_for_text(&browser, "dialog .message", "Trying again");
    network.mend();
    wait_for_answer(&browser);
    wait_for_text(&browser, ".item h1", "Gadget");

    // The server is away, and comes back.
    let address = server.address().to_string();
    let (_, inventory) = server.stop();
    begin(&browser, "r");
    browser.press(&format!("5{ENTER}"));
    wait_for_text(&browser, "dialog .message", "Trying again");
    let server = Server::start_in(inventory, &["--listen", &address]);
    wait_for_answer(&browser);
    wait_for_text(&browser, ".available", "13");

    let expected = [("created", "", 10), ("moved", "sold", -2), ("updated", "", 0), ("moved", "received", 5)];
    let expected = expected.map(|(event, reason, delta)| (event.to_owned(), reason.to_owned(), delta));
    assert_eq!(ledger(&server, "widget-1"), expected);
    server.inventory().assert_consistent();
    browser.assert_quiet_but_for(&["net::ERR", "412", "503"]);
}

#[test]
fn a_person_watches_what_happens() {
    let Some(browser) = browser() else { return };
    let server = Server::start_with(&["--max-followers", "1"]);
    let item = json!({ "id": "widget-1", "name": "Widget", "quantity": 10, "reorder_level": 5, "unit_price": { "amount": "2.50", "currency": "EUR" } });
    server.post("/inventory", &item).expect(201);
    browser.open(&server.url("/"));
    wait_for_text(&browser, ".live", "Live");
    wait_for_text(&browser, ".watch", "WidgetCreated with 10");
    wait_for_text(&browser, ".watch .figures", "€25.00");
    let sell = |quantity: i64| {
        let movement = json!({ "delta": -quantity, "reason": "sold", "reference": "order-1" });
        server.post("/inventory/widget-1/movements", &movement).expect(201);
    };
    sell(6);
    wait_for_text(&browser, ".watch", "Sold 6 · order-1");
    wait_for_text(&browser, ".row-stock", "Low4");
    wait_for_text(&browser, ".watch .figures", "€10.00");
    wait_for_text(&browser, ".watch [aria-labelledby=low-title]", "Widget4Reorder at 5");

    let other = json!({ "id": "bolt-6", "name": "Bolt" });
    server.post("/inventory", &other).expect(201);
    browser.find("//button[text()='Show 1 new item']").click();
    wait_for_text(&browser, ".rows", "Bolt");

    // A hidden tab does not follow: its place is free for others.
    let hide = |hidden: bool| {
        browser.run(&format!(
            "Object.defineProperty(document, 'hidden', {{ configurable: true, get: () => {hidden} }});
             document.dispatchEvent(new Event('visibilitychange'))"
        ))
    };
    hide(true);
    wait_for_text(&browser, ".live", "Paused");
    let other = poll("the slot of the hidden tab", || Follower::until(&server, "/ledger", None, usize::MAX).ok());
    sell(1);
    drop(other);
    hide(false);
    // It continues where it was, and misses nothing.
    wait_for_text(&browser, ".watch", "Sold 1 · order-1");
    assert_eq!(browser.run("return document.querySelectorAll('.watch ol li').length"), 4);
    browser.assert_quiet_but_for(&["503"]);
}

#[test]
fn a_person_takes_files_in_and_out() {
    let Some(browser) = browser() else { return };
    let server = Server::start();
    widget(&server);
    let folder = TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    browser.open(&server.url("/#/files"));
    let picker = || browser.find("//input[@type='file']");
    picker().type_in(&file("bad.csv", "id,name,quantity\nx1,,5\nx2,Second,many\n"));
    wait_for_text(&browser, ".result", "This file cannot be imported");
    wait_for_text(&browser, ".errors", "Line 2namemust not be emptyLine 3quantitymust be an integer");
    picker().type_in(&file("taken.csv", "id,name,quantity\nwidget-1,Widget,3\n"));
    wait_for_text(&browser, ".errors", "An item with this id exists");
    browser.find("//input[@value='upsert']").click();
    wait_for_text(&browser, ".result", "taken.csv would");
    picker().type_in(&file("delivery.csv", "id,name,quantity\nwidget-1,Widget,3\nx2,Second,2\n"));
    wait_for_text(&browser, ".result", "delivery.csv wouldcreate1change1leave unchanged0Changed fields: quantity 1");
    assert_eq!(server.get("/inventory").expect(200)["items"].as_array().unwrap().len(), 1, "that was a dry run");
    browser.find("//button[text()='Import 2 items']").click();
    wait_for_text(&browser, ".result", "Importedcreated1changed1unchanged0Changed fields: quantity 1");
    assert_eq!(server.get("/inventory/widget-1").expect(200)["quantity"], 3);

    let downloads = json!({ "behavior": "allow", "downloadPath": folder.path().display().to_string() });
    browser.devtools("Browser.setDownloadBehavior", &downloads);
    browser.find("//button[text()='Download all items as CSV']").click();
    let expected = server.send("GET", "/export", &[("Accept", "text/csv")], "").text();
    poll("the download", || {
        let files = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap());
        let mut texts = files.filter(|file| file.file_name().to_string_lossy().starts_with("stockroom-"));
        texts.any(|file| std::fs::read_to_string(file.path()).is_ok_and(|text| text == expected)).then_some(())
    });
    browser.assert_quiet_but_for(&["422", "409"]);
}

/// The source of axe-core, which `web/check` installs.
fn axe() -> Result<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/web/node_modules/axe-core/axe.min.js");
    std::fs::read_to_string(&path).map_err(|_| "axe-core is not installed; run web/check".to_owned())
}

/// axe-core finds nothing serious in what the browser shows.
fn assert_readable(browser: &Browser, axe: &str, view: &str) {
    let found = browser.run(&format!(
        "{axe}; return axe.run().then(result => result.violations
         .filter(violation => ['serious', 'critical'].includes(violation.impact))
         .map(violation => [violation.id, violation.nodes.map(node => node.html)]))"
    ));
    assert_eq!(found, json!([]), "{view}");
}

/// Looks at each view on a phone and on a desk, in light and in dark: it fits, and axe-core finds nothing serious.
/// `docs/screenshots/take` keeps what the browser showed.
#[test]
fn every_view_fits_its_screen_and_can_be_read_by_everybody() {
    let Some(browser) = browser() else { return };
    let axe = component("axe", axe);
    let server = stocked();
    let bolt = "/#/items/bolt-m6-40";
    let sell = "document.querySelector('.actions button:nth-child(2)').click()";
    let views = [
        ("start", "/", "", "document.querySelectorAll('.watch li').length > 10"),
        ("watch", "/#/watch", "", "document.querySelectorAll('.watch li').length > 10"),
        (
            "item",
            bolt,
            "",
            "document.querySelectorAll('.ledger li').length > 10 && document.querySelector('.item-side li b')",
        ),
        ("sell", bolt, sell, "document.querySelector('dialog')"),
        ("keys", bolt, "document.querySelector('#keys').click()", "document.querySelector('dialog')"),
        ("files", "/#/files", "", "document.querySelector('.drop')"),
        ("problems", "/problems", "", "document.querySelector('.problems')"),
        ("problem", "/problems/insufficient-stock", "", "document.querySelector('h1')"),
    ];
    let kept = ["start", "watch", "item", "sell", "files"];
    let update = std::env::var_os("UPDATE_SCREENSHOTS").is_some();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("screenshots");
    let folder = if update { Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/screenshots") } else { target };
    std::fs::create_dir_all(&folder).unwrap();
    for (width, height) in [(390, 844), (1300, 780)] {
        let phone = width < 500;
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone });
        browser.devtools("Emulation.setDeviceMetricsOverride", &metrics);
        browser.devtools("Emulation.setScrollbarsHidden", &json!({ "hidden": true }));
        browser.devtools("Emulation.setTouchEmulationEnabled", &json!({ "enabled": phone }));
        for scheme in ["light", "dark"] {
            let features = json!([
                { "name": "prefers-color-scheme", "value": scheme },
                { "name": "prefers-reduced-motion", "value": "reduce" }
            ]);
            browser.devtools("Emulation.setEmulatedMedia", &json!({ "features": features }));
            for (name, path, script, ready) in views {
                browser.open("about:blank");
                browser.open(&server.url(path));
                wait(
                    &browser,
                    "!document.querySelector('.live') || document.querySelector('.live').textContent === 'Live'",
                );
                if path == bolt {
                    wait(&browser, "document.querySelector('.actions')");
                }
                browser.run(script);
                wait(&browser, ready);
                let view = format!("{name}-{width}-{scheme}");
                let overflow = browser.run("return document.documentElement.scrollWidth - innerWidth");
                assert!(overflow.as_i64().unwrap() <= 0, "{view} is {overflow} pixels too wide");
                if !update || kept.contains(&name) {
                    std::fs::write(folder.join(format!("{view}.png")), browser.viewport_screenshot()).unwrap();
                }
                if let Some(axe) = &axe {
                    assert_readable(&browser, axe, &view);
                }
                browser.assert_quiet();
            }
        }
    }
}

/// A server whose shelves have a history of ten weeks.
fn stocked() -> Server {
    let server = Server::start_in(TempDir::new().unwrap(), &[]);
    let rows = include_str!("shelves.csv");
    server.send("POST", "/import", &[("Content-Type", "text/csv")], rows).expect(200);
    let move_stock =
        |id: &str, movement: Value| server.post(&format!("/inventory/{id}/movements"), &movement).expect(201);
    let items = server.get("/inventory?limit=200").expect(200);
    for (index, item) in items["items"].as_array().unwrap().iter().enumerate() {
        let (id, stock) = (item["id"].as_str().unwrap(), item["quantity"].as_u64().unwrap());
        let part = |percent: u64| (stock * percent / 100).max(1);
        for step in 0..9 {
            let percent = 5 + (index as u64 * 7 + step * 11) % 13;
            if step == 4 {
                move_stock(
                    id,
                    json!({ "delta": part(70), "reason": "received", "reference": format!("PO-{}", 2200 + index) }),
                );
            } else if stock > 12 {
                let reference = format!("order-{}", 4600 + 17 * index as u64 + step);
                move_stock(
                    id,
                    json!({ "delta": -i64::try_from(part(percent)).unwrap(), "reason": "sold", "reference": reference }),
                );
            }
        }
    }
    let reserve = |quantity: u32, reference: &str| {
        let reservation = json!({ "quantity": quantity, "expires_in": 600_000, "reference": reference });
        server.post("/inventory/bolt-m6-40/reservations", &reservation).expect(201);
    };
    reserve(200, "order-4811");
    reserve(50, "Mara");
    move_stock("fuse-10a", json!({ "counted": 54, "reason": "counted" }));
    move_stock("led-e27-8w", json!({ "delta": -1, "reason": "damaged", "note": "Fell off the ladder" }));
    move_stock("bolt-m6-40", json!({ "delta": -12, "reason": "sold", "reference": "order-4812" }));
    let (_, inventory) = server.stop();
    age_the_ledger(&inventory);
    Server::start_in(inventory, &[])
}

/// Moves the ledger's entries into the past: ten weeks for each item's first one, some minutes for the last ones of all.
fn age_the_ledger(inventory: &Inventory) {
    const DAY: i64 = 86_400_000;
    let database = Connection::open(inventory.path().join("stockroom.db")).unwrap();
    let aged = "UPDATE ledger SET at = at - CASE
        WHEN position > (SELECT max(position) FROM ledger) - 5
        THEN ((SELECT max(position) FROM ledger) - position) * 400000 + 60000
        ELSE ?1 * 70 * (12 - min(version, 11)) / 12 END";
    database.execute(aged, [DAY]).unwrap();
}

/// Types a token into the sign-in form.
fn sign_in(browser: &Browser, token: &str, keep: bool) {
    wait(browser, "document.querySelector('dialog.sign-in')");
    browser.find("//input[@name='token']").fill(token);
    if keep {
        browser.find("//input[@name='keep']").click();
    }
    browser.find("//button[text()='Sign in']").click();
}

#[test]
fn a_person_signs_in_and_out() {
    let Some(browser) = browser() else { return };
    let tokens = Tokens::new();
    let server = tokens.start(&["--heartbeat", "100ms"]);
    let item = r#"{"id":"widget-1","name":"Widget","quantity":10}"#;
    tokens::send(&server, &tokens.admin.token, "POST", "/inventory", item).expect(201);
    let signed_in_as = |name: &str| wait_for_text(&browser, "#session", name);
    let signed_out = || wait(&browser, "document.querySelector('dialog.sign-in')");

    browser.open(&server.url("/#/items/widget-1"));
    signed_out();
    if let Some(axe) = component("axe", axe) {
        assert_readable(&browser, &axe, "sign in");
    }
    let screenshot = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sign-in.png");
    std::fs::write(screenshot, browser.viewport_screenshot()).unwrap();
    sign_in(&browser, "stk_wrong", false);
    wait_for_text(&browser, "dialog.sign-in", "does not know this token");
    browser.press("\u{e00c}");
    signed_out();
    sign_in(&browser, &tokens.write.token, false);
    signed_in_as("write (write)");
    wait_for_text(&browser, ".item h1", "Widget");
    wait(&browser, "document.querySelectorAll('.actions button').length === 6");

    // The tab keeps the token, the browser does not.
    browser.open("about:blank");
    browser.open(&server.url("/"));
    signed_in_as("write (write)");
    assert_eq!(browser.run("return Object.keys(localStorage).length"), 0);
    browser.find("//button[text()='Sign out']").click();
    signed_out();
    assert_eq!(browser.run("return sessionStorage.length"), 0);
    sign_in(&browser, &tokens.admin.token, true);
    signed_in_as("admin (admin)");
    browser.run("sessionStorage.clear()");
    browser.open("about:blank");
    browser.open(&server.url("/#/items/widget-1"));
    signed_in_as("admin (admin)");

    // Whatever was typed when the token ends is still there, and is sent by the one who signs in then.
    wait(&browser, "document.querySelector('.actions')");
    begin(&browser, "s");
    browser.find("//input[@name='delta']").fill("4");
    tokens.keep(&[&tokens.write.line, &tokens.read.line]);
    poll("the end of the token", || {
        (tokens::send(&server, &tokens.admin.token, "GET", "/access", "").status == 401).then_some(())
    });
    browser.run("document.querySelector('dialog:not(.sign-in) button[type=submit]').click()");
    sign_in(&browser, &tokens.write.token, false);
    wait_for_answer(&browser);
    wait_for_text(&browser, ".toasts", "Sold 4. 6 available.");
    wait_for_text(&browser, ".ledger", "by write");
    let entries = tokens::send(&server, &tokens.read.token, "GET", "/ledger", "").expect(200);
    assert_eq!(
        (entries["entries"][1]["delta"].as_i64(), entries["entries"][1]["actor"].as_str()),
        (Some(-4), Some("write"))
    );
    assert!(!browser.run("return location.href").as_str().unwrap().contains("stk_"));
    browser.assert_quiet_but_for(&["401"]);
}

#[test]
fn a_role_is_offered_what_it_may_do() {
    let Some(browser) = browser() else { return };
    let tokens = Tokens::new();
    let server = tokens.start(&[]);
    let item = r#"{"id":"widget-1","name":"Widget","quantity":10}"#;
    tokens::send(&server, &tokens.admin.token, "POST", "/inventory", item).expect(201);
    let sold = r#"{"delta":-1,"reason":"sold"}"#;
    tokens::send(&server, &tokens.admin.token, "POST", "/inventory/widget-1/movements", sold).expect(201);
    let reserved = r#"{"quantity":1,"expires_in":600}"#;
    tokens::send(&server, &tokens.admin.token, "POST", "/inventory/widget-1/reservations", reserved).expect(201);
    for (made, actions, modes) in [(&tokens.read, 0, 0), (&tokens.write, 6, 1), (&tokens.admin, 6, 5)] {
        // This view was there before anybody signed in.
        browser.open(&server.url("/#/files"));
        sign_in(&browser, &made.token, false);
        wait(&browser, &format!("document.querySelectorAll('.modes input').length === {modes}"));
        browser.find("//button[text()='Sign out']").click();
        wait(&browser, "document.querySelector('dialog.sign-in')");
        browser.open(&server.url("/#/items/widget-1"));
        sign_in(&browser, &made.token, false);
        wait_for_text(&browser, ".ledger", "Sold 1");
        wait(&browser, "document.querySelector('.item-side li b')");
        let count = |selector: &str| browser.run(&format!("return document.querySelectorAll({selector:?}).length"));
        assert_eq!(count(".actions button"), actions);
        assert_eq!(count(".item-side .buttons button"), actions / 2);
        assert_eq!(count(".undo"), actions / 6);
        assert_eq!(browser.run("return document.querySelector('#new').hidden"), actions == 0);
        browser.press("s");
        if actions == 0 {
            browser.open(&server.url("/#/files"));
            wait(&browser, "document.querySelector('.files')");
            assert_eq!(count("dialog"), 0);
        } else {
            wait(&browser, "document.querySelector('dialog')");
            browser.press("\u{e00c}");
            browser.open(&server.url("/#/files"));
            wait(&browser, "document.querySelector('.files')");
        }
        assert_eq!(count(".modes input"), modes);
        browser.find("//button[text()='Sign out']").click();
        wait(&browser, "document.querySelector('dialog.sign-in')");
    }
    browser.assert_quiet_but_for(&["401"]);
}

#[test]
fn a_person_undoes_a_movement() {
    let Some(browser) = browser() else { return };
    let server = Server::start();
    widget(&server);
    server.post("/inventory/widget-1/movements", &json!({ "delta": -3, "reason": "sold" })).expect(201);
    let patch = [("Content-Type", "application/merge-patch+json")];
    let changes = r#"{"name":"Gadget","unit_price":{"amount":"1.50","currency":"EUR"},"attributes":{"colour":"red"}}"#;
    server.send("PATCH", "/inventory/widget-1", &patch, changes).expect(200);
    browser.open(&server.url("/#/items/widget-1"));
    wait_for_text(&browser, ".ledger", "Changed name from “Widget” to “Gadget” and unit price to");
    wait_for_text(&browser, ".ledger", "and colour to “red”");
    browser.find("//button[text()='Undo']").click();
    wait_for_text(&browser, "dialog", "Sold 3");
    browser.find("//input[@name='note']").fill("wrong shelf");
    browser.press(ENTER);
    wait_for_answer(&browser);
    wait_for_text(&browser, ".ledger", "Sale reversed: 3undoes entry 2, wrong shelf");
    assert_eq!(server.get("/inventory/widget-1").expect(200)["quantity"], 10);
    // The reversal can be undone in turn, and what is undone cannot.
    wait(&browser, "document.querySelectorAll('.undo').length === 1");
    begin(&browser, "u");
    wait_for_text(&browser, "dialog", "Sale reversed: 3");
    browser.press(ENTER);
    wait_for_answer(&browser);
    wait_for_text(&browser, ".toasts", "Undone: Sale reversed: 3.");
    let deltas: Vec<_> = ledger(&server, "widget-1").into_iter().map(|(.., delta)| delta).collect();
    assert_eq!(deltas, [10, -3, 0, 3, -3]);
    browser.assert_quiet();
}

#[test]
fn a_person_hands_out_a_part_of_a_reservation_and_holds_the_rest_longer() {
    let Some(browser) = browser() else { return };
    let server = Server::start();
    widget(&server);
    let reservation = json!({ "quantity": 5, "expires_in": 600, "reference": "Mara" });
    server.post("/inventory/widget-1/reservations", &reservation).expect(201);
    browser.open(&server.url("/#/items/widget-1"));
    wait_for_text(&browser, ".item-side", "5 piece for Mara");
    begin(&browser, "f");
    browser.find("//input[@name='quantity']").fill("2");
    browser.press(ENTER);
    wait_for_answer(&browser);
    wait_for_text(&browser, ".toasts", "2 piece of 5 piece fulfilled.");
    wait_for_text(&browser, ".item-side", "3 piece for Mara");
    begin(&browser, "t");
    browser.find("//select[@name='expires_in']/option[@value='604800']").click();
    browser.find("//button[text()='Extend' and @type='submit']").click();
    wait_for_answer(&browser);
    wait_for_text(&browser, ".toasts", "Reserved until");
    let page = server.get("/reservations?item=widget-1&state=open").expect(200);
    let expires = page["reservations"][0]["expires_at"].as_str().unwrap().to_owned();
    assert!(page["reservations"][0]["quantity"] == 3 && expires > reservation_end(600_000), "{page}");
    browser.assert_quiet();
}

/// The moment in so many seconds, as RFC 3339 writes it.
fn reservation_end(seconds: i64) -> String {
    (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds)).to_string()
}

#[test]
fn a_scanner_finds_an_item_by_its_barcode_and_begins_a_new_one() {
    let Some(browser) = browser() else { return };
    let server = Server::start();
    let item = json!({ "id": "widget-1", "name": "Widget", "quantity": 10, "barcodes": ["4006381333931", "SKU 7/12"] });
    server.post("/inventory", &item).expect(201);
    for (code, keys) in [("4006381333931", "4006381333931"), ("SKU 7/12", "SKU 7/12")] {
        browser.open("about:blank");
        browser.open(&server.url("/"));
        wait_for_text(&browser, ".rows", "Widget");
        browser.find("//input[@id='find']").fill(keys);
        browser.press(ENTER);
        wait_for_text(&browser, ".item h1", "Widget");
        wait_for_text(&browser, ".details", code);
    }
    browser.press("e");
    wait(&browser, "document.querySelector('dialog')");
    browser.find("//textarea[@name='barcodes']").fill("4006381333931\nEAN 9\n");
    browser.find("//button[text()='Save']").click();
    wait_for_answer(&browser);
    assert_eq!(server.get("/inventory/widget-1").expect(200)["barcodes"], json!(["4006381333931", "EAN 9"]));
    wait_for_text(&browser, ".ledger", "Changed barcodes from 4006381333931, SKU 7/12 to 4006381333931, EAN 9");

    // An unknown number of a package is the barcode of a new item.
    browser.open("about:blank");
    browser.open(&server.url("/"));
    wait_for_text(&browser, ".rows", "Widget");
    browser.find("//input[@id='find']").fill("4012345678901");
    wait_for_text(&browser, ".list", "Nothing matches");
    browser.find("//button[@id='new']").click();
    wait(&browser, "document.querySelector('dialog')");
    browser.find("//input[@name='name']").fill("Scanned");
    browser.find("//button[text()='Create']").click();
    wait_for_answer(&browser);
    wait_for_text(&browser, ".item h1", "Scanned");
    let found = server.get("/inventory?barcode=4012345678901").expect(200);
    assert_eq!(found["items"][0]["name"], "Scanned");
    browser.assert_quiet_but_for(&["404"]);
}

#[test]
fn a_person_books_a_count_by_file_and_filters_by_what_is_in_use() {
    let Some(browser) = browser() else { return };
    let server = Server::start();
    for (id, category) in [("a", "Tools"), ("b", "Tools"), ("c", "Paint")] {
        server.post("/inventory", &json!({ "id": id, "name": id, "quantity": 5, "category": category })).expect(201);
    }
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("count.csv");
    std::fs::write(&path, "item_id;counted;reason\na;4,0;counted\nb;5;counted\n").unwrap();
    browser.open(&server.url("/#/files"));
    browser.find("//input[@value='movements']").click();
    browser.find("//input[@type='file']").type_in(&path.display().to_string());
    wait_for_text(&browser, ".result", "count.csv wouldbook1find as counted1");
    browser.find("//button[text()='Book 2 movements']").click();
    wait_for_text(&browser, ".result", "Importedbooked1found as counted1");
    assert_eq!(server.get("/inventory/a").expect(200)["quantity"], 4);

    browser.open(&server.url("/#/"));
    browser.find("//input[@aria-label='category']").click();
    wait(&browser, "document.querySelectorAll('#known-category option').length === 2");
    let offered = browser
        .run("return [...document.querySelectorAll('#known-category option')].map(one => [one.value, one.text])");
    assert_eq!(offered, json!([["Paint", "1 item"], ["Tools", "2 items"]]));
    browser.find("//input[@aria-label='category']").fill("Tools");
    browser.press(ENTER);
    wait(&browser, "document.querySelectorAll('.rows li').length === 2");
    browser.assert_quiet();
}
