{
  lib,
  stdenv,
  cargo,
  glibc,
  python3,
  rustPlatform,
  rustc,
  stockroom,
}:

stdenv.mkDerivation {
  pname = "stockroom-sbom";
  inherit (stockroom) version src cargoDeps;

  strictDeps = true;
  nativeBuildInputs = [
    cargo
    python3
    rustPlatform.cargoSetupHook
    rustc
  ];

  env.GLIBC_VERSION = glibc.version;

  # cargo knows which crates are linked; those that only run at build time are left out.
  buildPhase = ''
    cargo tree --frozen --target ${stdenv.hostPlatform.rust.rustcTarget} --edges normal,no-proc-macro --prefix depth \
      --format '|{p}|{l}|{r}' > linked
  '';
  installPhase = ''
    python3 ${./sbom.py} linked Cargo.lock "$NIX_BUILD_TOP/cargo-vendor-dir" > $out
  '';

  meta = {
    description = "Software bill of materials of Stockroom's binary, as CycloneDX";
    license = lib.licenses.mit;
  };
}
