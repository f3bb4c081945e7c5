{ lib, system }:

let
  refuse = message: throw "nix/offline: ${message}";
  lines = builtins.concatStringsSep "\n";

  # Written by nix/offline/nix. The versions of the host's compilers and tools are part of every derivation,
  # so that another compiler gives another store path instead of a stale result.
  host =
    if builtins.pathExists ./host.json then
      builtins.fromJSON (builtins.readFile ./host.json)
    else
      refuse "this folder does not work by itself: run nix/offline/build, or nix/offline/nix for other subcommands";

  # Three kinds of input: a program of the host, shell code that prepares the source, and what Nix built.
  hostTool = source: commands: { inherit commands source; };
  hook = prepare: { inherit prepare; };
  tools = builtins.filter (input: input ? commands);
  hooks = builtins.filter (input: input ? prepare);
  built = builtins.filter (input: input ? outPath);

  # Looked for when a build or a shell starts: evaluation knows nothing of the host.
  lookFor =
    otherwise: tool:
    lines (
      map (
        command:
        "command -v ${command} > /dev/null || ${otherwise} 'nix/offline: ${command} is missing: ${tool.source}'"
      ) tool.commands
    );

  run =
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
        args = [
          "-euo"
          "pipefail"
          "-c"
          ''
            missing() { echo "$1" >&2; exit 1; }
            ${lines (map (lookFor "missing") (tools nativeBuildInputs))}
            ${script}
          ''
        ];
        # nix/offline/nix binds the toolchain and the tools for Nix to these folders of the sandbox, because those that
        # they have on the host differ from user to user and must not change the result.
        PATH = builtins.concatStringsSep ":" (
          map (input: "${input}/bin") (built nativeBuildInputs) ++ [ "/rust/bin:/nix-tools:/usr/bin:/bin" ]
        );
        # nixpkgs' own values; tar, sort and the compiler read them.
        SOURCE_DATE_EPOCH = "315532800";
        TZ = "UTC";
        LC_ALL = "C";
      }
    );
in
{
  inherit
    hook
    host
    hostTool
    lines
    lookFor
    refuse
    run
    ;

  mkDerivation =
    {
      pname,
      version,
      src,
      cargoDeps,
      strictDeps,
      nativeBuildInputs,
      env,
      buildPhase,
      installPhase,
      allowedReferences ? null,
      meta ? { },
    }:
    assert strictDeps || refuse "there are no build inputs here that could be mixed up: set strictDeps";
    run {
      name = "${pname}-${version}";
      inherit nativeBuildInputs;
      attributes = env // lib.optionalAttrs (allowedReferences != null) { inherit allowedReferences; };
      script = ''
        cp -r ${src} source
        chmod -R u+w source
        cd source
        ${lines (map (input: input.prepare) (hooks nativeBuildInputs))}
        ${buildPhase}
        ${installPhase}
      '';
    }
    // {
      inherit
        pname
        version
        src
        cargoDeps
        nativeBuildInputs
        meta
        ;
    };

  runCommand =
    name:
    {
      nativeBuildInputs ? [ ],
    }:
    script: run { inherit name nativeBuildInputs script; };

  # What Nix built is found by its path, what the host has by the caller's.
  writeShellApplication =
    {
      name,
      runtimeInputs,
      text,
      meta,
    }:
    run {
      inherit name;
      attributes.text = ''
        #!/bin/bash
        set -euo pipefail
        missing() { echo "$1" >&2; exit 1; }
        ${lines (map (lookFor "missing") (tools runtimeInputs))}
        ${lines (map (input: "PATH=${input}/bin:$PATH") (built runtimeInputs))}
        ${text}
      '';
      script = ''
        mkdir -p $out/bin
        printf %s "$text" > $out/bin/${name}
        chmod +x $out/bin/${name}
      '';
    }
    // {
      meta = meta // {
        mainProgram = name;
      };
    };

  mkShell =
    {
      packages,
      inputsFrom,
      env,
    }:
    let
      inputs = packages ++ builtins.concatMap (package: package.nativeBuildInputs) inputsFrom;
    in
    run {
      name = "nix-shell";
      nativeBuildInputs = built inputs;
      # A shell without the browser is of use, too: what is missing is told and stops nobody.
      attributes = env // {
        shellHook = lines (map (lookFor "echo") (tools inputs));
      };
      script = "touch $out";
    };
}
