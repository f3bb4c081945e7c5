# GNU binutils. `ld` gets the flags that nixpkgs' wrapper adds.
{ bare }:

bare "binutils" ''
  mkdir -p $out/bin
  for program in ar as nm objcopy objdump ranlib readelf size strings strip; do
    ln -s /usr/bin/$program $out/bin
  done
  cat > $out/bin/ld <<'END'
  #!/bin/bash
  exec /usr/bin/ld.bfd -z relro -z now "$@"
  END
  chmod +x $out/bin/ld
''
