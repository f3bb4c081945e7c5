# GCC with the flags that nixpkgs' wrapper adds to every compilation: frame pointers, and the hardening that nixos-26.05
# turns on by default for GCC (bintools-wrapper's defaultHardeningFlags, cc-wrapper's add-hardening.sh).
{
  bare,
  binutils,
  host,
  lib,
}:

let
  since = version: lib.optional (builtins.compareVersions host.ccVersion version >= 0);

  before = [
    "-fno-omit-frame-pointer"
    "-mno-omit-leaf-frame-pointer"
    # fortify3
    "-O2"
    "-U_FORTIFY_SOURCE"
    # format
    "-Wformat"
    "-Wformat-security"
    "-Werror=format-security"
    # pic
    "-fPIC"
    # stackclashprotection
    "-fstack-clash-protection"
    # stackprotector
    "-fstack-protector-strong"
    "--param=ssp-buffer-size=4"
    # strictoverflow
    "-fno-strict-overflow"
    # zerocallusedregs
    "-fzero-call-used-regs=used-gpr"
  ]
  # strictflexarrays1
  ++ since "13" "-fstrict-flex-arrays=1";

  after = [
    "-U_FORTIFY_SOURCE"
    "-D_FORTIFY_SOURCE=3"
  ];
in
bare "cc" ''
  mkdir -p $out/bin
  cat > $out/bin/cc <<'END'
  #!/bin/bash
  # The rustc of rustup brings lld and asks for it by these two arguments; that of nixpkgs links with the compiler's ld.
  # Any other request for lld finds none.
  arguments=()
  rustup=
  for argument; do
    case $rustup$argument in
      -B*/gcc-ld) rustup=rustup ;;
      rustup-fuse-ld=lld) rustup= ;;
      *) arguments+=("$argument") ;;
    esac
  done
  exec /usr/bin/gcc -B${binutils}/bin ${toString before} "''${arguments[@]}" ${toString after}
  END
  chmod +x $out/bin/cc
  ln -s cc $out/bin/gcc
''
