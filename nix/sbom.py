"""Writes what is in the binary as CycloneDX 1.6, for nix/sbom.nix.

    sbom.py TREE LOCK VENDOR        from what `cargo tree` printed, Cargo.lock and the folder of crates

No time and no random number is in it: the same sources have the same bill.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tomllib
import uuid

tree_path, lock_path, vendor = sys.argv[1:]
vendor = pathlib.Path(vendor)
locked = tomllib.loads(pathlib.Path(lock_path).read_text())["package"]
checksums = {(package["name"], package["version"]): package.get("checksum") for package in locked}


def spdx(license):
    """crates.io once took a slash for OR."""
    return re.sub(r" ?/ ?", " OR ", license)


def component(reference, name, version, license, **more):
    return {
        "type": "library",
        "bom-ref": reference,
        "name": name,
        "version": version,
        "licenses": [{"expression": license}],
        **more,
    }


def crate(name, version, license, repository):
    # A crate of this repository is not the one that crates.io may have under the same name.
    purl = f"pkg:cargo/{name}@{version}"
    checksum = checksums[name, version]
    published = {"purl": purl, "hashes": [{"alg": "SHA-256", "content": checksum}]} if checksum else {}
    if repository:
        published["externalReferences"] = [{"type": "vcs", "url": repository}]
    return component(purl if checksum else f"{name}@{version}", name, version, spdx(license), **published)


def first(pattern, text):
    return re.search(pattern, text, re.MULTILINE)[1]


def printed(pattern, *command):
    return first(pattern, subprocess.run(command, check=True, capture_output=True, text=True).stdout)


components, depends_on, parents = {}, {}, []
for line in pathlib.Path(tree_path).read_text().splitlines():
    depth, package, license, repository = line.removesuffix(" (*)").split("|")
    name, version = re.match(r"(\S+) v(\S+)", package).groups()
    listed = crate(name, version, license, repository)
    del parents[int(depth) :]
    if parents:
        depends_on[parents[-1]].add(listed["bom-ref"])
    parents.append(listed["bom-ref"])
    depends_on.setdefault(listed["bom-ref"], set())
    components[listed["bom-ref"]] = listed

root = next(iter(components))
application = components.pop(root) | {"type": "application"}

# Linked parts that are not crates: C code of a crate, embedded files, the runtimes.
[sqlite] = [reference for reference in components if reference.startswith("pkg:cargo/libsqlite3-sys@")]
[sqlite_header] = vendor.glob("libsqlite3-sys*/sqlite3/sqlite3.h")
[swagger_ui] = vendor.glob("utoipa-swagger-ui-vendored*/res/v*.zip")
glibc = os.environ["GLIBC_VERSION"]
libgcc = printed("(.+)", "cc", "-dumpfullversion")
rust = printed(r"rustc (\S+)", "rustc", "--version")
for owner, kind, name, version, license in [
    (sqlite, "generic", "sqlite", first(r'^#define SQLITE_VERSION +"(.+)"', sqlite_header.read_text()), "blessing"),
    (root, "npm", "swagger-ui-dist", swagger_ui.stem.removeprefix("v"), "Apache-2.0"),
    (root, "generic", "glibc", glibc, "LGPL-2.1-or-later"),
    (root, "generic", "libgcc", libgcc, "GPL-3.0-or-later WITH GCC-exception-3.1"),
    (root, "generic", "rust", rust, "MIT OR Apache-2.0"),
]:
    purl = f"pkg:{kind}/{name}@{version}"
    components[purl] = component(purl, name, version, license, purl=purl)
    depends_on[purl] = set()
    depends_on[owner].add(purl)

bill = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.6",
    "version": 1,
    "metadata": {"timestamp": "1970-01-01T00:00:01Z", "component": application},
    "components": [components[reference] for reference in sorted(components)],
    "dependencies": [
        {"ref": reference, "dependsOn": sorted(depends_on[reference])} for reference in sorted(depends_on)
    ],
}
bill["serialNumber"] = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(bill, sort_keys=True)).urn
json.dump(bill, sys.stdout, indent=1, sort_keys=True)
