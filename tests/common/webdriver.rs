//! A headless Chromium, steered through chromedriver.
//!
//! WebDriver is JSON over HTTP, and the tests have a client for that: this file is what they need of it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{TIMEOUT, executable, poll, send};

/// A browser with a profile of its own; it ends when the test lets go of it.
pub struct Browser {
    driver: Child,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// Starts a browser, or says what the machine lacks for one.
    pub fn start() -> Result<Self, String> {
        let driver = executable("chromedriver").ok_or("chromedriver is not installed")?;
        let chromium = ["chromium", "chromium-browser", "google-chrome"].into_iter().find_map(executable);
        let chromium = chromium.ok_or("chromium is not installed")?;
        let mut command = Command::new(driver);
        command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut driver = command.spawn().unwrap();
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines().map_while(Result::ok);
        let port = lines
            .find_map(|line| Some(line.split_once("successfully on port ")?.1.trim_end_matches('.').to_owned()))
            .expect("chromedriver says where it listens");
        // It must always find a reader, or a write of its would fail.
        std::thread::spawn(move || lines.for_each(drop));
        let session = format!("http://127.0.0.1:{port}/session");
        let mut browser = Self { driver, session, _profile: TempDir::new().unwrap() };

        let mut arguments = vec![format!("--user-data-dir={}", browser._profile.path().display())];
        let calm = "--headless=new --disable-gpu --disable-quic --no-first-run --disable-background-networking \
                    --disable-component-update --disable-sync --disable-dev-shm-usage --window-size=1280,1000";
        arguments.extend(calm.split_whitespace().map(str::to_owned));
        if rustix::process::geteuid().is_root() {
            arguments.push("--no-sandbox".to_owned());
        }
        let capabilities = json!({
            "goog:chromeOptions": { "binary": chromium, "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
            // Time limit of a search for an element: less than that of the client, so that the error names the element.
            "timeouts": { "implicit": (TIMEOUT / 2).as_millis() as u64 }
        });
        let opened = browser.post("", &json!({ "capabilities": { "alwaysMatch": capabilities } }));
        browser.session = format!("{}/{}", browser.session, opened["sessionId"].as_str().unwrap());
        // Chromium opens a page of its own at first, with requests that are no concern of a test.
        browser.open("about:blank");
        browser.requests();
        browser.console();
        Ok(browser)
    }

    fn post(&self, path: &str, parameters: &Value) -> Value {
        let url = format!("{}{path}", self.session);
        let answer = send(&url, "POST", &[("Content-Type", "application/json")], parameters.to_string());
        assert_eq!(answer.status, 200, "{path} {parameters}: {}", answer.text());
        answer.json()["value"].take()
    }

    /// Calls Chromium's own protocol, for what WebDriver does not have.
    pub fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.post("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    /// Opens a page and waits until it is loaded.
    pub fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    /// Runs a JavaScript function with this body and returns its result.
    pub fn run(&self, body: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": body, "args": [] }))
    }

    /// The first element for an XPath, as soon as there is one.
    pub fn find(&self, xpath: &str) -> Element<'_> {
        let reference = self.post("/element", &json!({ "using": "xpath", "value": xpath }));
        let id = reference.as_object().unwrap().values().next().unwrap().as_str().unwrap();
        Element { browser: self, path: format!("/element/{id}") }
    }

    /// The whole page, below the window's edge too, as a PNG.
    pub fn screenshot(&self) -> Vec<u8> {
        let screenshot = self.devtools("Page.captureScreenshot", &json!({ "captureBeyondViewport": true }));
        BASE64_STANDARD.decode(screenshot["data"].as_str().unwrap()).unwrap()
    }

    /// The visible part of the page as a PNG.
    pub fn viewport_screenshot(&self) -> Vec<u8> {
        let screenshot = self.devtools("Page.captureScreenshot", &json!({}));
        BASE64_STANDARD.decode(screenshot["data"].as_str().unwrap()).unwrap()
    }

    /// Presses keys one after the other, wherever the focus is.
    pub fn press(&self, keys: &str) {
        let strokes =
            keys.chars().flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key })));
        let strokes: Vec<_> = strokes.collect();
        self.post("/actions", &json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": strokes }] }));
    }

    /// Makes every page from now on keep what its Content-Security-Policy forbids.
    pub fn collect_policy_violations(&self) {
        let source = "window.violations = []; document.addEventListener('securitypolicyviolation', \
                      violation => violations.push(`${violation.violatedDirective}: ${violation.blockedURI}`))";
        self.devtools("Page.enable", &json!({}));
        self.devtools("Page.addScriptToEvaluateOnNewDocument", &json!({ "source": source }));
    }

    /// The page's policy forbade nothing, and nothing came into the console.
    pub fn assert_quiet(&self) {
        self.assert_quiet_but_for(&[]);
    }

    /// As [`Browser::assert_quiet`], but for the browser's own notes on answers and connections with these words in them.
    pub fn assert_quiet_but_for(&self, expected: &[&str]) {
        assert_eq!(self.run("return violations"), json!([]));
        let mut console = self.console();
        console.retain(|line| {
            let noted = expected.iter().any(|words| line["message"].as_str().unwrap().contains(words));
            line["source"] != "network" || !noted
        });
        assert!(console.is_empty(), "{console:#?}");
    }

    fn log(&self, kind: &str) -> Vec<Value> {
        serde_json::from_value(self.post("/se/log", &json!({ "type": kind }))).unwrap()
    }

    /// Returns the console messages since the last call.
    pub fn console(&self) -> Vec<Value> {
        self.log("browser")
    }

    /// The requests since they were last asked for, once all of them have ended. The images that a style sheet carries in
    /// itself are none, and neither are the browser's own pages, whose end it does not always report.
    pub fn requests(&self) -> Vec<Sent> {
        let mut requests = BTreeMap::<String, Sent>::new();
        let mut redirected = Vec::new();
        poll("the end of all requests", || {
            for entry in self.log("performance") {
                let event: Value = serde_json::from_str(entry["message"].as_str().unwrap()).unwrap();
                let (method, event) = (event["message"]["method"].as_str().unwrap(), &event["message"]["params"]);
                let Some(id) = event["requestId"].as_str() else { continue };
                let url = event["request"]["url"].as_str().unwrap_or_default();
                let outward = !url.starts_with("data:") && !url.starts_with("chrome:");
                if method == "Network.requestWillBeSent" && outward {
                    requests.entry(id.to_owned()).or_default();
                }
                // Some events of a request come after its end was reported.
                let Some(request) = requests.get_mut(id) else { continue };
                let bytes = |counted: &Value| counted["encodedDataLength"].as_f64().unwrap() as u64;
                match method {
                    "Network.requestWillBeSent" => {
                        if let Some(answer) = event.get("redirectResponse") {
                            (request.status, request.bytes) = (answer["status"].as_u64(), bytes(answer));
                            redirected.push(std::mem::take(request));
                        }
                        request.url = event["request"]["url"].as_str().unwrap().to_owned();
                    }
                    "Network.requestServedFromCache" => request.cached = true,
                    "Network.responseReceived" => {
                        request.status = event["response"]["status"].as_u64();
                        // A feed has no end.
                        request.ended |= event["response"]["mimeType"] == "text/event-stream";
                        request.cached |= event["response"]["fromDiskCache"] == true;
                    }
                    "Network.loadingFinished" => (request.ended, request.bytes) = (true, bytes(event)),
                    "Network.loadingFailed" => (request.ended, request.status) = (true, None),
                    _ => {}
                }
            }
            requests.values().all(|request| request.ended).then_some(())
        });
        redirected.into_iter().chain(requests.into_values()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends Chromium, which would outlive a killed chromedriver.
        let _ = ureq::delete(&self.session).config().timeout_global(Some(TIMEOUT)).build().call();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// A request of the browser.
#[derive(Debug, Default)]
pub struct Sent {
    /// Where to.
    pub url: String,
    /// Status of the response, if there was one.
    pub status: Option<u64>,
    /// Bytes of the response over the network, headers included.
    pub bytes: u64,
    /// The response came from the cache of the browser.
    pub cached: bool,
    ended: bool,
}

/// An element of the page.
pub struct Element<'a> {
    browser: &'a Browser,
    path: String,
}

impl Element<'_> {
    /// Clicks it.
    pub fn click(&self) {
        self.browser.post(&format!("{}/click", self.path), &json!({}));
    }

    /// Types over what is in it.
    pub fn fill(&self, text: &str) {
        const CONTROL: char = '\u{e009}';
        const RELEASE: char = '\u{e000}';
        self.browser.post(&format!("{}/value", self.path), &json!({ "text": format!("{CONTROL}a{RELEASE}{text}") }));
    }

    /// Types into it, or, for a field of files, names one.
    pub fn type_in(&self, text: &str) {
        self.browser.post(&format!("{}/value", self.path), &json!({ "text": text }));
    }

    /// The text that it shows.
    pub fn text(&self) -> String {
        let answer = send(&format!("{}{}/text", self.browser.session, self.path), "GET", &[], "");
        answer.expect(200)["value"].as_str().unwrap().to_owned()
    }
}
