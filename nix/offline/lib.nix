let
  # A set of files is kept as the list of paths that somebody named; folders stand for all below them.
  toFileset =
    value:
    if builtins.isPath value then
      if builtins.pathExists value then
        { fileset = [ (toString value) ]; }
      else
        throw "lib.fileset: ${toString value} does not exist (a flake sees only what git tracks)"
    else if value ? fileset then
      { inherit (value) fileset; }
    else
      throw "nix/offline: lib.fileset takes paths and file sets, not ${builtins.typeOf value}";
in
{
  genAttrs =
    names: f:
    builtins.listToAttrs (
      map (name: {
        inherit name;
        value = f name;
      }) names
    );

  inherit (builtins) attrValues concatStringsSep mapAttrs;

  getAttrs =
    names: set:
    builtins.intersectAttrs (builtins.listToAttrs (
      map (name: {
        inherit name;
        value = null;
      }) names
    )) set;

  optionals = condition: list: if condition then list else [ ];
  optionalAttrs = condition: attrs: if condition then attrs else { };

  importTOML = path: builtins.fromTOML (builtins.readFile path);

  getExe = package: "${package}/bin/${package.meta.mainProgram}";

  licenses.mit.spdxId = "MIT";
  platforms.linux = [
    "x86_64-linux"
    "aarch64-linux"
  ];

  fileset = {
    unions = sets: { fileset = builtins.concatMap (set: (toFileset set).fileset) sets; };
    fromSource = toFileset;

    toSource =
      { root, fileset }:
      let
        files = toFileset fileset;
        within = folder: path: builtins.substring 0 (builtins.stringLength folder + 1) path == "${folder}/";
        wanted =
          path: _type:
          builtins.any (file: path == file || within file path || within path file) files.fileset;
      in
      files
      // {
        outPath = builtins.path {
          name = "source";
          path = root;
          filter = wanted;
        };
      };
  };
}
