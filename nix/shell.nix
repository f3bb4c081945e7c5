{
  lib,
  stdenv,
  mkShell,
  stockroom,
  cargo-nextest,
  chromedriver,
  chromium,
  clippy,
  nixfmt-tree,
  rust-analyzer,
  rustfmt,
  skopeo,
}:

mkShell {
  inputsFrom = [ stockroom ];
  packages = [
    cargo-nextest
    clippy
    nixfmt-tree
    rust-analyzer
    rustfmt
    skopeo
  ]
  # nixpkgs builds Chromium for Linux only; on macOS the browser test uses an installed one or skips itself.
  ++ lib.optionals stdenv.hostPlatform.isLinux [
    chromedriver
    chromium
  ];
}
