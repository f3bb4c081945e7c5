{ lib, system }:

let
  stdenv = import ./stdenv.nix { inherit lib system; };
  inherit (stdenv) hostTool withMeta;

  # The platforms are those of nixpkgs' package.
  debianFor =
    platforms: package: paths:
    hostTool {
      inherit platforms;
      install = "apt-get install ${package}";
      paths = map (path: "/usr/${path}") paths;
    };
  debian = debianFor lib.platforms.all;
  debianOnLinux = debianFor lib.platforms.linux;
  rust =
    install: programs:
    hostTool {
      inherit install;
      paths = map (program: "/rust/bin/${program}") programs;
    };
  rustup = rust "install Rust with its default profile from https://rustup.rs";

  # Debian has none of these; this nixfmt formats as nixpkgs' does.
  nixTools =
    builtins.mapAttrs
      (
        program: install:
        hostTool {
          inherit install;
          paths = [ "/nix-tools/${program}" ];
        }
      )
      {
        deadnix = "cargo install deadnix";
        nixfmt = "cargo install nixfmt_rs";
        statix = "build statix, which no package registry has";
      };

  # For the shell, whose tools may be missing.
  all = nixTools // packages;

  packages = {
    inherit lib;
    inherit (stdenv) mkShell runCommand;
    callPackage = lib.callPackageWith all;
    callPackages = lib.callPackagesWith all;

    stdenv = {
      inherit (stdenv) mkDerivation;
      hostPlatform = {
        inherit system;
        isLinux = builtins.match ".*-linux" system != null;
        isAarch64 = builtins.match "aarch64-.*" system != null;
        rust.rustcTarget = "${builtins.head (builtins.split "-" system)}-unknown-linux-gnu";
      };
    };

    rustPlatform = import ./rust-platform.nix {
      inherit stdenv;
      inherit (packages) cargo rustc;
      target = packages.stdenv.hostPlatform.rust.rustcTarget;
    };

    dockerTools = import ./docker-tools.nix {
      inherit stdenv system;
      inherit (packages) fakeroot python3 writeClosure;
    };

    writeShellApplication = stdenv.writeShellApplicationWith { inherit (packages) shellcheck; };

    inherit (stdenv) binutils;
    cargo = rustup [ "cargo" ];
    # nixpkgs has cargo-clippy and its driver in one package, too.
    clippy = rustup [
      "cargo-clippy"
      "clippy-driver"
    ];
    rust-analyzer = rust "rustup component add rust-analyzer" [ "rust-analyzer" ];
    rustc = rustup [
      "rustc"
      "rustdoc"
    ];
    rustfmt = rustup [
      "cargo-fmt"
      "rustfmt"
    ];
    cargo-nextest = rust "cargo install cargo-nextest" [ "cargo-nextest" ];

    chromedriver = debianOnLinux "chromium-driver" [ "bin/chromedriver" ];
    chromium = debianOnLinux "chromium" [ "bin/chromium" ];
    docker-client = debian "docker.io" [ "bin/docker" ];
    docker-compose = debian "docker-compose" [ "bin/docker-compose" ];
    # The script calls getopt.
    fakeroot = debian "fakeroot" [
      "bin/fakeroot"
      "bin/getopt"
    ];
    gzip = debian "gzip" [ "bin/gzip" ];
    haproxy = debian "haproxy" [ "sbin/haproxy" ];
    jre_headless = debian "default-jre-headless" [ "bin/java" ];
    openssl = debian "openssl" [ "bin/openssl" ];
    postgresql = debian "postgresql" [ "bin/psql" ];
    python3 = debian "python3" [ "bin/python3" ];
    shellcheck = debian "shellcheck" [ "bin/shellcheck" ];
    skopeo = debian "skopeo" [ "bin/skopeo" ];
    strace = debianOnLinux "strace" [ "bin/strace" ];
    zopfli = debian "zopfli" [ "bin/zopfli" ];

    # libc.a is where the linker looks in any case.
    glibc = withMeta { platforms = lib.platforms.linux; } (stdenv.bare "glibc" "mkdir $out") // {
      static = "/usr";
      version = builtins.head (builtins.match ".*\nldd [^\n]* ([0-9.]+)\n.*" stdenv.host.versions);
    };

    nukeReferences = withMeta { } (
      stdenv.bare "nuke-references" ''
        mkdir -p $out/bin
        cat > $out/bin/nuke-refs <<'END'
        #!/bin/sh
        exec sed -i -E 's|${builtins.storeDir}/[a-z0-9]{32}-|${builtins.storeDir}/eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee-|g' "$@"
        END
        chmod +x $out/bin/nuke-refs
      ''
    );

    writeClosure =
      paths:
      stdenv.runNoCC {
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

    nixfmt-tree = withMeta { mainProgram = "treefmt"; } (
      stdenv.bare "nixfmt-tree" ''
        mkdir -p $out/bin
        cat > $out/bin/treefmt <<'END'
        #!/bin/bash
        missing() { echo "$1" >&2; exit 1; }
        ${stdenv.lookFor "missing" nixTools.nixfmt}
        git ls-files -z '*.nix' | xargs -0 nixfmt
        END
        chmod +x $out/bin/treefmt
      ''
    );

    # `nix develop` asks nixpkgs for its shell.
    bashInteractive = withMeta { } (
      stdenv.bare "bash-interactive" ''
        mkdir -p $out/bin
        ln -s /bin/bash $out/bin/bash
      ''
    );
  }
  # The flake's checks are for those that are there.
  // lib.getAttrs stdenv.host.nixTools nixTools;
in
packages
