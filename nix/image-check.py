"""Holds the image to what docs and README promise of it; exits 1 with every broken promise."""

import hashlib
import json
import pathlib
import sys
import tarfile

archive_path, package, version = sys.argv[1:]

LAYERS_CEILING = 12_800_000
OVERHEAD_CEILING = 0.01

broken = []


def promise(what, expected, found):
    if expected != found:
        broken.append(f"{what}: expected {expected!r}, found {found!r}")


def describe(member):
    kind = "directory" if member.isdir() else "link" if member.issym() else "file"
    owner = f"{member.uid}:{member.gid}"
    return f"{kind} {member.mode:o} {owner}" if kind != "link" else f"link to {member.linkname}"


with tarfile.open(archive_path) as archive:
    manifest = json.load(archive.extractfile("manifest.json"))
    image = json.load(archive.extractfile(manifest[0]["Config"]))
    config = image["config"]

    layers_size = 0
    diff_ids = []
    contents = {}
    for layer_path in manifest[0]["Layers"]:
        layers_size += archive.getmember(layer_path).size
        diff_ids.append("sha256:" + hashlib.sha256(archive.extractfile(layer_path).read()).hexdigest())
        with tarfile.open(fileobj=archive.extractfile(layer_path)) as layer:
            for member in layer:
                contents["/" + member.name.removeprefix("./").strip("/.")] = describe(member)

promise("images in the archive", 1, len(manifest))
promise("name", [f"stockroom:{version}"], manifest[0]["RepoTags"])
promise("layers", diff_ids, image["rootfs"]["diff_ids"])
promise("creation date", "1970-01-01T00:00:01", image["created"][:19])

# A shell, a package manager or a second store path would show up here.
expected_contents = {
    "/data": "directory 750 65532:65532",
    "/nix": "directory 755 0:0",
    "/nix/store": "directory 755 0:0",
    package: "directory 555 0:0",
    f"{package}/bin": "directory 555 0:0",
    f"{package}/bin/stockroom": "file 555 0:0",
}
contents.pop("/", None)
for path in sorted(expected_contents | contents):
    promise(path, expected_contents.get(path), contents.get(path))

promise("entry point", [f"{package}/bin/stockroom"], config.get("Entrypoint"))
promise("command", None, config.get("Cmd"))
promise("user", "65532:65532", config.get("User"))
promise("working folder", "/data", config.get("WorkingDir"))
promise("ports", {"8080/tcp": {}}, config.get("ExposedPorts"))
promise("volumes", {"/data": {}}, config.get("Volumes"))
promise("stop signal", "SIGTERM", config.get("StopSignal"))
promise(
    "environment",
    [f"PATH={package}/bin", "STOCKROOM_LISTEN=0.0.0.0:8080", "STOCKROOM_DATABASE=sqlite:/data/stockroom.db"],
    config.get("Env"),
)
promise("health check", ["CMD", f"{package}/bin/stockroom", "healthcheck"], config.get("Healthcheck", {}).get("Test"))
labels = config.get("Labels", {})
promise("label of the version", version, labels.get("org.opencontainers.image.version"))
promise(
    "labels",
    ["description", "licenses", "title", "version"],
    sorted(name.removeprefix("org.opencontainers.image.") for name in labels),
)

binary_size = pathlib.Path(package, "bin/stockroom").stat().st_size
overhead = layers_size / binary_size - 1
print(f"layers: {layers_size:,} bytes, {overhead:.2%} over the binary's {binary_size:,}")
if layers_size > LAYERS_CEILING:
    broken.append(f"size: layers of {layers_size:,} bytes, more than {LAYERS_CEILING:,}")
if overhead > OVERHEAD_CEILING:
    broken.append(f"size: {overhead:.2%} over the bare binary, more than {OVERHEAD_CEILING:.0%}")

if broken:
    sys.exit("\n".join(broken))
