"""Writes a docker-archive to standard output: one layer a store path, then the given one."""

import hashlib
import io
import json
import pathlib
import sys
import tarfile

image_path, store_paths_path, customisation_path = sys.argv[1:]
image = json.loads(pathlib.Path(image_path).read_text())
store_paths = pathlib.Path(store_paths_path).read_text().split()

# One second past the epoch is what Nix gives to all files of its store.
MTIME = 1


def normalised(member):
    member.mtime = MTIME
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def folder(name):
    member = normalised(tarfile.TarInfo(name))
    member.type = tarfile.DIRTYPE
    member.mode = 0o755
    return member


def add_bytes(archive, name, content):
    member = normalised(tarfile.TarInfo(name))
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def layer_of(store_path):
    root = pathlib.Path(store_path)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        layer.addfile(folder("nix"))
        layer.addfile(folder("nix/store"))
        for path in sorted([root, *root.rglob("*")]):
            # A store that shares equal files by hard links must not show in the image.
            layer.inodes.clear()
            layer.add(path, recursive=False, filter=normalised)
    return buffer.getvalue()


layers = [layer_of(path) for path in store_paths] + [pathlib.Path(customisation_path).read_bytes()]
digests = [hashlib.sha256(layer).hexdigest() for layer in layers]
config = json.dumps(
    {
        "architecture": image["architecture"],
        "os": "linux",
        "created": image["created"],
        "config": image["config"],
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
        "history": [{"created": image["created"]} for _ in layers],
    }
).encode()
config_name = hashlib.sha256(config).hexdigest() + ".json"
manifest = {
    "Config": config_name,
    "RepoTags": [image["repo_tag"]],
    "Layers": [f"{digest}/layer.tar" for digest in digests],
}

with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
    for digest, layer in zip(digests, layers):
        add_bytes(archive, f"{digest}/layer.tar", layer)
    add_bytes(archive, config_name, config)
    add_bytes(archive, "manifest.json", json.dumps([manifest]).encode())
