{
  lib,
  rustPlatform,
  glibc,
  lld,
  nukeReferences,
  features ? [ ],
}:

let
  manifest = (lib.importTOML ../Cargo.toml).package;

  # ring puts its version into the names of its C functions.
  ring = builtins.head (
    builtins.filter (crate: crate.name == "ring") (lib.importTOML ../Cargo.lock).package
  );
  ringFunction = name: "ring_core_${builtins.replaceStrings [ "." ] [ "_" ] ring.version}__${name}";
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
      ../migrations
      ../src
    ];
  };

  cargoLock.lockFile = ../Cargo.lock;
  buildFeatures = features;

  strictDeps = true;
  nativeBuildInputs = [
    lld
    nukeReferences
  ];

  env = {
    # buildRustPackage always names a target, so these flags reach the service only: build scripts and
    # procedural macros stay dynamic. glibc.static as a build input would come before their shared libc.
    #
    # What is for the size, and what it saves:
    # - inlining only what gets smaller by it: 0.12 MB;
    # - the list of what to relocate, packed: 0.38 MB;
    # - what is alike laid side by side: 0.09 MB of the compressed layer (together with the first, a read takes about
    #   a twelfth more CPU, and a durable create a hundredth);
    # - BoringSSL's switch for small programs: 0.17 MB. P-256 comes from fiat-crypto then, without a table of multiples
    #   of its generator. On these processors ring's Rust calls a faster product of public numbers, which is made from
    #   that table; it gets the one that ring uses for them on all others.
    RUSTFLAGS = lib.concatStringsSep " " [
      "-C target-feature=+crt-static"
      "-L native=${glibc.static}/lib"
      "-C llvm-args=-inline-threshold=8"
      "-C link-arg=-fuse-ld=lld"
      "-C link-arg=-Wl,-z,pack-relative-relocs"
      "-C link-arg=-Wl,--bp-compression-sort=both"
      "-C link-arg=-Wl,--defsym=${ringFunction "p256_point_mul_base_vartime"}=${ringFunction "p256_point_mul_base"}"
    ];

    # No panic unwinds through the C code, which is SQLite's and ring's, so that it needs no tables for that.
    CFLAGS = "-fno-asynchronous-unwind-tables -DOPENSSL_SMALL";

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
