{
  lib,
  stdenv,
  mkShell,
  rustPlatform,
  cargo-nextest,
  chromedriver,
  chromium,
  clippy,
  deadnix,
  haproxy,
  nixfmt-tree,
  openssl,
  postgresql,
  python3,
  rust-analyzer,
  rustfmt,
  shellcheck,
  skopeo,
  statix,
  strace,
  stockroom,
}:

mkShell {
  inputsFrom = [ stockroom ];
  packages = [
    cargo-nextest
    clippy
    deadnix
    nixfmt-tree
    openssl
    postgresql
    python3
    rust-analyzer
    rustfmt
    shellcheck
    skopeo
    statix
  ]
  # nixpkgs builds these for Linux only; on macOS the tests that use them take installed ones or skip themselves.
  ++ lib.optionals stdenv.hostPlatform.isLinux [
    chromedriver
    chromium
    haproxy
    strace
  ];

  # rust-analyzer reads the standard library from here.
  env.RUST_SRC_PATH = rustPlatform.rustLibSrc;
}
