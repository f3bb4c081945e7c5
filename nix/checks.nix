{
  pkgs,
  packages,
  scripts,
}:

let
  inherit (pkgs) lib;
  inherit (packages) stockroom;

  check =
    name: nativeBuildInputs: script:
    pkgs.runCommand "stockroom-${name}-check" { inherit nativeBuildInputs; } ''
      ${script}
      touch $out
    '';

  # rustc makes static programs position independent on x86_64 (DYN), and not on aarch64 (EXEC).
  elfType = if pkgs.stdenv.hostPlatform.isAarch64 then "EXEC" else "DYN";

  nixFiles = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../flake.nix
      ./.
    ];
  };
in
{
  # One derivation, so that clippy, rustdoc and the tests share what they compile.
  source = pkgs.stdenv.mkDerivation {
    pname = "stockroom-source-check";
    inherit (stockroom) version cargoDeps;

    src = lib.fileset.toSource {
      root = ../.;
      fileset = lib.fileset.unions [
        (lib.fileset.fromSource stockroom.src)
        ../.cargo
        ../ARCHITECTURE.md
        ../CHANGELOG.md
        ../CONTRIBUTING.md
        ../LICENSE
        ../README.md
        ../SECURITY.md
        ../benches
        ../ci
        ../clippy.toml
        ../deploy
        ../docs
        ../examples
        ../nix
        ../proof
        ../rustfmt.toml
        ../tests
      ];
    };

    strictDeps = true;
    nativeBuildInputs = [
      pkgs.cargo
      pkgs.clippy
      pkgs.rustc
      pkgs.rustfmt
      pkgs.rustPlatform.cargoSetupHook
    ];

    # Debug information and incremental state are written for nobody here, and cost a third of the time.
    env = {
      CARGO_INCREMENTAL = "0";
      CARGO_PROFILE_DEV_DEBUG = "none";
      # Chromium wants a sandbox of its own, which it cannot have inside of Nix's.
      STOCKROOM_WITHOUT = "browser,compose,contract,haproxy,image,postgres";
    };

    buildPhase = ''
      cargo fmt --check
      cargo clippy --frozen --all-targets --all-features -- -D warnings
      RUSTDOCFLAGS="-D warnings" cargo doc --frozen --no-deps --all-features
      cargo test --frozen
    '';
    installPhase = ''
      touch $out
    '';
  };

  # allowedReferences does not see a loader outside of the store.
  closure = check "closure" [ pkgs.binutils ] ''
    if ! diff <(echo ${stockroom}) ${pkgs.writeClosure [ stockroom ]}; then
      echo "the closure holds more than the package" >&2
      exit 1
    fi

    # A pipe from readelf would hide its failure.
    readelf --wide --file-header --program-headers ${lib.getExe stockroom} > headers
    if grep INTERP headers; then
      echo "the program is dynamic" >&2
      exit 1
    fi
    if ! grep --quiet 'Type: *${elfType} ' headers; then
      echo "the program is not ${elfType}:" >&2
      cat headers >&2
      exit 1
    fi
  '';

  image = check "image" [ pkgs.python3 ] ''
    python3 ${./image-check.py} ${packages.image} ${stockroom} ${stockroom.version}
  '';

  oci = check "oci" [ pkgs.python3 ] ''
    python3 ${./oci-check.py} ${packages.image} ${packages.image-oci} ${packages.digest} \
      ${packages.sbom-referrer} ${packages.sbom}
  '';

  sbom = check "sbom" [ pkgs.python3 ] ''
    python3 ${./sbom-check.py} ${packages.sbom} ${lib.getExe stockroom} ${stockroom.version}
  '';

  # writeShellApplication runs ShellCheck when it builds them.
  scripts = check "scripts" [ ] ''
    ls ${toString (map lib.getExe (lib.attrValues scripts))}
  '';
}
# Debian has none of these: the stand-in for nixpkgs has those that are installed.
// lib.optionalAttrs (pkgs ? nixfmt) {
  nixfmt = check "nixfmt" [ pkgs.nixfmt ] ''
    find ${nixFiles} -name '*.nix' -exec nixfmt --check {} +
  '';
}
// lib.optionalAttrs (pkgs ? statix) {
  statix = check "statix" [ pkgs.statix ] ''
    statix check ${nixFiles}
  '';
}
// lib.optionalAttrs (pkgs ? deadnix) {
  deadnix = check "deadnix" [ pkgs.deadnix ] ''
    deadnix --fail ${nixFiles}
  '';
}
