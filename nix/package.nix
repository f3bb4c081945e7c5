{
  lib,
  rustPlatform,
  glibc,
  nukeReferences,
  features ? [ ],
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
      ../Cargo.lock
      ../Cargo.toml
      ../build.rs
      ../crates
      ../migrations
      ../src
    ];
  };

  cargoLock.lockFile = ../Cargo.lock;
  buildFeatures = features;

  strictDeps = true;
  nativeBuildInputs = [ nukeReferences ];

  env = {
    # buildRustPackage always names a target, so these flags reach the service only: build scripts and
    # procedural macros stay dynamic. glibc.static as a build input would come before their shared libc.
    #
    # The program is loaded wherever it fits, and relocates itself: packed, the list of what to relocate takes
    # 5 KB in place of 390. A linker that cannot pack it says so and goes on.
    RUSTFLAGS = lib.concatStringsSep " " [
      "-C target-feature=+crt-static"
      "-L native=${glibc.static}/lib"
      "-C link-arg=-Wl,-z,pack-relative-relocs"
    ];

    # No panic unwinds through the C code, which is SQLite's, so that it needs no tables for that.
    CFLAGS = "-fno-asynchronous-unwind-tables";

    # What .cargo/config.toml, which is the developer's, says too: parts of SQLite that Stockroom never uses.
    inherit ((lib.importTOML ../.cargo/config.toml).env) LIBSQLITE3_FLAGS;
  };

  # The source check runs the tests, once and unoptimised.
  doCheck = false;

  # The build hook overrides `strip` of the release profile, and stdenv alone would keep the symbol table.
  stripAllList = [ "bin" ];
  dontPatchELF = true;

  # glibc's archives name its locale and gconv folders, which the image does not have and nothing reads.
  # Whatever else should slip in makes the build fail.
  postFixup = ''
    nuke-refs $out/bin/stockroom
  '';
  allowedReferences = [ ];

  meta = {
    description = "Inventory service with exact stock, a typed HTTP API and embedded storage";
    longDescription = ''
      Stockroom keeps an exact inventory behind a small HTTP API with an OpenAPI document and Swagger UI.
      Stock is kept in SQLite; what was acknowledged survives a power loss. The binary is static and
      needs nothing else at run time.
    '';
    license = lib.licenses.mit;
    mainProgram = "stockroom";
    platforms = lib.platforms.linux;
  };
}
