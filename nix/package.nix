{
  lib,
  rustPlatform,
  glibc,
  nukeReferences,
}:

let
  manifest = (lib.importTOML ../Cargo.toml).package;
in
rustPlatform.buildRustPackage {
  pname = manifest.name;
  inherit (manifest) version;

  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../.cargo
      ../Cargo.lock
      ../Cargo.toml
      ../build.rs
      ../migrations
      ../src
      ../web/src
    ];
  };

  cargoLock.lockFile = ../Cargo.lock;

  # buildRustPackage always passes --target, so these flags reach the program only: build scripts and procedural
  # macros stay dynamic. glibc.static in buildInputs would come before the shared libc that those need.
  env.RUSTFLAGS = toString [
    "-C target-feature=+crt-static"
    "-C link-arg=-Wl,-z,pack-relative-relocs"
    "-L native=${glibc.static}/lib"
  ];

  # checks.source runs the tests.
  doCheck = false;

  # By default stdenv keeps the symbol table.
  stripAllList = [ "bin" ];
  dontPatchELF = true;

  # glibc's archives contain the paths of its locale and gconv folders, which the image does not have.
  nativeBuildInputs = [ nukeReferences ];
  postFixup = ''
    nuke-refs $out/bin/stockroom
  '';
  allowedReferences = [ ];

  meta = {
    description = "Inventory service with exact stock, a typed HTTP API and embedded storage";
    license = lib.licenses.mit;
    mainProgram = "stockroom";
    platforms = lib.platforms.linux;
  };
}
