//! Compresses Swagger UI, whose files are named by a hash of their contents.

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
        let hash: String = Sha256::digest(&contents).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let name = format!("{stem}.{hash}.{extension}");
        index = index.replace(&format!("{{{placeholder}}}"), &name);
        let path = Path::new(&out_dir).join(&name);
        fs::write(&path, gzip(&contents)).expect("OUT_DIR is writable");
        writeln!(assets, "    Asset {{ name: {name:?}, media_type: {media_type:?}, gzip: include_bytes!({path:?}) }},")
            .expect("memory can be written");
    }
    let module = format!("const ASSETS: &[Asset] = &[\n{assets}];\nconst INDEX: &str = {index:?};\n");
    fs::write(Path::new(&out_dir).join("swagger_ui.rs"), module).expect("OUT_DIR is writable");
}

/// The file `name`, in whatever folder of the archive it lies.
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
