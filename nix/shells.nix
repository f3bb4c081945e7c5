{
  lib,
  stdenv,
  mkShell,
  cargo,
  cargo-nextest,
  chromedriver,
  chromium,
  clippy,
  deadnix,
  docker-client,
  docker-compose,
  haproxy,
  jre_headless,
  nixfmt-tree,
  openssl,
  postgresql,
  python3,
  rust-analyzer,
  rustPlatform,
  rustc,
  rustfmt,
  shellcheck,
  skopeo,
  statix,
  strace,
}:

let
  # The tools are named one by one: inputsFrom would evaluate the package on macOS, which it is not for.
  shell =
    packages:
    mkShell {
      packages = [
        cargo
        cargo-nextest
        clippy
        deadnix
        nixfmt-tree
        rust-analyzer
        rustc
        rustfmt
        shellcheck
        statix
      ]
      ++ packages;

      # rust-analyzer reads the standard library from here.
      env.RUST_SRC_PATH = rustPlatform.rustLibSrc;
    };
in
{
  default = shell [ ];

  # Everything that the tests can use.
  full = shell (
    [
      docker-client
      docker-compose
      haproxy
      jre_headless
      openssl
      postgresql
      python3
      skopeo
    ]
    # nixpkgs has these for Linux only.
    ++ lib.optionals stdenv.hostPlatform.isLinux [
      chromedriver
      chromium
      strace
    ]
  );
}
