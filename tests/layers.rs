//! The layers of ARCHITECTURE.md, read from the paths in the source: none uses one above it, and no circle of files is
//! in the API.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The folders and modules of `src/`, each of which may use those after it.
const LAYERS: [&str; 10] = ["cli", "server", "api", "access", "files", "store", "domain", "config", "metrics", "tls"];

/// The modules that each module names, both as paths such as `api::http::page`.
type Imports = BTreeMap<String, BTreeSet<String>>;

fn imports() -> Imports {
    let mut texts = BTreeMap::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &[], &mut texts);
    let imports = texts.iter().map(|(module, (text, parent))| {
        let named = named(text, module, parent).into_iter().filter_map(|path| resolve(&path, &texts));
        (module.clone(), named.filter(|named| named != module).collect())
    });
    imports.collect()
}

/// Reads the text of each module in a folder, with the path that `super` is there.
fn read(folder: &Path, path: &[&str], texts: &mut BTreeMap<String, (String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        let stem = file.file_stem().unwrap().to_str().unwrap();
        if file.is_dir() {
            read(&file, &[path, &[stem]].concat(), texts);
        } else if stem == "mod" {
            let parent = path[..path.len() - 1].join("::");
            texts.insert(path.join("::"), (fs::read_to_string(&file).unwrap(), parent));
        } else if !path.is_empty() || LAYERS.contains(&stem) {
            texts.insert([path, &[stem]].concat().join("::"), (fs::read_to_string(&file).unwrap(), path.join("::")));
        }
    }
}

/// The paths in a text that begin with `crate`, `self` or `super`.
fn named(text: &str, module: &str, parent: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let code: String = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut paths = Vec::new();
    for (root, base) in [("crate::", ""), ("self::", module), ("super::", parent)] {
        for (index, _) in code.match_indices(root) {
            let part_of_word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            if code[..index].ends_with(part_of_word) {
                continue;
            }
            let rest = &code[index + root.len()..];
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(rest.len());
            paths.push(format!("{base}::{}", &rest[..end]).trim_matches(':').to_owned());
        }
    }
    paths
}

/// The module that a path leads to or into.
fn resolve(path: &str, modules: &BTreeMap<String, (String, String)>) -> Option<String> {
    let mut path = path;
    loop {
        if modules.contains_key(path) {
            return Some(path.to_owned());
        }
        path = path.rsplit_once("::")?.0;
    }
}

fn layer(module: &str) -> usize {
    let folder = module.split("::").next().unwrap();
    LAYERS.iter().position(|layer| *layer == folder).unwrap_or_else(|| panic!("{folder} is a layer"))
}

#[test]
fn no_layer_uses_one_above_it() {
    let imports = imports();
    assert!(imports.contains_key("api::http::params") && imports["api::http::params"].contains("domain"));
    for (module, named) in &imports {
        for named in named {
            assert!(layer(named) >= layer(module), "{module} uses {named}, which is above it");
        }
    }
}

#[test]
fn no_concern_of_http_and_no_part_of_the_document_uses_a_resource() {
    let is_concern = |module: &str| module.starts_with("api::http") || module.starts_with("api::openapi");
    for (module, named) in imports().iter().filter(|(module, _)| is_concern(module)) {
        for named in named {
            assert!(layer(named) > layer(module) || is_concern(named), "{module} uses {named}");
        }
    }
}

#[test]
fn no_files_of_the_api_use_each_other_in_a_circle() {
    fn visit<'a>(module: &'a str, imports: &'a Imports, way: &mut Vec<&'a str>, done: &mut BTreeSet<&'a str>) {
        assert!(!way.contains(&module), "{} uses {module} again", way.join(" uses "));
        if done.insert(module) || way.is_empty() {
            way.push(module);
            for named in imports[module].iter().filter(|named| layer(named) <= layer("files")) {
                visit(named, imports, way, done);
            }
            way.pop();
        }
    }
    let (imports, mut done) = (imports(), BTreeSet::new());
    for module in imports.keys().filter(|module| ["api", "files"].contains(&module.split("::").next().unwrap())) {
        visit(module, &imports, &mut Vec::new(), &mut done);
    }
}
