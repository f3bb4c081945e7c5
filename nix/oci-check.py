"""Holds the OCI layouts to what docs/image.md promises of them; exits 1 with every broken promise.

    oci-check.py ARCHIVE LAYOUT DIGEST REFERRER SBOM
"""

import gzip
import hashlib
import json
import pathlib
import sys
import tarfile

archive_path, layout, digest_path, referrer, sbom_path = sys.argv[1:]

COMPRESSED_CEILING = 6_000_000
LABEL = "org.opencontainers.image."

broken = []


def promise(what, expected, found):
    if expected != found:
        broken.append(f"{what}: expected {expected!r}, found {found!r}")


def digest_of(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


def blob(layout, descriptor):
    content = pathlib.Path(layout, "blobs", descriptor["digest"].replace(":", "/")).read_bytes()
    promise(f"digest of a {descriptor['mediaType']}", descriptor["digest"], digest_of(content))
    promise(f"size of {descriptor['digest']}", descriptor["size"], len(content))
    return content


def start(layout):
    layout = pathlib.Path(layout)
    promise("version", {"imageLayoutVersion": "1.0.0"}, json.loads((layout / "oci-layout").read_text()))
    [descriptor] = json.loads((layout / "index.json").read_text())["manifests"]
    return descriptor, json.loads(blob(layout, descriptor))


with tarfile.open(archive_path) as archive:
    [entry] = json.load(archive.extractfile("manifest.json"))
    config = archive.extractfile(entry["Config"]).read()
    layers = [archive.extractfile(path).read() for path in entry["Layers"]]
labels = json.loads(config)["config"]["Labels"]
sbom = pathlib.Path(sbom_path).read_bytes()

image, manifest = start(layout)
promise("config, whose digest is the image's id", digest_of(config), manifest["config"]["digest"])
promise("bytes of the config", config, blob(layout, manifest["config"]))
compressed = [blob(layout, layer) for layer in manifest["layers"]]
promise("layers", [digest_of(layer) for layer in layers], [digest_of(gzip.decompress(layer)) for layer in compressed])
for layer in compressed:
    promise("name and time in the head of a compressed layer", bytes(5), layer[3:8])
promise("annotations", labels | {"stockroom.sbom": digest_of(sbom)}, manifest["annotations"])
promise("name in the layout", labels[LABEL + "version"], image["annotations"][LABEL + "ref.name"])
promise("digest that the build prints", image["digest"] + "\n", pathlib.Path(digest_path).read_text())

named = {image["digest"], manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])}
promise("blobs", named, {f"sha256:{path.name}" for path in pathlib.Path(layout, "blobs/sha256").iterdir()})

tag, index = start(referrer)
[attached] = index["manifests"]
artifact = json.loads(blob(referrer, attached))
promise("what the bill refers to", image["digest"], artifact["subject"]["digest"])
promise("bill", [sbom], [blob(referrer, layer) for layer in artifact["layers"]])
promise("kind of the bill", "application/vnd.cyclonedx+json", artifact["artifactType"])
promise("tag of the bill", image["digest"].replace(":", "-"), tag["annotations"][LABEL + "ref.name"])

size = sum(map(len, compressed))
print(f"{image['digest']}: {size:,} bytes in compressed layers")
if size > COMPRESSED_CEILING:
    broken.append(f"size: compressed layers of {size:,} bytes, more than {COMPRESSED_CEILING:,}")

if broken:
    sys.exit("\n".join(broken))
