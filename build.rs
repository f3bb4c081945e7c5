//! Compresses what a browser reads: Swagger UI and the page in `web/src`. Files are named by what they hold, and the page's
//! modules are linked into one.

use std::fmt::Write as _;
use std::io::{Cursor, Read, Write as _};
use std::path::Path;
use std::{env, fs};

use flate2::{Compression, GzBuilder};
use sha2::{Digest, Sha256};
use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
use zip::ZipArchive;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/api/openapi/docs");
    println!("cargo::rerun-if-changed={WEB}");
    let out_dir = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let mut archive = ZipArchive::new(Cursor::new(SWAGGER_UI_VENDORED)).expect("the crate holds a zip");
    let files = [
        ("style", "swagger-ui", "css", "text/css; charset=utf-8", unzip(&mut archive, "swagger-ui.css")),
        (
            "bundle",
            "swagger-ui-bundle",
            "js",
            "text/javascript; charset=utf-8",
            unzip(&mut archive, "swagger-ui-bundle.js"),
        ),
        (
            "init",
            "init",
            "js",
            "text/javascript; charset=utf-8",
            fs::read("src/api/openapi/docs/init.js").expect("init.js"),
        ),
    ];
    let mut index = fs::read_to_string("src/api/openapi/docs/index.html").expect("index.html");
    let mut assets = String::new();
    for (placeholder, stem, extension, media_type, contents) in files {
        let name = write_asset(&out_dir, stem, extension, media_type, &contents, &mut assets);
        index = index.replace(&format!("{{{placeholder}}}"), &name);
    }
    let module = format!("const ASSETS: &[Asset] = &[\n{assets}];\nconst INDEX: &str = {index:?};\n");
    fs::write(Path::new(&out_dir).join("swagger_ui.rs"), module).expect("OUT_DIR is writable");
    write_page(&out_dir);
}

/// Writes a compressed file with a hash in its name, and adds it to a list of constants.
fn write_asset(
    out_dir: &str,
    stem: &str,
    extension: &str,
    media_type: &str,
    contents: &[u8],
    assets: &mut String,
) -> String {
    let hash: String = Sha256::digest(contents).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let name = format!("{stem}.{hash}.{extension}");
    let path = Path::new(out_dir).join(&name);
    fs::write(&path, gzip(contents)).expect("OUT_DIR is writable");
    writeln!(assets, "    Asset {{ name: {name:?}, media_type: {media_type:?}, gzip: include_bytes!({path:?}) }},")
        .expect("memory can be written");
    name
}

/// The folder of the page's sources.
const WEB: &str = "web/src";

/// Writes the page, and the frame of the pages that share its look. The sources also work as they are: the names that a
/// build gives to their files are put in here.
fn write_page(out_dir: &str) {
    let read = |name: &str| fs::read_to_string(Path::new(WEB).join(name)).expect(name);
    let (mut script, mut linked) = (String::new(), Vec::new());
    link("main.js", &mut linked, &mut script);
    let mut assets = String::new();
    let mut asset = |stem, extension, media_type, contents: &str| {
        let name = write_asset(out_dir, stem, extension, media_type, contents.as_bytes(), &mut assets);
        format!("web/{name}")
    };
    let style = asset("style", "css", "text/css; charset=utf-8", &read("style.css"));
    let script = asset("main", "js", "text/javascript; charset=utf-8", &script);
    let index = read("index.html").replace("web/style.css", &style).replace("web/main.js", &script);
    let path = Path::new(out_dir).join("page.html.gz");
    fs::write(&path, gzip(index.as_bytes())).expect("OUT_DIR is writable");
    let frame = read("frame.html").replace("web/style.css", &style);
    let module = format!(
        "const ASSETS: &[Asset] = &[\n{assets}];\nconst INDEX: &[u8] = include_bytes!({path:?});\nconst PAGE: &str = \
         {frame:?};\n"
    );
    fs::write(Path::new(out_dir).join("web.rs"), module).expect("OUT_DIR is writable");
}

/// Appends a module of the page to the script that is served, after the modules that it imports: `import` lines go, and
/// `export` in front of a declaration. All of them then share one scope, so that no two may declare the same name.
fn link(name: &str, linked: &mut Vec<String>, script: &mut String) {
    if linked.iter().any(|other| other == name) {
        return;
    }
    linked.push(name.to_owned());
    let mut source = fs::read_to_string(Path::new(WEB).join(name)).expect(name);
    while let Some(start) = source.find("\nimport ").map(|newline| newline + 1) {
        let end = start + source[start..].find(";\n").expect("an import ends with a semicolon") + ";\n".len();
        let import = &source[start..end];
        let from = import.split_once("} from \"./").and_then(|(_, from)| from.strip_suffix("\";\n"));
        let from = from.filter(|_| import.starts_with("import {") && !import.contains(" as "));
        let from =
            from.unwrap_or_else(|| panic!("{name}: build.rs links only `import {{ … }} from \"./…\"`: {import}"));
        link(from, linked, script);
        source.replace_range(start..end, "");
    }
    let source = source.replace("\nexport ", "\n");
    for name_here in source.lines().filter_map(declared) {
        let elsewhere = script.lines().any(|line| declared(line) == Some(name_here));
        assert!(!elsewhere, "{name}: another module of the page declares {name_here} too");
    }
    script.push_str(&source);
}

/// The name that a line of a module declares for the whole module.
fn declared(line: &str) -> Option<&str> {
    let line = line.strip_prefix("async ").unwrap_or(line);
    let declarations = ["const ", "let ", "function ", "class "];
    let rest = declarations.iter().find_map(|declaration| line.strip_prefix(declaration))?;
    rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()
}

/// The file `name`, in any folder of the archive.
fn unzip(archive: &mut ZipArchive<Cursor<&[u8]>>, name: &str) -> Vec<u8> {
    let path = archive
        .file_names()
        .filter_map(|path| path.ok())
        .find(|path| path.rsplit('/').next() == Some(name))
        .unwrap_or_else(|| panic!("{name} is in the archive"))
        .into_owned();
    let mut contents = Vec::new();
    archive.by_name(&path).expect(name).read_to_end(&mut contents).expect(name);
    contents
}

/// Compressed without a time or a name in it: the same bytes at every build. A release takes some seconds for it.
fn gzip(contents: &[u8]) -> Vec<u8> {
    if env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        let mut compressed = Vec::new();
        zopfli::compress(zopfli::Options::default(), zopfli::Format::Gzip, contents, &mut compressed)
            .expect("memory can be written");
        return compressed;
    }
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    encoder.write_all(contents).and_then(|()| encoder.finish()).expect("memory can be written")
}
