{ lib, system }:

let
  refuse = message: throw "nixpkgs-standin: ${message}";
  lines = builtins.concatStringsSep "\n";

  # Written by ci/nixpkgs-standin/nix. The versions of the host's compilers and tools are part of every derivation,
  # so that another compiler gives another store path instead of a stale result.
  host =
    if builtins.pathExists ./host.json then
      builtins.fromJSON (builtins.readFile ./host.json)
    else
      refuse "this folder does not work by itself: run ci/nixpkgs-standin/build, or ci/nixpkgs-standin/nix for other subcommands";

  metaNames = [
    "description"
    "license"
    "mainProgram"
    "platforms"
  ];

  # As in nixpkgs, a package that is not for this platform has a name, and evaluating its path fails.
  withMeta =
    meta: drv:
    let
      platforms = meta.platforms or lib.platforms.all;
      only =
        if builtins.elem system platforms then
          value: value
        else
          _: refuse "package ${drv.name} is not available on ${system}, only on ${toString platforms}";
    in
    assert
      removeAttrs meta metaNames == { }
      || refuse "${drv.name}: meta can hold ${toString metaNames}, not ${toString (builtins.attrNames meta)}";
    drv
    // {
      inherit meta;
      drvPath = only drv.drvPath;
      outPath = only drv.outPath;
    };

  # bash would replace itself by the last command. Coreutils close their output before they exit, and Nix kills a
  # builder whose output is closed: 35 of 240 such builds failed so.
  bash = script: [
    "-euo"
    "pipefail"
    "-c"
    "${script}\nexit\n"
  ];

  # The only derivation that sees all of the host's tools.
  bare =
    name: script:
    derivation {
      inherit name system;
      hostVersions = host.versions;
      builder = "/bin/bash";
      args = bash script;
      PATH = "/usr/bin:/bin";
    };

  linkFarm =
    name: paths:
    bare name ''
      mkdir -p $out/bin
      ln -s ${toString paths} $out/bin
    '';

  # Programs of the host. Evaluation does not depend on the host: a build or a shell that needs them looks for them when
  # it starts.
  hostTool =
    {
      install,
      paths,
      platforms ? lib.platforms.all,
    }:
    withMeta { inherit platforms; } (linkFarm (baseNameOf (builtins.head paths)) paths)
    // {
      inherit install;
      commands = map baseNameOf paths;
    };

  lookFor =
    otherwise: tool:
    lines (
      map (
        command:
        "command -v ${command} > /dev/null || ${otherwise} 'nixpkgs-standin: ${command} is missing: ${tool.install}'"
      ) tool.commands
    );

  # Shell code that prepares the source.
  hook = prepare: { inherit prepare; };
  hooks = builtins.filter (input: input ? prepare);
  packages = builtins.filter (input: !input ? prepare);
  tools = builtins.filter (input: input ? commands);

  # The tools of every builder in nixpkgs: no compiler, no linker, no Python.
  initialPath = linkFarm "initial-path" host.initialPath;

  binPath = inputs: builtins.concatStringsSep ":" (map (input: "${input}/bin") inputs);

  runNoCC =
    {
      name,
      script,
      nativeBuildInputs ? [ ],
      attributes ? { },
    }:
    derivation (
      attributes
      // {
        inherit name system;
        hostVersions = host.versions;
        outputs = [ "out" ];
        builder = "/bin/bash";
        args = bash ''
          missing() { echo "$1" >&2; exit 1; }
          ${lines (map (lookFor "missing") (tools nativeBuildInputs))}
          ${script}
        '';
        PATH = binPath (packages nativeBuildInputs ++ [ initialPath ]);
        # nixpkgs' own values; tar, sort and the compiler read them.
        SOURCE_DATE_EPOCH = "315532800";
        TZ = "UTC";
        LC_ALL = "C";
      }
    );

  binutils = import ./binutils.nix { inherit bare; };
  cc = import ./cc.nix {
    inherit
      bare
      binutils
      host
      lib
      ;
  };
in
rec {
  inherit
    bare
    binutils
    cc
    hook
    host
    hostTool
    lines
    lookFor
    refuse
    runNoCC
    withMeta
    ;

  mkDerivation =
    {
      pname,
      version,
      src,
      cargoDeps,
      strictDeps,
      nativeBuildInputs,
      env ? { },
      buildPhase,
      installPhase,
      allowedReferences ? null,
      meta ? { },
    }:
    assert strictDeps || refuse "there are no build inputs here that could be mixed up: set strictDeps";
    assert
      builtins.all builtins.isString (builtins.attrValues env) || refuse "${pname}: env holds strings";
    withMeta meta (runNoCC {
      name = "${pname}-${version}";
      nativeBuildInputs = nativeBuildInputs ++ [
        cc
        binutils
      ];
      attributes = env // lib.optionalAttrs (allowedReferences != null) { inherit allowedReferences; };
      script = ''
        cp -r ${src} source
        chmod -R u+w source
        cd source
        ${lines (map (input: input.prepare) (hooks nativeBuildInputs))}
        ${buildPhase}
        ${installPhase}
      '';
    })
    // {
      inherit
        pname
        version
        src
        cargoDeps
        nativeBuildInputs
        ;
    };

  runCommand =
    name:
    {
      nativeBuildInputs ? [ ],
    }:
    script:
    withMeta { } (runNoCC {
      inherit name nativeBuildInputs script;
    });

  writeShellApplicationWith =
    { shellcheck }:
    {
      name,
      runtimeInputs,
      text,
      meta,
    }:
    withMeta (meta // { mainProgram = name; }) (runNoCC {
      inherit name;
      nativeBuildInputs = [ shellcheck ];
      attributes.text = ''
        #!/bin/bash
        set -o errexit -o nounset -o pipefail
        missing() { echo "$1" >&2; exit 1; }
        ${lines (map (input: "PATH=${input}/bin:$PATH") runtimeInputs)}
        ${lines (map (lookFor "missing") (tools runtimeInputs))}
        ${text}
      '';
      script = ''
        mkdir -p $out/bin
        printf %s "$text" > $out/bin/${name}
        chmod +x $out/bin/${name}
        bash -n $out/bin/${name}
        shellcheck $out/bin/${name}
      '';
    });

  mkShell =
    {
      packages ? [ ],
      inputsFrom ? [ ],
      env ? { },
    }:
    let
      # nixpkgs compares each input with inputsFrom, which evaluates the paths of both.
      inherited = builtins.filter (input: !builtins.elem input inputsFrom) (
        builtins.concatMap (package: package.nativeBuildInputs) inputsFrom
      );
      inputs = packages ++ inherited;
      evaluated = map (package: package.outPath) inputsFrom;
    in
    builtins.deepSeq evaluated (
      withMeta { } (runNoCC {
        name = "nix-shell";
        # A missing tool does not stop the shell: without the browser it is of use, too.
        nativeBuildInputs = map (input: removeAttrs input [ "commands" ]) (
          builtins.filter (input: !input ? prepare) inputs
          ++ [
            cc
            binutils
          ]
        );
        attributes = env // {
          shellHook = lines (map (lookFor "echo") (tools inputs));
        };
        script = "touch $out";
      })
    );
}
