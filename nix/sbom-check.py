"""Holds the bill of materials to its form and to the binary; exits 1 with every broken promise.

    sbom-check.py SBOM BINARY VERSION

.ci/run validates it against CycloneDX's own schema, which is not available in the sandbox.
"""

import json
import pathlib
import re
import sys

sbom_path, binary, version = sys.argv[1:]
bill = json.loads(pathlib.Path(sbom_path).read_text())

broken = []


def promise(what, expected, found):
    if expected != found:
        broken.append(f"{what}: expected {expected!r}, found {found!r}")


promise("format", ("CycloneDX", "1.6"), (bill["bomFormat"], bill["specVersion"]))
promise("time", "1970-01-01T00:00:01Z", bill["metadata"]["timestamp"])
if not re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", bill["serialNumber"]):
    broken.append(f"serial number: {bill['serialNumber']}")

application = bill["metadata"]["component"]
subject = tuple(application[key] for key in ("type", "name", "version"))
promise("subject", ("application", "stockroom", version), subject)

references = [component["bom-ref"] for component in [application, *bill["components"]]]
promise("components that come twice", len(set(references)), len(references))
for component in bill["components"]:
    for key in ("name", "version", "licenses"):
        if not component.get(key):
            broken.append(f"{component['bom-ref']} has no {key}")
    if component.get("purl", "").startswith("pkg:cargo/") and not component.get("hashes"):
        broken.append(f"{component['bom-ref']} has no hash")

promise("subjects of the graph", sorted(references), sorted(entry["ref"] for entry in bill["dependencies"]))
needed = {reference for entry in bill["dependencies"] for reference in entry["dependsOn"]}
promise("what the graph needs", set(references) - {application["bom-ref"]}, needed)

names = {component["name"] for component in bill["components"]}
promise("what is no crate", set(), {"glibc", "libgcc", "rust", "sqlite", "swagger-ui-dist"} - names)

# Panic messages keep the folder of their crate: the binary itself names many of those that are in it.
crates = {f"{component['name']}-{component['version']}" for component in bill["components"]}
seen = set(re.findall(rb"cargo-vendor-dir/([A-Za-z0-9_.+-]+)/", pathlib.Path(binary).read_bytes()))
print(f"{len(references) - 1} components, {len(seen)} of them named in the binary")
if not seen:
    broken.append("the binary names no crate")
for folder in sorted(folder.decode() for folder in seen):
    if folder not in crates and not any(crate.startswith(folder + "-") for crate in crates):
        broken.append(f"{folder} is in the binary and not in the bill")

if broken:
    sys.exit("\n".join(broken))
