{
  stdenv,
  system,
  fakeroot,
  python3,
  writeClosure,
}:

{
  # As nixpkgs' function of this name: a gzipped docker-archive of one layer for each store path of the
  # closure, and above them one with what fakeRootCommands made.
  buildLayeredImage =
    {
      name,
      tag,
      created,
      fakeRootCommands,
      config,
    }:
    let
      image = stdenv.runNoCC {
        name = "${name}-image.json";
        attributes.image = builtins.toJSON {
          inherit config created;
          architecture =
            {
              x86_64-linux = "amd64";
              aarch64-linux = "arm64";
            }
            .${system};
          repo_tag = "${name}:${tag}";
        };
        script = ''
          echo "$image" > $out
        '';
      };
    in
    stdenv.runNoCC {
      name = "${name}.tar.gz";
      nativeBuildInputs = [
        fakeroot
        python3
      ];
      attributes = { inherit fakeRootCommands; };
      script = ''
        mkdir root
        # In the sandbox's user namespace the kernel refuses to chown otherwise than Debian's fakeroot expects.
        export FAKEROOTDONTTRYCHOWN=1
        fakeroot bash -euc '
          cd root
          eval "$fakeRootCommands"
          tar --sort=name --mtime=@$SOURCE_DATE_EPOCH --numeric-owner --hard-dereference -cf ../customisation.tar .
        '
        grep -v ${image} ${writeClosure [ image ]} > store-paths
        python3 ${./docker-archive.py} ${image} store-paths customisation.tar | gzip -n > $out
      '';
    };
}
