{ lib, system }:

let
  stdenv = import ./stdenv.nix { inherit lib system; };
  inherit (stdenv) hostTool run;

  apt = package: hostTool "apt-get install ${package}";
  rustup = hostTool "install Rust with its default profile from https://rustup.rs";
  # Debian has none of these; this nixfmt formats as nixpkgs' does.
  nixTools = {
    deadnix = hostTool "cargo install deadnix" [ "deadnix" ];
    nixfmt = hostTool "cargo install nixfmt_rs" [ "nixfmt" ];
    statix = hostTool "build statix, which no package registry has" [ "statix" ];
  };

  cargo = rustup [ "cargo" ];
  rustc = rustup [ "rustc" ];

  callPackage =
    file: overrides:
    let
      function = import file;
      wanted = builtins.functionArgs function;
      found = builtins.intersectAttrs wanted (nixTools // packages) // overrides;
      absent = builtins.filter (name: !wanted.${name} && !found ? ${name}) (builtins.attrNames wanted);
    in
    if absent == [ ] then
      function found
    else
      stdenv.refuse "${toString file} asks for ${toString absent}, which nix/offline/packages.nix does not stand in for";

  packages = {
    inherit
      lib
      callPackage
      cargo
      rustc
      ;
    inherit (stdenv) mkShell runCommand writeShellApplication;

    stdenv = {
      inherit (stdenv) mkDerivation;
      hostPlatform = {
        inherit system;
        isLinux = builtins.match ".*-linux" system != null;
        rust.rustcTarget = "${builtins.head (builtins.split "-" system)}-unknown-linux-gnu";
      };
    };

    rustPlatform = import ./rust-platform.nix {
      inherit stdenv cargo rustc;
      target = packages.stdenv.hostPlatform.rust.rustcTarget;
    };

    dockerTools = import ./docker-tools.nix {
      inherit run system;
      inherit (packages) fakeroot python3 writeClosure;
    };

    chromedriver = apt "chromium-driver" [ "chromedriver" ];
    chromium = apt "chromium" [ "chromium" ];
    fakeroot = apt "fakeroot" [ "fakeroot" ];
    gzip = apt "gzip" [ "gzip" ];
    haproxy = apt "haproxy" [ "haproxy" ];
    openssl = apt "openssl" [ "openssl" ];
    postgresql = apt "postgresql" [ "psql" ];
    python3 = apt "python3" [ "python3" ];
    shellcheck = apt "shellcheck" [ "shellcheck" ];
    skopeo = apt "skopeo" [ "skopeo" ];
    strace = apt "strace" [ "strace" ];
    zopfli = apt "zopfli" [ "zopfli" ];

    cargo-nextest = hostTool "cargo install cargo-nextest" [ "cargo-nextest" ];
    clippy = rustup [ "cargo-clippy" ];
    rust-analyzer = hostTool "rustup component add rust-analyzer" [ "rust-analyzer" ];
    rustfmt = rustup [ "cargo-fmt" ];

    # libc.a lies where the linker looks in any case.
    glibc = {
      static = "/usr";
      version = builtins.head (builtins.match ".*\nldd [^\n]* ([0-9.]+)\n.*" stdenv.host.versions);
    };

    # Rust's own; Debian's is too old.
    lld = run {
      name = "lld";
      script = ''
        mkdir -p $out/bin
        ln -s /rust/lib/rustlib/${packages.stdenv.hostPlatform.rust.rustcTarget}/bin/gcc-ld/ld.lld $out/bin
      '';
    };

    nukeReferences = run {
      name = "nuke-references";
      script = ''
        mkdir -p $out/bin
        cat > $out/bin/nuke-refs <<'END'
        #!/bin/sh
        exec sed -i -E 's|${builtins.storeDir}/[a-z0-9]{32}-|${builtins.storeDir}/eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee-|g' "$@"
        END
        chmod +x $out/bin/nuke-refs
      '';
    };

    writeClosure =
      paths:
      run {
        name = "runtime-deps";
        attributes.exportReferencesGraph = builtins.concatMap (path: [
          "closure-${baseNameOf (builtins.unsafeDiscardStringContext "${path}")}"
          path
        ]) paths;
        # An entry names a path, its derivation and its references, which have entries of their own.
        script = ''
          cat closure-* | grep '^${builtins.storeDir}/' | grep -v '\.drv$' | sort -u > $out
        '';
      };

    nixfmt-tree =
      run {
        name = "nixfmt-tree";
        script = ''
          mkdir -p $out/bin
          cat > $out/bin/treefmt <<'END'
          #!/bin/bash
          missing() { echo "$1" >&2; exit 1; }
          ${stdenv.lookFor "missing" nixTools.nixfmt}
          git ls-files -z '*.nix' | xargs -0 nixfmt
          END
          chmod +x $out/bin/treefmt
        '';
      }
      // {
        meta.mainProgram = "treefmt";
      };

    # `nix develop` asks nixpkgs for its shell.
    bashInteractive = run {
      name = "bash-interactive";
      script = ''
        mkdir -p $out/bin
        ln -s /bin/bash $out/bin/bash
      '';
    };
  }
  // lib.getAttrs stdenv.host.nixTools nixTools;
in
packages
