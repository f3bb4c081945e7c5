{
  stdenv,
  target,
  cargo,
  rustc,
}:

let
  # Panic messages keep the folder of a crate, which must be neither one of the store nor one of the host: the crates
  # are copied to where nixpkgs' hook puts them. ci/nixpkgs-standin/nix binds /vendor.
  cargoSetupHook = stdenv.hook ''
    cp -r /vendor ../cargo-vendor-dir
    chmod -R u+w ../cargo-vendor-dir
    mkdir ../.cargo
    cat > ../.cargo/config.toml <<END
    [source.crates-io]
    replace-with = "vendored-sources"
    [source.vendored-sources]
    directory = "$NIX_BUILD_TOP/cargo-vendor-dir"
    END
    export CARGO_HOME=$NIX_BUILD_TOP/cargo-home
  '';
in
{
  inherit cargoSetupHook;

  # Where a shell finds it; builds do not read it.
  rustLibSrc = "${stdenv.host.sysroot}/lib/rustlib/src/rust/library";

  # cargo-auditable is not among Debian's packages: here the binary is without its audit section.
  buildRustPackage =
    {
      pname,
      version,
      src,
      cargoLock,
      env,
      nativeBuildInputs,
      doCheck,
      stripAllList,
      dontPatchELF,
      postFixup,
      allowedReferences,
      meta,
    }:
    assert !doCheck || stdenv.refuse "the source check runs the tests: set doCheck = false";
    assert dontPatchELF || stdenv.refuse "there is no patchelf here: set dontPatchELF";
    stdenv.mkDerivation {
      inherit
        pname
        version
        src
        env
        allowedReferences
        meta
        ;
      cargoDeps = ({ lockFile }: lockFile) cargoLock;
      strictDeps = true;
      nativeBuildInputs = nativeBuildInputs ++ [
        cargo
        cargoSetupHook
        rustc
      ];
      buildPhase = ''
        export CARGO_PROFILE_RELEASE_STRIP=false
        cargo build --frozen --release --target ${target}
      '';
      installPhase = ''
        mkdir -p $out/bin
        find target/${target}/release -maxdepth 1 -type f -executable -exec cp -t $out/bin {} +
        ${stdenv.lines (map (folder: "strip -s -p $out/${folder}/*") stripAllList)}
        ${postFixup}
      '';
    };
}
