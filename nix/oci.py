"""Writes OCI image layouts, for nix/oci.nix.

    oci.py image ARCHIVE SBOM OUT       the image of a docker-archive, with its config and layers as they are
    oci.py digest LAYOUT OUT            the digest of that image
    oci.py referrer LAYOUT SBOM OUT     the SBOM as an artifact that refers to that image
    oci.py index CREATED REVISION OUT LAYOUT...     one image for many architectures

skopeo would make the first, too, but leaves the health check out of the config, which gives the image another id.
"""

import datetime
import gzip
import hashlib
import json
import pathlib
import subprocess
import sys
import tarfile

OCI = "application/vnd.oci.image"
CYCLONEDX = "application/vnd.cyclonedx+json"
LABEL = "org.opencontainers.image."


class Layout:
    """A folder of blobs that are named by what they hold, and an index of those that one starts from."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.blobs = self.path / "blobs/sha256"

    def create(self):
        self.blobs.mkdir(parents=True)
        (self.path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        return self

    def add(self, media_type, content, **more):
        digest = hashlib.sha256(content).hexdigest()
        (self.blobs / digest).write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content), **more}

    def add_document(self, media_type, document, **more):
        content = json.dumps(
            {"schemaVersion": 2, "mediaType": media_type, **document}, sort_keys=True, separators=(",", ":")
        )
        return self.add(media_type, content.encode(), **more)

    def start_from(self, descriptor, name):
        named = descriptor | {"annotations": {LABEL + "ref.name": name}}
        index = {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": [named]}
        (self.path / "index.json").write_text(json.dumps(index, sort_keys=True))

    def start(self):
        descriptor = json.loads((self.path / "index.json").read_text())["manifests"][0]
        return descriptor, json.loads(self.blob(descriptor))

    def blob(self, descriptor):
        return (self.blobs / descriptor["digest"].removeprefix("sha256:")).read_bytes()


def compress(layer):
    """As small as gzip gets, without a time or a name: the digest is the layer's alone."""
    pathlib.Path("layer.tar").write_bytes(layer)
    compressed = subprocess.run(["zopfli", "-c", "layer.tar"], check=True, capture_output=True).stdout
    assert gzip.decompress(compressed) == layer
    return compressed


def write_image(archive_path, sbom_path, out):
    layout = Layout(out).create()
    with tarfile.open(archive_path) as archive:
        [entry] = json.load(archive.extractfile("manifest.json"))
        config = archive.extractfile(entry["Config"]).read()
        layers = [compress(archive.extractfile(path).read()) for path in entry["Layers"]]
    labels = json.loads(config)["config"]["Labels"]
    sbom_digest = hashlib.sha256(pathlib.Path(sbom_path).read_bytes()).hexdigest()
    manifest = layout.add_document(
        f"{OCI}.manifest.v1+json",
        {
            "config": layout.add(f"{OCI}.config.v1+json", config),
            "layers": [layout.add(f"{OCI}.layer.v1.tar+gzip", layer) for layer in layers],
            "annotations": labels | {"stockroom.sbom": f"sha256:{sbom_digest}"},
        },
    )
    layout.start_from(manifest, labels[LABEL + "version"])


def write_digest(layout_path, out):
    descriptor, _ = Layout(layout_path).start()
    pathlib.Path(out).write_text(descriptor["digest"] + "\n")


def write_referrer(layout_path, sbom_path, out):
    subject, _ = Layout(layout_path).start()
    del subject["annotations"]
    layout = Layout(out).create()
    referrer = layout.add_document(
        f"{OCI}.manifest.v1+json",
        {
            "artifactType": CYCLONEDX,
            "config": layout.add("application/vnd.oci.empty.v1+json", b"{}"),
            "layers": [layout.add(CYCLONEDX, pathlib.Path(sbom_path).read_bytes())],
            "subject": subject,
        },
        artifactType=CYCLONEDX,
    )
    # A registry that does not list what refers to a digest is asked for this tag instead.
    index = layout.add_document(f"{OCI}.index.v1+json", {"manifests": [referrer]})
    layout.start_from(index, subject["digest"].replace(":", "-"))


def write_index(created, revision, out, *layout_paths):
    layout = Layout(out).create()
    manifests = []
    for path in layout_paths:
        single = Layout(path)
        descriptor, manifest = single.start()
        name = descriptor.pop("annotations")[LABEL + "ref.name"]
        for blob in [descriptor, manifest["config"], *manifest["layers"]]:
            layout.add(blob["mediaType"], single.blob(blob))
        config = json.loads(single.blob(manifest["config"]))
        manifests.append(descriptor | {"platform": {"architecture": config["architecture"], "os": config["os"]}})
    created = f"{datetime.datetime.strptime(created, '%Y%m%d%H%M%S').isoformat()}Z"
    annotations = {LABEL + "created": created, LABEL + "revision": revision}
    index = layout.add_document(f"{OCI}.index.v1+json", {"manifests": manifests, "annotations": annotations})
    layout.start_from(index, name)


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    commands = {"image": write_image, "digest": write_digest, "referrer": write_referrer, "index": write_index}
    commands[command](*arguments)
