{
  pkgs,
  stockroom,
  image,
}:

let
  inherit (pkgs) lib;
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
        ../benches
        ../clippy.toml
        ../examples
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
      STOCKROOM_WITHOUT = "browser,contract,image";
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

  # allowedReferences promises this already; a binary that asked the host for a loader would pass it, though.
  closure = pkgs.runCommand "stockroom-closure-check" { } ''
    if ! diff <(echo ${stockroom}) ${pkgs.writeClosure [ stockroom ]}; then
      echo "the closure holds more than the package" >&2
      exit 1
    fi
    if readelf --program-headers ${lib.getExe stockroom} | grep INTERP; then
      echo "the binary is dynamic" >&2
      exit 1
    fi
    touch $out
  '';

  image =
    pkgs.runCommand "stockroom-image-check"
      {
        nativeBuildInputs = [ pkgs.python3 ];
      }
      ''
        python3 ${./image-check.py} ${image} ${stockroom} ${stockroom.version}
        touch $out
      '';
}
# Debian has no nixfmt, so that nix/offline offers it only where somebody installed it.
// lib.optionalAttrs (pkgs ? nixfmt) {
  nixfmt =
    pkgs.runCommand "stockroom-nixfmt-check"
      {
        nativeBuildInputs = [ pkgs.nixfmt ];
        src = lib.fileset.toSource {
          root = ../.;
          fileset = lib.fileset.unions [
            ../flake.nix
            ./.
          ];
        };
      }
      ''
        find $src -name '*.nix' -exec nixfmt --check {} +
        touch $out
      '';
}
